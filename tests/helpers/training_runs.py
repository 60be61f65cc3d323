"""Short runs of the training script that its tests share."""

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback

import torch

import training_script_causal_decoder as script
from tests.conftest import REPOSITORY, TINY
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus
from utils.checkpoints import load_checkpoint
from utils.training.run_log import CLOCKS

SHORT = [
    "Training.warmup_steps=2",
    "Training.validate_every=4",
    "Training.checkpoint_every=4",
    "Training.log_every=1",
    "Training.sample_every=1000",
    "Training.precision=float32",
    "Training.device=cpu",  # forked processes can't use CUDA, and resumed runs are compared to the bit
    "Training.VAE_params.start_step=2",
    "Training.VAE_params.cycle_steps=4",
    "Training.VAE_params.kl_weight=0.1",
    "Training.plain_steps=3",
    "Data.batch_size=8",
    "Data.preprocess_workers=1",
]
STEPS = 8
STATE = ("vae_model", "ema", "vae_optimizer", "scheduler", "step", "best", "figures")


def busy_corpus(folder):
    """A few short files, one of them of six bars."""
    busy = beat(bars=6)
    for tick in range(0, 6 * 1920, 240):
        busy += note(tick, 51, 40 + tick % 50, 60)
    return small_corpus(folder, busy=midi_bytes(busy))


def arguments(folder, corpus, *sets, steps=STEPS, dropout=0.1):
    """Command-line arguments of a short run in folder/run; `sets` are further KEY=VALUE."""
    sets = [
        *TINY,
        *SHORT,
        f"Model.Decoder.dropout={dropout}",
        f"Model.Encoder.dropout={dropout}",
        f"Training.steps={steps}",
        f"Training.run_dir={folder / 'run'}",
        f"Data.cache_dir={folder / 'cache'}",
        f"Data.corpus={corpus}",
        *sets,
    ]
    return ["--config", str(REPOSITORY / "config.yaml"), *(word for pair in sets for word in ("--set", pair))]


def path_of(folder, step):
    return folder / "run" / "checkpoints" / f"step_{step:08d}.pt"


def checkpoint(folder, step):
    return load_checkpoint(path_of(folder, step))


def stopped_copy(run, folder, step=STEPS // 2):
    """A copy of a run of STEPS steps in `folder`, as if it had been killed some steps after `step`."""
    shutil.copytree(run / "run", folder / "run")
    path_of(folder, STEPS).unlink()
    best = folder / "run" / "checkpoints" / "best.pt"
    if load_checkpoint(best)["step"] > step:
        shutil.copy(path_of(folder, step), best)  # which was the best so far
    return folder


def resume(folder, *sets):
    words = [word for pair in sets for word in ("--set", pair)]
    assert script.main(["--resume", str(folder / "run"), *words]) == 0


def lines(folder):
    """metrics.jsonl without what a clock says."""
    read = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in read]


# ---- processes


def fork(folder, work):
    """A process that is a copy of this one runs work(), which gives its exit code, in `folder` and in a
    session of its own; what it says goes to folder/said. Returns its id."""
    folder.mkdir(exist_ok=True)
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        os.chdir(folder)
        with open("said", "w") as said:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        os._exit(work())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)  # never back into pytest


def end_of(child, folder):
    """(exit code, below 0 for a signal; what it said) of a forked process."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), (folder / "said").read_text()


def start(folder, words, patch="", command=()):
    """The training script as a new process, after the lines of Python `patch`, which may change `script`;
    command: what Python runs it through, such as torchrun."""
    code = (
        f"import os, signal, sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        f"import training_script_causal_decoder as script\n{patch}\nsys.exit(script.main(sys.argv[1:]))\n"
    )
    path = folder / "patched.py"
    path.write_text(code)
    return subprocess.Popen(
        [sys.executable, *command, str(path), *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process, timeout=120):
    """(exit code, everything it said) of a process; what is left of its group after the time is killed."""
    try:
        said, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


# ---- comparisons


def assert_same(a, b, path=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def assert_same_run(folder, other, steps=STEPS):
    """Both ended in the same state, to the bit, and logged the same figures, all of them."""
    for name in (f"step_{steps:08d}.pt", "best.pt"):
        ours, theirs = (load_checkpoint(place / "run" / "checkpoints" / name) for place in (folder, other))
        for key in STATE:
            assert_same(ours[key], theirs[key], f"{name}: {key}")
    assert lines(folder) == lines(other)
