"""Drums without end, a bar at a time, under controls that may change from bar to bar."""

import math

from model.controls import CONTROLS, controls_of
from model.decoding.streaming import Stream
from utils.checks import ArgumentError
from utils.get_model import given_model
from utils.playing.controls import for_model, read_curves
from utils.playing.generate import (
    as_heard,
    check_known,
    check_lock,
    in_eval_mode,
    kind_of_rhythm,
    lock_voices,
    make_generator,
)
from utils.playing.request import Dials, with_arguments_of
from utils.playing.rolls import (
    MAX_RHYTHM_STEPS,
    as_floats,
    drum_rolls,
    limits,
    looped,
    read_rhythm,
    read_roll,
    three,
    voice_mask,
)

RULES = "at_most", "playable"
LOCKED = "drums", "lock"


class Jam:
    """Bars without end: onset, vel, timeoffset, float32 (num_samples, 16, 9), on the model's device.

        bars = Jam(*process_midi("rhythm.mid"), style="funk", seed=1)
        for onset, vel, time in bars:
            bars.change(density=1.5, instrument=None)  # from the next bar on; what is not named stays

    The rhythm, filled up to whole bars, is heard over and over; without one the model plays by itself. The
    arguments are those of `generate`, but that a control is one for the whole bar: density and intensity a
    z-score, instrument nine shares (below zero: forbidden), style a name, an id or a blend; None leaves it to
    the model. Or a curve of the bar's 16 steps, of which the mean is asked for. Locked voices come round with
    the rhythm, both from their first bars. The same seed, rhythms and changes give the same bars; as long as
    the rhythm has not come round, those that `generate` plays under the same controls.

    It keeps the decoder's window and no more, so it may run for days. Errors are ValueErrors that name the
    argument, the value and the rule, and leave the jam as it was.
    """

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
        generator = make_generator(self.dials.seed, self.device)
        dials = self.dials.for_model() | {"generator": generator}
        self.stream = Stream(self.model, self.dials.num_samples, **dials)
        self.controls, self.rules, self.heard = {}, {}, {}
        rules = {name: getattr(self.dials, name) for name in (*RULES, "lock")} | {"drums": drums}
        self.change((piano_roll_onset, piano_roll_vel, piano_roll_timeoffset), **controls, **rules)

    def __iter__(self):
        return self

    def __next__(self):
        with in_eval_mode(self.model):
            rules = {name: self.controls.get(name) for name in ("forbid", "limit")}
            return self.stream.bar(controls_of(self.controls), **rules)

    def change(self, rhythm=(), **changes):
        """From the next bar on: a new rhythm (onset, vel, timeoffset), which starts at its first bar, or None
        for none; density, intensity, instrument, style; at_most, playable; drums and lock, with which the
        rhythm starts anew. What is not named stays as it is."""
        controls, rules, heard = {}, dict(self.rules), dict(self.heard)
        for name, value in changes.items():
            if name in CONTROLS:
                controls |= self._control(name, value)
            elif name in RULES:
                rules[name] = value
            elif name in LOCKED:
                heard[name] = value
            else:
                rule = f"can't be changed; it must be rhythm, {', '.join((*CONTROLS, *RULES, *LOCKED))}"
                raise ArgumentError(name, value, rule, "")
        if changes.keys() & set(RULES):
            limit = limits(**rules, seq_len=self.grid.n_steps)
            controls["limit"] = None if limit is None else self._rows(limit)
        new = not isinstance(rhythm, tuple) or rhythm != ()
        if new:
            heard["rhythm"] = (None,) * 3 if rhythm is None else three(rhythm, "rhythm")
        if new or changes.keys() & set(LOCKED):
            self._hear(**heard)
        self.controls |= controls
        self.rules, self.heard = rules, heard

    def _control(self, name, value):
        """A control of one bar, as arguments for Stream.bar."""
        value = value if isinstance(value, (str, dict)) else self._curve(value, name)
        curves, every = read_curves({name: value}, None, self.grid.n_steps, self.model.normalize_factor)
        check_known(self.model, curves)
        asked = {name: self._rows(for_model({name: curves[name]}, every, self.grid)[name])}
        return asked | ({"forbid": self._rows(curves[name] < 0)} if name == "instrument" else {})

    def _curve(self, value, name):
        """One value for the bar as a curve of its steps; a curve as it is."""
        if value is None:
            return None
        width, steps = CONTROLS[name].width, self.grid.n_steps
        shape, size = ((), "a number") if width is None else ((width,), f"{width} numbers")
        try:
            curve = as_floats(value, name)
        except ArgumentError:
            raise ArgumentError(name, value, f"it must be {size}, or a curve of the bar's steps") from None
        if curve.shape == shape:
            return curve.expand(steps, *shape)
        if steps not in curve.shape[:2]:
            rule = f"it must be {size}, or a curve of the bar's {steps} steps"
            raise ArgumentError(name, value, rule, f"shape {tuple(curve.shape)}")
        return curve

    def _hear(self, rhythm, drums, lock):
        """Give the stream whole bars of the rhythm and the locked voices, until both come round together."""
        bar, silent = self.grid.n_steps, all(roll is None for roll in rhythm)
        locked = None if lock is None or lock == () else voice_mask(lock, "lock")
        check_lock(drums, lock)
        steps = bar if silent else -(-len(read_roll(rhythm[0], "piano_roll_onset", 0, 1)) // bar) * bar
        rolls, _ = read_rhythm(rhythm, steps)
        if silent and locked is None:
            self.stream.set_rhythm(None)
            return
        known = None
        if locked is not None:
            drums = drum_rolls(drums)
            again = math.lcm(steps, len(drums[0]))
            if again > MAX_RHYTHM_STEPS:
                found = f"{len(drums[0])} steps, to a rhythm of {steps}"
                rule = f"they come round together after {again} steps; {MAX_RHYTHM_STEPS} is the most"
                raise ArgumentError("drums", None, rule, found)
            rolls, steps = looped(rolls, again), again
            known = lock_voices(None, drums, locked, again)
            known = {name: self._rows(cells) for name, cells in known.items()}
        rolls, *use = as_heard(rolls, steps, self.dials, self.model.grid(steps), known is not None, False)
        rolls, use = [self._rows(roll) for roll in rolls], [part.to(self.device) for part in use]
        kind = kind_of_rhythm(self.model, self.dials, None, steps)
        with in_eval_mode(self.model):
            self.stream.set_rhythm(rolls, *use, known, None if kind is None else self._rows(kind))

    def _rows(self, x):
        return x.expand(self.dials.num_samples, *x.shape).to(self.device)
