"""On a real GPU, where there is one: captured decoding, its weights, precision, the doors, training."""

import contextlib
import copy

import pytest
import torch

import training_script_causal_decoder as script
from inference_bar_control import (
    Jam,
    add_voices,
    continue_drums,
    drums_from_midi,
    generate,
    humanise,
    infill,
    play,
    process_midi,
    vary,
)
from model.controls import controls_of
from model.decoding.capture import CapturedDecoding, begin
from model.decoding.guide import Guide
from model.decoding.sampling import build_conditioning, encode_rhythm, sample
from model.decoding.steps import Decoding
from tests.conftest import REPOSITORY, TINY
from tests.helpers.midi_files import small_corpus
from tests.helpers.model_batches import random_batch, sampling_inputs, small_model
from tests.helpers.training_runs import SHORT
from utils.config.schema import load_config
from utils.get_model import load_model
from utils.training.loop import EMA
from utils.training.optim import make_optimizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CUDA = torch.device("cuda")
CHECKPOINT = REPOSITORY / "checkpoints" / "drummer.pt"
TAPS = REPOSITORY / "examples" / "clave_taps.mid"


@pytest.fixture
def model(tiny_config):
    return small_model(tiny_config).to(CUDA)


@pytest.fixture(scope="module")
def drummer():
    return load_model(CHECKPOINT, CUDA)


def on_cuda(batch):
    return {name: x.to(CUDA) for name, x in batch.items()}


def played(model, batch, seed=1, **options):
    generator = torch.Generator(CUDA).manual_seed(seed)
    return sample(model, *sampling_inputs(batch), generator=generator, **options)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other))


LIFTED = (0.85, 0.5, 1.0, (0.5, 0.0, -0.5) * 3)  # a voice each


@pytest.mark.parametrize(
    "guidance, follow, temperature", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0), (1.0, 1.0, LIFTED)]
)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_graphs_play_what_plain_steps_play(model, monkeypatch, guidance, follow, temperature, precision):
    batch = on_cuda(random_batch())
    options = {"guidance": guidance, "follow": follow, "precision": precision, "temperature": temperature}
    captured = [played(model, batch, seed, **options) for seed in (1, 2)]
    assert model.captured
    monkeypatch.setattr("model.decoding.sampling.begin", lambda *arguments: Decoding(*arguments))
    for seed, drums in zip((1, 2), captured):
        assert same(drums, played(model, batch, seed, **options)) and drums[0].sum() > 50


@pytest.mark.parametrize("change", ["fused step", "averaged weights", "in place", "load_state_dict"])
def test_a_kept_graph_plays_the_weights_as_they_are(model, tiny_config, change):
    batch = on_cuda(random_batch())
    before = played(model, batch)
    if change == "fused step":
        optimizer = make_optimizer(model, tiny_config.Training)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        for _ in range(50):
            optimizer.step()
    elif change == "averaged weights":
        ema = EMA(model, 0.5)
        for average in ema.weights.values():
            average.mul_(1.5)
    elif change == "in place":
        with torch.no_grad():
            next(model.onset_head.parameters()).mul_(2.0)
    else:
        model.load_state_dict({name: 1.5 * x for name, x in model.state_dict().items()})
    with ema.swapped_in(model) if change == "averaged weights" else contextlib.nullcontext():
        now = played(model, batch)
        anew = copy.deepcopy(model)
        assert not same(before, now) and same(now, played(anew, batch))


def test_under_autocast_every_door_gives_what_it_gives_outside(drummer):
    rhythm = process_midi(TAPS)
    none = dict(density=None, intensity=None, instrument=None, style="funk", masks=None, seq_len=32)

    def doors():
        drums = generate(*rhythm, **none, model=drummer, seed=3)
        jobs = [
            humanise(drums, model=drummer, seed=1),
            add_voices(drums, ["ride"], model=drummer, seed=1),
            infill(drums, bars=[1], model=drummer, seed=1),
            continue_drums(drums, 1, model=drummer, seed=1),
            vary(drums, 0.5, model=drummer, seed=1),
        ]
        jam = Jam(*rhythm, model=drummer, seed=1)
        return [roll for rolls in (drums, *jobs, next(jam), next(jam)) for roll in rolls]

    outside = doors()
    assert sum(float(roll.sum()) for roll in outside) > 0
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cuda", dtype=dtype):
            assert same(outside, doors())
    with torch.inference_mode():
        assert same(outside, doors())


def test_play_writes_what_it_has_played_on_a_gpu(drummer, tmp_path):
    take = play(TAPS, model=drummer, seed=1)
    take.save(tmp_path / "take.mid")
    written = drums_from_midi(tmp_path / "take.mid")[0]
    assert written.sum() > 20 and torch.equal(written, torch.as_tensor(take.onset).float().cpu())


def test_the_gpu_plays_much_what_the_cpu_plays(drummer):
    """With the same chance: float32 throughout, and as it plays by default. A hit that rounding changes
    changes those after it, so the first bar is held more strictly."""
    batch = random_batch(B=4)
    uniform = torch.rand(4, 64, 9, 5, generator=torch.Generator().manual_seed(1))

    def drums(model, batch, decoding_kind, precision):
        grid = model.grid(64)
        names = ("mask", "use_context", "use_latent")
        rhythm = tuple(batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset"))
        with torch.no_grad():
            heard = encode_rhythm(model, rhythm, *(batch[name] for name in names), grid)
            told = build_conditioning(model, heard, controls_of(batch), Guide(1.0), grid)
            decoding = decoding_kind(model, 4, Guide(1.0), 1.0, precision)
            bars = [
                decoding.bar(
                    {name: x[:, bar] for name, x in told.items()}, uniform.to(told["mask"].device)[:, bar]
                )
                for bar in grid.bars()
            ]
        return torch.cat([bar[0] for bar in bars], 1).cpu()

    cpu = copy.deepcopy(drummer).cpu()
    exact = drums(cpu, batch, Decoding, torch.float32)
    for precision in (torch.float32, torch.bfloat16):
        here = drums(drummer, on_cuda(batch), CapturedDecoding, precision)
        alike = (exact == here).float()
        assert alike[:, :16].mean() > 0.98 and alike.mean() > 0.85 and exact.sum() > 50


def test_a_model_gives_its_memory_back(model):
    batch = on_cuda(random_batch())
    played(model, batch)
    model.cpu()
    assert "captured" not in vars(model)
    played_there = sample(model, *sampling_inputs(random_batch()), generator=torch.Generator().manual_seed(1))
    assert played_there[0].device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_models_play(model, dtype):
    assert played(model.to(dtype), on_cuda(random_batch()))[0].dtype == torch.float32


def test_kept_decodings_cross_inference_mode(model):
    batch = on_cuda(random_batch())
    with torch.inference_mode():
        inside = played(model, batch)
    assert same(inside, played(model, batch))
    with torch.inference_mode():
        loaded = load_model(CHECKPOINT, CUDA)
    assert begin(loaded, 1, Guide(1.0), 1.0)


def test_a_run_trains_and_draws_samples(tmp_path):
    overrides = [
        *TINY,
        *SHORT,
        f"Data.corpus={small_corpus(tmp_path)}",
        f"Data.cache_dir={tmp_path / 'cache'}",
        f"Training.run_dir={tmp_path / 'run'}",
        "Training.precision=auto",
        "Training.device=cuda",
        "Training.sample_every=4",
        "Training.steps=8",
    ]
    figures = script.train(load_config(REPOSITORY / "config.yaml", overrides))
    assert figures["onset_given"] > 0 and list((tmp_path / "run" / "samples").rglob("*.mid"))
