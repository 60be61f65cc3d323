"""Intervals: sums per performance, and what is drawn of them."""

from math import isnan

import numpy as np
import pytest

from utils.evaluation.bootstrap import draws, estimate, per_performance, quotient


def test_sums_are_of_the_windows_of_each_performance():
    values, performance = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]]), np.array([7, 3, 7, 5])
    assert per_performance(values, performance).tolist() == [[2, 20], [4, 40], [4, 40]]
    assert per_performance(values[:2], np.array([2, 0]), 4).tolist() == [[2, 20], [0, 0], [1, 10], [0, 0]]


def test_every_draw_has_as_many_performances_as_there_are_and_the_same_every_time():
    assert draws(6).shape == (1000, 6) and (draws(6).sum(1) == 6).all()
    draws.cache_clear()
    first = draws(6).copy()
    draws.cache_clear()
    assert np.array_equal(first, draws(6))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    rng = np.random.default_rng(1)
    x = rng.normal(3, 2, 400)
    figure = estimate(lambda s: quotient(s[..., 0], s[..., 1]), np.stack([x, np.ones(400)], 1))
    error = x.std() / 20
    assert figure["value"] == pytest.approx(x.mean())
    assert figure["low"] == pytest.approx(x.mean() - 1.96 * error, abs=0.2 * error)
    assert figure["high"] == pytest.approx(x.mean() + 1.96 * error, abs=0.2 * error)


def test_windows_of_one_performance_count_as_one():
    one = np.arange(40.0)
    sums = per_performance(np.stack([np.repeat(one, 9), np.ones(360)], 1), np.repeat(np.arange(40), 9))
    mean = lambda s: s[..., 0] / s[..., 1]  # noqa: E731
    assert estimate(mean, sums) == pytest.approx(estimate(mean, np.stack([one, np.ones(40)], 1)))


def test_a_difference_is_drawn_together():
    a = np.random.default_rng(0).normal(size=(30, 1))
    figure = estimate(lambda x, y: (x - y)[..., 0], a + 1, a)
    assert figure == pytest.approx({"value": 30, "low": 30, "high": 30})


def test_nothing_to_go_by_is_nan():
    figure = estimate(lambda s: quotient(s[..., 0], s[..., 1]), np.zeros((3, 2)))
    assert all(isnan(value) for value in figure.values())
    assert quotient(1, [0, 2]).tolist()[1] == 0.5
