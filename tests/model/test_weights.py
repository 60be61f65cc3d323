"""Whoever changes a weight, and however: decodings that are kept are of the weights as they are, and so are
receipts."""

import copy
import pickle

import pytest
import torch

from model.decoding.sampling import sample
from model.decoding.weights import fingerprint
from tests.helpers.model_batches import random_batch, sampling_inputs, small_model
from utils.get_model import checkpoint_of
from utils.training.loop import EMA


@pytest.fixture
def model(tiny_config):
    return small_model(tiny_config)


def fused_step(model):
    """Of AdamW, which torch's counters of changes do not see."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.zero_grad()


# Each stops at two states of the model, between which its weights change


def by_a_fused_optimizer(model):
    yield
    fused_step(model)
    yield


def by_the_swap_to_averages(model):
    """Whose tensors stay where they are from one swap to the next."""
    ema = EMA(model, 0.5)
    with ema.swapped_in(model):
        yield
    fused_step(model)
    ema.update(model, 100)
    with ema.swapped_in(model):
        yield


def in_place(model):
    yield
    with torch.no_grad():
        model.decoder.layers[1].mlp.down_proj.weight.mul_(1.5)
    yield


def through_data(model):
    yield
    model.hit_head.offset.voice_bias.data[:, 3] += 2.0
    yield


def one_row_through_data(model):
    yield
    model.budget.mlp[2].weight.data[0] += 3.0
    yield


def in_another_order(model):
    yield
    model.decoder.layers[0].self_attn.qkv_proj.weight.data[:] = model.decoder.layers[
        0
    ].self_attn.qkv_proj.weight.data.flip(0)
    yield


def by_load_state_dict(model):
    yield
    model.load_state_dict({name: 1.1 * value for name, value in model.state_dict().items()})
    yield


def by_conversion(model):
    yield
    model.to(torch.bfloat16).to(torch.float32)
    yield


CHANGES = [
    by_a_fused_optimizer,
    by_the_swap_to_averages,
    in_place,
    through_data,
    one_row_through_data,
    in_another_order,
    by_load_state_dict,
    by_conversion,
]


def draw(model, precision):
    inputs, chance = sampling_inputs(random_batch(T=8)), torch.Generator().manual_seed(1)
    return torch.stack(sample(model, *inputs, generator=chance, precision=precision))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("precision", [torch.int8, torch.float32])
def test_a_changed_weight_is_heard_on_a_cpu(model, change, precision):
    states = change(model)
    next(states)
    before = draw(model, precision)
    assert torch.equal(draw(model, precision), before)
    kind = precision, False
    kept = model.derived[kind]
    next(states)
    after = draw(model, precision)
    assert torch.equal(after, draw(copy.deepcopy(model), precision)) and model.derived[kind] is not kept
    assert change is by_conversion or not torch.equal(after, before)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_a_changed_weight_is_heard_on_a_gpu(model, pretended_gpu, change, precision):
    states = change(model)
    next(states)
    before = draw(model, precision)
    assert torch.equal(draw(model, precision), before) and len(pretended_gpu) == 1
    next(states)
    after = draw(model, precision)
    assert len(pretended_gpu) == (2 if change is by_conversion else 1)  # which gives up the graphs
    assert torch.equal(after, draw(copy.deepcopy(model), precision))
    assert change is by_conversion or not torch.equal(after, before)


@pytest.mark.parametrize("change", CHANGES)
def test_a_receipt_names_the_weights_that_there_are(model, change):
    model.loaded_from = "drummer.pt", fingerprint(model.parameters())
    own = checkpoint_of(model)
    states = change(model)
    next(states)
    before = checkpoint_of(model)
    assert own["file"] == "drummer.pt" and before == own
    next(states)
    after = checkpoint_of(model)
    assert after["file"] is None and after["sha256"] != before["sha256"]
    assert checkpoint_of(copy.deepcopy(model)) == after


def test_weights_that_come_back_are_known_again(model):
    model.loaded_from = "drummer.pt", fingerprint(model.parameters())
    own, ema = checkpoint_of(model), EMA(model, 0.5)
    fused_step(model)
    with ema.swapped_in(model):
        assert checkpoint_of(model) == own
    assert checkpoint_of(model)["file"] is None
    assert checkpoint_of(copy.deepcopy(model).double())["sha256"] == checkpoint_of(model)["sha256"]


def test_every_number_counts_to_its_last_bit():
    torch.manual_seed(0)
    weights = [torch.randn(n) for n in (1, 2, 7, 1000)]
    own = fingerprint(weights)
    assert fingerprint([weight.clone() for weight in weights]) == own
    for weight in weights:
        for i in {0, len(weight) // 2, len(weight) - 1}:
            before = weight[i].clone()
            weight[i] = torch.nextafter(before, torch.tensor(9.0))
            assert fingerprint(weights) != own
            weight[i] = before
    assert fingerprint([weight.double() for weight in weights]) == own
    ones, zeros = torch.ones(64), torch.zeros(64)
    assert fingerprint([ones]) != fingerprint([zeros]) and fingerprint([ones, zeros]) != fingerprint(
        [zeros, ones]
    )


def test_a_copy_starts_without_what_is_kept(model):
    draw(model, torch.int8)
    assert model.derived and not copy.deepcopy(model).derived
    assert not pickle.loads(pickle.dumps(model)).derived
