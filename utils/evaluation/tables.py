"""The figures of an evaluation as tables, in text or in Markdown, out of the registry."""

import re
from math import isnan

from utils.evaluation.parts import PARTS

NONE = "–"


def tables(figures):
    """[(title, head, rows)]: head and rows are lists of cells. The goals stand last."""
    made = []
    for name, part in PARTS.items():
        for table in part.tables if name in figures else ():
            for of, scores in () if table.drawn else figures[name][table.name].items():
                if scores:
                    made.append((f"{table.title} ({of})", *grid(table, scores)))
    return [*made, goal_table(figures)] if figures["goals"] else made


def grid(table, scores):
    """Head and rows of one table; a metric that no row has is left out."""
    metrics = [metric for metric in table.metrics if any(metric.name in of for of in scores.values())]
    cells = {
        row: [cell(of.get(metric.name), metric.digits) for metric in metrics] for row, of in scores.items()
    }
    names = [metric.name for metric in metrics]
    if table.down:
        return ["", *cells], [[name, *across] for name, across in zip(names, zip(*cells.values()))]
    return ["", *names], [[row, *across] for row, across in cells.items()]


def goal_table(figures):
    rows = []
    for goal in figures["goals"]:
        least, most = goal["least"], goal["most"]
        met = NONE if goal["met"] is None else "yes" if goal["met"] else "no"
        bound = NONE if least is None else f"≥ {least:g}" if most is None else f"{least:g} to {most:g}"
        bound = f"≤ {most:g}" if least is None and most is not None else bound
        rows.append(
            [goal["goal"], goal["known"] or NONE, cell(goal["beside"]), cell(goal["figure"]), bound, met]
        )
    judged = [goal["met"] for goal in figures["goals"] if goal["met"] is not None]
    title = f"{sum(judged)} of {len(judged)} goals are met, {figures['split']} split"
    return title, ["", "best known", "needs no model", "here", "goal", "met"], rows


def cell(figure, digits=3):
    """A figure with its interval, if it has one; shares and the like without the zero before the point."""
    if figure is None or isnan(figure["value"]):
        return NONE
    value, *ends = (f"{number:.{digits}f}" for number in figure.values())
    text = f"{value} [{', '.join(ends)}]" if ends else value
    return re.sub(r"(?<!\d)0\.", ".", text) if digits >= 3 else text


def about(figures):
    """What was evaluated, in two lines."""
    sets = ", ".join(
        f"{name}: {of['windows']} windows of {name[1:]} bars" for name, of in figures["sets"].items()
    )
    return [
        f"{figures['checkpoint']}, step {figures['step']}; {figures['split']} split, "
        f"{figures['sets']['T4']['performances']} performances; {sets}; floor: {figures['floor']} split",
        f"{figures['samples']} samples, seed {figures['seed']}; []: 95 % intervals, bootstrap over performances",
    ]


def as_text(figures):
    blocks = ["\n".join(about(figures))]
    for title, *lines in ((title, head, *rows) for title, head, rows in tables(figures)):
        widths = [max(map(len, column)) for column in zip(*lines)]
        padded = [
            "  ".join(
                ["", cells[0].ljust(widths[0]), *(c.rjust(width) for c, width in zip(cells[1:], widths[1:]))]
            )
            for cells in lines
        ]
        blocks.append("\n".join([title, *padded]))
    return "\n\n".join(blocks)


def as_markdown(figures):
    blocks = ["\n".join(about(figures))]
    for title, head, rows in tables(figures):
        lines = [head, ["---"] * len(head), *rows]
        blocks.append("\n".join([f"{title}:", "", *(f"| {' | '.join(cells)} |" for cells in lines)]))
    return "\n\n".join(blocks) + "\n"
