"""MIDI files in, piano rolls out; utils/midi/write.py has the way back.

Legend: T steps of the grid, V = 9 voices. A roll is three arrays (T, V):
onset {0, 1}; vel [0, 1], MIDI velocity / 127; timeoffset [-0.5, 0.5) of a step, negative is early.
vel and timeoffset are 0 where there is no hit.
"""

import os
import re
import stat
from dataclasses import dataclass

import numpy as np
import symusic

from utils.midi.drums import N_VOICES, RHYTHM_CHANNEL
from utils.midi.kits import kit_in

MAX_BYTES = 8 << 20  # of a file that is read; with MAX_TRACKS it bounds memory (0.4 GB) and time (seconds)
MAX_TRACKS = 65536  # each takes 5 kB, and damage can make one out of 7 bytes
MAX_BARS = 4096  # more is a stray event far out, not music; it would fill the memory with silence

_PARSE_ERRORS = (RuntimeError, ValueError, IndexError, OverflowError, OSError, MemoryError)
_PROGRAM_CHANGES = range(0xC0, 0xD0)
# A last tempo, meter or key of too few bytes: symusic would read on, past the end of the data.
_CUT_SHORT = re.compile(rb"\xff(\x51\x80*[\x00-\x02].{0,2}|[\x58\x59]\x80*[\x00\x01].?)\Z", re.DOTALL)
_VOICE_OF_PITCH = kit_in()


class MidiError(ValueError):
    """A file that can't be used as MIDI; the message names the file and the reason."""


@dataclass
class MidiNotes:
    """The notes of a MIDI file, one entry per note, in order of time. Times are ticks, int64.

    tick, pitch (0..127), velocity (1..127), duration (>= 0), track (index into the two lists below):
    int64 (n,). is_drum, track_names: per track (a file's track with several channels counts as
    several). tpq: ticks per quarter note. tempos: [(tick, bpm)]; meters: [(tick, numerator,
    denominator)]; both in order of time, empty where the file has none.
    """

    tick: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    duration: np.ndarray
    track: np.ndarray
    is_drum: np.ndarray
    track_names: list
    tpq: int
    tempos: list
    meters: list

    def of_tracks(self, tracks):
        """The same file with only the notes of these tracks (indices)."""
        keep = np.isin(self.track, tracks)
        columns = {name: getattr(self, name)[keep] for name in _COLUMNS}
        return MidiNotes(**{**self.__dict__, **columns})

    def drums(self):
        """The notes on drum tracks (channel 10); all notes where no drum track has any."""
        drums = self.of_tracks(np.flatnonzero(self.is_drum))
        return drums if len(drums.tick) else self


_COLUMNS = ("tick", "pitch", "velocity", "duration", "track")


def read_midi(path_or_bytes, name=None):
    """Read a MIDI file (a path, or its bytes) into MidiNotes; `name` stands for it in messages.

    A note-on of velocity 0 ends a note and is no hit; a note that nothing ends isn't read, nor is a
    tempo of 0. A file without notes gives empty arrays.
    Raises MidiError where the file is missing, is no readable MIDI, is larger than MAX_BYTES or may
    have more than MAX_TRACKS tracks, or counts more than 2**31 ticks.
    """
    is_bytes = isinstance(path_or_bytes, (bytes, bytearray))
    name = name or ("MIDI data" if is_bytes else str(path_or_bytes))
    try:
        data = read_bytes(path_or_bytes)
        _check_limits(data)
        score = symusic.Score.from_midi(bytes(data), ttype="tick")
        track_names = [track.name for track in score.tracks]
    except _PARSE_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise MidiError(f"{name}: not a readable MIDI file ({reason})") from None
    if score.ticks_per_quarter <= 0:
        raise MidiError(f"{name}: not a readable MIDI file (0 ticks per quarter note)")

    columns = [track.notes.numpy() for track in score.tracks]
    notes = {
        column: np.concatenate([c[key] for c in columns] + [np.empty(0)]).astype(np.int64)
        for column, key in zip(_COLUMNS, ("time", "pitch", "velocity", "duration"))
    }
    notes["track"] = np.repeat(np.arange(len(columns)), [len(c["time"]) for c in columns])
    # of several at one tick the last one of the file holds, so their order stays
    tempos = sorted(((t.time, t.qpm) for t in score.tempos if t.qpm < np.inf), key=lambda event: event[0])
    meters = sorted(
        ((m.time, m.numerator, m.denominator) for m in score.time_signatures), key=lambda event: event[0]
    )
    firsts = [tempos[:1], meters[:1], [(notes[c].min(),) for c in ("tick", "duration") if len(notes[c])]]
    if any(first[0] < 0 for events in firsts for first in events):
        raise MidiError(f"{name}: not a readable MIDI file (its times run past 2**31 ticks)")
    sounding = notes["velocity"] > 0
    order = np.flatnonzero(sounding)[np.argsort(notes["tick"][sounding], kind="stable")]
    return MidiNotes(
        **{column: values[order] for column, values in notes.items()},
        is_drum=np.array([track.is_drum for track in score.tracks], bool),
        track_names=track_names,
        tpq=score.ticks_per_quarter,
        tempos=tempos,
        meters=meters,
    )


def read_bytes(path_or_bytes):
    """The bytes of a file, at most MAX_BYTES + 1 of them, or those that are given. Raises ValueError or OSError."""
    if isinstance(path_or_bytes, (bytes, bytearray)):
        return path_or_bytes
    path = path_or_bytes
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError("no name of a file")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("no file, but a folder, pipe or device")  # which might never end, or never begin
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)


def _check_limits(data):
    """Raises ValueError for bytes that would take too much memory or time to parse, or that aren't safe to."""
    if _CUT_SHORT.search(data, max(len(data) - 20, 0)):
        raise ValueError("ends within an event")
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB, the most that is read")
    if len(data) <= 7 * MAX_TRACKS:  # a track with a note in it has at least as many bytes
        return
    # a track of the file gives one for each pair of channel and program in it
    tracks = 16 * data.count(b"MTrk") + sum(map(data.count, _PROGRAM_CHANGES))
    if tracks > MAX_TRACKS:
        raise ValueError(
            f"up to {tracks} tracks, counted by channel and program; at most {MAX_TRACKS} are read"
        )


def notes_to_roll(tick, pitch, velocity, tpq, down_sample_tpq=4, voice_of_pitch=None):
    """Notes to a roll of whole 4/4 bars, up to and with the bar of the last hit.

    tick (>= 0), pitch (0..127; any pitch finds a voice), velocity (1..127; 0 is no hit): integer (n,).
    tpq: ticks per quarter note; down_sample_tpq: steps per quarter note. voice_of_pitch: (128,) voice indices, see
    utils/midi/kits.py; None: those of General MIDI and Roland TD.

    A note belongs to the step floor(x + 0.5): half a step early is -0.5, half a step late is the next
    step at -0.5. Of two hits in one cell the louder stays (of equal ones the earlier).

    Returns onset, vel, timeoffset, float32 (T, 9), and the number of hits lost to a louder one.
    Raises MidiError past MAX_BARS bars.
    """
    tick, pitch, velocity = (np.asarray(a, np.int64) for a in (tick, pitch, velocity))
    voices = _VOICE_OF_PITCH if voice_of_pitch is None else voice_of_pitch
    hit = velocity > 0
    tick, voice, velocity = tick[hit], voices[pitch[hit]], velocity[hit]
    # in whole numbers, so that a note on the edge between two steps never depends on rounding
    step = (2 * tick * down_sample_tpq + tpq) // (2 * tpq)
    offset = (tick * down_sample_tpq - step * tpq) / tpq

    steps_per_bar = 4 * down_sample_tpq
    n_bars = int(step.max()) // steps_per_bar + 1 if len(step) else 0
    if n_bars > MAX_BARS:
        raise MidiError(f"the last note is in bar {n_bars}; at most {MAX_BARS} bars are read")
    onset, vel, timeoffset = np.zeros((3, n_bars * steps_per_bar, N_VOICES), np.float32)
    # later writes win: the quietest first, of equally loud ones the latest first
    order = np.lexsort((-tick, velocity))
    cells = step[order], voice[order]
    onset[cells] = 1
    vel[cells] = velocity[order] / 127
    timeoffset[cells] = offset[order]
    return onset, vel, timeoffset, len(step) - int(onset.sum())


def rhythm_roll(onset, vel, timeoffset):
    """The rhythm that the encoder reads: per step the loudest hit, in channel 3 of nine.

    Takes and returns onset, vel, timeoffset, (..., T, 9). Of equally loud hits the lowest voice's.
    """
    rolls = [np.asarray(a, np.float32) for a in (onset, vel, timeoffset)]
    loudest = np.where(rolls[0] > 0, rolls[1], -1).argmax(-1)[..., None]
    rhythm = [np.zeros_like(a) for a in rolls]
    for target, source in zip(rhythm, rolls):
        target[..., RHYTHM_CHANNEL] = np.take_along_axis(source, loudest, -1)[..., 0]
    return tuple(rhythm)
