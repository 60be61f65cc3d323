"""The cache of preprocessing: all rolls of a corpus in two compact arrays, and windows into them.

One file, cache.npz, holds everything, so that putting it in place is one rename.
"""

import contextlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from model.bars import BEATS_PER_BAR, LONGEST_BAR, BarGrid
from utils.config.schema import SPLITS
from utils.files import remove_unfinished, written_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CACHE_FILE = "cache.npz"
LOCK_FILE = "cache.lock"
FORMAT = 2  # raised when a cache written before can't be read any more
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
STEPS_PER_BEAT = 4  # of 4/4
_OFFSET_UNIT = 65536  # int16 covers [-0.5, 0.5); finer than any MIDI resolution in use


@dataclass
class Cache:
    """The rolls of a corpus, performances one after the other; N steps in all.

    vel: uint8 (N, 9), MIDI velocity, 0 where there is no hit. offset: int16 (N, 9), 65536ths of a step.
    files: one dict per performance: name, split ("train", "validation", "test"), style (id), bpm,
    beat_type (str or None), start (step in the arrays), n_steps (whole bars), bars: None where all are 4/4,
    else [[how many, [length of each of their beats]], ...] in steps.
    normalize_factor: {"density": [mean, deviation], "intensity": [mean, deviation]} of the train bars.
    settings: what the cache was made of. report: what preprocessing counted.
    """

    vel: np.ndarray
    offset: np.ndarray
    files: list
    normalize_factor: dict
    settings: dict
    report: dict

    def rolls(self, start, stop):
        """onset, vel, timeoffset of the steps start..stop, float32 (stop - start, 9)."""
        return decode(self.vel[start:stop], self.offset[start:stop])


def encode(onset, vel, timeoffset):
    """Rolls (..., 9) as they are stored: velocity uint8, offset int16."""
    velocity = np.where(onset > 0, np.rint(vel * 127), 0).astype(np.uint8)
    offset = np.where(onset > 0, np.rint(timeoffset * _OFFSET_UNIT), 0)
    return velocity, np.clip(offset, -32768, 32767).astype(np.int16)


def decode(velocity, offset):
    """onset, vel, timeoffset, float32, of stored arrays of any shape."""
    onset = (velocity > 0).astype(np.float32)
    return onset, velocity / np.float32(127), offset / np.float32(_OFFSET_UNIT)


def grid_of(file):
    """The BarGrid of a performance, an entry of Cache.files."""
    if not file.get("bars"):
        return BarGrid.four_four(file["n_steps"], STEPS_PER_BEAT)
    return BarGrid.of_beats([beats for n, beats in file["bars"] for _ in range(n)])


def bars_of(grid):
    """What an entry of Cache.files holds as its bars."""
    if all(tuple(beats) == (STEPS_PER_BEAT,) * BEATS_PER_BAR for beats in grid.beats):
        return None
    return [[len(list(same)), list(beats)] for beats, same in groupby(grid.beats)]


def windows(
    cache, split, clip_steps, hop_steps, whole=False, beat_type=None, four_four=False, longest_bar=LONGEST_BAR
):
    """Windows of whole bars, as many as clip_steps hold, each within one performance of the split.

    They are hop_steps apart; in other meters as many whole bars as that, but one at least. A window that
    would run over the end of its performance is left out. A performance that is itself shorter than
    clip_steps gives one window of its own length, or none with whole=True. A bar that is longer than
    clip_steps is cut. beat_type: only performances of this kind ("beat", "fill"). four_four: only those that
    are 4/4 throughout. longest_bar: windows with a longer bar are left out.

    The usual evaluation sets (2 or 4 bars of the test split that don't overlap) are
    windows(cache, "test", clip, clip, whole=True, beat_type="beat", four_four=True): a performance reaches to
    the end of the bar of its last hit, and a tail shorter than the window is dropped.

    Returns start (W,) and length (W,), int64, in steps of the cache's arrays.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if clip_steps < 1 or hop_steps < 1:
        raise ValueError(f"clip_steps and hop_steps must be at least 1, not {clip_steps} and {hop_steps}")
    starts, lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for file in cache.files:
        if file["split"] != split or beat_type not in (None, file["beat_type"]):
            continue
        if file.get("bars"):
            if four_four:
                continue
            inside, length = _windows_of_bars(grid_of(file), clip_steps, hop_steps, whole, longest_bar)
        elif file["n_steps"] < clip_steps:
            if whole:
                continue
            inside, length = np.zeros(1, np.int64), file["n_steps"]
        else:
            inside, length = np.arange(0, file["n_steps"] - clip_steps + 1, hop_steps), clip_steps
        starts.append(file["start"] + inside)
        lengths.append(np.broadcast_to(length, inside.shape))
    return np.concatenate(starts).astype(np.int64), np.concatenate(lengths).astype(np.int64)


def _windows_of_bars(grid, clip_steps, hop_steps, whole, longest_bar):
    """The windows of one performance in any meters: where they start, and how long they are."""
    lines, of_bar = np.array(grid.lines), np.array(grid.lengths)
    first = [0]
    while first[-1] < grid.n_bars:
        within = int(np.searchsorted(lines, lines[first[-1]] + hop_steps, side="right")) - 1
        first.append(max(first[-1] + 1, within))
    first = np.array(first[:-1])
    last = np.maximum(np.searchsorted(lines, lines[first] + clip_steps, side="right") - 1, first + 1)
    # whether another bar like the last one would not have fit
    full = (last < grid.n_bars) | (lines[last] - lines[first] + of_bar[-1] > clip_steps)
    kept = full | ((first == 0) & (not whole))
    kept &= [of_bar[start:stop].max() <= longest_bar for start, stop in zip(first, last)]
    start, stop = lines[first[kept]], lines[last[kept]]
    return start, np.minimum(stop - start, clip_steps)


@contextlib.contextmanager
def locked(folder):
    """Inside, no other process is inside for the same folder, which is made. Yields whether it had to wait.

    Where locks aren't known (Windows, some network file systems) nobody waits; then the last to finish wins.
    """
    path = Path(folder) / LOCK_FILE
    waited = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")
    except OSError as error:
        raise ValueError(f"can't write the cache to {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            print(f"cache: {folder} is being made by another process; waiting for it")
            fcntl.lockf(file, fcntl.LOCK_EX)
        except (AttributeError, OSError):
            pass
        yield waited


def save_cache(cache, folder):
    """Writes the cache to folder/cache.npz, whole or not at all; the same cache gives the same bytes.

    Raises ValueError where the folder can't be written. Callers hold `locked(folder)`.
    """
    path = Path(folder) / CACHE_FILE
    remove_unfinished(path)
    with written_whole(path) as aside, open(aside, "wb") as file:
        _write_members(cache, file)


def _write_members(cache, file):
    meta = {name: part for name, part in vars(cache).items() if name not in ("vel", "offset")}
    text = json.dumps(meta, sort_keys=True, ensure_ascii=False).encode()
    with zipfile.ZipFile(file, "w") as archive:
        with _open_member(archive, "meta.json", len(text)) as member:
            member.write(text)
        for name in ("vel", "offset"):
            array = getattr(cache, name)
            with _open_member(archive, f"{name}.npy", array.nbytes + 1024) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)  # bit by bit, without a copy


def _open_member(archive, name, size):
    """A file to write to; np.savez would stamp the time of day on it. size: at least what will be written."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size
    return archive.open(info, "w")


def load_cache(folder):
    """The Cache in the folder. Raises ValueError, with the remedy, where there is none or it's unfit."""
    path = Path(folder) / CACHE_FILE
    if not path.is_file():
        raise ValueError(f"no cache at {path}; python preprocessing.py makes one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(archive["meta.json"])
            cache = Cache(archive["vel"], archive["offset"], **meta)
        fit = cache.settings["format"] == FORMAT
    except DAMAGE as error:
        raise ValueError(
            f"the cache {path} is damaged ({error}); python preprocessing.py --force makes it anew"
        ) from error
    if not fit:
        raise ValueError(
            f"the cache {path} is of format {cache.settings['format']}, not {FORMAT}; "
            "python preprocessing.py --force makes it anew"
        )
    return cache
