"""The jobs of a drummer who is given drums: what is played anew beside the real drums, on T4.

Controls are unset and no rhythm is given. N samples, W windows, T steps, V voices.
"""

import numpy as np

from utils.evaluation.baselines import best_threshold, hit_guesses, probability, training_means
from utils.evaluation.player import ANEW
from utils.evaluation.realism import LOWEST, likeness_sums
from utils.evaluation.tap import Consensus, hit_sums, onset_sums


def measure(player, sets):
    windows, tuning, train = sets("T4"), sets.tuning("T4"), sets("T4", "train")
    anew = {}
    for job, cells_of in ANEW.items():
        cells, played, tuned = cells_of(windows), player(windows, job)[0] > 0, cells_of(tuning)
        consensus = Consensus(player(tuning, job)[0][:, tuned], tuning.rolls[0][tuned])
        guesses = {"one sample": played, "consensus of the samples": consensus.guess(played)[None]}
        guesses["training mean"] = mean_guess(windows, tuning, train, cells_of)[None]
        guesses |= {name: guess[None] for name, guess in copies(job, windows).items()}
        anew[job] = {row: onset_sums(windows, guess, cells=cells) for row, guess in guesses.items()}
    return {"humanise": {"T4": humanised(player(windows, "humanise"), windows, train)}, "anew": anew}


def humanised(played, windows, train):
    """{row: hit_sums and "velocity histogram", "offset histogram" of the real and the played}. The median is
    of the samples, one guess a hit."""
    onset, medians = windows.rolls[0], [np.median(roll, 0)[None] for roll in played[1:]]
    guesses = {"one sample": played[1:], "median of the samples": medians}
    for name, guess in hit_guesses(train.rolls, windows.rolls).items():
        guesses[name] = [roll[None] for roll in guess]
    real, rows = likeness_sums([roll[None] for roll in windows.rolls], windows.performance), {}
    for name, guess in guesses.items():
        rows[name] = hit_sums(windows, *(roll[:, onset > 0] for roll in guess))
        sums = likeness_sums([np.broadcast_to(onset, guess[0].shape), *guess], windows.performance)
        for bins in (f"{head} histogram" for head in LOWEST):
            rows[name][bins] = real[bins], sums[bins]
    return rows


def mean_guess(windows, tuning, train, cells_of):
    """Hits where the training mean of the cell is above the threshold that is best in the tuning windows'
    cells."""
    mean, cells = training_means(train.rolls[0])["training mean"], cells_of(tuning)
    threshold = best_threshold(probability(mean, tuning.rolls[0])[cells], tuning.rolls[0][cells])
    return probability(mean, windows.rolls[0]) > threshold


def copies(job, windows):
    """Drums (W, T, V) copied from bars nearby: {name: guess}. One voice can't be copied from others."""
    bars = windows.grid.by_bar(windows.rolls[0]) > 0
    copied = {
        "infill": {"the bar before it copied": [0, 0, 1, 2], "the bar after it copied": [1, 2, 3, 3]},
        "continue": {"the last bar copied": [1, 1, 1, 1], "the last two bars copied": [0, 1, 0, 1]},
    }
    return {name: windows.grid.by_step(bars[:, of]) for name, of in copied.get(job, {}).items()}
