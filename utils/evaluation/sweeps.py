"""Sweeps: every bar is asked for a value of its own, one control at a time, and the drums are played.

A target is drawn evenly from the range that real bars cover: the 2nd to the 98th percentile of the training
bars; of styles each comes as often, for four bars. The rhythm is given as always. Swept is every control of
model.controls, the one of the voices voice by voice. In turn the other controls are

- unset;
- held: at the real bar's own. Voices and the hits of all can't be set independently. So where density is
  swept the bar's own mix of voices is scaled to the hits that are asked (by largest remainder, a voice having
  a hit a step at most; where that falls short of the hits, or the bar is silent, no mix is asked), and where
  a voice is swept density goes along by as many hits as the voice gains;
- held, mix unset (density alone): the others held, the voices left to the model.

Longer windows are real windows of the split, one after the other, played in one go; the bars and their
targets are the same in all lengths. Bars are dicts {control: value of each bar, (n,) or (n, V)}, in a
musician's units, see Control.units: hits per bar, MIDI velocity, style ids.
"""

import numpy as np
import torch

from data_aug import unset_controls
from model.bars import BarGrid
from model.controls import CONTROLS
from utils.evaluation.sets import BARS
from utils.midi.drums import N_VOICES, VOICES

PERCENTILES = 2, 98
SEED = 4
COUNTED = ("density", "instrument")  # controls that are asked for in whole hits
# sweep -> the control that is swept; of one that has a value for each voice there is a sweep for each
SWEPT = {
    name: control
    for control in CONTROLS.values()
    for name in (VOICES if control.width == N_VOICES else (control.name,))
}
MEASURED = [name for name, control in SWEPT.items() if control.measure is not None]


def modes_of(sweep):
    """The settings of the other controls, in turn."""
    return ("unset", "held", "held, mix unset") if sweep == "density" else ("unset", "held")


def column(bars, sweep):
    """What a sweep is about, (n,) of bars."""
    values = bars[SWEPT[sweep].name]
    return values if values.ndim == 1 else values[:, VOICES.index(sweep)]


def measure_bars(rolls, grid):
    """Of rolls (..., T, V) that were played, the bars of all windows, one after the other; no styles, they
    can't be measured."""
    bars = {}
    for control in CONTROLS.values():
        if control.measure is not None:
            values = control.measure(*rolls[:2], grid) * _units(control, grid)
            bars[control.name] = values.reshape(-1, *([control.width] if control.width else []))
    return bars


def _units(control, grid):
    """How many units are a quantity of 1 in each bar of a grid, (N,) or (N, 1)."""
    units = np.array([control.units(length) for length in grid.lengths], np.float32)
    return units[:, None] if control.width else units


def own_bars(windows):
    """What the real bars of Windows have, window after window, with their styles."""
    style = windows.batch["style"][:, list(windows.grid.starts)].numpy().ravel()
    return measure_bars(windows.rolls, windows.grid) | {"style": style}


def ranges(bars):
    """{sweep: (low, high)} that bars of the training split cover, styles left out."""
    covered = {}
    for name, control in SWEPT.items():
        if control.n_ids is None:
            low, high = np.nanpercentile(column(bars, name), PERCENTILES)
            if control.name in COUNTED:
                low, high = low.round(), high.round()
            high = max(high, low + 1)  # also a voice that hardly any bar has is swept
            covered[name] = float(low), float(high)
    return covered


def targets(covered, styles, n_bars):
    """{sweep: (n_bars,)} what is asked of each bar: whole hits, MIDI velocities, ids out of `styles`; no
    styles where there are none to ask for."""
    drawn = {}
    for index, (name, control) in enumerate(SWEPT.items()):
        rng = np.random.default_rng([SEED, index])
        if control.n_ids is not None:
            if len(styles):
                drawn[name] = np.repeat(rng.permutation(np.resize(styles, -(-n_bars // BARS))), BARS)[:n_bars]
        elif control.name in COUNTED:
            low, high = map(int, covered[name])
            drawn[name] = rng.integers(low, high + 1, n_bars).astype(np.float64)
        else:
            drawn[name] = rng.uniform(*covered[name], n_bars)
    return drawn


def ask(sweep, mode, target, own, most):
    """Bars that ask for `target` (n,) of one sweep, the others as `mode` says. own: what the real bars have;
    most: hits that a voice can have in a bar."""
    asked = {}
    for name, control in CONTROLS.items():
        held = own[name][: len(target)]
        asked[name] = np.full(held.shape, control.unset, held.dtype) if mode == "unset" else held.copy()
    if sweep in VOICES:
        voices = asked["instrument"]
        asked["density"] = asked["density"] + target - column(asked, sweep)  # stays NaN where it is unset
        voices[:, VOICES.index(sweep)] = target
        return asked
    if sweep == "density" and mode == "held":
        asked["instrument"] = scaled_mix(asked["instrument"], target, most)
    elif sweep == "density":
        asked["instrument"][:] = np.nan
    return asked | {sweep: target}


def scaled_mix(voices, hits, most):
    """The mix of `voices` (n, V) hits a bar scaled to add up to `hits` (n,), in whole hits, by largest
    remainder; no voice above `most`, and silent voices stay silent. NaN where that can't be."""
    shares = voices / np.maximum(voices.sum(1, keepdims=True), 1)
    wanted = shares * hits[:, None]
    scaled = np.minimum(np.floor(wanted), most)
    for _ in range(N_VOICES * most):
        left = hits - scaled.sum(1)
        room = (scaled < most) & (voices > 0)
        rows = np.flatnonzero((left > 0) & room.any(1))
        if not len(rows):
            break
        neediest = np.where(room, wanted - scaled, -np.inf)[rows].argmax(1)
        scaled[rows, neediest] += 1
    return np.where((scaled.sum(1) == hits)[:, None], scaled, np.nan)


def joined(batch, n):
    """n windows after each other as one: a batch of W // n windows of n T steps; what is left over is
    dropped."""
    whole = len(batch["mask"]) // n
    return {name: tensor[: whole * n].reshape(whole, -1, *tensor.shape[2:]) for name, tensor in batch.items()}


def play_sweeps(player, windows, own, drawn, length):
    """All sweeps over windows of `length` bars, a multiple of BARS: {(sweep, mode): onset, vel, timeoffset},
    each (W, T, V), and their BarGrid. own, drawn: as own_bars and targets give them."""
    n = length // BARS
    grid = BarGrid(windows.grid.beats * n, windows.grid.n_steps * n)
    batch, parts = joined(unset_controls(windows.batch), n), []
    n_windows = len(batch["mask"])
    sweeps = [(name, mode) for name in drawn for mode in modes_of(name)]
    for name, mode in sweeps:
        asked = ask(name, mode, drawn[name][: n_windows * length], own, grid.longest)
        parts.append(batch | to_model(asked, n_windows, grid, player.model.normalize_factor))
    together = {name: torch.cat([part[name] for part in parts]) for name in batch}
    rolls = player.play(together, 1, f"controls, {length} bars")
    rolls = [roll.reshape(len(sweeps), n_windows, *roll.shape[2:]) for roll in rolls]
    return {sweep: [roll[index] for roll in rolls] for index, sweep in enumerate(sweeps)}, grid


def to_model(asked, n_windows, grid, normalize_factor):
    """Bars of n_windows windows as the controls of a batch, {control: (W, T) or (W, T, V)}."""
    curves = {}
    for name, control in CONTROLS.items():
        values = asked[name].reshape(n_windows, grid.n_bars, *asked[name].shape[1:])
        if control.n_ids is None:
            values = control.normalize(values / _units(control, grid), normalize_factor).astype(np.float32)
        curves[name] = torch.from_numpy(grid.spread(values))
    return curves
