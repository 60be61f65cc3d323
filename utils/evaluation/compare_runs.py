"""Many runs in a short table, the best first, and their curves in a picture; at once, as without torch."""

import json
import math
from statistics import median

import matplotlib

from utils.canvas import GRID, INK, bare, new_figure, save
from utils.evaluation.tables import aligned
from utils.training.runs import differences, names

SCORE = "score"
MOST_KEYS = 8  # of the config in the table; runs that differ in more are no sweep
PANELS = ("onset", "velocity", "offset", SCORE, "kl_per_bar", "gradient_norm")  # TensorBoard has the others
LINES = {"train {}": "-", "validation {}": "-o", "validation {}_given": "-o", "validation {}_unset": "--x"}


def summary(runs, sort=SCORE):
    """The runs as dicts for JSON, those with the lowest validation figure `sort` first, those without last.

    best_step: where `sort` was lowest; figures: all validation figures there; samples_per_second: the median;
    config: the keys in which the runs differ. None where a run does not have it. Raises ValueError for a
    figure that no run has.
    """
    lines = [line for run in runs for line in run.lines if line["kind"] == "validation"]
    known = dict.fromkeys(name for line in lines for name in line if name not in ("step", "kind"))
    if known and sort not in known:
        raise ValueError(f"--sort: {sort}; the runs have {', '.join(known)}")
    rows = []
    for run, name, config in zip(runs, names(runs), differences(runs)):
        best = run.best(sort) or {}
        speeds = [speed for speed in run.curve("train", "samples_per_second")[1] if speed is not None]
        rows.append(
            {
                "run": name,
                "folder": run.folder,
                "best_step": best.get("step"),
                "figures": {name: best[name] for name in known if name in best},
                "steps_done": max(line["step"] for line in run.lines),
                "steps_planned": run.config.get("Training.steps"),
                "samples_per_second": median(speeds) if speeds else None,
                "config": config,
            }
        )
    return sorted(rows, key=lambda row: (sort not in row["figures"], row["figures"].get(sort)))


def table(rows, sort=SCORE):
    """The rows of `summary` as text, one line for each, with the config keys in which they differ where they
    are few; nats with true controls / unset."""
    scores, keys, note = list(dict.fromkeys((sort, SCORE))), list(rows[0]["config"]), ""
    if len(keys) > MOST_KEYS:
        few = ", ".join(keys[:MOST_KEYS])
        keys, note = [], f"\nthe configs differ in {len(keys)} keys, too many to show: {few}, ..."
    lines = [["run", *scores, "best at", "steps", "onset", "velocity", "offset", "samples/s", *keys]]
    for row in rows:
        figures, cells = row["figures"], [row["run"]]
        cells += [_text(figures.get(name), 3) for name in scores]
        cells += [_text(row["best_step"]), f"{row['steps_done']}/{_text(row['steps_planned'])}"]
        for head, digits in (("onset", 3), ("velocity", 2), ("offset", 2)):
            nats = (figures.get(f"{head}_{setting}") for setting in ("given", "unset"))
            cells.append("/".join(_text(value, digits) for value in nats))
        cells += [_text(row["samples_per_second"], 0), *(_text(row["config"][key]) for key in keys)]
        lines.append(cells)
    return aligned(lines) + note


def _text(value, digits=None):
    """A number with so many digits, or a value of the config as --set takes it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if digits is None else f"{value:.{digits}f}"
    return value if isinstance(value, str) else json.dumps(value)


def draw_curves(path, runs):
    """Write a PNG of the curves of Runs, a colour for each. Raises ValueError where it can't be written."""
    figure = new_figure(14, 7)
    axes = figure.subplots(2, 3, sharex=True)
    figure.set_layout_engine("constrained")
    colours = matplotlib.colormaps["tab10" if len(runs) <= 10 else "turbo"].resampled(max(10, len(runs)))
    for axis, panel in zip(axes.flat, PANELS):
        for index, (run, name) in enumerate(zip(runs, names(runs))):
            for line, style in LINES.items():
                steps, values = run.curve(*line.format(panel).split())
                values = [math.nan if value is None else value for value in values]
                axis.plot(steps, values, style, color=colours(index), markersize=3, linewidth=1.2, label=name)
        axis.set_title(panel, loc="left", fontsize=10, color=INK)
        axis.grid(color=GRID, linewidth=0.7)
        bare(axis)
    handles = axes.flat[0].lines[:: len(LINES)]
    title = "train -, validation with true controls o, unset x"
    figure.legend(handles=handles, title=title, loc="outside lower left", ncols=6, frameon=False, fontsize=9)
    save(figure, path)
