import numpy as np

from utils.corpus.attributes import bar_attributes


def test_attributes_of_a_bar_counted_by_hand():
    onset, vel = np.zeros((2, 32, 9))
    onset[[0, 4, 8], [0, 1, 0]] = 1
    vel[[0, 4, 8], [0, 1, 0]] = [0.5, 1.0, 0.9]
    density, intensity, instrument = bar_attributes(onset, vel, 16)
    np.testing.assert_allclose(density, [3 / 144, 0])
    np.testing.assert_allclose(intensity, [0.8, np.nan], rtol=1e-6)
    np.testing.assert_allclose(instrument, [[2 / 16, 1 / 16, 0, 0, 0, 0, 0, 0, 0], [0] * 9])
    assert density.dtype == intensity.dtype == instrument.dtype == np.float32


def test_a_bar_cut_short_is_measured_as_a_whole_one():
    onset = vel = np.ones((20, 9))
    density, intensity, instrument = bar_attributes(onset, vel, 16)
    np.testing.assert_allclose(density, [1, 4 / 16])
    np.testing.assert_allclose(intensity, [1, 1])
    np.testing.assert_allclose(instrument[1], np.full(9, 4 / 16))


def test_a_batch_gives_each_item_its_own():
    onset = (np.random.default_rng(0).random((3, 4, 32, 9)) < 0.2).astype(np.float32)
    vel = onset * np.random.default_rng(1).random(onset.shape).astype(np.float32)
    together = bar_attributes(onset, vel, 16)
    alone = bar_attributes(onset[2, 1], vel[2, 1], 16)
    for many, one in zip(together, alone):
        np.testing.assert_array_equal(many[2, 1], one)


def test_velocity_without_a_hit_does_not_count():
    onset, vel = np.zeros((16, 9)), np.ones((16, 9))
    onset[0, 0], vel[0, 0] = 1, 0.25
    assert bar_attributes(onset, vel, 16)[1] == 0.25
