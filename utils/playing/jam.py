"""Drums without end, a bar at a time, under controls that may change from bar to bar."""

import math
from dataclasses import replace

import numpy as np
import torch

from model.bars import BarGrid
from model.controls import CONTROLS, controls_of
from model.decoding.streaming import Stream
from utils.checks import ArgumentError
from utils.device import few_threads, on_cpu
from utils.get_model import given_model
from utils.playing.generate import batch_of, in_eval_mode, make_plan
from utils.playing.request import Dials, with_arguments_of
from utils.playing.rolls import MAX_RHYTHM_STEPS, as_floats, drum_rolls, looped, read_rhythm, three
from utils.playing.swing import AS_THE_RHYTHM, Swing, swing_of

RULES = "at_most", "playable", "lock", "feel", "swing"
NO_RHYTHM = None, None, None
SWING_BARS = 8


class Jam:
    """Bars without end: onset, vel, timeoffset, float32 (num_samples, 16, 9), on the model's device.

        bars = Jam(*process_midi("rhythm.mid"), style="funk", seed=1)
        for onset, vel, time in bars:
            bars.change(density=1.5, instrument=None)  # from the next bar on; what is not named stays

    The rhythm, filled up to whole bars, is heard over and over; without one the model plays by itself. The
    arguments are those of `generate`, but that a control is one value for the bar (style: a name, an id or a
    blend), or a curve of the bar's 16 steps, of which the mean is asked for. Locked voices come round with
    the rhythm, both from their first bars. The same seed, rhythms and changes give the same bars; as long as
    the rhythm has not come round, those that `generate` plays under the same controls. Only swing differs a
    little: it is measured in the last SWING_BARS that were drawn, where `generate` measures all.

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
        **more,
    ):
        controls = {"density": density, "intensity": intensity, "instrument": instrument, "style": style}
        controls |= {name: more.pop(name, None) for name in CONTROLS if name not in controls}
        self.model, self.dials = given_model(model), Dials(**more)
        self.grid = self.model.grid(1).whole()  # of one bar
        self.device = next(self.model.parameters()).device
        self.stream = Stream(self.model, self.dials.num_samples, **self.dials.for_model(self.device))
        self.asked, self.drawn = {name: getattr(self.dials, name) for name in RULES}, []
        self.change((piano_roll_onset, piano_roll_vel, piano_roll_timeoffset), drums=drums, **controls)

    def __iter__(self):
        return self

    @on_cpu
    def __next__(self):
        with in_eval_mode(self.model):
            bar = self.stream.next_bar
            here = self.stream.grid.steps_of(bar)
            forbid = self.controls["forbid"] | self.silent[here, None]
            drums = self.stream.bar(controls_of(self.controls), forbid, self.controls["limit"])
            closed = forbid[0].cpu()
            if "known_vel" in self.stream.encoded:
                closed = closed | self.stream.encoded["known_vel"][0, here].cpu()
            return self._with_swing(replace(self.feel, feel=self.felt)(drums, bar), closed)

    def _with_swing(self, drums, closed):
        """The bar with the swing that is asked of it; closed (S, 9): cells that stay as they are."""
        self.drawn = [*self.drawn, (*drums, closed)][-SWING_BARS:]
        *rolls, closed = zip(*self.drawn)
        rolls, limit = [torch.cat(roll, 1) for roll in rolls], self.controls["limit"]
        limit = None if limit is None else limit[0].cpu().repeat(len(self.drawn), 1, 1)
        bars = BarGrid.of_beats(self.grid.beats * len(self.drawn))
        bent = Swing(bars, np.full(bars.n_bars, self._ratio()), torch.cat(closed), limit)(rolls)
        return tuple(roll[:, -self.grid.n_steps :] for roll in bent)

    def _ratio(self):
        """The swing of the next bar, NaN where none is asked."""
        ratio = np.nan if self.ratio is None else self.ratio.over(1)[0]
        return self.heard_swing if ratio == AS_THE_RHYTHM else ratio

    @on_cpu
    def change(self, rhythm=(), **changes):
        """From the next bar on: a new rhythm (onset, vel, timeoffset), which starts at its first bar, or None
        for none; density, intensity, instrument, style; at_most, playable, feel, swing; drums and lock, with
        which the rhythm starts anew. What is not named stays as it is."""
        names = *CONTROLS, *RULES, "drums"
        for name in changes.keys() - {*names}:
            rule = f"can't be changed; it must be rhythm, {', '.join(names)}"
            raise ArgumentError(name, changes[name], rule, "")
        asked, heard_anew = self.asked | changes, not changes.keys().isdisjoint(("drums", "lock"))
        if not isinstance(rhythm, tuple) or rhythm != ():
            asked["rhythm"] = NO_RHYTHM if rhythm is None else three(rhythm, "rhythm")
            heard_anew = True
        dials = replace(self.dials, **{name: asked[name] for name in RULES})
        curves = {name: self._curve(asked[name], name) for name in CONTROLS}
        bar, _ = self._plan(replace(dials, lock=None), self.grid.n_steps, NO_RHYTHM, curves)
        if heard_anew:
            self._hear(asked["rhythm"], asked["drums"], dials)
        self.controls = bar["controls"] | {"forbid": bar["forbid"], "limit": bar["limit"]}
        self.asked, self.felt, self.ratio = asked, dials.felt, dials.ratio

    def _curve(self, value, name):
        """One value for the bar as a curve of its steps; a curve, and a style in words, as it is."""
        if value is None or isinstance(value, (str, dict)):
            return value
        width, steps = CONTROLS[name].width, self.grid.n_steps
        shape, size = ((), "a number") if width is None else ((width,), f"{width} numbers")
        rule = f"it must be {size}, or a curve of the bar's {steps} steps"
        try:
            curve = as_floats(value, name)
        except ArgumentError:
            raise ArgumentError(name, value, rule) from None
        if curve.shape == shape:
            return curve.expand(steps, *shape)
        if steps not in curve.shape[:2]:
            raise ArgumentError(name, value, rule, f"shape {tuple(curve.shape)}")
        return curve

    def _hear(self, rhythm, drums, dials):
        """Give the stream whole bars of the rhythm and the locked voices, until both come round together."""
        rolls, reach = read_rhythm(rhythm, MAX_RHYTHM_STEPS)
        unheard = not reach and dials.locked is None and drums is None
        again = steps = self.grid.n_steps * max(1, -(-reach // self.grid.n_steps))
        if drums is not None:
            drums = drum_rolls(drums)
            again = math.lcm(steps, len(drums[0]))
            if again > MAX_RHYTHM_STEPS:
                found = f"{len(drums[0])} steps, to a rhythm of {steps}"
                rule = f"they come round together after {again} steps; {MAX_RHYTHM_STEPS} is the most"
                raise ArgumentError("drums", None, rule, found)
        self.heard_swing = swing_of(*(roll[:steps].numpy() for roll in rolls), self.model.grid(steps))
        rolls = looped([roll[:steps] for roll in rolls], again) if reach else NO_RHYTHM
        inputs, plan = self._plan(dials, again, rolls, {}, drums=drums)
        names = ("rhythm", "use_context", "use_latent", "known", "rhythm_is")
        heard = [None] if unheard else [inputs[name] for name in names]
        with in_eval_mode(self.model), few_threads(again * dials.num_samples, self.device):
            self.stream.set_rhythm(*heard)
        self.feel, self.silent = plan.feel, plan.silent.to(self.device)

    def _plan(self, dials, *asked, **more):
        """The inputs of a Plan, for all versions, and the Plan."""
        plan = make_plan(self.model, dials, *asked, **more)
        return batch_of(plan.inputs, dials.num_samples, self.device), plan
