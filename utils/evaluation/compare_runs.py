"""Many runs in one short table, the best first, and their curves in one picture. No torch, so that it comes at once."""

import json
import math
from statistics import median

import matplotlib

from utils.canvas import GRID, INK, bare, new_figure, save
from utils.training.runs import differences, names

SCORE = "score"
MOST_KEYS = 8  # of the config in the table; runs that differ in more are no sweep
# panels of the picture: title, logarithmic, and the curves: kind of line, figure, style. TensorBoard has the others.
PANELS = [
    *(
        (
            f"{head}, nats: train, validation with true controls (o), unset (x)",
            head == "onset",
            [
                ("train", head, "-"),
                ("validation", f"{head}_given", "-o"),
                ("validation", f"{head}_unset", "--x"),
            ],
        )
        for head in ("onset", "velocity", "offset")
    ),
    ("validation score, nats per step", False, [("validation", SCORE, "-o")]),
    ("KL per bar, nats", True, [("train", "kl_per_bar", "-")]),
    ("gradient norm", True, [("train", "gradient_norm", "-")]),
]


def summary(runs, sort=SCORE):
    """The runs as dicts for JSON, those with the lowest validation figure `sort` first, those without any last.

    run: name; folder; best_step: where `sort` was lowest; figures: all validation figures there; steps_done;
    steps_planned; samples_per_second: the median; config: the keys in which the runs differ. None where a run
    does not have it. Raises ValueError for a figure that no run has.
    """
    known = dict.fromkeys(figure for run in runs for line in run.lines for figure in _figures(line))
    if known and sort not in known:
        raise ValueError(f"--sort: {sort}; the runs have {', '.join(known)}")
    rows = []
    for run, name, config in zip(runs, names(runs), differences(runs)):
        best = run.best(sort) or {"kind": "validation"}
        speeds = [speed for speed in run.curve("train", "samples_per_second")[1] if speed is not None]
        row = {"run": name, "folder": run.folder, "best_step": best.get("step"), "figures": _figures(best)}
        row |= {"steps_done": run.steps_done, "steps_planned": run.steps_planned}
        row |= {"samples_per_second": median(speeds) if speeds else None, "config": config}
        rows.append(row)
    return sorted(rows, key=lambda row: (sort not in row["figures"], row["figures"].get(sort)))


def _figures(line):
    """Those of a validation line."""
    if line["kind"] != "validation":
        return {}
    return {name: value for name, value in line.items() if name not in ("step", "kind")}


def table(rows, sort=SCORE):
    """The rows of `summary` as text, one line for each, with the config keys in which they differ where they are few.
    Nats stand with true controls / unset."""
    keys = list(rows[0]["config"])
    shown = keys if len(keys) <= MOST_KEYS else []
    lines = [
        [
            "run",
            *dict.fromkeys((sort, SCORE)),
            "best at",
            "steps",
            "onset",
            "velocity",
            "offset",
            "samples/s",
            *shown,
        ]
    ]
    for row in rows:
        scores = [_text(row["figures"].get(name), ".3f") for name in dict.fromkeys((sort, SCORE))]
        steps = [_text(row["best_step"]), f"{row['steps_done']}/{_text(row['steps_planned'])}"]
        nats = [
            "/".join(_text(row["figures"].get(f"{head}_{setting}"), form) for setting in ("given", "unset"))
            for head, form in (("onset", ".3f"), ("velocity", ".2f"), ("offset", ".2f"))
        ]
        config = [_text(row["config"][key]) for key in shown]
        lines.append([row["run"], *scores, *steps, *nats, _text(row["samples_per_second"], ".0f"), *config])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join(
            [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]
        )
        for cells in lines
    ]
    if len(keys) > MOST_KEYS:
        few = ", ".join(keys[:MOST_KEYS])
        text.append(f"the configs differ in {len(keys)} keys, too many to show: {few}, ...")
    return "\n".join(text)


def _text(value, form=".4g"):
    """A value as --set takes it, floats at a length for a table."""
    if value is None:
        return "-"
    if isinstance(value, float) or form != ".4g":
        return f"{value:{form}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def draw_curves(path, runs):
    """Write a PNG of the curves of one or several Runs (see utils.training.runs), a colour for each, whole or not at
    all. Raises ValueError where the file can't be written."""
    figure = new_figure(14, 7)
    axes = figure.subplots(2, 3, sharex=True)
    figure.set_layout_engine("constrained")
    # ten colours that are easily told apart; of more runs, shades in the order that the runs have
    scale = "tab10" if len(runs) <= 10 else "turbo"
    colours = [
        matplotlib.colormaps[scale](i if len(runs) <= 10 else i / (len(runs) - 1)) for i in range(len(runs))
    ]
    for axis, (title, logarithmic, curves) in zip(axes.flat, PANELS):
        for run, name, colour in zip(runs, names(runs), colours):
            for kind, of, style in curves:
                steps, values = run.curve(kind, of)
                values = [math.nan if value is None else value for value in values]
                axis.plot(steps, values, style, color=colour, markersize=3, linewidth=1.2, label=name)
        if logarithmic:
            axis.set_yscale("log", nonpositive="mask")
        axis.set_title(title, loc="left", fontsize=10, color=INK)
        axis.grid(color=GRID, linewidth=0.7)
        bare(axis)
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=9, color=INK)
    score = axes.flat[3]  # it has one curve a run
    figure.legend(
        handles=score.lines, loc="outside lower left", ncols=6, frameon=False, fontsize=9, labelcolor=INK
    )
    save(figure, path)
