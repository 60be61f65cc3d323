"""Which drum cells the encoder gets to see, so that one model plays to a tap, humanises, adds a voice,
infills and continues. Shapes: B windows, T steps, V voices.
"""

import numpy as np

from utils.corpus import augment

SHORTEST_INFILL = 4  # steps
LONGEST_INFILL = 0.75  # of the window
KNOWN_VOICES = 0.5  # share of the playing voices that add_voice shows
KNOWN_SILENCE = 0.2  # share of the silent voices that it shows to be silent


def known_cells(vel, mask, grid, weights, rng):
    """Which cells of the drums the encoder sees, {"known_onset", "known_vel"}, each (B, T, V) bool, by a task
    drawn per window. grid: the BarGrid of the steps.

    tap: none. humanise: all onsets. add_voice: all of a random non-empty proper subset of the
    voices, playing ones preferred. infill: all but a span of steps, in half of the windows whole
    bars. continue: all before a random bar line; a window of one bar has none and is infilled.
    """
    n_rows, n_steps = mask.shape
    length = mask.sum(1)
    n_bars = grid.bars_within(length)
    weights = {name: weight for name, weight in weights if name != "keep_rhythm"}
    names = np.array(list(weights))
    task = names[augment.choose(rng, weights, n_rows)]
    task[(task == "continue") & (n_bars < 2)] = "infill"

    whole = (rng.random(n_rows) < 0.5) & (n_bars > 1)
    units = np.where(whole, n_bars, length)  # the span is of whole bars or of steps
    shortest = np.minimum(np.where(whole, 1, SHORTEST_INFILL), length)
    longest = (LONGEST_INFILL * units).astype(int)
    span = augment.random_span(rng, units, shortest, longest)
    start, stop = (np.where(whole, grid.line(edge), edge) for edge in span)
    outside_span = ~augment.between(start, stop, n_steps)
    bar_line = grid.line(rng.integers(1, np.maximum(n_bars, 2)))
    before = np.arange(n_steps) < bar_line[:, None]

    def when(name):
        return (task == name)[:, None]

    steps = (when("infill") & outside_span) | (when("continue") & before)
    voices = when("add_voice") & some_voices((vel > 0).any(1), rng)
    known_vel = (steps[..., None] | voices[:, None]) & mask[..., None]
    known_onset = known_vel | (when("humanise") & mask)[..., None]
    return {"known_onset": known_onset, "known_vel": known_vel}


def some_voices(plays, rng):
    """A random non-empty proper subset of the voices, (B, V) bool, from which voices play (B, V).

    At least one playing voice is in it, and at least one is left out where two play.
    """
    score = rng.random(plays.shape)
    known = score < np.where(plays, KNOWN_VOICES, KNOWN_SILENCE)
    ranked = np.argsort(rng.random(plays.shape) + plays, 1)
    row = np.arange(len(plays))
    known[row, ranked[:, -1]] = True
    known[row, ranked[:, -2]] = False
    return known
