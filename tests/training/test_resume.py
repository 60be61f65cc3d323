"""A run that is stopped, killed or asked to stop, at any moment, ends as one that was not, to the bit."""

import os
import signal
import time
from pathlib import Path

import pytest

import training_script_causal_decoder as script
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus
from tests.helpers.training_runs import (
    arguments,
    assert_same_run,
    busy_corpus,
    checkpoint,
    finish,
    forget,
    lines,
    start,
)
from utils.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return busy_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, corpus):
    """Twenty steps in one go."""
    folder = tmp_path_factory.mktemp("whole")
    assert script.main(arguments(folder, corpus)) == 0
    return folder


def resume(folder):
    assert script.main(["--resume", str(folder / "run")]) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_ten_steps_and_ten_more_equal_twenty(tmp_path, corpus, whole_run, workers):
    assert script.main(arguments(tmp_path, corpus, f"Data.loader_workers={workers}")) == 0
    assert_same_run(tmp_path, whole_run)
    forget(tmp_path, 20)
    resume(tmp_path)
    assert_same_run(tmp_path, whole_run)


def test_resuming_takes_what_it_says_from_the_checkpoint(tmp_path, corpus, whole_run):
    """The comparison of two runs would see a difference: another seed is another run."""
    assert script.main(arguments(tmp_path, corpus, "Training.seed=1")) == 0
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path, whole_run)


def test_resumed_run_knows_its_best(tmp_path, corpus):
    assert script.main(arguments(tmp_path, corpus, steps=10)) == 0
    path = tmp_path / "run" / "checkpoints" / "step_00000010.pt"
    save_checkpoint(load_checkpoint(path) | {"best": -1.0}, path)
    assert script.main(["--resume", str(tmp_path / "run"), "--set", "Training.steps=20"]) == 0
    assert checkpoint(tmp_path, 20)["best"] == -1
    assert load_checkpoint(path.with_name("best.pt"))["step"] == 10


KILLS = {
    "in the middle of writing a checkpoint": """
import utils.checkpoints
def half(checkpoint, file, real=utils.checkpoints.torch.save):
    real(checkpoint, file)
    if checkpoint["step"] == 20:
        file.truncate(file.tell() // 2); file.flush(); os.kill(os.getpid(), signal.SIGKILL)
utils.checkpoints.torch.save = half""",
    "between the best checkpoint and the last": """
def none(*a, real=script.prune_checkpoints):
    real(*a); script.checkpoint_path = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
script.prune_checkpoints = none""",
    "in the middle of a step": """
def update(self, model, step, real=script.EMA.update):
    os.kill(os.getpid(), signal.SIGKILL) if step == 13 else real(self, model, step)
script.EMA.update = update""",
    "in the middle of a line of figures": """
def write(self, step, figures, kind, real=script.RunLog.write):
    real(self, step, figures, kind)
    if step == 17:
        self.file.write('{"step": 18, "lo'); self.file.flush(); os.kill(os.getpid(), signal.SIGKILL)
script.RunLog.write = write""",
}


@pytest.mark.parametrize("moment", KILLS)
def test_killed_run_goes_on_from_the_last_whole_checkpoint(tmp_path, corpus, whole_run, moment):
    returned, said = finish(start(tmp_path, arguments(tmp_path, corpus), KILLS[moment]))
    assert returned == -signal.SIGKILL, said
    assert checkpoint(tmp_path, 10)["step"] == 10
    assert not (tmp_path / "run" / "checkpoints" / "step_00000020.pt").exists()
    resume(tmp_path)
    assert_same_run(tmp_path, whole_run)
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {
        "best.pt",
        "step_00000010.pt",
        "step_00000020.pt",
    }


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, corpus, whole_run):
    assert script.main(arguments(tmp_path, corpus)) == 0
    path = tmp_path / "run" / "checkpoints" / "step_00000020.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="step_00000020.pt: truncated.*the checkpoint before it is taken"):
        resume(tmp_path)
    assert_same_run(tmp_path, whole_run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_the_step_and_saves(tmp_path, corpus, whole_run, number):
    """The signal goes to all processes of the run, as from a terminal: the one that makes batches is needed on."""
    slow = "import time\nscript.kl_weight = lambda *a, real=script.kl_weight: time.sleep(0.1) or real(*a)"
    run = start(tmp_path, arguments(tmp_path, corpus, "Data.loader_workers=1"), slow)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    os.killpg(run.pid, number)
    returned, said = finish(run)
    assert returned == 0, said
    step = lines(tmp_path)[-1]["step"]
    assert (
        3 <= step < 20
        and f"stopped at step {step} of 20, all saved; --resume {tmp_path / 'run'} goes on" in said
    )
    assert checkpoint(tmp_path, step)["step"] == step and "Traceback" not in said
    resume(tmp_path)
    assert_same_run(tmp_path, whole_run)


def test_ctrl_c_before_the_first_step_is_one_line(tmp_path, corpus, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt("3 of 9 files are read")

    monkeypatch.setattr(script, "preprocess", interrupted)
    assert script.main(arguments(tmp_path, corpus)) == 130
    assert capsys.readouterr().err == "stopped before the first step; 3 of 9 files are read\n"


def test_a_run_can_be_run_again_from_its_own_folder(tmp_path, corpus, whole_run):
    config = ["--config", str(whole_run / "run" / "config.yaml")]
    elsewhere = [f"Training.run_dir={tmp_path / 'run'}", f"Data.cache_dir={tmp_path / 'cache'}"]
    assert script.main(config + [word for pair in elsewhere for word in ("--set", pair)]) == 0
    assert_same_run(tmp_path, whole_run)


def test_another_corpus_under_a_run_is_refused(tmp_path, corpus, whole_run, capsys):
    other = small_corpus(tmp_path / "other", more=midi_bytes(beat(bars=3) + note(0, 51, 99, 60)))
    words = [
        "--config",
        str(whole_run / "run" / "config.yaml"),
        "--set",
        f"Training.run_dir={tmp_path / 'run'}",
        "--set",
        f"Data.cache_dir={tmp_path / 'cache'}",
        "--midi-dir",
        str(other),
    ]
    assert script.main(words) == 2
    assert "Data.normalize_factor: the config has" in capsys.readouterr().err
    assert script.main([*words, "--set", "Data.normalize_factor=null", "--set", "Training.steps=1"]) == 0
    assert f"corpus: {other}" in Path(tmp_path / "run" / "config.yaml").read_text()
