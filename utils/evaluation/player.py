"""What a model is evaluated on and what it plays there: windows of a split, their settings, samples, likelihood.

T2 and T4 are the windows of two and of four bars of the performances of a beat (no fills), not overlapping. One seed
gives one result on one kind of device; all is computed in float32.
"""

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from tqdm import tqdm

from data_aug import CONTROLS, RHYTHM_KEYS, make_batch, swap_rhythm, unset_controls
from model.controls import controls_of
from model.decoding.sampling import sample
from utils.corpus.cache import decode, windows
from utils.evaluation.bootstrap import estimate, quotient
from utils.playing.request import GUIDANCE
from utils.training.metrics import SETTINGS, to_device, token_sums

BARS = 4  # of a window of T4
BATCH = 128  # windows at once
SMALLEST_BATCH = 32  # however long the windows are
KNOWN = ("onset", "vel", "timeoffset", "known_onset", "known_vel")
FEW = 8  # samples of a window where single ones are looked at
SWAPPED = (
    "given",
    "unset",
    "given_latent",
    "unset_latent",
)  # settings that are also scored with another's rhythm


@dataclass
class Windows:
    """W windows of T steps as one plain batch (see make_batch), the performance (W,) that each is of, and how long a
    step of it lasts, step_ms (W,), in milliseconds."""

    name: str
    batch: dict
    performance: np.ndarray
    step_ms: np.ndarray

    def __len__(self):
        return len(self.performance)

    @cached_property
    def rolls(self):
        """onset, vel, timeoffset (W, T, V) of the real drums."""
        return rolls_of(self.batch)

    @cached_property
    def tapped(self):
        """The steps (W, T) bool that the rhythm taps: those on which anything is hit."""
        return (self.rolls[0] > 0).any(-1)


def windows_of(name, cache, split, data, normalize_factor, bars=BARS, n_windows=None):
    """The Windows of a split, `bars` long; n_windows: an evenly spaced part of them."""
    batch, performance = evaluation_windows(cache, split, data, normalize_factor, n_windows, bars)
    steps_a_minute = np.array([cache.files[index]["bpm"] for index in performance]) * data.steps_per_bar / 4
    return Windows(name, batch, performance, 60_000 / steps_a_minute)


def evaluation_windows(cache, split, data, normalize_factor, n_windows=None, bars=BARS):
    """The windows of a split as one plain batch (see make_batch), and the performance (W,) that each is of.

    A corpus that doesn't tell beats from fills gives windows of everything.
    """
    of_split = [file for file in cache.files if file["split"] == split]
    beat_type = "beat" if any(file["beat_type"] for file in of_split) else None
    n_steps = bars * data.steps_per_bar
    start, _ = windows(cache, split, n_steps, n_steps, whole=True, beat_type=beat_type)
    if not len(start):
        raise ValueError(
            f"split {split!r} of the cache holds no window of {bars} whole bars; one at least is needed"
        )
    if n_windows is not None and n_windows < len(start):
        start = start[np.linspace(0, len(start) - 1, n_windows).round().astype(int)]
    performance = np.searchsorted([file["start"] for file in cache.files], start, side="right") - 1
    style = np.array([cache.files[index]["style"] for index in performance], np.int64)
    steps = start[:, None] + np.arange(n_steps)
    _, vel, offset = decode(cache.vel[steps], cache.offset[steps])
    mask = np.ones(steps.shape, bool)
    return make_batch(vel, offset, mask, style, data, normalize_factor), performance


def rolls_of(batch):
    """onset, vel, timeoffset (W, T, V) of a batch, as numpy arrays."""
    return tuple(batch[name].numpy() for name in ("onset", "vel", "timeoffset"))


def in_batches(batch, samples=1):
    """The batch in pieces of BATCH windows of four bars, or fewer that are longer or played several times."""
    n_windows, n_steps = batch["mask"].shape
    size = max(SMALLEST_BATCH, min(BATCH, BATCH * 64 // n_steps)) // samples or 1
    for start in range(0, n_windows, size):
        yield {name: tensor[start : start + size] for name, tensor in batch.items()}


# ------------------------------------------------------------------------- likelihood


def teacher_forced(model, batch, performance):
    """Nats of the batch in all settings and with another window's rhythm, {setting: {onset, velocity, offset, total}},
    each with its interval over the performances; see metrics.likelihood for the units. The settings SWAPPED come again
    as "..._swapped", with `cost`: onset nats per step more than unswapped."""
    sums = nats_per_performance(model, batch, performance, tuple(SETTINGS))
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    sums_swapped = nats_per_performance(model, swapped, performance, SWAPPED)
    figures = {setting: _nats(part) for setting, part in sums.items()}
    for setting, part in sums_swapped.items():
        more = part[:, 0] - sums[setting][:, 0]
        cost = estimate(lambda total: quotient(total[..., 0], total[..., 1]), np.stack([more, part[:, 3]], 1))
        figures[f"{setting}_swapped"] = {**_nats(part), "cost": cost}
    return figures


def nats_per_performance(model, batch, performance, settings):
    """{setting: what metrics.token_sums gives for each performance, (P, 5)}."""
    device = next(model.parameters()).device
    sums = []
    for which in np.unique(performance):
        part = {name: tensor[performance == which] for name, tensor in batch.items()}
        sums.append(token_sums(model, in_batches(part), device, settings).numpy())
    return dict(zip(settings, np.stack(sums, 1)))


def _nats(sums):
    """sums (P, 5) in the order of metrics.SUMS -> figures."""
    columns = {"onset": ([0], 3), "velocity": ([1], 4), "offset": ([2], 4), "total": ([0, 1, 2], 3)}
    return {
        name: estimate(lambda total: quotient(total[..., nats].sum(-1), total[..., tokens]), sums)
        for name, (nats, tokens) in columns.items()
    }


def partners(performance):
    """For each window (W,) another one half the set away, or the first after that of another performance."""
    if len(np.unique(performance)) < 2:
        raise ValueError("all windows are of one performance; swapping rhythms needs windows of two at least")
    n_windows = len(performance)
    partner = (np.arange(n_windows) + n_windows // 2) % n_windows
    while (same := performance[partner] == performance).any():
        partner[same] = (partner[same] + 1) % n_windows
    return partner


# ------------------------------------------------------------------------- samples


def with_density(windows):
    return unset_controls(windows.batch) | {"density": windows.batch["density"]}


def with_onsets(windows):
    return unset_controls(windows.batch) | {"known_onset": torch.ones_like(windows.batch["known_onset"])}


def with_swapped_rhythm(windows):
    return swap_rhythm(unset_controls(windows.batch), torch.from_numpy(partners(windows.performance)))


def third_bar(windows):
    return cells_of_bars(windows, (2,))


def from_third_bar(windows):
    return cells_of_bars(windows, (2, 3))


def cells_of_bars(windows, bars):
    """The cells (W, T, V) bool of these bars of windows of BARS bars."""
    shape = windows.rolls[0].shape
    bar = np.arange(shape[1]) * BARS // shape[1]
    return np.broadcast_to(np.isin(bar, bars)[:, None], shape)


def one_voice(windows):
    """The cells (W, T, V) bool of one voice of each window, of those it plays: each in its turn, window by window."""
    plays = (windows.rolls[0] > 0).any(1)
    turn = np.arange(len(plays)) % np.maximum(plays.sum(1), 1)
    voice = (plays.cumsum(1) > turn[:, None]).argmax(1)
    return np.broadcast_to((np.arange(plays.shape[1]) == voice[:, None])[:, None], windows.rolls[0].shape)


# job -> which cells of the Windows of T4 are played anew, (W, T, V) bool
ANEW = {"infill": third_bar, "add a voice": one_voice, "continue": from_third_bar}


def without_rhythm(windows):
    unset = unset_controls(windows.batch)
    return unset | {name: torch.zeros_like(unset[name]) for name in RHYTHM_KEYS}


def around(windows, anew):
    """All is known but the cells anew (W, T, V)."""
    known = torch.from_numpy(~anew)
    return without_rhythm(windows) | {"known_onset": known, "known_vel": known}


# what the model is told of Windows before it plays
PLAYED = {
    "given": lambda windows: windows.batch,
    "unset": lambda windows: unset_controls(windows.batch),
    "density": with_density,
    "onsets": with_onsets,
    "swapped": with_swapped_rhythm,
    "humanise": lambda windows: (
        without_rhythm(windows) | {"known_onset": torch.ones_like(windows.batch["known_onset"])}
    ),
    **{
        job: lambda windows, cells_of=cells_of: around(windows, cells_of(windows))
        for job, cells_of in ANEW.items()
    },
}
MANY = ("unset", "density", "onsets", *ANEW)  # settings whose samples are also taken together


class Player:
    """What a model plays to windows, each thing played once; `seconds` tells how long each took.

    guidance: how much the controls weigh where any is set, see utils.playing.generate.generate.
    player(windows, setting): onset, vel, timeoffset, each (N, W, T, V), at temperature 1. setting: of PLAYED; its N is
    `samples` or, of the settings that need no more, at most FEW. Below temperature 1 one sample is drawn.
    """

    def __init__(self, model, samples, seed, guidance=GUIDANCE):
        self.model, self.samples, self.seed, self.guidance = model, samples, seed, guidance
        self.seconds, self._played = {}, {}

    def __call__(self, windows, setting, temperature=1.0):
        title = f"{windows.name}, {setting}" + (", greedy" if temperature < 1 else "")
        if title not in self._played:
            samples = 1 if temperature < 1 else self.samples if setting in MANY else min(self.samples, FEW)
            began = time.perf_counter()
            self._played[title] = self.play(PLAYED[setting](windows), samples, title, temperature)
            self.seconds[title] = time.perf_counter() - began
        return self._played[title]

    def play(self, batch, samples, title, temperature=1.0):
        """Drums drawn to the batch's rhythms, controls and known cells: onset, vel, timeoffset, each (samples, W, T, V)."""
        device = next(self.model.parameters()).device
        generator = torch.Generator(device).manual_seed(self.seed)
        known = KNOWN if batch["known_onset"].any() else ()
        batch = {name: batch[name] for name in (*RHYTHM_KEYS, *CONTROLS, "mask", *known)}
        dials = {
            "num_samples": samples,
            "temperature": temperature,
            "guidance": self.guidance,
            "generator": generator,
            "precision": torch.float32,
        }
        played = []
        progress = tqdm(total=len(batch["mask"]), desc=title, unit="window", disable=None)
        for part in in_batches(batch, samples):
            part = to_device(part, device)
            cells = {name: part.pop(name) for name in known} or None
            rhythm = [part[name] for name in RHYTHM_KEYS]
            rolls = sample(self.model, rhythm, controls_of(part), part["mask"], known=cells, **dials)
            played.append([roll.unflatten(0, (-1, samples)).cpu().numpy() for roll in rolls])
            progress.update(len(part["mask"]))
        progress.close()
        return tuple(np.concatenate(rolls).swapaxes(0, 1) for rolls in zip(*played))
