"""What needs no model: the guesses that any figure of a model has to beat.

Onset arrays are (W, T, V) in {0, 1}: W windows of T steps, V voices; rolls are (onset, vel, timeoffset) of
that shape. A tap is a step on which anything is hit; its velocity and timing are those of the loudest hit.
"""

import numpy as np

from utils.evaluation.bootstrap import f1

THRESHOLDS = np.arange(1, 100) / 100


def onset_guesses(train, validation, real):
    """Four guesses at the onsets of `real` from its tap, {name: (guess (W, T, V) bool, probability (W, T, V)
    or None)}; train, validation, real: rolls.

    training mean: how often a voice is hit on a step of the window in `train`, hit where that is above the
    threshold that is best on `validation`; given the tap: among the tapped steps, silent elsewhere. nearest
    training tap: the drums of the training window whose tap is the nearest.
    """
    guesses = {"silence": (np.zeros(real[0].shape, bool), None)}
    rarest = 0.5 / len(train[0])  # what is never seen in n windows is given half a window's chance
    for name, mean in training_means(train[0]).items():
        chance = probability(mean, real[0])
        threshold = best_threshold(probability(mean, validation[0]), validation[0])
        guesses[name] = chance > threshold, np.clip(chance, rarest, 1 - rarest)
    guesses["nearest training tap"] = train[0][nearest_tap(train, real)] > 0, None
    return guesses


def hit_guesses(train, real):
    """Two guesses at the velocity and offset of the real hits, {name: (vel, timeoffset), each (W, T, V)}:
    the mean of the hits of that voice on that step of the window in `train`, and the loudest of its step."""
    hits = np.maximum(train[0].sum(0), 1)
    means = [np.broadcast_to((roll * train[0]).sum(0) / hits, real[0].shape) for roll in train[1:]]
    return {"training mean": means, "copy of the tap": copy_of_the_tap(real)}


def taps(onset):
    """The tapped steps, (..., T) bool."""
    return (onset > 0).any(-1)


def loudest_voice(vel):
    """Which voice is the tap of each step, (..., T, 1): the loudest, the first of equals."""
    return vel.argmax(-1)[..., None]


def copy_of_the_tap(rolls):
    """The tap's velocity and offset in every cell of its step, each (W, T, V)."""
    loudest = loudest_voice(rolls[1])
    return [np.take_along_axis(roll, loudest, -1).repeat(roll.shape[-1], -1) for roll in rolls[1:]]


def training_means(onset):
    """How often each cell of the window is hit, (2, T, V), without a tap on the step (0) and with one (1):
    "training mean" among all windows, "training mean given the tap" among those whose step is tapped."""
    given = onset.sum(0) / np.maximum(taps(onset).sum(0), 1)[:, None]
    means = np.stack([onset.mean(0)] * 2), np.stack([np.zeros_like(given), given])
    return dict(zip(("training mean", "training mean given the tap"), means))


def probability(mean, onset):
    """What a mean (2, T, V) says of windows with these onsets' taps, (W, T, V)."""
    return np.where(taps(onset)[..., None], mean[1], mean[0])


def best_threshold(chance, onset):
    """The hundredth above which the probability `chance` counts as a hit, so that F1 is best."""
    return max(THRESHOLDS, key=lambda threshold: onset_f1(chance > threshold, onset))


def onset_f1(guess, real):
    """F1 of the hits of one guess among all cells; both arrays of one shape."""
    guess, real = guess > 0, real > 0
    return float(f1(np.array([(guess & real).sum(), guess.sum(), real.sum()])))


def nearest_tap(train, real, at_once=256):
    """For each window of `real` the index of the training window whose tap's velocities, 0 where there is
    none, are the nearest (Euclidean)."""
    known, asked = (rolls[1].max(-1).astype(np.float64) for rolls in (train, real))
    length, starts = (known**2).sum(1), range(0, len(asked), at_once)
    return np.concatenate([(length - 2 * asked[i : i + at_once] @ known.T).argmin(1) for i in starts])
