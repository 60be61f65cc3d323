"""Pictures of an evaluation, from the figures of its JSON and what was played."""

from pathlib import Path

import numpy as np

from utils.canvas import FAINT, GRID, INK, bare, new_figure, save
from utils.midi.drums import VOICES
from utils.playing.plots import draw_takes

ROLLS = 3  # windows that are drawn as piano rolls
COLOURS = {"real": INK, "unset": "#c0394d", "given": "#3d8296", "held": "#3d8296", "floor": "#b9c2c6"}
NAMES = {"real": "real", "unset": "controls unset", "given": "true controls", "floor": "real, other split"}


def draw_pictures(figures, player, sets, folder):
    """Write a PNG for each part that was measured into the folder. Raises ValueError that names a file that can't be
    written."""
    folder = Path(folder)
    if "tap" in figures:
        draw_bars(figures["tap"], folder / "f1_by_bar.png")
    if "controls" in figures:
        draw_sweeps(figures["controls"], folder / "controls.png")
    if "realism" in figures:
        draw_rates(figures["realism"]["likeness"]["T4"], folder / "voices.png")
        draw_histograms(figures["realism"]["histograms"]["T4"], folder / "histograms.png")
        draw_rolls(player, sets("T4"), folder)


def draw_sweeps(figures, path):
    """Asked against got for each control, at the shortest and (dashed) the longest length: the mean, and where 80 % of
    the bars of the shortest lie."""
    controls = list(figures["ranges"])
    picture, axes = _panels("What was asked of a bar, and what was played", -(-len(controls) // 4), 4, 2.7)
    bars = list(figures["bars"])
    short, long = figures["bars"][bars[0]], figures["bars"][bars[-1]]
    for axis, control in zip(axes, controls):
        for mode in ("unset", "held"):
            for length, style in ((short, "-"), (long, "--")):
                points = length[control][mode]["curve"]
                asked, mean, low, high = _columns(points, "asked", "mean", "low", "high")
                axis.plot(asked, mean, style, color=COLOURS[mode], linewidth=1.5, zorder=3)
                if style == "-":
                    axis.fill_between(
                        asked, low, high, color=COLOURS[mode], alpha=0.12, linewidth=0, zorder=2
                    )
        axis.axline((0, 0), slope=1, color=FAINT, linewidth=0.8, zorder=1)
        low, high = figures["ranges"][control]
        axis.set_xlim(low, high)
        axis.set_ylim(low, high)
        unit = "mean velocity" if control == "intensity" else "hits per bar"
        _label(axis, control.replace("_", " "), f"asked, {unit}", "played")
    spare = axes[len(controls)]
    spare.plot([], [], color=FAINT, label="as asked")
    for length, style in ((bars[0], "-"), (bars[-1], "--")):
        for mode in ("unset", "held"):
            spare.plot([], [], style, color=COLOURS[mode], label=f"others {mode}, {length} bars")
    spare.legend(frameon=False, fontsize=9, labelcolor=INK, loc="center")
    for axis in axes[len(controls) :]:
        axis.set_axis_off()
    save(picture, path)


def draw_bars(figures, path):
    """F1 by the bar of the window, with intervals, for each set; what needs no model as thin lines."""
    picture, axes = _panels("Onset F1 by bar of the window, controls unset", 1, len(figures), 3.6, width=10)
    colours = {"sampled": COLOURS["unset"], "consensus": COLOURS["given"], "greedy": "#c9973a"}
    plain = {"training mean": ":", "training mean given the tap": "--", "nearest training tap": "-."}
    for axis, (name, of) in zip(axes, figures.items()):
        bars = 1 + np.arange(len(of["onsets"]["sampled"]["by bar"]))
        for row in (*plain, *colours):
            value, low, high = _columns(of["onsets"][row]["by bar"], "value", "low", "high")
            if row in plain:
                axis.plot(bars, value, plain[row], color=FAINT, linewidth=1.2, label=row, zorder=1)
                continue
            style = {"fmt": "o-", "color": colours[row], "markersize": 4, "capsize": 2, "label": row}
            axis.errorbar(
                bars + 0.04 * (list(colours).index(row) - 1), value, (value - low, high - value), **style
            )
        axis.set_xticks(bars)
        axis.set_ylim(0, 1)
        _label(axis, name, "bar", "F1")
    axes[-1].legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower left", ncols=2)
    save(picture, path)


def draw_rates(likeness, path):
    """How often each voice is hit."""
    picture, (axis,) = _panels("Hits per step of each voice", 1, 1, 3.6, width=9)
    rows = [row for row in ("floor", "real", "unset", "given") if row in likeness]
    for index, row in enumerate(rows):
        left = np.arange(len(VOICES)) + (index - (len(rows) - 1) / 2) * 0.2
        rates = [likeness[row][f"onset rate, {voice}"] for voice in VOICES]
        axis.bar(left, rates, 0.18, color=COLOURS[row], label=NAMES[row])
    axis.set_xticks(range(len(VOICES)), [voice.replace("_", " ") for voice in VOICES])
    axis.legend(frameon=False, fontsize=9, labelcolor=INK)
    _label(axis, "", "", "hits per step")
    save(picture, path)


def draw_histograms(shares, path):
    """Velocity and offset of the hits."""
    picture, axes = _panels("Velocity and timing of the hits", 1, 2, 3.6, width=10)
    scales = {
        "velocity": (0, 127, "MIDI velocity"),
        "offset": (-0.5, 0.5, "offset, steps; negative is early"),
    }
    for axis, (head, (low, high, unit)) in zip(axes, scales.items()):
        for row in ("floor", "real", "unset", "given"):
            edges = np.linspace(low, high, len(shares[row][head]) + 1)
            filled = {"fill": True, "alpha": 0.6} if row == "floor" else {"linewidth": 1.6}
            axis.stairs(shares[row][head], edges, color=COLOURS[row], label=NAMES[row], **filled)
        axis.set_xlim(low, high)
        axis.set_ylim(bottom=0)
        _label(axis, head, unit, "share of the hits")
    axes[1].legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
    save(picture, path)


def draw_rolls(player, windows, folder):
    """A few windows: the tap, the real drums, two samples, and one with the true controls."""
    unset, given = player(windows, "unset"), player(windows, "given")
    chosen = np.linspace(0, len(windows) - 1, min(ROLLS, len(windows))).round().astype(int)
    for number, index in enumerate(chosen, start=1):
        takes = {"real": [roll[index] for roll in windows.rolls]}
        for sample in range(min(2, len(unset[0]))):
            takes[f"sample {sample + 1}"] = [roll[sample, index] for roll in unset]
        takes["true controls"] = [roll[0, index] for roll in given]
        tap = [windows.batch[name][index] for name in ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset")]
        title = f"{windows.name}, window {index + 1} of {len(windows)}: controls unset, and true controls"
        grid = player.model.grid(len(tap[0]))
        draw_takes(folder / f"roll_{number}.png", takes, tap, grid, title)


def _panels(title, rows, columns, height, width=None):
    """A figure with `rows` rows of `height` inches each, its title, and its axes in order."""
    picture = new_figure(width or 3.4 * columns, rows * height + 0.5)
    picture.suptitle(title, x=0.02, ha="left", color=INK, fontsize=12, fontweight="bold")
    axes = picture.subplots(rows, columns, squeeze=False).ravel()
    picture.set_layout_engine("constrained")
    for axis in axes:
        bare(axis)
        axis.grid(color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
    return picture, axes


def _columns(points, *keys):
    """Of a list of dicts, the values of each key as an array."""
    return [np.array([point[key] for point in points]) for key in keys]


def _label(axis, title, across, up):
    axis.set_title(title, fontsize=10, color=INK, loc="left")
    axis.set_xlabel(across, fontsize=8, color=FAINT)
    axis.set_ylabel(up, fontsize=8, color=FAINT)
