"""From the tap to the drums: which cells are hit, and how loud and how early or late.

Figures are {"value", "low", "high"}, see utils.evaluation.bootstrap. N samples, W windows, T steps, V voices, P performances.
"""

import numpy as np

from utils.evaluation.baselines import hit_guesses, loudest_voice, onset_guesses
from utils.evaluation.bootstrap import estimate, per_performance, quotient
from utils.midi.drums import VOICES

SMOOTHINGS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
GREEDY = 1e-6  # temperature at which a draw is the likeliest token


class Consensus:
    """What N samples agree on, as a probability and as a guess; all it has to choose is chosen on tuning windows.

    A cell that n of N samples hit has the probability (n + a) / (N + 2 a). `smoothing`, a of SMOOTHINGS, gives the
    lowest cross-entropy, `threshold` (in samples) the highest F1. `calibration` (N + 1,): how often a cell that n
    samples hit is hit in truth.
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

    def smoothed(self, count, a=None):
        a = self.smoothing if a is None else a
        return (count + a) / (self.n_samples + 2 * a)

    def guess(self, played):
        return self.count(played) >= self.threshold

    def probability(self, played):
        return self.smoothed(self.count(played))

    def calibrated(self, played):
        return self.calibration[self.count(played)]

    def chosen(self):
        return {
            "samples": self.n_samples,
            "threshold": self.threshold / self.n_samples,
            "smoothing": self.smoothing,
        }


def tap_to_drums(player, windows, tuning, train, densities=True):
    """All figures of one set, as a dict for JSON. windows, tuning, train: Windows of the set, of the validation split
    and of the training split, all of one length. densities: also with the true density given, and nothing else.

    onsets: name -> what onset_figures gives, and where there is a probability `cross-entropy`, nats per cell.
    hits: name -> what hit_figures gives. consensus: what was chosen on the tuning windows.
    """
    real, steps_per_bar = windows.rolls[0], player.model.steps_per_bar
    onsets, chosen = {}, {}

    def score(name, guess, chance=None):
        onsets[name] = onset_figures(guess, windows, steps_per_bar)
        if chance is not None:
            onsets[name]["cross-entropy"] = cross_entropy(chance, real, windows.performance)

    for name, (guess, chance) in onset_guesses(train.rolls, tuning.rolls, windows.rolls).items():
        score(name, guess[None], chance)
    score("greedy", player(windows, "unset", temperature=GREEDY)[0])
    settings = {"unset": "", "density": ", density given"} if densities else {"unset": ""}
    for setting, title in settings.items():
        played, practice = player(windows, setting)[0], player(tuning, setting)[0]
        consensus = Consensus(practice, tuning.rolls[0])
        score(f"sampled{title}", played)
        score(f"consensus{title}", consensus.guess(played)[None], consensus.probability(played))
        calibrated = cross_entropy(consensus.calibrated(played), real, windows.performance)
        onsets[f"consensus{title}"]["cross-entropy, calibrated"] = calibrated
        chosen[setting] = consensus.chosen()
    return {"onsets": onsets, "hits": hit_errors(player, windows, train), "consensus": chosen}


# ------------------------------------------------------------------------- onsets


def onset_figures(played, windows, steps_per_bar):
    """Scores of the guesses played (N, W, T, V) among all cells, each the mean over the N.

    precision, recall, f1: all cells in one. macro f1: the mean of the voices' own, of those that are hit. by voice:
    {voice: f1}. by bar: [f1], in the order of the window's bars. taps answered: share of the tapped steps with a hit
    of any voice; hits off the taps: share of all hits that fall on a step without a tap.
    """
    sums = cell_sums(played, windows, steps_per_bar)
    figures = {
        "precision": estimate(lambda s: mean_of_samples(quotient(s[..., 0], s[..., 1])), sums.sum((2, 3))),
        "recall": estimate(lambda s: mean_of_samples(quotient(s[..., 0], s[..., 2])), sums.sum((2, 3))),
        "f1": estimate(lambda s: mean_of_samples(f1(s)), sums.sum((2, 3))),
        "macro f1": estimate(lambda s: mean_of_samples(mean_of_samples(f1(s))), sums.sum(2)),
        "by voice": {
            name: estimate(lambda s: mean_of_samples(f1(s)), sums[..., v, :].sum(2))
            for v, name in enumerate(VOICES)
        },
        "by bar": [
            estimate(lambda s: mean_of_samples(f1(s)), sums[:, :, bar].sum(2)) for bar in range(sums.shape[2])
        ],
    }
    hit, tapped = played > 0, windows.tapped
    steps = np.stack([(hit.any(-1) & tapped).sum((0, 2)), len(hit) * tapped.sum(1)], 1)
    hits = np.stack([(hit & ~tapped[..., None]).sum((0, 2, 3)), hit.sum((0, 2, 3))], 1)
    for name, parts in (("taps answered", steps), ("hits off the taps", hits)):
        figures[name] = estimate(
            lambda s: quotient(s[..., 0], s[..., 1]), per_performance(parts, windows.performance)
        )
    return figures


def cell_sums(played, windows, steps_per_bar):
    """(P, N, bars, V, 3): cells that are hit in both, in the guess, in truth."""
    hit, real = played > 0, windows.rolls[0] > 0
    sums = []
    for guess in hit:
        cells = np.stack([guess & real, guess, real], -1)
        bars = cells.reshape(len(real), -1, steps_per_bar, *cells.shape[2:]).sum(2)
        sums.append(per_performance(bars, windows.performance))
    return np.stack(sums, 1)


def f1(sums):
    """Of sums (..., 3) as cell_sums gives them."""
    return quotient(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def mean_of_samples(values):
    """The mean over the last axis, of those that are not NaN; NaN where there are none."""
    there = ~np.isnan(values)
    return quotient(np.where(there, values, 0).sum(-1), there.sum(-1))


def cross_entropy(chance, real, performance):
    """Nats per cell of probabilities chance (W, T, V) in (0, 1)."""
    nats = -np.log(np.where(real > 0, chance, 1 - chance))
    sums = per_performance(np.stack([nats.sum((1, 2)), np.full(len(nats), nats[0].size)], 1), performance)
    return estimate(lambda s: quotient(s[..., 0], s[..., 1]), sums)


# ------------------------------------------------------------------------- velocity and offset at real hits


def hit_errors(player, windows, train):
    """Errors at the real hits, {name: what hit_figures gives}.

    "onsets known": the model is told which cells are hit, as when it humanises, and the tap; "tap alone": it is told
    the tap, and looked at in the cells that are really hit. One draw is the mean error of the single samples (of the
    tap alone: where the sample hits the cell); the median is the error of the samples' median, one guess a hit.
    """
    where = np.nonzero(windows.rolls[0] > 0)
    guesses = hit_guesses(train.rolls, windows.rolls)
    errors = {name: [roll[where][None] for roll in guess] for name, guess in guesses.items()}
    known = [roll[(slice(None), *where)] for roll in player(windows, "onsets")[1:]]
    errors["onsets known, one draw"] = known
    errors["onsets known, median"] = [np.median(draws, 0)[None] for draws in known]
    played = player(windows, "unset")
    hit = played[0][(slice(None), *where)] > 0
    errors["tap alone, one draw"] = [
        np.where(hit, roll[(slice(None), *where)], np.nan) for roll in played[1:]
    ]
    errors["tap alone, median"] = [median_at(roll, played[0], where)[None] for roll in played[1:]]
    return {name: hit_figures(*guess, windows) for name, guess in errors.items()}


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


def hit_figures(vel, timeoffset, windows):
    """Mean absolute errors of guesses at the real hits, vel and timeoffset (N, H) in the order of np.nonzero, NaN where
    a sample makes none: {"velocity" (of 0 to 1), "offset" (ms)}; of all hits, of those that are the tap themselves
    ("..., the tap itself") and of the others ("..., the others"). Every real hit lies on a tapped step."""
    onset, real_vel, real_offset = windows.rolls
    where = np.nonzero(onset > 0)
    is_tap = loudest_voice(real_vel)[where[0], where[1], 0] == where[2]
    error = {
        "velocity": np.abs(vel - real_vel[where]),
        "offset": np.abs(timeoffset - real_offset[where]) * windows.step_ms[where[0]],
    }
    figures = {}
    for part, chosen in (("", True), (", the tap itself", is_tap), (", the others", ~is_tap)):
        for name, values in error.items():
            there = ~np.isnan(values) & chosen
            sums = np.stack([np.where(there, values, 0).sum(0), there.sum(0)], 1)
            by_performance = per_performance(sums, windows.performance[where[0]])
            figures[name + part] = estimate(lambda s: quotient(s[..., 0], s[..., 1]), by_performance)
    return figures
