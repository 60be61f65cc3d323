"""What is copied, repeated and varied; realism with its intervals; and the judgement of the goals."""

import numpy as np
import pytest

from tests.helpers.model_batches import random_batch
from utils.corpus.cache import Cache
from utils.evaluation.copies import difference, longest_copies, pair_sums, repetition, training_bars
from utils.evaluation.goals import GOALS, judge
from utils.evaluation.likeness import describe, onset_scores
from utils.evaluation.player import Windows
from utils.evaluation.realism import likeness_ratios


def random_onset(*shape, seed=0):
    return (np.random.default_rng(seed).random((*shape, 9)) < 0.3).astype(np.float32)


def cache_of(*performances):
    """A cache of performances (split, onset (T, 9))."""
    files, start = [], 0
    for split, onset in performances:
        files.append({"split": split, "start": start, "n_steps": len(onset)})
        start += len(onset)
    vel = np.concatenate([onset for _, onset in performances]).astype(np.uint8) * 90
    return Cache(vel, np.zeros(vel.shape, np.int16), files, {}, {}, {})


# ------------------------------------------------------------------------- copies


def test_the_longest_copy_is_found_where_it_stands():
    first, second, test = random_onset(48), random_onset(64, seed=1), random_onset(32, seed=2)
    bars, start = training_bars(cache_of(("train", first), ("test", test), ("train", second)), 16)
    assert bars.shape == (7, 16) and np.flatnonzero(start).tolist() == [0, 3]
    window = random_onset(4, 64, seed=3)
    window[0, 20:45] = second[4:29]  # at the same place in the bar, over a bar line
    window[1, 20:45] = second[5:30]  # a step off
    window[2, 8:24], window[2, 24:40] = first[40:48].repeat(2, 0), second[8:24]
    window[2, 8:16], window[2, 16:24] = (
        first[40:48],
        second[0:8],
    )  # from the end of one performance into the next
    window[3] = second
    copied = longest_copies(window, bars, start)
    assert copied[0] == 25 and copied[1] < 5 and copied[3] == 64
    assert copied[2] == 24  # of the second alone
    assert longest_copies(test[None], bars, start)[0] < 5


def test_copies_are_the_same_however_many_windows_at_once(monkeypatch):
    bars, start = training_bars(cache_of(("train", random_onset(320))), 16)
    windows = random_onset(7, 32, seed=5) * (np.arange(9) < 2)
    whole = longest_copies(windows, bars, start)
    monkeypatch.setattr("utils.evaluation.copies.AT_ONCE", 2)
    assert np.array_equal(whole, longest_copies(windows, bars, start))


def test_bars_that_repeat():
    onset = random_onset(2, 64)
    onset[0, 16:32], onset[0, 48:], onset[1, 48:] = onset[0, :16], onset[1, :16], onset[1, 32:48]
    # of 6 bars with one before them two are like it; unlike all others are bar 3 of the first and bar 2 of the second
    assert repetition(onset, 16) == pytest.approx(
        {"bars like the bar before": 2 / 6, "bars like no other": 2 / 8}
    )


def test_difference_is_one_minus_f1_of_every_pair():
    samples = random_onset(3, 2, 16)
    by_hand = [(a, b) for a in range(3) for b in range(a)]
    common = sum((samples[a] * samples[b]).sum() for a, b in by_hand)
    hits = sum(samples[a].sum() + samples[b].sum() for a, b in by_hand)
    assert difference(pair_sums(samples).sum(0)) == pytest.approx(1 - 2 * common / hits)
    assert difference(pair_sums(samples[:2]).sum(0)) == pytest.approx(
        1 - onset_scores(samples[0], samples[1])["f1"]
    )
    assert difference(pair_sums(samples[[0, 0]]).sum(0)) == 0


# ------------------------------------------------------------------------- likeness with intervals


def test_ratios_are_those_of_the_descriptions():
    batch = random_batch(B=6, T=32)
    windows = Windows("random", batch, np.arange(6), np.full(6, 100.0))
    other = [random_batch(B=6, T=32, seed=seed) for seed in (1, 2)]
    rolls = [np.stack([part[name].numpy() for part in other]) for name in ("onset", "vel", "timeoffset")]
    real, played = describe(windows.rolls, windows.rolls), describe(rolls, windows.rolls)
    figures = likeness_ratios(rolls, windows)
    shares = ("velocity KL", "offset KL", "steps with more than two non-kick voices")
    assert len(figures) == 2 * 7 + 4
    for name, figure in figures.items():
        expected = played[name] if name in shares else played[name] / real[name]
        assert figure["value"] == pytest.approx(expected, rel=1e-4), name
        assert figure["low"] < figure["high"]


# ------------------------------------------------------------------------- goals


def figure(value):
    return {"value": value, "low": value, "high": value}


def test_goals_are_met_by_figures_on_the_right_side():
    figures = {
        "likelihood": {
            "given": {"onset": figure(0.55)},
            "given_swapped": {"cost": figure(0.99)},
            "unset": {"onset": figure(0.86)},
            "unset_swapped": {"cost": figure(float("nan"))},
        },
        "rhythm": {"swapped": {"fall": figure(0.2)}},
        "realism": {
            "ratios": {
                "T4": {
                    "unset": {
                        "offset spread within a step": figure(1.1),
                        "velocity deviation": figure(1),
                        "velocity deviation, kick": figure(1.06),
                        "velocity deviation, ride": figure(0.9),
                    }
                }
            }
        },
    }
    rows = {row["goal"]: row for row in judge(figures)}
    met = {name: row["met"] for name, row in rows.items()}
    assert met == {
        "onset nats per step, true controls": True,
        "onset nats per step, controls unset": False,
        "cost of a swapped rhythm, controls given": False,
        "cost of a swapped rhythm, controls unset": False,
        "fall of sampled F1 when it is swapped, T4": True,
        "offset spread within a step / real, T4, controls unset": True,
        "velocity spread / real, T4, controls unset: ride is the furthest of 2": False,
    }
    assert rows["onset nats per step, true controls"]["most"] == 0.55
    assert judge({}) == []


def test_every_goal_has_a_bound_and_a_name_of_its_own():
    assert len({goal.name for goal in GOALS}) == len({goal.path for goal in GOALS}) == len(GOALS)
    assert all(goal.least is not None or goal.most is not None for goal in GOALS)
