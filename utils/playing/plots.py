"""Pictures: rhythm, drums and controls, asked beside played; a song on a strip; takes to one rhythm."""

import numpy as np
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils.canvas import FAINT, INK, new_figure, save
from utils.playing.controls import NUMBERS, measure
from utils.playing.panels import (
    ASKED,
    FORBIDDEN,
    GAP,
    LEFT,
    LOUDNESS,
    LOUDNESS_ANEW,
    RHYTHM,
    RIBBON,
    RULER,
    draw_control,
    draw_curve,
    draw_rhythm,
    draw_roll,
    draw_ruler,
    draw_sections,
    draw_strip,
    draw_voices,
    number_bars,
    panels,
)

BARS_IN_LINE, BARS_IN_DETAIL = 8, 64
# Inches: around the panels; the least width of a step, and of a picture; panels; those of an overview.
RIGHT, TITLE, WORDS, FOOT, LINE_GAP = 0.35, 0.78, 0.2, 0.45, 0.32
STEP, NARROW_STEP, WIDTH, OVERVIEW_WIDTH = 0.1625, 0.12, 10, 13
RHYTHM_HEIGHT, ROLL_HEIGHT, CHART_HEIGHT = 0.42, 3.0, 0.55
LOW_RHYTHM, LOW_ROLL = 0.34, 2.6  # below an overview
OVERVIEW_HEIGHT, OVERVIEW_NUMBERS = 1.7, 0.3
LOUD = 0.1, 0.4, 0.7, 1.0
LEGEND = {
    "rhythm": Line2D([], [], color=RHYTHM, marker="o", markersize=5, linewidth=2.4),
    "not answered": Line2D([], [], color=ASKED, marker="o", markersize=5, mfc="white", linestyle=":"),
    "soft to loud": tuple(Patch(color=LOUDNESS(loud)) for loud in LOUD),
    "played anew": tuple(Patch(color=LOUDNESS_ANEW(loud)) for loud in LOUD),
    "asked": Line2D([], [], color=ASKED, linewidth=2),
    "forbidden": Patch(**FORBIDDEN),
}
ASKED_IN_FIGURES = "asked (in figures: played/asked, red where missed)"
LEGEND[ASKED_IN_FIGURES] = LEGEND["asked"]


def draw_result(path, drums, rhythm, receipt, title, *, sections=None, anew=None, overview=False):
    """The picture of what was played: rhythm, drums and what was asked, in lines of BARS_IN_LINE bars. More
    than two lines have an overview above them, and of very many bars the first BARS_IN_DETAIL are in detail.

    path: of the PNG, or None: none is written. drums: onset, vel, timeoffset, each (T, 9), array or CPU
    tensor. rhythm: the same of the rhythm heard, of any length, or None. receipt: a Receipt of these drums.
    sections: a song's [(name, bars)]. anew: (T, 9) bool, the cells that a job played anew, which are marked.
    overview: that alone. Returns the Figure.
    """
    result = _Result(drums, rhythm, receipt, sections, anew)
    strip, bars = overview or result.grid.n_bars > 2 * BARS_IN_LINE, min(result.grid.n_bars, BARS_IN_DETAIL)
    lines = [] if overview else [(bar, min(bar + BARS_IN_LINE, bars)) for bar in range(0, bars, BARS_IN_LINE)]
    longest = max((result.grid.lines[last] - result.grid.lines[first] for first, last in lines), default=1)
    step = _step_for(longest)
    width = LEFT + RIGHT + step * longest if lines else OVERVIEW_WIDTH
    heights = result.line_heights(strip)
    line_height = result.ribbon + RULER + _height(heights) + LINE_GAP
    words = receipt.figures()
    top = begin = TITLE + WORDS * len(words)
    top += (result.overview_height + LINE_GAP / 2 * bool(lines)) * strip
    figure = new_figure(width, top + line_height * len(lines) - LINE_GAP * bool(lines) + FOOT)
    if strip:
        result.draw_overview(figure, begin)
    for first, last in lines:
        result.draw_line(figure, top, heights, step, first, last)
        top += line_height
    if lines and bars < result.grid.n_bars:
        title += f"   bars 1 to {bars} of {result.grid.n_bars} in detail"
    return _finish(figure, title, words, "  ·  ".join(receipt.origin()), result.legend(bool(lines)), path)


def draw_takes(path, takes, rhythm, grid, title):
    """Write a PNG of several takes to one rhythm: the rhythm above, then a piano roll for each.

    takes: name -> drums, as for draw_result. rhythm: of the rhythm heard. grid: the BarGrid of T. Above each
    bar of a roll stands how many hits it has and how loud they are on average.
    """
    grid, played = grid.whole(), grid
    step = _step_for(grid.n_steps)
    heights, gap, top = [RHYTHM_HEIGHT] + [LOW_ROLL] * len(takes), 0.3, TITLE + RULER
    figure = new_figure(LEFT + RIGHT + step * grid.n_steps, top + _height(heights, gap) + 0.2)
    above, *rolls = panels(figure, top, heights, step, grid, gap)
    draw_rhythm(above, [roll[: grid.n_steps] for roll in rhythm])
    draw_ruler(above, grid)
    for axis, (name, drums) in zip(rolls, takes.items()):
        draw_roll(axis, *drums)
        above_it = {"transform": axis.get_xaxis_transform(), "va": "bottom"}
        axis.text(-0.95, 1.02, name, ha="right", color=INK, fontsize=10, weight="bold", **above_it)
        got = measure(*drums[:2], played)
        for start, hits, velocity in zip(grid.starts, got["density"], got["intensity"]):
            text = f"{hits:.0f} hits, velocity {velocity:.0f}" if hits else "silent"
            axis.text(start - 0.3, 1.02, text, color=FAINT, fontsize=8, **above_it)
    _finish(figure, title, [], "", ("rhythm", "soft to loud"), path)


class _Result:
    """What draw_result shows, drawn line by line."""

    def __init__(self, drums, rhythm, receipt, sections, anew):
        self.grid, self.asked, self.got = receipt.grid.whole(), receipt.asked, receipt.got
        self.drums = [np.asarray(part) for part in drums]
        self.rhythm = None if rhythm is None else [np.asarray(part) for part in rhythm]
        self.sections, self.ribbon = sections, RIBBON if sections else 0
        self.is_job = anew is not None
        self.anew = np.asarray(anew) if self.is_job else np.zeros(self.drums[0].shape, bool)
        numbers = [name for name, control in NUMBERS.items() if control.width is None]
        self.charts = [name for name in numbers if not np.isnan(self.asked[name]).all()]
        self.curves = [*dict.fromkeys(("density", "intensity", *self.charts))]
        self.missed = False  # whether a tap that isn't answered was drawn
        self.overview_heights = [OVERVIEW_HEIGHT] + [CHART_HEIGHT] * len(self.curves)
        self.overview_height = self.ribbon + _height(self.overview_heights) + OVERVIEW_NUMBERS

    def line_heights(self, below_overview):
        rhythm, roll = (LOW_RHYTHM, LOW_ROLL) if below_overview else (RHYTHM_HEIGHT, ROLL_HEIGHT)
        charts = [] if below_overview else [CHART_HEIGHT] * len(self.charts)
        return [rhythm] * (self.rhythm is not None) + [roll] + charts

    def draw_overview(self, figure, top):
        step = (figure.get_size_inches()[0] - LEFT - RIGHT) / self.grid.n_steps
        top, heights = top + self.ribbon, self.overview_heights
        strip, *charts = panels(figure, top, heights, step, self.grid, lines=False)
        draw_strip(strip, self.drums, self.rhythm, self.anew)
        for axis, name in zip(charts, self.curves):
            draw_curve(axis, name, self.got[name], self.asked[name], self.grid)
        draw_sections(strip, self.sections, self.grid)
        number_bars(charts[-1], self.sections, self.grid)

    def draw_line(self, figure, top, heights, step, first, last):
        """The bars from `first` up to, not including, `last`."""
        here, steps, bars = self.grid.cut(first, last), self.grid.steps_of(first, last), slice(first, last)
        highest, *charts = panels(figure, top + self.ribbon + RULER, heights, step, here)
        roll = highest if self.rhythm is None else charts.pop(0)
        drums = [part[steps] for part in self.drums]
        draw_roll(roll, *drums, self.anew[steps])
        if self.rhythm is not None:
            beside = (None, None) if self.is_job else (drums[0], roll)
            self.missed |= draw_rhythm(highest, [part[steps] for part in self.rhythm], *beside)
        draw_voices(roll, self.asked["instrument"][bars], self.got["instrument"][bars], here)
        draw_ruler(highest, here, first, self.asked["style"][bars])
        draw_sections(highest, self.sections, self.grid, first, RULER)
        for axis, name in zip(charts, self.charts):
            draw_control(axis, name, self.got[name][bars], self.asked[name][bars], here)

    def legend(self, in_detail):
        """The names of what there is."""
        asked = any(not np.isnan(self.asked[name]).all() for name in NUMBERS)
        there = {
            "rhythm": self.rhythm is not None,
            "not answered": self.missed,
            "soft to loud": True,
            "played anew": self.anew.any(),
            "asked": asked and not in_detail,
            ASKED_IN_FIGURES: asked and in_detail,
            "forbidden": in_detail and (self.asked["instrument"] < 0).any(),
        }
        return [name for name, is_there in there.items() if is_there]


def _step_for(steps):
    """How wide a step is where so many are in a line."""
    return max(STEP if steps <= 80 else NARROW_STEP, (WIDTH - LEFT - RIGHT) / max(steps, 1))


def _height(heights, gap=GAP):
    """Of panels below each other."""
    return sum(heights) + gap * (len(heights) - 1)


def _finish(figure, title, words, foot, legend, path):
    """Title, words and legend above the panels, `foot` below them; then the file. Returns the figure."""
    width, height = figure.get_size_inches()
    left = LEFT / width
    figure.suptitle(title, x=left, y=1 - 0.12 / height, ha="left", color=INK, fontsize=13, fontweight="bold")
    for number, line in enumerate(words):
        figure.text(left, 1 - (0.46 + WORDS * number) / height, line, color=INK, fontsize=9, va="top")
    figure.text(left, 0.14 / height, foot, color=FAINT, fontsize=8, va="bottom")
    corner = left - 0.05 / width, 1 - (0.5 + WORDS * len(words)) / height
    place = {"loc": "upper left", "bbox_to_anchor": corner}
    look = {"frameon": False, "fontsize": 9, "labelcolor": INK, "borderaxespad": 0, "borderpad": 0}
    look |= {"ncols": len(legend), "handler_map": {tuple: HandlerTuple(ndivide=None, pad=0)}}
    figure.legend([LEGEND[name] for name in legend], legend, **place, **look)
    if path is not None:
        save(figure, path)
    return figure
