"""What each voice did at this place of the bars before."""

import pytest
import torch

from model.bars import BarGrid
from model.condition import History
from model.decoding.sampling import sample
from model.model import DrumVAE
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

LAGS = [1, 2, 4]


@pytest.fixture(scope="module")
def looking_back(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.Decoder.history = LAGS
    return config


def drums_of(batch):
    return tuple(batch[name] for name in ("onset", "vel", "timeoffset"))


def test_features_are_those_of_the_same_place():
    drums, history = drums_of(random_batch(B=2, T=90)), History(LAGS, 9, 4, 6)
    features = history.features(drums, BarGrid.four_four(90, 4)).unflatten(-1, (3, 28))
    for number, lag in enumerate(LAGS):
        for t in (0, 15, 16, 40, 63, 64, 77, 89):
            got = features[:, t, number]
            if t < 16 * lag:
                assert not got.any()
            else:
                wanted = [roll[:, t - 16 * lag] for roll in drums]
                assert torch.equal(got, torch.cat((*wanted, torch.ones(2, 1)), -1))


@pytest.mark.parametrize("beats", (((4,) * 4,) * 3, ((4,) * 3, (4,) * 4, (2, 2, 3), (4,) * 4, (4,) * 4)))
def test_a_bar_at_a_time_gives_the_same_features_in_any_meter(beats):
    n_steps = sum(map(sum, beats))
    grid, drums = BarGrid(beats, n_steps), drums_of(random_batch(B=2, T=n_steps))
    history, past = History(LAGS, 9, 4, 6), []
    whole = history.features(drums, grid)
    for steps in grid.bars():
        bar = [roll[:, steps] for roll in drums]
        assert torch.equal(history.features_of_bar(past, bar[0].shape), whole[:, steps])
        past.append(bar)


@pytest.mark.parametrize("T", (96, 88))
def test_step_by_step_gives_what_the_forward_pass_gives(looking_back, monkeypatch, T):
    model, batch = small_model(looking_back), random_batch(B=2, T=T)
    states = record_steps(monkeypatch)
    drums = sample(
        model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(1), precision=torch.float32
    )
    played = batch | dict(zip(("onset", "vel", "timeoffset"), drums))
    with torch.no_grad():
        whole = hidden_states(model, played, condition_from=batch)
        without = model.history.mlp[2].bias.zero_(), model.history.mlp[2].weight.zero_()
        blind = hidden_states(model, played, condition_from=batch)
    assert without and torch.allclose(torch.stack(states[:T], 1), whole, atol=1e-4)
    assert not torch.allclose(blind, whole, atol=1e-2)


def test_a_stream_looks_back_as_far(looking_back):
    stream = streamed(small_model(looking_back), random_batch(B=2, T=112))
    assert len(stream.past) == max(LAGS)


def test_only_earlier_steps_are_seen_and_the_bars_named(looking_back):
    """By gradient: beyond the reach of attention what is seen lies at this place of the bars before."""
    config = looking_back.model_copy(deep=True)
    config.Model.Decoder.window = 1  # a step attends to itself alone, and reads the one before
    model, batch = small_model(config), random_batch(B=1, T=96)
    vel = batch["vel"].clone().requires_grad_()
    budget = {
        name: torch.full_like(batch[name], torch.nan) for name in ("density", "intensity", "instrument")
    }
    hidden = hidden_states(model, batch | {"vel": vel}, condition_from=batch | budget)
    step = 5 * 16 + 7
    (grad,) = torch.autograd.grad(hidden[0, step].square().sum(), vel)
    seen = grad[0].abs().sum(-1).nonzero()[:, 0].tolist()
    assert seen == [step - 64, step - 32, step - 16, step - 1]


def test_it_begins_so_that_the_model_plays_as_before(tiny_config, looking_back):
    before, batch = small_model(tiny_config), random_batch()
    config = looking_back.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config).eval()
    assert load_weights(model, before.state_dict(), "old.pt", model.NEW_PARTS) == ["history"]
    with torch.no_grad():
        assert torch.equal(hidden_states(model, batch), hidden_states(before, batch))
    model(batch)["onset_nats"].backward()
    assert model.history.mlp[2].weight.grad.any()
