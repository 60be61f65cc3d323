"""Bars of 4/4 turned into bars of other meters, of which the corpus has few.

A window's bars become lists of the steps that their drums come from, SILENT where there are none. The first
beat of a bar is always there, so that a downbeat and its crash stay on the bar line; a bar that ends in a
fill keeps its end, so that the fill leads to the next one.
"""

from dataclasses import dataclass

import numpy as np

from model.bars import LONGEST_BAR
from utils.midi.drums import voice_index

SILENT = -1
BEAT, HALF, BAR = 4, 2, 16  # steps of 4/4 and of its beats
ONE_BAR_ALONE = 0.2  # share of the windows in which a single bar changes
THREES = (0, SILENT, 1, SILENT, 2, 3)  # a beat of four steps as one of six: long and short, as in a shuffle
TOMS = [voice_index(name) for name in ("floor_tom", "mid_tom", "high_tom")]
CRASH = voice_index("crash")


@dataclass(frozen=True)
class Change:
    """A meter that bars of 4/4 can become. kept: several choices of the half beats that stay, numbered from
    0, of one bar or of two (joined). beats: the lengths of the beats then. threes: whether each beat is
    played in threes. weight: how often it is drawn."""

    kept: tuple
    beats: tuple
    weight: float
    threes: bool = False
    joined: int = 1

    def steps(self, number):
        """The steps of the old bar or bars at each step of the new one, by a choice of `kept`."""
        steps = [HALF * half + step for half in self.kept[number] for step in range(HALF)]
        if not self.threes:
            return np.array(steps)
        beats = np.reshape(steps, (-1, BEAT))
        return np.concatenate([[SILENT if step < 0 else beat[step] for step in THREES] for beat in beats])

    def keeps_the_end(self, number):
        """Whether the last half beat stays by that choice."""
        return self.kept[number][-1] == self.joined * BAR // HALF - 1


def _beats(*beats, more=()):
    return tuple(half for beat in beats for half in (2 * beat, 2 * beat + 1)) + more


_TWO = _beats(0, 1), _beats(0, 3)
_THREE = _beats(0, 1, 2), _beats(0, 1, 3), _beats(0, 2, 3)
CHANGES = {
    "2/4": Change(_TWO, (4, 4), 1),
    "3/4": Change(_THREE, (4, 4, 4), 4),
    "5/8": Change((_beats(0, 1, more=(4,)), (*_beats(0), 5, 6, 7)), (4, 6), 1),
    "7/8": Change(
        (_beats(0, 1, 2, more=(6,)), _beats(0, 1) + (5, 6, 7), _beats(0, 1) + (4, 6, 7)), (4, 4, 6), 2
    ),
    "6/8": Change(_TWO, (6, 6), 4, threes=True),
    "9/8": Change(_THREE, (6, 6, 6), 1, threes=True),
    "12/8": Change((_beats(0, 1, 2, 3),), (6, 6, 6, 6), 2, threes=True),
    "5/4": Change((_beats(0, 1, 2, 3, 7),), (4,) * 5, 2, joined=2),
    "6/4": Change((_beats(0, 1, 2, 3, 6, 7),), (4,) * 6, 1, joined=2),
    "7/4": Change((_beats(0, 1, 2, 3, 5, 6, 7),), (4,) * 7, 0.5, joined=2),
    "8/4": Change((_beats(*range(8)),), (4,) * 8, 0.5, joined=2),
}
IN_FOUR = Change((tuple(range(8)),), (4,) * 4, 0)


def change_meter(vel, n_steps, rng, longest_bar=LONGEST_BAR):
    """Bars of 4/4 (t, V), one at least, in another meter: as many whole bars as n_steps, a bar of 4/4 at
    least, hold, or as there are.

    Returns steps (n,), the step of vel at each new step or SILENT, and the beats of each new bar.
    """
    longest = min(longest_bar, n_steps)
    fits = {name: sum(of.beats) <= longest and of.joined * BAR <= len(vel) for name, of in CHANGES.items()}
    names = [name for name in CHANGES if fits[name]]
    weights = np.array([CHANGES[name].weight for name in names])
    change = CHANGES[names[rng.choice(len(names), p=weights / weights.sum())]]
    if change is CHANGES["8/4"] and (vel[BAR :: 2 * BAR, CRASH] > 0).any():
        change = CHANGES["7/4"]  # a crash belongs to a bar line
    number = int(rng.integers(len(change.kept)))
    n_bars = len(vel) // BAR
    only = None
    if rng.random() < ONE_BAR_ALONE:
        only = int(rng.integers(max(1, min(n_bars, n_steps // BAR) - change.joined + 1)))
    return changed(vel, n_steps, change, number, only)


def changed(vel, n_steps, change, number, only):
    """change_meter by that change and choice, of the bar `only`, or of all for None."""
    steps, beats, bar = [], [], 0
    while bar < len(vel) // BAR:
        here = change if only in (None, bar) else IN_FOUR
        old = vel[bar * BAR : (bar + here.joined) * BAR]
        if len(old) < here.joined * BAR or len(steps) + sum(here.beats) > n_steps:
            break
        new = here.steps(_that_fits(old, here, number if here is change else 0))
        steps += np.where(new == SILENT, SILENT, bar * BAR + new).tolist()
        beats.append(here.beats)
        bar += here.joined
    return np.array(steps, np.int64), beats


def _that_fits(old, change, number):
    """The choice, or where these bars end in a fill the last one that keeps their end."""
    fill = (old[-BEAT:, TOMS] > 0).any()
    if not fill or change.keeps_the_end(number):
        return number
    return max(choice for choice in range(len(change.kept)) if change.keeps_the_end(choice))
