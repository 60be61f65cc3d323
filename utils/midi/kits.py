"""Kit maps: which keys of a drum kit sound which voice, on the way in and on the way out.

A kit is a name out of KITS, which stand in kits.yaml, or a YAML file, as examples/kit.yaml: per voice its
keys. All are heard as the voice, the first is the one that is played. A voice that isn't named keeps its
General MIDI keys.
"""

from pathlib import Path

import numpy as np

from utils.checks import first_few, shorten
from utils.config.yaml_file import read_file, read_text
from utils.midi.drums import N_VOICES, VOICES, inverse_mapping, look_up, mapping, mapping_table, voice_index

KITS = read_file(Path(__file__).with_name("kits.yaml"))[0]
SUFFIXES = (".yaml", ".yml")


def kit_in(kit=None):
    """The voice of each pitch: int64 (128,), voice indices; that of drums.mapping where the kit names none.

    kit: a name out of KITS, the path of a YAML file, or None: General MIDI and Roland TD alike, which agree
    on all but 58 (the vibraslap of the one, the floor tom's rim of the other; a rim it is). Raises ValueError
    naming the file or the kit and all that is wrong with it.
    """
    return voice_of_pitch(_keys(kit))


def kit_out(kit=None):
    """The pitch of each voice, voice index -> pitch, as convert_to_midi takes it.

    kit: a name out of KITS, the path of a YAML file, or None: General MIDI. Raises ValueError as kit_in does,
    and where a key that the kit names is still that of a voice that it doesn't name.
    """
    keys = _keys(kit)
    pitches = inverse_mapping | {voice: pitches[0] for voice, pitches in keys.items()}
    owner = {pitch: voice for voice, named in keys.items() for pitch in named}
    for voice in set(range(N_VOICES)) - set(keys):
        if pitches[voice] in owner:
            taken, by = pitches[voice], VOICES[owner[pitches[voice]]]
            raise ValueError(
                f"{kit}: {by} has key {taken}, which is {VOICES[voice]}'s in General MIDI; "
                f"name another for {VOICES[voice]}"
            )
    return pitches


def voice_of_pitch(keys):
    """keys: voice index -> pitches. Returns what kit_in does."""
    voices = np.array([mapping_table[mapping[pitch]] for pitch in range(128)])
    for voice, pitches in keys.items():
        voices[pitches] = voice
    return voices


def parse_kit(data, name):
    """The keys of a kit file's bytes, voice index -> pitches; `name` stands for the file in errors."""
    return _checked(*read_text(data, name), name)


def _keys(kit):
    if kit is None:
        return {}
    if str(kit).lower().endswith(SUFFIXES):
        return _checked(*read_file(kit), kit)
    try:
        name = list(KITS)[look_up(kit, list(KITS), "kit")]
    except ValueError as error:
        raise ValueError(
            f"{error}; a kit of your own is a file that ends in {' or '.join(SUFFIXES)}"
        ) from None
    return {voice_index(voice): pitches for voice, pitches in KITS[name].items()}


def _checked(kit, problems, name):
    """The voices and keys of a kit file; ValueError with all that is wrong."""
    if not isinstance(kit, dict) or not kit:
        found = "is empty" if kit in (None, {}) else "no voices"
        raise ValueError(f"{name}: {found}; a kit names voices and their keys, as 'kick: 36'")
    problems, keys, owner = list(problems), {}, {}
    for word, value in kit.items():
        pitches = value if isinstance(value, list) else [value]
        try:
            voice = voice_index(word)
        except ValueError as error:
            problems.append(str(error).partition(" (known")[0])
            continue
        if voice in keys:
            problems.append(f"{word} names {VOICES[voice]} a second time")
        wrong = [pitch for pitch in pitches if type(pitch) is not int or not 0 <= pitch <= 127]
        if wrong or not pitches:
            shown = ", ".join(shorten(repr(pitch)) for pitch in wrong[:5]) or "no key"
            problems.append(f"{word}: {shown}; a key is a whole number, 0 to 127, or several in a list")
            continue
        keys[voice] = pitches
        for pitch in pitches:
            if owner.setdefault(pitch, voice) != voice:
                problems.append(f"key {pitch} is {VOICES[owner[pitch]]} and {VOICES[voice]}")
    if problems:
        raise ValueError(f"{name}: {first_few(problems, 12, '; ')} (the voices are {', '.join(VOICES)})")
    return keys
