"""Bars of 4/4 in other meters: hits stay or go as said, downbeats, crashes and fills where they belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bars import bar_of_meter
from tests.helpers.drum_windows import hits
from utils.corpus.meters import BAR, CHANGES, CRASH, IN_FOUR, SILENT, THREES, TOMS, change_meter

KICK = 0


def drums(n_bars, seed=0, share=0.2):
    return hits(np.random.default_rng(seed), n_bars * BAR, share)[0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_gives_the_beats_of_its_meter(name):
    change = CHANGES[name]
    assert change.beats == bar_of_meter(name)
    for number, kept in enumerate(change.kept):
        assert list(kept) == sorted(set(kept)) and kept[:2] == (0, 1)  # the whole first beat, in order
        steps = change.steps(number)
        assert len(steps) == sum(change.beats) and steps[0] == 0
        sounding = steps[steps != SILENT].tolist()
        assert sounding == [2 * half + step for half in kept for step in (0, 1)]
    assert any(map(change.keeps_the_end, range(len(change.kept))))


def test_threes_keep_every_hit_and_put_the_eighth_on_the_third_third():
    assert THREES == (0, SILENT, 1, SILENT, 2, 3)
    steps = CHANGES["12/8"].steps(0)
    assert np.flatnonzero(np.isin(steps, (0, 4, 8, 12))).tolist() == [0, 6, 12, 18]  # beats stay beats


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 10**6),
    st.sampled_from([16, 32, 64, 128]),
    st.sampled_from([16, 24, 32]),
)
def test_hits_stay_in_order_and_downbeats_stay_downbeats(n_bars, seed, n_steps, longest_bar):
    vel = drums(n_bars, seed)
    steps, beats = change_meter(vel, n_steps, np.random.default_rng(seed), longest_bar)
    assert len(steps) == sum(map(sum, beats)) <= n_steps
    assert all(sum(bar) <= longest_bar for bar in beats)
    sounding = steps[steps != SILENT]
    assert (np.diff(sounding) > 0).all()  # each hit once at most, in order
    names = {change.beats: change for change in (*CHANGES.values(), IN_FOUR)}
    changed, old_bar = {names[bar] for bar in beats} - {IN_FOUR}, 0
    assert len(changed) <= 1
    for start, bar in zip(np.cumsum([0, *map(sum, beats)]), beats):
        here = steps[start : start + sum(bar)]
        joined = names[bar].joined
        assert here[0] == old_bar * BAR  # the downbeat, with its crash
        assert ((here == SILENT) | (here // BAR < old_bar + joined)).all()
        dropped = np.setdiff1d(np.arange(old_bar * BAR, (old_bar + joined) * BAR), here)
        assert len(dropped) == joined * BAR - (here != SILENT).sum()
        assert (dropped >= old_bar * BAR + 4).all()  # never of the first beat
        old = vel[old_bar * BAR : (old_bar + joined) * BAR]
        if (old[-4:, TOMS] > 0).any():  # a fill leads to the bar line
            assert here[-1] == (old_bar + joined) * BAR - 1
        old_bar += joined


@pytest.mark.parametrize("name", CHANGES)
def test_every_meter_is_drawn_as_often_as_its_weight_says(name):
    vel = drums(8)
    rng, n = np.random.default_rng(0), 1500
    got = [change_meter(vel[: 8 * BAR], 128, rng)[1] for _ in range(n)]
    whole = [beats for beats in got if IN_FOUR.beats not in beats]
    share = np.mean([CHANGES[name].beats in beats for beats in got])
    weights = {other: change.weight for other, change in CHANGES.items()}
    wanted = weights[name] / sum(weights.values())
    crash = (vel[BAR :: 2 * BAR, CRASH] > 0).any()
    if name in ("7/4", "8/4"):
        wanted = wanted if not crash else (2 * wanted if name == "7/4" else 0)
    assert abs(share - wanted) < 0.03
    assert 0.7 < len(whole) / n < 0.9


def test_two_bars_with_a_crash_between_are_not_joined_whole():
    vel = np.zeros((8 * BAR, 9), np.uint8)
    vel[BAR, CRASH] = vel[::BAR, KICK] = 100
    for seed in range(300):
        _, beats = change_meter(vel, 128, np.random.default_rng(seed))
        assert CHANGES["8/4"].beats not in beats
