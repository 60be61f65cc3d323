"""What is compiled for a CPU plays what the plain loop plays; what it reads is always the model's."""

import copy
import threading

import numpy as np
import pytest
import torch

from model.decoding import capture, cpu_kernels, cpu_steps
from model.decoding.cpu_steps import CpuDecoding, matrix_of
from model.decoding.guide import Guide
from model.decoding.sampling import sample
from model.decoding.steps import decoding_precision
from tests.helpers.model_batches import random_batch, sampling_inputs, small_model


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """So that rows are shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tiny_config):
    model = small_model(tiny_config)
    for part in (model.onset_head.pair, model.budget.mlp[2], model.decoder.in_attention):
        torch.nn.init.normal_(part.weight, std=0.3)  # so that nothing is too small to be seen
    return model


def drawn(model, monkeypatch, compiled, batch, **how):
    monkeypatch.setattr(capture, "COMPILED", cpu_steps.COMPILED if compiled else ())
    return sample(
        model,
        *sampling_inputs(batch),
        generator=torch.Generator().manual_seed(3),
        precision=torch.float32,
        **how,
    )


def known_cells(batch):
    torch.manual_seed(4)
    cells = torch.rand(2, *batch["onset"].shape) < 0.3
    rolls = {name: batch[name] for name in ("onset", "vel", "timeoffset")}
    return rolls | {"known_onset": cells[0] | cells[1], "known_vel": cells[1]}


def limits(batch):
    """Two rules: of the first four voices one, of all voices three."""
    rules = torch.full((2, 9), 9)
    rules[0, :4], rules[1] = 1, 3
    return rules.expand(*batch["mask"].shape, 2, 9)


DIALS = {
    "": lambda batch: {},
    "guided": lambda batch: {"guidance": 2.0},
    "eight views": lambda batch: {
        "guidance": {"density": 1.5, "intensity": 1.5, "instrument": 2.0, "style": 3.0},
        "follow": 0.5,
    },
    "colder, each twice": lambda batch: {
        "temperature": (0.7, 0.5, 1.0, (0.5,) * 4 + (-0.5,) * 5),
        "num_samples": 2,
    },
    "known cells": lambda batch: {"known": known_cells(batch), "guidance": 2.0},
    "forbidden": lambda batch: {"forbid": batch["onset"].roll(1, 2) > 0},
    "limited": lambda batch: {"limit": limits(batch)},
    "limited, with known cells": lambda batch: {"limit": limits(batch), "known": known_cells(batch)},
}


@pytest.mark.parametrize("dials", DIALS.values(), ids=DIALS)
def test_compiled_steps_play_what_the_plain_loop_plays(model, monkeypatch, dials):
    """Token for token, with steps outside the mask, past the attention window, with half a bar at the end."""
    batch = random_batch(T=96)
    batch["mask"][1, 48:] = False
    batch = {name: x[:, :88] if x.ndim > 1 and x.shape[1] == 96 else x for name, x in batch.items()}
    plain, compiled = (drawn(model, monkeypatch, which, batch, **dials(batch)) for which in (False, True))
    assert plain[0].sum() > 100
    for a, b in zip(plain, compiled):
        assert a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


@pytest.mark.parametrize(
    "keys",
    [
        {"condition_params.remaining_budget": False},
        {"condition_params.film": False},
        {"onset_chain": False},
        {"velocity_bins": 20, "offset_bins": 25},
        {"window": 8},
    ],
    ids=str,
)
def test_so_do_those_of_other_models(tiny_config, monkeypatch, keys):
    config = tiny_config.model_copy(deep=True)
    for key, value in keys.items():
        *section, name = key.split(".")
        where = config.Model.Output if hasattr(config.Model.Output, name) else config.Model.Decoder
        setattr(where.condition_params if section else where, name, value)
    model, batch = small_model(config), random_batch(T=32)
    plain, compiled = (drawn(model, monkeypatch, which, batch, guidance=2.0) for which in (False, True))
    assert plain[0].sum() > 30 and all(torch.equal(a, b) for a, b in zip(plain, compiled))


def test_threads_share_the_items_and_draw_what_one_draws(model, monkeypatch):
    shares, run_layers = [], cpu_kernels.run_layers

    def recorded(weights, eps, x, *rest):
        shares.append((threading.get_ident(), len(x)))
        run_layers(weights, eps, x, *rest)

    monkeypatch.setattr(cpu_kernels, "run_layers", recorded)
    before, batch = torch.get_num_threads(), random_batch(B=3, T=16)
    drums, expected = [], {1: {3}, 2: {2, 1}, 4: {1}}
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            shares.clear()
            drums.append(drawn(model, monkeypatch, True, batch))
            assert torch.get_num_threads() == threads
            assert {rows for _, rows in shares} == expected[threads]
            assert len({thread for thread, _ in shares}) == min(3, threads)
    finally:
        torch.set_num_threads(before)
    for rolls in zip(*drums):
        torch.testing.assert_close(rolls[1], rolls[0])
        torch.testing.assert_close(rolls[2], rolls[0])


def test_which_steps_are_compiled(model):
    def kind(model, precision=None):
        return type(capture.fresh(model, 1, capture_guide, 1.0, precision))

    capture_guide = Guide(1.0)
    assert decoding_precision(model) == torch.int8 and kind(model) == CpuDecoding == kind(
        model, torch.float32
    )
    assert kind(model, torch.bfloat16) == capture.Decoding
    half = copy.deepcopy(model).bfloat16()
    assert decoding_precision(half) == torch.bfloat16 and kind(half) == capture.Decoding
    assert decoding_precision(copy.deepcopy(model).to("meta")) == torch.float32


def test_whatever_is_asked_nothing_is_compiled_anew(model, monkeypatch):
    """Once for each precision: not for a dial, a batch of one, a bar cut short or a longer piece."""
    before = set(cpu_kernels.run_layers.signatures)  # of tests that played with another default dtype
    for B, T in ((1, 16), (1, 40), (3, 80)):
        for dials in DIALS.values():
            batch = random_batch(B=B, T=T)
            drawn(model, monkeypatch, True, batch, **dials(batch))
    new = [str(types) for types in cpu_kernels.run_layers.signatures if types not in before]
    assert sum("int8" in types for types in new) <= 1 and sum("int8" not in types for types in new) <= 1


# ---- the arithmetic


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("precision", cpu_steps.COMPILED)
def test_rows_are_multiplied_by_what_a_matrix_was_rounded_to(rows, precision):
    torch.manual_seed(0)
    matrix, x, y = (
        torch.randn(2, 40, 32) * torch.rand(2, 40, 1),
        torch.randn(rows, 32),
        torch.full((rows, 40), 7.0),
    )
    matrix[1, 3] = 0
    rounded = matrix_of(matrix, precision)
    assert rounded.numbers.dtype == (np.int8 if precision == torch.int8 else np.float32)
    cpu_kernels.multiply(x.numpy(), rounded, 1, y.numpy())
    by_hand = torch.from_numpy(rounded.numbers[1]).float() * torch.from_numpy(rounded.scale[1])[:, None]
    torch.testing.assert_close(y, x @ by_hand.T)
    lengths = x.norm(dim=1)[:, None] * matrix[1].norm(dim=1)
    exact = x @ matrix[1].T
    assert ((y - exact).abs() <= 0.01 * lengths + 1e-6).all() and (y[:, 3] == 0).all()
    assert torch.allclose(y, exact, atol=1e-5) == (precision == torch.float32)


def test_a_bar_cut_short_and_a_batch_are_embedded_for_all_views(model):
    torch.manual_seed(0)
    decoding = CpuDecoding(model, 3, Guide(2.0), 1.0, torch.float32)
    drums = (torch.rand(3, 9) < 0.4).float(), torch.rand(3, 9), torch.rand(3, 9) - 0.5
    with torch.no_grad():
        expected = model.decoder.embed(*drums).repeat(2, 1)
    torch.testing.assert_close(decoding.embed(*drums), expected)


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(monkeypatch):
    how = []

    def jit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        how.append(options)
        return lambda function: function

    monkeypatch.setattr(cpu_kernels, "njit", jit)
    assert cpu_kernels.compiled(abs)(-1) == 1 and len(how) == 1
