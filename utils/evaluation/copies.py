"""Is it new: how much of what is played stands in the training drums, repeats itself, or is the same every time.

Only onsets are looked at. Onset arrays are (..., W, T, V), W windows of T steps, V voices.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utils.evaluation.baselines import nearest_tap
from utils.evaluation.bootstrap import estimate, per_performance, quotient, share
from utils.evaluation.sets import Windows

AT_ONCE = 32  # windows


@dataclass
class Copies:
    """One take (W, T, V) of windows, and of each window how many steps of it on end stand in the training drums."""

    windows: Windows
    onset: np.ndarray
    longest: np.ndarray

    @cached_property
    def bars(self):
        """(W, N, L): step_codes of each bar."""
        return self.windows.grid.by_bar(step_codes(self.onset))

    def share_of_bars(self, chosen):
        """Of bars (W, n) bool."""
        n_bars = np.full(len(chosen), chosen.shape[1])
        return share(chosen.sum(1), n_bars, self.windows.performance)


def measure_copies(onset, windows, sets):
    """{row: Copies} of one sample, onset (W, T, V), of the real drums, and of those of the other split."""
    floor = sets(windows.name.split(",")[0], sets.other)
    known = training_bars(sets.cache, windows.grid.longest)
    rows = {
        "one sample": (windows, onset),
        "real": (windows, windows.rolls[0]),
        "floor": (floor, floor.rolls[0]),
    }
    return {row: Copies(*of, longest_copies(of[1], of[0].grid, *known)) for row, of in rows.items()}


def variety(onset, windows, train):
    """{row: (P, 2) sums of pair_sums}. Samples, onset (N, W, T, V), that differ from one another as they differ from
    the real drums are as varied as the rhythm leaves open."""
    real = windows.rolls[0]
    nearest = train.rolls[0][nearest_tap(train.rolls, windows.rolls)]
    sums = {
        "two samples": pair_sums(onset),
        "a sample and the real drums": sum(pair_sums(np.stack([sample, real])) for sample in onset),
        "the nearest training tap's drums and the real drums": pair_sums(np.stack([nearest, real])),
    }
    return {row: per_performance(of, windows.performance) for row, of in sums.items()}


def step_codes(onset):
    """(..., V) -> (...) int16: which voices are hit, as one number."""
    return ((np.asarray(onset) > 0) @ (1 << np.arange(np.shape(onset)[-1]))).astype(np.int16)


def training_bars(cache, steps_per_bar):
    """All bars of the training performances, fills too: step_codes (bars, S), and which bar is the first of a
    performance, (bars,) bool."""
    codes, first = [], []
    for file in cache.files:
        if file["split"] == "train":
            steps = step_codes(cache.vel[file["start"] : file["start"] + file["n_steps"]])
            codes.append(steps.reshape(-1, steps_per_bar))
            first.append(np.arange(len(codes[-1])) == 0)
    return np.concatenate(codes), np.concatenate(first)


def longest_copies(onset, grid, bars, first):
    """For each window (W, T, V) the most consecutive steps of it, (W,), that stand just so, all voices and at the same
    place in the bar, in a training performance. bars, first: of training_bars."""
    longest, at_place = [], [np.ascontiguousarray(column) for column in bars.T]
    for start in range(0, len(onset), AT_ONCE):
        codes = step_codes(onset[start : start + AT_ONCE])
        run = np.zeros((len(codes), len(bars)), np.int16)  # steps up to here, ending in each training bar
        most = np.zeros(len(codes), np.int16)
        for place, code in zip(grid.index.place, codes.T):
            if place == 0:
                run[:, 1:] = run[:, :-1].copy()
                run[:, first] = 0
            run += 1
            run *= at_place[place] == code[:, None]
            most = np.maximum(most, run.max(1))
        longest.append(most)
    return np.concatenate(longest)


def pair_sums(onset):
    """(W, 2) of samples (N, W, T, V) of the same rhythms, to be summed and given to `difference`: hits that two samples
    have in common, and hits of the two, over all pairs."""
    count, n = (onset > 0).sum(0), len(onset)
    return np.stack([(count * (count - 1)).sum((1, 2)) / 2, (n - 1) * count.sum((1, 2))], 1)


# ------------------------------------------------------------------------- metrics


def difference(sums):
    """1 - F1 between two takes, out of sums (P, 2) of hits in common and of hits of both."""
    return estimate(lambda s: 1 - quotient(2 * s[..., 0], s[..., 1]), sums)


def bars_like_before(row):
    """Share of the bars that equal the bar before in their window."""
    return row.share_of_bars((row.bars[:, 1:] == row.bars[:, :-1]).all(-1))


def bars_like_no_other(row):
    """Share of the bars that equal no other bar of all windows."""
    bars = row.bars.reshape(-1, row.bars.shape[-1])
    _, which, count = np.unique(bars, axis=0, return_inverse=True, return_counts=True)
    return row.share_of_bars((count[which.ravel()] == 1).reshape(row.bars.shape[:2]))


def mean_copy(row):
    """Steps on end that stand just so in a training performance, the mean over the windows."""
    return share(row.longest, np.ones(len(row.longest)), row.windows.performance)


def longest_copy(row):
    return float(row.longest.max())


def whole_copies(row):
    """Share of the windows that stand in a training performance from end to end."""
    whole = row.longest == row.windows.grid.n_steps
    return share(whole, np.ones(len(whole)), row.windows.performance)
