"""MIDI files in, piano rolls out; utils/midi/write.py has the way back.

Legend: T steps of the grid, V = 9 voices. A roll is three arrays (T, V):
onset {0, 1}; vel [0, 1], MIDI velocity / 127; timeoffset [-0.5, 0.5) of a step, negative is early.
vel and timeoffset are 0 where there is no hit.
"""

from dataclasses import dataclass, replace

import numpy as np

from utils.files import file_bytes
from utils.midi import smf
from utils.midi.drums import N_VOICES, RHYTHM_CHANNEL
from utils.midi.kits import kit_in
from utils.midi.timeline import MAX_BARS, Timeline, nearest_step

MAX_BYTES = 8 << 20  # of a file that is read; it bounds memory (0.4 GB) and time (a second)

_BANK, _PROGRAM = 0xB0, 0xC0  # statuses: controllers, of which number 0 selects a bank, and program changes
_VOICE_OF_PITCH = kit_in()


class MidiError(ValueError):
    """A file that can't be used as MIDI; the message names the file and the reason."""


@dataclass
class MidiNotes:
    """The notes of a MIDI file, one entry per note, in order of time. Times are ticks.

    tick, pitch (0..127), velocity (1..127), duration (>= 0), track, channel (0..15), program, bank (its
    controller 0): int64 (n,); ended, bool (n,): whether the note has an end of its own. A track is the
    file's, whole, and counted as in the file. Per track: is_drum, whether it has notes on channel 9 (shown to
    people as 10); track_names; ends, the tick of its end. tpq: ticks per quarter note. tempos: [(tick, bpm)];
    meters: [(tick, numerator, denominator)]; both in order of time, empty where the file has none. dropped:
    events that no file may hold -> how many.
    """

    tick: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    duration: np.ndarray
    track: np.ndarray
    channel: np.ndarray
    program: np.ndarray
    bank: np.ndarray
    ended: np.ndarray
    is_drum: np.ndarray
    track_names: list
    ends: np.ndarray
    tpq: int
    tempos: list
    meters: list
    dropped: dict

    def select(self, keep):
        """The same file with only these notes (a mask)."""
        return replace(self, **{name: getattr(self, name)[keep] for name in _COLUMNS})


_COLUMNS = ("tick", "pitch", "velocity", "duration", "track", "channel", "program", "bank", "ended")


def read_midi(path_or_bytes, name=None):
    """Read a MIDI file (a path, or its bytes) into MidiNotes; `name` stands for it in messages.

    A note-on of velocity 0 ends a note and is no hit. A note that nothing ends lasts to the next one of its
    pitch, at most a sixteenth. A file without notes gives empty arrays. Raises MidiError where the file is
    missing, is no readable MIDI, is larger than MAX_BYTES or has more than smf.MOST_TRACKS tracks, or counts
    more than 2**31 ticks.
    """
    file = read_events(path_or_bytes, name)
    notes = _notes(file)
    tempos, meters = (
        sorted(file.events.metas(kind), key=lambda event: event[0]) for kind in (smf.TEMPO, smf.METER)
    )  # of several at one tick the last one of the file holds, so their order stays
    tempos = [(tick, 60e6 / int.from_bytes(raw, "big")) for tick, raw in tempos]
    return MidiNotes(
        **notes,
        is_drum=np.bincount(notes["track"], notes["channel"] == 9, len(file.tracks)) > 0,
        track_names=[_name(track) for track in file.tracks],
        ends=np.array([track.end for track in file.tracks], np.int64),
        tpq=file.tpq,
        tempos=tempos if file.tempo is None else [(0, 60e6 / file.tempo)],
        meters=[(tick, raw[0], 2 ** raw[1]) for tick, raw in meters],
        dropped=file.dropped,
    )


def read_events(path_or_bytes, name=None):
    """The file's tracks, event by event, as utils.midi.smf.SmfFile. Raises MidiError as read_midi does."""
    try:
        given = isinstance(path_or_bytes, (bytes, bytearray))
        data = path_or_bytes if given else file_bytes(path_or_bytes, MAX_BYTES)
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB, the most that is read")
        return smf.parse(data)
    except FileNotFoundError:
        raise MidiError(f"{name or name_of(path_or_bytes)}: no such file") from None
    except (ValueError, OSError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise MidiError(f"{name or name_of(path_or_bytes)}: not a readable MIDI file ({reason})") from None


def name_of(path_or_bytes):
    """How messages call a file that is given by its path or as bytes."""
    return "MIDI data" if isinstance(path_or_bytes, (bytes, bytearray)) else str(path_or_bytes)


def _name(track):
    for _, raw in track.metas(smf.NAME):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    return ""


def _notes(file):
    """The columns of the notes of a file, in order of time."""
    heard = file.events.status < smf.SYSEX
    track = np.repeat(np.arange(len(file.tracks)), [len(track.tick) for track in file.tracks])[heard]
    events = file.events.select(heard)
    tick, status, first, second = events.tick, events.status, events.byte(0), events.byte(1)
    channel, kind = status & 15, status & 0xF0
    note = np.flatnonzero((kind == 0x90) | (kind == 0x80))
    begins = (kind[note] == 0x90) & (second[note] > 0)
    key = (track[note] * 16 + channel[note]) * 128 + first[note]
    stop, ended = np.empty(len(note), np.int64), np.zeros(len(note), bool)
    _pair(np.argsort(key, kind="stable"), key, begins, tick[note], -(-file.tpq // 4), stop, ended)
    onset = note[begins]
    order = np.argsort(tick[onset], kind="stable")
    onset = onset[order]
    names = {"tick": tick, "pitch": first, "velocity": second, "track": track, "channel": channel}
    notes = {name: column[onset].astype(np.int64) for name, column in names.items()}
    notes |= {"duration": stop[begins][order] - notes["tick"], "ended": ended[begins][order]}
    selects = (kind == _BANK) & (first == 0)
    for name, which, value in (("program", kind == _PROGRAM, first), ("bank", selects, second)):
        notes[name] = _held(notes, tick[which], channel[which], value[which])
    return notes


@smf.compiled
def _pair(order, key, begins, tick, longest, stop, ended):
    """Where each onset ends, and whether by an end of its own. order: all onsets and ends, by key, then time.

    An end belongs to the first onset before it that has none yet. An onset that is left open ends at the next
    one of its key, `longest` ticks later at most.
    """
    oldest = 0  # place in order before which no onset is open
    for at in range(len(order)):
        i = order[at]
        if key[i] != key[order[oldest]]:
            oldest = at
        if not begins[i]:
            while oldest < at and not begins[order[oldest]]:
                oldest += 1
            if oldest < at:
                stop[order[oldest]], ended[order[oldest]] = tick[i], True
                oldest += 1
    for at in range(len(order) - 1, -1, -1):
        i = order[at]
        if at == len(order) - 1 or key[i] != key[order[at + 1]]:
            following = tick[i] + longest
        if begins[i]:
            if not ended[i]:
                stop[i] = min(following, tick[i] + longest)
            following = tick[i]


def _held(notes, tick, channel, value):
    """Of each note what its channel's latest such event says; 0 before the first."""
    held = np.zeros(len(notes["tick"]), np.int64)
    for number in np.unique(channel):
        mine, notes_of = np.flatnonzero(channel == number), notes["channel"] == number
        mine = mine[np.argsort(tick[mine], kind="stable")]
        place = np.searchsorted(tick[mine], notes["tick"][notes_of], side="right") - 1
        held[notes_of] = np.where(place < 0, 0, value[mine][place])
    return held


def notes_to_roll(
    tick, pitch, velocity, tpq, down_sample_tpq=4, voice_of_pitch=None, n_steps=None, timeline=None
):
    """Notes to a roll of whole bars, up to and with the bar of the last hit.

    tick (>= 0), pitch (0..127; any pitch finds a voice), velocity (1..127; 0 is no hit): integer (n,). tpq:
    ticks per quarter note; down_sample_tpq: steps per quarter note. voice_of_pitch: (128,) voice indices, see
    utils/midi/kits.py; None: those of General MIDI and Roland TD. n_steps: the length of a loop, which the
    roll then covers; a hit that is early for the step after its end belongs to its first step. timeline: the
    Timeline whose bars they are; None: 4/4.

    A note belongs to the step floor(x + 0.5): half a step early is -0.5, half a step late is the next
    step at -0.5. Of two hits in one cell the louder stays (of equal ones the earlier).

    Returns onset, vel, timeoffset, float32 (T, 9), and the number of hits lost to a louder one.
    Raises MidiError past as many steps as MAX_BARS bars of 4/4 have.
    """
    tick, pitch, velocity = (np.asarray(a, np.int64) for a in (tick, pitch, velocity))
    voices = _VOICE_OF_PITCH if voice_of_pitch is None else voice_of_pitch
    hit = velocity > 0
    tick, voice, velocity = tick[hit], voices[pitch[hit]], velocity[hit]
    step = nearest_step(tick, tpq, down_sample_tpq)
    offset = (tick * down_sample_tpq - step * tpq) / tpq

    if n_steps is not None:
        step = np.where(step == n_steps, 0, step)
    timeline = timeline or Timeline(tpq)
    reach = max(int(step.max(initial=-1)) + 1, n_steps or 0)
    if reach > MAX_BARS * 4 * down_sample_tpq:
        bar = int(timeline.bars_until((reach - 1) * tpq // down_sample_tpq)) + 1
        raise MidiError(f"the last note is in bar {bar}; at most {MAX_BARS} bars are read")
    whole_bars = timeline.grid(reach, down_sample_tpq).n_steps
    onset, vel, timeoffset = np.zeros((3, whole_bars, N_VOICES), np.float32)
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
