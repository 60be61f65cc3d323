"""The control `steady`: how like the bar before a bar is."""

import numpy as np
import pytest
import torch

from data_aug import make_batch
from model.bars import BarGrid
from model.batch_bars import BatchGrid
from model.condition import bar_before, bar_before_of_bar
from model.controls import CONTROLS, controls_of, measure_steady
from model.decoding.sampling import sample
from model.decoding.steps import Decoding
from model.heads import hit_index
from model.model import DrumVAE
from tests.helpers.drum_windows import NORMALIZE, data_config, windows_of_hits
from tests.helpers.model_batches import (
    FACTOR,
    hidden_states,
    random_batch,
    record_steps,
    sampling_inputs,
    small_model,
    streamed,
)
from utils.checkpoints import load_weights
from utils.config.schema import config_from_dict
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


@pytest.fixture(scope="module")
def remaining(steady):
    config = steady.model_copy(deep=True)
    config.Model.Decoder.condition_params.remaining_steady = True
    return config


def asked_of(batch, value=0.7):
    """Of the second row and the third, but not of the first."""
    asked = torch.full(batch["mask"].shape, value)
    asked[0] = torch.nan
    return batch | {"steady": asked}


@pytest.mark.parametrize("beats", (((4,) * 4,) * 3, ((4,) * 4, (4,) * 3, (2, 2, 3), (4,) * 4, (4,) * 4)))
def test_what_is_left_of_it_is_counted_hit_by_hit(remaining, beats):
    """By hand, step by step, in any meter; of what is left as many hits come as the bar before has."""
    grid = BarGrid(beats, sum(map(sum, beats)))
    model, batch = small_model(remaining, longest_bar=32), asked_of(random_batch(T=grid.n_steps))
    onset, drums = batch["onset"], [batch[name] for name in ("onset", "vel")]
    before = bar_before(onset, grid)
    _, features = model.features_of(
        (*drums, batch["timeoffset"]), model.budget_targets(controls_of(batch), grid), grid
    )
    features = features[..., model.budget.n_features :]
    assert not features[0].any() and not features[:, : grid.lengths[0]].any()
    bars = list(grid.bars())
    for previous, bar in zip(bars, bars[1:]):
        past = [[roll[:, previous] for roll in (*drums, batch["timeoffset"])]]
        n_steps = bar.stop - bar.start
        assert torch.equal(bar_before_of_bar(past, (3, n_steps, 9), None), before[:, bar])
        for row in (1, 2):
            theirs = onset[row, previous].numpy()
            mine = onset[row, bar].numpy()
            for place in range(n_steps):
                hits, n = mine[:place].sum(), min(place, len(theirs))
                kept = (mine[:n] * theirs[:n]).sum()
                left = theirs[place:n_steps].sum()
                to_share = 0.7 * (hits + left + theirs.sum()) / 2 - kept
                got = features[row, bar.start + place].numpy()
                wanted = [1, 0.7, *got[2:4], to_share / 8, np.clip(to_share / max(left, 1), -1, 2), left / 8]
                np.testing.assert_allclose(got[:7], wanted, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(got[2], 2 * kept / max(hits + theirs.sum() - left, 1), atol=1e-6)
                there = theirs[place] if place < len(theirs) else np.zeros(9)
                np.testing.assert_array_equal(got[9:], there)


def test_what_is_left_of_it_begins_so_that_the_model_plays_as_before(steady, remaining):
    before, batch = small_model(steady), asked_of(random_batch())
    config = remaining.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config).eval()
    assert load_weights(model, before.state_dict(), "old.pt", model.NEW_PARTS) == ["budget.steady"]
    batch |= hit_index(batch["onset"])
    with torch.no_grad():
        assert torch.equal(model.logits(batch)[0]["onset"], before.logits(batch)[0]["onset"])
    model(batch)["onset_nats"].backward()
    assert model.budget.steady[2].weight.grad.any()


@pytest.mark.parametrize("kind", ["compiled", "plain", "guided"])
def test_what_is_left_of_it_is_the_same_step_by_step(remaining, monkeypatch, kind):
    model, batch = small_model(remaining), asked_of(random_batch(T=88))
    states = record_steps(monkeypatch, compiled=kind == "compiled")
    dials = {"guidance": 2.0} if kind == "guided" else {}
    generator = torch.Generator().manual_seed(1)
    drums = sample(model, *sampling_inputs(batch), generator=generator, precision=torch.float32, **dials)
    played = batch | dict(zip(("onset", "vel", "timeoffset"), drums))
    with torch.no_grad():
        whole = hidden_states(model, played, condition_from=batch)
        model.budget.steady[2].weight.zero_()
        blind = hidden_states(model, played, condition_from=batch)
    with_controls = torch.stack(states[:88], 1)[:3]
    assert torch.allclose(with_controls, whole, atol=1e-4)
    assert torch.equal(blind[0], whole[0])  # not asked
    assert not torch.allclose(blind[1:], whole[1:], atol=1e-2)


def test_a_stream_knows_what_is_left_of_it(remaining):
    stream = streamed(small_model(remaining), asked_of(random_batch(T=64)))
    assert len(stream.past) == 1


def test_graphs_are_apart_for_bars_of_which_it_is_asked_and_others(remaining, pretended_gpu, monkeypatch):
    model, plain = small_model(remaining), random_batch()
    plain |= {"steady": torch.full(plain["mask"].shape, torch.nan)}

    def drawn():
        batches = plain, asked_of(plain), plain
        how = [{"generator": torch.Generator().manual_seed(1), "precision": torch.float32} for _ in batches]
        return [sample(model, *sampling_inputs(batch), **dials) for batch, dials in zip(batches, how)]

    captured = drawn()
    assert len(pretended_gpu) == 2  # one decoding is kept for all: without guidance there is but one view
    monkeypatch.setattr("model.decoding.sampling.begin", Decoding)
    for one, other in zip(captured, drawn()):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_where_it_is_not_asked_steps_leave_it_out(remaining):
    """Also of the matrices in 8 bits, which would be rounded more coarsely with it."""
    model, batch = small_model(remaining), random_batch()
    batch |= {"steady": torch.full(batch["mask"].shape, torch.nan)}
    drums = sample(model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.budget.steady[2].weight.fill_(100)
    same = sample(model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(drums, same))


def test_a_config_that_asks_for_it_alone_is_refused(steady):
    config = steady.to_dict()
    config["Model"]["Decoder"]["condition_params"] |= {"steady": False, "remaining_steady": True}
    with pytest.raises(ValueError, match="remaining_steady: true, but it needs remaining_budget and steady"):
        config_from_dict(config)


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
