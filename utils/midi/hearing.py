"""A MIDI file as it is heard: the rhythm of all of it or of a track, or its drums, and how long it lasts."""

from dataclasses import dataclass

import numpy as np
import torch

from model.controls import PADS
from utils.checks import whole, within
from utils.device import on_cpu
from utils.midi.find_drums import DRUM_CHANNEL, describe_parts, find_drums
from utils.midi.kits import kit_in
from utils.midi.read import MidiError, MidiNotes, notes_to_roll, read_midi, rhythm_roll
from utils.midi.shift import lateness, moved
from utils.midi.timeline import Timeline, nearest_step
from utils.midi.tracks import choose, in_a_line, table

STRUCK = 1 / 3  # of a quarter: how long hands let a pad sound; a part holds its notes


@dataclass(frozen=True)
class HeardFile:
    """What is heard of a MIDI file.

    path; midi: all of it; notes: those that are heard, one at least; timeline; end: the tick at which they
    end, see Timeline.end_of; remarks: lines for people about what was taken, dropped or is unusual; what: in
    words which part of the file it is, "" where it is all, or as it was named.
    """

    path: object
    midi: MidiNotes
    notes: MidiNotes
    timeline: Timeline
    end: int
    remarks: tuple
    what: str = ""

    def steps(self, down_sample_tpq=4):
        """How many steps the file lasts, up to the bar line on which it ends: 36 for three bars of 3/4."""
        return int(self.end * down_sample_tpq / self.timeline.tpq + 0.5)

    def held(self, n_steps, down_sample_tpq=4):
        """On which of the first n_steps a note sounds, (n_steps,) bool: from its step up to the one that is
        nearest to its end."""
        notes, step = self.notes, self.timeline.tpq / down_sample_tpq
        ticks = notes.tick, notes.tick + np.maximum(notes.duration, step)
        begin, end = (np.clip(np.floor(tick / step + 0.5).astype(int), 0, n_steps) for tick in ticks)
        change = np.bincount(begin, minlength=n_steps + 1) - np.bincount(end, minlength=n_steps + 1)
        return change.cumsum()[:n_steps] > 0

    def kind(self):
        """What the rhythm is, of RHYTHM_KINDS: "drums" where most of its notes are on channel 10; "hands" of
        one or two pitches that are struck and let go; else "part"."""
        notes = self.notes
        if (notes.channel == DRUM_CHANNEL).mean() > 0.5:
            return "drums"
        struck = np.quantile(notes.duration, 0.9) <= STRUCK * notes.tpq
        return "hands" if len(np.unique(notes.pitch)) <= 2 and struck else "part"

    def pads(self, n_steps, down_sample_tpq=4):
        """On which of two pads the taps of the first n_steps are, (n_steps,) int64, see PADS: the pitches
        below and above the middle between the lowest and the highest; all unset where there is one pitch."""
        notes, found = self.notes, np.zeros(n_steps, np.int64)
        middle = (int(notes.pitch.min()) + int(notes.pitch.max())) / 2
        step = nearest_step(notes.tick, notes.tpq, down_sample_tpq)
        if self.timeline.loop_end(notes):  # as in `roll`: early for the end belongs to the beginning
            step = np.where(step == n_steps, 0, step)
        for pad, on_it in (("lower", notes.pitch < middle), ("higher", notes.pitch > middle)):
            steps = np.unique(step[on_it])
            found[steps[steps < n_steps]] += PADS.index(pad)
        return found

    def roll(self, down_sample_tpq=4, kit=None):
        """The notes as onset, vel, timeoffset, float32 arrays (T, 9), T whole bars of the file.

        Where the file ends on a bar line, they are the loop's bars, and a hit that is early for its end
        belongs to its beginning; else they go up to the last hit's.
        """
        whole(down_sample_tpq, "down_sample_tpq")
        notes = self.notes
        n_steps = self.steps(down_sample_tpq) if self.timeline.loop_end(notes) else None
        columns = notes.tick, notes.pitch, notes.velocity
        try:
            how = notes.tpq, down_sample_tpq, kit_in(kit), n_steps, self.timeline
            return notes_to_roll(*columns, *how)[:3]
        except MidiError as error:
            raise MidiError(f"{self.path}: {error}") from None


def hear(path, track=None, drums=False, meter=None, pickup=None, shift=None):
    """The HeardFile of a track of a MIDI file, see utils.midi.tracks.choose; of its drums where drums are
    wanted and no track is named. meter, pickup: in place of the file's own, see Timeline.in_meter. shift:
    sixteenths by which all of it is moved, see utils.midi.shift.

    Raises ValueError naming the file if it is missing, no MIDI, too large, without notes, or lacks the track.
    """
    midi = read_midi(moved(path, shift), path) if shift else read_midi(path)
    if drums and track is None:
        taken, what = find_drums(midi), ""
        remarks = [*_what_was_taken(midi, taken)]
    else:
        with within(str(path)):
            taken, what, remarks = choose(midi, track)
    notes = midi if taken.all() else midi.select(taken)
    if not len(midi.tick):
        raise ValueError(f"{path}: no notes; a rhythm needs one at least")
    if not len(notes.tick):
        raise ValueError(f"{path}: no notes in track {str(track)[:80]!r}; {in_a_line(midi)}")
    timeline = Timeline.of(midi).in_meter(meter, pickup)
    end = timeline.end_of(notes)
    remarks += _oddities(notes, timeline, end)
    return HeardFile(path, midi, notes, timeline, end, tuple(remarks), what)


@on_cpu
def process_midi(path, track=None, down_sample_tpq=4, *, kit=None):
    """Read the rhythm of a MIDI file: per step the loudest note, whatever its pitch and instrument.

    track: which one is heard: its number (from 0, as in the file), words of its name or its instrument, or
    "all"; None: the bass where a song has one, else all but drums (see utils.midi.tracks.choose).
    down_sample_tpq: steps per quarter. kit: which voice a pitch is, see utils.midi.kits.kit_in; of equally
    loud notes in a step the lowest voice's is heard. Returns onset, vel, timeoffset, each float32 (1, T, 9),
    the rhythm in channel 3. T: see HeardFile.roll. Raises ValueError naming the file if it is missing, no
    MIDI, too large or too long (see utils/midi/read.py), or without notes, or has no such track; or the kit.
    """
    return rhythm_of(hear(path, track), down_sample_tpq, kit)


@on_cpu
def drums_from_midi(path, track=None, down_sample_tpq=4, *, kit=None):
    """Read the drums of a MIDI file, all nine voices of them; of two hits in one cell the louder stays.

    track, kit: as for process_midi; no track: the notes of its drum kit, or all where there is none (see
    utils/midi/find_drums.py). Returns onset, vel, timeoffset, each float32 (1, T, 9). Raises ValueError as
    process_midi does.
    """
    return drums_of(hear(path, track, drums=True), down_sample_tpq, kit)


def rhythm_of(file, down_sample_tpq=4, kit=None):
    """What process_midi returns, of a HeardFile."""
    return _tensors(rhythm_roll(*file.roll(down_sample_tpq, kit)))


def drums_of(file, down_sample_tpq=4, kit=None):
    """What drums_from_midi returns, of a HeardFile."""
    return _tensors(file.roll(down_sample_tpq, kit))


def list_tracks(path):
    """The tracks of a MIDI file as a table: number, name, instrument, channel, notes, range and the first bar
    in which it plays. Raises ValueError naming the file."""
    return table(read_midi(path))


def _tensors(rolls):
    return tuple(torch.from_numpy(np.ascontiguousarray(roll))[None] for roll in rolls)


# ---- what people should know


def _what_was_taken(midi, taken):
    if not taken.all():
        yield f"taken as drums: {describe_parts(midi, taken)}"
    elif len(np.unique(midi.track * 16 + midi.channel)) > 1:
        yield "no track looks like a drum kit alone: all notes are taken as drums"


def _oddities(notes, timeline, end):
    if late := lateness(notes):
        how = "late" if late > 0 else "early"
        yield f"nearly all of it is a sixteenth {how}, and so the drums will be; --shift {-late} moves it"
    if notes.dropped:
        yield f"passed over: {', '.join(f'{n} {what}' for what, n in notes.dropped.items())}"
    if not notes.ended.all():
        count = int((~notes.ended).sum())
        yield f"{count} notes have no end; each lasts to the next of its pitch, a sixteenth at most"
    last, bars = int(timeline.bars_until(int(notes.tick.max()))) + 1, float(timeline.bars_until(end))
    if bars > 2 * last and bars > last + 2:
        yield f"its last onset is in bar {last}, but it ends after bar {bars:g}; bars can be given"
