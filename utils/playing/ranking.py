"""Of several takes of the same drums those that obey best, and no two alike."""

import warnings

import numpy as np
import torch

from utils.playing.controls import measure
from utils.playing.receipt import misses, tap_of

ROUNDS = 4  # as many takes again are played so often, at most, where too few of them are different
AT_ONCE = 64  # takes that are played together
TICKS = 120  # of a MIDI file, in a step


def best_takes(draw, num_samples, best_of, asked, rhythm_onset, steps_per_bar, onsets_known=False):
    """Play best_of takes and keep the num_samples that obey best, the best first.

    draw: number -> onset, vel, timeoffset (number, T, 9) of as many takes. asked: Bars. rhythm_onset: (steps, 9) of the
    rhythm as far as it is heard hit by hit. onsets_known: the takes differ in velocity and timing alone. Returns the three rolls
    (num_samples, T, 9), or fewer, with a warning, where ROUNDS times best_of takes hold no more different ones.
    """
    takes = {}
    for _ in range(ROUNDS):
        for start in range(0, best_of, AT_ONCE):
            for take in zip(*draw(min(AT_ONCE, best_of - start))):
                takes.setdefault(_alike(take, onsets_known), take)
        if len(takes) >= num_samples:
            break
    else:
        warnings.warn(
            f"of {ROUNDS * best_of} takes only {len(takes)} differ, {num_samples} were asked for",
            stacklevel=3,
        )
    best = sorted(takes.values(), key=lambda take: disobedience(take, asked, rhythm_onset, steps_per_bar))
    return tuple(torch.stack(roll) for roll in zip(*best[:num_samples]))


def disobedience(take, asked, rhythm_onset, steps_per_bar):
    """How far a take, onset, vel, timeoffset (T, 9), is from what was asked of it: two numbers, of which the second
    counts where the first are equal.

    The first is the mean of `misses`: hits, velocity and voices weigh the same, if they were asked for at all. The
    second is how badly the rhythm is answered: share of its taps without a hit and share of the hits off the taps. It
    comes second because nearly every take answers nearly every tap, whereas numbers that a person gave are a wish. The
    model's own likelihood has no say: nobody asked for the likeliest drums.
    """
    onset, vel = (roll.cpu().numpy() for roll in take[:2])
    miss = misses(asked, measure(onset, vel, steps_per_bar)).values()
    tap = tap_of(onset, rhythm_onset)
    unanswered = np.nansum([1 - tap.share_answered, tap.share_off])
    return round(float(np.mean([*miss])) if miss else 0.0, 9), round(float(unanswered), 9)


def _alike(take, onsets_known):
    """Equal for takes that are one: with the same hits or, where these are known, with the same velocities and timing
    as a MIDI file holds them."""
    onset, vel, timeoffset = (roll.cpu().numpy() for roll in take)
    if not onsets_known:
        return (onset > 0).tobytes()
    return np.rint(vel * 127).astype(int).tobytes() + np.rint(timeoffset * TICKS).astype(int).tobytes()
