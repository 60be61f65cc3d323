"""What a run was made with: environment.json, one entry for each time that the run was started or resumed.
With the config it is what it takes to make the run again. It names no host, no user and no path."""

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path, PureWindowsPath

import torch

from utils.files import json_text, write_text

ENVIRONMENT_FILE = "environment.json"
PROGRAM = Path(__file__).resolve().parents[2]
# what the numbers of a run depend on
DECISIVE = ("python", "commit", "dirty", "torch", "numpy", "torch_threads", "gpus", "processes")


def record_environment(run_dir, step):
    """Adds the present environment to run_dir/environment.json: the run is started, or resumed, at `step`.
    A file that is missing or isn't what this program writes is begun anew.

    Returns text that says in what it differs from the session before, as far as that may change the numbers:
    "torch 2.13.0 (was 2.12.1), ..."; empty where it doesn't differ, or where nothing is resumed.
    """
    path = Path(run_dir) / ENVIRONMENT_FILE
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
        sessions = [session for session in sessions if isinstance(session, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        sessions = []
    sessions.append({"step": step, **environment()})
    write_text(path, json_text({"sessions": sessions}, indent=1) + "\n")
    return _changes(*sessions[-2:]) if step > 0 and len(sessions) > 1 else ""


def _changes(before, now):
    before, now = ({**session, **session.get("packages", {})} for session in (before, now))
    both = {name.replace("_", " "): (now.get(name), before.get(name)) for name in DECISIVE}
    return ", ".join(f"{name} {new} (was {old})" for name, (new, old) in both.items() if new != old)


def environment():
    """What the program runs with, as a dict for JSON."""
    cuda = torch.cuda.is_available()
    return {
        "command": [without_folders(word) for word in sys.argv],
        **_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages() | {"torch": str(torch.__version__)},  # with its build, such as +cu128
        "torch_threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "cuda": torch.version.cuda if cuda else None,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "bfloat16_on_gpu": torch.cuda.is_bf16_supported() if cuda else None,
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith("OMP_")},
    }


def without_folders(word):
    """A word of a command line, of every path in it the last part: "Data.corpus=/x/y" -> "Data.corpus=y"."""
    return "=".join(PureWindowsPath(part).name for part in word.split("="))


def _packages():
    """The installed versions of the packages in requirements.txt."""
    lines = (PROGRAM / "requirements.txt").read_text(encoding="utf-8").splitlines()
    versions = {}
    for name in filter(None, (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in lines)):
        try:
            versions[name.group()] = metadata.version(name.group())
        except metadata.PackageNotFoundError:
            versions[name.group()] = None
    return versions


def _commit():
    """The commit that the program is at and whether tracked files differ from it, as far as there is one."""
    try:
        if (
            Path(_git("rev-parse", "--show-toplevel")).resolve() == PROGRAM
        ):  # not another repository around it
            return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        pass
    return {"commit": None}


def _git(*words):
    command = ["git", "-C", str(PROGRAM), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
