"""Whose timing and loudness the drums have: the drummer's, the rhythm's or the grid's.

Shapes: N versions, T steps, V = 9 voices. Drums are onset, vel, timeoffset (N, T, V) as they are drawn.
"""

from dataclasses import dataclass

import torch

from model.bars import BarGrid
from utils.midi.drums import N_VOICES

FEEL = "timing", "velocity"
PLAYED_TO = "hands", "part"  # kinds of rhythm whose own timing and loudness a model that knows them leaves
USUAL_BPM, PACE = 120.0, 0.4  # see pace_of
NO_TIMING = 0.02  # of a step: a rhythm whose hits lie nearer to the grid, on average, tells nothing of timing
LATEST = 0.5 - 1e-6  # as model.heads.bin_to_offset
SOFTEST = 1 / 127


def as_shown(rhythm, timing, accents, kind):
    """The rhythm, onset, vel, timeoffset (T, V), as the encoder is shown it. timing, accents: the dials, or
    None; kind: what a model that knows kinds is told that the rhythm is, else None.

    Drums, and every rhythm to a model that knows no kinds, are answered as they are: so the offsets are shown
    times `timing`, and the velocities so much nearer to their mean, or not at all for `accents` of 0, as in
    training. A model that is told of hands or of a part hears these as they are: it learnt that the drums'
    timing and loudness are others.
    """
    onset, vel, timeoffset = rhythm
    if kind in PLAYED_TO:
        return rhythm
    if timing is not None:
        timeoffset = timeoffset * timing
    if accents is not None:
        loud = vel > 0
        mean = vel[loud].mean() if loud.any() else 0.0
        vel = torch.where(loud, mean + accents * (vel - mean), 0) if accents else torch.zeros_like(vel)
    return [onset, vel, timeoffset]


def pace_of(bpm, rhythm, kind, known):
    """How many times as large offsets are at the tempo of each step, bpm (T,): (bpm / USUAL_BPM) ** PACE.
    None where the tempo is not known, or is heard: in drums, known ones too, and in timing.

    rhythm: onset, vel, timeoffset (T, V) as it is shown; kind: what it is, or None; known: of known_cells, or
    None. Drummers' timing is nearly constant in milliseconds: in steps its spread grows as the 0.6th power of
    the tempo (training split of the Groove MIDI Dataset). To drums, and to a rhythm with timing of its own,
    the model plays that by itself; to anything else as at a middling tempo, see docs/experiments.md.
    """
    onset, _, timeoffset = rhythm
    late = timeoffset[onset > 0]
    heard = kind == "drums" and len(late) or known is not None and known["onset"].any()
    if bpm is None or heard or (len(late) and late.square().mean().sqrt() > NO_TIMING):
        return None
    return (torch.as_tensor(bpm).float() / USUAL_BPM) ** PACE


@dataclass(frozen=True)
class Feel:
    """What is done to drums once they are drawn, in this order; cells that are known (not `free`) stay.

    1. pace (T,): offsets are this many times as large, see pace_of.
    2. timing, accents: of the hits on a step of the rhythm the loudest goes this share of the way to the
       timing, and to the loudness, that the rhythm has there, and the others go with it: their distance in
       time and their ratio in loudness stay. A step of unknown loudness (0) leaves it.
    3. feel: offsets times feel["timing"]; velocities so much nearer to the mean of their voice's in the bar,
       feel["velocity"] of the way left. The mean velocity of a bar stays as it is.

    rhythm: onset, vel, timeoffset (T,), as it was brought. grid: the BarGrid of the T steps.
    """

    rhythm: list
    timing: float
    accents: float
    feel: dict
    pace: torch.Tensor | None
    free: torch.Tensor
    grid: BarGrid

    @classmethod
    def of(cls, rhythm, dials, pace, known, grid):
        """rhythm: three rolls (T, V), one hit a step at most; dials: Dials; known: see pace_of."""
        free = torch.ones(grid.n_steps, N_VOICES, dtype=torch.bool) if known is None else ~known["known_vel"]
        shares = dials.timing or 0.0, dials.accents or 0.0
        return cls([roll.sum(-1) for roll in rhythm], *shares, dials.felt, pace, free, grid)

    def __call__(self, drums, bar=None):
        """The drums, three rolls (N, T, V), or those of one bar of the T steps, as they are heard."""
        as_drawn = self.timing == self.accents == 0 and self.pace is None and set(self.feel.values()) == {1.0}
        if as_drawn or not drums[0].shape[1]:
            return drums
        onset, vel, timeoffset = drums
        grid, here = self.grid, slice(None)
        if bar is not None:
            grid, here = grid.cut(bar, bar + 1), grid.steps_of(bar)
        tap, tap_vel, tap_offset = (roll[here, None].to(onset.device) for roll in self.rhythm)
        mine = (onset > 0) & self.free[here].to(onset.device)
        if self.pace is not None:
            paced = (timeoffset * self.pace[here, None].to(onset.device)).clamp(-0.5, LATEST)
            timeoffset = torch.where(mine, paced, timeoffset)

        loudest = torch.where(mine, vel, -1).argmax(-1, keepdim=True)
        late = self.timing * (tap_offset - timeoffset.gather(-1, loudest))
        moved = (timeoffset + late).clamp(-0.5, LATEST)
        timeoffset = torch.where(mine & (tap > 0), moved, timeoffset)
        louder = 1 + self.accents * (tap_vel / vel.gather(-1, loudest).clamp(min=SOFTEST) - 1)
        vel = torch.where(mine & (tap_vel > 0), (vel * louder).clamp(SOFTEST, 1), vel)

        timeoffset = torch.where(mine, timeoffset * self.feel["timing"], timeoffset)
        mean = grid.spread(grid.sums(vel * mine) / grid.sums(mine).clamp(min=1))
        return onset, torch.where(mine, mean.lerp(vel, self.feel["velocity"]), vel), timeoffset
