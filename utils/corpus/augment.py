"""Variations of drum windows, vectorised over a batch.

B windows, T steps, V = 9 voices. `vel` (B, T, V) is float32 in (0, 1] where there is a hit, else 0; `offset`
(B, T, V) is float32 in [-0.5, 0.5) of a step, 0 where there is no hit. A rhythm is the same with one voice,
(B, T). Every function returns new arrays and treats each window for itself.
"""

from functools import lru_cache

import numpy as np

from model.bars import BarGrid
from utils.corpus.cache import STEPS_PER_BEAT
from utils.midi.drums import N_VOICES, voice_index

LATEST = np.nextafter(np.float32(0.5), np.float32(0))  # offsets lie in [-0.5, 0.5)
SOFTEST = np.float32(1 / 127)  # the smallest velocity that MIDI can write

# Which part moves where. A voice that is not named stays.
VOICE_MOVES = {
    "toms up": {"floor_tom": "mid_tom", "mid_tom": "high_tom"},
    "toms down": {"high_tom": "mid_tom", "mid_tom": "floor_tom"},
    "closed hat to ride": {"closed_hat": "ride"},
    "ride to closed hat": {"ride": "closed_hat"},
    "open hat to closed hat": {"open_hat": "closed_hat"},
    "closed hat to open hat": {"closed_hat": "open_hat"},
    "open hat to crash": {"open_hat": "crash"},
    "crash to ride": {"crash": "ride"},
    "ride to crash": {"ride": "crash"},
}


def _destinations(move):
    to = np.arange(N_VOICES)
    for source, target in move.items():
        to[voice_index(source)] = voice_index(target)
    return to


DESTINATION = np.stack([_destinations(move) for move in VOICE_MOVES.values()])  # (moves, V)
MOVED = DESTINATION != np.arange(N_VOICES)  # (moves, V): the voices that a move takes away


def _which(*voices):
    return np.isin(np.arange(N_VOICES), [voice_index(voice) for voice in voices])  # (V,) bool


RHYTHM_VOICES = {"kick_snare": _which("kick", "snare"), "hats": _which("closed_hat", "open_hat", "ride")}
CYMBALS = _which("closed_hat", "open_hat", "crash", "ride")
_TIMEKEEPERS = _which("closed_hat", "open_hat", "ride")
_KICK, _SNARE, _RIDE = (voice_index(name) for name in ("kick", "snare", "ride"))
_HATS = [voice_index("closed_hat"), voice_index("open_hat")]
_TOMS = [voice_index(name) for name in ("high_tom", "mid_tom", "floor_tom")]
GHOSTS = ([_KICK], 0.5), ([_SNARE], 0.6), (_TOMS, 0.7)  # below this share of the loud hits


# ---- what is played (the target)


def voice_shift(vel, offset, rng):
    """Moves one part of each window to a neighbouring voice (VOICE_MOVES).

    The move is drawn among those whose part plays in the window. Steps, velocities and offsets
    stay; where the neighbour already plays on that step, the louder of the two stays.
    """
    plays = (vel > 0).any(1)  # (B, V)
    possible = (plays[:, None] & MOVED).any(2)  # (B, moves)
    move = (rng.random(possible.shape) * possible).argmax(1)
    row, step, voice = np.nonzero(vel)
    order = np.argsort(vel[row, step, voice], kind="stable")  # of two hits in a cell numpy keeps the last
    row, step, voice = row[order], step[order], voice[order]
    there = DESTINATION[move[row], voice]
    new_vel, new_offset = np.zeros_like(vel), np.zeros_like(offset)
    new_vel[row, step, there] = vel[row, step, voice]
    new_offset[row, step, there] = offset[row, step, voice]
    return new_vel, new_offset


def voice_drop(vel, offset, length, rng):
    """Takes one voice out of each window, where two or more play: in half of them throughout, else for a
    random span of its `length` (B,) steps. What is left is a groove that nobody played, and a tap that is
    new."""
    plays = (vel > 0).any(1)
    voice = (rng.random(plays.shape) * plays).argmax(1)
    start, stop = random_span(rng, length, 1, length)
    whole = rng.random(len(vel)) < 0.5
    steps = between(np.where(whole, 0, start), np.where(whole, length, stop), vel.shape[1])
    voices = (np.arange(N_VOICES) == voice[:, None]) & (plays.sum(1) > 1)[:, None]
    goes = steps[..., None] & voices[:, None]
    return np.where(goes, np.float32(0), vel), np.where(goes, np.float32(0), offset)


def voice_mix(vel, offset, other_vel, other_offset):
    """The hats, crash and ride of other windows over the drums of these."""
    return np.where(CYMBALS, other_vel, vel), np.where(CYMBALS, other_offset, offset)


def double_time(vel, offset):
    """The first half of each window, stretched to twice its length: step t goes to step 2t.

    Offsets stay as they are: a drummer's deviations, in milliseconds, hardly depend on how far
    apart the hits are, and doubled ones would leave their steps.
    """
    n_steps = vel.shape[1]
    new_vel, new_offset = np.zeros_like(vel), np.zeros_like(offset)
    new_vel[:, ::2] = vel[:, : n_steps // 2]
    new_offset[:, ::2] = offset[:, : n_steps // 2]
    return new_vel, new_offset


def half_time(vel, offset):
    """Each window at half its length, played twice: step 2t goes to the steps t and t + T/2.

    Offsets stay, as in double_time. Odd steps would turn into thirty-seconds, for which this
    grid has no place: they go.
    """
    return np.concatenate([vel[:, ::2]] * 2, 1), np.concatenate([offset[:, ::2]] * 2, 1)


def plain(vel, offset, softest):
    """Without ghost notes and ornaments: the hits that are softer than `softest` (B,), but for kicks and the
    loudest hits of each window, go."""
    loudest = vel.max((1, 2), keepdims=True)
    stays = (vel >= np.minimum(softest[:, None, None], loudest)) | _which("kick")
    return np.where(stays, vel, np.float32(0)), np.where(stays, offset, np.float32(0))


def simple_beat(vel, offset):
    """The beat as a song's drummer plays it: of hats and ride one at a time, in eighths; kick, snare and toms
    without ghost notes, which are softer than a share (GHOSTS) of the window's loud hits of these voices."""
    stays = np.ones(vel.shape, bool)
    for voices, share in GHOSTS:
        played = vel[..., voices]
        loud = [np.quantile(hits[hits > 0], 0.8) if hits.any() else 0 for hits in played]
        stays[..., voices] = played >= share * np.reshape(loud, (-1, 1, 1))
    timekeepers = vel * _TIMEKEEPERS
    stays &= ~_TIMEKEEPERS | (timekeepers == timekeepers.max(2, keepdims=True))
    stays[:, 1::2] &= ~_TIMEKEEPERS
    return np.where(stays, vel, np.float32(0)), np.where(stays, offset, np.float32(0))


def is_beat(vel):
    """Which windows (B,) of bars of 4/4 are a beat that holds a song: in every bar hat or ride keeps time,
    with four hits or more; there is a kick a bar, and hardly a tom; and three of four second and fourth beats
    have a snare, or it is the ride that keeps time, and the snare is sparse."""
    bars = (simple_beat(vel, vel)[0] > 0).reshape(len(vel), -1, 16, N_VOICES)
    kick, snare, toms = (bars[..., voices].sum((2, 3)).mean(1) for voices in ([_KICK], [_SNARE], _TOMS))
    hats, ride = bars[..., _HATS].any(-1).sum(2) >= 4, bars[..., _RIDE].sum(2) >= 4
    backbeat = (bars[:, :, 4::8, _SNARE].mean((1, 2)) >= 0.75) & (snare <= 5)
    riding = (ride.mean(1) >= 0.75) & (snare <= 3)
    return (hats | ride).all(1) & (kick >= 1) & (toms <= 1.5) & (backbeat | riding)


def repeat_bars(vel, offset, steps_per_bar, rng):
    """One bar of each window, or two after each other, again and again: a groove that holds."""
    n_rows, n_bars = len(vel), vel.shape[1] // steps_per_bar
    period = rng.integers(1, min(2, n_bars) + 1, n_rows)
    first = rng.integers(0, n_bars - period + 1)
    bar = first[:, None] + np.arange(n_bars) % period[:, None]
    step = (bar[..., None] * steps_per_bar + np.arange(steps_per_bar)).reshape(n_rows, n_bars * steps_per_bar)
    return tuple(np.take_along_axis(roll, step[..., None], 1) for roll in (vel, offset))


def halves(rolls, mask, grids):
    """Twice as many windows of half the length, as a rhythm is not always as long as a window: the rolls of B
    windows (B, T, ...) and their mask as those of 2B, (2B, T / 2, ...), and their BarGrids. Where the second
    half would be empty, the first comes twice. A half has as many whole bars as it holds, or a part of one.
    """
    parts = [part for grid in grids for part in _halves_of(grid)]
    row, steps = np.repeat(np.arange(len(mask)), 2)[:, None], np.stack([steps for steps, _ in parts])
    longer = [np.concatenate((roll, np.zeros_like(roll[:, :1])), 1) for roll in (*rolls, mask)]
    first = np.arange(len(parts)).reshape(-1, 2)
    first[~longer[-1][row[1::2, 0], steps[1::2, 0]], 1] -= 1
    first = first.ravel()
    return (*(roll[row, steps[first]] for roll in longer), [parts[number][1] for number in first])


@lru_cache(maxsize=4096)
def _halves_of(grid):
    """The two halves of a window: the steps (T / 2,) of each, T where there is none, and its BarGrid."""
    half, bar, parts = grid.n_steps // 2, 0, []
    for _ in range(2):
        start = grid.lines[min(bar, grid.n_bars)]
        last = max(bar + 1, int(grid.bars_within(start + half)))
        stop = min(grid.lines[min(last, grid.n_bars)], start + half, grid.n_steps)
        steps = np.full(half, grid.n_steps)
        steps[: max(0, stop - start)] = np.arange(start, stop)
        own = BarGrid.of_beats(grid.beats[bar:last]).up_to(max(0, stop - start))
        parts.append((steps, own.up_to(half, STEPS_PER_BEAT)))
        bar = last
    return parts


def inside(offset):
    """The offsets, clipped to [-0.5, 0.5)."""
    return np.clip(offset, np.float32(-0.5), LATEST)


def swing(vel, offset, amount):
    """Every second step late by `amount` (B,) of a step."""
    late = np.zeros(offset.shape[:2], np.float32)
    late[:, 1::2] = amount[:, None]
    return np.where(vel > 0, inside(offset + late[..., None]), np.float32(0))


def tighten(offset, factor):
    """All offsets times `factor` (B,): below 1 tighter, above 1 looser."""
    return inside(offset * factor[:, None, None])


def scale_velocity(vel, power):
    """All velocities to the `power` (B,): above 1 softer, below 1 louder; their order stays."""
    scaled = np.zeros_like(vel)
    hit = np.nonzero(vel)
    scaled[hit] = np.clip(vel[hit] ** power[hit[0]], SOFTEST, 1)
    return scaled


# ---- what is heard of it (the encoder's input)


def loudest(vel, offset, heard=None):
    """The rhythm (vel, offset), each (B, T): the loudest hit of every step.

    `heard` (B, V) bool limits it to some voices; in a window in which none of them plays all are heard.
    """
    audible = vel if heard is None else vel * heard[:, None]
    audible = np.where(audible.any((1, 2), keepdims=True), audible, vel)
    voice = audible.argmax(2)[..., None]
    rhythm_vel = np.take_along_axis(audible, voice, 2)[..., 0]
    rhythm_offset = np.take_along_axis(offset, voice, 2)[..., 0]
    return rhythm_vel, np.where(rhythm_vel > 0, rhythm_offset, np.float32(0))


def choose(rng, weights, n):
    """n names drawn by relative weight, as indices into the order of the dict `weights`."""
    edges = np.cumsum(np.fromiter(weights.values(), float))
    return np.searchsorted(edges / edges[-1], rng.random(n), side="right")


def one_of(weight, rng):
    """A column of each row of weight (B, N), as (B,) int, in proportion to its weight, which is positive."""
    return (rng.exponential(size=weight.shape) / weight).argmin(1)


def heard_voices(rng, weights, n):
    """(n, V) bool: which voices make the rhythm, by the weights of Data.rhythm_source."""
    source = choose(rng, weights, n)
    heard = np.ones((n, N_VOICES), bool)
    for index, name in enumerate(weights):
        if name in RHYTHM_VOICES:
            heard[source == index] = RHYTHM_VOICES[name]
        elif name == "voice_subset":
            heard[source == index] = rng.random(((source == index).sum(), N_VOICES)) < 0.5
    return heard


def random_span(rng, length, shortest, longest):
    """(start, stop), each (B,): a run of shortest..longest (B,) steps within `length` (B,)."""
    size = rng.integers(shortest, np.maximum(longest, shortest) + 1)
    start = rng.integers(0, length - size + 1)
    return start, start + size


def between(start, stop, n_steps):
    """(B, n_steps) bool: True from start (B,) up to, not including, stop (B,)."""
    step = np.arange(n_steps)
    return (step >= start[:, None]) & (step < stop[:, None])
