"""Pictures: rhythm, piano roll and controls, asked beside played; or several takes to one rhythm."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from model.controls import MIDI_VELOCITIES
from utils.canvas import FAINT, GRID, INK, bare, new_figure, save
from utils.midi.drums import N_VOICES, VOICES
from utils.playing.controls import NO_STYLE, NUMBERS, measure, style_name

BAND = "#f6f7f8"
ASKED, GOT, RHYTHM, FORBIDDEN = "#c0394d", "#c3d8df", "#5b6770", "#f3dadd"
LOUDNESS = LinearSegmentedColormap.from_list("loudness", ["#c9dde2", "#3d8296", "#0b3142"])
HIT_HEIGHT = 0.66
BARS_IN_LINE, BARS_IN_PICTURE = 8, 96
STEP = 2.6 / 16  # inches
LEFT, RIGHT, BELOW = 1.2, 0.8, 0.38  # inches beside and below the panels, for what is written there
CHARTS = {"density": "hits per bar", "intensity": "mean velocity"}  # controls that have a panel
PANELS = 0.5, 3.4, *[0.7] * len(CHARTS)  # inches: rhythm, roll, charts
PANEL_GAP, LINE_GAP = 0.13, 0.75  # inches; between lines of bars
LEGEND = {
    "rhythm": Line2D([], [], color=RHYTHM, marker="o", markersize=4, linewidth=2),
    "not answered": Line2D([], [], color=ASKED, marker="o", markersize=4, mfc="white", linestyle=":"),
    "played": Patch(color=GOT),
    "asked (in the roll: played/asked, red where missed)": Line2D([], [], color=ASKED, linewidth=2),
    "forbidden": Patch(color=FORBIDDEN),
}


def draw_result(path, drums, rhythm, receipt, title):
    """The picture of what was played, in lines of BARS_IN_LINE bars: rhythm, piano roll, hits and velocity.

    path: of the PNG, or None: none is written. drums: onset, vel, timeoffset, each (T, 9), array or CPU
    tensor. rhythm: the same of the rhythm heard, of any length, or None. receipt: a Receipt of these drums.
    Of more than BARS_IN_PICTURE bars the first are drawn, and the title says so. Returns the Figure.
    """
    asked, got, grid = receipt.asked, receipt.got, receipt.grid.whole()
    bars = min(got.n_bars, BARS_IN_PICTURE)
    words = [", ".join(receipt.origin()), *receipt.figures()]
    top = 1.1 + 0.19 * len(words)
    line_height = sum(PANELS) + PANEL_GAP * (len(PANELS) - 1) + LINE_GAP
    firsts = range(0, bars, BARS_IN_LINE)
    most_steps = max(grid.cut(first, min(first + BARS_IN_LINE, bars)).n_steps for first in firsts)
    figure = _figure(most_steps, top + len(firsts) * line_height - LINE_GAP + BELOW)
    most_hits = 1.15 * np.nanmax([20, *got["density"], *asked["density"]])
    most = {"density": most_hits, "intensity": MIDI_VELOCITIES}
    for first in firsts:
        line = slice(first, min(first + BARS_IN_LINE, bars))
        here, steps = grid.cut(line.start, line.stop), grid.steps_of(line.start, line.stop)
        above, roll, *charts = _panels(figure, top, PANELS, PANEL_GAP, here, most_steps, first)
        top += line_height
        draw_roll(roll, *(part[steps] for part in drums))
        heard = None if rhythm is None else [part[steps] for part in rhythm]
        _draw_rhythm(above, heard, drums[0][steps], roll)
        _draw_voices(roll, asked["instrument"][line], got["instrument"][line], here)
        _draw_styles(above, asked["style"][line], here)
        for axis, (name, label) in zip(charts, CHARTS.items()):
            _draw_control(axis, label, got[name][line], asked[name][line], most[name], here)

    any_asked = any(not np.isnan(asked[name]).all() for name in NUMBERS)
    any_rhythm, any_forbidden = rhythm is not None, (asked["instrument"] < 0).any()
    shown = zip(LEGEND.items(), (any_rhythm, any_rhythm, True, any_asked, any_forbidden))
    entries = dict(entry for entry, there in shown if there)
    title += f"   bars 1 to {bars} of {got.n_bars}" if bars < got.n_bars else ""
    return _finish(figure, title, entries, path, words)


def draw_takes(path, takes, rhythm, grid, title):
    """Write a PNG of several takes to one rhythm: the rhythm above, then a piano roll for each.

    takes: name -> drums, as for draw_result. rhythm: of the rhythm heard. grid: the BarGrid of T. Above each
    bar of a roll stands how many hits it has and how loud they are on average.
    """
    grid, played = grid.whole(), grid
    heights, gap, top = [0.55] + [2.75] * len(takes), 0.3, 0.6
    most_steps = grid.cut(0, min(grid.n_bars, BARS_IN_LINE)).n_steps  # more are drawn smaller
    figure = _figure(most_steps, top + sum(heights) + gap * len(takes) + BELOW)
    above, *rolls = _panels(figure, top, heights, gap, grid, grid.n_steps)
    _draw_rhythm(above, [roll[: grid.n_steps] for roll in rhythm])
    for axis, (name, drums) in zip(rolls, takes.items()):
        draw_roll(axis, *drums)
        above_it = {"transform": axis.get_xaxis_transform(), "va": "bottom"}
        axis.text(-0.95, 1.02, name, ha="right", color=INK, fontsize=10, weight="bold", **above_it)
        got = measure(*drums[:2], played)
        for start, hits, velocity in zip(grid.starts, got["density"], got["intensity"]):
            text = f"{hits:.0f} hits, velocity {velocity:.0f}" if hits else "silent"
            axis.text(start - 0.3, 1.02, text, color=FAINT, fontsize=8, **above_it)
    _finish(figure, title, {}, path)


def draw_roll(axis, onset, vel, timeoffset):
    """Draw hits, kick at the bottom, placed as they are timed, the darker and taller the louder."""
    onset, vel, timeoffset = (np.asarray(roll, dtype=np.float64) for roll in (onset, vel, timeoffset))
    for step, voice in zip(*np.nonzero(onset)):
        loud = vel[step, voice]
        height = HIT_HEIGHT * (0.45 + 0.55 * loud)
        corner = step + timeoffset[step, voice] - 0.5, voice - height / 2
        axis.add_patch(Rectangle(corner, 0.82, height, facecolor=LOUDNESS(loud), linewidth=0, zorder=3))
    axis.set_ylim(-0.6, N_VOICES - 0.4)
    axis.set_yticks(range(N_VOICES), [name.replace("_", " ") for name in VOICES])
    for voice in range(N_VOICES):
        axis.axhline(voice, color=GRID, linewidth=0.8, zorder=1)


def _figure(steps, height):
    """An empty figure, `height` inches high and as wide as a line of so many steps."""
    return new_figure(max(10, LEFT + RIGHT + STEP * steps), height)


def _panels(figure, top, heights, gap, grid, most_steps, first=0):
    """Panels of these heights, from `top` inches below the figure's upper edge, with lines on bars and beats.
    grid: of whole bars, the first of which is number `first` of the picture. All lines are to one scale, that
    of most_steps as wide as the figure."""
    width, height = figure.get_size_inches()
    share = grid.n_steps / most_steps
    axes = []
    for tall in heights:
        size = share * (width - LEFT - RIGHT) / width, tall / height
        axis = figure.add_axes((LEFT / width, 1 - (top + tall) / height, *size))
        axis.set_xlim(-0.75, grid.n_steps - 0.25)  # a step is centred on its whole number
        bare(axis)
        axis.tick_params(labelsize=9, labelcolor=INK)
        for bar in range(0, grid.n_bars, 2):
            steps = grid.steps_of(bar)
            axis.axvspan(steps.start - 0.5, steps.stop - 0.5, color=BAND, zorder=0, linewidth=0)
        for step in np.flatnonzero((grid.index.place_in_beat == 0) & (grid.index.place > 0)):
            axis.axvline(step - 0.5, color=GRID, linewidth=0.7, zorder=1)
        for step in grid.lines:
            axis.axvline(step - 0.5, color=FAINT, linewidth=0.9, zorder=1)
        axes.append(axis)
        top += tall + gap
    for axis in axes[:-1]:
        axis.set_xticks([])
    middles = [start + length / 2 - 0.5 for start, length in zip(grid.starts, grid.lengths)]
    axes[-1].set_xticks(middles, [f"bar {first + bar + 1}" for bar in range(grid.n_bars)])
    return axes


def _draw_rhythm(axis, rhythm, onset=None, roll=None):
    """onset (T, 9): of the drums; taps that they don't answer stand out, also in the roll."""
    axis.set_ylim(0, 1.05)
    axis.set_yticks([0.5], ["no rhythm" if rhythm is None else "rhythm"])
    if rhythm is None:
        return
    tap, vel, timeoffset = (np.asarray(part, dtype=np.float64) for part in rhythm)
    step, voice = np.nonzero(tap if onset is None else tap[: len(onset)])
    time, loud = step + timeoffset[step, voice] - 0.09, vel[step, voice]
    answered = np.ones(len(step), bool) if onset is None else (np.asarray(onset) > 0).any(-1)[step]
    colours = np.where(answered, RHYTHM, ASKED)
    axis.vlines(time, 0, loud, color=colours, linewidth=np.where(answered, 2, 1), zorder=3)
    axis.scatter(time, loud, s=16, color=np.where(answered, RHYTHM, "white"), edgecolors=colours, zorder=3)
    for missed in time[~answered]:
        roll.axvline(missed, color=ASKED, linewidth=1, linestyle=":", zorder=2)


def _draw_voices(axis, asked, got, grid):
    """In the roll, above each voice and at the end of each bar of which it was asked: 'played/asked'.
    Forbidden bars are tinted. asked, got: hits (bars, 9)."""
    for bar, voice in np.argwhere(~np.isnan(asked)):
        wish, played = asked[bar, voice], got[bar, voice]
        left, right = grid.starts[bar] - 0.5, grid.starts[bar] + grid.lengths[bar] - 0.5
        if wish < 0:
            look = {"facecolor": FORBIDDEN, "linewidth": 0, "zorder": 2}
            axis.add_patch(Rectangle((left, voice - 0.46), right - left, 0.92, **look))
        else:
            met = abs(played - wish) <= 0.5  # a whole number of hits can't come nearer
            look = {"color": FAINT} if met else {"color": ASKED, "fontweight": "bold"}
            look |= {"ha": "right", "va": "center", "fontsize": 7, "zorder": 4}
            axis.text(right - 0.12, voice + 0.5, f"{played:.0f}/{wish:.3g}", **look)


def _draw_styles(axis, styles, grid):
    names = [style_name(style) for style in styles]
    for bar, name in enumerate(names):
        if name != NO_STYLE and (bar == 0 or name != names[bar - 1]):
            axis.text(grid.starts[bar] - 0.3, 1.12, name, color=ASKED, fontsize=9, va="bottom")


def _draw_control(axis, name, got, asked, top, grid):
    """A column for each bar, a line at what was asked of it, and below it both in figures."""
    left, lengths = np.array(grid.starts) - 0.5, np.array(grid.lengths)
    axis.bar(left + 0.5, np.nan_to_num(got), lengths - 1, align="edge", color=GOT, zorder=2)
    axis.set_ylim(-0.45 * top, top)
    axis.set_yticks([top / 2], [name])
    look = {"transform": axis.get_xaxis_transform(), "fontsize": 9, "zorder": 5}
    for start, length, played, wish in zip(left, lengths, got, asked):
        text = "silent" if np.isnan(played) else f"{played:.0f}"
        axis.text(start + 0.5, 0.05, text, color=INK, **look)
        if not np.isnan(wish):
            axis.hlines(wish, start + 0.3, start + length - 0.3, color=ASKED, linewidth=2, zorder=4)
            axis.text(start + length - 0.5, 0.05, f"{wish:.3g}", ha="right", color=ASKED, **look)


def _finish(figure, title, entries, path, words=()):
    """Title, words, legend (label -> what it looks like) and the scale of loudness around the panels; then
    the file. Returns the figure."""
    width, height = figure.get_size_inches()
    below, left = figure.axes[1].get_position(), LEFT / width
    place = {"x": left, "y": 1 - 0.11 / height, "ha": "left"}
    figure.suptitle(title, **place, color=INK, fontsize=12, fontweight="bold")
    for number, line in enumerate(words):
        figure.text(left, 1 - (0.4 + 0.19 * number) / height, line, color=INK, fontsize=9, va="top")
    if entries:
        corner = left - 0.01, 1 - (0.42 + 0.19 * len(words)) / height
        look = {"frameon": False, "fontsize": 9, "labelcolor": INK, "ncols": len(entries)}
        figure.legend(entries.values(), entries, loc="upper left", bbox_to_anchor=corner, **look)
    scale = figure.add_axes([below.x1 + 0.15 / width, below.y1 - 2.6 / height, 0.09 / width, 2.2 / height])
    look = {"cmap": LOUDNESS, "norm": Normalize(0, 1), "aspect": "auto", "origin": "lower"}
    scale.imshow(np.linspace(0, 1, 64)[:, None], extent=(0, 1, 1, MIDI_VELOCITIES), **look)
    bare(scale)
    scale.set_xticks([])
    scale.set_yticks([1, 64, MIDI_VELOCITIES])
    scale.yaxis.tick_right()
    scale.set_title("velocity", fontsize=8, color=FAINT, loc="left")
    if path is not None:
        save(figure, path)
    return figure
