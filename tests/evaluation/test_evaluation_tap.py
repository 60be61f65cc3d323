"""From the tap to the drums: guesses without a model, the consensus of samples, scores of cells and hits."""

from math import isnan, log

import numpy as np
import pytest
import torch

from data_aug import unset_controls
from tests.helpers.evaluation_windows import (
    CLOSED,
    KICK,
    OPEN,
    RIDE,
    SNARE,
    figures,
    rolls,
    takes,
    values,
    windows,
    windows_in,
)
from tests.helpers.model_batches import random_batch, small_model
from utils.evaluation import player as evaluation
from utils.evaluation.baselines import best_threshold, hit_guesses, nearest_tap, onset_guesses, training_means
from utils.evaluation.parts import BY_BAR, BY_VOICE, HITS, ONSETS
from utils.evaluation.player import Player
from utils.evaluation.registry import Table
from utils.evaluation.tap import (
    GREEDY,
    Consensus,
    cross_entropy,
    hit_rows,
    hit_sums,
    median_at,
    onset_rows,
    onset_sums,
    votes,
)
from utils.playing.request import OWN_FOLLOW

# ------------------------------------------------------------------------- without a model


def test_training_means_and_their_threshold():
    kick, both, off = (
        rolls(2, *hits)
        for hits in ([(0, KICK, 1, 0)], [(0, KICK, 1, 0), (0, SNARE, 1, 0)], [(1, RIDE, 1, 0)])
    )
    train = [np.concatenate(part) for part in zip(kick, kick, both, off)]
    mean, given = training_means(train[0]).values()
    for tapped in (0, 1):
        assert mean[tapped, 0, [KICK, SNARE]].tolist() == [0.75, 0.25] and mean[tapped, 1, RIDE] == 0.25
    assert not given[0].any()
    assert given[1, 0, [KICK, SNARE]] == pytest.approx([1, 1 / 3]) and given[1, 1, RIDE] == 1
    # on validation only the kick is played: cells of .25 must stay silent, .75 must not
    assert 0.25 <= best_threshold(mean[:1], kick[0]) < 0.75

    guesses = onset_guesses(train, kick, off)
    assert not guesses["silence"][0].any() and guesses["silence"][1] is None
    assert np.argwhere(guesses["training mean"][0][0]).tolist() == [[0, KICK]]  # whatever is tapped
    assert np.argwhere(guesses["training mean given the tap"][0][0]).tolist() == [[1, RIDE]]
    assert np.argwhere(guesses["nearest training tap"][0][0]).tolist() == [[1, RIDE]]
    chance = guesses["training mean given the tap"][1]
    assert (
        chance[0, 1, RIDE] == 1 - 0.5 / 4 and chance[0, 0, KICK] == 0.5 / 4
    )  # nothing is certain after four windows


def test_the_nearest_tap_is_as_loud_in_the_same_places():
    train = [rolls(4, (0, KICK, 0.9, 0), (2, KICK, 0.2, 0)), rolls(4, (0, KICK, 0.3, 0), (2, KICK, 0.9, 0))]
    asked = [rolls(4, (0, RIDE, 0.4, 0), (2, SNARE, 0.8, 0)), rolls(4, (0, RIDE, 0.9, 0), (0, KICK, 0.1, 0))]
    train, asked = ([np.concatenate(part) for part in zip(*drums)] for drums in (train, asked))
    assert nearest_tap(train, asked).tolist() == [1, 0]
    assert nearest_tap(train, asked, at_once=1).tolist() == [1, 0]
    quiet = [np.concatenate([0.5 * roll, roll]) for roll in asked]
    assert nearest_tap(quiet, asked).tolist() == [2, 3]


def test_velocity_and_offset_without_a_model():
    train = [
        np.concatenate(part) for part in zip(rolls(2, (0, KICK, 0.2, 0.1)), rolls(2, (0, KICK, 0.6, -0.3)))
    ]
    real = windows(rolls(2, (0, KICK, 0.5, 0.2), (0, SNARE, 0.9, 0.1), (1, RIDE, 0.4, 0)))
    guesses = {
        name: values(HITS, hit_sums(real, *(roll[real.rolls[0] > 0][None] for roll in guess)))
        for name, guess in hit_guesses(train, real.rolls).items()
    }
    copied = guesses["copy of the tap"]  # kick .4 and .1 steps off, the others are the tap
    assert copied["velocity"] == pytest.approx(0.4 / 3)
    assert copied["offset"] == pytest.approx(10 / 3, rel=1e-5)
    assert copied["velocity, the tap itself"] == 0
    assert copied["velocity, the others"] == pytest.approx(0.4)
    assert copied["offset, the others"] == pytest.approx(10, rel=1e-5)
    # the kick's mean is .4 and -.1; of snare and ride nothing is known
    assert guesses["training mean"]["velocity"] == pytest.approx((0.1 + 0.9 + 0.4) / 3)
    assert guesses["training mean"]["offset"] == pytest.approx((30 + 10 + 0) / 3, rel=1e-5)


# ------------------------------------------------------------------------- the consensus


def test_the_consensus_is_chosen_on_the_tuning_windows():
    # 4 samples of 10 cells: 5 that 3 samples hit (4 of them truly hit), 5 that 2 hit (1 is)
    played, real = np.zeros((4, 1, 1, 10)), np.zeros((1, 1, 10))
    played[:3, ..., :5] = played[:2, ..., 5:] = 1
    real[..., [0, 1, 2, 3, 9]] = 1
    consensus = Consensus(played, real)
    assert consensus.threshold == 3  # F1 .8 against .67 from two samples on
    assert consensus.guess(played)[0, 0].tolist() == [True] * 5 + [False] * 5
    assert consensus.calibration[[2, 3]] == pytest.approx([1.5 / 6, 4.5 / 6])
    assert consensus.calibration[votes(played)][0, 0, [0, 9]] == pytest.approx([4.5 / 6, 1.5 / 6])

    def nats(a):
        high = (3 + a) / (4 + 2 * a)  # the other five are even
        return -(4 * log(high) + log(1 - high))

    best = min((0.05, 0.1, 0.2, 0.5, 1.0, 2.0), key=nats)
    assert consensus.smoothing == best
    assert consensus.chance[votes(played)][0, 0, 0] == pytest.approx((3 + best) / (4 + 2 * best))


def test_nobody_but_the_silent_is_right_where_nothing_is_hit():
    consensus = Consensus(np.ones((3, 2, 4, 9)), np.zeros((2, 4, 9)))
    assert 0 < consensus.calibration[3] < 0.01 and 0 < consensus.chance[3] < 1


# ------------------------------------------------------------------------- scores


def test_scores_of_onsets_are_means_over_the_samples():
    real = windows(
        rolls(32, (0, KICK, 1, 0), (0, CLOSED, 1, 0), (16, SNARE, 1, 0)), rolls(32, (4, KICK, 1, 0))
    )
    right, wrong = real.rolls[0], np.zeros_like(real.rolls[0])
    wrong[0, 0, KICK] = wrong[0, 1, OPEN] = 1
    sums = onset_sums(real, np.stack([right, wrong]))
    scores = values(ONSETS, sums)
    assert scores["precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["recall"] == pytest.approx((1 + 1 / 4) / 2)
    assert scores["F1"] == pytest.approx((1 + 2 / 6) / 2)
    # the second sample: kick 2/3, snare and both hats 0
    assert scores["macro F1"] == pytest.approx((1 + (2 / 3) / 4) / 2)
    by_voice, by_bar = (values(Table("", "", metrics), sums) for metrics in (BY_VOICE, BY_BAR))
    assert by_voice["kick"] == pytest.approx((1 + 2 / 3) / 2) and isnan(by_voice["crash"])
    assert [by_bar["bar 1"], by_bar["bar 2"]] == pytest.approx([(1 + 2 / 5) / 2, (1 + 0) / 2])
    assert isnan(by_bar["bar 3"])  # there is none
    assert scores["taps answered"] == pytest.approx((3 + 1) / 6)
    assert scores["hits off the taps"] == pytest.approx(1 / 6)
    alone = figures(ONSETS, onset_sums(real, right[None], cells=np.arange(9) == KICK))
    assert alone["F1"] == {"value": 1, "low": 1, "high": 1} and "nats per cell" not in alone


def test_cross_entropy_is_per_cell():
    real = np.array([[[1.0, 0]], [[0, 0]]])
    chance = np.array([[[0.8, 0.3]], [[0.1, 0.5]]])
    by_hand = -(log(0.8) + log(0.7) + log(0.9) + log(0.5)) / 4
    two = windows_in(
        {"onset": torch.from_numpy(real), "vel": torch.zeros(2, 1, 2), "timeoffset": torch.zeros(2, 1, 2)}
    )
    assert values(ONSETS, {"nats": cross_entropy(two, chance)})["nats per cell"] == pytest.approx(by_hand)


def test_errors_at_real_hits_pass_over_what_a_sample_does_not_hit():
    real = windows(rolls(2, (0, KICK, 0.5, 0), (1, SNARE, 0.5, 0)), rolls(2, (0, KICK, 0.5, 0)))
    real.step_ms[1] = 200.0
    vel = np.array([[0.6, np.nan, 0.5], [0.5, 0.8, 0.5]])
    offset = np.array([[0.1, np.nan, 0.1], [0, 0.2, 0]])
    errors = values(HITS, hit_sums(real, vel, offset))
    assert errors["velocity"] == pytest.approx((0.1 + 0.3) / 5)
    assert errors["offset"] == pytest.approx((10 + 20 + 20) / 5)


def test_the_median_falls_back_on_the_step_and_then_on_everything():
    onset, roll = np.zeros((3, 1, 3, 9)), np.zeros((3, 1, 3, 9))
    for sample, step, voice, value in (
        (0, 0, KICK, 0.2),
        (1, 0, KICK, 0.4),
        (2, 0, SNARE, 0.9),
        (2, 1, RIDE, 0.7),
    ):
        onset[sample, 0, step, voice], roll[sample, 0, step, voice] = 1, value
    where = (np.array([0, 0, 0]), np.array([0, 1, 2]), np.array([KICK, KICK, KICK]))
    assert median_at(roll, onset, where).tolist() == pytest.approx([0.3, 0.7, 0.55])
    assert not median_at(roll, np.zeros_like(onset), where).any()


# ------------------------------------------------------------------------- what is played


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config)


@pytest.fixture(scope="module")
def two():
    return windows_in(random_batch(B=2, T=16))


def test_each_thing_is_played_once_and_some_things_eight_times_at_most(model, two):
    player = Player(model, 11, seed=0)
    unset = player(two, "unset")
    assert unset[0].shape == (11, 2, 16, 9) and player(two, "unset") is unset
    assert player(two, "given")[0].shape[0] == 8 == player(two, "swapped")[0].shape[0]
    assert player(two, "onsets")[0].shape[0] == 11
    assert not np.array_equal(unset[0][0], unset[0][1])


def test_greedy_draws_are_the_same_whatever_the_seed(model, two):
    one, other = (Player(model, 2, seed)(two, "unset", GREEDY)[0] for seed in (0, 1))
    assert one.shape[0] == 1 and np.array_equal(one, other)


def test_settings_tell_the_model_what_they_say(two):
    told = {name: setting(two) for name, setting in evaluation.SETTINGS.items()}
    unset = unset_controls(two.batch)
    for name in ("intensity", "instrument"):
        assert all(told[setting][name].isnan().all() for setting in ("unset", "density", "onsets", "swapped"))
    assert (
        torch.equal(told["density"]["density"], two.batch["density"])
        and told["onsets"]["density"].isnan().all()
    )
    assert torch.equal(told["density"]["style"], unset["style"])
    assert told["onsets"]["known_onset"].all() and not told["onsets"]["known_vel"].any()
    assert torch.equal(told["swapped"]["rhythm_onset"], two.batch["rhythm_onset"].flip(0))
    assert told["given"] is two.batch


def test_a_rhythm_counts_as_play_counts_a_drummers_own_hits(model, two, monkeypatch):
    follow, draw = [], evaluation.sample
    monkeypatch.setattr(
        evaluation, "sample", lambda *of, **how: follow.append(how["follow"]) or draw(*of, **how)
    )
    for setting in ("unset", "swapped", "given", "onsets"):
        Player(model, 1, seed=0)(two, setting)
    assert follow == [OWN_FOLLOW, OWN_FOLLOW, 1, 1]


def test_known_onsets_are_played_and_their_velocities_are_not_given_away(model, two):
    onset, vel, _ = Player(model, 2, seed=0)(two, "onsets")
    assert all(np.array_equal(sample, two.rolls[0]) for sample in onset)
    assert (vel != two.rolls[1])[:, two.rolls[0] > 0].mean() > 0.9


def test_errors_of_a_model_and_of_what_needs_none():
    real = windows(rolls(16, (0, KICK, 0.5, 0), (4, SNARE, 0.5, 0)))
    both = [rolls(16, (0, KICK, vel, 0.3), (4, SNARE, vel, -0.1)) for vel in (0.2, 0.4, 0.9)]
    tap = [
        rolls(16, (0, KICK, 0.3, 0)),
        rolls(16, (0, KICK, 0.5, 0.2), (4, RIDE, 0.8, 0)),
        rolls(16, (0, KICK, 1, 0)),
    ]
    played = {"onsets": takes(*both), "unset": takes(*tap)}
    rows = {
        name: values(HITS, row) for name, row in hit_rows(lambda _, name: played[name], real, real).items()
    }
    value = {name: (of["velocity"], of["offset"]) for name, of in rows.items()}
    assert set(value) == {
        "training mean",
        "copy of the tap",
        "onsets known, one draw",
        "onsets known, median",
        "tap alone, one draw",
        "tap alone, median",
    }
    assert value["onsets known, one draw"] == pytest.approx(((0.3 + 0.1 + 0.4) / 3, 20))
    assert value["onsets known, median"] == pytest.approx((0.1, 20))
    assert value["tap alone, one draw"] == pytest.approx(
        ((0.2 + 0 + 0.5) / 3, 20 / 3)
    )  # the kick's; nobody hits the snare
    assert value["tap alone, median"] == pytest.approx(
        ((0 + 0.3) / 2, 0), abs=1e-6
    )  # and the step's .8 for the snare


def test_what_is_chosen_is_chosen_on_the_tuning_windows():
    kick, snare = rolls(16, (0, KICK, 0.5, 0)), rolls(16, (0, SNARE, 0.5, 0))
    real, tuning = windows(kick), windows(kick)
    played = {id(real): takes(kick, snare, snare), id(tuning): takes(kick, kick, snare)}

    def player(windows, setting, temperature=1.0):
        return played[id(windows)]

    scores = {
        row: values(ONSETS, sums) for row, sums in onset_rows(player, real, tuning, real, False).items()
    }
    chosen = Consensus(played[id(tuning)][0], tuning.rolls[0])
    assert chosen.threshold == 2 and scores["consensus"]["threshold"] == 2 / 3
    assert scores["consensus"]["smoothing"] == chosen.smoothing
    assert scores["consensus"]["F1"] == 0  # two of three play the snare here
    assert scores["sampled"]["F1"] == pytest.approx(1 / 3)
    assert "threshold" not in scores["sampled"] and "consensus, density given" not in scores
