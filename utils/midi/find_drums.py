"""Which notes of a MIDI file are its drum kit.

A part is what one track plays on one channel. Parts are taken for these reasons, the surest first, until what
is taken has a kick and a snare or a hat: channel 10 or a rhythm bank; a name of drums; the keys of a kit.
"""

import re

import numpy as np

from utils.checks import first_few

DRUM_CHANNEL = 9  # shown to people as 10
_RHYTHM_BANKS = 120, 127  # of General MIDI 2, and of XG
_DRUM_NAMES = re.compile(
    r"\b(drum(s|kit|mer)?|kit|perc(ussion)?|kick|snare|(hi)?[- ]?hats?|cymbals?|toms?|cajon|congas?|bongos?"
    r"|batter(ie|ia)|bater[ií]a|schlagzeug|808|909)\b",
    re.IGNORECASE,
)
_STEEL = re.compile(r"\bsteel\b", re.IGNORECASE)  # drums that play melodies
_KICKS, _SNARES_AND_HATS = (35, 36), (37, 38, 39, 40, 42, 44, 46)
_KIT_KEYS, _MOST = (35, 59), 0.9  # lowest and highest; the share of the notes that is among them
_SHOWN = 6  # parts in a message


def find_drums(midi):
    """Which notes (utils.midi.read.MidiNotes) are the kit's, bool (n,): all of them where no part is."""
    taken = drum_notes(midi)
    return taken if taken.any() else ~taken


def drum_notes(midi):
    """The same, and none of them where no part is."""
    taken = (midi.channel == DRUM_CHANNEL) | (midi.bank == _RHYTHM_BANKS[0]) | (midi.bank == _RHYTHM_BANKS[1])
    if not taken.all():
        for are_drums in (_has_drum_name, _plays_a_kit):
            if not _has_kick_and_more(midi.pitch[taken]):
                for (track, _), notes in parts_of(midi):
                    taken[notes] |= are_drums(midi, track, notes)
    return taken


def describe_parts(midi, taken):
    """The parts of the notes that are taken, for people: "track 1 'Kit' (channel 10)"."""
    said = []
    for (track, channel), _ in parts_of(midi.select(taken)):
        name = midi.track_names[track][:40]
        said.append(f"track {track}{f' {name!r}' if name else ''} (channel {channel + 1})")
    return first_few(said, _SHOWN)


def parts_of(midi):
    """((track, channel), indices of its notes) of each part."""
    part = midi.track * 16 + midi.channel
    order = np.argsort(part, kind="stable")
    for notes in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        yield divmod(int(part[notes[0]]), 16), notes


def _has_kick_and_more(pitch):
    return np.isin(pitch, _KICKS).any() and np.isin(pitch, _SNARES_AND_HATS).any()


def _has_drum_name(midi, track, _):
    name = midi.track_names[track]
    return bool(_DRUM_NAMES.search(name)) and not _STEEL.search(name)


def _plays_a_kit(midi, _, notes):
    """The keys of a kit on a channel that has chosen no program, two of them at once somewhere."""
    pitch, tick = midi.pitch[notes], midi.tick[notes]
    in_kit = ((pitch >= _KIT_KEYS[0]) & (pitch <= _KIT_KEYS[1])).mean() >= _MOST
    at_once = len(np.unique(tick)) < len(np.unique(tick * 128 + pitch))
    return in_kit and at_once and not midi.program[notes].any() and _has_kick_and_more(pitch)
