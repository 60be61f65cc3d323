"""The parts of a MIDI file: what each of them is, for people, and which one is heard.

A part is what one track plays on one channel. It is numbered as its track, or TRACK.CHANNEL where the track
has several.
"""

from typing import NamedTuple

import numpy as np

from utils.checks import first_few
from utils.midi.find_drums import drum_notes, parts_of
from utils.midi.timeline import Timeline

ALL = "all"  # the word for every track, its drums too
_BASSES = range(32, 40)  # programs of General MIDI
_SHOWN = 12  # parts in a message


class Part(NamedTuple):
    """number, name, instrument: text; channel: from 1; notes: their indices in the file; lowest, highest: as
    C4; bar: the first that has a note, from 1."""

    number: str
    name: str
    instrument: str
    channel: int
    notes: np.ndarray
    lowest: str
    highest: str
    bar: int
    is_drums: bool
    is_bass: bool

    def __str__(self):
        name = f" {self.name[:40]!r}" if self.name else ""
        return f"track {self.number}{name} ({self.instrument})"

    def row(self):
        span = f"{self.lowest} to {self.highest}"
        return self.number, self.name[:40], self.instrument, self.channel, len(self.notes), span, self.bar


def parts(midi):
    """The Parts of a file (utils.midi.read.MidiNotes), in the order of its tracks."""
    from pretty_midi import note_number_to_name, program_to_instrument_name  # for those who look alone

    found, drums, timeline = list(parts_of(midi)), drum_notes(midi), Timeline.of(midi)
    channels = np.bincount([track for (track, _), _ in found], minlength=1)
    described = []
    for (track, channel), notes in found:
        is_drums, program = bool(drums[notes].any()), int(np.bincount(midi.program[notes]).argmax())
        name, pitch = midi.track_names[track].strip(), midi.pitch[notes]
        is_bass = not is_drums and (program in _BASSES or "bass" in name.casefold())
        instrument = "drums" if is_drums else program_to_instrument_name(program)
        span = (note_number_to_name(int(end)) for end in (pitch.min(), pitch.max()))
        first = int(4 * midi.tick[notes].min() / midi.tpq + 0.5)
        bar, number = timeline.grid(first + 1).n_bars, f"{track}"
        number += f".{channel + 1}" * bool(channels[track] > 1)
        described.append(Part(number, name, instrument, channel + 1, notes, *span, bar, is_drums, is_bass))
    return described


def table(midi):
    """The parts of a file as lines of text."""
    head = "track", "name", "instrument", "channel", "notes", "range", "first bar"
    rows = [head, *([str(cell) for cell in part.row()] for part in parts(midi))]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def in_a_line(midi):
    """The parts of a file for a message."""
    said = []
    for part in parts(midi):
        number, name, instrument, channel, notes, span, bar = part.row()
        more = f"{instrument}, channel {channel}, {notes} notes, {span}, from bar {bar}"
        said.append(f"{number}{f' {name!r}' if name else ''} ({more})")
    return f"its tracks are {first_few(said, _SHOWN)}" if said else "none of its tracks has notes"


def choose(midi, track=None):
    """Which notes of a file are heard, bool (n,); in words what they are, "" if they are all; and remarks.

    track: the number of one, TRACK.CHANNEL, "all", or words: a name, in full or in part, or an instrument, as
    General MIDI names it. None: drums are heard by themselves alone, and of several other parts the bass, if
    there is one. Raises ValueError for what no track has.
    """
    if track is None:
        return (*_by_default(midi), [])
    named = [number for number, name in enumerate(midi.track_names) if name == track]
    if str(track).isdecimal() and int(track) < len(midi.track_names):
        return midi.track == int(track), "", []
    if named:
        number = next((number for number in named if (midi.track == number).any()), named[0])
        several = f"{len(named)} tracks are named {track[:40]!r} ({', '.join(map(str, named[:_SHOWN]))})"
        return midi.track == number, "", [f"{several}; number {number} is heard"] * (len(named) > 1)
    if str(track).casefold() == ALL:
        return np.ones(len(midi.tick), bool), "", []
    found = _found(midi, str(track).strip().casefold())
    if not found:
        raise ValueError(f"no track {str(track)[:80]!r}; {in_a_line(midi)}")
    others = f"{track!r} is in {', '.join(part.number for part in found[:_SHOWN])}; the first is heard"
    return _notes_of(midi, found[0]), str(found[0]), [others] * (len(found) > 1)


def _found(midi, wanted):
    """The parts that words name in the first of these ways in which they name any; melodies before drums."""
    here = sorted(parts(midi), key=lambda part: part.is_drums)
    ways = (
        lambda part: part.number == wanted,
        lambda part: part.name.casefold() == wanted,
        lambda part: wanted in part.name.casefold(),
        lambda part: wanted in part.instrument.casefold(),
    )
    found = ([part for part in here if way(part)] for way in ways if wanted)
    return next(filter(None, found), [])


def _by_default(midi):
    drums = drum_notes(midi)
    heard = ~drums if not drums.all() else drums
    if len(np.unique(midi.track[heard] * 16 + midi.channel[heard])) > 1:
        basses = [part for part in parts(midi) if part.is_bass]
        if basses:
            bass = max(basses, key=lambda part: len(part.notes))
            return _notes_of(midi, bass), str(bass)
    return heard, "all but its drums" * (not heard.all())


def _notes_of(midi, part):
    return np.isin(np.arange(len(midi.tick)), part.notes)
