"""Drums without end, a bar at a time, under controls that may change from bar to bar."""

import math
from dataclasses import replace

import numpy as np
import torch

from model.bars import BarGrid
from model.controls import CONTROLS, controls_of
from model.decoding.sampling import given_controls
from model.decoding.streaming import Stream
from utils.checks import ArgumentError
from utils.device import few_threads, on_cpu
from utils.get_model import given_model
from utils.midi.timeline import read_meters
from utils.playing.bar_lines import BarLines
from utils.playing.generate import batch_of, in_eval_mode, is_loose, make_plan
from utils.playing.request import Dials, with_arguments_of
from utils.playing.rolls import MAX_RHYTHM_STEPS, as_floats, beat_of, drum_rolls, looped, read_rhythm, three
from utils.playing.swing import AS_THE_RHYTHM, Swing

RULES = "at_most", "playable", "lock", "feel", "swing"
ANEW = "drums", "lock", "meter"  # what the rhythm starts anew with
NO_RHYTHM = None, None, None
SWING_BARS = 8


class Jam:
    """Bars without end: onset, vel, timeoffset, float32 (num_samples, steps, 9), on the model's device.

        bars = Jam(*process_midi("rhythm.mid"), style="funk", seed=1)
        for onset, vel, time in bars:
            bars.change(density=1.5, instrument=None)  # from the next bar on; all other arguments stay

    The rhythm, filled up to whole bars, repeats; without one the model plays by itself. The arguments are
    those of `generate`, except that a control is one value for the bar (style: a name, an id or a blend) or,
    if all bars are equally long, a curve of the bar's steps (16 in 4/4), whose mean counts. Locked voices,
    and the bars of a meter for each bar, repeat with the rhythm, all from their first bars. The same seed,
    rhythms and changes give the same bars. Until the rhythm repeats they are those of `generate` with the
    same controls. Only swing differs a little: it is measured in the last SWING_BARS bars, in `generate` in
    all. And a drummer's own hits count more as long as nothing is asked, where `generate` knows from the
    first bar on what will be.

    It keeps the decoder's window and no more, so it may run for days. Raises ValueError as `generate` does,
    and is then as it was.
    """

    @on_cpu
    @with_arguments_of(Dials, *CONTROLS, without=["best_of"])
    def __init__(
        self,
        piano_roll_onset=None,
        piano_roll_vel=None,
        piano_roll_timeoffset=None,
        density=None,
        intensity=None,
        instrument=None,
        style=None,
        *,
        model=None,
        drums=None,
        meter=None,
        **more,
    ):
        controls = {"density": density, "intensity": intensity, "instrument": instrument, "style": style}
        controls |= {name: more.pop(name, None) for name in CONTROLS if name not in controls}
        self.model, self.dials = given_model(model), Dials(**more)
        self.device = next(self.model.parameters()).device
        loose = is_loose(self.model, self.dials.rhythm_is) and self.dials.followed is not None
        self.stream = Stream(self.model, self.dials.num_samples, **self.dials.for_model(self.device, loose))
        self.asked, self.drawn = {name: getattr(self.dials, name) for name in RULES}, []
        rhythm = piano_roll_onset, piano_roll_vel, piano_roll_timeoffset
        self.change(rhythm, drums=drums, meter=meter, **controls)

    def __iter__(self):
        return self

    @on_cpu
    def __next__(self):
        with in_eval_mode(self.model):
            number, bar = self.stream.next_bar, self.stream.next_grid()
            if bar != self.bar:
                even = self.stream.grid.even
                self.bar, self.controls = bar, self._controls(self.asked, self.dials, bar, even)
            here = self.stream.grid.steps_of(number)
            forbid = self.controls["forbid"] | self.silent[here, None]
            drums = self.stream.bar(controls_of(self.controls), forbid, self.controls["limit"])
            closed = forbid[0].cpu()
            if "known_vel" in self.stream.encoded:
                closed = closed | self.stream.encoded["known_vel"][0, here].cpu()
            return self._with_swing(replace(self.feel, feel=self.felt)(drums, number), bar, closed)

    def _with_swing(self, drums, bar, closed):
        """The bar, of a BarGrid, with the swing that is asked of it; closed (S, 9): cells that stay as they
        are."""
        limit = self.controls["limit"]
        self.drawn = [*self.drawn, (bar, closed, drums)][-SWING_BARS:]
        bars, closed, drawn = zip(*self.drawn)
        rolls = [torch.cat(roll, 1) for roll in zip(*drawn)]
        grid = BarGrid.of_beats(beats for bar in bars for beats in bar.beats)
        if limit is not None:  # it is the same on all steps
            limit = limit[0, :1].cpu().expand(grid.n_steps, -1, -1)
        bent = Swing(grid, np.full(grid.n_bars, self._ratio()), torch.cat(closed), limit)(rolls)
        return tuple(roll[:, -bar.n_steps :] for roll in bent)

    def _ratio(self):
        """The swing of the next bar, NaN where none is asked."""
        ratio = np.nan if self.ratio is None else self.ratio.over(1)[0]
        return self.heard_swing if ratio == AS_THE_RHYTHM else ratio

    @on_cpu
    def change(self, rhythm=(), **changes):
        """From the next bar on: a new rhythm (onset, vel, timeoffset), which starts at its first bar, or None
        for none; density, intensity, instrument, style; at_most, playable, feel, swing; drums, lock and
        meter, with which the rhythm starts anew. What is not named stays as it is."""
        names = *CONTROLS, *RULES, *ANEW
        for name in changes.keys() - {*names}:
            rule = f"can't be changed; it must be rhythm, {', '.join(dict.fromkeys(names))}"
            raise ArgumentError(name, changes[name], rule, "")
        asked, heard_anew = self.asked | changes, not changes.keys().isdisjoint(ANEW)
        if not isinstance(rhythm, tuple) or rhythm != ():
            asked["rhythm"] = NO_RHYTHM if rhythm is None else three(rhythm, "rhythm")
            heard_anew = True
        dials = replace(self.dials, **{name: asked[name] for name in RULES})
        rolls, grid = self._loop(asked, dials) if heard_anew else (None, self.stream.grid)
        bar = grid.cut(0, 1) if heard_anew else self.stream.next_grid()
        controls = self._controls(asked, dials, bar, grid.even)
        if heard_anew:
            self._hear(rolls, grid, asked["drums"], dials)
        self.asked, self.bar, self.controls = asked, bar, controls
        self.felt, self.ratio = dials.felt, dials.ratio
        self.stream.follow = dials.follow_of(self.own and not given_controls(controls_of(controls)))

    def _controls(self, asked, dials, bar, even):
        """Of one bar, a BarGrid. even: whether it is as long as all others."""
        curves = {name: self._curve(asked[name], name, bar.n_steps, even) for name in CONTROLS}
        dials = replace(dials, **{name: asked[name] for name in RULES} | {"lock": None})
        inputs, _ = self._plan(dials, bar, NO_RHYTHM, curves)
        return inputs["controls"] | {"forbid": inputs["forbid"], "limit": inputs["limit"]}

    def _curve(self, value, name, steps, even):
        """One value for the bar as a curve of its steps; a curve, and a style in words, as it is."""
        if value is None or isinstance(value, (str, dict)):
            return value
        width = CONTROLS[name].width
        shape, size = ((), "a number") if width is None else ((width,), f"{width} numbers")
        rule = f"it must be {size}" + f", or a curve of the bar's {steps} steps" * even
        try:
            curve = as_floats(value, name)
        except ArgumentError:
            raise ArgumentError(name, value, rule) from None
        if curve.shape == shape:
            return curve.expand(steps, *shape)
        if steps not in curve.shape[:2] or not even:
            raise ArgumentError(name, value, rule, f"shape {tuple(curve.shape)}")
        return curve

    def _loop(self, asked, dials):
        """What comes round: the rhythm's rolls, or None where nothing is heard, and the BarGrid of all bars
        until rhythm and locked voices come round together."""
        rolls, reach = read_rhythm(asked["rhythm"], MAX_RHYTHM_STEPS)
        lines, drums = BarLines.in_meter(self.model, asked["meter"]), asked["drums"]
        n_bars = max(lines.of_steps(reach).n_bars, len(read_meters(asked["meter"] or "4/4")))
        grid = lines.of_bars(n_bars)
        if not reach and dials.locked is None and drums is None:
            return None, grid
        again = steps = grid.n_steps
        if drums is not None:
            drums = drum_rolls(drums, beat=beat_of(asked["meter"]))
            again = math.lcm(steps, len(drums[0]))
            if again > MAX_RHYTHM_STEPS:
                found = f"{len(drums[0])} steps, to a rhythm of {steps}"
                rule = f"they come round together after {again} steps; {MAX_RHYTHM_STEPS} is the most"
                raise ArgumentError("drums", None, rule, found)
        n_bars *= again // steps
        grid = lines.round_again(steps, n_bars).of_bars(n_bars)
        return looped([roll[:steps] for roll in rolls], again) if reach else NO_RHYTHM, grid

    def _hear(self, rolls, grid, drums, dials):
        """Give the stream whole bars of the rhythm and the locked voices."""
        dials = replace(dials, swing="rhythm")
        inputs, plan = self._plan(dials, grid, rolls or NO_RHYTHM, {}, drums=drums)
        names = ("rhythm", "use_context", "use_latent", "known", "rhythm_is")
        heard = {"rhythm": None} if rolls is None else {name: inputs[name] for name in names}
        with in_eval_mode(self.model), few_threads(grid.n_steps * dials.num_samples, self.device):
            self.stream.set_rhythm(**heard, grid=grid)
        self.own, self.feel, self.silent = plan.own, plan.feel, plan.silent.to(self.device)
        self.heard_swing = plan.swing.ratio[0]

    def _plan(self, dials, grid, *asked, **more):
        """The inputs of a Plan, for all versions, and the Plan."""
        plan = make_plan(self.model, dials, grid.n_steps, *asked, grid_of=lambda steps: grid, **more)
        return batch_of(plan.inputs, dials.num_samples, self.device), plan
