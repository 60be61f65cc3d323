"""Tempo and meter along a piece of music: where its bar lines are, and when each tick sounds."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np

from model.bars import LONGEST_BAR, SHORTEST_BAR, BarGrid, bar_of_meter, beat_lines, beats_of
from utils.checks import ArgumentError
from utils.midi.smf import STEADY

MAX_BARS = 4096  # of what is read or played; more is a stray event far out, not music


def nearest_step(tick, tpq, down_sample_tpq=4):
    """The step that ticks, whole numbers, are nearest to, the later of two: floor(x + 0.5). In whole numbers,
    so that a note on the edge between two steps never depends on rounding. tpq: ticks per quarter note."""
    return (2 * tick * down_sample_tpq + tpq) // (2 * tpq)


@dataclass(frozen=True)
class Timeline:
    """A tempo map and meters, in ticks of `tpq` to the quarter note.

    tempos: ((tick, microseconds per quarter note), ...); meters: ((tick, numerator, denominator), ...); in
    order of time, one for a tick, the first of each at tick 0.
    """

    tpq: int = 480
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

    def in_meter(self, meter=None, pickup=None, down_sample_tpq=4):
        """The same in other meters, as read_meters takes them, of which the last goes on; None: its own.
        pickup: the steps of a short bar that comes first; what was the first bar begins after it."""
        events, start = list(self.meters), Fraction(0)
        if meter is not None:
            events = []
            for numerator, denominator in read_meters(meter):
                if not events or events[-1][1:] != (numerator, denominator):
                    events.append((round(start), numerator, denominator))
                start += self._bar(numerator, denominator)
        if pickup is not None:
            first = round(Fraction(pickup * self.tpq, down_sample_tpq))
            if meter is not None:
                events = [(tick + first, *rest) for tick, *rest in events]
            else:
                begun = [rest for tick, *rest in events if tick <= first][-1]
                events = [(first, *begun)] + [event for event in events if event[0] > first]
            events.insert(0, (0, *_in_short(pickup, 4 * down_sample_tpq)))
        return replace(self, meters=tuple(events))

    def in_bars(self, grid):
        """The same in the bars of a BarGrid."""
        return self.in_meter([meter_of(beats) for beats in grid.beats])

    def with_meters_of(self, other):
        """The same in the meters of another Timeline, at the nearest ticks."""
        meters = [(round(Fraction(tick * self.tpq, other.tpq)), *rest) for tick, *rest in other.meters]
        return replace(self, meters=tuple(meters))

    def meters_again(self, after, times):
        """The same with the meters of the first `after` ticks (a bar line) over and over, so many times."""
        loop = [meter for meter in self.meters if meter[0] < after]
        if len(loop) == 1:
            return replace(self, meters=tuple(loop))
        meters = [(round(tick + time * after), *rest) for time in range(times) for tick, *rest in loop]
        return replace(self, meters=tuple(meters))

    def at_least(self, tpq):
        """The same in finer ticks, at least `tpq`, a whole number of them to each old one: nothing moves."""
        factor = ceil(tpq / self.tpq)
        return self._map(lambda tick: tick * factor, tpq=self.tpq * factor)

    def later(self, ticks):
        """The same with everything `ticks` later; the first tempo and meter hold from the beginning."""
        return self._map(lambda tick: tick + ticks if tick else 0)

    def _map(self, move, **changes):
        for name in ("tempos", "meters"):
            changes[name] = tuple((move(tick), *rest) for tick, *rest in getattr(self, name))
        return replace(self, **changes)

    def seconds(self, tick):
        """The time of each tick (an array of any shape), in seconds."""
        tick = np.asarray(tick, np.float64)
        starts, microseconds, segment = self._tempos_at(tick)
        pace = microseconds / 1e6 / self.tpq  # seconds per tick, from each start on
        begins = np.concatenate([[0.0], np.cumsum(np.diff(starts) * pace[:-1])])
        return begins[segment] + (tick - starts[segment]) * pace[segment]

    def bpm_of(self, tick):
        """The tempo at each tick (an array of any shape), in quarter notes per minute."""
        _, microseconds, which = self._tempos_at(tick)
        return 60e6 / microseconds[which]

    def _tempos_at(self, tick):
        """The ticks of the tempos, their microseconds, and which of them holds at each tick."""
        starts, microseconds = (np.array(column, np.float64) for column in zip(*self.tempos))
        return starts, microseconds, np.searchsorted(starts, tick, side="right") - 1

    def bpm(self):
        """The tempo in quarter notes per minute, as text: "96", or "90 to 120" where it changes."""
        slowest, fastest = (f"{60e6 / pick(pace for _, pace in self.tempos):.4g}" for pick in (max, min))
        return slowest if slowest == fastest else f"{slowest} to {fastest}"

    def _bar(self, numerator, denominator):
        return Fraction(4 * self.tpq * numerator, denominator)

    def _stretches(self):
        """(begin, end, numerator, denominator) of each meter; end: the tick of the next, None of the last."""
        ends = [start for start, _, _ in self.meters[1:]] + [None]
        return [(start, end, *meter) for (start, *meter), end in zip(self.meters, ends)]

    def first_bar(self):
        """The length of a bar of the first meter, also where another one cuts it short."""
        return ceil(self._bar(*self.meters[0][1:]))

    def bar_line(self, tick):
        """The first bar line at or after a tick (>= 0, whole or not). A new meter begins a bar."""
        for start, end, *meter in self._stretches():
            if end is None or tick <= end:
                bar = self._bar(*meter)
                line = ceil(start + ceil((Fraction(tick) - start) / bar) * bar)
                return line if end is None else min(line, end)

    def bars_until(self, tick):
        """How many bars the first ticks are, a Fraction: the bar of a tick is int(bars_until(tick)) + 1."""
        count = 0
        for start, end, *meter in self._stretches():
            bars = Fraction((tick if end is None else min(tick, end)) - start) / self._bar(*meter)
            if end is None or tick < end:
                return count + bars
            count += ceil(bars)

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

    def grid(self, n_steps, down_sample_tpq=4, longest_bar=LONGEST_BAR):
        """The BarGrid of the bars that the first n_steps fill or begin, the last of them whole.

        Each line of a beat is at the nearest step. A new meter begins a bar, which may cut the one before it
        short. A bar of more than longest_bar steps is divided between its beats; one of fewer than
        SHORTEST_BAR belongs to the bar before it, or to the one after it.
        """
        if self.meters == ((0, 4, 4),):
            return BarGrid.four_four(n_steps, down_sample_tpq).whole()
        bars, n_read = [], 0
        step = Fraction(self.tpq, down_sample_tpq)
        for tick, end, numerator, denominator in self._stretches():
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
                bars += _divided(bar, longest_bar) if bar else []
                n_read = lines[-1]
                begin += sum(beats)
        grid = BarGrid.of_beats(_joined(bars, longest_bar))
        return grid.cut(0, int(np.searchsorted(grid.starts, n_steps)))

    def meters_within(self, n_steps, down_sample_tpq=4):
        """The different meters (numerator, denominator) of the first n_steps, in order of time."""
        step = Fraction(self.tpq, down_sample_tpq)
        return list(dict.fromkeys((n, d) for tick, n, d in self.meters if tick < n_steps * step))

    def misfits(self, n_steps, down_sample_tpq=4, longest_bar=LONGEST_BAR):
        """Those of meters_within whose bars are no whole number of steps, SHORTEST_BAR to longest_bar, or
        begin between two steps, so that the grid has the nearest in their place."""
        step, found = Fraction(self.tpq, down_sample_tpq), []
        for tick, *meter in self.meters:
            length, begin = self._bar(*meter) / step, tick / step
            fits = SHORTEST_BAR <= length <= longest_bar and length.denominator == begin.denominator == 1
            if begin < n_steps and not fits:
                found.append(tuple(meter))
        return list(dict.fromkeys(found))

    def loop_end(self, midi):
        """The end of the tracks of these notes (utils.midi.read.MidiNotes, with at least one), where it is a
        bar line after the last onset and within MAX_BARS; else None."""
        end = int(midi.ends[np.unique(midi.track)].max())
        fits = int(midi.tick.max()) < end <= MAX_BARS * 4 * self.tpq
        return end if fits and self.bar_line(end) == end else None

    def end_of(self, midi, down_sample_tpq=4):
        """The bar line at which the notes of a file end: that on which their tracks end, see loop_end, or
        else the next one after the last note, with all of the last hit's step.

        A note that rings for a quarter or less beyond a bar line ends on it.
        """
        loop = self.loop_end(midi)
        if loop is not None:
            return loop
        step = Fraction(self.tpq, down_sample_tpq)
        last_step = nearest_step(int(midi.tick.max()), self.tpq, down_sample_tpq)
        held_until = int((midi.tick + midi.duration).max())
        return self.bar_line(max(held_until - self.tpq, last_step * step + step / 2))


def read_meters(meter, longest_bar=LONGEST_BAR):
    """[(numerator, denominator)] of a meter, "3/4" or (3, 4), or of several, one for each bar: a list, or
    text with commas. Raises ArgumentError where one is no meter, or its bar not of 2 to longest_bar steps."""
    several = meter.split(",") if isinstance(meter, str) else meter
    rule = "it must be a meter such as '3/4' of 2 to 32 sixteenths, or a list with one for each bar"
    meters = []
    try:
        for one in several if isinstance(several, list) else [several]:
            if isinstance(one, (int, np.integer)):  # so many steps
                one = _in_short(int(one), 16)
            length = sum(bar_of_meter(one))
            meters.append(tuple(map(int, one.split("/") if isinstance(one, str) else one)))
            if length > longest_bar:
                rule = f"this model was trained on bars of up to {longest_bar} sixteenths"
                raise ValueError
    except (ValueError, TypeError):
        raise ArgumentError("meter", meter, rule) from None
    if not meters:
        raise ArgumentError("meter", meter, rule)
    return meters


def meter_of(beats):
    """The meter (numerator, denominator) of a bar, the lengths of its beats in steps; of several that are as
    long the one with these beats, where there is one."""
    meter = _in_short(sum(beats), 16)
    while meter[1] < 16 and bar_of_meter(meter) != tuple(beats):
        meter = 2 * meter[0], 2 * meter[1]
    return meter if bar_of_meter(meter) == tuple(beats) else _in_short(sum(beats), 16)


def _in_short(numerator, denominator):
    """The meter in units of quarters, or the longest shorter ones that it is whole in: 4/16 is 1/4."""
    while denominator > 4 and numerator % 2 == 0:
        numerator, denominator = numerator // 2, denominator // 2
    return numerator, denominator


def _divided(beats, longest_bar):
    """A bar, as the lengths of its beats, in as many bars of at most longest_bar steps as it takes."""
    beats = [part for beat in beats for part in _equal_parts(beat, -(-beat // longest_bar))]
    n_bars = -(-sum(beats) // longest_bar)
    bars = [[]]
    for beat in beats:
        if sum(bars[-1]) * n_bars >= sum(beats) or sum(bars[-1]) + beat > longest_bar:
            bars.append([])
        bars[-1].append(beat)
    return bars


def _equal_parts(length, n):
    return [(length * (i + 1)) // n - (length * i) // n for i in range(n)]


def _joined(bars, longest_bar):
    """The bars, those of fewer than SHORTEST_BAR steps joined with the last beat of the bar before them, or
    the first one of all with the first beat of the bar after it."""
    joined = []
    for bar in bars:
        if len(joined) == 1 and sum(joined[0]) < SHORTEST_BAR and sum(bar) < longest_bar:
            joined[-1] = [joined[-1][0] + bar[0], *bar[1:]]
        elif joined and sum(bar) < SHORTEST_BAR and sum(joined[-1]) < longest_bar:
            joined[-1] = [*joined[-1][:-1], joined[-1][-1] + sum(bar)]
        else:
            joined.append(list(bar))
    return joined
