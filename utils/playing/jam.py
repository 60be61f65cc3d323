"""Drums that go on until they are told to stop, a bar at a time, under controls that may change from bar to bar."""

import math

import torch

from model.controls import CONTROLS, controls_of
from model.decoding.streaming import Stream
from utils.checks import (
    GUIDANCE,
    MAX_RHYTHM_STEPS,
    as_floats,
    check_temperature,
    drum_rolls,
    how_followed,
    in_eval_mode,
    laid_out,
    limits,
    locked_cells,
    make_generator,
    roll,
    strengths,
    three,
    whole,
)
from utils.get_model import given_model
from utils.midi.drums import N_VOICES
from utils.playing.controls import bar_means, control_curve, nearest_possible, style_steps
from utils.playing.generate import as_heard

RULES = "at_most", "playable"
LOCKED = "drums", "lock"


class Jam:
    """An endless iterator of bars, each onset, vel, timeoffset, float32 (num_samples, 16, 9) on the model's device.

        bars = Jam(*process_midi("rhythm.mid"), style="funk", seed=1)
        for onset, vel, time in bars:
            bars.change(density=1.5, instrument=None)  # from the next bar on; what is not named stays

    The rhythm, filled up to whole bars, is heard over and over; without one the model plays by itself. The arguments
    are those of `generate`, but that a control is one for the whole bar: density and intensity a z-score, instrument
    nine shares (below zero: forbidden), style a name, an id or a blend; None leaves it to the model. Or a curve of the
    bar's 16 steps, of which the mean is asked for. Locked voices come round with the rhythm, both from their first bars.
    The same seed, rhythms and changes give the same bars; as long as the rhythm has not come round, those that `generate`
    plays under the same controls.

    It keeps the decoder's window and no more, so it may run for days. Errors are ValueErrors that name the argument,
    the value and the rule, and leave the jam as it was.
    """

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
        seed=None,
        temperature=1.0,
        guidance=GUIDANCE,
        follow="literal",
        num_samples=1,
        drums=None,
        lock=None,
        at_most=None,
        playable=False,
    ):
        temperature = check_temperature(temperature)
        self.follow, guidance = how_followed(follow), strengths(guidance)
        self.model = given_model(model)
        self.num_samples = whole(num_samples, "num_samples")
        self.device = next(self.model.parameters()).device
        generator, followed = make_generator(seed, self.device), 1.0 if self.follow is None else self.follow
        self.stream = Stream(self.model, self.num_samples, temperature, guidance, followed, generator)
        self.controls, self.rules, self.heard = {}, {}, {}
        rhythm = (piano_roll_onset, piano_roll_vel, piano_roll_timeoffset)
        self.change(
            rhythm,
            density=density,
            intensity=intensity,
            instrument=instrument,
            style=style,
            at_most=at_most,
            playable=playable,
            drums=drums,
            lock=lock,
        )

    def __iter__(self):
        return self

    def __next__(self):
        with in_eval_mode(self.model):
            rules = {name: rule for name, rule in self.controls.items() if name not in CONTROLS}
            return self.stream.bar(controls_of(self.controls), **rules)

    def change(self, rhythm=(), **changes):
        """From the next bar on: a new rhythm (onset, vel, timeoffset), which starts at its first bar, or None for none;
        density, intensity, instrument, style; at_most, playable; drums and lock, with which the rhythm starts anew. What
        is not named stays as it is."""
        asked, rules, heard = {}, dict(self.rules), dict(self.heard)
        for name, value in changes.items():
            if name in CONTROLS:
                asked |= self._control(name, value)
            elif name in RULES:
                rules[name] = value
            elif name in LOCKED:
                heard[name] = value
            else:
                raise ValueError(
                    f"{name}: can't be changed; it must be rhythm, {', '.join((*CONTROLS, *RULES, *LOCKED))}"
                )
        if rules != self.rules:
            limit = limits(**rules, seq_len=self.model.steps_per_bar)
            asked["limit"] = None if limit is None else self._rows(limit)
        new = rhythm != () if isinstance(rhythm, tuple) else True
        if new:
            heard["rhythm"] = (None,) * 3 if rhythm is None else three(rhythm, "rhythm")
        if new or heard.keys() & changes.keys():
            self._hear(**heard)
        self.controls |= asked
        self.rules, self.heard = rules, heard

    def _control(self, name, value):
        """What a bar is asked, as arguments for Stream.bar."""
        S, every = self.model.steps_per_bar, torch.ones(self.model.steps_per_bar, dtype=torch.bool)
        if name == "style":
            steps = style_steps(value if isinstance(value, (str, dict)) else self._curve(value, name), S)
            return {name: self._rows(bar_means(steps, every, S) if steps.ndim > 1 else steps)}
        if name == "instrument":
            curve = control_curve(self._curve(value, name), name, S, N_VOICES)
            asked = bar_means(curve.clamp(0, 1), every, S)
            return {name: self._rows(asked), "forbid": self._rows(curve < 0)}
        curve = nearest_possible(
            control_curve(self._curve(value, name), name, S), *self.model.normalize_factor[name]
        )
        return {name: self._rows(bar_means(curve, every, S))}

    def _curve(self, value, name):
        """One value for the bar as a curve of its steps; a curve as it is."""
        if value is None:
            return None
        shape = (N_VOICES,) if name == "instrument" else ()
        S, size = self.model.steps_per_bar, f"{N_VOICES} numbers" if shape else "a number"
        try:
            curve = as_floats(value, name)
        except ValueError:
            raise ValueError(f"{name}: {value!r}; it must be {size}, or a curve of the bar's steps") from None
        if curve.shape == shape:
            return curve.expand(S, *shape)
        if S not in curve.shape[:2]:
            raise ValueError(
                f"{name}: shape {tuple(curve.shape)}; it must be {size}, or a curve of the bar's {S} steps"
            )
        return curve

    def _hear(self, rhythm, drums, lock):
        S, silent = self.model.steps_per_bar, all(roll is None for roll in rhythm)
        steps = S if silent else -(-len(roll(rhythm[0], "piano_roll_onset", 0, 1)) // S) * S
        *rolls, _ = laid_out(rhythm, steps)
        known = locked_cells(lock, drums, steps)
        if silent and known is None:
            self.stream.set_rhythm(None)
            return
        if known is not None:
            turn = len(drum_rolls(drums)[0])
            again = math.lcm(steps, turn)
            if again > MAX_RHYTHM_STEPS:
                raise ValueError(
                    f"drums: {turn} steps, to a rhythm of {steps}; they come round together after {again} steps, and that "
                    f"must be {MAX_RHYTHM_STEPS} at most"
                )
            rolls, steps = [roll.repeat(again // steps, 1) for roll in rolls], again
            known = {name: self._rows(roll) for name, roll in locked_cells(lock, drums, again).items()}
        rolls, *use = as_heard(rolls, steps, self.follow, S, known is not None, False)
        with in_eval_mode(self.model):
            self.stream.set_rhythm(
                [self._rows(roll) for roll in rolls], *(part.to(self.device) for part in use), known
            )

    def _rows(self, x):
        return x.expand(self.num_samples, *x.shape).to(self.device)
