"""The table of controls says the same as the bars themselves."""

import math

import numpy as np
import torch

from model.bars import BarGrid
from model.condition import Condition, IdControl, ScalarControl, VoiceControl
from model.controls import CONTROLS, N_STYLES, N_VOICES, UNSET_STYLE, controls_of
from utils.midi import drums


def test_the_table_has_the_voices_and_styles_of_the_house():
    assert (N_VOICES, N_STYLES, UNSET_STYLE) == (drums.N_VOICES, drums.N_STYLES, drums.STYLE_NONE)
    assert list(CONTROLS) == [
        "density",
        "intensity",
        "instrument",
        "style",
        "steady",
    ]  # the order of a checkpoint's weights
    assert all(name == control.name for name, control in CONTROLS.items())


def test_a_quantity_times_its_units_is_what_a_musician_counts():
    """Five hits in a bar of 12 steps: two kicks at 100, three snares at 40."""
    grid, onset, vel = BarGrid(((4, 4, 4),), 12), np.zeros((12, N_VOICES)), np.zeros((12, N_VOICES))
    for voice, steps, velocity in ((0, [0, 6], 100), (1, [3, 6, 9], 40)):
        onset[steps, voice], vel[steps, voice] = 1, velocity / 127
    counted = {
        name: control.measure(onset, vel, grid)[0] * control.units(12)
        for name, control in CONTROLS.items()
        if control.measure
    }
    assert np.isnan(counted.pop("steady"))  # there is no bar before
    assert counted["density"] == 5
    np.testing.assert_allclose(counted["intensity"], (2 * 100 + 3 * 40) / 5)
    np.testing.assert_allclose(counted["instrument"], [2, 3, 0, 0, 0, 0, 0, 0, 0])


def test_what_is_normalized_comes_back():
    factor, bars = {"density": [0.13, 0.04], "intensity": [0.6, 0.1]}, np.array([0.0, 0.3])
    for name, control in CONTROLS.items():
        given = control.normalize(bars, factor)
        assert (not np.array_equal(given, bars)) == control.normalized == (name in factor)
        np.testing.assert_allclose(control.denormalize(given, factor), bars, atol=1e-12)


def test_unset_is_nan_or_the_last_id():
    for kind in (np.array, torch.tensor):
        numbers, ids = kind([math.nan, 0.5]), kind([UNSET_STYLE, 0])
        density, style = CONTROLS["density"], CONTROLS["style"]
        assert density.is_set(numbers).tolist() == style.is_set(ids).tolist() == [False, True]
        assert math.isnan(density.unset_in(numbers)) and style.unset_in(ids) == style.unset == UNSET_STYLE
        assert math.isnan(style.unset_in(numbers))  # weights of a blend


def test_a_control_is_embedded_by_its_kind_and_takes_its_part_of_the_condition():
    condition = Condition(8, 4, 6, 10, 16)
    names = [name for name, control in CONTROLS.items() if not control.optional]
    kinds = {name: type(condition.get_submodule(name)) for name in names}
    assert kinds == {
        "density": ScalarControl,
        "intensity": ScalarControl,
        "instrument": VoiceControl,
        "style": IdControl,
    }
    assert condition.mix.in_features == 8 + (len(names) + 2) * 6


def test_controls_come_out_of_a_batch_in_the_order_of_the_table():
    batch = {"mask": 0, "style": 4, "instrument": 3, "intensity": 2, "density": 1}
    assert list(controls_of(batch).items()) == [
        ("density", 1),
        ("intensity", 2),
        ("instrument", 3),
        ("style", 4),
    ]
