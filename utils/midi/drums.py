"""The nine drum voices, the styles, and the way from any MIDI pitch to a voice."""

from difflib import get_close_matches

from utils.checks import shorten

VOICES = ["kick", "snare", "closed_hat", "floor_tom", "open_hat", "mid_tom", "crash", "high_tom", "ride"]
VOICE_PITCHES = [36, 38, 42, 43, 46, 47, 49, 50, 51]
N_VOICES = len(VOICES)
# One foot plays the kick, the other the pedal of the hi-hat, which sounds as a closed hat unless it is open.
# So a closed hat needs no hand: 98.7 % of the steps with more than two voices beside the kick have one.
HANDS = 2
HATS = [2, 4]  # closed, open
HAND_VOICES = [1, 3, 4, 5, 6, 7, 8]
RHYTHM_CHANNEL = 3  # where the encoder reads the rhythm in its nine-channel roll

STYLES = (
    "reggae gospel latin country punk highlife rock hiphop pop middleeastern neworleans jazz blues soul "
    "afrocuban dance funk afrobeat"
).split()
STYLE_NONE = len(STYLES)
N_STYLES = len(STYLES) + 1  # with "none"

# Which keys sound each voice: first the General MIDI kit and the keys of electronic kits
# (22 and 26: hi-hat edge; 58: floor tom rim), then other percussion, by what it plays in a groove
# rather than by its key number: shakers keep time like a hat, congas speak like toms.
_KEYS = {
    36: [36, 35],
    38: [38, 40, 37, 39, 31, 75, 85],
    42: [42, 22, 44, 54, 69, 70, 73, 80, 82, 83, 29, 32, 33],
    43: [43, 58, 41, 64, 86, 87],
    46: [46, 26, 71, 72, 74, 81, 30],
    47: [47, 45, 61, 63, 66, 78],
    49: [49, 55, 57, 52, 84],
    50: [50, 48, 60, 62, 65, 79],
    51: [51, 59, 53, 56, 67, 68, 76, 77, 34],
}
# pitch -> the voice's pitch, for all of 0..127; of keys that no drum kit uses low is a kick, high a hat
mapping = {pitch: 36 if pitch < 60 else 42 for pitch in range(128)}
mapping |= {key: pitch for pitch, keys in _KEYS.items() for key in keys}
# The usage shown to the public numbers the voices by walking set(mapping.values()). CPython walks a
# set of these nine small ints in rising order, so both agree; a test holds that in place.
mapping_table = {pitch: index for index, pitch in enumerate(VOICE_PITCHES)}
inverse_mapping = dict(enumerate(VOICE_PITCHES))


def _plain(name):
    return "".join(c for c in str(name).lower() if c.isalnum())


def look_up(name, names, what):
    """The index of a name; case, spaces and hyphens don't matter. Raises ValueError with the nearest name."""
    plain = {_plain(n): i for i, n in enumerate(names)}
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = get_close_matches(_plain(name), plain, n=1)
    hint = f"; did you mean {names[plain[near[0]]]}?" if near else ""
    raise ValueError(f"unknown {what} {shorten(repr(name))}{hint} (known: {', '.join(names)})")


def style_id(name):
    """The id, 0..17, of a style, however it is written; 18 for "none". Raises ValueError as look_up does."""
    return look_up(name, STYLES + ["none"], "style")


# What people say: which voices are meant and, where only one can be, the first of them.
_WORDS = {
    "kicks bd bassdrum kickdrum": ["kick"],
    "snares sd snaredrum": ["snare"],
    "hat hats hh hihat hihats": ["closed_hat", "open_hat"],
    "ch chh closedhh closedhihat": ["closed_hat"],
    "oh ohh openhh openhihat": ["open_hat"],
    "tom toms": ["floor_tom", "mid_tom", "high_tom"],
    "lowtom": ["floor_tom"],
    "cymbal cymbals": ["crash", "ride"],
    "crashcymbal": ["crash"],
    "ridecymbal": ["ride"],
}
_MEANT = {word: voices for words, voices in _WORDS.items() for word in words.split()}


def voices_meant(name):
    """The indices, 0..8, of the voices that a name means: its own, or of a word such as "toms" all three.
    Raises ValueError as look_up does."""
    return [look_up(voice, VOICES, "voice") for voice in _MEANT.get(_plain(name), [name])]


def voice_index(name):
    """The index, 0..8, of a voice, however it is written; of a word for several the first, as of "hat" the
    closed hat. Raises ValueError as look_up does."""
    return voices_meant(name)[0]
