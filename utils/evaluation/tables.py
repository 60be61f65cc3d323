"""The figures of an evaluation as tables, in text or in Markdown, out of the registry."""

import re
from math import inf, isnan

from utils.evaluation.registry import measured_tables

NONE = "–"


def tables(figures, parts):
    """[(title, lines)]: lines are lists of cells, the head first. The goals stand last."""
    made = [
        (f"{table.title} ({of})", lines_of(table, scores))
        for name, table in measured_tables(figures, parts)
        if not table.drawn
        for of, scores in figures[name][table.name].items()
    ]
    return [*made, goal_table(figures)] if figures["goals"] else made


def lines_of(table, scores):
    """A metric that no row has is left out."""
    columns = [
        [of.name, *(cell(row.get(of.name), of.digits) for row in scores.values())] for of in table.metrics
    ]
    lines = [["", *scores], *(column for column in columns if set(column[1:]) != {NONE})]
    return lines if table.down else list(zip(*lines))


def goal_table(figures):
    lines = [["", "best known", "needs no model", "here", "goal", "met"]]
    for goal in figures["goals"]:
        bound = f"{goal['least']} to {goal['most']}"
        if goal["most"] == inf:
            bound = f"≥ {goal['least']}"
        elif goal["least"] == -inf:
            bound = f"≤ {goal['most']}"
        bound, met = {None: (NONE, NONE), True: (bound, "yes"), False: (bound, "no")}[goal["met"]]
        known, beside, here = goal["known"] or NONE, cell(goal["beside"]), cell(goal["figure"])
        lines.append([goal["goal"], known, beside, here, bound, met])
    met = [goal["met"] for goal in figures["goals"] if goal["met"] is not None]
    of = f", {figures['split']} split" if "split" in figures else ""
    return f"{sum(met)} of {len(met)} goals are met{of}", lines


def cell(figure, digits=3):
    """A figure with its interval, if it has one; shares and the like without the zero before the point."""
    if figure is None or isnan(figure["value"]):
        return NONE
    value, *ends = (f"{number:.{digits}f}" for number in figure.values())
    text = f"{value} [{', '.join(ends)}]" if ends else value
    return re.sub(r"(?<!\d)0\.", ".", text) if digits >= 3 else text


def about(figures):
    """What was evaluated, in one line or two."""
    if "folders" in figures:
        return f"{', '.join(figures['folders'])}; []: 95 % intervals over patterns or songs"
    sets = "; ".join(f"{name}: {of['windows']} windows" for name, of in figures["sets"].items())
    return (
        f"{figures['checkpoint']}, step {figures['step']}; {figures['split']} split, "
        f"{figures['sets']['T4']['performances']} performances, {sets}; floor: {figures['floor']} split\n"
        f"{figures['samples']} samples, seed {figures['seed']}; []: 95 % intervals over performances"
    )


def as_text(figures, parts):
    blocks = [f"{title}\n{aligned(lines)}" for title, lines in tables(figures, parts)]
    return "\n\n".join([about(figures), *blocks])


def aligned(lines):
    """Lines of cells in columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]) for name, *cells in lines
    )


def as_markdown(figures, parts):
    blocks = [about(figures)]
    for title, (head, *rows) in tables(figures, parts):
        rows = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
        blocks.append("\n".join([f"{title}:", "", *rows]))
    return "\n\n".join(blocks) + "\n"
