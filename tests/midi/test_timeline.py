"""Tempo and meter: seconds as every reader has them, bar lines, and where a rhythm ends."""

import io

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.midi_files import meter, midi_bytes, note, tempo
from utils.midi.read import read_midi
from utils.midi.timeline import Timeline


def timeline_of(*tracks, tpq=480):
    return Timeline.of(read_midi(midi_bytes(*tracks, tpq=tpq)))


tempo_maps = st.lists(st.tuples(st.integers(0, 5000), st.floats(20, 300)), max_size=6)


@settings(max_examples=80)
@given(
    tempo_maps,
    st.sampled_from([24, 96, 220, 480, 960]),
    st.lists(st.integers(0, 6000), min_size=1, max_size=10),
)
def test_every_tick_sounds_when_a_reader_says_it_does(changes, tpq, ticks):
    changes = sorted(changes, key=lambda change: change[0])
    data = midi_bytes(
        [event for change in changes for event in tempo(*change)], note(max(ticks), 36), tpq=tpq
    )
    timeline, reader = Timeline.of(read_midi(data)), pretty_midi.PrettyMIDI(io.BytesIO(data))
    expected = [reader.tick_to_time(tick) for tick in ticks]
    np.testing.assert_allclose(timeline.seconds(ticks), expected, rtol=1e-9, atol=1e-9)
    finer = timeline.at_least(480)
    assert finer.tpq >= 480 and finer.tpq % tpq == 0
    np.testing.assert_allclose(
        finer.seconds(np.array(ticks) * finer.tpq // tpq), expected, rtol=1e-9, atol=1e-9
    )
    later = timeline.later(4 * tpq)
    lead_in = timeline.seconds(0) - later.seconds(0) + later.seconds(4 * tpq)
    np.testing.assert_allclose(
        later.seconds(np.array(ticks) + 4 * tpq) - lead_in, expected, rtol=1e-9, atol=1e-9
    )
    assert lead_in == pytest.approx(4 * timeline.tempos[0][1] / 1e6)


def test_a_file_that_says_nothing_is_in_four_four_at_120():
    assert timeline_of(note(0, 36)) == Timeline(480, ((0, 500_000),), ((0, 4, 4),))
    late = timeline_of(tempo(960, 60) + meter(1920, 3, 4), note(0, 36))
    assert late.tempos == ((0, 500_000), (960, 1_000_000)) and late.meters == ((0, 4, 4), (1920, 3, 4))


def test_of_several_events_at_one_tick_the_last_one_holds():
    both = timeline_of(
        tempo(0, 120) + tempo(0, 60) + meter(0, 4, 4) + meter(0, 6, 8) + tempo(480, 200) + tempo(480, 100)
    )
    assert both.tempos == ((0, 1_000_000), (480, 600_000)) and both.meters == ((0, 6, 8),)


def test_the_tempo_in_words():
    assert timeline_of(tempo(0, 97)).bpm() == "97"
    assert timeline_of(tempo(0, 90) + tempo(480, 120.5) + tempo(960, 100)).bpm() == "90 to 120.5"


@pytest.mark.parametrize(
    "meters, ticks, lines",
    [
        ([(0, 4, 4)], [0, 1, 1920, 1921], [0, 1920, 1920, 3840]),
        ([(0, 3, 4)], [1, 1440, 1441], [1440, 1440, 2880]),
        ([(0, 6, 8), (2880, 7, 8)], [1, 2000, 2881, 4560, 4561], [1440, 2880, 4560, 4560, 6240]),
        ([(0, 4, 4), (480, 4, 4)], [1, 480, 481], [480, 480, 2400]),  # an upbeat: the new meter begins a bar
        ([(0, 5, 128)], [1, 76], [75, 150]),
    ],
)
def test_bar_lines_are_those_of_the_meter(meters, ticks, lines):
    timeline = Timeline(480, meters=tuple(meters))
    assert [timeline.bar_line(tick) for tick in ticks] == lines


def test_bar_lines_move_with_all_else():
    timeline = Timeline(480, ((0, 500_000), (960, 400_000)), ((0, 3, 4), (1440, 4, 4)))
    assert timeline.first_bar() == 1440
    later = timeline.later(1440)
    assert later.tempos == ((0, 500_000), (2400, 400_000)) and later.meters == ((0, 3, 4), (2880, 4, 4))
    assert [later.bar_line(tick) for tick in (1, 1441, 2881)] == [1440, 2880, 4800]
    assert Timeline(480, meters=((0, 4, 4), (480, 4, 4))).first_bar() == 1920


@pytest.mark.parametrize(
    "events, end",
    [
        (note(0, 36), 1920),
        (note(1920 - 61, 36), 1920),
        (note(1920 - 60, 36), 1920),  # half a step early, but the track ends on the bar line
        (note(1920 - 60, 36, length=61), 3840),  # half a step early is the next bar's
        (note(960, 36) + [(3840, mido.MetaMessage("end_of_track"))], 3840),  # a bar's rest at the end
        (note(960, 36) + [(3841, mido.MetaMessage("end_of_track"))], 1920),
        (note(1920, 36, length=0), 3840),  # on the bar line is not before it
        (note(960, 36, length=2880 + 480), 3840),
        (note(0, 36, length=1920), 1920),
        (note(0, 36, length=1920 + 480), 1920),  # it rings over
        (note(0, 36, length=1920 + 481), 3840),
        (meter(0, 3, 4) + note(0, 36), 1440),
        (meter(0, 3, 4) + note(4 * 1440, 36), 5 * 1440),
        (meter(0, 7, 8) + note(0, 36), 1680),
        (note(0, 36, length=5000) + note(10, 38), 5760),
    ],
)
def test_a_rhythm_ends_on_the_bar_line_after_its_last_note(events, end):
    midi = read_midi(midi_bytes(events))
    assert Timeline.of(midi).end_of(midi) == end
    low = read_midi(midi_bytes([(tick * 2, message) for tick, message in events], tpq=960))
    assert Timeline.of(low).end_of(low) == 2 * end


def grid_of(*events, n_steps=64, tpq=480):
    return timeline_of(sum(events, note(0, 36)), tpq=tpq).grid(n_steps)


def test_bars_of_a_file_are_as_its_meters_say():
    assert grid_of().beats == ((4, 4, 4, 4),) * 4
    assert grid_of(meter(0, 3, 4)).beats == ((4, 4, 4),) * 6  # the last of them whole
    assert grid_of(meter(0, 6, 8), n_steps=13).beats == ((6, 6),) * 2
    assert grid_of(meter(0, 7, 8), n_steps=14).beats == ((4, 4, 6),)


def test_pickups_and_odd_bars_are_bars():
    pickup = grid_of(meter(0, 1, 4), meter(480, 4, 4), n_steps=20)
    assert pickup.beats == ((4,), (4, 4, 4, 4))
    short = grid_of(meter(240, 3, 4), n_steps=14)  # 4/4 until then, which an eighth cuts short
    assert short.beats == ((2,), (4, 4, 4))
    odd = grid_of(meter(1920, 2, 4), meter(2880, 4, 4), meter(4800, 12, 8), n_steps=64)
    assert odd.beats == ((4,) * 4, (4, 4), (4,) * 4, (6,) * 4)


def test_what_is_no_bar_of_2_to_32_steps_is_read_as_the_nearest():
    assert grid_of(meter(0, 9, 4), n_steps=36).beats == ((4,) * 5, (4,) * 4)
    thirds = grid_of(meter(0, 5, 32), n_steps=10)  # 2.5 steps: its lines stay the file's
    assert thirds.lines == (0, 3, 5, 8, 10)
    assert grid_of(meter(0, 1, 64), n_steps=8).lengths == (2,) * 4
    assert grid_of(meter(120, 4, 4), n_steps=17).beats == ((5, 4, 4, 4),)  # a pickup of one step
    assert grid_of(meter(1920, 3, 4), meter(2040, 4, 4), n_steps=17).lengths == (17,)


meter_maps = st.lists(
    st.tuples(st.integers(0, 40_000), st.integers(1, 255), st.sampled_from([1, 2, 4, 8, 16, 32, 2**40])),
    max_size=6,
)


@settings(max_examples=200)
@given(meter_maps, st.sampled_from([24, 96, 100, 480]), st.integers(1, 500))
def test_bars_of_any_file_are_of_possible_lengths_and_its_lines_are_bar_lines(meters, tpq, n_steps):
    meters = {0: (4, 4)} | {tick: (n, d) for tick, n, d in sorted(meters)}
    timeline = Timeline(tpq, meters=tuple((tick, *meter) for tick, meter in meters.items()))
    grid = timeline.grid(n_steps)
    assert grid.n_steps >= n_steps > grid.starts[-1] and grid.missing == 0
    assert all(1 <= length <= 32 for length in grid.lengths)
    assert all(beat >= 1 for bar in grid.beats for beat in bar)
    for length in grid.lengths[1:]:
        assert length >= 2 or 32 in grid.lengths
    for tick, (numerator, denominator) in meters.items():
        line = (2 * tick * 4 + tpq) // (2 * tpq)
        long = numerator * 16 / denominator >= 2  # shorter ones are joined
        nearby = [other for other in meters if 0 < abs(other - tick) < tpq]
        if line < n_steps and long and not nearby and line >= 2:
            assert {line, line - 1} & set(grid.lines)


def test_bars_are_counted_across_meters():
    timeline = Timeline(480, meters=((0, 4, 4), (960, 3, 4), (3840, 4, 4)))  # the first bar is cut short
    assert [timeline.bars_until(tick) for tick in (0, 480, 960, 2400, 3840, 4800)] == [0, 0.25, 1, 2, 3, 3.5]


def test_a_pickup_moves_the_first_bar_and_no_later_meter():
    later = Timeline(480, meters=((0, 3, 4), (1920, 6, 8)))
    assert later.in_meter(pickup=4).meters == ((0, 1, 4), (480, 3, 4), (1920, 6, 8))
    assert later.in_meter(pickup=4).in_meter(pickup=4) == later.in_meter(pickup=4)
    assert later.in_meter("5/8,5/8,3/4", pickup=3).meters == ((0, 3, 16), (360, 5, 8), (2760, 3, 4))
    assert Timeline(96).in_meter([8, (2, 4)], pickup=6).meters == ((0, 3, 8), (144, 2, 4))


def test_meters_whose_bars_the_grid_can_not_have_are_named():
    timeline = Timeline(480, meters=((0, 9, 32), (2160, 12, 8), (5040, 4, 4), (6960, 3, 4), (8430, 7, 8)))
    assert timeline.misfits(99) == [(9, 32), (7, 8)]  # which begins between two steps
    assert timeline.misfits(50, longest_bar=16) == [(9, 32), (12, 8)]
