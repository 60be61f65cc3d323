"""Where every step is in its bar. Works on NumPy arrays and on tensors alike.

Shapes: T steps, N bars, L steps of the longest bar. `dim`: the dimension of the steps, or bars.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch

BEATS_PER_BAR = 4
SHORTEST_BAR, LONGEST_BAR = 2, 32  # steps


def beats_of(numerator, denominator):
    """How the beats of a bar fall: the length of each in units of the denominator, which add up to the
    numerator.

    Halves and quarters are beats. Of shorter units three make a beat (6/8 = 3 + 3) where the numerator is a
    multiple of three, else two, and of an odd number the last three (7/8 = 2 + 2 + 3).
    """
    if denominator <= 4 or numerator == 1:
        return (1,) * numerator
    if numerator % 3 == 0:
        return (3,) * (numerator // 3)
    return (2,) * (numerator // 2 - 1) + (2 + numerator % 2,)


def beat_lines(lengths, first=0):
    """The lines that beats begin and end on, at the nearest steps: lengths in steps, whole or fractions, the
    first beat at `first`. Two beats may share a line."""
    return [int(line + Fraction(1, 2)) for line in accumulate(lengths, initial=Fraction(first))]


def bar_of_meter(meter, steps_per_beat=4):
    """The lengths of the beats of one bar, in steps: of a meter ("3/4", or (3, 4)), or of a bar of so many
    steps, whose beats are quarters and what is left, with the last one where that is a single step.

    A meter that is no whole number of steps is read as the nearest that is. Raises ValueError, naming the
    meter, where that is not SHORTEST_BAR to LONGEST_BAR steps long.
    """
    if isinstance(meter, (int, np.integer)):
        whole, rest = divmod(int(meter), steps_per_beat)
        beats = (steps_per_beat,) * whole + ((rest,) if rest else ())
        if rest == 1 and whole:
            beats = (*beats[:-2], steps_per_beat + 1)
    else:
        try:
            numerator, denominator = map(int, meter.split("/") if isinstance(meter, str) else meter)
            if numerator < 1 or denominator < 1 or denominator & (denominator - 1):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"meter: {meter!r}; two numbers such as 3/4 are expected, the second 1, 2, 4, 8 ..."
            ) from None
        unit = Fraction(4 * steps_per_beat, denominator)
        lines = beat_lines(unit * beat for beat in beats_of(numerator, denominator))
        beats = tuple(end - start for start, end in pairwise(lines) if end > start)
    if not SHORTEST_BAR <= sum(beats) <= LONGEST_BAR:
        raise ValueError(
            f"meter: {meter!r} has {sum(beats)} steps; a bar has {SHORTEST_BAR} to {LONGEST_BAR}"
        )
    return beats


class StepIndex(NamedTuple):
    """Of every step, (T,) integers, or (B, T) of a BatchGrid."""

    bar: object  # which bar it is in, from 0
    place: object  # which step of the bar it is, from 0
    length: object  # how many steps the bar has
    beat: object  # which beat of the bar it is in, from 0
    place_in_beat: object  # 0 where a beat begins
    beat_length: object  # how many steps the beat has


@dataclass(frozen=True)
class BarGrid:
    """The bars of T steps. The last bar may be cut short: then `missing` of its steps do not exist.

    beats: of each bar the lengths of its beats, in steps; the bar's length is their sum. n_steps: T.
    """

    beats: tuple
    n_steps: int

    @classmethod
    def four_four(cls, n_steps, steps_per_beat):
        """Bars of four equal beats, as many as n_steps fill or begin."""
        return _four_four(int(n_steps), int(steps_per_beat))

    @classmethod
    def four_four_bars(cls, n_bars, steps_per_beat):
        """So many whole bars of four equal beats."""
        return cls.four_four(n_bars * BEATS_PER_BAR * steps_per_beat, steps_per_beat)

    @classmethod
    def of(cls, meters, n_steps=None, steps_per_beat=4):
        """Bars of any meters, see bar_of_meter: one for all bars, or a list with one for each, of which the
        last goes on to n_steps; without n_steps the bars are as many as the meters."""
        meters = meters if isinstance(meters, list) else [meters]
        bars = [bar_of_meter(meter, steps_per_beat) for meter in meters]
        if n_steps is None:
            return cls.of_beats(bars)
        starts = list(accumulate(map(sum, bars), initial=0))
        more = -(-max(0, n_steps - starts[-1]) // sum(bars[-1]))
        used = [bar for bar, start in zip(bars, starts) if start < n_steps]
        return cls.of_beats(used + bars[-1:] * more, n_steps)

    @classmethod
    def of_beats(cls, beats, n_steps=None):
        """The grid of these bars, see `beats`, the last of them whole without n_steps."""
        beats = tuple(map(tuple, beats))
        return _shared(beats, sum(map(sum, beats)) if n_steps is None else n_steps)

    def __post_init__(self):
        most, least = sum(self.lengths), sum(self.lengths[:-1])
        if not (least < self.n_steps <= most or self.n_steps == most):
            raise ValueError(
                f"n_steps: {self.n_steps}; the last bar must end it, {least + 1} to {most} steps"
            )

    @cached_property
    def lengths(self):
        """Of each bar its length in steps, (N,) ints; the last bar's is that of the whole bar."""
        return tuple(map(sum, self.beats))

    @cached_property
    def starts(self):
        """Of each bar its first step, (N,) ints."""
        return tuple(accumulate(self.lengths, initial=0))[:-1]

    @cached_property
    def lines(self):
        """The steps of the N + 1 bar lines, the last of which ends the last bar."""
        return (*self.starts, sum(self.lengths))

    @property
    def n_bars(self):
        return len(self.beats)

    @property
    def longest(self):
        """L."""
        return max(self.lengths, default=0)

    @property
    def missing(self):
        """How many steps the last bar lacks."""
        return sum(self.lengths) - self.n_steps

    def __str__(self):
        """How many bars they are: 2.75 where the last of three lacks a quarter."""
        return f"{self.n_bars - self.missing / max(self.lengths[-1:], default=1):g}"

    @cached_property
    def even(self):
        """Whether all bars have the same length."""
        return len(set(self.lengths)) < 2

    def whole(self):
        """The same bars, the last of them whole."""
        return _shared(self.beats, sum(self.lengths)) if self.missing else self

    def cut(self, first, last):
        """The grid of the bars from `first` up to, not including, `last`."""
        here = self.steps_of(first, last)
        return _shared(self.beats[first:last], here.stop - here.start)

    def up_to(self, n_steps, steps_per_beat=4):
        """The grid of the first n_steps; beyond its last bar, whole there, come bars of 4/4."""
        if n_steps > sum(self.lengths):
            more = BarGrid.four_four(n_steps - sum(self.lengths), steps_per_beat).beats
            return _shared(self.beats + more, n_steps)
        n_bars = sum(start < n_steps for start in self.starts)
        return _shared(self.beats[:n_bars], n_steps)

    def steps_of(self, first, last=None):
        """The steps of a bar, or of the bars from `first` up to, not including, `last`, as a slice."""
        last = first + 1 if last is None else last
        return slice(self.lines[first], min(self.lines[last], self.n_steps))

    def bars(self):
        """The steps of every bar, as slices, in order."""
        return map(self.steps_of, range(self.n_bars))

    def line(self, number):
        """The step of a bar line, numbered from 0; or of an array of them. Too high a number: the last."""
        return np.array(self.lines).take(number, mode="clip")

    def bars_within(self, n_steps):
        """How many whole bars lie within the first n_steps, an integer or an array of them."""
        return np.searchsorted(self.lines[1:], n_steps, side="right")

    # ------------------------------------------------------------------------- of every step

    @cached_property
    def index(self):
        """The StepIndex in NumPy arrays."""
        lengths = np.array([beat for bar in self.beats for beat in bar], np.int64)
        beats_in = np.array([len(bar) for bar in self.beats], np.int64)
        bar_of_beat = np.repeat(np.arange(self.n_bars), beats_in)
        number = np.arange(len(lengths)) - np.repeat(np.cumsum(beats_in) - beats_in, beats_in)
        beat = np.repeat(np.arange(len(lengths)), lengths)[: self.n_steps]
        step, bar = np.arange(self.n_steps), bar_of_beat[beat]
        starts, bar_lengths = np.array(self.starts, np.int64), np.array(self.lengths, np.int64)
        place_in_beat = step - (np.cumsum(lengths) - lengths)[beat]
        of_step = bar, step - starts[bar], bar_lengths[bar], number[beat], place_in_beat, lengths[beat]
        return StepIndex(*of_step)

    def on(self, device):
        """The StepIndex in tensors on a device. They are kept: a GPU is waited for only once."""
        return StepIndex(*(self._tensor(name, device) for name in StepIndex._fields))

    def _array(self, name):
        return getattr(self.index if name in StepIndex._fields else self, name)

    def _tensor(self, name, device):
        key = name, torch.device(device)
        if key not in self._tensors:
            with torch.inference_mode(False):  # what was made while playing may be used in training
                self._tensors[key] = torch.from_numpy(self._array(name)).to(device)
        return self._tensors[key]

    @cached_property
    def _tensors(self):
        return {}

    def _take(self, x, name, dim):
        """x along dim at the indices of that name, whose shape takes the place of dim."""
        index = self._tensor(name, x.device) if torch.is_tensor(x) else self._array(name)
        return x[(slice(None),) * dim + (index,)]

    @cached_property
    def _first(self):
        return np.array(self.starts, np.int64)

    @cached_property
    def table(self):
        """(N, L): the step at each place of each bar, T where there is none."""
        place = np.arange(self.longest)
        step = np.array(self.starts, np.int64)[:, None] + place
        exists = (place < np.array(self.lengths)[:, None]) & (step < self.n_steps)
        return np.where(exists, step, self.n_steps)

    @cached_property
    def _cell(self):
        """(T,): where each step is in the flattened (N, L)."""
        return self.index.bar * self.longest + self.index.place

    # ------------------------------------------------------------------------- bars of arrays

    def fill(self, x, value=0, dim=1):
        """x (..., T, ...) with the value on the steps that the last bar lacks: whole bars."""
        return _extended(x, self.missing, value, dim) if self.missing else x

    def by_bar(self, x, dim=1):
        """x (..., T, ...) -> (..., N, L, ...): the steps of each bar, zeros where there is no step."""
        dim %= x.ndim
        if self.even:
            shape = (*x.shape[:dim], self.n_bars, self.longest, *x.shape[dim + 1 :])
            return self.fill(x, dim=dim).reshape(shape)
        return self._take(_extended(x, 1, 0, dim), "table", dim)

    def by_step(self, x, dim=1):
        """The way back from by_bar: x (..., N, L, ...) -> (..., T, ...)."""
        dim %= x.ndim
        x = x.reshape(*x.shape[:dim], self.n_bars * self.longest, *x.shape[dim + 2 :])
        if self.even:
            return x[(slice(None),) * dim + (slice(0, self.n_steps),)]
        return self._take(x, "_cell", dim)

    def spread(self, x, dim=1):
        """One value per bar, x (..., N, ...), for each of its steps, (..., T, ...)."""
        return self._take(x, "bar", dim % x.ndim)

    def at_starts(self, x, dim=1):
        """The values at each bar's first step: x (..., T, ...) -> (..., N, ...)."""
        return self._take(x, "_first", dim % x.ndim)

    def sums(self, x, dim=1):
        """The sum over each bar's steps: x (..., T, ...) -> (..., N, ...)."""
        dim %= x.ndim
        return self.by_bar(x, dim).sum(dim + 1)

    def sums_before(self, x, dim=1):
        """For each step the sum over the earlier steps of its bar: x (..., T, ...) -> (..., T, ...)."""
        dim %= x.ndim
        bars = self.by_bar(x, dim)
        return self.by_step(bars.cumsum(dim + 1) - bars, dim)

    def means(self, curve, mask):
        """Give all steps of a bar the mean of its steps that are valid and set; NaN where there are none.

        curve: tensor (T,) or (T, D), NaN where unset; mask (T,) bool.
        """
        valid = mask.reshape(-1, *[1] * (curve.ndim - 1))
        curve = curve.masked_fill(~valid, torch.nan)
        bars = [curve[here] for here in self.bars()]
        return torch.cat([bar.nanmean(0, keepdim=True).expand_as(bar) for bar in bars])


@lru_cache(maxsize=4096)
def _shared(beats, n_steps):
    """Equal grids are one object, which makes its arrays and tensors once."""
    return BarGrid(beats, n_steps)


@lru_cache(maxsize=256)
def _four_four(n_steps, steps_per_beat):
    bar = (steps_per_beat,) * BEATS_PER_BAR
    return _shared((bar,) * -(-n_steps // sum(bar)), n_steps)


def _extended(x, n, value, dim):
    """x with n more steps of the value at the end of dim."""
    shape = (*x.shape[:dim], n, *x.shape[dim + 1 :])
    if torch.is_tensor(x):
        return torch.cat((x, x.new_full(shape, value)), dim)
    return np.concatenate((x, np.full(shape, value, x.dtype)), dim)
