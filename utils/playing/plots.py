"""Pictures of drums: the piano roll with the rhythm above it and the controls below it, asked beside played; or
several takes to one rhythm, one roll below the other."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from utils.canvas import FAINT, GRID, INK, bare, new_figure, save
from utils.midi.drums import N_VOICES, STYLE_NONE, VOICES
from utils.playing.controls import measure, style_name
from utils.playing.receipt import is_met

BAND = "#f6f7f8"
ASKED, GOT, RHYTHM, FORBIDDEN = "#c0394d", "#c3d8df", "#5b6770", "#f3dadd"
LOUDNESS = LinearSegmentedColormap.from_list("loudness", ["#c9dde2", "#3d8296", "#0b3142"])
HIT_HEIGHT = 0.66
BARS_IN_LINE, BARS_IN_PICTURE = 8, 96
LEFT, RIGHT, BELOW = 1.2, 0.8, 0.38  # inches beside and below the panels, for what is written there
PANELS, PANEL_GAP, LINE_GAP = (
    (0.5, 3.4, 0.7, 0.7),
    0.13,
    0.75,
)  # inches: rhythm, roll, hits, velocity; between lines of bars
RHYTHM_ENTRY = Line2D([], [], color=RHYTHM, marker="o", markersize=4, linewidth=2, label="rhythm")
UNANSWERED_ENTRY = Line2D(
    [],
    [],
    color=ASKED,
    marker="o",
    markersize=4,
    linewidth=1,
    linestyle=":",
    markerfacecolor="white",
    label="not answered",
)


def draw_result(path, drums, rhythm, receipt, steps_per_bar, title):
    """The picture of what was played, in lines of at most BARS_IN_LINE bars: rhythm, piano roll, hits and velocity.

    path: of the PNG, which appears whole or not at all, or None: none is written. drums: onset, vel, timeoffset, each
    (T, 9), array or CPU tensor. rhythm: the same of the rhythm heard, of any length, or None. receipt: a Receipt of
    these drums. Of more than BARS_IN_PICTURE bars the first are drawn, and the title says so. Returns the Figure.
    """
    asked, got = receipt.asked, receipt.got
    bars = min(len(got), BARS_IN_PICTURE)
    lines = [slice(start, min(start + BARS_IN_LINE, bars)) for start in range(0, bars, BARS_IN_LINE)]
    words = [", ".join(receipt.origin()), *receipt.figures()]
    top = 1.1 + 0.19 * len(words)
    line_height = sum(PANELS) + PANEL_GAP * (len(PANELS) - 1) + LINE_GAP
    figure = _figure(bars, top + len(lines) * line_height - LINE_GAP + BELOW)
    most = 1.15 * np.nanmax([20, *got.hits, *asked.hits])
    for number, line in enumerate(lines):
        axes = _panels(figure, top + number * line_height, PANELS, PANEL_GAP, steps_per_bar, line)
        above, roll, hits, velocity = axes
        part = slice(line.start * steps_per_bar, line.stop * steps_per_bar)
        here = [rolls[part] for rolls in drums]
        draw_roll(roll, *here)
        _draw_rhythm(above, None if rhythm is None else [rolls[part] for rolls in rhythm], here[0], roll)
        _draw_voices(roll, asked.voices[line], got.voices[line], steps_per_bar)
        _draw_styles(above, asked.style[line], steps_per_bar)
        _draw_control(hits, "hits per bar", got.hits[line], asked.hits[line], most, steps_per_bar)
        _draw_control(velocity, "mean velocity", got.velocity[line], asked.velocity[line], 127, steps_per_bar)

    entries = [RHYTHM_ENTRY, UNANSWERED_ENTRY] if rhythm is not None else []
    entries.append(Patch(color=GOT, label="played"))
    if not (np.isnan(asked.hits).all() and np.isnan(asked.velocity).all() and np.isnan(asked.voices).all()):
        entries.append(
            Line2D(
                [], [], color=ASKED, linewidth=2, label="asked (in the roll: played/asked, red where missed)"
            )
        )
    if (asked.voices < 0).any():
        entries.append(Patch(color=FORBIDDEN, label="forbidden"))
    title += f"   bars 1 to {bars} of {len(got)}" if bars < len(got) else ""
    return _finish(figure, title, entries, path, words)


def draw_takes(path, takes, rhythm, steps_per_bar, title):
    """Write a PNG of several takes to one rhythm: the rhythm above, then a piano roll for each, all on one grid.

    takes: name -> onset, vel, timeoffset, each (T, 9), array or CPU tensor, T the same for all. rhythm: the same of
    the rhythm heard. Above each bar of a roll stands how many hits it has and how loud they are on average.
    """
    bars = max(-(-len(onset) // steps_per_bar) for onset, _, _ in takes.values())
    heights, gap, top = [0.55] + [2.75] * len(takes), 0.3, 0.6
    figure = _figure(bars, top + sum(heights) + gap * len(takes) + BELOW)
    above, *rolls = _panels(figure, top, heights, gap, steps_per_bar, slice(0, bars))
    _draw_rhythm(above, [roll[: bars * steps_per_bar] for roll in rhythm])
    for axis, (name, drums) in zip(rolls, takes.items()):
        draw_roll(axis, *drums)
        axis.annotate(
            name,
            (0, 1),
            (-4, 4),
            "axes fraction",
            textcoords="offset points",
            ha="right",
            color=INK,
            fontsize=10,
            fontweight="bold",
        )
        got = measure(*(np.asarray(roll) for roll in drums[:2]), steps_per_bar)
        for bar, (hits, velocity) in enumerate(zip(got.hits, got.velocity)):
            text = f"{hits:.0f} hits, velocity {velocity:.0f}" if hits else "silent"
            axis.annotate(
                text,
                (bar * steps_per_bar - 0.3, 1),
                (0, 4),
                ("data", "axes fraction"),
                textcoords="offset points",
                color=FAINT,
                fontsize=8,
            )
    _finish(figure, title, [], path)


def draw_roll(axis, onset, vel, timeoffset):
    """Draw hits of nine voices, kick at the bottom: placed as they are timed, the darker and taller the louder."""
    onset, vel, timeoffset = (np.asarray(roll, dtype=np.float64) for roll in (onset, vel, timeoffset))
    for step, voice in zip(*np.nonzero(onset)):
        loud = vel[step, voice]
        height = HIT_HEIGHT * (0.45 + 0.55 * loud)
        left = step + timeoffset[step, voice] - 0.5
        axis.add_patch(
            Rectangle(
                (left, voice - height / 2), 0.82, height, facecolor=LOUDNESS(loud), linewidth=0, zorder=3
            )
        )
    axis.set_ylim(-0.6, N_VOICES - 0.4)
    axis.set_yticks(range(N_VOICES), [name.replace("_", " ") for name in VOICES])
    axis.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    for voice in range(N_VOICES):
        axis.axhline(voice, color=GRID, linewidth=0.8, zorder=1)


def _figure(bars, height):
    """An empty figure, `height` inches high and as wide as a line of so many bars."""
    return new_figure(max(10, LEFT + RIGHT + 2.6 * min(bars, BARS_IN_LINE)), height)


def _panels(figure, top, heights, gap, steps_per_bar, line):
    """Panels of these heights for the bars of `line`, a slice, from `top` inches below the figure's upper edge, with
    lines on bars and quarters. All lines of a figure are to one scale."""
    width, height = figure.get_size_inches()
    bars = line.stop - line.start
    share = bars / BARS_IN_LINE if line.start else 1  # the first line is as long as any
    axes = []
    for tall in heights:
        rectangle = (
            LEFT / width,
            1 - (top + tall) / height,
            share * (width - LEFT - RIGHT) / width,
            tall / height,
        )
        axes.append(figure.add_axes(rectangle))
        _prepare(axes[-1], bars, steps_per_bar)
        top += tall + gap
    for axis in axes[:-1]:
        axis.set_xticks([])
    middles = [(bar + 0.5) * steps_per_bar - 0.5 for bar in range(bars)]
    axes[-1].set_xticks(middles, [f"bar {line.start + bar + 1}" for bar in range(bars)])
    axes[-1].tick_params(axis="x", labelsize=9, labelcolor=INK)
    return axes


def _prepare(axis, bars, steps_per_bar):
    """A bare panel with lines on the bars and the quarters; a step is centred on its whole number."""
    axis.set_xlim(-0.75, bars * steps_per_bar - 0.25)
    bare(axis)
    for bar in range(bars):
        if bar % 2 == 0:
            axis.axvspan(
                bar * steps_per_bar - 0.5, (bar + 1) * steps_per_bar - 0.5, color=BAND, zorder=0, linewidth=0
            )
        for quarter in range(1, 4):
            axis.axvline(
                bar * steps_per_bar + quarter * steps_per_bar / 4 - 0.5, color=GRID, linewidth=0.7, zorder=1
            )
    for bar in range(bars + 1):
        axis.axvline(bar * steps_per_bar - 0.5, color=FAINT, linewidth=0.9, zorder=1)


def _draw_rhythm(axis, rhythm, onset=None, roll=None):
    """onset (T, 9): of the drums; taps that they leave unanswered stand out, and are drawn down through the roll."""
    axis.set_ylim(0, 1.05)
    axis.set_yticks([0.5], ["no rhythm" if rhythm is None else "rhythm"])
    axis.tick_params(axis="y", labelsize=9, labelcolor=INK)
    if rhythm is None:
        return
    tap, vel, timeoffset = (np.asarray(part, dtype=np.float64) for part in rhythm)
    if onset is not None:
        tap = tap[: len(onset)]
    step, voice = np.nonzero(tap)
    time, loud = step + timeoffset[step, voice] - 0.09, vel[step, voice]
    answered = np.ones(len(step), bool) if onset is None else (np.asarray(onset) > 0).any(-1)[step]
    colours = np.where(answered, RHYTHM, ASKED)
    axis.vlines(time, 0, loud, color=colours, linewidth=np.where(answered, 2, 1), zorder=3)
    axis.scatter(time, loud, s=16, color=np.where(answered, RHYTHM, "white"), edgecolors=colours, zorder=3)
    for missed in time[~answered]:
        roll.axvline(missed, color=ASKED, linewidth=1, linestyle=":", zorder=2)


def _draw_voices(axis, asked, got, steps_per_bar):
    """In the roll, above each voice and at the end of each bar of which it was asked: 'played/asked'. Forbidden bars
    are tinted. asked, got: hits (bars, 9)."""
    for bar, voice in np.argwhere(~np.isnan(asked)):
        wish, played = asked[bar, voice], got[bar, voice]
        left, right = bar * steps_per_bar - 0.5, (bar + 1) * steps_per_bar - 0.5
        if wish < 0:
            axis.add_patch(
                Rectangle(
                    (left, voice - 0.46), right - left, 0.92, facecolor=FORBIDDEN, linewidth=0, zorder=2
                )
            )
        else:
            look = {"color": FAINT} if is_met(wish, played) else {"color": ASKED, "fontweight": "bold"}
            axis.text(
                right - 0.12,
                voice + 0.5,
                f"{played:.0f}/{wish:.3g}",
                ha="right",
                va="center",
                fontsize=7,
                zorder=4,
                **look,
            )


def _draw_styles(axis, styles, steps_per_bar):
    names = [style_name(style) for style in styles]
    for bar, name in enumerate(names):
        if name != style_name(STYLE_NONE) and (bar == 0 or name != names[bar - 1]):
            axis.text(bar * steps_per_bar - 0.3, 1.12, name, color=ASKED, fontsize=9, va="bottom")


def _draw_control(axis, name, got, asked, top, steps_per_bar):
    """One bar of the chart for each bar of music, with a line at what was asked of it, and below it both in figures."""
    left = np.arange(len(got)) * steps_per_bar - 0.5
    axis.bar(left + 0.5, np.nan_to_num(got), steps_per_bar - 1, align="edge", color=GOT, zorder=2)
    axis.set_ylim(-0.45 * top, top)
    axis.set_yticks([top / 2], [name])
    axis.tick_params(axis="y", labelsize=9, labelcolor=INK)
    for bar, played in enumerate(got):
        wish = asked[bar]
        text = "silent" if np.isnan(played) else f"{played:.0f}"
        axis.text(
            left[bar] + 0.5, 0.05, text, transform=axis.get_xaxis_transform(), color=INK, fontsize=9, zorder=5
        )
        if not np.isnan(wish):
            axis.hlines(
                wish, left[bar] + 0.3, left[bar] + steps_per_bar - 0.3, color=ASKED, linewidth=2, zorder=4
            )
            axis.text(
                left[bar] + steps_per_bar - 0.5,
                0.05,
                f"{wish:.3g}",
                transform=axis.get_xaxis_transform(),
                ha="right",
                color=ASKED,
                fontsize=9,
                zorder=5,
            )


def _finish(figure, title, entries, path, words=()):
    """Title, words, legend and the scale of loudness around the panels; then the file. Returns the figure."""
    width, height = figure.get_size_inches()
    below = figure.axes[1].get_position()
    figure.suptitle(
        title, x=LEFT / width, y=1 - 0.11 / height, ha="left", color=INK, fontsize=12, fontweight="bold"
    )
    for number, line in enumerate(words):
        figure.text(LEFT / width, 1 - (0.4 + 0.19 * number) / height, line, color=INK, fontsize=9, va="top")
    if entries:
        figure.legend(
            handles=entries,
            loc="upper left",
            bbox_to_anchor=(LEFT / width - 0.01, 1 - (0.42 + 0.19 * len(words)) / height),
            ncols=len(entries),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
    scale = figure.add_axes([below.x1 + 0.15 / width, below.y1 - 2.6 / height, 0.09 / width, 2.2 / height])
    scale.imshow(
        np.linspace(0, 1, 64)[:, None],
        cmap=LOUDNESS,
        norm=Normalize(0, 1),
        aspect="auto",
        origin="lower",
        extent=(0, 1, 1, 127),
    )
    bare(scale)
    scale.set_xticks([])
    scale.set_yticks([1, 64, 127])
    scale.yaxis.tick_right()
    scale.set_title("velocity", fontsize=8, color=FAINT, loc="left")
    if path is not None:
        save(figure, path)
    return figure
