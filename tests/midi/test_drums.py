import pytest

from utils.midi.drums import (
    N_STYLES,
    N_VOICES,
    STYLE_NONE,
    STYLES,
    VOICE_PITCHES,
    VOICES,
    inverse_mapping,
    mapping,
    mapping_table,
    style_id,
    voice_index,
    voices_meant,
)

DESIGNED = {
    36: [36],
    38: [38, 40, 37],
    42: [42, 22, 44],
    43: [43, 58],
    46: [46, 26],
    47: [45, 47],
    49: [49, 55, 57, 52],
    50: [48, 50],
    51: [51, 59, 53],
}


def test_the_public_numbering_is_in_pitch_order():
    table = {n: idx for idx, n in enumerate(set(mapping.values()))}
    assert list(table) == VOICE_PITCHES == sorted(DESIGNED)
    assert table == mapping_table
    assert {val: key for key, val in table.items()} == inverse_mapping
    assert len(VOICES) == N_VOICES == len(set(VOICES)) == 9


def test_designed_keys_go_to_their_voice():
    assert {key: mapping[key] for keys in DESIGNED.values() for key in keys} == {
        key: voice for voice, keys in DESIGNED.items() for key in keys
    }


@pytest.mark.parametrize(
    "key, voice",
    [
        (35, "kick"),
        (41, "floor_tom"),
        (39, "snare"),
        (54, "closed_hat"),
        (56, "ride"),
        (70, "closed_hat"),
        (60, "high_tom"),
        (64, "floor_tom"),
        (81, "open_hat"),
    ],
)
def test_other_percussion_goes_to_a_sensible_voice(key, voice):
    assert VOICES[mapping_table[mapping[key]]] == voice


def test_every_pitch_finds_a_voice():
    assert sorted(mapping) == list(range(128))
    assert set(mapping.values()) == set(VOICE_PITCHES)


def test_styles_have_the_designed_ids():
    assert [style_id(name) for name in ("reggae", "gospel", "latin", "rock", "funk", "afrobeat")] == [
        0,
        1,
        2,
        6,
        16,
        17,
    ]
    assert [style_id(name) for name in STYLES] == list(range(18))
    assert (STYLE_NONE, N_STYLES) == (18, 19)


def test_names_are_found_however_they_are_written():
    assert style_id("New Orleans") == style_id("new-orleans") == STYLES.index("neworleans")
    assert style_id("none") == STYLE_NONE
    assert voice_index("Closed Hat") == voice_index("closed-hat") == voice_index("closed_hat") == 2


def test_plain_words_mean_several_voices_and_the_commonest_where_one_is_wanted():
    words = {"hh": ["closed_hat", "open_hat"], "Hi-Hat": ["closed_hat", "open_hat"], "bass drum": ["kick"]}
    words |= {"tom": ["floor_tom", "mid_tom", "high_tom"], "cymbals": ["crash", "ride"], "ride": ["ride"]}
    for word, voices in words.items():
        assert [VOICES[voice] for voice in voices_meant(word)] == voices
        assert VOICES[voice_index(word)] == voices[0]


def test_an_unknown_name_is_an_error_that_suggests_the_nearest():
    with pytest.raises(ValueError, match="unknown style 'funkk'; did you mean funk\\?.*known: reggae"):
        style_id("funkk")
    with pytest.raises(ValueError, match="unknown voice 'snair'; did you mean snare\\?"):
        voice_index("snair")
    with pytest.raises(ValueError, match="unknown voice 'xyzzy' \\(known"):
        voice_index("xyzzy")
