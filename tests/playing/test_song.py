"""Songs: what a song file asks of each bar, what it says to one that can't be laid out, and what is
played."""

import numpy as np
import pytest
import torch
import yaml

import inference_bar_control as inference
from inference_bar_control import generate, process_midi, read_song
from model.bars import BarGrid
from tests.helpers.inference_helpers import build_tiny_model, save_tiny_checkpoint
from utils.midi.drums import STYLES, VOICES
from utils.playing.bar_lines import BarLines

KICK, SNARE, FLOOR_TOM, MID_TOM, CRASH, HIGH_TOM = (
    VOICES.index(name) for name in ("kick", "snare", "floor_tom", "mid_tom", "crash", "high_tom")
)


@pytest.fixture(scope="module")
def tiny_model(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture
def rhythm(repository):
    return process_midi(repository / "examples" / "clave_taps.mid")


def song_of(*sections, **more):
    return read_song({"sections": list(sections), **more})


def test_sections_follow_each_other_each_laid_out_over_its_own_bars():
    verse = {
        "name": "verse",
        "bars": 4,
        "hits_per_bar": {"from": 6, "to": 12},
        "style": "rock,-",
        "forbid": ["ride"],
    }
    chorus = {"name": "chorus", "bars": 2, "velocity": [80, 100], "voices": {"kick": 4}, "style": "funk"}
    song = song_of(verse, chorus, order=["chorus", "verse", "chorus"])
    assert len(song) == 8 and str(song) == "chorus 1-2, verse 3-6, chorus 7-8" and not song.loops
    asked = song.asked
    assert np.nan_to_num(asked["density"], nan=-1).tolist() == [-1, -1, 6, 8, 10, 12, -1, -1]
    assert np.nan_to_num(asked["intensity"], nan=-1).tolist() == [80, 100, -1, -1, -1, -1, 80, 100]
    rock, funk, none = STYLES.index("rock"), STYLES.index("funk"), 18
    assert asked["style"].tolist() == [funk, funk, rock, rock, none, none, funk, funk]
    assert (asked["instrument"][2:6, VOICES.index("ride")] == -1).all() and np.nansum(
        asked["instrument"] < 0
    ) == 4
    assert song_of({**verse, "repeat": 2}, chorus).asked["density"][:8].tolist() == [6, 8, 10, 12] * 2


def test_an_arc_asks_where_no_section_does_and_bends_what_they_ask():
    plain, busy = (
        {"bars": 2},
        {"bars": 2, "hits_per_bar": 20, "voices": {"kick": 4}, "forbid": "ride", "velocity": 120},
    )
    asked = song_of(plain, busy, arc={"hits_per_bar": {"from": 4, "to": 10}}).asked
    assert asked["density"].tolist() == [4, 6, 20, 20]
    arc = {"hits_per_bar": {"scale": {"from": 1, "to": 2.5}}, "velocity": {"add": [-30, 30]}}
    arc["voices"] = {"kick": {"add": [0, 0, 1, -9]}, "ride": {"from": 5, "to": 5}}
    asked = song_of(plain, busy, arc=arc).asked
    assert np.isnan(asked["density"][:2]).all() and asked["density"][2:].tolist() == [40, 50]
    assert np.isnan(asked["intensity"][:2]).all() and asked["intensity"][2:].tolist() == [127, 127]
    assert asked["instrument"][2:, KICK].tolist() == [5, 0] and asked["instrument"][
        :, VOICES.index("ride")
    ].tolist() == [5, 5, -1, -1]


def test_a_fill_is_what_drummers_play_and_a_crash_follows():
    verse = {
        "bars": 4,
        "hits_per_bar": 20,
        "velocity": 120,
        "voices": {"kick": 4, "snare": 4},
        "forbid": "high_tom",
    }
    song = song_of({**verse, "fill": 2}, {"bars": 2})
    asked = song.asked
    assert asked["density"][:4].tolist() == pytest.approx([20, 20, 21.4, 21.4]) and asked["intensity"][
        :4
    ].tolist() == [120, 120, 127, 127]
    assert asked["instrument"][1, [KICK, SNARE]].tolist() == [4, 4] and np.isnan(
        asked["instrument"][1, FLOOR_TOM]
    )
    assert asked["instrument"][2:4, [KICK, SNARE, FLOOR_TOM, HIGH_TOM]].tolist() == [[3, 9, 3, -1]] * 2
    assert (
        np.flatnonzero(song.crash).tolist() == [4]
        and asked["instrument"][4, CRASH] == 1
        and np.isnan(asked["instrument"][5, CRASH])
    )
    own = {"bars": 1, "hits_per_bar": 30, "velocity": 90, "voices": {"snare": 12}, "crash": False}
    song = song_of({**verse, "fill": own}, {"bars": 2})
    assert song.asked["density"][3] == 30 and song.asked["intensity"][3] == 90 and not song.crash.any()
    assert song.asked["instrument"][3, SNARE] == 12 and np.isnan(song.asked["instrument"][3, KICK])
    assert song_of({"bars": 1, "fill": 1}).asked["density"].tolist() == [
        21
    ]  # a last fill has no bar for a crash


def test_half_a_bar_of_fill_is_in_the_second_half(tiny_model):
    song = song_of({"bars": 2, "hits_per_bar": 20, "voices": {"snare": 4}, "fill": 0.5}, {"bars": 1})
    asked = song.asked
    assert (
        asked["density"][1] == pytest.approx(20.7)
        and asked["instrument"][1, SNARE] == 6.5
        and np.isnan(asked["instrument"][1, KICK])
    )
    assert asked["instrument"][1, [FLOOR_TOM, HIGH_TOM]].tolist() == [1.5, 1.5] and np.isnan(
        asked["instrument"][1, MID_TOM]
    )
    instrument = song.curves(BarGrid.four_four_bars(3, 4), tiny_model.normalize_factor)["instrument"]
    tom = instrument[0, 16:32, FLOOR_TOM]
    assert (
        (tom[:8] < 0).all()
        and np.clip(tom, 0, 1).mean() * 16 == pytest.approx(1.5)
        and len(set(tom[8:])) == 1
    )
    crash = instrument[0, 32:, CRASH]
    assert crash[0] == 1 and (crash[1:] < 0).all() and np.isnan(instrument[0, :32, CRASH]).all()


def test_a_rhythm_comes_round_again_to_the_end_of_the_song(tiny_model):
    rolls, lines = [torch.rand(1, 40, 9) for _ in range(3)], BarLines(tiny_model)  # two bars and a half
    once, looped = song_of({"bars": 7}), song_of({"bars": 7}, rhythm="loop")
    assert all(a is b for a, b in zip(once.laid(lines, rolls)[1], rolls))
    for roll, again in zip(rolls, looped.laid(lines, rolls)[1]):
        assert again.shape == (1, 112, 9) and not again[:, 40:48].any()
        assert (
            torch.equal(again[:, :40], roll)
            and torch.equal(again[:, 48:96], again[:, :48])
            and torch.equal(again[:, 96:], roll[:, :16])
        )
    longer = looped.laid(lines, rolls, 60)[1][0]  # its last note is held into the fourth bar
    assert not longer[:, 40:64].any() and torch.equal(longer[:, 64:104], rolls[0])


def test_generate_plays_a_song_and_its_crashes(rhythm, tiny_model):
    song = song_of({"bars": 1, "fill": 1, "repeat": 6}, rhythm="loop")
    arguments = song.arguments(rhythm, tiny_model)
    onset, vel, timeoffset = generate(**arguments, seed=1)
    assert onset.shape == (1, 96, 9) and (vel[onset == 1] > 0).all()
    assert onset[0, :, CRASH].unflatten(0, (6, 16))[1:].tolist() == [[1.0] + [0.0] * 15] * 5
    assert all(torch.equal(a, b) for a, b in zip((onset, vel, timeoffset), generate(**arguments, seed=1)))
    loose, once = (
        song.arguments(rhythm, tiny_model, "loose"),
        song_of({"bars": 9, "fill": 1, "repeat": 2}).arguments(rhythm),
    )
    assert loose["known"] is once["known"] is None and loose["follow"] == "loose"
    assert generate(**loose, seed=1)[0][0, 17:32, CRASH].sum() == 0


@pytest.mark.parametrize(
    "song, says",
    [
        ({}, "sections: None; it must be a list"),
        ({"section": []}, "unknown key 'section'; did you mean sections?"),
        ({"sections": [3]}, "section 1: 3; it must hold keys out of name, bars"),
        ({"sections": [{"name": "a"}]}, "section a: bars: None; it must be a whole"),
        (
            {"sections": [{"bars": 4, "velocty": 3}]},
            "section 1: unknown key 'velocty'; did you mean velocity?",
        ),
        (
            {"sections": [{"name": "a", "bars": 4, "velocity": "loud"}]},
            "section a: velocity: 'loud'; it must be a number, 1 to 127",
        ),
        (
            {"sections": [{"bars": 4, "velocity": {"from": 0, "to": 9}}]},
            "section 1: velocity: 0; it must be a number, 1 to 127",
        ),
        (
            {"sections": [{"bars": 2, "hits_per_bar": [1, 2, 3]}]},
            "section 1: hits_per_bar: 3 values for 2 bars",
        ),
        ({"sections": [{"bars": 2, "style": "fnk"}]}, "did you mean funk"),
        ({"sections": [{"bars": 2, "voices": 4}]}, "section 1: voices: 4; it must be voice names"),
        (
            {"sections": [{"bars": 2, "fill": 3}]},
            "section 1: fill: bars: 3; it must be 0.5 or a whole number, and at most the 2",
        ),
        (
            {"sections": [{"bars": 2, "fill": {"snare": 3}}]},
            "section 1: fill: unknown key 'snare'; the keys are bars",
        ),
        (
            {"sections": [{"bars": 2, "fill": {"crash": 1}}]},
            "section 1: fill: crash: 1; it must be true or false",
        ),
        (
            {"sections": [{"name": "verse", "bars": 1}], "order": ["vers"]},
            "order: unknown section 'vers'; did you mean verse?",
        ),
        (
            {"sections": [{"name": "a", "bars": 1}] * 2, "order": ["a"]},
            "order: ['a']; it must be a list of names of sections, each",
        ),
        ({"sections": [{"bars": 1}], "rhythm": "once"}, "rhythm: 'once'; it must be loop"),
        ({"sections": [{"bars": 99, "repeat": 99}]}, "9801 bars; a song has at most 4096"),
        ({"sections": [{"bars": 1}], "arc": {"style": 1}}, "arc: unknown key 'style'"),
        (
            {"sections": [{"bars": 1}], "arc": {"velocity": {"add": 5}}},
            "arc: velocity: {'add': 5}; no section asks for velocity",
        ),
        (
            {"sections": [{"bars": 1, "velocity": 9}], "arc": {"velocity": {"scale": -1}}},
            "arc: velocity: scale: -1; it must be a number, 0 or more",
        ),
    ],
)
def test_errors_name_file_section_key_value_and_rule(tmp_path, song, says):
    path = tmp_path / "song.yaml"
    path.write_text(yaml.safe_dump(song))
    with pytest.raises(ValueError) as error:
        read_song(path)
    assert str(error.value).startswith(f"{path}: ") and says in str(error.value)
    with pytest.raises(ValueError, match="^song: "):
        read_song(song)


def test_command_plays_a_song(repository, tiny_config, tmp_path, capsys):
    checkpoint, path = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt"), tmp_path / "song.yaml"
    path.write_text(
        "rhythm: loop\nsections: [{name: verse, bars: 3, hits_per_bar: {from: 4, to: 8}, repeat: 2}]\n"
    )
    words = [
        "--rhythm",
        repository / "examples" / "clave_taps.mid",
        "--song",
        path,
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "out",
    ]
    words = [str(word) for word in words]
    assert inference.main(inference.parse_arguments([*words, "--seed", "1"])) == 0
    said = capsys.readouterr().out
    assert "playing 6, seed 1\n  bars of the sections: verse 1-3, verse 4-6\n" in said
    rows = [
        line.split() for line in said.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ", "4 ", "5 ", "6 ")
    ]
    assert [row[1] for row in rows] == ["4", "6", "8"] * 2
    for more, named in (
        (["--bars", "2", "--voice", "kick=1"], "--bars: 2; it"),
        (["--voice", "kick=1"], "--voice: {'kick': '1'}; it"),
        (["--job", "vary"], "--job: 'vary'; it"),
    ):
        assert inference.main(inference.parse_arguments([*words, *more])) == 2
        assert f"{named} does not go with song: the song gives its bars" in capsys.readouterr().err
    path.write_text("sections: [{bars: 0}]")
    assert inference.main(inference.parse_arguments(words)) == 2
    assert (
        capsys.readouterr().err
        == f"inference_bar_control.py: {path}: section 1: bars: 0; it must be a whole number, 1 or more\n"
    )


def test_the_song_of_the_examples_is_one(repository):
    assert len(read_song(repository / "examples" / "song.yaml")) == 48


def test_every_section_begins_a_phrase():
    sections = [{"name": "verse", "bars": 10}, {"name": "chorus", "bars": 2}]
    grid = BarGrid.of(["3/4"] * 11 + ["2/4"])
    song = read_song({"sections": sections})
    phrase = song.phrase_of(grid)
    assert phrase[[*grid.starts]].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 0, 1] and len(phrase) == 140
