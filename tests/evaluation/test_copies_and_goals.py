"""What is copied, repeated and varied; the registry, and the judgement of the goals."""

import dataclasses

import numpy as np
import pytest

from model.bars import BarGrid
from tests.helpers.evaluation_windows import values, windows
from utils.corpus.cache import Cache
from utils.evaluation.baselines import onset_f1
from utils.evaluation.copies import copy_sums, difference, longest_copies, pair_sums, training_bars
from utils.evaluation.parts import COPIES, LIKENESS, PARTS
from utils.evaluation.registry import Goal, Metric, Part, Table, judge
from utils.evaluation.tables import as_markdown, as_text

FOUR_BARS, TWO_BARS = (BarGrid.four_four(16 * bars, 4) for bars in (4, 2))


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
    copied = longest_copies(window, FOUR_BARS, bars, start)
    assert copied[0] == 25 and copied[1] < 5 and copied[3] == 64
    assert copied[2] == 24  # of the second alone
    assert longest_copies(test[None], TWO_BARS, bars, start)[0] < 5


def test_copies_are_the_same_however_many_windows_at_once(monkeypatch):
    bars, start = training_bars(cache_of(("train", random_onset(320))), 16)
    onset = random_onset(7, 32, seed=5) * (np.arange(9) < 2)
    whole = longest_copies(onset, TWO_BARS, bars, start)
    monkeypatch.setattr("utils.evaluation.copies.AT_ONCE", 2)
    assert np.array_equal(whole, longest_copies(onset, TWO_BARS, bars, start))


def test_bars_that_repeat():
    onset = random_onset(2, 64)
    onset[0, 16:32], onset[0, 48:], onset[1, 48:] = onset[0, :16], onset[1, :16], onset[1, 32:48]
    onset[1, 16:24] = onset[1, :8]  # half a bar is none
    # of 6 bars with one before them 2 are like it; unlike all others: bar 3 of the first, bar 2 of the second
    known = training_bars(cache_of(("train", onset[1])), 16)
    copied = values(COPIES, copy_sums(onset, windows(*([of[None]] * 3 for of in onset)), known))
    assert copied["bars like the bar before"] == 2 / 6 and copied["bars like no other"] == 2 / 8
    assert copied["longest copy, most"] == 64 and copied["whole windows"] == 1 / 2
    assert 32 < copied["longest copy, mean"] < 64


def test_difference_is_one_minus_f1_of_every_pair():
    samples = random_onset(3, 2, 16)
    by_hand = [(a, b) for a in range(3) for b in range(a)]
    common = sum((samples[a] * samples[b]).sum() for a, b in by_hand)
    hits = sum(samples[a].sum() + samples[b].sum() for a, b in by_hand)
    assert difference(pair_sums(samples).sum(0)) == pytest.approx(1 - 2 * common / hits)
    assert difference(pair_sums(samples[:2]).sum(0)) == pytest.approx(1 - onset_f1(samples[0], samples[1]))
    assert difference(pair_sums(samples[[0, 0]]).sum(0)) == 0


# ------------------------------------------------------------------------- goals


def figure(value):
    return {"value": value, "low": value, "high": value}


def test_goals_are_met_by_figures_on_the_right_side():
    spreads = {
        "T4, controls unset": {
            "kick": {"velocity deviation / real": figure(1.06)},
            "ride": {"velocity deviation / real": figure(0.9)},
        }
    }
    figures = {
        "likelihood": {
            "likelihood": {
                "T4": {
                    "true controls": {"onset, per step": figure(0.55)},
                    "true controls, another window's rhythm": {"cost": figure(0.99)},
                    "controls unset": {"onset, per step": figure(0.86)},
                    "controls unset, another window's rhythm": {"cost": figure(float("nan"))},
                }
            }
        },
        "rhythm": {"answers": {}, "swapped rhythm": {"T4": {"sampled": {"fall of F1": figure(0.2)}}}},
        "realism": {table.name: {} for table in PARTS["realism"].tables}
        | {
            "likeness": {"T4": {"controls unset": {"offset spread within a step / real": figure(1.1)}}},
            "spreads": spreads,
        },
    }
    rows = {row["goal"]: row for row in judge(figures, PARTS)}
    assert {name: row["met"] for name, row in rows.items()} == {
        "onset, per step, T4, true controls": True,
        "onset, per step, T4, controls unset": False,
        "cost, T4, true controls, another window's rhythm": False,
        "cost, T4, controls unset, another window's rhythm": False,
        "fall of F1, T4, sampled": True,
        "offset spread within a step / real, T4, controls unset": True,
        "velocity deviation / real, T4, controls unset, ride (the furthest from 1)": False,
    }
    assert rows["onset, per step, T4, true controls"]["most"] == 0.55
    spreads["T4, controls unset"]["kick"]["velocity deviation / real"] = figure(float("nan"))
    assert [row["met"] for row in judge(figures, PARTS) if "kick (the furthest" in row["goal"]] == [False]
    assert judge({}, PARTS) == []


def test_metrics_and_goals_have_names_of_their_own():
    for part in PARTS.values():
        assert len({table.name for table in part.tables}) == len(part.tables)
        for table in part.tables:
            assert len({metric.name for metric in table.metrics}) == len(table.metrics), table.name
    goals = [
        (metric.name, goal.of, goal.row)
        for part in PARTS.values()
        for table in part.tables
        for metric in table.metrics
        for goal in metric.goals
    ]
    assert len(set(goals)) == len(goals) == 71


def test_a_new_metric_is_one_row():
    """It is measured, printed in both forms, and judged."""
    goal = Goal("T4", "played", least=0.5, known=".4", beside="trivial")
    made_up = Metric("share", "hits", goals=[goal])
    part = Part(
        lambda player, sets: {
            "made up": {"T4": {"played": {"hits": sums}, "trivial": {"hits": sums / [2, 1]}}}
        },
        [Table("made up", "A share", [made_up, Metric("missing", "nothing"), Metric("plain", "n")])],
    )
    sums = np.array([[3.0, 4], [3, 4]])
    figures = {
        "made up": part.figures(None, None),
        "checkpoint": "x.pt",
        "step": 1,
        "split": "test",
        "floor": "train",
    }
    figures |= {"samples": 1, "seed": 0, "sets": {"T4": {"windows": 2, "performances": 2}}}
    figures["goals"] = judge(figures, {"made up": part})
    (row,) = figures["goals"]
    assert row["met"] and row["figure"]["value"] == 0.75 and row["beside"]["value"] == 0.375
    text, card = as_text(figures, {"made up": part}), as_markdown(figures, {"made up": part})
    assert "A share (T4)" in text and "missing" not in text and "1 of 1 goals are met" in text
    assert "| played | .750 [.750, .750] |" in card
    assert "| share, T4, played | .4 | .375 [.375, .375] | .750 [.750, .750] | ≥ 0.5 | yes |" in card
    other = dataclasses.replace(made_up, goals=[Goal("T4", "played"), Goal("T4", "played", 0.1, 0.3)])
    part.tables[0].metrics[0] = other
    unbounded, missed = judge(figures, {"made up": part})
    assert unbounded["met"] is None and missed["met"] is False and missed["least"] == 0.1


def test_metrics_that_run_down_the_page():
    rows = {"real": {"rate": np.array([[1.0, 4]])}, "floor": {"rate": np.array([[2.0, 4]])}}
    figures = {"realism": {table.name: {} for table in PARTS["realism"].tables}, "goals": []}
    figures["realism"]["likeness"] = {"T4": LIKENESS.score(rows)}
    figures |= {"checkpoint": "x", "step": 0, "split": "test", "floor": "train", "samples": 1, "seed": 0}
    figures["sets"] = {"T4": {"windows": 1, "performances": 1}}
    assert "| onset rate | .2500 [.2500, .2500] | .5000 [.5000, .5000] |" in as_markdown(figures, PARTS)
