"""What a metric, its goals, a table and a part are. The metrics themselves stand in parts.py.

A figure is {"value", "low", "high"} with its interval, or {"value"} alone.
"""

from dataclasses import dataclass
from math import inf, log
from typing import Callable


@dataclass(frozen=True)
class Goal:
    """A bound for a metric in one row of its table, of one set, length or job. row None: the row furthest from 1. known:
    the best figure known of others; beside: the row of what needs no model. Without bounds the figure only stands
    beside these two."""

    of: str
    row: str | None
    least: float = -inf
    most: float = inf
    known: str = ""
    beside: str | None = None

    def title(self, metric, row):
        return f"{metric.name}, {self.of}, {row}" + (" (the furthest from 1)" if self.row is None else "")

    def judge(self, metric, scores):
        """One row of the goals in the JSON, None where it was not measured. scores: {row: {metric: figure}}. met: None
        where there is no bound; NaN meets none."""
        figures = {row: of[metric.name] for row, of in scores.items() if metric.name in of}
        row = (
            self.row
            if self.row is not None or not figures
            else max(figures, key=lambda r: _distance(figures[r]))
        )
        if row not in figures:
            return None
        bounded = self.least > -inf or self.most < inf
        return {
            "goal": self.title(metric, row),
            "figure": figures[row],
            "least": self.least if self.least > -inf else None,
            "most": self.most if self.most < inf else None,
            "known": self.known,
            "beside": figures.get(self.beside),
            "met": self.least <= figures[row]["value"] <= self.most if bounded else None,
        }


def _distance(ratio):
    return abs(log(ratio["value"])) if ratio["value"] > 0 else inf


class Metric:
    """A column: function(row, *args) gives the figure (or a plain number) of one row of what `measure` gives, None where
    there is nothing to measure; digits: of the printed figure."""

    def __init__(self, name, function, *args, digits=3, goals=()):
        self.name, self.function, self.args, self.digits, self.goals = name, function, args, digits, goals

    def figure(self, row):
        figure = self.function(row, *self.args)
        return {"value": float(figure)} if isinstance(figure, int | float) else figure


@dataclass(frozen=True)
class Table:
    """name: its key in what `measure` gives. down: metrics run down the page, and rows across. drawn: it is for the
    pictures, and not printed."""

    name: str
    title: str
    metrics: list
    down: bool = False
    drawn: bool = False

    def score(self, rows):
        """{row: {metric: figure}} of one set, length or job."""
        scores = {}
        for name, row in rows.items():
            figures = {metric.name: metric.figure(row) for metric in self.metrics}
            scores[name] = {metric: figure for metric, figure in figures.items() if figure is not None}
        return scores


@dataclass(frozen=True)
class Part:
    """measure(player, sets): {table name: {set, length or job: {row: what its metrics take}}}."""

    measure: Callable
    tables: list

    def figures(self, player, sets):
        """{table: {set, length or job: {row: {metric: figure}}}}, for JSON."""
        measured = self.measure(player, sets)
        return {
            of.name: {key: of.score(rows) for key, rows in measured[of.name].items()} for of in self.tables
        }


def judge(figures, parts):
    """What became of the goals of the parts that were measured, see Goal.judge."""
    judged = [
        goal.judge(metric, figures[name].get(table.name, {}).get(goal.of, {}))
        for name, part in parts.items()
        if name in figures
        for table in part.tables
        for metric in table.metrics
        for goal in metric.goals
    ]
    return [row for row in judged if row is not None]
