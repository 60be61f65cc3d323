"""Run folders, read back: their figures and the config they were made with. No torch, so that it is quick."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from utils.config.yaml_file import read_file

METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.yaml"


@dataclass
class Run:
    """One run folder.

    folder: as it was named. config: flat, such as "Training.learning_rate": 0.001. lines: those of
    metrics.jsonl, dicts of step, kind ("train" or "validation") and the figures, null as None.
    """

    folder: str
    config: dict
    lines: list

    def curve(self, kind, figure):
        """The steps at which a figure was logged, and its values, None where it was not finite: two lists."""
        lines = [line for line in self.lines if line["kind"] == kind and figure in line]
        return [line["step"] for line in lines], [line[figure] for line in lines]

    def best(self, figure):
        """The first validation line with the lowest value of a figure; None if there is none."""
        lines = [line for line in self.lines if line["kind"] == "validation" and line.get(figure) is not None]
        return min(lines, key=lambda line: line[figure], default=None)


def read_metrics(path):
    """The lines of a metrics.jsonl as dicts. What a killed process or a full disk left of a line is skipped.

    Raises ValueError, naming the file, where it can't be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from None
    return [line for line in map(_parsed, text.splitlines()) if line is not None]


def _parsed(text):
    try:
        line = json.loads(text, parse_constant=lambda token: None)  # NaN and Infinity, which are no JSON
    except ValueError:
        return None
    whole = isinstance(line, dict) and type(line.get("step")) is int and isinstance(line.get("kind"), str)
    return line if whole else None


def read_run(folder):
    """The Run in a folder. Raises ValueError, naming the folder or file, where there is none."""
    metrics = Path(folder) / METRICS_FILE
    if not metrics.parent.is_dir():
        raise ValueError(f"{folder}: not a folder")
    if not metrics.is_file():
        raise ValueError(f"{folder}: no run, it holds no {METRICS_FILE}")
    lines = read_metrics(metrics)
    if not lines:
        raise ValueError(f"{metrics}: holds no figures yet")
    return Run(os.fspath(folder), flat(read_file(metrics.with_name(CONFIG_FILE))[0]), lines)


def read_runs(folders):
    """The Runs in these folders, each folder once, and a list of text, why others were left out. Raises
    ValueError where no run is among them."""
    runs, left_out, places = [], [], {}
    for folder in folders:
        places.setdefault(os.path.realpath(folder), folder)
    for folder in places.values():
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            left_out.append(" ".join(str(error).split()))
    if not runs:
        raise ValueError(f"no run to show: {'; '.join(left_out)}")
    return runs, left_out


def flat(values, prefix=""):
    """A nested dict as one of dotted names: {"Training": {"seed": 0}} -> {"Training.seed": 0}."""
    if not isinstance(values, dict):
        return {prefix[:-1]: values} if prefix else {}
    parts = [flat(value, f"{prefix}{key}.") for key, value in values.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


def names(runs):
    """What tells the runs' folders apart: the path of each from the folder that they all lie in."""
    places = [os.path.abspath(run.folder) for run in runs]
    common = os.path.commonpath([os.path.dirname(place) for place in places])
    return [os.path.relpath(place, common) for place in places]


def differences(runs):
    """For each run the config keys in which they differ, Training.run_dir aside; None where it lacks one."""
    keys = dict.fromkeys(key for run in runs for key in run.config if key != "Training.run_dir")
    differing = [key for key in keys if any(run.config.get(key) != runs[0].config.get(key) for run in runs)]
    return [{key: run.config.get(key) for key in differing} for run in runs]
