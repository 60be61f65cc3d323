"""Files as other programs write them: loops, missing ends, bad events, wrappers; and nothing moves."""

import struct
import time
import zipfile

import mido
import numpy as np
import pytest
import symusic

from inference_bar_control import drums_from_midi, process_midi
from tests.helpers.midi_files import beat, meter, midi_bytes, note, strictly_read, tempo
from tests.midi.test_fuzz import END, HIT, header, meta, track
from utils.midi.drums import inverse_mapping
from utils.midi.hearing import hear
from utils.midi.read import MidiError, read_midi
from utils.midi.timeline import Timeline
from utils.midi.write import roll_to_midi


def named(name):
    return [(0, mido.MetaMessage("track_name", name=name))]


def ends(tick):
    return [(tick, mido.MetaMessage("end_of_track"))]


def program(number, tick=0, channel=0):
    return [(tick, mido.Message("program_change", program=number, channel=channel))]


def on(tick, pitch, velocity=100, channel=9):
    return [(tick, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel))]


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and gives its path."""

    def write(data):
        (tmp_path / "song.mid").write_bytes(data)
        return tmp_path / "song.mid"

    return write


def hits(onset):
    return onset[0].nonzero().tolist()


def kept(source, path):
    """The tracks of the source as they stand in a file beside silent drums, each [(tick, bytes)]."""
    silence = np.zeros((16, 9))
    roll_to_midi(silence, silence, silence, inverse_mapping, path, source=source, keep_tracks=True)
    return strictly_read(path.read_bytes())[:-1]


# ---- kept tracks


@pytest.mark.parametrize(
    "odd",
    [
        meta(8, b"Piano")[1:],  # a program name, which mido doesn't know
        meta(0x60, b"\1\2")[1:],
        meta(0x59, b"\x0c\0")[1:],  # twelve sharps
        meta(0x59, b"")[1:],
        meta(0x80, b"x")[1:],
        meta(0x51, b"\1")[1:],
        b"\xb0\x07\xff",
        b"\xf0\3\1\xc8\xf7",
        b"\xf1\0",
        b"\xf2\0\0",
        b"\xf3\1",
        b"\xf6",
        b"\xfe",
        b"\xf7\2\1\2",
    ],
)
def test_an_event_keeps_its_tick_or_goes_without_its_time(tmp_path, odd):
    """Notes at 0 and 480, the odd event at 420 between them."""
    source = header() + track(HIT, b"\x82\x68" + odd, b"\x3c\x90\x28\x50", b"\x3c\x80\x28\0", END)
    (events,) = kept(source, path=tmp_path / "both.mid")
    notes = [(tick, raw) for tick, raw in events if raw[0] < 0xA0]
    assert notes == [(0, b"\x99\x24\x64"), (60, b"\x89\x24\0"), (480, b"\x90\x28\x50"), (540, b"\x80\x28\0")]
    assert read_midi(source).tick.tolist() == [0, 480]
    valid = odd[0] == 0xFF and odd[1] in (8, 0x60) or odd[0] == 0xF7
    assert (odd in (tmp_path / "both.mid").read_bytes()) == valid
    assert bool(read_midi(source).dropped) != valid


def test_bytes_of_names_and_texts_come_back_as_they_are(tmp_path):
    texts = [meta(3, "Schläge".encode("latin-1")), meta(1, "太鼓".encode("shift-jis")), meta(4, b"x" * 300)]
    kept(header() + track(*texts, HIT, END), path=tmp_path / "both.mid")
    assert all(text in (tmp_path / "both.mid").read_bytes() for text in texts)


def test_a_source_of_the_greatest_size_is_kept_in_seconds(tmp_path):
    source = header() + track(HIT, b"\0\x90\x24\x64" + 1_300_000 * b"\1\x24\0\1\x24\x64", END)
    start, silence = time.process_time(), np.zeros((16, 9))
    roll_to_midi(
        silence, silence, silence, inverse_mapping, tmp_path / "both.mid", source=source, keep_tracks=True
    )
    assert time.process_time() - start < 20 and (tmp_path / "both.mid").stat().st_size > 7_800_000


def test_every_performance_of_the_corpus_reads_as_another_reader_reads_it(groove_zip):
    """All onsets but those without an end, which the other one leaves out."""
    with zipfile.ZipFile(groove_zip) as archive:
        files = [archive.read(name) for name in archive.namelist() if name.endswith(".mid")]
    assert len(files) == 1150
    for data in files:
        ours, (theirs,) = read_midi(data), symusic.Score.from_midi(data).tracks
        hits = np.stack([ours.tick, ours.pitch, ours.velocity, ours.duration])[:, ours.ended].T
        notes = theirs.notes.numpy()
        others = np.stack([notes[name] for name in ("time", "pitch", "velocity", "duration")], axis=1)
        assert sorted(hits.tolist()) == sorted(others.tolist())


# ---- tracks


def test_a_track_is_heard_whole_with_all_its_channels_and_programs(file):
    """Sixteen onsets, the kit changed in the middle, some on another channel."""
    events = named("Kit") + program(0, channel=9) + program(25, 1900, channel=9)
    for step in range(16):
        events += note(240 * step, 36, channel=9 if step % 4 else 3)
    path = file(midi_bytes(named("Song"), events, named("Bass") + note(0, 40, channel=1)))
    for name in ("Kit", 1, "1"):
        assert hits(process_midi(path, name)[0]) == [[2 * step, 3] for step in range(16)]
    assert drums_from_midi(path, "Kit")[0].shape[1] == 32


def test_of_several_tracks_of_one_name_the_output_says_which(file):
    path = file(midi_bytes(named("Kit"), named("Kit") + note(240, 36), named("Kit") + note(480, 36)))
    heard = hear(path, "Kit")
    assert heard.notes.tick.tolist() == [240]
    assert heard.remarks == ("3 tracks are named 'Kit' (0, 1, 2); number 1 is heard",)


def test_a_track_named_0_does_not_hide_track_0(file):
    path = file(midi_bytes(named("Bass") + note(240, 36), named("0") + note(480, 36)))
    for zero in (0, "0"):
        assert hear(path, zero).notes.tick.tolist() == [240]
    assert hear(path, "1").notes.tick.tolist() == [480]


# ---- length


def test_a_loop_whose_last_hit_anticipates_the_bar_line_keeps_its_length(file):
    """Two bars; the last onset at 1.974 bars, the end of the track at 2."""
    path = file(midi_bytes(note(480, 38) + note(3790, 36, length=40) + ends(3840)))
    onset, _, timeoffset = drums_from_midi(path)
    assert onset.shape[1] == 32 and hits(onset) == [[0, 0], [4, 1]]
    assert timeoffset[0, 0, 0] == pytest.approx(-50 / 120)
    assert hear(path).steps() == 32


def test_of_an_early_and_a_first_hit_in_one_cell_the_louder_stays(file):
    path = file(midi_bytes(note(0, 36, velocity=50) + note(1900, 36, velocity=90, length=10) + ends(1920)))
    onset, vel, timeoffset = drums_from_midi(path)
    assert hits(onset) == [[0, 0]] and vel[0, 0, 0] == pytest.approx(90 / 127)
    assert timeoffset[0, 0, 0] == pytest.approx(-20 / 120)


def test_a_silent_last_bar_counts_where_the_track_ends_on_the_bar_line(file):
    path = file(midi_bytes(note(0, 36) + note(int(2.5 * 1920), 36) + ends(4 * 1920)))
    assert process_midi(path)[0].shape[1] == 64 and hear(path).steps() == 64
    open_end = file(midi_bytes(note(0, 36) + note(int(2.5 * 1920), 36) + ends(4 * 1920 - 7)))
    assert process_midi(open_end)[0].shape[1] == 48


def test_a_loop_in_three_four_has_its_own_steps(file):
    path = file(midi_bytes(meter(0, 3, 4) + note(0, 36) + note(2 * 1440, 38) + ends(3 * 1440)))
    heard = hear(path)
    assert heard.steps() == 36 and heard.end == 3 * 1440 and heard.roll()[0].shape == (36, 9)


def test_a_note_that_is_held_for_long_is_remarked(file):
    (remark,) = hear(file(midi_bytes(note(0, 36) + note(1920, 60, length=39 * 1920)))).remarks
    assert remark.startswith("its last onset is in bar 2, but it ends after bar 40")


# ---- notes without ends


@pytest.mark.parametrize(
    "events",
    [
        [on(240 * i, 36) for i in range(8)],
        [*(on(240 * i, 36) for i in range(8)), on(1920, 36, 0)],
        [on(240 * i, 36, velocity) for i in range(8) for velocity in (0, 100)],
    ],
    ids=["note-ons alone", "one end for all", "ends before onsets"],
)
def test_an_onset_is_a_hit_whatever_ends_it(file, events):
    path = file(midi_bytes(sum(events, [])))
    heard = hear(path)
    assert heard.notes.tick.tolist() == [240 * i for i in range(8)]
    assert hits(drums_from_midi(path)[0]) == [[2 * i, 0] for i in range(8)]
    open_ones = int((~heard.notes.ended).sum())
    assert open_ones and f"{open_ones} notes have no end" in heard.remarks[-1]
    assert heard.notes.duration[~heard.notes.ended].max() <= 120


# ---- bad events, wrappers, other files


def test_what_is_dropped_is_counted_and_said(file):
    bad = b"\0\xb0\7\xff" + b"\0\xf6" + meta(0x59, b"")
    heard = hear(file(header() + track(bad, bad, HIT, END)))
    assert heard.remarks == (
        "passed over: 2 messages with data above 127, 2 system messages, 2 meta events of no known form",
    )


def test_a_velocity_above_127_is_no_hit_and_the_rest_is_read():
    data = midi_bytes(note(0, 36) + note(480, 38, velocity=99)).replace(bytes([38, 99]), bytes([38, 200]))
    assert (read_midi(data).pitch.tolist(), read_midi(data).tick.tolist()) == ([36], [0])


def riff(data):
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"RMIDdata" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("wrap", [riff, lambda data: bytes(128) + data, lambda data: data + b"\0trailing"])
def test_wrappers_are_passed_over(tmp_path, wrap):
    data = midi_bytes(tempo(0, 90) + beat(bars=2))
    plain, wrapped = read_midi(data), read_midi(wrap(data))
    assert plain.tick.tolist() == wrapped.tick.tolist() and plain.tempos == wrapped.tempos
    assert kept(wrap(data), path=tmp_path / "both.mid") == kept(data, path=tmp_path / "both.mid")


@pytest.mark.parametrize(
    "data, seems",
    [
        (b"RIFF\x24\0\0\0WAVEfmt ", "a WAV"),
        (b"PK\3\4" + bytes(40), "a zip"),
        (b"ID3\4" + bytes(40), "an MP3"),
        (b"<!DOCTYPE html>", "XML or HTML"),
        (track(HIT, END), "a track without the file's header"),
        (b"plain words, no music", "no MThd"),
        (b"", "is empty"),
    ],
)
def test_other_files_are_refused_with_what_they_seem_to_be(data, seems):
    with pytest.raises(MidiError, match=f"MIDI data: not a readable MIDI file .*{seems}"):
        read_midi(data)


@pytest.mark.parametrize(
    "division, events, ticks_per_second", [(0xE728, b"", 1000), (0xE250, b"\0\xff\x51\3\x0a\x2c\x2b", 2400)]
)
def test_frames_per_second_are_read_at_the_files_tempo(division, events, ticks_per_second):
    """25 frames of 40 ticks at 120 bpm; 30 frames of 80 ticks at 90."""
    midi = read_midi(header(division=division) + track(events, HIT, b"\x87\x68" + HIT[1:], END))
    seconds = Timeline.of(midi).seconds(midi.tick)
    np.testing.assert_allclose(seconds, midi.tick / ticks_per_second, rtol=1e-5)
    assert midi.tpq == (500 if not events else 1600)


# ---- which notes are drums


def groove(channel, bars=2):
    return beat(bars, channel=channel)


def piano(channel=0):
    return sum((note(120 * i, 60 + i % 12, channel=channel) for i in range(64)), [])


BANK_120 = [(0, mido.Message("control_change", control=0, value=120, channel=10))]
SHAKER = sum((note(240 * i, 70) for i in range(16)), [])
KIT = 16  # onsets of two bars of groove
FILES = {
    "channel 10": ([piano(), groove(9)], "track 1 (channel 10)"),
    "its name": ([piano(), named("My Drums") + groove(4)], "track 1 'My Drums' (channel 5)"),
    "its keys": ([piano(), groove(4)], "track 1 (channel 5)"),
    "its bank, beside a shaker": (
        [piano(), BANK_120 + groove(10), SHAKER],
        "track 1 (channel 11), track 2 (channel 10)",
    ),
    "its keys, beside a shaker": (
        [piano(), groove(10), SHAKER],
        "track 1 (channel 11), track 2 (channel 10)",
    ),
    "its keys, beside a low organ": ([program(19) + groove(0), groove(4)], "track 1 (channel 5)"),
    "one track of all": ([piano() + groove(9)], "track 0 (channel 10)"),
    "steel drums and a kit": ([named("Steel Drums") + piano(), groove(5)], "track 1 (channel 6)"),
}


@pytest.mark.parametrize("why", FILES)
def test_drums_are_the_kit_however_it_can_be_told(file, why):
    tracks, said = FILES[why]
    path = file(midi_bytes(*tracks))
    heard = hear(path, drums=True)
    assert heard.remarks == (f"taken as drums: {said}",)
    assert len(heard.notes.tick) == 2 * KIT // 2 + (16 if "shaker" in why else 0)
    assert not (heard.notes.pitch >= 60).any() or "shaker" in why


def test_a_low_bass_line_is_no_kit_and_all_is_taken_where_nothing_looks_like_one(file):
    bass = sum((note(240 * i, (36, 38, 42)[i % 3], channel=0) for i in range(16)), [])
    chords = sum((note(240 * i, key, channel=1) for i in range(8) for key in (60, 64, 67)), [])
    heard = hear(file(midi_bytes(bass, chords)), drums=True)
    assert heard.remarks == ("no track looks like a drum kit alone: all notes are taken as drums",)
    assert len(heard.notes.tick) == 16 + 24


def test_a_lone_part_needs_no_words(file):
    assert hear(file(midi_bytes(note(0, 60, channel=0))), drums=True).remarks == ()
