"""Drums written to go with the music that they were played to: its tempo map, its meter, its tracks."""

import io
import warnings

import mido
import numpy as np
import pretty_midi
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.midi_files import beat, meter, midi_bytes, note, tempo
from utils.midi.drums import inverse_mapping
from utils.midi.read import notes_to_roll, read_midi
from utils.midi.timeline import Timeline
from utils.midi.write import early_hits, roll_to_midi


def roll(hits, steps=16):
    """hits: (step, voice, timeoffset)."""
    onset, vel, timeoffset = np.zeros((3, steps, 9))
    for step, voice, offset in hits:
        onset[step, voice], vel[step, voice], timeoffset[step, voice] = 1, 0.8, offset
    return onset, vel, timeoffset


def written(path, rolls, **how):
    roll_to_midi(*rolls, inverse_mapping, path, **how)
    return mido.MidiFile(path)


def timed(track, kind=None):
    """[(tick, message without its time)] of a track."""
    now, events = 0, []
    for message in track:
        now += message.time
        if kind is None or message.type == kind:
            events.append((now, message.copy(time=0)))
    return events


def named(text):
    return [(0, mido.MetaMessage("track_name", name=text))]


def program(number, channel):
    return [
        (0, mido.Message("program_change", program=number, channel=channel)),
        (0, mido.Message("control_change", control=7, value=90, channel=channel)),
    ]


def song(**how):
    """A conductor's track, a bass with a name, a program, a controller and a bend, and keys."""
    bend = [(240, mido.Message("pitchwheel", pitch=1000, channel=1))]
    return midi_bytes(
        named("Song") + tempo(0, 90) + tempo(960, 120) + meter(0, 3, 4),
        named("Bass")
        + program(33, 1)
        + bend
        + note(0, 40, channel=1)
        + note(1440, 43, length=900, channel=1),
        [(0, mido.MetaMessage("marker", text="A"))] + named("Keys") + note(480, 60, channel=2),
        **how,
    )


# ---- tempo and meter

maps = st.lists(st.tuples(st.integers(0, 3000), st.floats(30, 280)), max_size=5)


@settings(max_examples=60)
@given(
    maps,
    st.sampled_from([24, 96, 120, 220, 384, 480, 960, 1000]),
    st.sets(st.integers(0, 47), min_size=1),
    st.booleans(),
    st.booleans(),
)
def test_each_hit_sounds_when_the_source_has_that_step(
    tmp_path_factory, changes, tpq, steps, keep_tracks, lead_in
):
    # the source plays on the steps itself, so that its own reader says when they are
    ticks = [(step * tpq + 2) // 4 for step in sorted(steps)]
    notes = [event for tick in ticks for event in note(tick, 60, length=1, channel=0)]
    conductor = [
        event for change in sorted(changes, key=lambda change: change[0]) for event in tempo(*change)
    ]
    source = midi_bytes(conductor, notes, tpq=tpq)
    path = tmp_path_factory.mktemp("source") / "drums.mid"
    back = notes_to_roll(ticks, [36] * len(ticks), [100] * len(ticks), tpq)[:3]
    table = roll_to_midi(
        *back, inverse_mapping, path, source=source, keep_tracks=keep_tracks, lead_in=lead_in
    )

    drums = pretty_midi.PrettyMIDI(str(path)).instruments[-1]
    played = sorted(note.start for note in drums.notes)
    expected = [note.start for note in pretty_midi.PrettyMIDI(io.BytesIO(source)).instruments[0].notes]
    if lead_in:
        expected = np.array(expected) + 4 * Timeline.of(read_midi(source)).tempos[0][1] / 1e6
    np.testing.assert_allclose(played, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(table["time"], played, rtol=1e-9, atol=1e-9)


def test_the_last_tempo_and_meter_go_on_past_the_end_and_later_ones_are_left_out(tmp_path):
    source = midi_bytes(
        tempo(0, 90) + tempo(960, 120) + tempo(9000, 60) + meter(0, 4, 4) + meter(1920, 3, 4) + beat()
    )
    short = written(tmp_path / "short.mid", roll([(0, 0, 0)], 8), source=source)
    assert [tick for tick, _ in timed(short.tracks[0], "set_tempo")] == [0, 960]
    long = written(tmp_path / "long.mid", roll([(0, 0, 0), (63, 0, 0)], 64), source=source)
    assert [(tick, event.tempo) for tick, event in timed(long.tracks[0], "set_tempo")] == [
        (0, 666667),
        (960, 500000),
    ]
    assert [(tick, event.numerator) for tick, event in timed(long.tracks[0], "time_signature")] == [
        (0, 4),
        (1920, 3),
    ]
    assert timed(long.tracks[1])[-1][0] == 1920 + 4 * 1440  # the bar line of 3/4 after 64 steps


@pytest.mark.parametrize(
    "beats, steps, end", [((3, 4), 60, 7200), ((6, 8), 24, 2880), ((7, 8), 14, 1680), ((4, 4), 14, 1920)]
)
def test_the_drums_end_on_a_bar_line_of_the_source(tmp_path, beats, steps, end):
    source = midi_bytes(meter(0, *beats) + note(0, 36))
    file = written(tmp_path / "drums.mid", roll([(steps - 1, 0, 0.49)], steps), source=source)
    assert [timed(track)[-1] for track in file.tracks] == 2 * [(end, mido.MetaMessage("end_of_track"))]


def test_without_a_source_nothing_has_changed(tmp_path):
    file = written(tmp_path / "drums.mid", roll([(0, 0, 0)], 24), tempo=90)
    assert timed(file.tracks[0]) == [
        (0, mido.MetaMessage("set_tempo", tempo=666667)),
        (0, mido.MetaMessage("time_signature")),
        (3840, mido.MetaMessage("end_of_track")),
    ]


# ---- tracks

ALL = [track for track in mido.MidiFile(file=io.BytesIO(song())).tracks]


@pytest.mark.parametrize("tpq, factor", [(480, 1), (96, 5), (960, 1), (220, 3)])
def test_the_tracks_of_the_source_stay_as_they_are(tmp_path, tpq, factor):
    file = written(tmp_path / "both.mid", roll([(0, 0, 0)]), source=song(tpq=tpq), keep_tracks=True)
    assert file.type == 1 and file.ticks_per_beat == tpq * factor and len(file.tracks) == 4
    for kept, before in zip(file.tracks[1:3], ALL[1:]):
        assert timed(kept) == [(tick * factor, message) for tick, message in timed(before)]
    assert sorted(map(str, timed(file.tracks[0]))) == sorted(str((t * factor, m)) for t, m in timed(ALL[0]))
    drums = [message for _, message in timed(file.tracks[3])]
    assert drums[0].name == "Drums" and {m.channel for m in drums if not m.is_meta} == {9}
    assert read_midi(tmp_path / "both.mid").track_names == ["Song", "Bass", "Keys", "Drums"]


def test_with_a_lead_in_all_that_sounds_moves_by_a_bar_of_its_meter_and_what_a_track_is_stays(tmp_path):
    file = written(
        tmp_path / "both.mid", roll([(0, 0, -0.25), (4, 1, 0)]), source=song(), keep_tracks=True, lead_in=True
    )
    bar = 1440
    assert [tick for tick, _ in timed(file.tracks[3], "note_on")] == [bar - 30, bar + 480]
    assert [tick for tick, _ in timed(file.tracks[0], "set_tempo")] == [0, 960 + bar]
    assert [tick for tick, _ in timed(file.tracks[0], "time_signature")] == [0]
    for kept, before in zip(file.tracks[1:3], ALL[1:]):
        setup = ("track_name", "program_change", "control_change") if before is ALL[1] else ()
        assert timed(kept) == [(tick + (0 if m.type in setup else bar), m) for tick, m in timed(before)]


def test_a_file_of_one_track_is_kept_with_the_drums_beside_it(tmp_path):
    data = midi_bytes(tempo(0, 100) + note(0, 60, channel=0) + note(0, 36))
    (tmp_path / "one.mid").write_bytes(data[:9] + bytes([0]) + data[10:])  # type 0
    file = written(tmp_path / "both.mid", roll([(0, 0, 0)]), source=tmp_path / "one.mid", keep_tracks=True)
    assert file.type == 1 and len(file.tracks) == 2
    assert [m.channel for _, m in timed(file.tracks[0], "note_on")] == [0, 9]
    assert not timed(file.tracks[1], "program_change")  # the source plays that channel, with what it chose
    assert len(timed(file.tracks[0], "set_tempo")) == 1


def test_tempo_and_meter_in_a_later_track_are_put_where_readers_look_for_them(tmp_path):
    source = midi_bytes(named("Song"), tempo(0, 60) + meter(0, 3, 4) + note(0, 40, channel=0))
    written(tmp_path / "both.mid", roll([(4, 0, 0)]), source=source, keep_tracks=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = pretty_midi.PrettyMIDI(str(tmp_path / "both.mid"))
    assert reader.instruments[-1].notes[0].start == pytest.approx(1)
    assert [(m.numerator, m.denominator) for m in reader.time_signature_changes] == [(3, 4)]


def test_tracks_that_cannot_be_kept_are_told_and_nothing_is_written(tmp_path):
    songs = bytearray(song())
    songs[9] = 2
    (tmp_path / "songs.mid").write_bytes(songs)
    far = midi_bytes(note(0, 36), [(2**28 - 1, mido.MetaMessage("marker", text="far"))], tpq=96)
    for source, reason in (
        (tmp_path / "songs.mid", "songs.mid: its tracks can't be kept .*type 2 holds several songs"),
        (far, "MIDI data: its tracks can't be kept .one has 1342177275 ticks; MIDI holds"),
    ):
        with pytest.raises(ValueError, match=reason):
            roll_to_midi(
                *roll([(0, 0, 0)]), inverse_mapping, tmp_path / "both.mid", source=source, keep_tracks=True
            )
    assert not (tmp_path / "both.mid").exists()


# ---- what readers make of it


@pytest.mark.parametrize(
    "how", [{}, {"source": song()}, {"source": song(), "keep_tracks": True, "lead_in": True}]
)
def test_three_readers_find_the_same_drums_on_channel_ten(tmp_path, how):
    rng = np.random.default_rng(1)
    onset = (rng.random((64, 9)) < 0.3).astype(float)
    rolls = onset, onset * rng.uniform(0.1, 1, onset.shape), onset * rng.uniform(-0.5, 0.5, onset.shape)
    table = roll_to_midi(*rolls, inverse_mapping, tmp_path / "drums.mid", **how)
    assert len(table) == onset.sum() and (np.diff(table["time"]) >= 0).all()

    pretty = pretty_midi.PrettyMIDI(str(tmp_path / "drums.mid"))
    (drums,) = [instrument for instrument in pretty.instruments if instrument.is_drum]
    assert drums.name == "Drums" and pretty.instruments[-1] is drums
    by_pretty = sorted((n.start, n.pitch, n.velocity, n.end - n.start) for n in drums.notes)
    by_table = sorted(table[["time", "pitch", "velocity", "duration"]].tolist())
    np.testing.assert_allclose(by_pretty, by_table, atol=1e-9)

    (track,) = [
        track for track in symusic.Score(tmp_path / "drums.mid", ttype="second").tracks if track.is_drum
    ]
    by_symusic = sorted((n.time, n.pitch, n.velocity, n.duration) for n in track.notes)
    np.testing.assert_allclose(by_symusic, by_table, atol=1e-4)

    file = mido.MidiFile(tmp_path / "drums.mid")
    sounding, events = set(), timed(file.tracks[-1])
    for _, message in events:
        if message.type == "note_on":
            assert message.note not in sounding  # no overlaps
            sounding.add(message.note)
        elif message.type == "note_off":
            sounding.remove(message.note)
    assert not sounding and table["duration"].max() <= 0.25 * 60 / 90 + 1e-6
    bar = 1920 if not how else 1440
    assert events[-1][1].type == "end_of_track" and events[-1][0] % bar == 0


def test_early_hits_are_counted():
    rolls = roll([(0, 0, -0.25), (0, 1, -0.001), (0, 2, 0.2), (1, 0, -0.4)])
    assert early_hits(rolls[0], rolls[2]) == 1  # a thousandth of a step is less than half a tick
    assert roll_to_midi(*rolls, inverse_mapping)["time"].tolist()[:2] == [0, 0]
    assert early_hits(np.zeros((0, 9)), np.zeros((0, 9))) == 0
