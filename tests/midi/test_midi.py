import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.helpers.midi_files import beat, meter, midi_bytes, note, tempo
from utils.midi.drums import RHYTHM_CHANNEL, inverse_mapping
from utils.midi.find_drums import find_drums
from utils.midi.read import MAX_BARS, MidiError, notes_to_roll, read_midi, rhythm_roll
from utils.midi.write import roll_to_midi


def roll_of(data, down_sample_tpq=4):
    notes = read_midi(data)
    return notes_to_roll(notes.tick, notes.pitch, notes.velocity, notes.tpq, down_sample_tpq)


def hits(onset):
    return [tuple(cell) for cell in np.argwhere(onset).tolist()]


# ---- reading


def test_notes_come_in_order_of_time_with_all_that_the_file_says():
    data = midi_bytes(
        tempo(0, 100) + tempo(960, 150) + meter(0, 4, 4) + [(0, mido.MetaMessage("track_name", name="Song"))],
        [(0, mido.MetaMessage("track_name", name="Kit"))] + note(480, 38, 90) + note(0, 36, 100),
        [(0, mido.MetaMessage("track_name", name="Bass"))] + note(240, 40, 70, length=120, channel=0),
    )
    notes = read_midi(data)
    assert notes.tick.tolist() == [0, 240, 480]
    assert notes.pitch.tolist() == [36, 40, 38]
    assert notes.velocity.tolist() == [100, 70, 90]
    assert notes.duration.tolist() == [60, 120, 60]
    names = [notes.track_names[track] for track in notes.track]
    assert names == ["Kit", "Bass", "Kit"]
    assert notes.is_drum[notes.track].tolist() == [True, False, True]
    assert [(tick, round(bpm, 3)) for tick, bpm in notes.tempos] == [(0, 100), (960, 150)]
    assert notes.meters == [(0, 4, 4)]
    assert notes.tpq == 480


def test_a_path_reads_like_its_bytes(tmp_path):
    path = tmp_path / "beat.mid"
    path.write_bytes(midi_bytes(beat()))
    np.testing.assert_array_equal(read_midi(path).tick, read_midi(path.read_bytes()).tick)


def test_a_note_on_of_velocity_zero_is_no_hit():
    off = mido.Message("note_on", note=36, velocity=0, channel=9)
    notes = read_midi(midi_bytes(note(0, 36)[:1] + [(240, off), (480, off)]))
    assert (notes.tick.tolist(), notes.duration.tolist()) == ([0], [240])
    onset, *_ = notes_to_roll([0, 480], [36, 36], [100, 0], 480)
    assert hits(onset) == [(0, 0)]


def test_a_zero_length_note_is_a_hit():
    notes = read_midi(midi_bytes(note(0, 36, length=0) + note(480, 38, length=0)))
    assert (notes.pitch.tolist(), notes.duration.tolist()) == ([36, 38], [0, 0])


def test_drums_are_the_drum_tracks_or_else_everything():
    both = midi_bytes(note(0, 36), note(0, 50, channel=0))
    for notes, taken in ((read_midi(both), [36]), (read_midi(midi_bytes(note(0, 50, channel=0))), [50])):
        assert notes.select(find_drums(notes)).pitch.tolist() == taken


def test_a_file_without_notes_gives_empty_arrays():
    for data in (midi_bytes([]), midi_bytes(), midi_bytes(tempo(0, 90))):
        notes = read_midi(data)
        assert len(notes.tick) == find_drums(notes).sum() == 0
        onset, vel, timeoffset, lost = roll_of(data)
        assert onset.shape == vel.shape == timeoffset.shape == (0, 9) and lost == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not music at all, but long enough",
        lambda data: data[: len(data) // 2],
        lambda data: data[:12] + b"\x00\x00" + data[14:],  # 0 ticks per quarter
        lambda data: data[:12] + b"\xe7\x00" + data[14:],  # 0 ticks per frame
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(damage, tmp_path):
    path = tmp_path / "broken.mid"
    path.write_bytes(damage(midi_bytes(beat())))
    with pytest.raises(MidiError, match="broken.mid: not a readable MIDI file"):
        read_midi(path)
    with pytest.raises(MidiError, match="in the zip: not a readable"):
        read_midi(path.read_bytes(), name="in the zip")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(MidiError, match="nowhere.mid: no such file"):
        read_midi(tmp_path / "nowhere.mid")


# ---- notes to roll


@pytest.mark.parametrize("tpq", [96, 120, 220, 384, 480, 960, 15360])
def test_the_grid_is_the_same_at_any_resolution(tpq):
    onset, vel, timeoffset, lost = roll_of(midi_bytes(beat(bars=2, tpq=tpq, velocity=127), tpq=tpq))
    assert onset.shape == (32, 9) and lost == 0
    assert hits(onset) == [(4 * q, v) for q in range(8) for v in (q % 2, 2)]
    assert not timeoffset.any()
    assert vel[0, 0] == 1 and vel[0, 2] == np.float32(107 / 127)


def test_tempo_changes_move_nothing_on_the_grid():
    plain = roll_of(midi_bytes(beat(bars=2)))
    wild = roll_of(midi_bytes(beat(bars=2) + tempo(0, 60) + tempo(700, 200) + tempo(2000, 31)))
    np.testing.assert_array_equal(plain[0], wild[0])
    np.testing.assert_array_equal(plain[2], wild[2])


def test_an_early_downbeat_stays_with_its_bar():
    onset, _, timeoffset, _ = roll_of(midi_bytes(note(0, 36) + note(1920 - 30, 38)))
    assert onset.shape == (32, 9)
    assert hits(onset) == [(0, 0), (16, 1)]
    assert timeoffset[16, 1] == -0.25


def test_half_a_step_late_is_the_next_step_early():
    _, _, timeoffset, _ = roll = roll_of(midi_bytes(note(59, 36) + note(60, 38) + note(120, 42)))
    assert hits(roll[0]) == [(0, 0), (1, 1), (1, 2)]
    np.testing.assert_allclose(timeoffset[[0, 1, 1], [0, 1, 2]], [59 / 120, -0.5, 0])


def test_of_two_hits_in_a_cell_the_louder_stays():
    onset, vel, timeoffset, lost = roll_of(
        midi_bytes(note(0, 36, 50, 5) + note(12, 36, 90, 5) + note(24, 35, 60, 5))
    )
    assert lost == 2 and hits(onset) == [(0, 0)]
    assert vel[0, 0] == np.float32(90 / 127)
    assert timeoffset[0, 0] == np.float32(0.1)
    _, _, timeoffset, lost = notes_to_roll([12, 6], [36, 36], [80, 80], 480)
    assert lost == 1 and timeoffset[0, 0] == np.float32(0.05)  # of equally loud ones the earlier


def test_a_stray_note_far_out_is_an_error_and_no_memory_hog():
    with pytest.raises(MidiError, match=f"bar {MAX_BARS + 1}; at most {MAX_BARS}"):
        notes_to_roll([0, MAX_BARS * 1920], [36, 36], [90, 90], 480)
    assert len(notes_to_roll([0, MAX_BARS * 1920 - 61], [36, 36], [90, 90], 480)[0]) == MAX_BARS * 16


# ---- the rhythm


def test_the_rhythm_is_the_loudest_hit_of_each_step():
    onset, vel, timeoffset = np.zeros((3, 2, 16, 9), np.float32)
    cells = ([0, 0, 1], [3, 3, 5], [0, 8, 2])
    onset[cells], vel[cells], timeoffset[cells] = 1, [0.2, 0.7, 0.4], [0.1, -0.2, 0.3]
    rhythm = rhythm_roll(onset, vel, timeoffset)
    for roll, expected in zip(rhythm, ([1, 1], [0.7, 0.4], [-0.2, 0.3])):
        assert roll.shape == (2, 16, 9)
        np.testing.assert_allclose(roll[[0, 1], [3, 5], RHYTHM_CHANNEL], expected)
        assert np.count_nonzero(roll) == 2


def test_any_instrument_makes_a_rhythm():
    piano = midi_bytes(
        *[note(240 * i, pitch, 20 + pitch // 2, channel=0) for i, pitch in enumerate((0, 21, 60, 88, 127))]
    )
    onset, vel, _ = rhythm_roll(*roll_of(piano)[:3])
    assert np.flatnonzero(onset[:, RHYTHM_CHANNEL]).tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(vel[[0, 8], RHYTHM_CHANNEL] * 127, [20, 83], rtol=1e-6)


# ---- roll to MIDI


@st.composite
def rolls(draw):
    shape = (draw(st.sampled_from([16, 32])), 9)
    onset = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0])))
    vel = draw(arrays(np.uint8, shape, elements=st.integers(1, 127))) / np.float32(127)
    timeoffset = draw(arrays(np.float32, shape, elements=st.floats(-0.5, 0.5, width=32, exclude_max=True)))
    onset[-1, 0] = 1  # reading knows no silence after the last hit
    return onset, vel * onset, timeoffset * onset


@settings(max_examples=60)
@given(rolls(), st.sampled_from([31.7, 120.0, 137.3, 301.0]), st.booleans())
def test_a_roll_written_and_read_is_the_same_roll(tmp_path_factory, roll, bpm, lead_in):
    path = tmp_path_factory.mktemp("round") / "trip.mid"
    onset, vel, timeoffset = roll
    roll_to_midi(*roll, inverse_mapping, path, tempo=bpm, lead_in=lead_in)
    back = roll_of(path)
    assert back[3] == 0
    if lead_in:
        assert not back[0][:16].any()
        back = [a[16:] for a in back[:3]]
    else:
        timeoffset = np.concatenate(
            [np.maximum(timeoffset[:1], 0), timeoffset[1:]]
        )  # nothing sounds before 0
    np.testing.assert_array_equal(back[0], onset)
    np.testing.assert_array_equal(back[1], vel)
    timeoffset = np.minimum(timeoffset, 59 / 120)  # the last tick of a step: the next is the next step's
    np.testing.assert_allclose(back[2], timeoffset, atol=0.5 / 120 + 1e-6)
    assert read_midi(path).tempos[0][1] == pytest.approx(bpm, rel=1e-4)


@settings(max_examples=30)
@given(rolls(), st.sampled_from([1, 3, 6, 7, 12]))
def test_the_round_trip_holds_on_other_grids(tmp_path_factory, roll, down_sample_tpq):
    path = tmp_path_factory.mktemp("round") / "trip.mid"
    roll_to_midi(*roll, inverse_mapping, path, down_sample_tpq=down_sample_tpq, lead_in=True)
    onset, vel, _, lost = roll_of(path, down_sample_tpq)
    bar = 4 * down_sample_tpq
    np.testing.assert_array_equal(onset[bar : bar + len(roll[0])], roll[0])
    np.testing.assert_array_equal(vel[bar : bar + len(roll[0])], roll[1])
    assert lost == 0 and onset.sum() == roll[0].sum()


def test_the_file_is_channel_ten_with_tempo_and_meter_and_ends_on_the_bar_line(tmp_path):
    onset, vel, timeoffset = np.zeros((3, 24, 9))
    onset[[0, 17], [0, 1]], vel[[0, 17], [0, 1]] = 1, 0.5
    notes = roll_to_midi(onset, vel, timeoffset, inverse_mapping, tmp_path / "drums.mid", tempo=90)
    file = mido.MidiFile(tmp_path / "drums.mid")
    messages = [message for track in file.tracks for message in track]
    assert file.ticks_per_beat == 480
    assert {m.channel for m in messages if m.type == "note_on"} == {9}
    assert [m.tempo for m in messages if m.type == "set_tempo"] == [pytest.approx(mido.bpm2tempo(90), abs=1)]
    assert [(m.numerator, m.denominator) for m in messages if m.type == "time_signature"] == [(4, 4)]
    assert [sum(event.time for event in track) for track in file.tracks] == [2 * 1920] * len(file.tracks)
    assert notes[["pitch", "velocity"]].tolist() == [(36, 64), (38, 64)]
    assert notes["time"].tolist() == [0, pytest.approx(17 / 4 * 60 / 90)]


def test_notes_of_one_pitch_never_overlap():
    onset = np.ones((16, 9))
    timeoffset = np.where(np.arange(16) % 2, -0.5, 0.49)[:, None] * onset
    notes = roll_to_midi(onset, onset, timeoffset, inverse_mapping)
    assert len(notes) == 16 * 9 and (notes["duration"] > 0).all()
    for pitch in inverse_mapping.values():
        mine = notes[notes["pitch"] == pitch]
        assert len(mine) == 16 and ((mine["time"] + mine["duration"])[:-1] <= mine["time"][1:] + 1e-9).all()


def test_an_early_first_hit_plays_on_the_beat_or_after_a_bar_of_rest():
    onset, vel, timeoffset = np.zeros((3, 16, 9))
    onset[0, 0], vel[0, 0], timeoffset[0, 0] = 1, 1, -0.25
    plain = roll_to_midi(onset, vel, timeoffset, inverse_mapping)
    ahead = roll_to_midi(onset, vel, timeoffset, inverse_mapping, lead_in=True)
    assert plain["time"][0] == 0
    assert ahead["time"][0] == pytest.approx(2 - 0.25 / 8)


def test_a_count_in_clicks_in_the_bar_before_the_drums_begin():
    def counted(first, late=0.0, **how):
        onset, vel, timeoffset = np.zeros((3, 48, 9))
        onset[first, 2], vel[first, 2], timeoffset[first, 2] = 1, 0.5, late
        notes = roll_to_midi(onset, vel, timeoffset, inverse_mapping, count_in=True, **how)
        assert (
            set(notes["pitch"]) == {42}
            and (notes["time"][1:] >= (notes["time"] + notes["duration"])[:-1]).all()
        )
        return notes["time"].tolist()

    count = [0, 0.5, 1, 1.5]
    assert counted(0) == pytest.approx([*count, 2]) == counted(0, lead_in=True)
    assert counted(0, late=-0.5) == pytest.approx([*count, 2 - 1 / 16])
    assert counted(4) == pytest.approx([*count, 2.5])  # within the first bar
    assert counted(16, late=-0.5) == pytest.approx([*count, 2 - 1 / 16])  # nothing is moved
    assert counted(40) == pytest.approx([2, 2.5, 3, 3.5, 5])
    waltz = midi_bytes(tempo(0, 120), meter(0, 3, 4) + meter(1440, 6, 8), note(0, 40, channel=0))
    assert counted(0, source=waltz) == pytest.approx([0, 0.5, 1, 1.5])
    assert counted(30, source=waltz) == pytest.approx([1.5, 2.25, 3.75])
    assert len(roll_to_midi(*np.zeros((3, 16, 9)), inverse_mapping, count_in=True)) == 0
    with pytest.raises(ValueError, match="count_in: 1; it must be True or False"):
        roll_to_midi(*np.zeros((3, 16, 9)), inverse_mapping, count_in=1)


def test_a_count_in_moves_the_tracks_that_are_kept(tmp_path):
    onset = np.zeros((16, 9))
    onset[0, 0] = 1
    song = midi_bytes(tempo(0, 120), note(0, 40, channel=0) + note(480, 43, channel=0))
    how = {"source": song, "keep_tracks": True, "count_in": True}
    roll_to_midi(onset, onset, 0 * onset, inverse_mapping, tmp_path / "a.mid", **how)
    notes = read_midi(tmp_path / "a.mid")
    assert notes.tick[notes.channel == 0].tolist() == [1920, 2400]
    assert notes.tick[notes.channel == 9].tolist() == [0, 480, 960, 1440, 1920]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vel": np.zeros((15, 9))}, r"one shape \(T, V\), not \(16, 9\), \(15, 9\), \(16, 9\)"),
        ({"timeoffset": np.full((16, 9), np.nan)}, "finite"),
        ({"tempo": 0}, "tempo: 0; it must be a number, 4 to 1000"),
        ({"tempo": float("nan")}, "tempo"),
        ({"inverse_mapping": {0: 36}}, "a pitch of its own, 0 to 127, not .36, None"),
        ({"inverse_mapping": inverse_mapping | {8: 128}}, "a pitch of its own, 0 to 127, not .*128"),
        ({"inverse_mapping": inverse_mapping | {8: 50}}, "a pitch of its own, 0 to 127, not .*50, 50"),
        ({"keep_tracks": True}, "keep_tracks: True; it needs a source"),
        ({"source": midi_bytes(beat()), "tempo": 90}, "tempo: 90; it must be left out beside a source"),
        ({"source": b"no MIDI at all"}, "MIDI data: not a readable MIDI file"),
        ({"path": "pytest.ini/drums.mid"}, "pytest.ini/drums.mid: can't be written: File exists"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {name: np.ones((16, 9)) for name in ("onset", "vel", "timeoffset")}
    with pytest.raises(ValueError, match=message):
        roll_to_midi(**(arguments | {"inverse_mapping": inverse_mapping} | change))
