"""Does a groove hold: the definitions on bars written by hand."""

import numpy as np
import pytest

from tests.helpers.evaluation_windows import CLOSED, CRASH, KICK, RIDE, SNARE, values
from utils.evaluation import groove
from utils.evaluation.parts import GROOVE, TWO_SAMPLES
from utils.midi.drums import voice_index

TOM = voice_index("high_tom")
BEAT = [(0, KICK), (8, KICK), (4, SNARE), (12, SNARE), *((step, CLOSED) for step in range(0, 16, 2))]


def drums(*bars, velocity=0.5):
    """onset, vel (1, 1, n, 16, 9) of bars, each a list of (step, voice)."""
    onset = np.zeros((1, 1, len(bars), 16, 9), bool)
    for bar, hits in enumerate(bars):
        for step, voice in hits:
            onset[0, 0, bar, step, voice] = True
    return onset, onset * velocity


def figures(onset, vel):
    return values(GROOVE, groove.groove_sums((onset, vel), np.zeros(1, int)))


def test_a_beat_that_stays_is_like_itself_at_every_lag():
    onset, vel = drums(*[BEAT] * 32)
    found = figures(onset, vel)
    assert [found[f"likeness at lag {lag}"] for lag in groove.LAGS] == [1] * 5
    assert (
        found["changes of timekeeper in four bars"]
        == found["velocity from bar to bar"]
        == found["fills"]
        == 0
    )
    ride = [(step, RIDE if voice == CLOSED else voice) for step, voice in BEAT]
    found = figures(*drums(*[BEAT, ride] * 16))
    assert found["likeness at lag 1"] == pytest.approx(4 / 20) and found["likeness at lag 2"] == 1
    assert found["changes of timekeeper in four bars"] == 3
    vel[:, :, ::2] += onset[:, :, ::2] * 0.1
    assert figures(onset, vel)["velocity from bar to bar"] == pytest.approx(12.7)


def test_fills_are_toms_beyond_the_windows_own_and_crashes_come_after_them():
    toms = [(step, TOM) for step in (10, 12, 14)]
    found = figures(*drums(BEAT, BEAT + toms, BEAT + [(0, CRASH)], BEAT, BEAT, BEAT + toms[:2], BEAT + toms))
    assert found["fills"] == pytest.approx(2 / 7)
    assert found["crashes after fills"] == 1  # no bar follows the second
    found = figures(*drums(BEAT, BEAT + toms, BEAT + [(4, CRASH)], BEAT + [(0, CRASH)]))
    assert found["crashes after fills"] == 0
    assert figures(*drums(*[BEAT + toms] * 4))["fills"] == 0  # the groove is on the toms


def test_silence_has_no_likeness():
    found = figures(*drums([], [], BEAT))
    assert found["likeness at lag 1"] == 0 == found["changes of timekeeper in four bars"]
    assert np.isnan(figures(*drums([], []))["likeness at lag 1"])


def test_auc_counts_pairs_of_windows():
    def auc(first, second):  # how many windows have each score
        return values(TWO_SAMPLES, {"scores": np.array([[first, second]], float)})["AUC"]

    assert auc([2, 0], [0, 3]) == 1 and auc([0, 2], [3, 0]) == 0
    assert auc([1, 1, 0], [0, 1, 1]) == (1 + 1 + 0.5 + 1) / 4


def phrases(n_windows, seed):
    """Real drums as a child would write them: three bars alike and one with a fill, each window its own."""
    rng, windows = np.random.default_rng(seed), []
    for _ in range(n_windows):
        beat = [(step, CLOSED) for step in range(0, 16, 2)] + [
            (int(step), KICK) for step in rng.choice(16, 4)
        ]
        windows.append(drums(beat, beat, beat, beat[:8] + [(step, TOM) for step in range(8, 16)])[0][0, 0])
    onset = np.stack(windows)
    return onset, onset * 0.5


def test_shuffled_bars_are_caught_and_drums_of_one_kind_are_not_told_apart():
    rng, performance = np.random.default_rng(0), np.arange(64) // 8
    of, others = phrases(64, 0), phrases(64, 1)
    mixed, mixed_others = groove.shuffled(of, performance, rng), groove.shuffled(others, performance, rng)
    for start in range(0, 64, 8):  # the bars stay in their performance, and none is lost
        bars = [np.sort(on[start : start + 8].reshape(32, -1) @ np.arange(144)) for on in (of[0], mixed[0])]
        np.testing.assert_array_equal(*bars)
    caught = groove.two_sample((of, mixed), (others, mixed_others), performance)
    assert values(TWO_SAMPLES, {"scores": caught})["AUC"] > 0.95
    half = performance % 2
    parts = [[[roll[half == kind] for roll in drums] for kind in (0, 1)] for drums in (of, others)]
    floor = groove.two_sample(*parts, performance, half)
    assert floor.sum() == 64 and values(TWO_SAMPLES, {"scores": floor})["AUC"] == pytest.approx(0.5, abs=0.2)
