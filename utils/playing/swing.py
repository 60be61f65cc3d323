"""Swing: where the off-beat comes in its beat, as a ratio: .5 straight, .667 in triplets, .75 dotted.

Measured in drums, for receipts and the evaluation, and changed: what was played is moved within its beats.
Beats of four steps, quarters, swing, and no others. Rolls are arrays onset, vel, timeoffset (..., T, V); what
follows is by beats, (..., N, BEAT, V). u: a place in the beat, from 0, where it begins, to 1.
"""

from dataclasses import dataclass

import numpy as np
import torch

from model.bars import BarGrid

STRAIGHT, TRIPLET, MOST_SWING = 0.5, 2 / 3, 0.75
SWUNG = 0.58  # a ratio above this is no longer straight; real drums have a gap there
DOTTED = 0.7  # an off-beat after this may be the last sixteenth of a straight beat
AS_THE_RHYTHM = -1.0  # in place of a ratio: that of the rhythm
HEARD = -2.0  # likewise, where it clearly swings, for hits that answer none of its own
CLEAR, AROUND, SURE, FEWEST = 0.6, 0.08, 0.8, 4  # see clear_swing; chosen on training and validation drums
BEAT = 4  # steps
OFF_BEAT = 0.42, 0.8  # u: from where to where a hit can be the off-beat
NEAR = 0.1  # u: hits so near the beat are on it, and so near each other they are one
LATEST = np.nextafter(np.float32(0.5), np.float32(0))  # offsets lie in [-0.5, 0.5)


def beats_of(grid):
    """The steps (N, BEAT) of the beats of four steps, of those that the grid does not cut."""
    index = grid.index
    first = np.flatnonzero((index.place_in_beat == 0) & (index.beat_length == BEAT))
    return first[first + BEAT <= grid.n_steps][:, None] + np.arange(BEAT)


def places_of(hit, vel, timeoffset):
    """u of all cells by beats, as far as they are hits, hit (bool). It counts from where the hits on the beat
    are (their median), as some drummers, and some files, are early or late throughout."""
    u = (np.arange(BEAT)[:, None] + np.asarray(timeoffset, np.float64)) / BEAT
    on = hit & (np.abs(u) < NEAR)
    return u - (weighted_median(u[on], vel[on]) if on.any() else 0)


def off_beats(hit, u):
    """Which hits are the off-beat: in each beat the first within OFF_BEAT, and what is NEAR after it. So the
    last sixteenth is none where the one before it is played."""
    there = hit & (u >= OFF_BEAT[0]) & (u < OFF_BEAT[1])
    return there & (u < np.where(there, u, 1).min((-2, -1), keepdims=True) + NEAR)


def swing_of(onset, vel, timeoffset, grid, free=True):
    """The ratio of drums, of those of their hits that are `free` (..., T, V): the median of the off-beats'
    places, weighted by velocity. NaN where there are none."""
    u, weight = off_beat_places(onset, vel, timeoffset, grid, free)
    return weighted_median(u, weight) if len(u) else np.nan


def off_beat_places(onset, vel, timeoffset, grid, free=True):
    """(u, velocity) of the hits of drums that are the off-beat, (n,) each."""
    found, u, vel, _ = _off_beats_in((onset > 0) & free, vel, timeoffset, grid)
    return u[found], vel[found]


def _off_beats_in(hit, vel, timeoffset, grid):
    """By beats: which hits are the off-beat, u, velocity, and which are on the beat."""
    hit, vel, timeoffset = (roll[..., beats_of(grid), :] for roll in (hit, vel, timeoffset))
    u = places_of(hit, vel, timeoffset)
    return off_beats(hit, u), u, vel, hit & (np.abs(u) < NEAR)


def clear_swing(onset, vel, timeoffset, grid):
    """The ratio of a rhythm that plainly swings, NaN of any other: CLEAR to DOTTED (where it may be the last
    sixteenth), with FEWEST off-beats and as many hits on the beat, a share of SURE off-beats within AROUND
    of it. In the real drums it finds two of three files that swing, and hardly a straight one, see
    docs/experiments.md."""
    found, u, vel, on = _off_beats_in(onset > 0, vel, timeoffset, grid)
    if min(found.sum(), on.sum()) < FEWEST:
        return np.nan
    ratio = weighted_median(u[found], vel[found])
    agree = (np.abs(u[found] - ratio) < AROUND).mean()
    return ratio if CLEAR < ratio < DOTTED and agree >= SURE else np.nan


def weighted_median(x, weight):
    """Of (n,), n at least 1, with weights above 0."""
    order = np.argsort(x, kind="stable")
    below = np.cumsum(weight[order], dtype=np.float64)
    return float(x[order][np.searchsorted(below, below[-1] / 2)])


# ---- drums that are made to swing


@dataclass(frozen=True)
class Swing:
    """What is done to drums once they are drawn. ratio: of each bar of the grid, NaN: it stays as drawn.
    closed (T, V) bool, limit: as `bend` takes them, tensors on the CPU; limit may be None. heard: the ratio
    if bars were HEARD; answers (T, 1): the steps on which their hits answer the rhythm, and stay."""

    grid: BarGrid
    ratio: np.ndarray
    closed: torch.Tensor
    limit: torch.Tensor | None
    heard: float = np.nan
    answers: np.ndarray | bool = False

    @classmethod
    def of(cls, ratio, grid, brought, *, known, forbid, mask, limit, **_):
        """ratio (bars,): AS_THE_RHYTHM where the rhythm that was brought, three rolls, says it or, where that
        has no off-beats, the known drums; HEARD: clear_swing of the rhythm; None: none is asked for. The
        others: as in the inputs of a Plan. What is known with its velocity stays as it is."""
        closed = forbid | ~mask[:, None] | (False if known is None else known["known_vel"])
        ratio = np.full(grid.n_bars, np.nan) if ratio is None else ratio
        rhythm = [roll.numpy() for roll in brought]
        if (ratio == HEARD).all():
            heard, answers = clear_swing(*rhythm, grid), (rhythm[0] > 0).any(-1, keepdims=True)
            return cls(grid, np.full(grid.n_bars, heard), closed, limit, heard, answers)
        heard = swing_of(*rhythm, grid)
        if np.isnan(heard) and known is not None:
            heard = swing_of(*(known[name].numpy() for name in ("onset", "vel", "timeoffset")), grid)
        return cls(grid, np.where(ratio == AS_THE_RHYTHM, heard, ratio), closed, limit)

    def __call__(self, rolls):
        """Drums, tensors (N, T, V) on any device, bent."""
        if np.isnan(self.ratio).all():
            return rolls
        limit = None if self.limit is None else self.limit.numpy()
        versions = zip(*(roll.cpu().numpy() for roll in rolls))
        bent = zip(*(bend(*of, self.grid, self.ratio, self._stays(of[0]), limit) for of in versions))
        return tuple(torch.from_numpy(np.stack(roll)).to(rolls[0].device) for roll in bent)

    def _stays(self, onset):
        return self.closed.numpy() | (self.answers & (onset > 0))

    def in_words(self):
        """What was heard, None where nothing was."""
        return None if np.isnan(self.heard) else f"{self.heard:.2f}, heard from the rhythm"


def bend(onset, vel, timeoffset, grid, ratio, closed, limit=None):
    """Drums (T, V) with the off-beats of each bar at a ratio, (bars,); NaN: the bar stays as it is.

    The off-beats move from the ratio that is measured in all of them (STRAIGHT where there are none) to the
    one that is asked for, all equally far, so that their spread stays. What is on the beat stays there; what
    lies between goes part of the way, so that sixteenths keep their order. Drums may be of two minds: a beat
    with a straight off-beat in drums that swing, or one in triplets in straight ones, is bent from there.

    A hit stays in its beat. Where it comes nearer to another step it goes into that one, unless a hit of its
    voice is there, or the cell is closed (T, V bool: cells that stay as they are); then it goes as near as
    its step allows. So no hit is lost, and all counts per bar stay. limit (T, R, V), see keep_within: in a
    beat that would break it all hits keep their steps.
    """
    beats = beats_of(grid)
    hits, loudness, offsets, closed = (roll[beats] for roll in (onset, vel, timeoffset, closed))
    moves = (hits > 0) & ~closed
    asked = np.asarray(ratio, np.float64)[grid.index.bar[beats[:, 0]]][:, None, None]
    later = np.where(moves, BEAT * _moved(moves, loudness, offsets, asked), 0)
    own = np.arange(BEAT)[:, None]
    steps = _free_steps(own + offsets + later, moves | closed, later)
    steps = np.where(later == 0, own, steps)
    bent = _placed(steps, later, moves, hits, loudness, offsets)
    if limit is not None:
        crowded = _breaks(bent[0], limit[beats]).any(1)[:, None, None]
        bent = _placed(np.where(crowded, own, steps), later, moves, hits, loudness, offsets)
    rolls = onset.copy(), vel.copy(), timeoffset.copy()
    for roll, part in zip(rolls, bent):
        roll[beats] = part
    return rolls


def _moved(moves, loudness, offsets, asked):
    """How much later each cell is to come, in u."""
    u = places_of(moves, loudness, offsets)
    off = off_beats(moves, u)
    heard = weighted_median(u[off], loudness[off]) if off.any() else STRAIGHT
    first = np.where(off, u, 1).min((-2, -1), keepdims=True)
    swings = heard > SWUNG
    far = first < heard - NEAR if swings else first > heard + NEAR
    heard = np.where(far & (first < DOTTED), STRAIGHT if swings else TRIPLET, heard)
    rises = (u - NEAR) / (heard - 2 * NEAR)  # from nothing on the beat to all on the off-beat ...
    falls = (1 - NEAR - u) / (1 - 2 * NEAR - heard)  # ... and back on the next beat
    return np.nan_to_num(asked - heard) * np.minimum(rises, falls).clip(0, 1)


def _free_steps(place, taken, later):
    """The step of its beat that each hit goes to: the nearest to its place (in steps), as far as the taken
    cells leave it free. later: which way it goes."""
    wanted = np.where(taken, np.floor(place + 0.5).clip(0, BEAT - 1), 0).astype(int)
    last = BEAT - 1
    up = _below_each_other(wanted, taken)
    down = last - _below_each_other(last - wanted[:, ::-1], taken[:, ::-1])[:, ::-1]
    return np.where(later > 0, up, down)


def _below_each_other(wanted, taken):
    """Steps, each below that of the next cell that is taken, none above what is wanted."""
    steps, next_one = wanted.copy(), np.full(wanted[:, 0].shape, BEAT)
    for step in reversed(range(BEAT)):
        steps[:, step] = np.minimum(wanted[:, step], next_one - 1)
        next_one = np.where(taken[:, step], steps[:, step], next_one)
    return steps


def _placed(steps, later, moves, hits, loudness, offsets):
    """onset, vel, timeoffset by beats when those that move are in these steps."""
    beat, step, voice = np.nonzero(moves)
    there = beat, steps[moves], voice
    shifted = offsets + later + np.arange(BEAT)[:, None] - steps
    shifted = np.where(later == 0, offsets, shifted.clip(-0.5, LATEST))
    rolls = []
    for roll, values in ((hits, hits), (loudness, loudness), (offsets, shifted)):
        roll = np.where(moves, 0, roll)
        roll[there] = values[moves]
        rolls.append(roll)
    return rolls


def _breaks(hits, limit):
    """Which steps (N, BEAT) have more hits than the rules (N, BEAT, R, V) allow."""
    ruled = limit < limit.shape[-1]
    count = ((hits > 0)[..., None, :] & ruled).sum(-1)
    return (count > limit.min(-1)).any(-1)
