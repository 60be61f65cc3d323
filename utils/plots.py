"""Pictures of drums: the piano roll with the rhythm above it and the controls below it, asked beside played; or
several takes to one rhythm, one roll below the other."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from utils.canvas import FAINT, GRID, INK, bare, new_figure, save
from utils.controls import asked_voices, measure, style_name
from utils.drums import N_VOICES, STYLE_NONE, VOICES

BAND = "#f6f7f8"
ASKED, GOT, RHYTHM, FORBIDDEN = "#c0394d", "#c3d8df", "#5b6770", "#f3dadd"
LOUDNESS = LinearSegmentedColormap.from_list("loudness", ["#c9dde2", "#3d8296", "#0b3142"])
HIT_HEIGHT = 0.72
RHYTHM_ENTRY = Line2D([], [], color=RHYTHM, marker="o", markersize=4, linewidth=2, label="rhythm")


def draw_result(path, drums, rhythm, asked, got, steps_per_bar, title):
    """Write a PNG of what was played. The file appears whole or not at all.

    drums: onset, vel, timeoffset, each (T, 9), array or CPU tensor. rhythm: the same of the rhythm heard, of
    any length, or None. asked, got: Bars of utils.controls, or asked None: nothing was asked.
    """
    bars = len(got)
    figure, (above, roll, hits, velocity) = _panels(bars, steps_per_bar, [0.8, 4.2, 1.1, 1.1], 7.6)
    _draw_rhythm(above, rhythm, bars * steps_per_bar)
    draw_roll(roll, *drums)
    if asked is not None:
        _draw_voices(roll, asked, got, steps_per_bar)
        _draw_styles(above, asked, steps_per_bar)
    most = np.nanmax([20, *got.hits, *([] if asked is None else asked.hits)])
    _draw_control(hits, "hits per bar", got.hits, asked and asked.hits, 1.15 * most, steps_per_bar)
    _draw_control(velocity, "mean velocity", got.velocity, asked and asked.velocity, 127, steps_per_bar)

    entries = [RHYTHM_ENTRY, Patch(color=GOT, label="played")]
    if asked is not None:
        entries.append(Line2D([], [], color=ASKED, linewidth=2, label="asked (in the roll: played/asked)"))
        if (asked.voices < 0).any():
            entries.append(Patch(color=FORBIDDEN, label="forbidden"))
    _finish(figure, title, entries, path)


def draw_takes(path, takes, rhythm, steps_per_bar, title):
    """Write a PNG of several takes to one rhythm: the rhythm above, then a piano roll for each, all on one grid.

    takes: name -> onset, vel, timeoffset, each (T, 9), array or CPU tensor, T the same for all. rhythm: the same of
    the rhythm heard. Above each bar of a roll stands how many hits it has and how loud they are on average.
    """
    bars = max(-(-len(onset) // steps_per_bar) for onset, _, _ in takes.values())
    figure, (above, *rolls) = _panels(bars, steps_per_bar, [0.8] + [4.0] * len(takes), 1.7 + 3.1 * len(takes), 0.5, 0.2)
    _draw_rhythm(above, rhythm, bars * steps_per_bar)
    for axis, (name, drums) in zip(rolls, takes.items()):
        draw_roll(axis, *drums)
        axis.annotate(name, (0, 1), (-4, 4), "axes fraction", textcoords="offset points", ha="right", color=INK,
                      fontsize=10, fontweight="bold")  # fmt: skip
        got = measure(*(np.asarray(roll) for roll in drums[:2]), steps_per_bar)
        for bar, (hits, velocity) in enumerate(zip(got.hits, got.velocity)):
            text = f"{hits:.0f} hits, velocity {velocity:.0f}" if hits else "silent"
            axis.annotate(text, (bar * steps_per_bar - 0.3, 1), (0, 4), ("data", "axes fraction"),
                          textcoords="offset points", color=FAINT, fontsize=8)  # fmt: skip
    _finish(figure, title, [], path)


def draw_roll(axis, onset, vel, timeoffset):
    """Draw hits of nine voices, kick at the bottom: placed as they are timed, the darker and taller the louder."""
    onset, vel, timeoffset = (np.asarray(roll, dtype=np.float64) for roll in (onset, vel, timeoffset))
    for step, voice in zip(*np.nonzero(onset)):
        loud = vel[step, voice]
        height = HIT_HEIGHT * (0.45 + 0.55 * loud)
        left = step + timeoffset[step, voice] - 0.5
        axis.add_patch(Rectangle((left, voice - height / 2), 0.82, height, facecolor=LOUDNESS(loud), linewidth=0, zorder=3))
    axis.set_ylim(-0.6, N_VOICES - 0.4)
    axis.set_yticks(range(N_VOICES), [name.replace("_", " ") for name in VOICES])
    axis.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    for voice in range(N_VOICES):
        axis.axhline(voice, color=GRID, linewidth=0.8, zorder=1)


def _panels(bars, steps_per_bar, heights, height, top=1, gap=0.12):
    """A figure, `height` inches high, `top` of them above the panels, and the panels, with lines on bars and quarters."""
    figure = new_figure(max(10, 2 + 2.6 * min(bars, 8)), height)
    axes = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights, "hspace": gap})
    width = figure.get_figwidth()
    figure.subplots_adjust(left=1.2 / width, right=1 - 0.8 / width, bottom=0.38 / height, top=1 - top / height)
    for axis in axes:
        _prepare(axis, bars, steps_per_bar)
    middles = [(bar + 0.5) * steps_per_bar - 0.5 for bar in range(bars)]
    axes[-1].set_xticks(middles, [f"bar {bar + 1}" for bar in range(bars)])
    axes[-1].tick_params(axis="x", labelsize=9, labelcolor=INK)
    return figure, axes


def _prepare(axis, bars, steps_per_bar):
    """A bare panel with lines on the bars and the quarters; a step is centred on its whole number."""
    axis.set_xlim(-0.75, bars * steps_per_bar - 0.25)
    bare(axis)
    for bar in range(bars):
        if bar % 2 == 0:
            axis.axvspan(bar * steps_per_bar - 0.5, (bar + 1) * steps_per_bar - 0.5, color=BAND, zorder=0, linewidth=0)
        for quarter in range(1, 4):
            axis.axvline(bar * steps_per_bar + quarter * steps_per_bar / 4 - 0.5, color=GRID, linewidth=0.7, zorder=1)
    for bar in range(bars + 1):
        axis.axvline(bar * steps_per_bar - 0.5, color=FAINT, linewidth=0.9, zorder=1)


def _draw_rhythm(axis, rhythm, steps):
    axis.set_ylim(0, 1.05)
    axis.set_yticks([0.5], ["rhythm"])
    axis.tick_params(axis="y", labelsize=9, labelcolor=INK)
    if rhythm is None:
        return
    onset, vel, timeoffset = (np.asarray(roll, dtype=np.float64)[:steps] for roll in rhythm)
    step, voice = np.nonzero(onset)
    time, loud = step + timeoffset[step, voice], vel[step, voice]
    axis.vlines(time - 0.09, 0, loud, color=RHYTHM, linewidth=2, zorder=3)
    axis.scatter(time - 0.09, loud, s=16, color=RHYTHM, zorder=3)


def _draw_voices(axis, asked, got, steps_per_bar):
    """In the roll: 'played/asked' at the end of the bars of each voice that was asked for; forbidden bars tinted."""
    for voice in asked_voices(asked):
        for bar, wish in enumerate(asked.voices[:, voice]):
            left, right = bar * steps_per_bar - 0.5, (bar + 1) * steps_per_bar - 0.5
            if wish < 0:
                axis.add_patch(Rectangle((left, voice - 0.46), right - left, 0.92, facecolor=FORBIDDEN, linewidth=0, zorder=2))
            elif not np.isnan(wish):
                text = f"{got.voices[bar, voice]:.0f}/{wish:.3g}"
                axis.text(right - 0.12, voice + 0.48, text, ha="right", va="top", fontsize=7.5, color=ASKED, zorder=4)


def _draw_styles(axis, asked, steps_per_bar):
    for bar, style in enumerate(asked.style):
        if style != STYLE_NONE and (bar == 0 or style != asked.style[bar - 1]):
            axis.text(bar * steps_per_bar - 0.3, 1.12, style_name(style), color=ASKED, fontsize=9, va="bottom")


def _draw_control(axis, name, got, asked, top, steps_per_bar):
    """One bar of the chart for each bar of music, with a line at what was asked of it, and both in figures."""
    left = np.arange(len(got)) * steps_per_bar - 0.5
    axis.bar(left + 0.5, np.nan_to_num(got), steps_per_bar - 1, align="edge", color=GOT, zorder=2)
    axis.set_ylim(0, top)
    axis.set_yticks([top / 2], [name])
    axis.tick_params(axis="y", labelsize=9, labelcolor=INK)
    for bar, played in enumerate(got):
        wish = np.nan if asked is None else asked[bar]
        text = "silent" if np.isnan(played) else f"{played:.0f}"
        axis.text(left[bar] + 1, 0.04, text, transform=axis.get_xaxis_transform(), color=INK, fontsize=9, zorder=5)
        if not np.isnan(wish):
            axis.hlines(wish, left[bar] + 0.3, left[bar] + steps_per_bar - 0.3, color=ASKED, linewidth=2, zorder=4)
            axis.text(left[bar] + steps_per_bar - 1, 0.04, f"{wish:.3g}", transform=axis.get_xaxis_transform(),
                      ha="right", color=ASKED, fontsize=9, zorder=5)


def _finish(figure, title, entries, path):
    """Title, legend and the scale of loudness around the panels; then the file."""
    below, height = figure.axes[1].get_position(), figure.get_figheight()
    left, right = below.x0, below.x1
    figure.suptitle(title, x=left, y=1 - 0.11 / height, ha="left", color=INK, fontsize=12, fontweight="bold")
    if entries:
        figure.legend(handles=entries, loc="upper right", bbox_to_anchor=(right + 0.01, 1 - 0.33 / height),
                      ncols=len(entries), frameon=False, fontsize=9, labelcolor=INK)  # fmt: skip
    scale = figure.add_axes([right + 0.012, below.y1 - 2.8 / height, 0.007, 2.3 / height])
    scale.imshow(np.linspace(0, 1, 64)[:, None], cmap=LOUDNESS, norm=Normalize(0, 1), aspect="auto", origin="lower", extent=(0, 1, 1, 127))
    bare(scale)
    scale.set_xticks([])
    scale.set_yticks([1, 64, 127])
    scale.yaxis.tick_right()
    scale.set_title("velocity", fontsize=8, color=FAINT, loc="left")
    save(figure, path)
