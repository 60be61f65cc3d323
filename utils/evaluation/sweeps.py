"""Sweeps: every bar is asked for a value of its own, one control at a time, and the drums are played.

A target is drawn evenly from the range that real bars cover: the 2nd to the 98th percentile of the training
bars; of styles each comes as often, for four bars. The rhythm is given as always. Swept is every control of
model.controls, the one of the voices voice by voice. In turn the other controls are

- unset;
- held: at the real bar's own. Where density is swept the bar's mix of voices is scaled to the hits asked for
  (no mix is asked where it can't be, see scaled_mix), and where a voice is swept density goes along by as
  many hits as the voice gains;
- held, mix unset (density alone): the others held, the voices left to the model.

Longer windows are windows of the split joined and played in one go; bars and targets are the same in all
lengths. What is asked and what is played are Bars, see utils.playing.controls.
"""

import numpy as np
import torch

from data_aug import unset_controls
from model.bars import BarGrid
from model.controls import CONTROLS
from utils.evaluation.sets import BARS
from utils.midi.drums import N_VOICES, VOICES
from utils.playing.controls import Bars, measure, to_model_units
from utils.playing.request import strengths_of

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
ALWAYS = [name for name in MEASURED if not SWEPT[name].optional]  # known to every model


def known_to(model, drawn, length):
    """The sweeps of `drawn`, {sweep: (n_bars,)}, whose control the model knows, for windows of so many bars:
    nothing is asked of how like the bar before their first is."""
    known = {name: target for name, target in drawn.items() if SWEPT[name].name in model.controls}
    if "steady" in known:
        first = np.arange(len(known["steady"])) % length == 0
        known["steady"] = np.where(first, np.nan, known["steady"])
    return known


def modes_of(sweep):
    return ("unset", "held", "held, mix unset") if sweep == "density" else ("unset", "held")


def column(bars, sweep):
    """What a sweep is about, (n,) of bars."""
    values = bars[SWEPT[sweep].name]
    return values if values.ndim == 1 else values[:, VOICES.index(sweep)]


def repeated(grid, n):
    """The grid of n windows, one after the other."""
    return BarGrid(grid.beats * n, grid.n_steps * n)


def measure_bars(rolls, grid):
    """What was played in windows (..., T, V) with the bars of a grid: the Bars of all in a row."""
    onset, vel = (roll.reshape(-1, N_VOICES) for roll in rolls[:2])
    return measure(onset, vel, repeated(grid, len(onset) // grid.n_steps))


def own_bars(windows):
    """What the real bars of Windows have, window after window, with their styles."""
    style = windows.batch["style"][:, list(windows.grid.starts)].numpy().ravel()
    return Bars(measure_bars(windows.rolls, windows.grid) | {"style": style})


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
    """{sweep: (n_bars,)} what is asked of each bar: whole hits, MIDI velocities, ids out of `styles`, if
    any."""
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
    asked = Bars.unset(len(target)) if mode == "unset" else own.part(slice(len(target)))
    if sweep in VOICES:
        asked["density"] = asked["density"] + target - column(asked, sweep)  # stays NaN where it is unset
        column(asked, sweep)[:] = target
        return asked
    if sweep == "density" and mode == "held":
        asked["instrument"] = scaled_mix(asked["instrument"], target, most)
    elif sweep == "density":
        asked["instrument"][:] = np.nan
    asked[sweep] = target
    return asked


def scaled_mix(voices, hits, most):
    """The mix of `voices` (n, V) hits a bar scaled to add up to `hits` (n,), in whole hits, by largest
    remainder; no voice above `most`, and silent voices stay silent. NaN where that can't be."""
    wanted = voices / np.maximum(voices.sum(1, keepdims=True), 1) * hits[:, None]
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
    grid, batch = repeated(windows.grid, n), joined(unset_controls(windows.batch), n)
    n_windows, n_steps = batch["mask"].shape
    played = {}
    # steady is asked with the guidance that it has of its own; a view more for all others would cost a third
    for names, guidance in (
        ([name for name in drawn if name != "steady"], None),
        ([name for name in drawn if name == "steady"], strengths_of(player.guidance)),
    ):
        sweeps, parts = [(name, mode) for name in names for mode in modes_of(name)], []
        for name, mode in sweeps:
            asked = ask(name, mode, drawn[name][: n_windows * length], own, grid.longest)
            curves = to_model_units(asked, player.model.normalize_factor, repeated(grid, n_windows))
            curves = {of: x.reshape(n_windows, n_steps, *x.shape[2:]) for of, x in curves.items()}
            parts.append(batch | {of: torch.from_numpy(x) for of, x in curves.items()})
        if not sweeps:
            continue
        together = {name: torch.cat([part[name] for part in parts]) for name in batch}
        rolls = player.play(together, 1, f"controls, {length} bars", guidance=guidance)
        rolls = [roll.reshape(len(sweeps), n_windows, *roll.shape[2:]) for roll in rolls]
        played |= {sweep: [roll[index] for roll in rolls] for index, sweep in enumerate(sweeps)}
    return played, grid
