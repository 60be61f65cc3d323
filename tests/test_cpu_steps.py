"""What a step does differently on a CPU than on a GPU gives the same; its matrices are always those of the model."""

import copy
import pickle

import numpy as np
import pytest
import torch
from model_batches import random_batch, sampling_inputs, small_model

from model.cpu_steps import CpuSteps, Matrices, Product, laid_out
from model.decoding import chain_anywhere, chain_on_cpu, decoding_precision, pick
from model.sampling import sample


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config)


def test_the_chain_of_voices_is_the_same_on_every_device(model):
    """What a CPU does against what a GPU does, and its parts against those of the head."""
    torch.manual_seed(0)
    model = copy.deepcopy(model)
    model.onset_head.pair.weight.data.normal_()
    hidden = torch.randn(50, model.decoder.d_model)
    with torch.no_grad():
        base, pair = model.onset_head.parts(hidden)
        on_cpu = CpuSteps(model, Matrices(model, torch.float32), model.decoder.empty_cache(50)).onset_parts(hidden)
        torch.testing.assert_close(on_cpu, (base, pair))
        onset, same = torch.zeros(2, 50, 9)
        above, also = chain_anywhere(base, pair, onset), chain_on_cpu(base.clone(), pair, same)
    assert torch.equal(onset, same) and torch.equal(above, also)
    assert torch.equal(onset, (above > 0).float()) and not torch.equal(onset, (base > 0).float())


def test_chance_next_to_one_picks_the_last_token():
    torch.manual_seed(0)
    token = pick(torch.randn(1000, 32), torch.full((1000,), 1 - 2**-24), 1.0)
    assert token.max() == 31 and (token == 31).float().mean() > 0.99


@pytest.mark.parametrize("capability, units, of_rows", [
    ("AVX512", {"amx_bf16": True}, [torch.int8, torch.int8, torch.bfloat16]),
    ("AVX512", {}, [torch.int8, torch.int8, torch.float32]),
    ("AVX2", {}, [torch.int8, torch.int8, torch.float32]), ("DEFAULT", {}, [torch.float32] * 3),
])  # fmt: skip
def test_rows_are_multiplied_in_what_the_cpu_does_fastest(model, monkeypatch, capability, units, of_rows):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert [decoding_precision(model, rows) for rows in (1, 4, 5)] == of_rows


@pytest.mark.parametrize("rows", [1, 3])
def test_a_matrix_in_8_bits_multiplies_as_it_is_rounded(rows):
    torch.manual_seed(0)
    matrix, bias = torch.randn(40, 32) * torch.rand(40, 1), np.ones(40, np.float32)
    matrix[3] = 0
    product = Product(laid_out(matrix, torch.int8), rows, bias)
    product.x[:] = torch.randn(rows, 32)
    exact = torch.from_numpy(product.x) @ matrix.T + 1
    got = torch.from_numpy(product.run())
    assert not torch.equal(got, exact) and (got[:, 3] == 1).all()
    lengths = torch.from_numpy(product.x).norm(dim=1)[:, None] * matrix.norm(dim=1)
    assert ((got - exact).abs() <= 0.01 * lengths + 0.005).all()  # the sum is in bfloat16 as well


def test_matrices_are_laid_out_once_and_anew_when_a_weight_has_changed(model, monkeypatch):
    model, made = copy.deepcopy(model), []
    init = Matrices.__init__
    monkeypatch.setattr(Matrices, "__init__", lambda self, *a: made.append(a[1]) or init(self, *a))
    inputs = sampling_inputs(random_batch(T=16))

    def draw():
        return sample(model, *inputs, generator=torch.Generator().manual_seed(1))

    before = draw()
    assert all(torch.equal(a, b) for a, b in zip(before, draw())) and len(made) == 1
    changed = [model.decoder.layers[1].mlp.down_proj.weight, model.decoder.embed.vel.bias, model.onset_head.pair.weight,
               model.budget.mlp[2].weight]  # fmt: skip
    for weight in changed:
        weight.data[0] += 3.0  # which torch does not count as a change
        draw()
    assert len(made) == 1 + len(changed)
    fresh = copy.deepcopy(model)
    assert not fresh.matrices and not pickle.loads(pickle.dumps(model)).matrices
    after, again = draw(), sample(fresh, *inputs, generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(after, again))
    assert not all(torch.equal(a, b) for a, b in zip(before, after))
