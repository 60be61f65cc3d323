"""The benchmark of decoding compares what it says it compares."""

import importlib
import re

import pytest
import torch

from model.decoding.sampling import sample
from tests.conftest import TINY
from tests.helpers.model_batches import random_batch, sampling_inputs, small_model


@pytest.fixture
def decoding(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return importlib.import_module("decoding")


@pytest.mark.parametrize("whole", [False, True], ids=["growing prefix", "all steps"])
@pytest.mark.parametrize(
    "window, parts", [(64, False), (8, False), (64, True)], ids=["", "near", "all parts"]
)
def test_without_a_cache_the_same_seed_draws_the_same(tiny_config, decoding, window, parts, whole):
    config = tiny_config.model_copy(deep=True)
    config.Model.Decoder.window = window
    if parts:
        config.Model.Decoder.history = [1]
        config.Model.Decoder.condition_params.steady = True
        config.Model.Decoder.condition_params.remaining_steady = True
    model, inputs = small_model(config), sampling_inputs(random_batch(T=32))
    drums = sample(model, *inputs, generator=torch.Generator().manual_seed(5), precision=torch.float32)
    same = decoding.sample_without_cache(model, inputs, torch.Generator().manual_seed(5), whole)
    assert all(torch.equal(a, b) for a, b in zip(same, drums)) and drums[0].sum() > 32
    other = decoding.sample_without_cache(model, inputs, torch.Generator().manual_seed(6), whole)
    with pytest.raises(SystemExit, match="here: 3 of 3 rows are not"):
        decoding.check_alike(other, drums, "here")


def test_bytes_are_those_of_a_step(tiny_config, decoding):
    """Weights: of all parameters without those that a step, run alone, never asks for."""
    model = small_model(tiny_config)
    weights, cache = decoding.bytes_read(model, 3, 4, torch.float32)
    others = (
        model.encoder,
        model.latent,
        model.condition,
        model.marginal_head,
        model.tap,
        model.decoder.in_attention,
    )
    tables = (model.hit_head.velocity_token, model.hit_head.offset_token, model.hit_head.own_velocity)
    elsewhere = (
        sum(p.numel() for part in (*others, *tables) for p in part.parameters()) + model.decoder.start.numel()
    )
    d_model, d_head, n_bin, eight_voices = 32, 16, 32, 8
    elsewhere += (
        2 * eight_voices * ((d_model + 1 + 9) * d_head + n_bin)
    )  # of the heads of velocity and offset
    assert weights == 4 * (sum(p.numel() for p in model.parameters()) - elsewhere)
    layers, rows, seen = 2, 3, (1 + 2 + 3 + 4) / 4
    assert cache == 4 * 2 * layers * rows * seen * d_model
    longer = 2 * layers * (sum(range(1, 65)) + 64 * 64) / 128 * d_model * 4  # a window of 64 steps
    assert decoding.bytes_read(model, 1, 128, torch.float32)[1] == longer
    in_blocks = layers * (4 * d_model**2 + 3 * d_model * 64)
    beside_them = 3 * d_model * d_model + model.budget.mlp[2].weight.numel()
    assert weights - decoding.bytes_read(model, 3, 4, torch.int8)[0] == 3 * (in_blocks + beside_them)


def test_it_prints_what_it_measures(decoding, monkeypatch, capsys):
    monkeypatch.setattr(decoding, "LARGE", {"cpu": 2**20})
    small = [word for pair in TINY for word in ("--set", pair)]
    decoding.main(
        ["--device", "cpu", "--batch", "1", "2", "--steps", "32", "--calls", "3", "--runs", "1", *small]
    )
    said = capsys.readouterr().out
    assert "decoder 32 x 2" in said and "torch.float32 on cpu" in said
    assert re.search(
        r"calls +\d+ ms the first, \d+ ms the second, \d+ ms number 3; median \d+ ms: 32 steps", said
    )
    assert re.search(
        r"a step by bar +[\d.]+, [\d.]+ ms, at most [\d.]+% from their mean; medians of 2 calls", said
    )
    peaks = re.search(r"peak memory +(\d+) MiB .* alone, (\d+) after 32 steps at batch 1, (\d+) after", said)
    assert 50 < int(peaks[1]) <= int(peaks[2]) <= int(peaks[3])
    assert re.search(r"memory +[\d.]+ GB/s; a buffer of the [\d.]+ MB", said)
    rows = [line.split() for line in said.splitlines() if line.startswith("   32 ")]
    assert [row[:3] for row in rows] == [
        ["32", "1", "int8"],
        ["32", "1", "float32"],
        ["32", "2", "int8"],
        ["32", "2", "float32"],
    ]  # as decoding_precision has it
    for row in rows:
        figures = [float(figure.replace(",", "")) for figure in row[3:] if figure != "times"]
        assert len(figures) == 7 and min(figures) > 0
