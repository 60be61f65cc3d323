"""The windows of a split that a model is evaluated on. T2 and T4 are those of two and of four bars of the
performances of a beat in 4/4 (no fills), not overlapping."""

import functools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_aug import make_batch
from model.bars import BarGrid
from utils.corpus.cache import decode, windows

BARS = 4  # of a window of T4
TUNING_WINDOWS = 256  # of the validation split, to choose thresholds on


@dataclass
class Windows:
    """W windows of T steps as one plain batch (see make_batch), the performance (W,) that each is of, how
    long a step of it lasts, step_ms (W,), in milliseconds, and the bars of all of them."""

    name: str
    batch: dict
    performance: np.ndarray
    step_ms: np.ndarray
    grid: BarGrid

    def __len__(self):
        return len(self.performance)

    def size(self):
        return {"windows": len(self), "performances": len(set(self.performance.tolist()))}

    @cached_property
    def rolls(self):
        """onset, vel, timeoffset (W, T, V) of the real drums."""
        return tuple(self.batch[name].numpy() for name in ("onset", "vel", "timeoffset"))


def windows_of(name, cache, split, data, normalize_factor, bars=BARS, n_windows=None):
    """The Windows of a split, `bars` long; n_windows: an evenly spaced part. A corpus that doesn't tell beats
    from fills gives windows of everything. Raises ValueError where there are none."""
    of_split = [file for file in cache.files if file["split"] == split]
    beat_type = "beat" if any(file["beat_type"] for file in of_split) else None
    grid = BarGrid.four_four_bars(bars, data.down_sample_tpq)
    n_steps = grid.n_steps
    start, _ = windows(cache, split, n_steps, n_steps, whole=True, beat_type=beat_type, four_four=True)
    if not len(start):
        raise ValueError(f"split {split!r} of the cache holds no window of {bars} whole bars; it needs one")
    if n_windows is not None and n_windows < len(start):
        start = start[np.linspace(0, len(start) - 1, n_windows).round().astype(int)]
    performance = np.searchsorted([file["start"] for file in cache.files], start, side="right") - 1
    style, bpm = (np.array([cache.files[index][key] for index in performance]) for key in ("style", "bpm"))
    steps = start[:, None] + np.arange(n_steps)
    _, vel, offset = decode(cache.vel[steps], cache.offset[steps])
    mask = np.ones(steps.shape, bool)
    batch = make_batch(vel, offset, mask, style.astype(np.int64), data, normalize_factor)
    return Windows(name, batch, performance, 60_000 / (bpm * data.down_sample_tpq), grid)


class Sets:
    """The sets that a model is evaluated on, made when they are first used.

    sets("T2"), sets("T4"): Windows of the split, an evenly spaced part of n_windows of them, or all where it
    is None. sets("T2", "validation"): all of another split. sets.tuning("T2"): TUNING_WINDOWS at most of the
    validation split. sets.other: the split whose real drums are the floor. data: the config's Data.
    """

    def __init__(self, cache, split, data, normalize_factor, n_windows=None):
        self.cache, self.split, self.other = cache, split, "test" if split == "validation" else "validation"
        self.n_windows, self.data, self.normalize_factor = n_windows, data, normalize_factor
        self._make = functools.cache(self._windows)

    def _windows(self, title, name, split, most):
        return windows_of(title, self.cache, split, self.data, self.normalize_factor, int(name[1:]), most)

    def __call__(self, name, split=None):
        most = self.n_windows if split is None else None
        return self._make(f"{name}, {split or self.split}", name, split or self.split, most)

    def read_for(self, model):
        """The same with the controls in the units of another model."""
        return Sets(self.cache, self.split, self.data, model.normalize_factor, self.n_windows)

    def tuning(self, name):
        return self.part(name, "validation", TUNING_WINDOWS, "tuning")

    def part(self, name, split, most, title="a part"):
        """An evenly spaced part of another split's windows: `most` of them at most."""
        return self._make(f"{name}, {split}, {title}", name, split, min(self.n_windows or most, most))

    def longest(self, bars):
        """The Windows of the split of so many bars, or of half as many and so on where it has none."""
        while bars > BARS:
            try:
                return self(f"T{bars}")
            except ValueError:  # no performance is that long
                bars //= 2
        return self(f"T{BARS}")


def partners(performance):
    """For each window (W,) another one half the set away, or the first after that of another performance."""
    if len(np.unique(performance)) < 2:
        raise ValueError("all windows are of one performance; swapping rhythms needs windows of two at least")
    n_windows = len(performance)
    partner = (np.arange(n_windows) + n_windows // 2) % n_windows
    while (same := performance[partner] == performance).any():
        partner[same] = (partner[same] + 1) % n_windows
    return partner
