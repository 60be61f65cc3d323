"""A MIDI file as it is heard: the rhythm of all of it or of a track, or its drums, and how long it lasts."""

import numpy as np
import torch

from utils.checks import whole
from utils.midi.kits import kit_in
from utils.midi.read import MAX_BARS, MidiError, notes_to_roll, read_midi, rhythm_roll
from utils.midi.timeline import Timeline


def process_midi(path, track=None, down_sample_tpq=4, *, kit=None):
    """Read the rhythm of a MIDI file: per step the loudest note, whatever its pitch and instrument.

    track: index (from 0) or name of the one track to hear; None merges all. down_sample_tpq: steps per quarter.
    kit: which voice a pitch is (of equally loud notes in a step the lowest voice's is heard): see utils.midi.kits.kit_in.
    Returns onset, vel, timeoffset, each float32 (1, T, 9), T whole bars of 4/4, the rhythm in channel 3.
    Raises ValueError naming the file if it is missing, no MIDI, too large or too long (see utils/midi/read.py), or
    without notes, or has no such track; or the kit.
    """
    notes = heard_notes(read_midi(path), track, path)
    return _tensors(rhythm_roll(*_roll(notes, path, down_sample_tpq, kit)))


def drums_from_midi(path, track=None, down_sample_tpq=4, *, kit=None):
    """Read the drums of a MIDI file, all nine voices of them; of two hits in one cell the louder stays.

    track, kit: as for process_midi; no track: those of channel 10, or all where none of these has a note.
    Returns onset, vel, timeoffset, each float32 (1, T, 9), T whole bars of 4/4. Raises ValueError as process_midi does.
    """
    notes = heard_notes(read_midi(path), track, path)
    return _tensors(_roll(notes.drums() if track is None else notes, path, down_sample_tpq, kit))


def heard_notes(midi, track, path):
    """The notes of the track, or of all. ValueError where there are none."""
    heard = midi if track is None else midi.of_tracks([_track_index(midi, track, path)])
    if not len(heard.tick):
        raise ValueError(
            f"{path}: {'no notes' if track is None else f'no notes in track {track!r}'}; a rhythm needs one at least"
        )
    return heard


def _roll(notes, path, down_sample_tpq, kit):
    try:
        whole(down_sample_tpq, "down_sample_tpq")
        return notes_to_roll(
            notes.tick, notes.pitch, notes.velocity, notes.tpq, down_sample_tpq, kit_in(kit)
        )[:3]
    except MidiError as error:
        raise MidiError(f"{path}: {error}") from None


def _tensors(rolls):
    return tuple(torch.from_numpy(np.ascontiguousarray(roll))[None] for roll in rolls)


def _track_index(midi, track, path):
    names = list(midi.track_names)
    if track in names:
        return names.index(track)
    if str(track).isdecimal() and int(track) < len(names):
        return int(track)
    there = ", ".join(f"{index} {name[:40]!r}" for index, name in enumerate(names[:20]))
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    raise ValueError(f"{path}: no track {track!r}; its tracks are {there}{more}")


def steps_to_play(midi, heard, steps_per_bar, bars=None, file="rhythm", flag="bars"):
    """Steps of a rhythm up to the bar line on which its notes end; and steps to play, those of `bars` where given.

    midi, heard: the file as read_midi gives it, and the notes of it that are heard. Raises ValueError, which names the
    file or the flag, where there are too many.
    """
    timeline = Timeline.of(midi)
    own = int(timeline.end_of(heard, steps_per_bar // 4) / timeline.tpq * steps_per_bar / 4 + 0.5)
    steps = own if bars is None else whole(bars, flag) * steps_per_bar
    if steps > MAX_BARS * steps_per_bar:
        what = f"{file}: its last note ends in bar" if bars is None else f"{flag}:"
        raise ValueError(f"{what} {-(-steps // steps_per_bar)}; at most {MAX_BARS} are played")
    return own, steps
