"""Tempo and meter along a piece of music: where its bar lines are, and when each tick sounds."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np

from model.bars import LONGEST_BAR, SHORTEST_BAR, BarGrid, beat_lines, beats_of
from utils.midi.smf import STEADY

MAX_BARS = 4096  # of what is read or played; more is a stray event far out, not music


@dataclass(frozen=True)
class Timeline:
    """A tempo map and meters, in ticks of `tpq` to the quarter note.

    tempos: ((tick, microseconds per quarter note), ...); meters: ((tick, numerator, denominator), ...); in
    order of time, one for a tick, the first of each at tick 0.
    """

    tpq: int
    tempos: tuple = ((0, STEADY),)
    meters: tuple = ((0, 4, 4),)

    @classmethod
    def of(cls, midi):
        """That of a file (utils.midi.read.MidiNotes): of several events at one tick the last holds, and
        before the first one 120 bpm and 4/4 do, as in all MIDI."""
        tempos = {0: STEADY} | {tick: round(60e6 / bpm) for tick, bpm in midi.tempos}
        meters = {0: (4, 4)} | {tick: (n, d) for tick, n, d in midi.meters}
        return cls(midi.tpq, tuple(tempos.items()), tuple((tick, *meter) for tick, meter in meters.items()))

    @classmethod
    def steady(cls, bpm, tpq):
        """One tempo throughout, in quarter notes per minute, and 4/4."""
        return cls(tpq, ((0, round(60e6 / bpm)),))

    def at_least(self, tpq):
        """The same in finer ticks, at least `tpq`, a whole number of them to each old one: nothing moves."""
        factor = ceil(tpq / self.tpq)
        return self._map(lambda tick: tick * factor, tpq=self.tpq * factor)

    def later(self, ticks):
        """The same with everything `ticks` later; the first tempo and meter hold from the beginning."""
        return self._map(lambda tick: tick + ticks if tick else 0)

    def _map(self, move, **changes):
        tempos, meters = (
            tuple((move(tick), *rest) for tick, *rest in events) for events in (self.tempos, self.meters)
        )
        return replace(self, tempos=tempos, meters=meters, **changes)

    def seconds(self, tick):
        """The time of each tick (an array of any shape), in seconds."""
        tick = np.asarray(tick, np.float64)
        starts, microseconds = (np.array(column, np.float64) for column in zip(*self.tempos))
        pace = microseconds / 1e6 / self.tpq  # seconds per tick, from each start on
        begins = np.concatenate([[0.0], np.cumsum(np.diff(starts) * pace[:-1])])
        segment = np.searchsorted(starts, tick, side="right") - 1
        return begins[segment] + (tick - starts[segment]) * pace[segment]

    def bpm_of(self, tick):
        """The tempo at each tick (an array of any shape), in quarter notes per minute."""
        starts, microseconds = (np.array(column, np.float64) for column in zip(*self.tempos))
        return 60e6 / microseconds[np.searchsorted(starts, tick, side="right") - 1]

    def bpm(self):
        """The tempo in quarter notes per minute, as text: "96", or "90 to 120" where it changes."""
        slowest, fastest = (f"{60e6 / pick(pace for _, pace in self.tempos):.4g}" for pick in (max, min))
        return slowest if slowest == fastest else f"{slowest} to {fastest}"

    def _bar(self, numerator, denominator):
        return Fraction(4 * self.tpq * numerator, denominator)

    def first_bar(self):
        """The length of a bar of the first meter, also where another one cuts it short."""
        return ceil(self._bar(*self.meters[0][1:]))

    def bar_line(self, tick):
        """The first bar line at or after a tick (>= 0, whole or not). A new meter begins a bar."""
        ends = [start for start, _, _ in self.meters[1:]] + [None]
        for (start, numerator, denominator), end in zip(self.meters, ends):
            if end is None or tick <= end:
                bar = self._bar(numerator, denominator)
                line = ceil(start + ceil((Fraction(tick) - start) / bar) * bar)
                return line if end is None else min(line, end)

    def beats_before(self, tick):
        """The ticks of the beats of the last bar that ends at or before a tick; none in the first bar."""
        lines = [0]
        while (line := self.bar_line(lines[-1] + 1)) <= tick:
            lines.append(line)
        if len(lines) == 1:
            return []
        begin, end = lines[-2:]
        _, numerator, denominator = max(meter for meter in self.meters if meter[0] <= begin)
        beats = beat_lines((self._bar(n, denominator) for n in beats_of(numerator, denominator)), begin)
        return [beat for beat in beats if beat < end]

    def grid(self, n_steps, down_sample_tpq=4):
        """The BarGrid of the bars that the first n_steps (at least 1) fill or begin, the last of them whole.

        Each line of a beat is at the nearest step. A new meter begins a bar, which may cut the one before it
        short. A bar of more than LONGEST_BAR steps is divided between its beats; one of fewer than
        SHORTEST_BAR belongs to the bar before it, or to the one after it.
        """
        bars, n_read = [], 0
        step = Fraction(self.tpq, down_sample_tpq)
        ends = [start for start, _, _ in self.meters[1:]] + [None]
        for (tick, numerator, denominator), end in zip(self.meters, ends):
            unit = self._bar(1, denominator) / step
            beats = [unit * beat for beat in beats_of(numerator, denominator)]
            if sum(beats) < SHORTEST_BAR:  # as many of its bars as make one
                beats = [ceil(SHORTEST_BAR / sum(beats)) * sum(beats)]
            begin, end = tick / step, None if end is None else end / step
            while n_read < n_steps and (end is None or begin < end):
                lines = beat_lines(beats, begin)
                if end is not None:
                    lines = [min(line, *beat_lines((), end)) for line in lines]
                bar = [after - before for before, after in pairwise(lines) if after > before]
                bars += _divided(bar) if bar else []
                n_read = lines[-1]
                begin += sum(beats)
        grid = BarGrid.of_beats(_joined(bars))
        return grid.cut(0, int(np.searchsorted(grid.starts, n_steps)))

    def fits(self, n_steps, down_sample_tpq=4):
        """Whether the bars of the first n_steps are whole numbers of steps, SHORTEST_BAR to LONGEST_BAR, so
        that the grid has them as they are."""
        step = Fraction(self.tpq, down_sample_tpq)
        lengths = [self._bar(n, d) / step for tick, n, d in self.meters if tick < n_steps * step]
        return all(SHORTEST_BAR <= length <= LONGEST_BAR and length == int(length) for length in lengths)

    def loop_end(self, midi):
        """The end of the tracks of these notes (utils.midi.read.MidiNotes, with at least one), where it is a
        bar line after the last onset and within MAX_BARS; else None."""
        end = int(midi.ends[np.unique(midi.track)].max())
        fits = int(midi.tick.max()) < end <= MAX_BARS * 4 * self.tpq
        return end if fits and self.bar_line(end) == end else None

    def end_of(self, midi, down_sample_tpq=4):
        """The bar line at which the notes of a file end: that on which their tracks end, see loop_end, or
        else the next one after the last note, with all of the last hit's step.

        A note that is held less than half a step beyond a bar line ends on it.
        """
        loop = self.loop_end(midi)
        if loop is not None:
            return loop
        step = Fraction(self.tpq, down_sample_tpq)
        last_step = (2 * int(midi.tick.max()) * down_sample_tpq + self.tpq) // (2 * self.tpq)
        held_until = int((midi.tick + midi.duration).max())
        return self.bar_line(max(held_until, (last_step + 1) * step) - step / 2)


def _divided(beats):
    """A bar, as the lengths of its beats, in as many bars of at most LONGEST_BAR steps as it takes."""
    beats = [part for beat in beats for part in _equal_parts(beat, -(-beat // LONGEST_BAR))]
    n_bars = -(-sum(beats) // LONGEST_BAR)
    bars = [[]]
    for beat in beats:
        if sum(bars[-1]) * n_bars >= sum(beats) or sum(bars[-1]) + beat > LONGEST_BAR:
            bars.append([])
        bars[-1].append(beat)
    return bars


def _equal_parts(length, n):
    return [(length * (i + 1)) // n - (length * i) // n for i in range(n)]


def _joined(bars):
    """The bars, those of fewer than SHORTEST_BAR steps joined with the last beat of the bar before them, or
    the first one of all with the first beat of the bar after it."""
    joined = []
    for bar in bars:
        if len(joined) == 1 and sum(joined[0]) < SHORTEST_BAR and sum(bar) < LONGEST_BAR:
            joined[-1] = [joined[-1][0] + bar[0], *bar[1:]]
        elif joined and sum(bar) < SHORTEST_BAR and sum(joined[-1]) < LONGEST_BAR:
            joined[-1] = [*joined[-1][:-1], joined[-1][-1] + sum(bar)]
        else:
            joined.append(list(bar))
    return joined
