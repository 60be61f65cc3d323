"""The control `steady`: how like the bar before a bar is."""

import numpy as np
import pytest
import torch

from data_aug import make_batch
from model.bars import BarGrid
from model.batch_bars import BatchGrid
from model.controls import CONTROLS, controls_of, measure_steady
from model.heads import hit_index
from model.model import DrumVAE
from tests.helpers.drum_windows import NORMALIZE, data_config, windows_of_hits
from tests.helpers.model_batches import FACTOR, random_batch, small_model
from utils.checkpoints import load_weights
from utils.evaluation.sweeps import known_to
from utils.playing.generate import generate
from utils.playing.jam import Jam
from utils.playing.play import play
from utils.playing.wishes import ask


@pytest.fixture(scope="module")
def steady(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.Decoder.condition_params.steady = True
    return config


def test_it_is_the_f1_of_the_hits_shared():
    onset = np.zeros((4, 16, 9), np.float32)
    onset[0, [0, 4, 8, 12], 0] = 1
    onset[1, [0, 4, 8, 12], 0] = 1
    onset[2, [0, 4], 0] = onset[2, [8, 12], 1] = 1  # half of the hits are another voice's
    grid = BarGrid.four_four(64, 4)
    likeness = measure_steady(onset.reshape(1, 64, 9), None, grid)[0]
    np.testing.assert_allclose(likeness, [np.nan, 1, 0.5, 0])
    silent = measure_steady(np.zeros((1, 64, 9), np.float32), None, grid)
    assert np.isnan(silent).all() and silent.shape == (1, 4)


def test_bars_of_other_lengths_are_compared_place_by_place():
    onset = np.zeros((1, 40, 9), np.float32)
    onset[0, [0, 4, 16, 20, 30, 32], 0] = 1
    of = BarGrid(((4,) * 4, (4,) * 4, (4, 4)), 40)
    wanted = [np.nan, 2 * 2 / 5, 2 * 1 / 4]
    np.testing.assert_allclose(measure_steady(onset, None, of)[0], wanted)
    rows = BatchGrid.of([of, BarGrid.four_four(40, 4)])
    np.testing.assert_allclose(measure_steady(onset.repeat(2, 0), None, rows), [wanted, wanted])


def test_training_gives_it_where_the_config_does():
    vel, offset, mask = windows_of_hits(200)
    given, never, at_times = (
        make_batch(
            vel.copy(),
            offset.copy(),
            mask,
            np.zeros(200, int),
            data_config(drop={"steady": chance}),
            NORMALIZE,
            np.random.default_rng(1),
        )["steady"].numpy()
        for chance in (0.0, 1.0, 0.5)
    )
    assert np.isnan(given[:, :16]).all() and not np.isnan(given[:, 16:]).any()
    wanted = measure_steady((vel > 0).astype(np.float32), vel, BarGrid.four_four(64, 4))
    np.testing.assert_allclose(given[:, ::16], wanted)
    assert np.isnan(never).all()
    assert np.isnan(at_times).all(1).mean() == pytest.approx(0.5, abs=0.1)


def test_it_begins_so_that_the_model_plays_as_before(tiny_config, steady):
    before, batch = small_model(tiny_config), random_batch()
    config = steady.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config).eval()
    assert load_weights(model, before.state_dict(), "old.pt", model.NEW_PARTS) == ["condition.steady"]
    batch |= hit_index(batch["onset"])
    with torch.no_grad():
        wanted = before.logits(batch)[0]["onset"]
        for value in (0.0, 0.9, torch.nan):
            asked = batch | {"steady": torch.full(batch["mask"].shape, value)}
            assert torch.equal(model.logits(asked)[0]["onset"], wanted)
        assert torch.equal(model.logits(batch)[0]["onset"], wanted)  # without the key: unset


def test_it_reaches_the_drums(steady):
    model, batch = small_model(steady), random_batch()
    batch |= hit_index(batch["onset"])
    with torch.no_grad():
        low, high, unset, missing = (
            model.logits(batch | asked)[0]["onset"]
            for asked in (
                *({"steady": torch.full(batch["mask"].shape, value)} for value in (0.0, 1.0, torch.nan)),
                {},
            )
        )
    assert torch.equal(unset, missing)
    assert not torch.allclose(low, high, atol=1e-3) and not torch.allclose(low, unset, atol=1e-3)
    assert "steady" not in controls_of(batch) and "steady" in model.controls


def test_it_is_asked_in_percent_and_shown_where_it_is_asked(steady):
    model = small_model(steady)
    assert ask(2, steady="80,-")["steady"].tolist()[0] == 80
    take = play(bars=3, model=model, steady=80, seed=1)
    assert "steady" in take.receipt.table().splitlines()[0]
    assert take.receipt.data()["bars"][1]["asked"]["steady"] == 80
    plain = play(bars=3, model=model, seed=1)
    assert "steady" not in plain.receipt.table()
    assert not np.array_equal(np.asarray(take.onset), np.asarray(plain.onset))
    jam = Jam(model=model, steady=0.8, seed=1)
    assert next(jam)[0].shape == (1, 16, 9)


def test_a_model_that_does_not_know_it_refuses_it(tiny_config):
    model = small_model(tiny_config)
    complaint = "steady: this model was trained without it; it knows density, intensity, instrument, style"
    with pytest.raises(ValueError, match=complaint):
        play(bars=2, model=model, steady=80)
    with pytest.raises(ValueError, match=complaint):
        generate(*[None] * 8, 16, model=model, steady=torch.full((1, 16), 0.8))
    with pytest.raises(ValueError, match=complaint):
        Jam(model=model, steady=0.8)
    assert CONTROLS.keys() - {*model.controls} == {"steady"}


def test_sweeps_ask_it_of_models_that_know_it_and_not_of_first_bars(tiny_config, steady):
    drawn = {"density": np.arange(8.0), "steady": np.full(8, 50.0)}
    assert known_to(small_model(tiny_config), drawn, 4).keys() == {"density"}
    known = known_to(small_model(steady), drawn, 4)
    assert np.isnan(known["steady"]).tolist() == [True, False, False, False] * 2
    assert drawn["steady"].tolist() == [50.0] * 8
