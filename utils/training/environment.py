"""What a run was made with: environment.json, one entry for each time that the run was started or resumed.

Beside the config it is what it takes to make the run again. It names no host, no user and no place on the machine.
"""

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

from utils.files import json_text, write_text

ENVIRONMENT_FILE = "environment.json"
PROGRAM = Path(__file__).resolve().parents[2]
DECISIVE = (
    "python",
    "commit",
    "dirty",
    "torch",
    "numpy",
    "torch_threads",
    "gpus",
    "processes",
)  # for the numbers of a run


def record_environment(run_dir, step):
    """Add what the program runs with now to run_dir/environment.json: the run was started, or resumed, at `step`.

    Returns text that says in what that differs from the session before, as far as it may change the numbers: "torch
    2.13.0 (was 2.12.1), ..."; empty where it doesn't, or where nothing is resumed. The file appears whole or not
    at all.
    """
    path = Path(run_dir) / ENVIRONMENT_FILE
    sessions = _read(path)
    sessions.append({"step": step, **environment()})
    write_text(path, json_text({"sessions": sessions}, indent=1) + "\n")
    return _changes(*sessions[-2:]) if step > 0 and len(sessions) > 1 else ""


def _read(path):
    """The sessions in the file; none where it is missing or isn't what this program writes."""
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
        return [session for session in sessions if isinstance(session, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _changes(before, now):
    before, now = ({**session, **session.get("packages", {})} for session in (before, now))
    differing = [name for name in DECISIVE if before.get(name) != now.get(name)]
    return ", ".join(
        f"{name.replace('_', ' ')} {now.get(name)} (was {before.get(name)})" for name in differing
    )


def environment():
    """What the program runs with, as a dict for JSON."""
    packages = {name: _version(name) for name in _requirements()}
    return {
        "command": [without_places(word) for word in [os.path.basename(sys.argv[0]), *sys.argv[1:]]],
        **_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages | {"torch": str(torch.__version__)},  # with its build, such as +cu128
        "torch_threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "bfloat16_on_gpu": torch.cuda.is_bf16_supported() if torch.cuda.is_available() else None,
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith("OMP_")},
    }


def _requirements():
    """The names of the packages in requirements.txt."""
    lines = (PROGRAM / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in lines)
    return [name.group() for name in names if name]


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit():
    """The commit that the program is at and whether tracked files differ from it, as far as there is a repository."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != PROGRAM:
            return {"commit": None}  # the program only lies somewhere in another repository
        return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None}


def _git(*words):
    done = subprocess.run(
        ["git", "-C", str(PROGRAM), *words], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


_PLACE = re.compile(r"""(?<![\w.:/\\-])([A-Za-z]:)?[/\\][^,;"'\]}]*""")


def without_places(word):
    """A word of a command line, of absolute paths in it only the last part: "Data.corpus=/x/y" -> "Data.corpus=.../y"."""
    return _PLACE.sub(lambda place: ".../" + re.split(r"[/\\]", place[0].rstrip("/\\"))[-1], word)
