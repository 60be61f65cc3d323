"""Which notes of a MIDI file are its drum kit.

A part is what one track plays on one channel. Parts are taken as drums for these reasons, the surest first, until what
is taken sounds like a kit: channel 10 or a rhythm bank; a name that says so; the keys that are played.
"""

import re

import numpy as np

DRUM_CHANNEL = 9  # shown to people as 10
RHYTHM_BANKS = (120, 127)  # of General MIDI 2, and of XG
_NAMES = re.compile(
    r"\b(drum(s|kit|mer)?|kit|perc(ussion)?|kick|snare|(hi)?-? ?hats?|cymbals?|toms?|cajon|congas?|bongos?|batter(ie|ia)"
    r"|bater[ií]a|schlagzeug|trommeln?|[89]0[89])\b",
    re.IGNORECASE,
)
_NO_DRUMS = re.compile(r"\bsteel\b|\bbass drum and\b", re.IGNORECASE)
_KICKS, _SNARES_AND_HATS = (35, 36), (37, 38, 39, 40, 42, 44, 46)
_KIT_KEYS = range(35, 60)
_SHARE_IN_KIT = 0.9


def parts_of(midi):
    """The parts of a file (utils.midi.read.MidiNotes) that have notes: [(track, channel)], and each note's index."""
    parts, part = np.unique(midi.track * 16 + midi.channel, return_inverse=True)
    return [divmod(int(number), 16) for number in parts], part


def find_drums(midi):
    """Which notes are the kit's, bool (n,): all where no part is."""
    taken = (midi.bank == RHYTHM_BANKS[0]) | (midi.bank == RHYTHM_BANKS[1]) | (midi.channel == DRUM_CHANNEL)
    if taken.all():
        return taken
    parts, part = parts_of(midi)
    for says_so in (_is_named, _plays_a_kit):
        if not _has_kick_and_more(midi.pitch[taken]):
            for index, (track, _) in enumerate(parts):
                if says_so(midi, track, mine := part == index):
                    taken |= mine
    return taken if taken.any() else ~taken


def _has_kick_and_more(pitch):
    return np.isin(pitch, _KICKS).any() and np.isin(pitch, _SNARES_AND_HATS).any()


def _is_named(midi, track, _):
    name = midi.track_names[track]
    return bool(_NAMES.search(name)) and not _NO_DRUMS.search(name)


def _plays_a_kit(midi, _, mine):
    """The keys of a kit on a channel without a program of its own, two of them at once somewhere."""
    pitch, tick = midi.pitch[mine], midi.tick[mine]
    at_once = len(np.unique(tick)) < len(np.unique(np.stack([tick, pitch]), axis=1).T)
    in_kit = np.isin(pitch, _KIT_KEYS).mean()
    return (
        (midi.program[mine] == 0).all() and in_kit >= _SHARE_IN_KIT and at_once and _has_kick_and_more(pitch)
    )


def describe_parts(midi, taken):
    """The parts of the notes that are taken, for people: "track 1 'Kit' (channel 10)"."""
    parts, part = parts_of(midi)
    said = []
    for index in np.unique(part[taken]):
        track, channel = parts[index]
        name = midi.track_names[track]
        said.append(f"track {track}{f' {name[:40]!r}' if name else ''} (channel {channel + 1})")
    return ", ".join(said[:6]) + (f" and {len(said) - 6} more" if len(said) > 6 else "")
