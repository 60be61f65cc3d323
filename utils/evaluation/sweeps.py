"""Sweeps: every bar is asked for something of its own, one control at a time, and the drums are played.

A target is drawn evenly from the range that real bars cover: the 2nd to the 98th percentile of the training bars; of
styles each comes as often, for four bars. The rhythm is heard as always. Swept are the hits of all voices (density),
their mean velocity (intensity), the hits of each voice, and the style. In turn the other controls are

- unset: nothing else is asked;
- held: at what the real bar has. Voices and the hits of all can't be asked for apart. So where density is swept the
  bar's own mix of voices is scaled to the hits that are asked (by largest remainder, a voice having a hit a step at
  most; where that falls short of the hits, or the bar is silent, the bar is asked for no mix), and where a voice is
  swept density goes along by as many hits as the voice gains;
- held, mix unset (density alone): intensity and style held, the voices left to the model.

Longer windows are real windows of the split, one after the other, played in one go; the bars and their targets are the
same in all lengths.
"""

import time

import numpy as np
import torch

from data_aug import unset_controls
from model.bars import BarGrid
from utils.evaluation.player import BARS
from utils.midi.drums import N_VOICES, VOICES
from utils.playing.controls import Bars, measure, to_model_units

PERCENTILES = 2, 98
SWEPT = ("density", "intensity", *VOICES, "style")
SEED = 4


def modes_of(control):
    """What is done with the other controls, in turn."""
    return ("unset", "held", "held, mix unset") if control == "density" else ("unset", "held")


def own_bars(windows, steps_per_bar):
    """What the real bars of Windows have, window after window: Bars with styles."""
    bars = measure_rolls(windows.rolls, steps_per_bar)
    bars["style"] = windows.batch["style"][:, ::steps_per_bar].numpy().ravel()
    return bars


def measure_rolls(rolls, steps_per_bar):
    """The Bars of rolls (..., T, 9), whole bars, one after the other."""
    onset, vel = (roll.reshape(-1, N_VOICES) for roll in rolls[:2])
    return measure(onset, vel, BarGrid.four_four(len(onset), steps_per_bar // 4))


def ranges(bars):
    """{control: (low, high)} that Bars of the training split cover, styles left out."""
    columns = {name: bars[name] for name in ("density", "intensity")} | dict(
        zip(VOICES, bars["instrument"].T)
    )
    covered = {name: np.nanpercentile(values, PERCENTILES) for name, values in columns.items()}
    for name, ends in covered.items():
        if name != "intensity":
            ends[:] = ends.round()
        ends[1] = max(ends[1], ends[0] + 1)  # a voice that hardly any bar has is asked for all the same
    return {name: (float(low), float(high)) for name, (low, high) in covered.items()}


def targets(covered, styles, n_bars):
    """{control: (n_bars,)} what each bar is asked for: whole hits, MIDI velocities, ids out of `styles`; no styles
    where there are none to ask for."""
    drawn = {}
    for index, control in enumerate(SWEPT):
        rng = np.random.default_rng([SEED, index])
        if control == "style" and len(styles):
            drawn[control] = np.repeat(rng.permutation(np.resize(styles, -(-n_bars // BARS))), BARS)[:n_bars]
        elif control == "intensity":
            drawn[control] = rng.uniform(*covered[control], n_bars)
        elif control != "style":
            low, high = covered[control]
            drawn[control] = rng.integers(int(low), int(high) + 1, n_bars).astype(np.float64)
    return drawn


def ask(control, mode, target, own):
    """Bars that ask for `target` (n,) of one control, the others as `mode` says. own: Bars that the real drums have."""
    n = len(target)
    nothing, held = Bars.unset(n), own.part(slice(n))
    asked = nothing if mode == "unset" else held
    if control == "density":
        asked["density"] = target
        if mode != "unset":
            mix = scaled_mix(own["instrument"][:n], target) if mode == "held" else nothing["instrument"]
            asked["instrument"] = mix
    elif control == "intensity":
        asked["intensity"] = target
    elif control == "style":
        asked["style"] = target
    else:
        voice = VOICES.index(control)
        asked["density"] += target - asked["instrument"][:, voice]  # stays NaN where it is unset
        asked["instrument"][:, voice] = target
    return asked


def scaled_mix(voices, hits, most=16):
    """The mix of `voices` (n, V) hits a bar scaled to add up to `hits` (n,), in whole hits, by largest remainder; no
    voice above `most`, and none that is silent is woken. NaN where that can't be."""
    share = voices / np.maximum(voices.sum(1, keepdims=True), 1)
    wanted = share * hits[:, None]
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
    """n windows after each other as one: a batch of W // n windows of n T steps; what is left over is dropped."""
    whole = len(batch["mask"]) // n
    return {name: tensor[: whole * n].reshape(whole, -1, *tensor.shape[2:]) for name, tensor in batch.items()}


def play_sweeps(player, windows, own, drawn, length):
    """All sweeps over windows of `length` bars, a multiple of BARS: {(control, mode): onset, vel, timeoffset}, each
    (W, T, V). own, drawn: as own_bars and targets give them."""
    batch = joined(unset_controls(windows.batch), length // BARS)
    steps_per_bar = player.model.steps_per_bar
    n_windows, n_steps = batch["mask"].shape
    n_bars = n_windows * length
    sweeps, parts = [(control, mode) for control in drawn for mode in modes_of(control)], []
    for control, mode in sweeps:
        bars = ask(control, mode, drawn[control][:n_bars], own)
        grid = BarGrid.four_four(n_windows * n_steps, steps_per_bar // 4)
        curves = to_model_units(bars, player.model.normalize_factor, grid)
        shaped = {name: x.reshape(n_windows, n_steps, *x.shape[2:]) for name, x in curves.items()}
        parts.append(batch | {name: torch.from_numpy(x) for name, x in shaped.items()})
    together = {name: torch.cat([part[name] for part in parts]) for name in batch}
    began, title = time.perf_counter(), f"controls, {length} bars"
    rolls = player.play(together, 1, title)
    player.seconds[title] = time.perf_counter() - began
    rolls = [roll.reshape(len(sweeps), n_windows, *roll.shape[2:]) for roll in rolls]
    return {sweep: [roll[index] for roll in rolls] for index, sweep in enumerate(sweeps)}
