"""The controls: what may be asked of every bar. What is particular to one stands in its row of CONTROLS.

Shapes: T steps, N bars, V voices (9). A new control is a row here and, unless its values are of a kind that
is there already, an embedding in model/condition.py.
"""

import math
from dataclasses import dataclass
from typing import Callable

import numpy as np

N_VOICES = 9
N_STYLES = 19  # the last id, UNSET_STYLE, means that no style is asked for
UNSET_STYLE = N_STYLES - 1
RHYTHM_KINDS = ("drums", "hands", "part")  # what a rhythm is; one id more means unset
UNSET_KIND = len(RHYTHM_KINDS)
PADS = ("unset", "lower", "higher", "both")  # which of two pads a hand strikes; no tap: unset
PHRASE = 8  # bars: which of so many a bar is, counted from the beginning, is its place in the phrase
UNSET_PHRASE = PHRASE
MIDI_VELOCITIES = 127


@dataclass(frozen=True)
class Control:
    """One control. Its quantity is what a bar has, for instance the share of its cells that are hit.

    name: its key in batches, in normalize_factor and in the model. width: values per step, None for a single
    one. n_ids: None where the values are numbers and NaN means unset; else they are ids from 0, of which the
    last means unset. normalized: the model is given the quantity as a z-score by normalize_factor[name].
    lowest, highest: the quantities that a bar can have. measure: of (onset, vel, grid), arrays (..., T, V)
    and a BarGrid, the quantity of every bar, (..., N) or (..., N, width), NaN where a bar has none; None: it
    can't be measured. optional: models know it only where their config says so; its embedding is added to the
    condition and begins at zero.

    A musician calls the control `wish` and counts in `unit`; units(length of a bar in steps) of them are a
    quantity of 1, and fewer than `fewest` can't be asked for.
    """

    name: str
    wish: str
    unit: str
    width: int | None = None
    n_ids: int | None = None
    normalized: bool = False
    lowest: float = 0.0
    highest: float = 1.0
    measure: Callable | None = None
    optional: bool = False
    units: Callable | None = None
    fewest: float = 0.0

    @property
    def unset(self):
        """What an unset step holds."""
        return math.nan if self.n_ids is None else self.n_ids - 1

    def unset_in(self, values):
        """`unset` in an array or tensor: NaN where weights (..., n_ids - 1) take the place of ids."""
        return math.nan if _is_float(values) else self.unset

    def is_set(self, values):
        """Where values, an array or tensor, are set, as bool of their shape."""
        return values == values if _is_float(values) else values != self.unset

    def normalize(self, quantity, normalize_factor):
        """The quantity as the model is given it."""
        if not self.normalized:
            return quantity
        mean, deviation = normalize_factor[self.name]
        return (quantity - mean) / deviation

    def denormalize(self, value, normalize_factor):
        """The way back from normalize."""
        if not self.normalized:
            return value
        mean, deviation = normalize_factor[self.name]
        return value * deviation + mean


def _is_float(values):
    return getattr(values.dtype, "kind", None) == "f" or getattr(values.dtype, "is_floating_point", False)


def cells(length):
    """How many cells bars of so many steps have."""
    return length * N_VOICES


def _per_bar(grid):
    """Of each bar its length, at least 1: a row of a batch may have fewer bars than another."""
    return np.maximum(np.array(grid.lengths, np.float32), 1)


def measure_density(onset, vel, grid):
    """Share of the bar's cells that are hit."""
    return grid.sums(onset, -2).sum(-1) / cells(_per_bar(grid))


def measure_intensity(onset, vel, grid):
    """Mean velocity of the bar's hits, NaN where there are none."""
    hits = grid.sums(onset, -2).sum(-1)
    loudness = grid.by_bar(vel * onset, -2).sum((-2, -1))
    return np.where(hits > 0, loudness / np.maximum(hits, 1), np.nan).astype(np.float32)


def measure_instrument(onset, vel, grid):
    """Of each voice the share of the bar's steps that are hit."""
    return grid.sums(onset, -2) / _per_bar(grid)[..., None]


def measure_steady(onset, vel, grid):
    """How like the bar before a bar is: F1 of their hits, 2 x shared / all hits of both. A hit is shared if
    the other bar has one of the same voice at the same place. NaN of the first bar, and of two silent
    ones."""
    bars = grid.by_bar(onset, -2)
    hits = bars.sum((-2, -1))
    both, shared = hits[..., 1:] + hits[..., :-1], (bars[..., 1:, :, :] * bars[..., :-1, :, :]).sum((-2, -1))
    likeness = np.where(both > 0, 2 * shared / np.maximum(both, 1), np.nan)
    return np.concatenate((np.full_like(hits[..., :1], np.nan), likeness), -1).astype(np.float32)


CONTROLS = {
    control.name: control
    for control in (
        Control(
            "density", wish="hits_per_bar", unit="hits", normalized=True, measure=measure_density, units=cells
        ),
        Control(
            "intensity",
            wish="velocity",
            unit="MIDI velocity",
            normalized=True,
            measure=measure_intensity,
            units=lambda length: MIDI_VELOCITIES,
            fewest=1.0,
        ),
        Control(
            "instrument",
            wish="voices",
            unit="hits of each voice",
            width=N_VOICES,
            measure=measure_instrument,
            units=lambda length: length,
        ),
        Control("style", wish="style", unit="name", n_ids=N_STYLES),
        Control(
            "steady",
            wish="steady",
            unit="percent",
            measure=measure_steady,
            optional=True,
            units=lambda length: 100,
        ),
    )
}


def controls_of(batch):
    """The controls of a batch, or of another dict with their names: {name: values}. Optional ones may be
    missing."""
    return {name: batch[name] for name, control in CONTROLS.items() if name in batch or not control.optional}
