"""Rhythms as people bring them, made for windows of drums: tapped with the hands, and parts of other players.

Shapes: B windows, T steps, V = 9 voices, L steps of the longest bar. `vel` and `offset` (B, T, V) are the
drums as in utils.corpus.augment; a rhythm is the same with one voice, (B, T).

The figures of HANDS are those of 841 taps of 258 patterns that people tapped simply or with all their detail
(TapTamDrum, ISMIR 2023); those of parts, of the bass of 15 songs. tests/corpus/test_rhythms.py holds what is
made here to them.
"""

from typing import NamedTuple

import numpy as np

from model.controls import PADS, RHYTHM_KINDS
from utils.corpus import augment
from utils.midi.drums import voice_index

DRUMS, HANDS, PART = range(len(RHYTHM_KINDS))
USUAL_BPM = 110.0  # where the tempo is not known
_KICK, _SNARE = voice_index("kick"), voice_index("snare")
_HATS = [voice_index(name) for name in ("closed_hat", "open_hat", "ride")]


class Made(NamedTuple):
    """Rhythms made for the windows of a batch. kind (B,): a number of RHYTHM_KINDS; vel, offset (B, T), of
    the windows that are not DRUMS; pads (B, T) int64, of HANDS: numbers of PADS."""

    kind: np.ndarray
    vel: np.ndarray
    offset: np.ndarray
    pads: np.ndarray

    def over(self, vel, offset):
        """A rhythm (vel, offset), each (B, T), with these in place of it where they were made."""
        made = (self.kind != DRUMS)[:, None]
        return np.where(made, self.vel, vel), np.where(made, self.offset, offset)


def draw_kinds(n_rows, weights, rng):
    """What the rhythms of a batch are by the weights of Data.rhythm_source, (B,) numbers of RHYTHM_KINDS, or
    None where neither hands nor parts have a weight; then nothing is drawn."""
    weights = dict(weights)
    shares = np.array([weights.get("hands", 0), weights.get("part", 0)]) / sum(weights.values())
    if not shares.any():
        return None
    chance = rng.random(n_rows)
    return np.where(chance < shares[0], HANDS, np.where(chance < shares.sum(), PART, DRUMS))


def draw(kind, vel, offset, mask, grid, bpm, rng, with_pads=False):
    """Rhythms for the windows of a batch that are not DRUMS: Made.

    kind (B,): of draw_kinds; mask (B, T): the steps there are; grid: the BarGrid of the steps; bpm (B,):
    tempo, or None. with_pads: hands have two pads; else all their taps are unset.
    """
    bpm = np.full(len(vel), USUAL_BPM) if bpm is None else bpm
    step_ms = 15000 / np.clip(np.where(np.isfinite(bpm), bpm, USUAL_BPM), 50, 220)
    made, pads = np.zeros((2, *mask.shape), np.float32), np.zeros(mask.shape, np.int64)
    for number, make in ((HANDS, hands), (PART, parts)):
        rows = np.flatnonzero(kind == number)
        if len(rows):
            of_rows = Places.of(grid, mask.shape).rows(rows)
            made[:, rows] = make(vel[rows], offset[rows], mask[rows], of_rows, step_ms[rows], rng)
            if number == HANDS and with_pads:
                pads[rows] = struck(vel[rows], made[0, rows], of_rows, rng)
    return Made(kind, *made, pads)


class Places(NamedTuple):
    """Of every step of B windows, (B, T): its bar and place in it, its beat's place, and L."""

    bar: np.ndarray
    place: np.ndarray
    place_in_beat: np.ndarray
    longest: int

    @classmethod
    def of(cls, grid, shape):
        index = grid.index
        steps = (np.broadcast_to(x, shape) for x in (index.bar, index.place, index.place_in_beat))
        return cls(*steps, grid.longest)

    def rows(self, rows):
        """Those of some windows."""
        return Places(*(steps[rows] for steps in self[:3]), self.longest)

    def again(self, rng, period, anew=0.0):
        """Random numbers (B, T) in [0, 1) that come again every `period` (B,) bars, 1 or 2, but for a share
        `anew` of them."""
        shape = self.place.shape
        numbers = rng.random((shape[0], 2 * self.longest), np.float32)
        there = self.bar % period[:, None] * self.longest + self.place
        numbers = np.take_along_axis(numbers, there, 1)
        if anew == 0:
            return numbers
        return np.where(rng.random(shape, np.float32) < anew, rng.random(shape, np.float32), numbers)


def _normal(rng, shape):
    return rng.standard_normal(shape, np.float32)


# ---------------------------------------------------------------------------- hands

# log-odds of a tap on a step of the drums, for a pattern tapped simply and with all its detail
SIMPLE = {"kick": 1.95, "snare": 2.05, "hats": (-0.20, -1.20, -0.90, -0.80), "else": 1.6, "loudness": 3.6}
COMPLEX = {"kick": 3.15, "snare": 3.85, "hats": (1.90, 1.20, 1.65, 1.60), "else": 3.0, "loudness": 2.7}
ANEW = 0.35  # share of the decisions that are not the same at the same place of each bar
ADDED = 0.065  # probability of a tap on a step without drums
LATE_MS, APART_MS, JITTER_MS = 7.0, 11.0, 36.0  # median; deviation of a person's own; of single taps
MOST_JITTER = 0.7  # of a step
LOUDNESS, SPREAD, SHARED = (
    0.475,
    0.245,
    0.53,
)  # mean, deviation, what is shared with the loudness of the drums
OWN = 0.35  # share of the rest that is the person's own level
_DRUMS_LOUDNESS, _DRUMS_SPREAD = 0.62, 0.28  # of the loudest hit of a step


def hands(vel, offset, mask, places, step_ms, rng):
    """The drums as a person taps them with two hands: something of everything, loosely; (vel, offset)."""
    n_rows, n_steps = mask.shape
    detail = rng.random((n_rows, 1), np.float32)  # from simple to complex, for each window
    loudest_vel, loudest_offset = augment.loudest(vel, offset)

    played = vel > 0
    hit = loudest_vel > 0
    kick, snare, hats = played[..., _KICK], played[..., _SNARE], played[..., _HATS].any(2)
    odds = 0
    for share, figures in ((1 - detail, SIMPLE), (detail, COMPLEX)):
        by_place = np.array(figures["hats"], np.float32)[places.place_in_beat % 4]
        of_step = np.where(hats, by_place, np.float32(figures["else"]))
        of_step = np.where(snare, np.float32(figures["snare"]), of_step)
        of_step = np.where(kick, np.float32(figures["kick"]), of_step)
        odds = odds + share * (of_step + figures["loudness"] * (loudest_vel - _DRUMS_LOUDNESS))
    keep = 1 / (1 + np.exp(-odds))
    decision = places.again(rng, np.ones(n_rows, int), ANEW)
    tapped = (decision < np.where(hit, keep, np.float32(ADDED))) & mask

    one, each = (n_rows, 1), mask.shape
    jitter = LATE_MS + APART_MS * _normal(rng, one) + JITTER_MS * _normal(rng, each)
    jitter = np.clip(jitter / step_ms[:, None], -MOST_JITTER, MOST_JITTER)
    late = loudest_offset + jitter
    drums = (loudest_vel - _DRUMS_LOUDNESS) / _DRUMS_SPREAD * hit
    noise = OWN**0.5 * _normal(rng, one) + (1 - OWN) ** 0.5 * _normal(rng, each)
    loud = LOUDNESS + SPREAD * (SHARED * drums + (1 - SHARED**2) ** 0.5 * noise)
    return on_steps(np.where(tapped, np.clip(loud, 0.04, 1), 0), late, mask)


# Habits that together give the measured shares, .66 to .81 of the kicks and .63 to .71 of the snares: (how
# many people have it; of kicks without a snare and of hats, how many are on the higher pad; of snares without
# a kick, how many are on the lower)
HABITS = (0.50, 0.93, 0.66, 0.88), (0.33, 0.60, 0.60, 0.55), (0.17, 0.10, 0.40, 0.15)
BOTH_PADS = 0.09  # of the taps


def struck(vel, taps, places, rng):
    """On which of two pads the taps (B, T) of hands are, by the drums that are on their step or beside it:
    numbers of PADS, (B, T) int64, 0 where there is no tap."""
    n_rows = len(taps)
    habit = np.array(HABITS)[rng.choice(len(HABITS), n_rows, p=[habit[0] for habit in HABITS])]
    kicks_high, hats_high, snares_low = (habit[:, n, None] for n in (1, 2, 3))
    played = vel > 0
    beside = np.pad(played, ((0, 0), (1, 1), (0, 0)))
    played = np.where(played.any(2, keepdims=True), played, beside[:, :-2] | beside[:, 2:])
    kick, snare, hats = played[..., _KICK], played[..., _SNARE], played[..., _HATS].any(2)
    high = np.where(hats, hats_high, 0.5)
    high = np.where(snare & ~kick, 1 - snares_low, high)
    high = np.where(kick & ~snare, kicks_high, high)
    once = np.ones(n_rows, int)
    pad = np.where(places.again(rng, once, ANEW) < high, PADS.index("higher"), PADS.index("lower"))
    pad = np.where(rng.random(taps.shape) < BOTH_PADS, PADS.index("both"), pad)
    return np.where(taps > 0, pad, 0)


def on_steps(vel, late, mask):
    """Hits (B, T) that are `late` by so many steps, read onto the grid: (vel, offset). One that is nearer to
    a neighbouring step moves there; of two on a step the louder stays; at the ends it stays inside."""
    row, step = np.nonzero(vel)
    here = np.floor(step + late[row, step] + 0.5).astype(int)
    inside = (here >= 0) & (here < vel.shape[1])
    here = np.where(inside, here, step)
    here = np.where(mask[row, here], here, step)
    order = np.argsort(vel[row, step], kind="stable")  # of two hits in a cell numpy keeps the last
    row, step, here = row[order], step[order], here[order]
    new_vel, new_offset = np.zeros((2, *vel.shape), np.float32)
    new_vel[row, here] = vel[row, step]
    new_offset[row, here] = augment.inside((step + late[row, step] - here).astype(np.float32))
    return new_vel, new_offset


# ---------------------------------------------------------------------------- parts

# (pattern, weight, steps at which the own pattern has a note): place in the bar, place in the beat
PATTERNS = (
    ("quarters", 2.0, lambda place, in_beat: in_beat == 0),
    ("eighths", 3.5, lambda place, in_beat: in_beat % 2 == 0),
    ("off-beats", 0.7, lambda place, in_beat: in_beat == 2),
    ("dotted", 0.7, lambda place, in_beat: place % 6 == 0),
    ("3-3-2", 1.0, lambda place, in_beat: np.isin(place % 8, (0, 3, 6))),
    ("clave", 1.0, lambda place, in_beat: np.isin(place % 16, (0, 3, 6, 10, 12))),
    ("one a bar", 1.2, lambda place, in_beat: place == 0),
    ("half notes", 1.0, lambda place, in_beat: place % 8 == 0),
    ("sixteenths", 0.7, lambda place, in_beat: place >= 0),
    ("free", 3.5, None),  # drawn: eighths often, sixteenths now and then
)
ALONE = 0.35  # share of the parts that go their own way, whatever the kicks do
FOLLOWED = (0.5, 0.8, 0.95)  # share of the kicks that a part plays with, in turn for the others
FREE_EIGHTH, FREE_SIXTEENTH = 0.5, 0.06
DOWNBEAT = 0.85  # of the parts have a note at the beginning of every bar
RESTS = 0.15  # of the parts have a long rest
CHANGED = 0.06  # share of the decisions that are made anew in every bar
OFF_DRUMS = 0.35  # share of the own notes that stay where the drums have no hit, in most parts
QUANTISED = 0.5  # of the parts
FLAT = 0.6  # of the parts have hardly any accents


def parts(vel, offset, mask, places, step_ms, rng):
    """What a bass, a guitar, a clave or a click plays to the drums: the kicks to some degree, and a pattern
    of its own that comes again every bar or two; (vel, offset)."""
    n_rows, n_steps = mask.shape
    place, in_beat = places.place, places.place_in_beat

    def happens(probability):
        return rng.random((n_rows, 1), np.float32) < probability

    period = rng.integers(1, 3, n_rows)
    which = augment.choose(rng, {name: weight for name, weight, _ in PATTERNS}, n_rows)
    own = np.zeros(mask.shape, bool)
    for number, (_, _, steps) in enumerate(PATTERNS):
        rows = which == number
        if rows.any() and steps is not None:
            own[rows] = steps(place[rows], in_beat[rows])
    free = places.again(rng, period, CHANGED) < np.where(in_beat % 2 == 0, FREE_EIGHTH, FREE_SIXTEENTH)
    own = np.where((which == len(PATTERNS) - 1)[:, None], free, own)
    thinned = rng.choice((0.0, 0.0, 0.0, 0.3), (n_rows, 1))
    own &= places.again(rng, period, CHANGED) >= thinned
    loudest_vel, loudest_offset = augment.loudest(vel, offset)
    hit = loudest_vel > 0
    stays = np.where(happens(0.75), np.float32(OFF_DRUMS), np.float32(1))
    own &= hit | (places.again(rng, period, CHANGED) < stays)

    followed = np.where(happens(ALONE), 0, rng.choice(FOLLOWED, (n_rows, 1)))
    kicks = (vel[..., _KICK] > 0) & (places.again(rng, period, CHANGED) < followed)
    onset = own | kicks | ((place == 0) & happens(DOWNBEAT))
    length = mask.sum(1)
    start, stop = augment.random_span(rng, length, np.maximum(length // 8, 1), np.maximum(length // 2, 1))
    onset &= mask & ~(augment.between(start, stop, n_steps) & happens(RESTS))

    human = np.abs(6 * _normal(rng, (n_rows, 1))) + 4  # ms
    late = 0.6 * loudest_offset + _normal(rng, mask.shape) * human / step_ms[:, None]
    late = np.where(happens(QUANTISED), 0, augment.inside(late.astype(np.float32)))
    level = rng.uniform(0.55, 0.95, (n_rows, 1))
    spread = np.where(happens(FLAT), 0.02, 0.1)
    accent = np.where(place == 0, 1.0, np.where(in_beat == 0, 0.5, -0.5))
    loud = level + spread * (0.7 * accent + 0.7 * _normal(rng, mask.shape))
    vel = np.where(onset, np.clip(loud, 0.1, 1), 0).astype(np.float32)
    return vel, np.where(onset, late, 0).astype(np.float32)
