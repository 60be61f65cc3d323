"""What the README and the pages on playing and training say can be done, can be done.

The commands of evaluate.py and inference_bar_control.py that come first run in processes of their own; all
others run in this one, as tests of their own start the other scripts.
"""

import glob
import importlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from torch.distributed.run import config_from_args, parse_args

from tests.conftest import REPOSITORY, TINY
from tests.helpers.midi_files import beat, midi_bytes, small_corpus
from utils.training.launch import run_config

PAGES = {
    name: (REPOSITORY / name).read_text() for name in ("README.md", "docs/playing.md", "docs/training.md")
}
README = PAGES["README.md"]
LINES = [
    line
    for page in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", page, re.S)
    for line in block.splitlines()
]


def rounds(line):
    """The commands that a line stands for: one, or those of a shell loop."""
    loop = re.fullmatch(r"for (\w+) in (.*?); do (.*); done", line)
    return [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()] if loop else [line]


COMMANDS = list(dict.fromkeys(command for line in LINES for command in rounds(line)))
OWN_PROCESS = "evaluate.py", "inference_bar_control.py"
QUICK = [
    *TINY,
    "Training.steps=2",
    "Training.warmup_steps=1",
    "Training.minimum_learning_rate=0",
    "Training.sample_every=2",
    "Data.batch_size=2",
    "Training.precision=float32",
]


def setting(*overrides):
    return [word for item in overrides for word in ("--set", item)]


def small(script, words, folder):
    """The words after a script's name, made small: a tiny model, a tiny corpus, everything under `folder`."""
    words = [re.sub(r"(^|=)(?=runs/|output/|my_drums)", rf"\g<1>{folder}/", word) for word in words]
    tiny_corpus = f"Data.corpus={folder}/my_drums"
    if script == "inference_bar_control.py":
        return [*words, "--out", f"{folder}/output"]
    if script == "benchmarks/streaming.py":
        return [*words, "--bars", "2"]
    if script == "benchmarks/training.py":
        return [*words, "--steps", "1", *setting(*TINY, "Data.batch_size=2", tiny_corpus)]
    if "--runs" in words:
        runs = sorted(glob.glob(words.pop()))
        return [*words, *runs, "--curves", f"{folder}/curves.png", "--json", f"{folder}/runs.json"]
    if script == "evaluate.py":
        few = ["--windows", "3", "--samples", "2", "--json", f"{folder}/figures.json"]
        few += [] if "--parts" in words else ["--parts", "likelihood"]
        return [*words, *few]
    if "--resume" in words:
        return [*words, *setting("Training.steps=3")]
    words += setting(tiny_corpus, f"Data.cache_dir={folder}/cache")
    if script == "training_script_causal_decoder.py" and "--config" not in words:
        words += setting(*(item for item in QUICK if "--init-from" not in words or item[:5] != "Model"))
        words += [] if "run_dir" in " ".join(words) else setting(f"Training.run_dir={folder}/runs/default")
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my_drums").mkdir()
    small_corpus(folder / "my_drums", more=midi_bytes(beat(bars=4, velocity=80)))
    return folder


def run_process(*words):
    """What it says on stderr."""
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{shlex.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stderr


def run_here(script, words, monkeypatch):
    """The script as if it were started with these words, without the seconds that a new process imports."""
    monkeypatch.setattr(sys, "argv", [script, *words])
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code


def run_benchmark(words, monkeypatch):
    benchmark = importlib.import_module("benchmarks.training")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # which the benchmark sets; so that it is set back
    for name, value in {"SQUARE": {"cpu": 64}, "LOADER_BATCHES": 2, "LOADER_RUNS": 2}.items():
        monkeypatch.setattr(benchmark, name, value)
    benchmark.main([*words, "--device", "cpu"])


def check_torchrun(launcher_words, script, words):
    """torchrun reads its flags, the script its own; tests/training/test_distributed.py runs them together."""
    config, _, (*_, started) = config_from_args(parse_args([*launcher_words, script]))
    assert config.max_nodes * config.nproc_per_node > 1 and started == script
    run_config(REPOSITORY / "config.yaml", words[1::2])
    assert set(words[::2]) <= {"--set"}


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_command_runs(number, folder, request, monkeypatch):
    launcher, *words = shlex.split(COMMANDS[number])
    if launcher == "make":
        return run_process("make", "--dry-run", *words)
    if launcher == "export":
        return run_process("bash", "-c", COMMANDS[number])
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    script, after = words[place], small(words[place], words[place + 1 :], folder)
    if launcher == "torchrun":
        return check_torchrun(words[:place], script, after)
    if script == "evaluate.py" and "--runs" not in words:
        request.getfixturevalue("groove_zip")
        after += setting(f"Data.cache_dir={request.getfixturevalue('groove_cache')}")
        monkeypatch.delenv("RHYTHMS_ZIP", raising=False)  # the part of it has a test of its own
    monkeypatch.chdir(REPOSITORY)
    if script == "benchmarks/training.py":
        run_benchmark(after, monkeypatch)
    elif script in OWN_PROCESS and not any(f"python {script}" in command for command in COMMANDS[:number]):
        said = run_process(sys.executable, "-X", "importtime", script, *after)
        if script == "inference_bar_control.py":  # to import torch's compiler takes more than a second
            assert "torch._dynamo" not in said
    else:
        # half a second each; that of the first command is drawn, and the song's
        pictures = script != "inference_bar_control.py" or "--song" in after
        run_here(script, after if pictures else [*after, "--no-plot"], monkeypatch)


@pytest.mark.parametrize("page", ["README.md", "docs/playing.md"])
def test_python_examples_run(page, tmp_path):
    scope = {}
    for example in re.findall(r"```python\n(.*?)```", PAGES[page], re.S):
        exec(example.replace("output/", f"{tmp_path}/"), scope)
    assert (tmp_path / "take.mid").is_file()
    if page == "README.md":
        assert (tmp_path / "from_python.mid").is_file() and len(scope["notes"]) == scope["onset"].sum()
    else:
        assert scope["number"] == 3 and scope["onset"].shape == (1, 16, 9)


@pytest.mark.parametrize("page, least", [("README.md", 5), ("docs/playing.md", 3), ("docs/training.md", 2)])
def test_files_that_a_page_names_are_there(page, least, repository):
    named = re.findall(r"(?<![\w/])((?:examples|checkpoints|benchmarks|docs|utils)/[\w./]+\w)", PAGES[page])
    assert len(named) >= least
    missing = [name for name in named if not (repository / name).exists()]
    assert not missing


def test_the_readme_is_one_screen_and_a_little():
    assert len(README.splitlines()) < 150


def test_the_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^\]]+\]\((.+?)\)", README)
    assert len(pictures) == 3
    assert all((REPOSITORY / picture).stat().st_size < 150_000 for picture in pictures)
