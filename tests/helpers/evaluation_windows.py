"""Drums written by hand, windows of them, and the values of metrics, for the tests of the evaluation."""

import numpy as np
import torch

from model.bars import BarGrid
from model.controls import UNSET_KIND
from utils.evaluation.sets import Windows
from utils.midi.drums import VOICES

KICK, SNARE, CLOSED, OPEN, CRASH, RIDE = (
    VOICES.index(name) for name in ("kick", "snare", "closed_hat", "open_hat", "crash", "ride")
)


def rolls(n_steps, *hits):
    """onset, vel, timeoffset (1, n_steps, 9) of hits (step, voice, velocity, offset)."""
    onset, vel, timeoffset = (np.zeros((1, n_steps, 9), np.float32) for _ in range(3))
    for step, voice, velocity, offset in hits:
        onset[0, step, voice], vel[0, step, voice], timeoffset[0, step, voice] = 1, velocity, offset
    return onset, vel, timeoffset


def takes(*samples):
    """What a player gives: (N, 1, T, V) each, of samples as `rolls` makes them."""
    return [np.stack(part) for part in zip(*samples)]


def windows_in(batch, performance=None, step_ms=100.0):
    """Windows of a batch, each of a performance of its own, four sixteenths to a quarter."""
    n_windows, n_steps = batch["onset"].shape[:2]
    performance = np.arange(n_windows) if performance is None else np.array(performance)
    grid = BarGrid.four_four(n_steps, 4)
    batch = {"rhythm_is": torch.full((n_windows, n_steps), UNSET_KIND)} | batch
    return Windows("T4, made up", batch, performance, np.full(n_windows, step_ms), grid)


def windows(*drums, **about):
    """Windows of rolls (1, T, V) as `rolls` makes them."""
    parts = [np.concatenate(part) for part in zip(*drums)]
    names = ("onset", "vel", "timeoffset")
    return windows_in({name: torch.from_numpy(part) for name, part in zip(names, parts)}, **about)


def figures(table, row):
    """{metric: figure} of one row of what the part of a table measures."""
    return table.score({"row": row})["row"]


def values(table, row):
    """The same without the intervals."""
    return {name: figure["value"] for name, figure in figures(table, row).items()}
