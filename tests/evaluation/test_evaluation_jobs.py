"""The jobs of evaluate.py: what is told, what is played anew, what is counted, and against what."""

import numpy as np
import pytest
import torch

from data_aug import unset_controls
from tests.helpers.evaluation_windows import (
    CLOSED,
    KICK,
    RIDE,
    SNARE,
    rolls,
    takes,
    values,
    windows,
    windows_in,
)
from tests.helpers.model_batches import random_batch
from utils.evaluation import player as evaluation
from utils.evaluation.jobs import copies, humanised, mean_guess
from utils.evaluation.parts import ANEW as PLAYED_ANEW
from utils.evaluation.parts import HUMANISE, PARTS
from utils.evaluation.player import ANEW, one_voice
from utils.evaluation.tables import as_markdown, as_text
from utils.evaluation.tap import onset_sums


def test_what_is_not_played_anew_is_known_and_nothing_else_is_heard():
    batch = random_batch(B=2)
    drums = windows_in(batch)
    unset = unset_controls(batch)
    for job in ("humanise", *ANEW):
        told = evaluation.SETTINGS[job](drums)
        assert not any(told[f"rhythm_{name}"].any() for name in ("onset", "vel", "timeoffset"))
        assert told["density"].isnan().all() and torch.equal(told["style"], unset["style"])
        if job == "humanise":
            assert told["known_onset"].all() and not told["known_vel"].any()
            continue
        assert torch.equal(told["known_onset"], torch.from_numpy(~ANEW[job](drums)))
        assert torch.equal(told["known_vel"], told["known_onset"])
    infill, after = (ANEW[job](drums)[:, :, 0] for job in ("infill", "continue"))
    assert infill.sum(1).tolist() == [16, 16] and infill[:, 32:48].all()
    assert after.sum(1).tolist() == [32, 32] and after[:, 32:].all()


def test_each_voice_that_plays_has_its_turn():
    both = rolls(64, (0, SNARE, 1, 0), (3, RIDE, 1, 0))
    cells = one_voice(windows(both, both, both, rolls(64, (9, CLOSED, 1, 0))))
    assert cells[:, 0].argmax(1).tolist() == [SNARE, RIDE, SNARE, CLOSED] and (cells.sum((1, 2)) == 64).all()


def test_only_what_is_played_anew_is_scored():
    real = windows(rolls(64, (0, KICK, 1, 0), (32, KICK, 1, 0), (33, SNARE, 1, 0)))
    right = rolls(64, (32, KICK, 1, 0), (33, SNARE, 1, 0), (1, RIDE, 1, 0))
    half = rolls(64, (32, KICK, 1, 0), (40, RIDE, 1, 0))
    guess = np.stack([right[0], half[0]]) > 0
    sums = onset_sums(real, guess, cells=ANEW["infill"](real))
    assert values(PLAYED_ANEW, sums)["F1"] == pytest.approx((1 + 1 / 2) / 2)


def test_copies_are_of_the_bars_that_are_known():
    bars = [rolls(16, (bar, KICK, 1, 0))[0] for bar in range(4)]
    onset = np.concatenate(bars, 1)

    def where(guess, bar):
        return guess[0, 16 * bar : 16 * bar + 16, KICK].nonzero()[0].tolist()

    real = windows((onset, onset, onset))
    infill, after = copies("infill", real), copies("continue", real)
    assert [where(guess, 2) for guess in infill.values()] == [[1], [3]]
    assert [[where(guess, bar) for bar in (2, 3)] for guess in after.values()] == [[[1], [1]], [[0], [1]]]
    assert copies("add a voice", real) == {}


def test_the_means_threshold_is_that_of_the_cells_played_anew():
    """The kick of half the training windows: too rare in the tuning windows' first bars, right in bar 3."""
    hit, none = rolls(64, (32, KICK, 1, 0), (0, KICK, 1, 0)), rolls(64, (0, RIDE, 1, 0))
    train, tuning = windows(hit, none), windows(*[rolls(64, (32, KICK, 1, 0))] * 2)
    guess = mean_guess(windows(none), tuning, train, ANEW["infill"])
    assert guess[0, 32, KICK] and guess[0].sum() <= 3


def test_errors_and_likeness_of_what_is_humanised():
    real = windows(rolls(64, (0, KICK, 0.5, 0), (4, SNARE, 0.5, 0)))
    draws = [rolls(64, (0, KICK, vel, 0.3), (4, SNARE, vel, -0.1)) for vel in (0.2, 0.4, 0.9)]
    errors = {name: values(HUMANISE, row) for name, row in humanised(takes(*draws), real, real).items()}
    assert errors["one sample"]["velocity"] == pytest.approx((0.3 + 0.1 + 0.4) / 3)
    assert errors["median of the samples"]["velocity"] == pytest.approx(0.1)
    assert errors["one sample"]["offset"] == pytest.approx(20)
    assert errors["training mean"]["velocity KL"] == 0 < errors["one sample"]["velocity KL"]


def test_all_jobs_are_printed_with_what_needs_no_model():
    kick, snare = rolls(64, (0, KICK, 0.5, 0), (32, KICK, 0.5, 0)), rolls(64, (32, SNARE, 0.5, 0))
    real = windows(kick)

    class Fake:
        def __call__(self, windows, setting):
            return takes(kick, snare, snare)

    class Sets:
        tuning = staticmethod(lambda name: real)

        def __call__(self, name, split=None):
            return real

    jobs = PARTS["jobs"].figures(Fake(), Sets())
    f1 = {row: of["F1"]["value"] for row, of in jobs["anew"]["infill"].items()}
    assert f1["one sample"] == pytest.approx(1 / 3) and f1["consensus of the samples"] == pytest.approx(2 / 3)
    assert f1["training mean"] == 1 and f1["the bar before it copied"] == 0
    assert set(jobs["anew"]) == set(ANEW)
    about = {
        "checkpoint": "x",
        "step": 0,
        "split": "test",
        "floor": "validation",
        "samples": 3,
        "seed": 0,
        "goals": [],
    }
    figures = about | {"jobs": jobs, "sets": {"T4": real.size()}}
    for text in (as_text(figures, PARTS), as_markdown(figures, PARTS)):
        assert "(continue)" in text and "the last bar copied" in text and "velocity KL" in text
