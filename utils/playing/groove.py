"""What an ear asks of drums first: a backbeat, a timekeeper, and bars that are like the ones before them."""

import numpy as np

from model.controls import measure_steady
from utils.midi.drums import STYLES, VOICES, voice_index

KEEPS_TIME = 4  # hits in a bar, of the hats or of the ride
TIMEKEEPERS = [voice_index(name) for name in ("closed_hat", "open_hat", "ride")]
# Which voice falls on two and four, by style; the snare elsewhere. Of the styles with None none does: in the
# training split of the Groove MIDI Dataset a loud snare is there in less than a third of their bars.
BACKBEAT = {"jazz": "closed_hat", "reggae": "kick"} | dict.fromkeys(
    ("latin", "punk", "highlife", "middleeastern", "afrocuban", "neworleans")
)


def groove_of(onset, grid, style=None):
    """The figures of drums, onset (T, 9), by name; NaN where there is nothing to measure.

    hits: per bar. backbeat: share of the beats two and four with a snare, or with what a style (its id, None:
    not known) has in its place, in bars of four beats. timekeeper: share of the bars with four hits or more
    of the hats, or of the ride. likeness: F1 of a bar with the one before, on average.
    """
    onset = np.asarray(onset) > 0
    bars = [onset[steps] for steps in grid.bars()]
    voice = BACKBEAT.get(STYLES[style] if style is not None and style < len(STYLES) else None, "snare")
    on_beats = [
        bar[start, VOICES.index(voice)]
        for bar, beats in zip(bars, grid.beats)
        if voice and len(beats) == 4
        for start in (beats[0], sum(beats[:3]))
        if start < len(bar)
    ]
    keeps = [bar[:, TIMEKEEPERS].any(-1).sum() >= KEEPS_TIME for bar in bars]
    likeness = measure_steady(onset.astype(np.float32), None, grid)
    return {
        "hits": onset.sum() / max(len(bars), 1),
        "backbeat": _mean(on_beats),
        "timekeeper": _mean(keeps),
        "likeness": _mean(likeness[~np.isnan(likeness)]),
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan
