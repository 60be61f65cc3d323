"""What stands in the panels of a picture: drums, rhythm, controls, and the numbers and names above them.

A panel is a matplotlib axis with a step centred on its whole number; all lengths are inches unless said.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from model.controls import MIDI_VELOCITIES
from utils.canvas import FAINT, GRID, INK, bare
from utils.midi.drums import VOICES, voice_index
from utils.playing.controls import NO_STYLE, NUMBERS, style_name

# A drummer's order, from the top: cymbals and hats, toms from high to low, snare and kick.
ORDER = "crash ride open_hat closed_hat", "high_tom mid_tom floor_tom", "snare kick"
APART = 0.3  # rows between these groups

BAND, ASKED, GOT, RHYTHM = "#f5f7f8", "#c0394d", "#c3d8df", "#d9822b"
TAPPED = "#fcf0e2"  # behind the drums, where the rhythm has a note
FORBIDDEN = {"facecolor": "none", "edgecolor": "#d3d9dc", "hatch": "/////", "linewidth": 0}
LOUDNESS = LinearSegmentedColormap.from_list("loudness", ["#c9dde2", "#3d8296", "#0b3142"])
LOUDNESS_ANEW = LinearSegmentedColormap.from_list("anew", ["#e3d5f1", "#8a55bd", "#3a1266"])
LOUDNESS_RHYTHM = LinearSegmentedColormap.from_list("rhythm", ["#f6ddbf", RHYTHM])
SECTIONS = "#cfe3ea", "#f6dfc5", "#dcd5ee", "#d2e9d4", "#f5d5da", "#efe6b8"  # each name has one, in turn

LEFT, GAP = 1.2, 0.1  # beside and between panels
RULER, RIBBON = 0.42, 0.22  # above them
BAR_NUMBER, LETTER = 0.6, 0.08  # how wide they are at most
HIT_WIDTH, MOST_HIT_WIDTH = 0.82, 0.22  # steps; inches
NEAR_VELOCITY = 3  # what nobody hears
MOST_PLACES, MOST_NUMBERS = 2000, 24  # along an overview: columns; bars with a number


def _rows():
    """The row of each voice, the kick's 0; those between groups are APART."""
    row, rows = 0.0, np.zeros(len(VOICES))
    for group in reversed(ORDER):
        for name in reversed(group.split()):
            rows[voice_index(name)] = row
            row += 1
        row += APART
    return rows


ROWS = _rows()
FROM_THE_TOP = np.argsort(-ROWS)


def panels(figure, top, heights, step, grid, gap=GAP, lines=True):
    """Panels of these heights below each other, the first `top` below the figure's upper edge. step: how wide
    a step is. lines: with lines on bars and beats, and every other bar tinted."""
    width, height = figure.get_size_inches()
    axes = []
    for tall in heights:
        box = LEFT / width, 1 - (top + tall) / height, step * grid.n_steps / width, tall / height
        axis = figure.add_axes(box)
        axis.set_xlim(-0.5, grid.n_steps - 0.5)
        axis.set_xticks([])
        bare(axis)
        axis.tick_params(labelsize=9, labelcolor=INK)
        if lines:
            _draw_lines(axis, grid)
        axes.append(axis)
        top += tall + gap
    return axes


def _draw_lines(axis, grid):
    for left, right in zip(grid.lines[::2], grid.lines[1::2]):
        axis.axvspan(left - 0.5, right - 0.5, color=BAND, zorder=0, linewidth=0)
    for step in np.flatnonzero((grid.index.place_in_beat == 0) & (grid.index.place > 0)):
        axis.axvline(step - 0.5, color=GRID, linewidth=0.7, zorder=1)
    for step in grid.lines:
        axis.axvline(step - 0.5, color=FAINT, linewidth=0.9, zorder=1, clip_on=False)


def _step_of(axis):
    """The width of a step of a panel."""
    first, last = axis.get_xlim()
    return axis.get_position().width * axis.figure.get_size_inches()[0] / (last - first)


def _above(axis, inches):
    """The place so much above a panel, in its own heights."""
    return 1 + inches / (axis.get_position().height * axis.figure.get_size_inches()[1])


# ---- what is in them


def draw_roll(axis, onset, vel, timeoffset, anew=None):
    """Draw hits, a drummer's cymbals at the top, placed as they are timed, the darker and taller the louder;
    those of `anew` (T, 9) bool in another colour."""
    onset, vel, timeoffset = (np.asarray(roll, dtype=np.float64) for roll in (onset, vel, timeoffset))
    width = _hit_width(axis)
    for step, voice in zip(*np.nonzero(onset)):
        loud, colours = vel[step, voice], LOUDNESS
        if anew is not None and anew[step, voice]:
            colours = LOUDNESS_ANEW
        height = 0.28 + 0.34 * loud
        corner = step + timeoffset[step, voice] - 0.5, ROWS[voice] - height / 2
        look = {"facecolor": colours(loud), "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
        axis.add_patch(Rectangle(corner, width, height, **look))
    axis.set_ylim(-0.6, ROWS.max() + 0.6)
    axis.set_yticks(ROWS, [name.replace("_", " ") for name in VOICES])
    axis.hlines(ROWS, *axis.get_xlim(), color=GRID, linewidth=0.8, zorder=1)


def draw_rhythm(axis, rhythm, onset=None, roll=None):
    """The notes of a rhythm, of any length. roll: the panel of the drums `onset` (T, 9): a note that they
    answer tints its place there, one that they don't is marked. Returns whether there is any of these."""
    axis.set_ylim(0, 1.08)
    axis.set_yticks([0.5], ["rhythm"])
    tap, vel, timeoffset = (np.asarray(part, dtype=np.float64) for part in rhythm)
    step, voice = np.nonzero(tap if roll is None else tap[: len(onset)])
    half = _hit_width(axis) / 2
    time, loud = step + timeoffset[step, voice] - 0.5 + half, vel[step, voice]
    answered = np.ones(len(step), bool) if roll is None else (onset > 0).any(-1)[step]
    colours = np.where(answered, RHYTHM, ASKED)
    axis.vlines(time, 0, loud, color=colours, linewidth=np.where(answered, 2.4, 1), zorder=3)
    axis.scatter(time, loud, s=22, color=np.where(answered, RHYTHM, "white"), edgecolors=colours, zorder=3)
    if roll is not None:
        for at in time[answered]:
            roll.axvspan(at - half, at + half, color=TAPPED, linewidth=0, zorder=0.5)
    for missed in time[~answered]:
        roll.axvline(missed, color=ASKED, linewidth=1, linestyle=":", zorder=2)
    return not answered.all()


def _hit_width(axis):
    """In steps."""
    return min(HIT_WIDTH, MOST_HIT_WIDTH / _step_of(axis))


def draw_voices(axis, asked, got, grid):
    """In the roll, above each voice and at the end of each bar of which it was asked: 'played/asked'.
    Forbidden bars are hatched. asked, got: hits (bars, 9)."""
    for bar, voice in np.argwhere(~np.isnan(asked)):
        wish, played = asked[bar, voice], got[bar, voice]
        left, right = (line - 0.5 for line in grid.lines[bar : bar + 2])
        if wish < 0:
            axis.add_patch(Rectangle((left, ROWS[voice] - 0.36), right - left, 0.72, zorder=2, **FORBIDDEN))
        else:
            place = right - 0.02 / _step_of(axis), ROWS[voice] + 0.5
            axis.text(*place, **_in_figures(played, wish), ha="right", va="center", fontsize=6.5, zorder=4)


def _in_figures(played, wish, near=0.5):
    """'played/asked' as arguments of a text, red where they are not near each other: whole numbers of hits
    can't come nearer than by a half."""
    met = abs(played - wish) <= near
    look = {"color": FAINT} if met else {"color": ASKED, "fontweight": "bold"}
    return look | {"s": f"{played:.0f}/{wish:.3g}"}


def _label(name):
    """What a control is called beside its panel."""
    words = {"density": "hits per bar", "intensity": "mean velocity"}
    return words.get(name, NUMBERS[name].wish.replace("_", " "))


def _most(name, got, asked):
    if name == "intensity":
        return MIDI_VELOCITIES
    return 1.15 * np.nanmax([20 if name == "density" else 1, *got, *asked])


def draw_control(axis, name, got, asked, grid):
    """A column for each bar, a line at what was asked of it, and below it both in figures."""
    left, lengths, top = np.array(grid.starts) - 0.5, np.array(grid.lengths), _most(name, got, asked)
    pad, near = 0.05 / _step_of(axis), NEAR_VELOCITY if name == "intensity" else 0.5
    axis.bar(left + pad, np.nan_to_num(got), lengths - 2 * pad, align="edge", color=GOT, zorder=2)
    axis.set_ylim(-0.5 * top, top)
    axis.set_yticks([top / 2], [_label(name)])
    for start, length, played, wish in zip(left, lengths, got, asked):
        plain = {"s": "silent" if np.isnan(played) else f"{played:.0f}", "color": FAINT}
        words = plain if np.isnan(wish) or np.isnan(played) else _in_figures(played, wish, near)
        axis.text(start + pad, 0.03, **words, transform=axis.get_xaxis_transform(), fontsize=8, zorder=5)
        if not np.isnan(wish):
            axis.hlines(wish, start + pad, start + length - pad, color=ASKED, linewidth=2, zorder=4)


# ---- an overview


def draw_strip(axis, drums, rhythm, anew):
    """All of it small: a row for the rhythm and for each voice; of several steps in a place the loudest."""
    onset, vel, _ = drums
    labels = [VOICES[voice].replace("_", " ") for voice in FROM_THE_TOP]
    loud = np.where(onset > 0, vel, 0).T[FROM_THE_TOP]
    image = np.where(anew.T[FROM_THE_TOP, :, None], LOUDNESS_ANEW(loud), LOUDNESS(loud))
    if rhythm is not None:
        heard = rhythm[1].max(-1)[: len(onset)]
        heard = np.pad(heard, (0, len(onset) - len(heard)))[None]
        labels, loud = ["rhythm", *labels], np.vstack([heard, loud])
        image = np.vstack([LOUDNESS_RHYTHM(heard), image])
    image[..., 3] = loud > 0
    place = -(-len(onset) // MOST_PLACES)
    starts = range(0, len(onset), place)
    loudest = [start + loud[:, start : start + place].argmax(1) for start in starts]
    rows = np.arange(len(image))
    image = np.stack([image[rows, step] for step in loudest], 1)
    limits, extent = axis.get_xlim(), (-0.5, len(starts) * place - 0.5, len(image), 0)
    axis.imshow(image, extent=extent, aspect="auto", interpolation="nearest", zorder=2)
    axis.set_xlim(limits)
    axis.hlines([*rows, len(rows)], *limits, color="white", linewidth=2.5, zorder=3)
    axis.set_yticks(rows + 0.5, labels)
    axis.tick_params(labelsize=8)


def draw_curve(axis, name, got, asked, grid):
    """A control along all bars: an area of what was played, a line of what was asked."""
    lines, top = np.array(grid.lines) - 0.5, _most(name, got, asked)
    axis.stairs(np.nan_to_num(got), lines, fill=True, color=GOT, zorder=2)
    axis.stairs(asked, lines, baseline=None, color=ASKED, linewidth=1.5, zorder=4)
    axis.set_ylim(0, top)
    axis.set_yticks([top / 2], [_label(name)])


def number_bars(axis, sections, grid):
    """Below an overview: the bars with which sections begin, or every so many, as far as there is room."""
    bars = np.cumsum([0] + [n for _, n in sections or [(None, grid.n_bars)]])[:-1]
    if not sections:
        bars = np.arange(0, grid.n_bars, 2 ** max(0, int(np.ceil(np.log2(grid.n_bars / MOST_NUMBERS)))))
    last = -np.inf
    for bar in bars:
        place = grid.lines[bar] - 0.5
        if (place - last) * _step_of(axis) > 0.35:
            look = {"transform": axis.get_xaxis_transform(), "va": "top", "color": INK, "fontsize": 9}
            axis.text(place, 1 - _above(axis, 0.06), str(bar + 1), **look)
            last = place


# ---- above them


def draw_ruler(axis, grid, first=0, styles=()):
    """Above a panel the numbers of bars, the first number `first`, and of beats; and styles where they
    change."""
    names = [style_name(style) for style in styles]
    look = {"transform": axis.get_xaxis_transform(), "va": "baseline", "fontsize": 9}
    small = look | {"color": FAINT, "fontsize": 8}
    beats, bars = _above(axis, 0.05), _above(axis, 0.22)
    for step in np.flatnonzero(grid.index.place_in_beat == 0):
        axis.text(step - 0.35, beats, str(grid.index.beat[step] + 1), **small)
    for bar, start in enumerate(grid.starts):
        axis.text(start - 0.35, bars, f"bar {first + bar + 1}", color=INK, weight="bold", **look)
    for bar, name in enumerate(names):
        if name != NO_STYLE and (bar == 0 or name != names[bar - 1]):
            room = int((grid.lengths[bar] * _step_of(axis) - BAR_NUMBER) / LETTER)
            name = name if len(name) <= room else name[: room - 1] + "…"
            axis.text(grid.starts[bar] - 0.35 + BAR_NUMBER / _step_of(axis), bars, name, color=ASKED, **look)


def draw_sections(axis, sections, grid, first=0, inches=0.04):
    """A ribbon above a panel, so many inches, with the names of the sections that lie in it. grid: of all
    bars; first: the bar with which the panel begins."""
    colours = dict(zip(dict.fromkeys(name for name, _ in sections or ()), SECTIONS * len(sections or ())))
    low, high = _above(axis, inches), _above(axis, inches + RIBBON - 0.04)
    begin, end = axis.get_xlim()
    last = 0
    for name, bars in sections or ():
        left, right = (grid.lines[bar] - grid.lines[first] - 0.5 for bar in (last, last + bars))
        left, right, last = max(left, begin), min(right, end), last + bars
        if left < right:
            look = {"transform": axis.get_xaxis_transform(), "zorder": 4}
            size = right - left - 0.02 / _step_of(axis), high - low
            axis.add_patch(Rectangle((left, low), *size, facecolor=colours[name], clip_on=False, **look))
            if size[0] * _step_of(axis) > LETTER * (len(name) + 1):
                middle = left + 0.06 / _step_of(axis), (low + high) / 2
                axis.text(*middle, name, color=INK, fontsize=9, va="center", **look)
