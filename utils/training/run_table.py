"""Many runs in one short table, the best first."""

import json
from statistics import median

from utils.training.runs import differences, names

SCORE = "score"
MOST_KEYS = 8  # of the config in the table; runs that differ in more are no sweep


def summary(runs, sort=SCORE):
    """The runs as dicts for JSON, those with the lowest validation figure `sort` first, those without any last.

    run: name; folder; best_step: where `sort` was lowest; figures: all validation figures there; steps_done;
    steps_planned; samples_per_second: the median; config: the keys in which the runs differ. None where a run
    does not have it. Raises ValueError for a figure that no run has.
    """
    _check(runs, sort)
    rows = []
    for run, name, config in zip(runs, names(runs), differences(runs)):
        best = run.best(sort) or {}
        speeds = [speed for speed in run.curve("train", "samples_per_second")[1] if speed is not None]
        rows.append(
            {
                "run": name,
                "folder": run.folder,
                "best_step": best.get("step"),
                "figures": {
                    figure: value for figure, value in best.items() if figure not in ("step", "kind")
                },
                "steps_done": run.steps_done,
                "steps_planned": run.steps_planned,
                "samples_per_second": median(speeds) if speeds else None,
                "config": config,
            }
        )
    return sorted(rows, key=lambda row: (sort not in row["figures"], row["figures"].get(sort)))


def _check(runs, sort):
    lines = [line for run in runs for line in run.lines if line["kind"] == "validation"]
    known = dict.fromkeys(figure for line in lines for figure in line if figure not in ("step", "kind"))
    if lines and sort not in known:
        raise ValueError(f"--sort: {sort}; the runs have {', '.join(known)}")


def table(rows, sort=SCORE):
    """The rows of `summary` as text, one line for each, with the config keys in which they differ where they are few."""
    keys = list(rows[0]["config"])
    columns = {
        "run": [row["run"] for row in rows],
        **({} if sort == SCORE else {sort: [_number(row["figures"].get(sort), 3) for row in rows]}),
        "score": [_number(row["figures"].get("score"), 3) for row in rows],
        "best at": [_number(row["best_step"], 0) for row in rows],
        "steps": [f"{row['steps_done']}/{_value(row['steps_planned'])}" for row in rows],
        "onset": [_pair(row["figures"], "onset", 3) for row in rows],
        "velocity": [_pair(row["figures"], "velocity", 2) for row in rows],
        "offset": [_pair(row["figures"], "offset", 2) for row in rows],
        "samples/s": [_number(row["samples_per_second"], 0) for row in rows],
    }
    if len(keys) <= MOST_KEYS:
        columns |= {key: [_value(row["config"][key]) for row in rows] for key in keys}
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    lines = [_line(cells, widths) for cells in [columns.keys(), *zip(*columns.values())]]
    if len(keys) > MOST_KEYS:
        lines.append(
            f"the configs differ in {len(keys)} keys, too many to show: {', '.join(keys[:MOST_KEYS])}, ..."
        )
    return "\n".join(lines)


def _line(cells, widths):
    """The first cell, a name, to the left, the others to the right."""
    (name, *others), (name_width, *widths) = cells, widths.values()
    return "  ".join([name.ljust(name_width), *(cell.rjust(width) for cell, width in zip(others, widths))])


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def _pair(figures, head, digits):
    """With true controls / without."""
    return "/".join(_number(figures.get(f"{head}_{setting}"), digits) for setting in ("given", "unset"))


def _value(value):
    """A value of the config as --set takes it, floats at a length for a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
