"""What an ear asks of drums first: a backbeat, a timekeeper, and bars that are like the ones before them."""

import numpy as np

from model.controls import measure_steady
from utils.midi.drums import STYLES, voice_index
from utils.playing.controls import as_weights

KEEPS_TIME = 4  # steps of a bar on which a hat or the ride sounds
TIMEKEEPERS = [voice_index(name) for name in ("closed_hat", "open_hat", "ride")]
# Which voice falls on two and four, by style; the snare in the others. In those with None no voice does: in
# the training split of the Groove MIDI Dataset a loud snare is there in less than a third of their bars.
BACKBEAT = {"jazz": "closed_hat", "reggae": "kick"} | dict.fromkeys(
    ("latin", "punk", "highlife", "middleeastern", "afrocuban", "neworleans")
)
FEW = 4  # hits in a bar


def groove_of(onset, grid, styles):
    """The figures of drums, onset (T, 9), by name; NaN where there is nothing to measure. styles: of each bar
    of the grid, as Bars have them.

    hits: of a bar. backbeat: share of the beats two and four with a snare, or with what its style has in its
    place, in bars of four beats. timekeeper: share of the bars with a hat or the ride on four steps or more.
    likeness: F1 of a bar with the one before, on average.
    """
    onset = np.asarray(onset) > 0
    weights = np.nan_to_num(as_weights(styles))
    found = {"hits": [], "backbeat": [], "timekeeper": [], "likeness": []}
    for steps, beats, style in zip(grid.bars(), grid.beats, weights):
        bar = onset[steps]
        voice = BACKBEAT.get(STYLES[style.argmax()], "snare") if style.any() else "snare"
        if voice and len(beats) == 4:
            two_and_four = [place for place in (beats[0], sum(beats[:3])) if place < len(bar)]
            found["backbeat"] += bar[two_and_four, voice_index(voice)].tolist()
        found["hits"].append(bar.sum())
        found["timekeeper"].append(bar[:, TIMEKEEPERS].any(-1).sum() >= KEEPS_TIME)
    likeness = measure_steady(onset.astype(np.float32), None, grid)
    found["likeness"] = likeness[~np.isnan(likeness)]
    return {name: float(np.mean(values)) if len(values) else np.nan for name, values in found.items()}


def groove_missing(figures, asked):
    """How much of a groove is missing, 0 to 1: of the backbeat, unless fewer snares are asked for, a
    timekeeper and likeness, on average. asked: Bars."""
    two = not (asked["instrument"][:, voice_index("snare")] < 2).any()
    shares = [figures[name] for name in (*["backbeat"] * two, "timekeeper", "likeness")]
    there = [share for share in shares if not np.isnan(share)]
    return 1 - float(np.mean(there)) if there else 0.0


def advice(figures, asked):
    """Where drums are thin though nobody asked for that: what they lack, and what to try, in words, or None.
    asked: Bars."""
    said, voices = [], asked["instrument"]
    if figures["hits"] < FEW and np.isnan(asked["density"]).all() and np.isnan(voices).all():
        said.append(f"few hits ({figures['hits']:.1f} per bar)")
    if figures["timekeeper"] < 0.5 and np.isnan(voices[:, TIMEKEEPERS]).all():
        said.append("in most bars neither hat nor ride keeps time")
    if figures["backbeat"] < 0.5 and np.isnan(voices[:, voice_index("snare")]).all():
        said.append(f"a backbeat in only {100 * figures['backbeat']:.0f} % of its places")
    if not said:
        return None
    return f"{', '.join(said)}; try a beat (--beat rock), --best-of 8 or another take"
