"""What needs no model: the guesses that any figure of onsets has to beat.

Onset arrays are (W, T, V) in {0, 1}: W windows of T steps, V voices. A tap is a step on which anything is hit.
"""

import numpy as np

from utils.realism import onset_scores

THRESHOLDS = np.arange(1, 100) / 100


def baseline_scores(train, validation, real):
    """Four guesses at `real`, {name: (guess (W, T, V), its precision, recall and F1)}.

    silence: nothing. training mean: how often a voice is hit on a step of the window in `train`, hit where that
    is above the threshold that is best on `validation`. training mean given the tap: the same among the tapped
    steps, silent elsewhere. copy: every tap as a hit of the one voice that is best on `validation`.
    """
    guesses = {
        "silence": np.zeros_like(real),
        "training mean": _guess(training_mean(train), validation, real),
        "training mean given the tap": _guess(training_mean_given_tap(train), validation, real),
        "copy": _copy(validation, real),
    }
    return {name: (guess, onset_scores(guess, real)) for name, guess in guesses.items()}


def taps(onset):
    """The tapped steps, (..., T) bool."""
    return (onset > 0).any(-1)


def training_mean(onset):
    """How often each cell of the window is hit, (2, T, V): the same without a tap (0) and with one (1)."""
    return np.repeat(onset.mean(0)[None], 2, axis=0)


def training_mean_given_tap(onset):
    """How often each cell of the window is hit among the windows whose step is tapped, (2, T, V): 0 without a tap."""
    tapped = np.maximum(taps(onset).sum(0), 1)[:, None]
    return np.stack([np.zeros(onset.shape[1:]), onset.sum(0) / tapped])


def best_threshold(probability, onset):
    """The hundredth above which `probability` counts as a hit, so that F1 is best."""
    return max(THRESHOLDS, key=lambda threshold: onset_scores(probability > threshold, onset)["f1"])


def _guess(mean, validation, real):
    def given(onset):
        return np.where(taps(onset)[..., None], mean[1], mean[0])

    return given(real) > best_threshold(given(validation), validation)


def _copy(validation, real):
    def on_voice(voice, onset):
        guess = np.zeros_like(onset)
        guess[..., voice] = taps(onset)
        return guess

    best = max(range(real.shape[-1]), key=lambda voice: onset_scores(on_voice(voice, validation), validation)["f1"])
    return on_voice(best, real)
