"""A run that is stopped, killed or asked to stop, at any moment, ends as one that was not, to the bit."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

import training_script_causal_decoder as script
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus
from tests.helpers.training_runs import (
    STEPS,
    arguments,
    assert_same_run,
    busy_corpus,
    checkpoint,
    end_of,
    fork,
    lines,
    path_of,
    resume,
    stopped_copy,
)
from utils.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("plain_runs")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
HALF = STEPS // 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return busy_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, corpus, plain_runs):
    """All steps in one go."""
    folder = tmp_path_factory.mktemp("whole")
    assert script.main(arguments(folder, corpus)) == 0
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_half_the_steps_and_the_other_half_equal_all(tmp_path, whole_run, workers):
    resume(stopped_copy(whole_run, tmp_path), f"Data.loader_workers={workers}")
    assert_same_run(tmp_path, whole_run)


def test_another_seed_is_another_run(tmp_path, corpus, whole_run):
    """The comparison of two runs sees a difference."""
    assert script.main(arguments(tmp_path, corpus, "Training.seed=1")) == 0
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path, whole_run)


def test_resumed_run_knows_its_best(tmp_path, whole_run):
    path = path_of(stopped_copy(whole_run, tmp_path), HALF)
    save_checkpoint(load_checkpoint(path) | {"best": -1.0}, path)
    resume(tmp_path)
    assert checkpoint(tmp_path, STEPS)["best"] == -1
    assert load_checkpoint(path.with_name("best.pt"))["step"] == HALF


# ---- killed. Each changes the script, in a process of its own, so that it kills itself.


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_middle_of_writing_a_checkpoint():
    def half(checkpoint, path, real=torch.save):
        real(checkpoint, path)
        if checkpoint["step"] == STEPS:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    torch.save = half


def between_the_best_checkpoint_and_the_last():
    def none(*arguments, real=script.prune_checkpoints):
        real(*arguments)
        script.checkpoint_path = die

    script.prune_checkpoints = none


def in_the_middle_of_a_step():
    def update(self, model, step, real=script.EMA.update):
        die() if step == HALF + 1 else real(self, model, step)

    script.EMA.update = update


def in_the_middle_of_a_line_of_figures():
    def write(self, step, figures, kind, real=script.RunLog.write):
        real(self, step, figures, kind)
        if step == HALF + 3:
            self.file.write('{"step": 8, "lo')
            self.file.flush()
            die()

    script.RunLog.write = write


@needs_fork
@pytest.mark.parametrize(
    "kill",
    [
        in_the_middle_of_writing_a_checkpoint,
        between_the_best_checkpoint_and_the_last,
        in_the_middle_of_a_step,
        in_the_middle_of_a_line_of_figures,
    ],
)
def test_killed_run_goes_on_from_the_last_whole_checkpoint(tmp_path, corpus, whole_run, kill):
    returned, said = end_of(
        fork(tmp_path, lambda: kill() or script.main(arguments(tmp_path, corpus))), tmp_path
    )
    assert returned == -signal.SIGKILL, said
    assert checkpoint(tmp_path, HALF)["step"] == HALF and not path_of(tmp_path, STEPS).exists()
    resume(tmp_path)
    assert_same_run(tmp_path, whole_run)
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"best.pt", path_of(tmp_path, HALF).name, path_of(tmp_path, STEPS).name}


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, whole_run):
    stopped_copy(whole_run, tmp_path)
    path_of(tmp_path, STEPS).write_bytes(path_of(whole_run, STEPS).read_bytes()[:1000])
    with pytest.warns(UserWarning, match=f"{STEPS}.pt: truncated.*the checkpoint before it is taken"):
        resume(tmp_path)
    assert_same_run(tmp_path, whole_run)


@needs_fork
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_the_step_and_saves(tmp_path, corpus, whole_run, number):
    """The signal goes to all processes of the run, as from a terminal: the one that makes batches is still
    needed."""

    def slow():
        script.kl_weight = lambda *a, real=script.kl_weight: time.sleep(0.2) or real(*a)
        return script.main(arguments(tmp_path, corpus, "Data.loader_workers=1"))

    run, metrics = fork(tmp_path, slow), tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert os.waitpid(run, os.WNOHANG) == (0, 0), (tmp_path / "said").read_text()
        time.sleep(0.01)
    os.killpg(run, number)
    returned, said = end_of(run, tmp_path)
    assert returned == 0, said
    step = lines(tmp_path)[-1]["step"]
    assert 2 <= step < STEPS and "Traceback" not in said
    assert f"stopped at step {step} of {STEPS}, all saved; --resume {tmp_path / 'run'} goes on" in said
    assert checkpoint(tmp_path, step)["step"] == step
    resume(tmp_path)
    assert_same_run(tmp_path, whole_run)


def test_ctrl_c_before_the_first_step_is_one_line(tmp_path, corpus, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "preprocess", interrupted)
    assert script.main(arguments(tmp_path, corpus)) == 130
    assert capsys.readouterr().err == "stopped before the first step; nothing was trained\n"


def test_a_run_can_be_run_again_from_its_own_folder(tmp_path, whole_run):
    config = ["--config", str(whole_run / "run" / "config.yaml")]
    elsewhere = [f"Training.run_dir={tmp_path / 'run'}", f"Data.cache_dir={tmp_path / 'cache'}"]
    assert script.main(config + [word for pair in elsewhere for word in ("--set", pair)]) == 0
    assert_same_run(tmp_path, whole_run)


def test_another_corpus_under_a_run_is_refused(tmp_path, whole_run, capsys):
    other = small_corpus(tmp_path / "other", more=midi_bytes(beat(bars=3) + note(0, 51, 99, 60)))
    sets = (f"Training.run_dir={tmp_path / 'run'}", f"Data.cache_dir={tmp_path / 'cache'}")
    words = ["--config", str(whole_run / "run" / "config.yaml"), "--midi-dir", str(other)]
    words += [word for pair in sets for word in ("--set", pair)]
    assert script.main(words) == 2
    assert "Data.normalize_factor: the config has" in capsys.readouterr().err
    assert script.main([*words, "--set", "Data.normalize_factor=null", "--set", "Training.steps=1"]) == 0
    assert f"corpus: {other}" in Path(tmp_path / "run" / "config.yaml").read_text()
