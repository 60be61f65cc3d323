"""Hits as the page has them, in the numbers of a MIDI file, and rolls.

A hit is [step, voice, velocity, ticks]: a step of a sixteenth, a voice from 0 to 8, a velocity from 1 to 127,
and how late it is, from -60 to 59 of the 120 ticks of a step. A file holds just these, so that a roll of them
is the one that comes of the file.
"""

import numpy as np
import torch

from utils.checks import ArgumentError, whole
from utils.midi.drums import N_VOICES

TICKS = 120  # of a step
MOST_BARS = 128  # on the page
MOST_STEPS = 32 * MOST_BARS
RANGES = {"step": (0, MOST_STEPS - 1), "voice": (0, N_VOICES - 1), "velocity": (1, 127), "ticks": (-60, 59)}


def rolls_of(notes, name):
    """Notes {"hits": [...], "steps": n} as three rolls, float32 (1, n, 9). Raises ArgumentError."""
    if not isinstance(notes, dict) or not isinstance(notes.get("hits"), list):
        raise ArgumentError(name, None, "it must have hits, a list, and steps", "")
    steps = whole(notes.get("steps"), (name, "steps"), most=MOST_STEPS)
    rule = f"each must be [{', '.join(f'{part} {low} to {high}' for part, (low, high) in RANGES.items())}]"
    try:
        hits = np.array(notes["hits"] or np.empty((0, 4)), np.float64)
    except (TypeError, ValueError, OverflowError):
        hits = np.empty(0)
    low, high = np.array([*RANGES.values()]).T
    if hits.shape[1:] != (4,) or not ((hits >= low) & (hits <= high) & (hits == np.round(hits))).all():
        raise ArgumentError((name, "hits"), None, rule, "")
    step, voice, velocity, ticks = hits.astype(np.int64).T
    if (step >= steps).any():
        raise ArgumentError((name, "hits"), None, f"a hit is past the last of {steps} steps", "")
    onset, vel, late = np.zeros((3, 1, steps, N_VOICES), np.float32)
    onset[0, step, voice] = 1
    vel[0, step, voice] = velocity / 127
    late[0, step, voice] = ticks / TICKS
    return tuple(map(torch.from_numpy, (onset, vel, late)))


def hits_of(rolls):
    """Three rolls (1, T, 9) as hits, in the order of steps."""
    onset, vel, late = (np.asarray(roll[0].cpu(), np.float64) for roll in rolls)
    step, voice = np.nonzero(onset > 0.5)
    velocity = np.clip(np.floor(vel[step, voice] * 127 + 0.5), *RANGES["velocity"])
    ticks = np.clip(np.floor(late[step, voice] * TICKS + 0.5), *RANGES["ticks"])
    return np.stack([step, voice, velocity, ticks], 1).astype(int).tolist()
