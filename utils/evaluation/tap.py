"""From the tap to the drums: which cells are hit, how loud and how early or late, on T2 and T4; and what a swapped rhythm
changes.

N samples, W windows, T steps, V voices, P performances.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utils.evaluation.baselines import hit_guesses, loudest_voice, onset_guesses
from utils.evaluation.bootstrap import estimate, f1_of, per_performance, quotient, share
from utils.evaluation.sets import Windows

SMOOTHINGS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
GREEDY = 1e-6  # temperature at which a draw is the likeliest token


class Consensus:
    """What N samples agree on, as a probability and as a guess; its parameters are chosen on tuning windows.

    A cell that n of N samples hit has the probability (n + a) / (N + 2 a). `smoothing`, a of SMOOTHINGS, gives the
    lowest cross-entropy, `threshold` (in samples) the highest F1. `calibration` (N + 1,): how often a cell that n
    samples hit is a hit of the real drums.
    """

    def __init__(self, played, real):
        """played (N, ...), real (...): onsets of the tuning windows, all of them or some of their cells."""
        self.n_samples = len(played)
        count, real = self.count(played), real > 0
        cells = np.bincount(count.ravel(), minlength=self.n_samples + 1)
        hit = np.bincount(count[real], minlength=self.n_samples + 1)
        chosen, right = cells[::-1].cumsum()[::-1], hit[::-1].cumsum()[::-1]  # with at least so many samples
        self.threshold = 1 + int(np.argmax(2 * right[1:] / (chosen[1:] + real.sum())))
        self.calibration = (hit + 0.5) / (cells + 1)

        def nats(a):
            chance = self.smoothed(np.arange(self.n_samples + 1), a)
            return -(hit * np.log(chance) + (cells - hit) * np.log(1 - chance)).sum()

        self.smoothing = min(SMOOTHINGS, key=nats)

    def count(self, played):
        return (played > 0).sum(0)

    def smoothed(self, count, a):
        return (count + a) / (self.n_samples + 2 * a)

    def guess(self, played):
        return self.count(played) >= self.threshold

    def probability(self, played):
        return self.smoothed(self.count(played), self.smoothing)

    def calibrated(self, played):
        return self.calibration[self.count(played)]


@dataclass
class Onsets:
    """Guesses at the onsets of windows, played (N, W, T, V); chance, calibrated (W, T, V): their probabilities in
    (0, 1), or None. cells (W, T, V) bool: only these are scored."""

    windows: Windows
    played: np.ndarray
    chance: np.ndarray | None = None
    calibrated: np.ndarray | None = None
    consensus: Consensus | None = None
    cells: np.ndarray | bool = True

    @cached_property
    def sums(self):
        """(P, N, T, V, 3): cells that are hit in both, in the guess, in the real drums."""
        real, sums = (self.windows.rolls[0] > 0) & self.cells, []
        for guess in (self.played > 0) & self.cells:
            sums.append(per_performance(np.stack([guess & real, guess, real], -1), self.windows.performance))
        return np.stack(sums, 1)


def measure(player, sets):
    onsets, hits = {}, {}
    for name in ("T2", "T4"):
        windows, train = sets(name), sets(name, "train")
        onsets[name] = onset_rows(player, windows, sets.tuning(name), train, densities=name == "T2")
        hits[name] = hit_rows(player, windows, train)
    return {"onsets": onsets, "by bar": onsets, "by voice": onsets, "hits": hits}


def measure_rhythm(player, sets):
    """How the taps of T4 are answered, and what as many samples to another window's rhythm are worth."""
    windows = sets("T4")
    played = {setting: player(windows, setting)[0] for setting in ("unset", "given", "swapped")}
    rows = {
        "real": windows.rolls[0][None],
        "controls unset": played["unset"],
        "true controls": played["given"],
    }
    swapped = played["swapped"]
    pair = Onsets(windows, played["unset"][: len(swapped)]), Onsets(windows, swapped)
    answers = {name: Onsets(windows, onset) for name, onset in rows.items()}
    return {"answers": {"T4": answers}, "swapped rhythm": {"T4": {"sampled": pair}}}


# ------------------------------------------------------------------------- onsets


def onset_rows(player, windows, tuning, train, densities=True):
    """{row: Onsets} of one set: guesses without a model, then the model's. windows, tuning, train: Windows of the set,
    of the validation and of the training split. densities: also with the true density given."""
    rows = {
        name: Onsets(windows, guess[None], chance)
        for name, (guess, chance) in onset_guesses(train.rolls, tuning.rolls, windows.rolls).items()
    }
    rows["greedy"] = Onsets(windows, player(windows, "unset", temperature=GREEDY)[0])
    settings = {"unset": "", "density": ", density given"} if densities else {"unset": ""}
    for setting, title in settings.items():
        played = player(windows, setting)[0]
        agreed = Consensus(player(tuning, setting)[0], tuning.rolls[0])
        chances = agreed.probability(played), agreed.calibrated(played)
        rows[f"sampled{title}"] = Onsets(windows, played)
        rows[f"consensus{title}"] = Onsets(windows, agreed.guess(played)[None], *chances, agreed)
    return rows


def mean_over_samples(function, sums):
    """The figure of a function of totals (N, ...), the mean over the samples for which it is not NaN."""
    return estimate(lambda s: mean_of_samples(function(s)), sums)


def f1(row, voice=None):
    """Of all cells, or of one voice's."""
    sums = row.sums.sum(2)
    return mean_over_samples(f1_of, sums.sum(2) if voice is None else sums[:, :, voice])


def f1_of_bar(row, bar):
    """Of the cells of one bar of the windows, from 0; None where they are shorter."""
    grid = row.windows.grid
    if bar >= grid.n_bars:
        return None
    return mean_over_samples(f1_of, row.sums[:, :, grid.steps_of(bar)].sum((2, 3)))


def macro_f1(row):
    """The mean of the voices' own, of those that are hit."""
    return mean_over_samples(lambda s: mean_of_samples(f1_of(s)), row.sums.sum(2))


def precision(row):
    return mean_over_samples(lambda s: quotient(s[..., 0], s[..., 1]), row.sums.sum((2, 3)))


def recall(row):
    return mean_over_samples(lambda s: quotient(s[..., 0], s[..., 2]), row.sums.sum((2, 3)))


def cross_entropy(row, calibrated=False):
    """Nats per cell; None where there is no probability."""
    chance = row.calibrated if calibrated else row.chance
    if chance is None:
        return None
    nats = -np.log(np.where(row.windows.rolls[0] > 0, chance, 1 - chance))
    return share(nats.sum((1, 2)), np.full(len(nats), nats[0].size), row.windows.performance)


def taps_answered(row):
    """Share of the tapped steps with a hit of any voice."""
    hit, tapped = row.played > 0, row.windows.tapped
    return share((hit.any(-1) & tapped).sum((0, 2)), len(hit) * tapped.sum(1), row.windows.performance)


def hits_off_taps(row):
    """Share of all hits that fall on a step without a tap."""
    hit = row.played > 0
    off = hit & ~row.windows.tapped[..., None]
    return share(off.sum((0, 2, 3)), hit.sum((0, 2, 3)), row.windows.performance)


def threshold(row):
    """The share of the samples from which on a consensus counts a cell as hit."""
    return row.consensus and row.consensus.threshold / row.consensus.n_samples


def smoothing(row):
    return row.consensus and row.consensus.smoothing


def mean_of_samples(values):
    """The mean over the last axis, of those that are not NaN; NaN where there are none."""
    there = ~np.isnan(values)
    return quotient(np.where(there, values, 0).sum(-1), there.sum(-1))


def f1_right(row):
    return f1(row[0])


def f1_swapped(row):
    return f1(row[1])


def fall(row):
    """Of the F1, from the right rhythm to the other."""
    sums = (onsets.sums.sum((2, 3)) for onsets in row)
    return estimate(lambda right, wrong: (f1_of(right) - f1_of(wrong)).mean(-1), *sums)


# ------------------------------------------------------------------------- velocity and offset at real hits


@dataclass
class Hits:
    """Guesses at the real hits of windows: vel and timeoffset (N, H) in the order of np.nonzero, NaN for no guess."""

    windows: Windows
    vel: np.ndarray
    timeoffset: np.ndarray

    @cached_property
    def where(self):
        return np.nonzero(self.windows.rolls[0] > 0)

    @cached_property
    def is_tap(self):
        """Which hits (H,) are the tap itself. Every real hit lies on a tapped step."""
        return loudest_voice(self.windows.rolls[1])[self.where[0], self.where[1], 0] == self.where[2]


def hit_rows(player, windows, train):
    """{row: Hits} of one set. "onsets known": the model knows the onsets, as when it humanises, and the tap; "tap alone": it
    knows the tap, and is scored in the cells that are really hit. One draw is the mean error of the single samples (of
    the tap alone: where the sample hits the cell); the median is the error of the samples' median, one guess a hit."""
    where = np.nonzero(windows.rolls[0] > 0)
    everywhere = slice(None), *where
    guesses = {
        name: [roll[where][None] for roll in guess]
        for name, guess in hit_guesses(train.rolls, windows.rolls).items()
    }
    known = [roll[everywhere] for roll in player(windows, "onsets")[1:]]
    guesses["onsets known, one draw"] = known
    guesses["onsets known, median"] = [np.median(draws, 0)[None] for draws in known]
    onset, *played = player(windows, "unset")
    hit = onset[everywhere] > 0
    guesses["tap alone, one draw"] = [np.where(hit, roll[everywhere], np.nan) for roll in played]
    guesses["tap alone, median"] = [median_at(roll, onset, where)[None] for roll in played]
    return {name: Hits(windows, *guess) for name, guess in guesses.items()}


def median_at(roll, onset, where):
    """The samples' median of a roll (N, W, T, V) in the cells `where` (a tuple of indices), (H,): of the samples that
    hit the cell; where none does of all that is hit in its step; where nothing is, of all that is hit anywhere."""
    hit = onset > 0
    guess = np.full(len(where[0]), np.median(roll[hit]) if hit.any() else 0.0)
    for i, (window, step, voice) in enumerate(zip(*where)):
        cell = hit[:, window, step, voice]
        if cell.any():
            guess[i] = np.median(roll[cell, window, step, voice])
        elif (of_step := hit[:, window, step]).any():
            guess[i] = np.median(roll[:, window, step][of_step])
    return guess


def velocity_error(row, tap=None):
    """Mean absolute error, 0 to 1; tap: True of the hits that are the tap itself, False of the others, None of all."""
    return _error(row, np.abs(row.vel - row.windows.rolls[1][row.where]), tap)


def offset_error(row, tap=None):
    """The same in milliseconds."""
    error = np.abs(row.timeoffset - row.windows.rolls[2][row.where])
    return _error(row, error * row.windows.step_ms[row.where[0]], tap)


def _error(row, error, tap):
    there = ~np.isnan(error) & (True if tap is None else row.is_tap == tap)
    error = np.where(there, error, 0).sum(0)
    return share(error, there.sum(0), row.windows.performance[row.where[0]])
