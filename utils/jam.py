"""Drums that go on until they are told to stop, a bar at a time, under controls that may change from bar to bar."""

import torch

from model.streaming import Stream
from utils.checks import FOLLOW, GUIDANCE, check_playing, in_eval_mode, laid_out, make_generator, whole
from utils.controls import bar_means, control_curve, nearest_possible, style_steps
from utils.drums import N_VOICES
from utils.get_model import last_model


class Jam:
    """An endless iterator of bars, each onset, vel, timeoffset, float32 (num_samples, 16, 9) on the model's device.

        bars = Jam(*process_midi("rhythm.mid"), style="funk", seed=1)
        for onset, vel, time in bars:
            bars.change(density=1.5, instrument=None)  # from the next bar on; what is not named stays

    The rhythm, filled up to whole bars, is heard over and over; without one the model plays by itself. The arguments
    are those of `generate`, but that a control is one for the whole bar: density and intensity a z-score, instrument
    nine shares (below zero: forbidden), style a name or an id; None leaves it to the model. Or a curve of the bar's 16
    steps, of which the mean is asked for. The same seed, rhythms and changes give the same bars; as long as the rhythm
    has not come round, those that `generate` plays under the same controls.

    It keeps the decoder's window and no more, so it may run for days. Errors are ValueErrors that name the argument,
    the value and the rule, and leave the jam as it was.
    """

    def __init__(
        self, piano_roll_onset=None, piano_roll_vel=None, piano_roll_timeoffset=None,
        density=None, intensity=None, instrument=None, style=None,
        *, model=None, seed=None, temperature=1.0, guidance=GUIDANCE, follow="literal", num_samples=1,
    ):  # fmt: skip
        check_playing(follow, temperature, guidance)
        self.model = last_model() if model is None else model
        self.follow, self.num_samples = follow, whole(num_samples, "num_samples")
        self.device = next(self.model.parameters()).device
        self.stream = Stream(self.model, self.num_samples, temperature, guidance, make_generator(seed, self.device))
        self.controls = {}
        rhythm = (piano_roll_onset, piano_roll_vel, piano_roll_timeoffset)
        self.change(rhythm, density=density, intensity=intensity, instrument=instrument, style=style)

    def __iter__(self):
        return self

    def __next__(self):
        with in_eval_mode(self.model):
            return self.stream.bar(**self.controls)

    def change(self, rhythm=(), **controls):
        """From the next bar on: a new rhythm (onset, vel, timeoffset), which starts at its first bar, or None for none;
        density, intensity, instrument, style. What is not named stays as it is."""
        asked = {}
        for name, value in controls.items():
            if name not in ("density", "intensity", "instrument", "style"):
                raise ValueError(f"{name}: no control; the controls are density, intensity, instrument and style")
            asked |= self._control(name, value)
        if rhythm is None or len(rhythm):
            self._hear(rhythm)
        self.controls |= asked

    def _control(self, name, value):
        """What a bar is asked, as arguments for Stream.bar."""
        S, every = self.model.steps_per_bar, torch.ones(self.model.steps_per_bar, dtype=torch.bool)
        if name == "style":
            return {name: self._rows(style_steps(value if isinstance(value, str) else self._curve(value, name), S))}
        if name == "instrument":
            curve = control_curve(self._curve(value, name), name, S, N_VOICES)
            asked = bar_means(curve.clamp(0, 1), every, S)
            return {name: self._rows(asked), "forbid": self._rows(curve < 0)}
        curve = nearest_possible(control_curve(self._curve(value, name), name, S), *self.model.normalize_factor[name])
        return {name: self._rows(bar_means(curve, every, S))}

    def _curve(self, value, name):
        """One value for the bar as a curve of its steps; a curve as it is."""
        if value is None:
            return None
        shape = (N_VOICES,) if name == "instrument" else ()
        try:
            value = torch.as_tensor(value, dtype=torch.float32)
        except (TypeError, ValueError):
            size = f"{N_VOICES} numbers" if shape else "a number"
            raise ValueError(f"{name}: {value!r}; it must be {size}, or a curve of the bar's steps") from None
        return value.expand(self.model.steps_per_bar, *shape) if value.shape == shape else value

    def _hear(self, rhythm):
        if rhythm is None or rhythm[0] is None:
            self.stream.hear(None)
            return
        S = self.model.steps_per_bar
        steps = -(-torch.as_tensor(rhythm[0]).shape[-2] // S) * S
        *rolls, _ = laid_out(rhythm, steps)
        with in_eval_mode(self.model):
            self.stream.hear([self._rows(roll) for roll in rolls], *FOLLOW[self.follow])

    def _rows(self, x):
        return x.expand(self.num_samples, *x.shape).to(self.device)
