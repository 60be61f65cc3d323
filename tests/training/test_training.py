"""The training script: what a run leaves, that it learns, fine-tunes, and stops before a bad step."""

import math
import re
import time

import pytest
import torch
import yaml

import training_script_causal_decoder as script
from data_aug import DrumBatches, Pieces
from model.heads import hit_index
from preprocessing import preprocess
from tests.helpers.training_runs import arguments, busy_corpus, checkpoint, finish, lines, start
from utils.checkpoints import load_checkpoint
from utils.config.schema import load_config
from utils.get_model import load_model
from utils.training import optim
from utils.training.loop import EMA, FiniteGuard
from utils.training.metrics import likelihood
from utils.training.optim import choose_precision, kl_weight, loss_weights, make_optimizer, make_scheduler


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return busy_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, corpus):
    """Eight steps in one go, with samples at the end."""
    folder = tmp_path_factory.mktemp("whole")
    assert script.main(arguments(folder, corpus, "Training.log_every=2", steps=8)) == 0
    return folder


def test_run_folder_holds_what_a_run_leaves(whole_run):
    run = whole_run / "run"
    kinds = [(line["kind"], line["step"]) for line in lines(whole_run)]
    assert kinds == [
        ("train", 2),
        ("train", 4),
        ("validation", 4),
        ("train", 6),
        ("train", 8),
        ("validation", 8),
    ]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "best.pt",
        "step_00000004.pt",
        "step_00000008.pt",
    }
    assert {path.suffix for path in (run / "samples" / "step_00000008").iterdir()} == {".mid", ".png"}
    assert list((run / "tensorboard").iterdir())
    shipped = load_model(run / "drummer.pt")
    best = load_checkpoint(run / "checkpoints" / "best.pt")["ema"]
    assert all(torch.equal(p, best[name].half().float()) for name, p in shipped.named_parameters())
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved == checkpoint(whole_run, 8)["config"]
    assert (
        resolved["Data"]["normalize_factor"]["density"][1] > 0
        and resolved["Training"]["precision"] == "float32"
    )


def test_checkpoint_loads_with_torch_defaults_and_rebuilds_the_model(whole_run):
    path = whole_run / "run" / "checkpoints" / "step_00000008.pt"
    loaded = torch.load(path)
    assert {"config", "vae_model", "vae_optimizer", "scheduler", "step", "ema"} <= loaded.keys() and loaded[
        "step"
    ] == 8
    model = load_model(path)
    assert not model.training
    assert all(torch.equal(p, loaded["ema"][name]) for name, p in model.named_parameters())


def test_a_run_is_not_trained_over(capsys, corpus, whole_run):
    assert script.main(arguments(whole_run, corpus)) == 2
    assert "holds a run already; --resume" in capsys.readouterr().err


def test_resume_needs_a_run(tmp_path, capsys):
    assert script.main(["--resume", str(tmp_path)]) == 2
    assert f"--resume: {tmp_path} is no run folder" in capsys.readouterr().err


@pytest.mark.usefixtures("no_samples")
def test_fine_tuning_starts_from_the_weights(tmp_path, corpus, whole_run, capsys):
    source = whole_run / "run" / "checkpoints" / "step_00000008.pt"
    frozen = ("Training.learning_rate=1e-12", "Training.minimum_learning_rate=0")
    assert script.main([*arguments(tmp_path, corpus, *frozen, steps=2), "--init-from", str(source)]) == 0
    given, tuned = load_checkpoint(source)["vae_model"], checkpoint(tmp_path, 2)["vae_model"]
    torch.testing.assert_close(tuned, given)
    misfit = arguments(tmp_path, corpus, "Model.Decoder.d_ff=48", f"Training.run_dir={tmp_path / 'misfit'}")
    assert script.main([*misfit, "--init-from", str(source)]) == 2
    assert "do not fit the model" in capsys.readouterr().err
    assert not (tmp_path / "misfit").exists()


def test_all_that_is_wrong_is_said_at_once_before_data_is_read(tmp_path, whole_run, monkeypatch, capsys):
    monkeypatch.setattr(script, "preprocess", lambda *_: pytest.fail("data was read"))
    sets = (f"Training.run_dir={whole_run / 'run'}", "Training.accumulation_steps=3")
    words = [*arguments(tmp_path, tmp_path, *sets), "--midi-dir", "nowhere", "--init-from", "nothing.pt"]
    assert script.main(words) == 2
    said = capsys.readouterr().err
    assert "this run: 4 problems" in said and "holds a run already; --resume" in said
    assert (
        "Data.batch_size: 8; it must be a multiple of 3" in said
        and "--midi-dir: nowhere does not exist" in said
    )
    assert "--init-from: nothing.pt: no such checkpoint file" in said


def test_typo_in_an_override_is_named(capsys):
    assert script.main(["--set", "Training.learning_rat=3e-4", "--set", "Training.steps=many"]) == 2
    said = capsys.readouterr().err
    assert (
        "unknown key Training.learning_rat; did you mean learning_rate?" in said
        and "Training.steps: 'many'" in said
    )


def test_it_stops_before_a_step_that_is_not_finite(tmp_path, corpus, monkeypatch, capsys):
    real, calls = script.training_loss, []

    def poisoned(*arguments):
        calls.append(1)
        return real(*arguments) * (math.nan if len(calls) == 6 else 1)

    monkeypatch.setattr(script, "training_loss", poisoned)
    assert script.main(arguments(tmp_path, corpus)) == 2
    said = capsys.readouterr().err
    assert "error: step 5: loss nan, gradient norm nan; learning rate 0.000" in said
    assert "batch 5 with windows of a.mid, busy.mid" in said
    saved = checkpoint(tmp_path, 4)
    assert all(torch.isfinite(weight).all() for weight in saved["vae_model"].values())
    assert lines(tmp_path)[-1]["step"] == 5  # the figures of the five that were taken


@pytest.mark.parametrize("bad", ["loss", "norm"])
def test_guard_of_a_device_skips_on_the_device_and_tells_when_asked(bad):
    """As on a GPU, where reading a number at every step would make the host wait; the CPU's optimizer skips,
    too."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    guard = FiniteGuard(optimizer, torch.device("cpu"), lambda step: f"this is {step}")
    guard.at_once = False
    for step in range(6):
        layer(torch.ones(1, 2)).sum().backward()
        loss, norm = torch.tensor(1.5), torch.tensor(0.5)
        if step >= 3:
            layer.weight.grad.fill_(math.nan)
            loss, norm = (torch.tensor(math.inf), norm) if bad == "loss" else (loss, torch.tensor(math.nan))
        guard.before_step(step, loss, norm)
        before = layer.weight.clone()
        optimizer.step()
        assert torch.equal(layer.weight, before) == (step >= 3)
        assert optimizer.state[layer.weight]["step"] == min(step + 1, 3)
        if step < 3:
            guard.check()
    with pytest.raises(
        FloatingPointError, match=rf"step 3: loss {'inf' if bad == 'loss' else '1.5'}, .*this is 3"
    ):
        guard.check()


def test_guard_sees_the_first_step():
    guard = FiniteGuard(None, torch.device("cpu"), lambda step: "the first")
    with pytest.raises(FloatingPointError, match="step 0: loss nan, gradient norm 1; the first"):
        guard.before_step(0, torch.tensor(math.nan), torch.tensor(1.0))


def test_averaged_weights_warm_up_and_are_swapped_in_for_a_while():
    model = torch.nn.Linear(1, 1, bias=False).train()
    torch.nn.init.constant_(model.weight, 0.0)
    ema, wanted = EMA(model, 0.3), 0.0
    for step in range(1, 5):
        torch.nn.init.constant_(model.weight, float(step))
        ema.update(model, step)
        decay = min(0.3, (1 + step) / (10 + step))  # below 0.3 at first
        wanted = decay * wanted + (1 - decay) * step
        assert ema.weights["weight"].item() == pytest.approx(wanted)
    with pytest.raises(KeyError), ema.swapped_in(model):
        assert model.weight.item() == pytest.approx(wanted) and not model.training
        raise KeyError
    assert model.weight.item() == 4 and model.training


def test_guard_of_a_device_needs_a_fused_optimizer():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="optimizer: not fused; on meta only a fused one skips steps"):
        FiniteGuard(torch.optim.AdamW(layer.parameters()), torch.device("meta"), str)
    FiniteGuard(torch.optim.AdamW(layer.parameters(), fused=True), torch.device("meta"), str)


@pytest.mark.parametrize(
    "capability, chosen", [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_a_gpu_that_emulates_bfloat16_gets_float32(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda", 1)) == chosen
    assert choose_precision("bfloat16", torch.device("cuda", 1)) == "bfloat16"


def test_a_cpu_gets_bfloat16_where_its_products_are_much_faster(monkeypatch):
    began = time.perf_counter()
    assert choose_precision("auto", torch.device("cpu")) in ("float32", "bfloat16")
    assert time.perf_counter() - began < 5  # a batch in emulated bfloat16 takes minutes
    for seconds, chosen in ((0.5, "bfloat16"), (0.9, "float32"), (50, "float32")):
        taken = {torch.float32: 1.0, torch.bfloat16: seconds}
        monkeypatch.setattr(optim, "_product_seconds", taken.get)
        assert choose_precision("auto", torch.device("cpu")) == chosen


@pytest.mark.usefixtures("no_samples")
def test_a_run_says_at_once_what_it_computes_in_and_soon_how_long_it_takes(
    tmp_path, corpus, monkeypatch, capsys
):
    monkeypatch.setattr(script, "compile_model", lambda model: None)
    validated = []

    def listening(model, batches, *rest, real=script.likelihood, **more):
        validated.extend(batches)
        return real(model, batches, *rest, **more)

    monkeypatch.setattr(script, "likelihood", listening)
    assert script.main(arguments(tmp_path, corpus, "Training.compile=true", steps=4)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "float32 on cpu"
    assert any(line.startswith("Training.compile: the first step, and the first with") for line in said)
    assert [bool(re.fullmatch(r"step 2: \S+ s a step; 0:\d\d:\d\d to go, .*", line)) for line in said].count(
        True
    ) == 1
    # looked up beforehand, so that a GPU is not waited for
    assert validated and all(batch.keys() >= hit_index(batch["onset"]).keys() for batch in validated)


@pytest.mark.usefixtures("no_samples")
def test_it_learns(tmp_path, corpus):
    fast = ("Training.learning_rate=1e-2", "Training.ema_decay=0.5", "Training.validate_every=40")
    assert script.main(arguments(tmp_path, corpus, *fast, steps=40, dropout=0)) == 0
    figures = [line for line in lines(tmp_path) if line["kind"] == "train"]
    assert figures[-1]["onset"] < 0.5 * figures[0]["onset"]


def test_script_runs_from_the_shell_and_shows_progress(tmp_path, corpus):
    returned, said = finish(
        start(tmp_path, arguments(tmp_path, corpus, steps=4), "script.write_samples = lambda *a: None")
    )
    assert returned == 0, said
    assert (
        said.startswith("float32 on cpu\n") and "M parameters, " in said and "4/4" in said and "loss=" in said
    )


def test_pieces_share_out_the_batch_without_overlap(tmp_path, corpus):
    cfg = load_config("config.yaml", [f"Data.corpus={corpus}", f"Data.cache_dir={tmp_path}"])
    batches = DrumBatches(preprocess(cfg), "train", cfg.Data, 12, seed=3)
    (whole,), tokens = Pieces(batches, 5)[7]
    shared = [Pieces(batches, 5, n_each=2, rank=rank, n_processes=3)[7] for rank in range(3)]
    assert all(told == tokens and len(pieces) == 2 for pieces, told in shared)
    for name in set(whole) - set(hit_index(whole["onset"])):
        together = torch.cat([piece[name] for pieces, _ in shared for piece in pieces])
        torch.testing.assert_close(together, whole[name], rtol=0, atol=0, equal_nan=True)
    assert whole["noise"].shape == (*whole["mask"][:, ::16].shape, 5) and 0.7 < whole["noise"].std() < 1.3
    assert tokens["steps"] == whole["mask"].sum()


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
    assert (
        rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and rates[110] == pytest.approx(0.1)
    )
    assert rates[60] == pytest.approx(0.55) and rates[10:] == sorted(rates[10:], reverse=True)
    vae = training.VAE_params.model_copy(update={"start_step": 100, "cycle_steps": 40, "kl_weight": 0.2})
    assert [kl_weight(step, vae) for step in (0, 99, 100, 110, 120, 139, 140)] == pytest.approx(
        [0, 0, 0, 0.1, 0.2, 0.2, 0]
    )


def test_onsets_weigh_less_in_the_second_half(tiny_config):
    training = tiny_config.Training.model_copy(update={"steps": 80, "late_onset_weight": 0.25})
    before = training.loss_weight.model_dump()
    for step, factor in ((0, 1), (40, 1), (50, 0.625), (60, 0.25), (79, 0.25)):
        changed = {name: pytest.approx(factor * before[name]) for name in ("onset", "marginal")}
        assert loss_weights(step, training) == before | changed


def test_decay_touches_matrices_only(tiny_config):
    from tests.helpers.model_batches import small_model

    model = small_model(tiny_config)
    decayed, plain = (group["params"] for group in make_optimizer(model, tiny_config.Training).param_groups)
    names = {id(p): name for name, p in model.named_parameters()}
    assert len(decayed) + len(plain) == len(names)
    assert all(p.ndim == 2 for p in decayed)
    kept = {names[id(p)] for p in plain}
    assert {
        "condition.style.weight",
        "hit_head.velocity_token.weight",
        "decoder.norm.weight",
        "decoder.start",
    } <= kept
    assert not any(name.endswith("qkv_proj.weight") for name in kept)


def test_optimizer_groups_partition_the_parameters(tiny_config):
    from tests.helpers.model_batches import small_model

    model = small_model(tiny_config)
    frozen = model.decoder.norm.weight.requires_grad_(False)
    held = [id(p) for g in make_optimizer(model, tiny_config.Training).param_groups for p in g["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()} - {id(frozen)}


def test_likelihood_is_the_models_own_loss(tiny_config):
    from tests.helpers.model_batches import random_batch, small_model

    model, batch = small_model(tiny_config), random_batch()
    figures = likelihood(model, [batch, batch], torch.device("cpu"))
    with torch.no_grad():
        sums = model(batch)
    assert figures["given"]["onset"] == pytest.approx(float(sums["onset_nats"] / sums["steps"]), rel=1e-5)
    assert figures["given"]["velocity"] == pytest.approx(
        float(sums["velocity_nats"] / sums["hits"]), rel=1e-5
    )
    assert figures["unset"]["onset"] != pytest.approx(figures["given"]["onset"], rel=1e-3)


def test_validation_waits_for_the_device_once(tiny_config, monkeypatch):
    from tests.helpers.model_batches import random_batch, small_model

    waits, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: waits.append(1) or cpu(tensor))
    likelihood(small_model(tiny_config), [random_batch(), random_batch()], torch.device("cpu"))
    assert len(waits) == 1
