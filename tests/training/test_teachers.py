"""Learning from models that were trained before: what they say is what is aimed at, and a run with them is a
run."""

import pytest
import torch

import training_script_causal_decoder as script
from model.heads import hit_index
from tests.helpers.model_batches import FACTOR, random_batch, small_model
from tests.helpers.training_runs import (
    STEPS,
    arguments,
    assert_same_run,
    busy_corpus,
    checkpoint,
    lines,
    resume,
    stopped_copy,
)
from utils.checkpoints import save_checkpoint
from utils.training.teachers import Teachers

HEADS = ("onset", "marginal", "velocity", "offset")


def hit_batch(B):
    batch = random_batch(B=B, T=32)
    return batch | hit_index(batch["onset"])


@pytest.fixture
def teachers_of(tiny_config, tmp_path):
    """teachers_of(share, *seeds): Teachers, the models of the seeds, and the student's config."""

    def make(share, *seeds, **output):
        paths = []
        for seed in seeds:
            model = small_model(tiny_config, seed)
            paths.append(str(tmp_path / f"{seed}.pt"))
            save_checkpoint({"config": model.config, "vae_model": model.state_dict()}, paths[-1])
        cfg = tiny_config.model_copy(deep=True)
        cfg.Data.normalize_factor = FACTOR
        cfg.Training.teachers, cfg.Training.teachers_share = paths, share
        cfg.Model.Output = cfg.Model.Output.model_copy(update=output)
        return Teachers(cfg, torch.device("cpu"))

    return make


def test_the_targets_are_what_was_played_and_what_the_teachers_think(tiny_config, teachers_of):
    batch = hit_batch(B=2)
    said = [small_model(tiny_config, seed).logits(batch)[0] for seed in (1, 2)]
    played = small_model(tiny_config).logits(batch)[1]
    targets, halfway = (teachers_of(share, 1, 2).targets(batch) for share in (1.0, 0.5))
    for name in HEADS:
        chance = torch.sigmoid if name in ("onset", "marginal") else lambda logits: logits.softmax(-1)
        wanted = (chance(said[0][name]) + chance(said[1][name])) / 2
        torch.testing.assert_close(targets[name], wanted)
        truth = (
            played[name] if wanted.ndim == 3 else torch.nn.functional.one_hot(played[name], wanted.shape[-1])
        )
        torch.testing.assert_close(halfway[name], (wanted + truth) / 2)
        assert not targets[name].requires_grad
    noisy = batch | {"noise": torch.randn(2, 2, 8)}
    torch.testing.assert_close(teachers_of(1.0, 1, 2).targets(noisy), targets)


def test_no_share_for_the_teachers_is_the_loss_without_them(tiny_config, teachers_of):
    student, batch = small_model(tiny_config, 3), hit_batch(B=2)
    alone, told = student(batch), student(batch, teachers_of(0.0, 1).targets(batch))
    torch.testing.assert_close(told, alone)
    assert student(batch, teachers_of(1.0, 1).targets(batch))["onset_nats"] != alone["onset_nats"]
    assert teachers_of(1.0).targets(batch) is None


def test_a_student_comes_nearer_to_its_teacher_than_the_truth_would_lead_it(tiny_config, teachers_of):
    batch = hit_batch(B=4)
    targets = teachers_of(1.0, 1).targets(batch)
    distances = []
    for aim in (targets, None):
        student = small_model(tiny_config, 3).train()
        optimizer = torch.optim.Adam(student.parameters(), 3e-3)
        for _ in range(30):
            optimizer.zero_grad()
            sum(nats for name, nats in student(batch, aim).items() if name.endswith("_nats")).backward()
            optimizer.step()
        logits = student.logits(batch)[0]
        distances.append(
            [(logits[name].sigmoid() - targets[name]).abs().mean() for name in ("onset", "marginal")]
        )
        distances[-1] += [
            (logits[name].softmax(-1) - targets[name]).abs().mean() for name in ("velocity", "offset")
        ]
    assert all(taught < untaught for taught, untaught in zip(*distances))


def test_a_teacher_of_other_tokens_is_refused(teachers_of):
    with pytest.raises(
        ValueError, match=r"Training.teachers: .*1.pt has Model.Output.offset_bins 32; it must be .* 16"
    ):
        teachers_of(0.5, 1, offset_bins=16)


def test_a_run_with_a_teacher_learns_something_else_and_can_be_stopped(tmp_path, capsys, no_samples):
    corpus = busy_corpus(tmp_path / "corpus")
    teacher, student, stopped = (tmp_path / name for name in ("teacher", "student", "stopped"))
    assert script.main(arguments(teacher, corpus)) == 0
    taught = f"Training.teachers=[{teacher / 'run' / 'drummer.pt'}]"
    assert script.main(arguments(student, corpus, taught)) == 0
    assert lines(student)[0]["loss"] != lines(teacher)[0]["loss"]
    resume(stopped_copy(student, stopped))
    assert_same_run(stopped, student)
    assert checkpoint(student, STEPS)["config"]["Training"]["teachers"]

    capsys.readouterr()
    assert script.main(arguments(tmp_path / "none", corpus, "Training.teachers=[nobody.pt]")) == 2
    assert "Training.teachers: nobody.pt: no such checkpoint file" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
