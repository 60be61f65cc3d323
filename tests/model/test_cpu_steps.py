"""What is compiled for a CPU plays what the plain loop plays; what it reads is always the model's."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding import capture, cpu_kernels, cpu_steps
from model.decoding.cpu_steps import CpuDecoding, array, bins_of, matrix_of, weights_in, weights_of
from model.decoding.sampling import sample
from model.decoding.steps import Guide, decoding_precision, draw_onsets, keep_within, pick
from model.heads import bin_to_offset, bin_to_velocity
from tests.helpers.model_batches import random_batch, sampling_inputs, small_model


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
    "colder, each twice": lambda batch: {"temperature": 0.7, "num_samples": 2},
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


def test_threads_share_the_items_and_play_what_one_plays(model, monkeypatch):
    shares, in_threads = [], cpu_steps.in_threads
    monkeypatch.setattr(
        cpu_steps,
        "in_threads",
        lambda work, parts: shares.append([len(p) for p in parts]) or in_threads(work, parts),
    )
    before, batch = torch.get_num_threads(), random_batch(B=3, T=16)
    played = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            played.append(drawn(model, monkeypatch, True, batch))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert shares == [[3], [2, 1], [1, 1, 1]]
    for rolls in zip(*played):
        torch.testing.assert_close(rolls[1], rolls[0])
        torch.testing.assert_close(rolls[2], rolls[0])


def test_in_a_thread_of_many_torch_starts_no_others():
    assert [*cpu_steps.in_threads(lambda _: torch.get_num_threads(), [[0], [1], [2]])] == [1, 1, 1]


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
    for B, T in ((1, 16), (1, 40), (3, 80)):
        for dials in DIALS.values():
            batch = random_batch(B=B, T=T)
            drawn(model, monkeypatch, True, batch, **dials(batch))
    floats = [types for types in cpu_kernels.play_bar.signatures if "int8" not in str(types)]
    assert len(floats) == 1 and len(cpu_kernels.play_bar.signatures) <= 2


# ---- one by one


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40),
    st.floats(0, 1, width=32),
    st.sampled_from([0.3, 1.0, 2.0]),
)
@settings(max_examples=200)
def test_a_token_is_picked_as_by_torch(logits, uniform, temperature):
    logits = torch.tensor(logits)
    cumulative = (logits / temperature).softmax(-1).double().cumsum(-1)
    if (cumulative - uniform).abs().min() < 1e-5:  # rounding may decide
        return
    expected = pick(logits[None], torch.tensor([uniform]), temperature).item()
    assert cpu_kernels.pick(logits.numpy().copy(), np.float32(uniform), np.float32(temperature)) == expected


def test_chance_next_to_one_picks_the_last_token():
    torch.manual_seed(0)
    logits, chance = torch.randn(1000, 32), 1 - 2**-24
    token = pick(logits, torch.full((1000,), chance), 1.0)
    assert token.max() == 31 and (token == 31).float().mean() > 0.99
    assert all(cpu_kernels.pick(row, np.float32(chance), np.float32(1)) > 28 for row in logits.numpy())
    assert cpu_kernels.pick(np.full(32, -1e9, np.float32), np.float32(1), np.float32(1)) == 31


@given(st.data())
@settings(max_examples=200)
def test_hits_are_kept_within_limits_as_by_torch(data):
    """With ties, and with hits that are certain."""
    V = 9
    bits = st.lists(st.booleans(), min_size=V, max_size=V)
    onset = torch.tensor(data.draw(bits)).float()
    margins = st.lists(st.sampled_from([0.5, 1.0, 2.0, math.inf]), min_size=V, max_size=V)
    above = torch.where(onset > 0, torch.tensor(data.draw(margins)), -1.0)
    known = torch.tensor(data.draw(bits))
    rules = [
        torch.where(torch.tensor(data.draw(bits)), data.draw(st.integers(0, V - 1)), V) for _ in range(2)
    ]
    limit = torch.stack(rules)
    told = {"limit": limit[None], "known_onset": known[None], "onset": torch.ones(1, V)}
    expected = keep_within(onset[None], above[None], told)[0]
    kept = onset.numpy().copy()
    cpu_kernels.keep_within(kept, above.numpy(), limit.numpy(), known.numpy())
    assert kept.tolist() == expected.tolist()


def test_onsets_are_drawn_as_by_torch(model):
    torch.manual_seed(0)
    guide = Guide(1.0)
    hidden, threshold = torch.randn(50, model.decoder.d_model), torch.randn(50, 9)
    with torch.no_grad():
        base, pair = model.onset_head.parts(hidden)
        expected = draw_onsets((base, pair), threshold, guide, {})
    assert not torch.equal(expected, (base > threshold).float())
    weights = weights_in(model, torch.float32)
    parts, onset = np.empty((50, 90), np.float32), np.empty((50, 9), np.float32)
    cpu_kernels.multiply(hidden.numpy(), weights.onset, 0, parts)
    for row in zip(parts, threshold.numpy(), onset):
        cpu_kernels.draw_onsets(*row)
    assert torch.equal(torch.from_numpy(onset), expected)


def test_the_budget_is_told_as_by_torch(model):
    torch.manual_seed(0)
    onset, vel = torch.randint(0, 12, (4, 9)).float(), torch.rand(4, 9) * 6
    density, intensity, instrument = torch.randn(8) * 2, torch.randn(8), torch.rand(8, 9)
    density[1] = intensity[2] = density[3] = intensity[3] = torch.nan
    instrument[4, 2:5] = torch.nan
    controls = {"density": density, "intensity": intensity, "instrument": instrument}
    asked = model.budget.targets(controls, torch.arange(8) * 2 + 1, torch.tensor(16))
    expected = model.budget.features(asked, onset.repeat_interleave(2, 0), vel.repeat_interleave(2, 0))
    got = torch.empty_like(expected)
    cpu_kernels.budget_features(asked.numpy(), onset.numpy(), vel.numpy(), np.float32(16), got.numpy())
    torch.testing.assert_close(got, expected)


def test_a_hit_is_read_as_by_torch(model):
    torch.manual_seed(0)
    head = model.hit_head.offset
    hidden, onset, past = (
        torch.randn(5, model.decoder.d_model),
        (torch.rand(5, 9) < 0.5).float(),
        torch.randn(5, head.d_head),
    )
    bins, between = bins_of(head), np.empty((2, head.d_head), np.float32)
    for voice in range(9):
        with torch.no_grad():
            expected = head.read(head.prepare(hidden, onset)[:, voice], past, voice)
        got = torch.empty_like(expected)
        for row in range(5):
            cpu_kernels.bin_logits(
                *(array(x[row]) for x in (hidden, onset, past)), bins, voice, *between, got[row].numpy()
            )
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("n_bin", [7, 25, 32])
def test_a_value_in_its_bin_is_torchs_to_the_bit(n_bin):
    torch.manual_seed(0)
    tokens, within = torch.randint(n_bin, (2000,)), torch.rand(2000)
    tokens[:2], within[:2] = torch.tensor([0, n_bin - 1]), 1 - 2**-24
    for kernel, expected in (
        (cpu_kernels.velocity_in, bin_to_velocity),
        (cpu_kernels.offset_in, bin_to_offset),
    ):
        got = [kernel(token, chance, n_bin) for token, chance in zip(tokens.tolist(), within.numpy())]
        assert torch.equal(torch.tensor(np.array(got, np.float32)), expected(tokens, within, n_bin))


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
    rounded, bias = matrix_of(matrix, precision), torch.randn(40)
    assert rounded.numbers.dtype == (np.int8 if precision == torch.int8 else np.float32)
    cpu_kernels.multiply(x.numpy(), rounded, 1, y.numpy())
    by_hand = torch.from_numpy(rounded.numbers[1]).float() * torch.from_numpy(rounded.scale[1])[:, None]
    torch.testing.assert_close(y, x @ by_hand.T)
    lengths = x.norm(dim=1)[:, None] * matrix[1].norm(dim=1)
    exact = x @ matrix[1].T
    assert ((y - exact).abs() <= 0.01 * lengths + 1e-6).all() and (y[:, 3] == 0).all()
    assert torch.allclose(y, exact, atol=1e-5) == (precision == torch.float32)
    with_bias = torch.empty_like(y)
    cpu_kernels.multiply(x.numpy(), matrix_of(matrix[1], precision, bias), 0, with_bias.numpy())
    torch.testing.assert_close(with_bias, y + bias)


# ---- what is kept


def test_weights_are_laid_out_once_and_anew_when_one_has_changed(model, monkeypatch):
    model, made = copy.deepcopy(model), []
    monkeypatch.setattr(cpu_steps, "weights_in", lambda *a: made.append(a[1]) or weights_in(*a))
    inputs = sampling_inputs(random_batch(T=16))

    def draw(model):
        return sample(model, *inputs, generator=torch.Generator().manual_seed(1))

    before = draw(model)
    assert all(torch.equal(a, b) for a, b in zip(before, draw(model))) and len(made) == 1
    changed = [
        model.decoder.layers[1].mlp.down_proj.weight,
        model.decoder.embed.vel.bias,
        model.onset_head.pair.weight,
        model.budget.mlp[2].weight,
        model.hit_head.offset.voice_bias,
        model.decoder.norm.weight,
    ]
    for weight in changed:
        weight.data[0] += 3.0  # which torch does not count as a change
        draw(model)
    assert len(made) == 1 + len(changed)
    fresh = copy.deepcopy(model)
    assert not fresh.laid_out and not pickle.loads(pickle.dumps(model)).laid_out
    after = draw(model)
    assert all(torch.equal(a, b) for a, b in zip(after, draw(fresh)))
    assert not all(torch.equal(a, b) for a, b in zip(before, after))
    assert (
        weights_of(model, torch.int8) is weights_of(model, torch.int8) is not weights_of(model, torch.float32)
    )


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(monkeypatch):
    how = []

    def jit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        how.append(options)
        return lambda function: function

    monkeypatch.setattr(cpu_kernels, "njit", jit)
    assert cpu_kernels.compiled(abs)(-1) == 1 and len(how) == 1
