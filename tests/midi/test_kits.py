"""Kit maps: names, files, and the way out and back in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_bar_control import process_midi
from tests.helpers.midi_files import midi_bytes, note
from utils.midi.drums import VOICE_PITCHES, VOICES, inverse_mapping, mapping, voice_index
from utils.midi.kits import KITS, kit_in, kit_out
from utils.midi.read import notes_to_roll, read_midi
from utils.midi.write import roll_to_midi

NAMES = [None, *KITS]


def write_kit(path, text):
    path.write_text(text)
    return path


def test_both_kits_are_heard_where_none_is_named_and_differ_in_one_key():
    voices = kit_in()
    assert [VOICE_PITCHES[voice] for voice in voices] == [mapping[pitch] for pitch in range(128)]
    assert kit_in("roland_td").tolist() == voices.tolist()
    assert np.flatnonzero(kit_in("gm") != voices).tolist() == [58]
    assert VOICES[kit_in("gm")[58]] == "crash" and VOICES[kit_in("roland_td")[58]] == "floor_tom"


def test_a_roland_plays_the_heads_of_its_toms():
    assert kit_out() == kit_out("gm") == inverse_mapping
    assert kit_out("Roland TD") == inverse_mapping | {voice_index("high_tom"): 48, voice_index("mid_tom"): 45}


@pytest.mark.parametrize("kit", NAMES)
def test_what_a_kit_plays_it_hears_as_the_same_voice(kit):
    assert {voice: kit_in(kit)[pitch] for voice, pitch in kit_out(kit).items()} == {
        voice: voice for voice in range(9)
    }


@st.composite
def kits(draw):
    """Voice -> keys: any voices, any keys, none of them twice."""
    voices = draw(st.lists(st.sampled_from(VOICES), min_size=1, unique=True))
    pitches = draw(st.permutations(range(128)))
    sizes = [draw(st.integers(1, 4)) for _ in voices]
    return {voice: pitches[sum(sizes[:i]) : sum(sizes[: i + 1])] for i, voice in enumerate(voices)}


@settings(max_examples=40)
@given(kits(), st.randoms(use_true_random=False))
def test_a_file_of_a_kit_of_ones_own_comes_back_as_the_same_voices(tmp_path_factory, kit, random):
    folder = tmp_path_factory.mktemp("kit")
    path = write_kit(folder / "kit.yaml", "".join(f"{voice}: {keys}\n" for voice, keys in kit.items()))
    voices = kit_in(path)
    assert all(voices[key] == voice_index(voice) for voice, keys in kit.items() for key in keys)
    named = {key for keys in kit.values() for key in keys}
    assert all(voices[key] == kit_in()[key] for key in set(range(128)) - named)
    try:
        pitches = kit_out(path)
    except ValueError as error:  # a General MIDI key of a voice that isn't named is another's now
        assert {inverse_mapping[voice_index(voice)] for voice in set(VOICES) - set(kit)} & named
        assert "name another for" in str(error)
        return
    assert [pitches[voice_index(voice)] for voice in kit] == [keys[0] for keys in kit.values()]
    onset = np.array([[random.random() < 0.4 for _ in VOICES] for _ in range(16)], float)
    roll_to_midi(onset, onset, 0 * onset, pitches, folder / "kit.mid")
    heard = read_midi(folder / "kit.mid")
    back = notes_to_roll(heard.tick, heard.pitch, heard.velocity, heard.tpq, voice_of_pitch=voices)[0]
    np.testing.assert_array_equal(back, onset[: len(back)])


@pytest.mark.parametrize(
    "text, said",
    [
        ("kick: 36\nsnair: 38", "kit.yaml: unknown voice 'snair'; did you mean snare?"),
        ("kick: 128", "kit.yaml: kick: 128; a key is a whole number, 0 to 127"),
        ("kick: [36, -1, x]", "kit.yaml: kick: -1, 'x'; a key is"),
        ("kick: 36.0", "kit.yaml: kick: 36.0; a key is"),
        ("kick: true", "kit.yaml: kick: True; a key is"),
        ("kick: []", "kit.yaml: kick: no key; a key is"),
        ("kick:", "kit.yaml: kick: None; a key is"),
        ("kick: 36\nsnare: [38, 36]", "kit.yaml: key 36 is kick and snare"),
        ("closed hat: 42\nclosed_hat: 44", "kit.yaml: closed_hat names closed_hat a second time"),
        ("kick: 36\nkick: 35", "kit.yaml: key kick is given twice, in lines 1 and 2"),
        ("kick: 300\nsnair: 38", "0 to 127, or several in a list; unknown voice 'snair'"),
        ("", "kit.yaml: is empty; a kit names voices and their keys"),
        ("- 36", "kit.yaml: no voices; a kit names"),
        ("kick: [36", "kit.yaml: can't be read as YAML"),
    ],
)
def test_what_is_wrong_with_a_kit_is_told_at_once(tmp_path, text, said):
    path = write_kit(tmp_path / "kit.yaml", text)
    for read in (kit_in, kit_out):
        with pytest.raises(ValueError) as error:
            read(path)
        assert said in str(error.value) and str(path) in str(error.value)


def test_a_kit_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="absent.yaml: can't be read: No such file"):
        kit_in(tmp_path / "absent.yaml")
    with pytest.raises(
        ValueError, match="unknown kit 'roland-tdd'; did you mean roland_td.*a file that ends in .yaml"
    ):
        kit_out("roland-tdd")


def test_a_key_taken_from_a_voice_that_is_not_named_is_told_on_the_way_out(tmp_path):
    path = write_kit(tmp_path / "kit.yaml", "closed_hat: [42, 46]")
    with pytest.raises(
        ValueError, match="closed_hat has key 46, which is open_hat's .*; name another for open_hat"
    ):
        kit_out(path)
    assert VOICES[kit_in(path)[46]] == "closed_hat"


def test_the_example_is_a_whole_kit(repository):
    path = repository / "examples" / "kit.yaml"
    assert sorted(kit_out(path)) == list(range(9)) and min(kit_out(path).values()) == 24


def test_of_equally_loud_notes_the_lowest_voice_of_the_kit_is_heard(tmp_path):
    path = tmp_path / "two.mid"
    path.write_bytes(midi_bytes(note(0, 60, 90) + note(30, 61, 90)))
    first = write_kit(tmp_path / "first.yaml", "kick: 60\nride: 61")
    second = write_kit(tmp_path / "second.yaml", "kick: 61\nride: 60")
    assert [process_midi(path, kit=kit)[2][0, 0, 3].item() for kit in (first, second)] == [0, 0.25]
