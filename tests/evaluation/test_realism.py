"""Likeness to real drums, and obedience to the true controls, against values worked out by hand."""

from math import isnan, log

import numpy as np
import pytest

from tests.helpers.evaluation_windows import (
    CLOSED,
    KICK,
    OPEN,
    RIDE,
    SNARE,
    rolls,
    values,
    windows,
    windows_in,
)
from tests.helpers.model_batches import random_batch
from utils.evaluation import realism
from utils.evaluation.controls import adherence
from utils.evaluation.parts import LIKENESS, SPREADS, TRUE_CONTROLS
from utils.evaluation.realism import beside_real, commonest_voices, histogram, likeness_sums, spread_rows


def sums_of(*drums):
    return likeness_sums([roll[None] for roll in windows(*drums).rolls], np.arange(len(drums)))


def likeness(drums, real=None):
    """The values of LIKENESS of one window beside another."""
    return values(LIKENESS, beside_real(sums_of(drums), sums_of(drums if real is None else real)))


def test_kl_counts_sixteen_bins_and_adds_one():
    def kl(real, generated, low):
        return realism.kl(histogram(real, low), histogram(generated, low))

    real, generated = [0.01, 0.05, 0.06, 1.0], [0.03, 0.99]
    # bins 0 and 15 of the real hold 3 + 1 and 1 + 1 of 20, of the generated 1 + 1 and 1 + 1 of 18
    by_hand = 4 / 20 * log((4 / 20) / (2 / 18)) + 2 / 20 * log((2 / 20) / (2 / 18)) + 14 / 20 * log(18 / 20)
    assert kl(real, generated, low=0.0) == pytest.approx(by_hand)
    assert kl(real, real, low=0.0) == 0
    # offsets: -0.5 and -0.44 share the first bin, 0.49 is in the last, -0.01 and 0.01 are not in one bin
    assert kl([-0.5, 0.49], [-0.44, 0.45], low=-0.5) == 0
    assert kl([-0.01], [0.01], low=-0.5) > 0


def test_steps_that_no_drummer_can_play_are_counted():
    drums = rolls(
        4,
        *((0, v, 1, 0) for v in (KICK, SNARE, CLOSED)),
        *((1, v, 1, 0) for v in (SNARE, CLOSED, RIDE)),
        *((2, v, 1, 0) for v in (OPEN, CLOSED)),
    )
    assert likeness(drums)["steps with more than two non-kick voices"] == 1 / 4
    assert likeness(drums)["steps with open and closed hat"] == 1 / 4


def test_spread_within_a_step_is_latest_minus_earliest():
    wide, narrow = (
        [(0, KICK, 1, -0.2), (0, SNARE, 1, 0.1), (0, CLOSED, 1, 0.0)],
        [(1, KICK, 1, 0.3), (1, RIDE, 1, 0.4)],
    )
    drums = rolls(4, *wide, *narrow, (2, KICK, 1, 0.45))
    beside = likeness(drums, rolls(4, *wide))
    assert beside["offset spread within a step"] == pytest.approx((0.3 + 0.1) / 2, abs=1e-6)
    assert beside["offset spread within a step / real"] == pytest.approx(0.2 / 0.3, abs=1e-6)
    assert isnan(likeness(rolls(4, (2, KICK, 1, 0.45)))["offset spread within a step"])


def test_description_of_drums():
    real = rolls(4, (0, RIDE, 0.4, 0.1), (1, RIDE, 0.6, -0.1), (2, KICK, 1.0, 0.25))
    assert commonest_voices(sums_of(real), 2) == [RIDE, KICK]
    figures = likeness(real)
    assert figures["onset rate"] == pytest.approx(3 / 36)
    assert figures["onset rate, ride"] == 0.5 and figures["onset rate, snare"] == 0
    assert figures["velocity mean"] == pytest.approx(2 / 3)
    assert figures["velocity mean, ride"] == pytest.approx(0.5)
    assert figures["velocity deviation, ride"] == pytest.approx(0.1)
    assert figures["offset deviation, ride"] == pytest.approx(0.1)
    assert figures["offset deviation, kick"] == pytest.approx(0, abs=1e-7) and isnan(
        figures["velocity mean, snare"]
    )
    assert figures["velocity KL"] == figures["offset KL"] == 0
    assert sum(name.startswith("velocity mean, ") for name in figures) == 6  # of the commonest voices alone
    silence = likeness(rolls(4), real)
    assert silence["onset rate"] == 0 and isnan(silence["velocity mean"]) and silence["velocity KL"] > 0


def test_ratios_are_those_of_the_values_and_have_intervals():
    real = windows_in(random_batch(B=6, T=32))
    other = [random_batch(B=6, T=32, seed=seed) for seed in (1, 2)]
    rolls = [np.stack([part[name].numpy() for part in other]) for name in ("onset", "vel", "timeoffset")]
    real_sums = likeness_sums([roll[None] for roll in real.rolls], real.performance)
    sums = likeness_sums(rolls, real.performance)
    ours, theirs = (values(LIKENESS, beside_real(of, real_sums)) for of in (sums, real_sums))
    scores = SPREADS.score(spread_rows(sums, real_sums))
    assert len(scores) == 6
    for voice, figures in scores.items():
        for name, figure in figures.items():
            name = f"{name.removesuffix(' / real')}, {voice}"
            assert (
                figure["value"] == pytest.approx(ours[name] / theirs[name]) and figure["low"] < figure["high"]
            )
    for name in ("velocity deviation", "offset deviation", "offset spread within a step"):
        assert ours[f"{name} / real"] == pytest.approx(ours[name] / theirs[name])
    hit = rolls[0] > 0
    assert ours["velocity deviation"] == pytest.approx(rolls[1][hit].std(), rel=1e-5)
    assert ours["onset rate"] == pytest.approx(rolls[0].mean())


def test_real_drums_of_another_split_need_not_be_as_many():
    real, floor = sums_of(rolls(4, (0, RIDE, 0.4, 0.1))), sums_of(*[rolls(4, (0, RIDE, 0.9, 0.1))] * 3)
    figure = LIKENESS.score({"floor": beside_real(floor, real)})["floor"]["velocity KL"]
    assert 0 < figure["low"] <= figure["high"]


def test_adherence_compares_bars_in_a_musicians_units():
    # four bars: a snare short, a ride too many, a kick where silence is asked, silence where a hat is
    asked = rolls(64, (0, KICK, 1.0, 0), (4, SNARE, 0.5, 0), (16, KICK, 0.5, 0), (48, CLOSED, 1.0, 0))
    got = rolls(64, (2, KICK, 0.5, 0), (20, KICK, 0.25, 0), (24, RIDE, 0.25, 0), (32, KICK, 1.0, 0))
    rows = adherence(windows(asked), [roll[None] for roll in got])
    figures = {name: values(TRUE_CONTROLS, row) for name, row in rows.items()}
    hits, velocity = figures["density"], figures["intensity"]
    assert hits["mean error"] == pytest.approx(1) and hits["mean asked"] == pytest.approx(1)
    assert hits["rho"] == pytest.approx(0)  # asked 2, 1, 0, 1; got 1, 2, 1, 0
    assert velocity["mean error"] == pytest.approx(127 * 0.25)  # of the two bars with hits on both sides
    assert velocity["mean asked"] == pytest.approx(127 * 0.625) and velocity["rho"] == pytest.approx(1)
    for voice in ("kick", "snare", "closed_hat", "ride"):
        assert figures[voice]["mean error"] == pytest.approx(1 / 4)
    assert isnan(figures["crash"]["rho"])
