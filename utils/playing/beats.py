"""Beats by name: mixes of what can be asked, in beats.yaml, to which anybody may add."""

from functools import cache
from pathlib import Path

from utils.checks import within
from utils.midi.drums import look_up
from utils.midi.kits import SUFFIXES
from utils.playing.wishes import WISHES, check_mapping, check_voices, read_mapping, read_wishes

BEATS = Path(__file__).with_name("beats.yaml")
WISHED = tuple(name for name in WISHES if name != "forbid")
PLAYED = "follow", "guidance", "temperature"  # of the whole of what is played, not of a section
KEYS = (*WISHED, *PLAYED, "about")


def read_beat(beat):
    """The mix of a beat, a name out of beats.yaml or a YAML file with one: key out of WISHED and PLAYED ->
    value. Raises ArgumentError."""
    if beat is None:
        return {}
    if str(beat).lower().endswith(SUFFIXES):
        return _checked(read_mapping(beat, KEYS), beat)
    names = list(all_beats())
    with within("beat"):
        return all_beats()[names[look_up(beat, names, "beat")]]


@cache
def all_beats():
    """The mix of every beat in beats.yaml, by name."""
    file = read_mapping(BEATS, ("every", "beats"))
    with within(BEATS.name):
        return {name: _checked(mix, name, file["every"]) for name, mix in file["beats"].items()}


def mixed(own, mix):
    """What is asked, key -> value, over a mix: for None the value of the mix; voices one by one."""
    asked = mix | {key: value for key, value in own.items() if value is not None or key not in mix}
    if isinstance(own.get("voices"), dict) and "voices" in mix:
        asked["voices"] = mix["voices"] | own["voices"]
    return asked


def _checked(mix, name, every=None):
    with within(str(name)):
        check_mapping(mix, KEYS)
        check_voices(mix.get("voices"))
        mix = mixed({key: value for key, value in mix.items() if key != "about"}, every or {})
        read_wishes(**{key: mix.get(key) for key in WISHED})
    return mix
