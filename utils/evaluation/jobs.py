"""The jobs of a drummer who is given drums: what is played anew beside the real drums, on T4, with nothing else heard.

Controls are unset and the rhythm is silent. Figures are {"value", "low", "high"}, see utils.evaluation.bootstrap. N samples,
W windows, T steps, V voices.
"""

import numpy as np

from utils.evaluation.baselines import best_threshold, hit_guesses, probability, training_mean
from utils.evaluation.bootstrap import estimate, per_performance
from utils.evaluation.player import ANEW, BARS
from utils.evaluation.realism import HEADS, kl_of_counts, likeness_sums
from utils.evaluation.tap import Consensus, f1, hit_figures, mean_of_samples


def jobs_part(player, sets):
    """All jobs, as a dict for JSON: {"humanise": {row: errors and KLs, see humanised}, job of ANEW: {row: F1 of the
    onsets among the cells that are played anew}}. Rows: the model's, then what needs no model."""
    windows, tuning, train = sets("T4"), sets.tuning("T4"), sets("T4", "train")
    figures = {"humanise": humanised(player(windows, "humanise"), windows, train)}
    for job, cells_of in ANEW.items():
        cells, played = cells_of(windows), player(windows, job)[0] > 0
        practised = cells_of(tuning)
        consensus = Consensus(player(tuning, job)[0][:, practised], tuning.rolls[0][practised])
        rows = {"one sample": played, "consensus of the samples": consensus.guess(played)[None]}
        rows["training mean"] = mean_guess(windows, tuning, train, cells_of)[None]
        rows |= {name: guess[None] for name, guess in copies(job, windows.rolls[0]).items()}
        figures[job] = {row: cell_f1(guess, windows, cells) for row, guess in rows.items()}
    return figures


def humanised(played, windows, train):
    """Of each guess at the velocity and offset of the real hits: mean absolute errors, "velocity" (of 0 to 1) and
    "offset" (ms); "velocity KL", "offset KL" in nats, from the real. The median is of the samples, one guess a hit."""
    onset = windows.rolls[0]
    guesses = {
        "one sample": played[1:],
        "median of the samples": [np.median(roll, 0)[None] for roll in played[1:]],
    }
    without = hit_guesses(train.rolls, windows.rolls)
    without["copy of the tap (not told to the model)"] = without.pop("copy of the tap")
    guesses |= {name: [roll[None] for roll in guess] for name, guess in without.items()}
    real = likeness_sums([roll[None] for roll in windows.rolls], windows)
    figures = {}
    for name, guess in guesses.items():
        errors = hit_figures(*(roll[:, onset > 0] for roll in guess), windows)
        figures[name] = {head: errors[head] for head in HEADS}
        sums = likeness_sums([np.broadcast_to(onset, guess[0].shape), *guess], windows)
        for head in HEADS:
            bins = f"{head} histogram"
            figures[name][f"{head} KL"] = estimate(kl_of_counts, real[bins], sums[bins])
    return figures


def cell_f1(guess, windows, cells):
    """F1 of guesses (N, W, T, V) among cells (W, T, V) alone, the mean over the N."""
    real = (windows.rolls[0] > 0) & cells
    sums = [np.stack([of & real, of & cells, real], -1).sum((1, 2)) for of in guess]
    by_performance = per_performance(np.stack(sums, 1), windows.performance)
    return estimate(lambda s: mean_of_samples(f1(s)), by_performance)


def mean_guess(windows, tuning, train, cells_of):
    """Hits where the training mean of the cell is above the threshold that is best in the tuning windows' cells."""
    mean, cells = training_mean(train.rolls[0]), cells_of(tuning)
    threshold = best_threshold(probability(mean, tuning.rolls[0])[cells], tuning.rolls[0][cells])
    return probability(mean, windows.rolls[0]) > threshold


def copies(job, onset):
    """Drums (W, T, V) copied from bars nearby: {name: guess}. One voice can't be copied from others."""
    bars = onset.reshape(len(onset), BARS, -1, onset.shape[-1]) > 0
    if job == "infill":
        return {
            f"the bar {name} it copied": np.roll(bars, shift, 1).reshape(onset.shape)
            for name, shift in (("before", 1), ("after", -1))
        }
    if job == "continue":
        return {
            "the last bar copied": np.repeat(bars[:, 1:2], 4, 1).reshape(onset.shape),
            "the last two bars copied": np.tile(bars[:, :2], (1, 2, 1, 1)).reshape(onset.shape),
        }
    return {}
