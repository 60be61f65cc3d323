"""How real the drums look that are played, how they obey the true controls, how varied they are, and what is copied.

Each figure stands beside the same of real drums of the split, and of those of the other split: the floor, what two sets
of real drums differ by. Rolls are onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, (N, W, T, V).
"""

from dataclasses import dataclass

import numpy as np

from utils.evaluation.baselines import nearest_tap
from utils.evaluation.bootstrap import estimate, mean, per_performance, quotient, share
from utils.evaluation.controls import Sweep, attributes
from utils.evaluation.copies import difference, longest_copies, pair_sums, repeated_bars, training_bars
from utils.midi.drums import VOICES, voice_index
from utils.playing.controls import measure as measure_bars

KL_BINS = 16
COMMONEST = 6  # voices whose spreads are looked at one by one
LOWEST = {"velocity": 0.0, "offset": -0.5}  # where a head's histogram begins; it is 1 wide


def measure(player, sets):
    rows, spreads = {}, {}
    for name in ("T2", "T4"):
        windows, floor = sets(name), sets(name, sets.other)
        played = {s: player(windows, s) for s in (("unset", "given") if name == "T4" else ("unset",))}
        real = likeness_sums(windows.rolls, windows.performance)
        sums = {"real": real, "floor": likeness_sums(floor.rolls, floor.performance)}
        sums |= {setting: likeness_sums(rolls, windows.performance) for setting, rolls in played.items()}
        rows[name] = {row: Likeness(of, real) for row, of in sums.items()}
        spreads |= {f"{name}, {s}": spreads_of_voices(rows[name][s], real) for s in played}
    repeated = {row: copies_of(*of) for row, of in {
        "unset": (played["unset"][0][0], windows), "real": (windows.rolls[0], windows), "floor": (floor.rolls[0], floor)
    }.items()}
    return {
        "likeness": rows,
        "spreads": spreads,
        "histograms": rows,
        "true controls": {"T4": adherence(windows, played["given"], player.model.steps_per_bar)},
        "variety": {"T4": variety(played["unset"][0], windows, sets("T4", "train"))},
        "copies": {"T4": copies(played["unset"][0][0], windows, floor, sets.cache, player.model.steps_per_bar)},
    }
