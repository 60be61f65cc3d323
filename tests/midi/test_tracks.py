"""Which part of a MIDI file is heard, how people are told of its parts, and how its drums are replaced."""

import mido
import numpy as np
import pytest

from tests.helpers.midi_files import beat, midi_bytes, note, tempo
from utils.midi.drums import inverse_mapping
from utils.midi.hearing import hear, list_tracks, process_midi
from utils.midi.read import read_midi
from utils.midi.shift import lateness, moved
from utils.midi.write import roll_to_midi


def named(text):
    return [(0, mido.MetaMessage("track_name", name=text))]


def program(number, channel):
    return [(0, mido.Message("program_change", program=number, channel=channel))]


def line(pitch, channel, first=0, every=480, bars=2, length=200):
    return [
        event
        for tick in range(first, bars * 1920, every)
        for event in note(tick, pitch, length=length, channel=channel)
    ]


KEYS, BASS = program(4, 0) + line(60, 0, 1920), program(33, 1) + line(36, 1)
KIT = program(16, 9) + beat(2)
SONG = midi_bytes(tempo(0, 100), named("Keys") + KEYS, named("Low end") + BASS, named("Kit") + KIT)


@pytest.fixture
def song(tmp_path):
    (tmp_path / "song.mid").write_bytes(SONG)
    return tmp_path / "song.mid"


def test_the_tracks_are_shown_in_a_table(song):
    rows = [line.split("   ") for line in list_tracks(song).splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["track", "name", "instrument", "channel", "notes", "range", "first bar"],
        ["1", "Keys", "Electric Piano 1", "1", "4", "C4 to C4", "2"],
        ["2", "Low end", "Electric Bass (finger)", "2", "8", "C2 to C2", "1"],
        ["3", "Kit", "drums", "10", "16", "C2 to F#2", "1"],
    ]


@pytest.mark.parametrize(
    "track, pitches",
    [
        (None, {36}),  # the bass, by its program; its drums are not heard beside it
        ("all", {36, 38, 42, 60}),
        (3, {36, 38, 42}),
        ("Keys", {60}),
        ("low", {36}),
        ("BASS", {36}),
        ("piano", {60}),
        ("drums", {36, 38, 42}),
    ],
)
def test_a_track_is_found_by_number_name_part_of_it_and_instrument(song, track, pitches):
    assert set(hear(song, track).notes.pitch) == pitches


def test_channels_of_one_track_are_parts_of_their_own(tmp_path):
    (tmp_path / "song.mid").write_bytes(midi_bytes(KEYS + BASS + KIT))
    heard = hear(tmp_path / "song.mid")
    assert heard.what == "track 0.2 (Electric Bass (finger))" and heard.kind() == "part"
    assert set(hear(tmp_path / "song.mid", "0.1").notes.pitch) == {60}
    assert hear(tmp_path / "song.mid", "0.10").kind() == "drums"


@pytest.mark.parametrize(
    "tracks, what, pitches",
    [
        ([KEYS, line(50, 2), KIT], "all but its drums", {60, 50}),
        ([KEYS, line(50, 2)], "", {60, 50}),
        ([KIT], "", {36, 38, 42}),
        ([KEYS, named("Synth Bass") + line(40, 2)], "track 1 'Synth Bass' (Acoustic Grand Piano)", {40}),
        ([BASS, named("Bass Drum") + line(36, 9)], "all but its drums", {36}),
    ],
)
def test_drums_are_heard_alone_and_a_bass_before_others(tmp_path, tracks, what, pitches):
    (tmp_path / "song.mid").write_bytes(midi_bytes(*tracks))
    heard = hear(tmp_path / "song.mid")
    assert (heard.what, set(heard.notes.pitch)) == (what, pitches)


def test_the_error_for_a_wrong_track_shows_them_all(song):
    with pytest.raises(
        ValueError, match="no track 'flute'; .*1 'Keys'.*Electric Piano 1, channel 1, 4 notes"
    ):
        process_midi(song, "flute")


def written(path, **how):
    """The tracks of a file with one kick beside the song's: name -> channel 10's programs, and pitches."""
    onset, rest = np.zeros((32, 9)), np.zeros((32, 9))
    onset[4, 0] = 1
    roll_to_midi(onset, onset, rest, inverse_mapping, path, source=SONG, **how)
    kits = [
        [e.program for e in track if e.type == "program_change" and e.channel == 9]
        for track in mido.MidiFile(path).tracks
    ]
    midi = read_midi(path)
    pitches = [set(midi.pitch[midi.track == number].tolist()) for number in range(len(midi.track_names))]
    return dict(zip(midi.track_names, zip(kits, pitches)))


def test_new_drums_take_the_place_of_those_of_a_song_and_their_kit(tmp_path):
    beside = written(tmp_path / "beside.mid", keep_tracks=True)
    assert beside["Kit"] == ([16], {36, 38, 42}) and beside["Drums"] == ([], {36})
    assert written(tmp_path / "in.mid", replace_drums=True) == {
        "": ([], set()),
        "Keys": ([], {60}),
        "Low end": ([], {36}),
        "Drums": ([16], {36}),
    }
    assert "Keys" not in written(tmp_path / "in.mid", replace_drums="Keys")
    with pytest.raises(ValueError, match="^MIDI data: no track 'flute'; its tracks are 1 'Keys'"):
        written(tmp_path / "in.mid", replace_drums="flute")


def test_a_file_that_lies_a_sixteenth_late_is_told_and_moved(tmp_path):
    late, early = (midi_bytes(tempo(960, 90), line(36, 0, first, 240)) for first in (120, 360))
    assert [lateness(read_midi(data)) for data in (late, SONG)] == [0, 0]  # as many on 2 as on 4
    late, early = (midi_bytes(tempo(960, 90), line(36, 0, first)) for first in (120, 360))
    assert [lateness(read_midi(data)) for data in (late, early)] == [1, -1]
    there = read_midi(moved(late, -1))
    assert there.tick.tolist() == list(range(0, 3840, 480)) and there.tempos[0][0] == 960
    (tmp_path / "late.mid").write_bytes(late)
    assert "--shift -1" in hear(tmp_path / "late.mid").remarks[0]
    assert hear(tmp_path / "late.mid", shift=-1).remarks == ()


def test_a_push_that_rings_over_the_last_bar_line_makes_no_bar_more(repository):
    assert hear(repository / "examples" / "guitar_strum.mid").steps() == 64
