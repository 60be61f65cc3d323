"""What the README says can be done, can be done."""

import glob
import re
import shlex
import subprocess
import sys

import pytest
import torch

from tests.conftest import REPOSITORY, TINY
from tests.helpers.midi_files import beat, midi_bytes, small_corpus

README = (REPOSITORY / "README.md").read_text()
LINES = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]


def rounds(line):
    """The commands that a line stands for: one, or those of a shell loop."""
    loop = re.fullmatch(r"for (\w+) in (.*?); do (.*); done", line)
    return [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()] if loop else [line]


COMMANDS = [command for line in LINES for command in rounds(line)]
QUICK = [
    *TINY,
    "Training.steps=2",
    "Training.warmup_steps=1",
    "Training.minimum_learning_rate=0",
    "Training.sample_every=2",
    "Data.batch_size=2",
    "Training.precision=float32",
]


def quick(command, folder):
    """The words of a README command, made small: a tiny model, a tiny corpus, everything under `folder`."""
    words = shlex.split(command)
    if words[0] == "make":
        return ["make", "--dry-run", *words[1:]]
    if words[0] == "export":
        return ["bash", "-c", command]
    launcher, words = words[0], [word.replace("runs/", f"{folder}/runs/") for word in words[1:]]
    start = [sys.executable]
    if launcher == "torchrun":  # two processes on this machine alone
        first = words.index("training_script_causal_decoder.py")
        small = {"first-machine:29500": "localhost:0"}
        start += ["-m", "torch.distributed.run", *(small.get(word, word) for word in words[:first])]
        for flag, value in (("--nnodes", "1"), ("--nproc-per-node", "2")):
            if flag in start:
                start[start.index(flag) + 1] = value
        words = words[first:]
    script, words = words[0], [*start, *words]
    if script == "benchmarks/streaming.py":
        return [*words[:-1], "2"]
    if script == "benchmarks/training.py":
        sets = [*TINY, "Data.batch_size=2", f"Data.corpus={folder}/my_drums"]
        return [*words, "--steps", "1", *(word for item in sets for word in ("--set", item))]
    if "--runs" in words:
        folders = sorted(glob.glob(words.pop()))
        return [*words, *folders, "--curves", f"{folder}/curves.png", "--json", f"{folder}/runs.json"]
    if script == "inference_bar_control.py":
        return [
            *(word.replace("output/", f"{folder}/output/") for word in words),
            "--out",
            f"{folder}/output",
        ]
    if script == "evaluate.py":
        return [
            *words,
            "--windows",
            "3",
            "--samples",
            "2",
            "--json",
            f"{folder}/figures.json",
            "--set",
            f"Data.cache_dir={folder}/groove",
        ]
    sets = [f"Data.corpus={folder}/my_drums", f"Data.cache_dir={folder}/cache"]
    if script == "training_script_causal_decoder.py" and "--resume" in words:
        sets = ["Training.steps=3"]
    elif script == "training_script_causal_decoder.py" and "--config" not in words:
        small = [item for item in QUICK if not item.startswith("Model")] if "--init-from" in words else QUICK
        run = [f"Training.run_dir={folder}/runs/default"] if "run_dir" not in command else []
        sets += [*small, *run]
    words = [word.replace("my_drums", f"{folder}/my_drums") if word == "my_drums" else word for word in words]
    return words + [word for item in sets for word in ("--set", item)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my_drums").mkdir()
    small_corpus(folder / "my_drums", more=midi_bytes(beat(bars=4, velocity=80)))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command, folder, request):
    if "evaluate.py" in command:
        request.getfixturevalue("groove_zip")
    words = quick(command, folder)
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_python_examples_run(tmp_path):
    first, *more = re.findall(r"```python\n(.*?)```", README, re.S)
    scope = {}
    exec(first.replace("output/from_python.mid", str(tmp_path / "drums.mid")), scope)
    assert (tmp_path / "drums.mid").is_file() and len(scope["notes"]) == scope["onset"].sum()
    assert isinstance(scope["model"], torch.nn.Module)
    for example in more:
        exec(example.replace("output/", f"{tmp_path}/"), scope)
    assert scope["number"] == 3 and scope["onset"].shape == (1, 16, 9)


def test_files_that_it_names_are_there(repository):
    named = re.findall(r"`((?:examples|checkpoints|benchmarks|docs)/[\w./]+)`", README)
    assert len(named) > 4 and all((repository / name).exists() for name in named)
