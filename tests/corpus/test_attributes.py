import numpy as np

from model.bars import BarGrid
from utils.corpus.attributes import bar_attributes


def test_attributes_of_a_bar_counted_by_hand():
    onset, vel = np.zeros((2, 32, 9))
    onset[[0, 4, 8], [0, 1, 0]] = 1
    vel[[0, 4, 8], [0, 1, 0]] = [0.5, 1.0, 0.9]
    density, intensity, instrument, _ = bar_attributes(onset, vel, BarGrid.four_four(len(onset), 4)).values()
    np.testing.assert_allclose(density, [3 / 144, 0])
    np.testing.assert_allclose(intensity, [0.8, np.nan], rtol=1e-6)
    np.testing.assert_allclose(instrument, [[2 / 16, 1 / 16, 0, 0, 0, 0, 0, 0, 0], [0] * 9])
    assert density.dtype == intensity.dtype == instrument.dtype == np.float32


def test_a_bar_cut_short_is_measured_as_a_whole_one():
    onset = vel = np.ones((20, 9))
    density, intensity, instrument, _ = bar_attributes(onset, vel, BarGrid.four_four(len(onset), 4)).values()
    np.testing.assert_allclose(density, [1, 4 / 16])
    np.testing.assert_allclose(intensity, [1, 1])
    np.testing.assert_allclose(instrument[1], np.full(9, 4 / 16))


def test_a_batch_gives_each_item_its_own():
    onset = (np.random.default_rng(0).random((3, 4, 32, 9)) < 0.2).astype(np.float32)
    vel = onset * np.random.default_rng(1).random(onset.shape).astype(np.float32)
    together = bar_attributes(onset, vel, BarGrid.four_four(32, 4))
    alone = bar_attributes(onset[2, 1], vel[2, 1], BarGrid.four_four(32, 4))
    for name, many in together.items():
        np.testing.assert_array_equal(many[2, 1], alone[name])


def test_velocity_without_a_hit_does_not_count():
    onset, vel = np.zeros((16, 9)), np.ones((16, 9))
    onset[0, 0], vel[0, 0] = 1, 0.25
    assert bar_attributes(onset, vel, BarGrid.four_four(16, 4))["intensity"] == 0.25


def test_bars_of_any_length_are_measured_by_their_own_steps():
    grid = BarGrid(((4, 4, 4), (4, 4, 4, 4)), 28)
    onset = np.zeros((28, 9))
    onset[:, 2] = 1
    bars = bar_attributes(onset, onset * 0.5, grid)
    np.testing.assert_allclose(bars["density"], [1 / 9, 1 / 9])
    np.testing.assert_allclose(bars["intensity"], [0.5, 0.5])
    np.testing.assert_allclose(bars["instrument"][:, 2], [1, 1])
