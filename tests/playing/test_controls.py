"""Control curves, and a musician's units turned into them."""

import numpy as np
import pytest
import torch

from inference_bar_control import generate_control_params
from model.bars import BarGrid
from model.controls import CONTROLS, Control
from tests.helpers.inference_helpers import FACTOR, build_tiny_model
from utils.checks import ArgumentError
from utils.midi.drums import STYLE_NONE
from utils.playing.arguments import parse_guidance, parse_voices
from utils.playing.command import read_controls
from utils.playing.controls import NUMBERS, measure, read_curves, style_name, to_model_units
from utils.playing.receipt import Receipt, misses
from utils.playing.rolls import voice_mask
from utils.playing.wishes import ask


@pytest.mark.parametrize(
    "mode, expected", [("left", [1, 1, 5, 5]), ("right", [5, 5, 2, 2]), ("linear", [1, 3, 5, 3.5])]
)
def test_control_curve_modes(mode, expected):
    curve = generate_control_params([0, 0.5, 1], [1, 5, 2], 4, mode)
    assert curve.shape == (1, 4, 1) and curve.dtype == torch.float32
    assert curve.flatten().tolist() == expected


def test_control_curve_of_several_dimensions_categories_and_none():
    curve = generate_control_params([0.25, 0.75], [[1, 2], [3, 4]], 4, "left")
    assert curve.tolist() == [[[1, 2], [1, 2], [1, 2], [3, 4]]]
    assert generate_control_params([0, 1], [2, 2], 8, "left", is_cat=True).dtype == torch.int64
    assert generate_control_params([0, 0.5], [None, 1], 4, "left").isnan().flatten().tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (([0, 2], [1, 1], 8), r"control_points: \[0, 2\]"),
        (([0.5, 0], [1, 1], 8), "control_points"),
        (([0, 1], [1, 2, 3], 8), r"values: \[1, 2, 3\]"),
        (([0, 1], [[1, 2], [3]], 8), "values"),
        (([0, 1], [1, 1], 8, "up"), "mode: 'up'"),
        (([0, 1], [1, 2], 8, "linear", "cpu", True), "mode: 'linear'"),
        (([0, 1], [1, 1.5], 8, "left", "cpu", True), r"values: \[1, 1.5\]"),
        (([0, 1], [1, 1], 0), "seq_len: 0"),
        (([0, 1], [1, 1], 8, "left", "gpu"), "device: 'gpu'"),
    ],
)
def test_control_curve_names_what_is_wrong(arguments, named):
    with pytest.raises(ValueError, match=named):
        generate_control_params(*arguments)


def test_absent_device_falls_back_with_a_warning():
    with pytest.warns(UserWarning, match="cuda:97") as caught:
        assert generate_control_params([0, 1], [1, 1], 8, "left", "cuda:97").device.type == "cpu"
    assert len(caught) == 1


# ---- a musician's units


def test_wishes_are_stretched_over_the_bars():
    asked = ask(
        4, hits_per_bar="8,-", velocity=[60, None, 90], voices={"kick": 4}, forbid=["crash"], style="funk,-"
    )
    assert asked["density"].tolist()[:2] == [8, 8] and np.isnan(asked["density"][2:]).all()
    assert (
        asked["intensity"][0] == asked["intensity"][1] == 60
        and np.isnan(asked["intensity"][2])
        and asked["intensity"][3] == 90
    )
    assert asked["style"].tolist() == [16, 16, STYLE_NONE, STYLE_NONE]
    assert (
        asked["instrument"][:, 0].tolist() == [4] * 4
        and (asked["instrument"][:, 6] < 0).all()
        and np.isnan(asked["instrument"][:, 1]).all()
    )


@pytest.mark.parametrize("style", ["funk=0.7+jazz=0.3,rock,-", [{"funk": 7, "Jazz": "3"}, "rock", None]])
def test_styles_are_blended_bar_by_bar(style):
    asked = ask(3, style=style)
    assert asked["style"].shape == (3, 18) and np.allclose(asked["style"][0, [16, 11]], [0.7, 0.3])
    assert (
        asked["style"][1, 6] == 1
        and np.isnan(asked["style"][2]).all()
        and np.allclose(asked["style"][:2].sum(1), 1)
    )
    assert to_model_units(asked, FACTOR, BarGrid.four_four(48, 4))["style"].shape == (1, 48, 18)
    assert [style_name(style) for style in asked["style"]] == ["funk 0.7 + jazz 0.3", "rock", "-"]


def test_a_blend_of_one_style_is_its_name():
    assert ask(2, style={"funk": 0.2})["style"].tolist() == ask(2, style="funk")["style"].tolist() == [16, 16]
    assert ask(1, style="funk+jazz+rock")["style"][0, [6, 11, 16]].tolist() == [1 / 3] * 3


def test_guidance_on_the_command_line():
    assert parse_guidance(["2"]) == 2.0
    asked = {"style": 3.0, "density": 2.0, "instrument": 0.5, "intensity": 1.0}
    assert parse_guidance(["style=3", "hits-per-bar=2,", "voice=.5", "velocity=1"]) == asked
    for words, named in (
        (["strong"], "guidance: 'strong'"),
        (["style=much"], "guidance"),
        (["styl=2"], "did you mean style"),
        (["2", "style=3"], "guidance: '2 style=3'"),
    ):
        with pytest.raises(ValueError, match=named):
            parse_guidance(words)


@pytest.mark.parametrize(
    "wishes, named",
    [
        ({"style": {"funk": 0}}, "style: {'funk': 0}; .* weight above 0"),
        ({"hits_per_bar": "many"}, "hits_per_bar: 'many'"),
        ({"hits_per_bar": -1}, "hits_per_bar: -1"),
        ({"velocity": 0}, "velocity: 0; .* 1 to 127"),
        ({"velocity": [1, 2, 3, 4, 5]}, "velocity: 5 values for 4 bars"),
        ({"voices": {"kik": 4}}, "'kik'; did you mean kick"),
        ({"voices": {"kick": True}}, "voices: kick: True"),
        ({"forbid": ["gong"]}, "gong"),
        ({"style": "fnk"}, "'fnk'; did you mean funk"),
    ],
)
def test_wishes_that_make_no_sense(wishes, named):
    with pytest.raises(ValueError, match=named):
        ask(4, **wishes)


def test_what_is_measured_asks_for_itself():
    """Counting bars, turning the counts to model units and undoing those gives the shares of the cells."""
    chance = np.random.default_rng(0)
    onset = (chance.random((32, 9)) < 0.2).astype(np.float32)
    vel = onset * chance.uniform(0.1, 1, (32, 9)).astype(np.float32)
    grid = BarGrid.four_four(32, 4)
    got = measure(onset, vel, grid)
    assert got["density"].tolist() == [onset[:16].sum(), onset[16:].sum()]
    density, intensity, instrument, style, _ = to_model_units(got, FACTOR, grid).values()
    assert density.shape == intensity.shape == style.shape == (1, 32) and instrument.shape == (1, 32, 9)
    assert np.allclose(density[0, :16] * 0.05 + 0.125, onset[:16].mean(), atol=1e-6)
    assert np.allclose(intensity[0, 16:] * 0.1 + 0.5, vel[16:].sum() / onset[16:].sum(), atol=1e-6)
    assert np.allclose(instrument[0, 0], onset[:16].mean(0))


def test_voices_on_the_command_line():
    assert parse_voices(["kick=4"]) == parse_voices(["kick", "=4"]) == {"kick": "4"}
    assert parse_voices(["kick=4,", "closed-hat=8,8,4,8", "snare=2"]) == {
        "kick": "4",
        "closed-hat": "8,8,4,8",
        "snare": "2",
    }
    for words in (["kick"], ["4"], ["4 kick=2"]):
        with pytest.raises(ValueError, match="voices: "):
            parse_voices(words)


def test_control_file_errors_name_file_key_and_rule(tmp_path):
    path = tmp_path / "wishes.yaml"
    for text, named in (
        ("velocty: 3", "wishes.yaml: unknown key 'velocty'; did you mean velocity"),
        ("- 3", r"wishes.yaml: \[3\]; it must hold keys out of hits_per_bar"),
        ("velocity: 3\nvelocity: 4", "wishes.yaml.*velocity.*twice"),
        ("voices: kick", "wishes.yaml: voices: 'kick'"),
        ("a: [", "wishes.yaml"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=named):
            read_controls(path)
    with pytest.raises(ValueError, match="absent.yaml"):
        read_controls(tmp_path / "absent.yaml")


def test_a_control_is_a_row_of_the_table(monkeypatch, tiny_config):
    """Another row is asked for, turned into the model's units and back, measured and shown, without a word
    about it."""

    def half(onset, vel, grid):
        return grid.sums(onset[..., 0], -1) / np.array(grid.lengths, np.float32)

    row = Control(
        "footwork", wish="steps_of_the_foot", unit="hits", measure=half, units=lambda length: length
    )
    model = build_tiny_model(tiny_config)
    for table in (CONTROLS, NUMBERS):
        monkeypatch.setitem(table, "footwork", row)
    grid = BarGrid.four_four(32, 4)
    asked = ask(2, steps_of_the_foot="4,-", velocity=80)
    assert asked["footwork"].tolist()[:1] == [4] and np.isnan(asked["footwork"][1])
    curves = to_model_units(asked, FACTOR, grid)
    assert curves["footwork"].shape == (1, 32) and curves["footwork"][0, 0] == 0.25
    *_, back = read_curves(curves, None, grid, FACTOR)
    np.testing.assert_allclose(back["footwork"], asked["footwork"])
    onset = np.zeros((32, 9), np.float32)
    onset[[0, 4, 8], 0] = 1
    receipt = Receipt((onset, 0.5 * onset, 0 * onset), asked, model)
    assert misses(receipt.asked, receipt.got)["steps_of_the_foot"] == 0.25
    assert receipt.table().splitlines()[0].split()[-1] == "steps_of_the_foot"
    assert receipt.data()["bars"][0]["got"]["steps_of_the_foot"] == 3
    with pytest.raises(ArgumentError) as error:
        ask(2, steps_of_the_foot=17)
    assert error.value.argument == ("steps_of_the_foot",) and error.value.value == 17


def test_plain_words_ask_one_voice_and_forbid_or_lock_all_that_they_mean():
    asked = ask(1, voices={"hat": 8}, forbid=["tom"])["instrument"][0]
    assert asked[2] == 8 and asked[[3, 5, 7]].tolist() == [-1] * 3 and np.isnan(asked[4])
    assert voice_mask(["hihat", "kick"], "lock").nonzero().flatten().tolist() == [0, 2, 4]
