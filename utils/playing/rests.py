"""Where drums are silent because the rhythm is: its rests, and its beginning."""

import numpy as np
import torch

from utils.playing.controls import Bars

RESTING = "drums", "hands"  # kinds of rhythm whose rests are the drums' rests; to a part the beat goes on


def rests_of(sounds, grid, reach):
    """The rests of a rhythm, (T,) bool, and how many steps long the one is with which it begins: stretches
    without a sound in which a whole bar lies. sounds (T,) bool: steps with an onset, or on which a note is
    held; reach: how many of the T steps the rhythm has."""
    silent = ~np.asarray(sounds, bool)
    silent[reach:] = False
    rests, lines = np.zeros_like(silent), np.array(grid.lines)
    for first, end in np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2):
        bar = np.searchsorted(lines, first)
        rests[first:end] = bar < grid.n_bars and lines[bar + 1] <= end
    return torch.from_numpy(rests), int(np.argmin(np.append(rests, False)))


def silent_steps(rhythm, held, kind, dials, grid, reach, waits):
    """Where the drums rest, (T,) bool, and how many of the first bars are no part of the groove.

    rhythm: its onsets (T, 9), of which `reach` steps are there; held (T,) bool: steps on which its notes
    sound on, or None; kind: what it is, or None; waits: whether the drums wait for its first note.
    """
    silent = torch.zeros(grid.n_steps, dtype=torch.bool)
    if dials.followed is None:
        return silent, 0
    sounds = (rhythm > 0).any(-1).numpy()
    if kind not in RESTING and held is not None:
        n_held = min(len(held), len(sounds))
        sounds[:n_held] |= held[:n_held]
    rests, first = rests_of(sounds, grid, reach)
    if dials.stops or (kind in RESTING and dials.followed >= 1):
        silent |= rests
    if waits:
        silent[:first] = True
    return silent, min(int(grid.bars_within(first)), grid.n_bars - 1) if waits else 0


def silent_bars(silent, grid):
    """The bars that are silent (T,) throughout, (N,) bool."""
    return np.array([bool(silent[bar].all()) for bar in grid.bars()], bool)


def in_words(silent, grid):
    """The bars that are silent (T,) throughout, counted from 1: "1-2, 5"; empty where there are none."""
    edges = np.flatnonzero(np.diff(silent_bars(silent, grid), prepend=False, append=False))
    return ", ".join(f"{a + 1}" if b - a == 1 else f"{a + 1}-{b}" for a, b in edges.reshape(-1, 2))


def unasked(asked, silent, grid):
    """The Bars asked, with nothing asked of bars that are silent (T,) throughout."""
    quiet = silent_bars(silent, grid)
    nothing = Bars.unset(grid.n_bars)
    asked = Bars({name: values.copy() for name, values in asked.items()})
    for name, values in asked.items():
        values[quiet] = np.nan if values.ndim > nothing[name].ndim else nothing[name][quiet]
    return asked
