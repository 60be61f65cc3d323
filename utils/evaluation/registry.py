"""What a metric, its goals, a table and a part are. The metrics themselves stand in parts.py.

`measure` of a part gives for each row of its tables (a setting, a guess, a control ...) a dict of sums over
each of P performances, (P, ...). A metric is a function of the totals of one of them. A figure is {"value",
"low", "high"}, with its interval, or {"value"} alone.
"""

from dataclasses import dataclass
from math import inf, log
from typing import Callable

import numpy as np

from utils.evaluation.bootstrap import estimate, mean


@dataclass(frozen=True)
class Goal:
    """A bound for a metric in one row of its table, of one set, length or job. row None: the row furthest
    from 1. known: the best figure known of others; beside: the row of what needs no model. Without bounds the
    figure only stands beside these two."""

    of: str
    row: str | None
    least: float = -inf
    most: float = inf
    known: str = ""
    beside: str | None = None

    def judge(self, name, figures):
        """One row of the goals in the JSON, None where it was not measured. name: of the metric; figures:
        {row: figure}. met: None where there is no bound; NaN meets none."""
        row, title = self.row, f"{name}, {self.of}, {self.row}"
        if row is None and figures:
            row = max(figures, key=lambda row: _distance(figures[row]["value"]))
            title = f"{name}, {self.of}, {row} (the furthest from 1)"
        if row not in figures:
            return None
        bounded, figure = (self.least, self.most) != (-inf, inf), figures[row]
        return {
            "goal": title,
            "figure": figure,
            "known": self.known,
            "beside": figures.get(self.beside),
            "least": self.least,
            "most": self.most,
            "met": self.least <= figure["value"] <= self.most if bounded else None,
        }


def _distance(ratio):
    return abs(log(ratio)) if ratio > 0 else inf


@dataclass(frozen=True)
class Metric:
    """function: of the totals of the sums named `sums` (or of several, where they are a tuple) in a row; the
    figure is missing where they are. What is no sum stays as it is. digits: of the printed figure."""

    name: str
    sums: str
    function: Callable = mean
    digits: int = 3
    goals: tuple | list = ()

    def figure(self, sums):
        if isinstance(sums, np.ndarray | tuple):
            return estimate(self.function, *(sums if isinstance(sums, tuple) else [sums]))
        return {"value": float(sums)} if isinstance(sums, int | float) else sums


@dataclass(frozen=True)
class Table:
    """name: its key in what `measure` gives. down: metrics run down the page, and rows across. drawn: it is
    for the pictures, and not printed."""

    name: str
    title: str
    metrics: list
    down: bool = False
    drawn: bool = False

    def score(self, rows):
        """{row: {metric: figure}} of one set, length or job."""
        return {row: self._score(sums) for row, sums in rows.items()}

    def _score(self, sums):
        return {of.name: of.figure(sums[of.sums]) for of in self.metrics if of.sums in sums}


@dataclass(frozen=True)
class Part:
    """measure(player, sets): {table name: {set, length or job: {row: {name: sums}}}}. missing(): what the
    part needs and is not there, in words, or None."""

    measure: Callable
    tables: list
    missing: Callable = lambda: None

    def figures(self, player, sets):
        """{table: {set, length or job: {row: {metric: figure}}}}, for JSON."""
        return self.score(self.measure(player, sets))

    def score(self, measured):
        """The figures of what `measure` gives."""
        figures = {}
        for of in self.tables:
            figures[of.name] = {key: of.score(rows) for key, rows in measured[of.name].items()}
        return figures


def judge(figures, parts):
    """What became of the goals of the parts that were measured, see Goal.judge."""
    judged = []
    for name, table in measured_tables(figures, parts):
        for metric, goal in ((metric, goal) for metric in table.metrics for goal in metric.goals):
            scores = figures[name][table.name].get(goal.of, {})
            of_rows = {row: of[metric.name] for row, of in scores.items() if metric.name in of}
            judged.append(goal.judge(metric.name, of_rows))
    return [row for row in judged if row is not None]


def measured_tables(figures, parts):
    """(name of its part, Table) of all tables of the parts that are in `figures`."""
    return [(name, table) for name, part in parts.items() if name in figures for table in part.tables]
