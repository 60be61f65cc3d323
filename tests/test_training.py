"""The training script: it trains, resumes to the bit, fine-tunes, and stops before a bad step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from midi_files import beat, midi_bytes, note, small_corpus

import training_script_causal_decoder as script
from utils.checkpoints import load_checkpoint
from utils.get_model import load_model
from utils.metrics import likelihood
from utils.optim import kl_weight, make_optimizer, make_scheduler

SHORT = [
    "Training.warmup_steps=2", "Training.validate_every=4", "Training.checkpoint_every=4", "Training.log_every=2",
    "Training.sample_every=1000", "Training.precision=float32", "Training.VAE_params.start_step=2",
    "Training.VAE_params.cycle_steps=4", "Data.batch_size=4", "Data.preprocess_workers=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    busy = beat(bars=6)
    for tick in range(0, 6 * 1920, 240):
        busy += note(tick, 51, 40 + tick % 50, 60)
    return small_corpus(tmp_path_factory.mktemp("corpus"), busy=midi_bytes(busy))


def arguments(folder, corpus, *more, steps=8, dropout=0.1):
    sets = [*TINY, *SHORT, f"Model.Decoder.dropout={dropout}", f"Training.steps={steps}"]
    sets += [f"Training.run_dir={folder / 'run'}", f"Data.cache_dir={folder / 'cache'}", f"Data.corpus={corpus}"]
    return [word for pair in sets for word in ("--set", pair)] + list(more)


def checkpoint(folder, step):
    return load_checkpoint(folder / "run" / "checkpoints" / f"step_{step:08d}.pt")


def lines(folder):
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def assert_same(a, b, path=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, corpus):
    """Eight steps in one go."""
    folder = tmp_path_factory.mktemp("whole")
    assert script.main(arguments(folder, corpus, "--set", "Training.sample_every=8")) == 0
    return folder


def test_run_folder_holds_what_a_run_leaves(whole_run):
    run = whole_run / "run"
    kinds = [(line["kind"], line["step"]) for line in lines(whole_run)]
    assert kinds == [("train", 2), ("train", 4), ("validation", 4), ("train", 6), ("train", 8), ("validation", 8)]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.pt", "step_00000004.pt", "step_00000008.pt"}
    assert {path.suffix for path in (run / "samples" / "step_00000008").iterdir()} == {".mid", ".png"}
    assert list((run / "tensorboard").iterdir())
    shipped = load_model(run / "drummer.pt")
    best = load_checkpoint(run / "checkpoints" / "best.pt")["ema"]
    assert all(torch.equal(p, best[name].half().float()) for name, p in shipped.named_parameters())
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved == checkpoint(whole_run, 8)["config"]
    assert resolved["Data"]["normalize_factor"]["density"][1] > 0 and resolved["Training"]["precision"] == "float32"


def test_checkpoint_loads_with_torch_defaults_and_rebuilds_the_model(whole_run):
    path = whole_run / "run" / "checkpoints" / "step_00000008.pt"
    loaded = torch.load(path)
    assert {"config", "vae_model", "vae_optimizer", "scheduler", "step", "ema"} <= loaded.keys() and loaded["step"] == 8
    model = load_model(path)
    assert not model.training
    assert all(torch.equal(p, loaded["ema"][name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, corpus, whole_run, workers):
    more = ("--set", f"Data.loader_workers={workers}", "--set", "Training.sample_every=8")
    assert script.main(arguments(tmp_path, corpus, *more)) == 0
    run = tmp_path / "run"
    for name in ("step_00000008.pt", "best.pt"):  # as if it had been killed on its way from step 4 to 8
        (run / "checkpoints" / name).unlink()
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() + '{"step": 9, "ki')
    assert script.main(["--resume", str(run)]) == 0
    ours, theirs = checkpoint(tmp_path, 8), checkpoint(whole_run, 8)
    for key in ("vae_model", "ema", "vae_optimizer", "scheduler", "step", "best", "figures"):
        assert_same(ours[key], theirs[key], key)

    def without_clock(folder):
        return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines(folder)]

    assert without_clock(tmp_path) == without_clock(whole_run)


def test_a_run_is_not_trained_over(capsys, corpus, whole_run):
    assert script.main(arguments(whole_run, corpus)) == 2
    assert "holds a run already; --resume" in capsys.readouterr().err


def test_resume_needs_a_run(tmp_path, capsys):
    assert script.main(["--resume", str(tmp_path)]) == 2
    assert f"--resume: {tmp_path} is no run folder" in capsys.readouterr().err


def test_fine_tuning_starts_from_the_weights(tmp_path, corpus, whole_run, capsys):
    source = whole_run / "run" / "checkpoints" / "step_00000008.pt"
    frozen = ("--set", "Training.learning_rate=1e-12", "--set", "Training.minimum_learning_rate=0")
    assert script.main(arguments(tmp_path, corpus, "--init-from", str(source), *frozen, steps=2)) == 0
    for name, weight in load_checkpoint(source)["vae_model"].items():
        torch.testing.assert_close(checkpoint(tmp_path, 2)["vae_model"][name], weight)
    other = ("--set", "Model.Decoder.d_ff=48", "--set", f"Training.run_dir={tmp_path / 'misfit'}")
    assert script.main(arguments(tmp_path, corpus, "--init-from", str(source), *other)) == 2
    assert "do not fit the model" in capsys.readouterr().err
    assert not (tmp_path / "misfit").exists()


def test_typo_in_an_override_is_named(capsys):
    assert script.main(["--set", "Training.learning_rat=3e-4", "--set", "Training.steps=many"]) == 2
    said = capsys.readouterr().err
    assert "unknown key Training.learning_rat; did you mean learning_rate?" in said and "Training.steps: 'many'" in said


def test_it_stops_before_a_step_that_is_not_finite(tmp_path, corpus, monkeypatch):
    real = script.training_loss
    monkeypatch.setattr(script, "training_loss", lambda *a: real(*a) * float("nan"))
    with pytest.raises(RuntimeError, match=r"step 0: the gradient norm is nan .* learning rate"):
        script.main(arguments(tmp_path, corpus))


def test_it_learns(tmp_path, corpus):
    fast = ("--set", "Training.learning_rate=1e-2", "--set", "Training.ema_decay=0.5", "--set", "Training.validate_every=40")
    assert script.main(arguments(tmp_path, corpus, *fast, steps=40, dropout=0)) == 0
    figures = [line for line in lines(tmp_path) if line["kind"] == "train"]
    assert figures[-1]["onset"] < 0.5 * figures[0]["onset"]


def test_script_runs_from_the_shell_and_shows_progress(tmp_path, corpus, repository):
    command = [sys.executable, str(repository / Path(script.__file__).name), *arguments(tmp_path, corpus, steps=4)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "M parameters, float32 on cpu" in done.stdout and "4/4" in done.stderr and "loss=" in done.stderr


def test_schedules(tiny_config):
    training = tiny_config.Training.model_copy(
        update={"warmup_steps": 10, "steps": 110, "learning_rate": 1.0, "minimum_learning_rate": 0.1}
    )
    optimizer = make_optimizer(torch.nn.Linear(2, 2), training)
    scheduler, rates = make_scheduler(optimizer, training), []
    for _ in range(111):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and rates[110] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.55) and rates[10:] == sorted(rates[10:], reverse=True)
    vae = training.VAE_params.model_copy(update={"start_step": 100, "cycle_steps": 40, "kl_weight": 0.2})
    assert [kl_weight(step, vae) for step in (0, 99, 100, 110, 120, 139, 140)] == pytest.approx([0, 0, 0, 0.1, 0.2, 0.2, 0])


def test_decay_touches_matrices_only(tiny_config):
    from model_batches import small_model

    model = small_model(tiny_config)
    decayed, plain = (group["params"] for group in make_optimizer(model, tiny_config.Training).param_groups)
    names = {id(p): name for name, p in model.named_parameters()}
    assert len(decayed) + len(plain) == len(names)
    assert all(p.ndim == 2 for p in decayed)
    kept = {names[id(p)] for p in plain}
    assert {"condition.style.weight", "hit_head.velocity_token.weight", "decoder.norm.weight", "decoder.start"} <= kept
    assert not any(name.endswith("qkv_proj.weight") for name in kept)


def test_likelihood_is_the_models_own_loss(tiny_config):
    from model_batches import random_batch, small_model

    model, batch = small_model(tiny_config), random_batch()
    figures = likelihood(model, [batch, batch], torch.device("cpu"))
    with torch.no_grad():
        sums = model(batch, sample_latent=False)
    assert figures["given"]["onset"] == pytest.approx(float(sums["onset_nats"] / sums["steps"]), rel=1e-5)
    assert figures["given"]["velocity"] == pytest.approx(float(sums["velocity_nats"] / sums["hits"]), rel=1e-5)
    assert figures["unset"]["onset"] != pytest.approx(figures["given"]["onset"], rel=1e-3)
