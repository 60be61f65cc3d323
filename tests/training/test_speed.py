"""What is written to be fast does what the plain thing does."""

import importlib
import importlib.util
import platform
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from model.cpu_training import Dropout, RMSNorm, attend, attend_written_out
from model.heads import hit_index
from model.loss import count_tokens, training_loss
from tests.conftest import TINY
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus
from tests.helpers.model_batches import random_batch, small_model
from utils.training.loop import compile_model

LOSS_WEIGHT = {"onset": 1.0, "velocity": 0.2, "offset": 0.2, "marginal": 0.5}


def dropped(p, n=400_001, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return Dropout(p)(torch.ones(n, dtype=dtype))


@pytest.mark.parametrize("p", [0.15, 0.5, 0.9])
def test_dropout_keeps_its_share_and_scales_by_it(p):
    out = dropped(p)
    kept = out > 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.004)
    share = 1 - round(p * 65536) / 65536
    assert torch.equal(out[kept], torch.full_like(out[kept], 1 / share))
    lanes = kept[:400_000].view(-1, 4).float()  # the four that are drawn at once know nothing of each other
    assert (lanes.T.corrcoef() - torch.eye(4)).abs().max() < 0.015
    assert (lanes.mean(0) - (1 - p)).abs().max() < 0.008
    assert torch.equal(dropped(p, dtype=torch.bfloat16) > 0, kept)


def test_dropout_follows_the_seed_and_not_the_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = dropped(0.3)
        torch.set_num_threads(2)
        assert torch.equal(dropped(0.3), alone)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(dropped(0.3, seed=1), alone)


def test_dropout_passes_the_gradient_of_what_it_kept():
    x = torch.randn(7, 11, 13, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x, out)
    assert (x.grad == 0).any() and (x.grad != 0).any()


def test_dropout_does_nothing_in_eval_or_at_zero():
    x = torch.randn(1000)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("masked", [True, False], ids=["mask", "causal"])
def test_attention_written_out_is_torchs_with_its_gradients(masked):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, 9, 8, requires_grad=True) for _ in range(3))
    mask = (torch.rand(3, 1, 1, 9) < 0.5) | torch.eye(9, dtype=torch.bool) if masked else None
    towards = torch.randn(3, 2, 9, 8)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=not masked)
    got = attend_written_out(q, k, v, mask, not masked)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)
    for of_got, of_wanted in zip(*(torch.autograd.grad(y, (q, k, v), towards) for y in (got, wanted))):
        torch.testing.assert_close(of_got, of_wanted, atol=1e-6, rtol=1e-5)
    in_half = attend(*(x.bfloat16() for x in (q, k, v)), mask, not masked)
    assert in_half.dtype == torch.bfloat16
    torch.testing.assert_close(in_half.float(), wanted, atol=0.05, rtol=0.05)


def test_norm_is_torchs_with_its_gradients():
    torch.manual_seed(0)
    norm = RMSNorm(12, eps=1e-5).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 12, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (12,), norm.weight, 1e-5))
    assert torch.autograd.gradcheck(lambda x, _: norm(x), (x, norm.weight))


def test_hit_index_names_every_hit_and_every_pair_of_a_step():
    onset = (torch.rand(2, 6, 9, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    index = hit_index(onset)
    cells = onset.nonzero().tolist()
    assert [divmod(place // 9, 6) + (place % 9,) for place in index["hit"].tolist()] == [
        tuple(c) for c in cells
    ]
    pairs = {
        (i, j) for i, a in enumerate(cells) for j, b in enumerate(cells) if a[:2] == b[:2] and a[2] > b[2]
    }
    listed = list(zip(index["later_hit"].tolist(), index["earlier_hit"].tolist()))
    assert set(listed) == pairs and len(listed) == len(pairs)
    assert all(len(rows) == 0 for rows in hit_index(torch.zeros(2, 6, 9)).values())


class Looks(TorchDispatchMode):
    """Counts what makes the CPU wait for a GPU: results whose size hangs on values, and values taken out."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        places = args[1] if name in ("index", "index_put", "index_put_") else ()
        masked = any(place is not None and place.dtype == torch.bool for place in places)
        if masked or name in ("nonzero", "masked_select", "_local_scalar_dense", "is_nonzero", "equal"):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def test_a_training_step_asks_the_device_nothing(tiny_config):
    model = small_model(tiny_config).train()
    batch = random_batch()
    batch["noise"] = torch.randn(3, 4, tiny_config.Model.Intermediate.d_latent)
    tokens = count_tokens(batch, model.grid(batch["mask"].shape[1]))
    seen = {}
    for name, made in (("with", batch | hit_index(batch["onset"])), ("without", batch)):
        with Looks() as looks:
            training_loss(model(made), tokens, LOSS_WEIGHT, 0.1, 0.1).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        seen[name] = looks.found
    assert seen["with"] == [] and "nonzero" in seen["without"]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_compiling_leaves_the_keys_and_finds_one_graph(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.Encoder.dropout = config.Model.Decoder.dropout = 0.1
    model = small_model(config).train()
    keys = list(model.state_dict())
    compile_model(model)
    assert list(model.state_dict()) == keys
    embedded, modulation = torch.randn(2, 16, 32), torch.randn(2, 16, 2, 32)
    found = torch._dynamo.explain(model.decoder._call_impl)(embedded, modulation)
    assert found.graph_count == 1 and found.graph_break_count == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
def test_freed_memory_is_used_again(repository):
    """Page faults of a fresh process that takes and frees 64 MB once more, before and after."""
    code = """
import resource
from utils.training.loop import keep_freed_memory

def faults():
    counts = []
    for _ in range(3):
        bytearray(b"1") * (64 << 20)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[-1] - counts[-2]

before = faults()
keep_freed_memory()
print(before, faults())
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    before, after = map(int, run.stdout.split())
    assert after < 16 < before


def test_training_benchmark_prints_what_it_measures(tmp_path, repository, monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    monkeypatch.chdir(repository)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # which the benchmark sets; so that it is set back
    benchmark = importlib.import_module("training")
    monkeypatch.setattr(benchmark, "SQUARE", {"cpu": 64})
    monkeypatch.setattr(benchmark, "LOADER_BATCHES", 2)
    monkeypatch.setattr(benchmark, "LOADER_RUNS", 2)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    sets = [*TINY, "Data.batch_size=4", f"Data.corpus={small_corpus(tmp_path / 'drums')}"]
    sets = ["--device", "cpu", *(word for pair in sets for word in ("--set", pair))]
    benchmark.main(["--loader", *sets])
    assert "matrix product" not in (said := capfd.readouterr().out) and "loader alone" in said
    monkeypatch.setattr(benchmark, "choose_precision", lambda precision, _: {"auto": "bfloat16"}[precision])
    benchmark.main(["--steps", "1", *sets])
    said = capfd.readouterr().out
    for what in (
        "bfloat16 on cpu",
        "GFLOP/s in bfloat16:",
        "matrix product",
        "steps/s",
        "sixteenths of drums/s",
        "GFLOP a step",
        "fused",
    ):
        assert what in said
    share = re.search(r"([0-9.]+)% of the product", said)
    assert float(share.group(1)) > 0
    assert re.search(r"loader alone +[0-9,]+ windows/s.* median of \d runs [0-9,]+", said)
    assert "of the time waiting for batches" in said


def test_preprocessing_benchmark_measures_the_corpus(tmp_path, repository, monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        "preprocessing_benchmark", repository / "benchmarks/preprocessing.py"
    )
    benchmark = importlib.util.module_from_spec(spec)  # a file of this name lies in the root as well
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "RUNS", 1)
    twice = midi_bytes(beat() + note(10, 36))  # two kicks in one cell, of which one is lost
    corpus = small_corpus(tmp_path / "drums", twice=twice)
    monkeypatch.setattr(benchmark, "corpus_at_hand", lambda: corpus)
    benchmark.main(["--files", "0"])
    lines = capfd.readouterr().out.splitlines()
    # a beat hits twice a quarter: eight bars of eight hits, and the one that is lost
    for line, workers in zip(lines, ("1 process:", "2 processes:"), strict=True):
        assert line.startswith(f"drums: 3 files, 65 notes, {workers}")
        assert re.search(
            r"[\d.]+ s the command, [\d.]+ s the function, [\d,]+ files/s, [\d,]+ notes/s$", line
        )
