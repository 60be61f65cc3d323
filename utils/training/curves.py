"""The curves of runs as one picture, drawn from what their metrics.jsonl hold."""

import math

import matplotlib
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from utils.canvas import GRID, INK, bare, new_figure, save
from utils.training.runs import names

ALONE = {"linewidth": 1.2}  # where a panel has one curve a run
TRAIN = {"linewidth": 1, "alpha": 0.4}
GIVEN = {"linewidth": 1.3, "marker": "o", "markersize": 3}
UNSET = {**GIVEN, "linestyle": "--"}


def _head(name):
    return [
        ("train", name, TRAIN),
        ("validation", f"{name}_given", GIVEN),
        ("validation", f"{name}_unset", UNSET),
    ]


# Title, scale, and the curves: kind of line, figure, style.
PANELS = [
    ("onset, nats per step", "log", _head("onset")),
    ("velocity, nats per hit", "linear", _head("velocity")),
    ("offset, nats per hit", "linear", _head("offset")),
    ("validation score, nats per step", "linear", [("validation", "score", GIVEN)]),
    ("KL per bar, nats", "log", [("train", "kl_per_bar", ALONE)]),
    ("active latent units", "from 0", [("train", "active_units", ALONE)]),
    ("gradient norm", "log", [("train", "gradient_norm", ALONE)]),
    ("learning rate", "log", [("train", "learning_rate", ALONE)]),
    ("samples per second", "from 0", [("train", "samples_per_second", ALONE)]),
]
STYLES = [("train", TRAIN), ("validation, true controls", GIVEN), ("validation, controls unset", UNSET)]
NAMES_IN_A_ROW = 4


def draw_curves(path, runs):
    """Write a PNG of the curves of one or several Runs (see utils.training.runs), a colour for each, whole or not at all.

    Train and validation nats of each head, score, KL and active units, gradient norm, learning rate, speed.
    Raises ValueError where the file can't be written.
    """
    top = 0.7 + 0.22 * math.ceil(len(runs) / NAMES_IN_A_ROW)  # inches, as are all heights here
    height = 9.6 + top
    figure = new_figure(14, height)
    axes = figure.subplots(3, 3, sharex=True)
    figure.subplots_adjust(
        left=0.04, right=0.985, bottom=0.5 / height, top=1 - top / height, hspace=0.14, wspace=0.14
    )
    colours = _colours(len(runs))
    for axis, (title, scale, curves) in zip(axes.flat, PANELS):
        _prepare(axis, title, scale)
        for run, colour in zip(runs, colours):
            for kind, name, style in curves:
                steps, values = run.curve(kind, name)
                values = [math.nan if value is None else value for value in values]
                axis.plot(steps, values, color=colour, **style)
        if scale == "from 0":
            axis.set_ylim(bottom=0)
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=9, color=INK)
    styles = [Line2D([], [], color=INK, label=label, **style) for label, style in STYLES]
    _legend(figure, styles, 1 - 0.05 / height)
    in_colour = [
        Line2D([], [], color=colour, linewidth=3, label=name) for colour, name in zip(colours, names(runs))
    ]
    _legend(figure, in_colour, 1 - 0.27 / height)
    save(figure, path)


def _colours(count):
    """Ten that are easily told apart; of more runs, shades in the order that the runs have."""
    if count <= 10:
        return [matplotlib.colormaps["tab10"](index) for index in range(count)]
    return [matplotlib.colormaps["turbo"](0.05 + 0.9 * index / (count - 1)) for index in range(count)]


def _prepare(axis, title, scale):
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    if scale == "log":
        axis.set_yscale("log", nonpositive="mask")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(LogLocator(subs=()))
    bare(axis)


def _legend(figure, handles, top):
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.03, top),
        ncols=NAMES_IN_A_ROW,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
