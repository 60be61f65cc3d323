"""Pictures of an evaluation, from the figures of its JSON and what was played."""

from pathlib import Path

import numpy as np

from utils.canvas import FAINT, GRID, INK, bare, new_figure, save
from utils.midi.drums import VOICES
from utils.playing.plots import draw_takes

ROLLS = 3  # windows that are drawn as piano rolls
RED, BLUE, AMBER, GREY = "#c0394d", "#3d8296", "#c9973a", "#b9c2c6"
ROWS = {"floor": GREY, "real": INK, "controls unset": RED, "true controls": BLUE}
MODES = {"unset": RED, "held": BLUE}
GUESSES = {  # row of the onsets -> line and colour
    "training mean": (":", FAINT),
    "training mean given the tap": ("--", FAINT),
    "nearest training tap": ("-.", FAINT),
    "greedy": ("o-", AMBER),
    "sampled": ("o-", RED),
    "consensus": ("o-", BLUE),
}


def draw_pictures(figures, player, sets, folder):
    """Write PNGs of the parts that were measured, where they have any. Returns their names. Raises ValueError
    that names what can't be written."""
    folder, drawn = Path(folder), []
    if "tap" in figures:
        drawn += ["f1_by_bar.png"]
        draw_bars(figures["tap"]["by bar"], folder / drawn[-1])
    if "controls" in figures:
        drawn += ["controls.png"]
        draw_sweeps(figures["controls"], folder / drawn[-1])
    if "realism" in figures:
        drawn += ["voices.png", "histograms.png"]
        draw_rates(figures["realism"]["likeness"]["T4"], folder / drawn[-2])
        draw_histograms(figures["realism"]["histograms"]["T4"], folder / drawn[-1])
        drawn += draw_rolls(player, sets("T4"), folder)
    return drawn


def draw_sweeps(figures, path):
    """Asked against got, at the shortest and (dashed) the longest length: the mean, and 80 % of the bars."""
    shortest, *_, longest = [*figures["curves"], *figures["curves"]]
    rows = [row for row, of in figures["curves"][shortest].items() if of and row.endswith(", others unset")]
    panels = [(row.removesuffix(", others unset").replace("_", " "), "asked", "played") for row in rows]
    picture, axes = _panels("What was asked of a bar, and what was played", panels, 4, 2.7, 13.6)
    for axis, row in zip(axes, rows):
        for mode, colour in MODES.items():
            for length, line in {longest: "--", shortest: "-"}.items():
                points = figures["curves"][length][row.replace("others unset", f"others {mode}")]["curve"]
                asked, mean, low, high = _columns(points, "asked", "mean", "low", "high")
                label = f"others {mode}, {length}"
                axis.plot(asked, mean, line, color=colour, linewidth=1.5, label=label)
            axis.fill_between(asked, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.axline((0, 0), slope=1, color=FAINT, linewidth=0.8, label="as asked")
        ends = [figures["bars"][shortest][row][end]["value"] for end in ("from", "to")]
        axis.set(xlim=ends, ylim=ends)
    picture.legend(*axes[0].get_legend_handles_labels(), loc="lower right", frameon=False, fontsize=9)
    save(picture, path)


def draw_bars(figures, path):
    """F1 by the bar of the window, with intervals; what needs no model as thin lines."""
    panels = [(name, "bar", "F1") for name in figures]
    picture, axes = _panels("Onset F1 by bar of the window, controls unset", panels, 2, 3.6, 10)
    for axis, (name, rows) in zip(axes, figures.items()):
        for row, (line, colour) in GUESSES.items():
            value, low, high = _columns(list(rows[row].values())[: int(name[1:])], "value", "low", "high")
            bars, error = 1 + np.arange(len(value)), (value - low, high - value) if "o" in line else None
            axis.errorbar(bars, value, error, fmt=line, color=colour, markersize=4, capsize=2, label=row)
        axis.set(xticks=bars, ylim=(0, 1))
    axes[-1].legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower left", ncols=2)
    save(picture, path)


def draw_rates(likeness, path):
    """How often each voice is hit."""
    picture, (axis,) = _panels("Hits per step of each voice", [("", "", "hits per step")], 1, 3.6, 9)
    for index, (row, colour) in enumerate(ROWS.items()):
        rates = [likeness[row][f"onset rate, {voice}"]["value"] for voice in VOICES]
        axis.bar(np.arange(len(VOICES)) + index * 0.2 - 0.3, rates, 0.18, color=colour, label=row)
    axis.set_xticks(range(len(VOICES)), [voice.replace("_", " ") for voice in VOICES])
    axis.legend(frameon=False, fontsize=9, labelcolor=INK)
    save(picture, path)


def draw_histograms(shares, path):
    """Velocity and offset of the hits."""
    scales = {"velocity": (0, 127), "offset": (-0.5, 0.5)}
    units = ("MIDI velocity", "offset, steps; negative is early")
    panels = [(head, unit, "share of the hits") for head, unit in zip(scales, units)]
    picture, axes = _panels("Velocity and timing of the hits", panels, 2, 3.6, 10)
    for axis, (head, ends) in zip(axes, scales.items()):
        for row, colour in ROWS.items():
            filled = {"fill": True, "alpha": 0.6} if row == "floor" else {"linewidth": 1.6}
            edges = np.linspace(*ends, len(shares[row][head]) + 1)
            axis.stairs(shares[row][head], edges, color=colour, label=row, **filled)
    axes[1].legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
    save(picture, path)


def draw_rolls(player, windows, folder):
    """A few windows: the tap, the real drums, two samples, and one with the true controls. Returns the names
    of the pictures."""
    unset, given = player(windows, "unset"), player(windows, "given")
    chosen = np.linspace(0, len(windows) - 1, min(ROLLS, len(windows))).round().astype(int)
    for number, index in enumerate(chosen, start=1):
        takes = {"real": [roll[index] for roll in windows.rolls]}
        for sample in range(min(2, len(unset[0]))):
            takes[f"sample {sample + 1}"] = [roll[sample, index] for roll in unset]
        takes["true controls"] = [roll[0, index] for roll in given]
        tap = [windows.batch[name][index] for name in ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset")]
        title = f"{windows.name}, window {index + 1} of {len(windows)}: controls unset, and true controls"
        draw_takes(folder / f"roll_{number}.png", takes, tap, windows.grid, title)
    return [f"roll_{number}.png" for number in range(1, len(chosen) + 1)]


def _panels(title, panels, columns, height, width):
    """A figure, and its axes: one for each of `panels` (title, label across, label up); height of a row."""
    rows = -(-len(panels) // columns)
    picture = new_figure(width, rows * height + 0.5)
    picture.suptitle(title, x=0.02, ha="left", color=INK, fontsize=12, fontweight="bold")
    axes = picture.subplots(rows, columns, squeeze=False).ravel()
    picture.set_layout_engine("constrained")
    for axis, (name, across, up) in zip(axes, panels):
        bare(axis)
        axis.grid(color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.set_title(name, fontsize=10, color=INK, loc="left")
        axis.set_xlabel(across, fontsize=8, color=FAINT)
        axis.set_ylabel(up, fontsize=8, color=FAINT)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return picture, axes


def _columns(points, *keys):
    """Of a list of dicts, the values of each key as an array."""
    return [np.array([point[key] for point in points]) for key in keys]
