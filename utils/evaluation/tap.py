"""From the tap to the drums: which cells are hit, how loud and how early or late; what a swapped rhythm
changes. N samples, W windows, T steps, V voices, P performances."""

import numpy as np

from utils.evaluation.baselines import hit_guesses, loudest_voice, onset_guesses, taps
from utils.evaluation.bootstrap import f1, pair, per_performance, quotient
from utils.evaluation.player import GREEDY

SMOOTHINGS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def measure(player, sets):
    onsets, hits = {}, {}
    for name in ("T2", "T4"):
        windows, train = sets(name), sets(name, "train")
        onsets[name] = onset_rows(player, windows, sets.tuning(name), train, densities=name == "T2")
        hits[name] = hit_rows(player, windows, train)
    return {"onsets": onsets, "by bar": onsets, "by voice": onsets, "hits": hits}


def measure_rhythm(player, sets):
    """How the taps of T4 are answered, and how far the sampled F1 falls with another window's rhythm."""
    windows = sets("T4")
    unset, given, swapped = (player(windows, setting)[0] for setting in ("unset", "given", "swapped"))
    drums = {"real": windows.rolls[0][None], "controls unset": unset, "true controls": given}
    answers = {row: onset_sums(windows, onset) for row, onset in drums.items()}
    right, wrong = (onset_sums(windows, onset)["cells"] for onset in (unset[: len(swapped)], swapped))
    sampled = {"right": right, "swapped": wrong, "both": (right, wrong)}
    return {"answers": {"T4": answers}, "swapped rhythm": {"T4": {"sampled": sampled}}}


# ------------------------------------------------------------------------- onsets


class Consensus:
    """What N samples agree on, chosen on tuning windows; played (N, ...), real (...): their onsets, all of
    them or some of their cells.

    A cell that n of N samples hit has the probability (n + a) / (N + 2 a). `smoothing`, a of SMOOTHINGS,
    gives the lowest cross-entropy, `threshold` (in samples) the highest F1. By n, (N + 1,): `chance`, these
    probabilities, and `calibration`, how often such a cell is a hit of the real drums.
    """

    def __init__(self, played, real):
        count, n_samples, real = votes(played), len(played), real > 0
        cells = np.bincount(count.ravel(), minlength=n_samples + 1)
        hit = np.bincount(count[real], minlength=n_samples + 1)
        chosen, right = cells[::-1].cumsum()[::-1], hit[::-1].cumsum()[::-1]  # with at least so many samples
        self.threshold = 1 + int(np.argmax(2 * right[1:] / (chosen[1:] + real.sum())))
        self.calibration = (hit + 0.5) / (cells + 1)
        chances = {a: (np.arange(n_samples + 1) + a) / (n_samples + 2 * a) for a in SMOOTHINGS}
        nats = {a: -(hit * np.log(p) + (cells - hit) * np.log(1 - p)).sum() for a, p in chances.items()}
        self.smoothing = min(nats, key=nats.get)
        self.chance = chances[self.smoothing]

    def guess(self, played):
        return votes(played) >= self.threshold


def votes(played):
    """How many of the samples hit each cell."""
    return (played > 0).sum(0)


def onset_rows(player, windows, tuning, train, densities=True):
    """{row: onset_sums} of one set: guesses without a model, then the model's; densities: also with the true
    density given."""
    rows = {
        name: onset_sums(windows, guess[None], chance)
        for name, (guess, chance) in onset_guesses(train.rolls, tuning.rolls, windows.rolls).items()
    }
    rows["greedy"] = onset_sums(windows, player(windows, "unset", temperature=GREEDY)[0])
    for setting, title in {"unset": "", "density": ", density given"}.items():
        if setting == "unset" or densities:
            played = player(windows, setting)[0]
            tuned = Consensus(player(tuning, setting)[0], tuning.rolls[0])
            rows[f"sampled{title}"] = onset_sums(windows, played)
            rows[f"consensus{title}"] = {
                **onset_sums(windows, tuned.guess(played)[None], tuned.chance[votes(played)]),
                "calibrated": cross_entropy(windows, tuned.calibration[votes(played)]),
                "threshold": tuned.threshold / len(played),
                "smoothing": tuned.smoothing,
            }
    return rows


def onset_sums(windows, played, chance=None, cells=True):
    """Of guesses at the onsets of Windows, played (N, W, T, V): cells hit in both, in the guess, in the real
    drums, in all: "cells" (P, N, 3), by voice: "voices" (P, N, V, 3), by bar: "bars" (P, N, bars, 3); and for
    `mean` "taps answered": tapped steps with a hit of any voice, and tapped steps; "hits off the taps": hits
    on a step without a tap, and hits. chance (W, T, V): probability of a hit, for "nats". cells (W, T, V)
    bool: only these are scored."""
    hit, real, performance = (played > 0) & cells, (windows.rolls[0] > 0) & cells, windows.performance
    both = np.stack([hit & real, hit, np.broadcast_to(real, hit.shape)], -1)
    sums = per_performance(windows.grid.sums(both, 2).swapaxes(0, 1), performance)
    tapped = taps(windows.rolls[0])
    answered = (hit.any(-1) & tapped).sum((0, 2)), len(hit) * tapped.sum(1)
    off = (hit & ~tapped[..., None]).sum((0, 2, 3)), hit.sum((0, 2, 3))
    row = {"cells": sums.sum((2, 3)), "voices": sums.sum(2), "bars": sums.sum(3)}
    row |= {"taps answered": pair(*answered, performance), "hits off the taps": pair(*off, performance)}
    return row if chance is None else row | {"nats": cross_entropy(windows, chance)}


def cross_entropy(windows, chance):
    """(P, 2): nats of probabilities (W, T, V) in (0, 1), and cells."""
    nats = -np.log(np.where(windows.rolls[0] > 0, chance, 1 - chance))
    return pair(nats.sum((1, 2)), np.full(len(nats), nats[0].size), windows.performance)


def mean_there(values):
    """The mean over the last axis, of those that are not NaN; NaN where there are none."""
    there = ~np.isnan(values)
    return quotient(np.where(there, values, 0).sum(-1), there.sum(-1))


# ------------------------------------------------------------------------- metrics, means over the samples


def sampled_f1(cells):
    return mean_there(f1(cells))


def precision(cells):
    return mean_there(quotient(cells[..., 0], cells[..., 1]))


def recall(cells):
    return mean_there(quotient(cells[..., 0], cells[..., 2]))


def macro_f1(voices):
    """The mean of the voices' own, of those that are hit."""
    return mean_there(mean_there(f1(voices)))


def f1_of(index):
    """F1 of one voice or bar of (..., N, voices or bars, 3); NaN where there is no such bar."""
    return lambda sums: sampled_f1(sums[..., index : index + 1, :].sum(-2))


def fall(right, swapped):
    """Of the F1, from the right rhythm to the other."""
    return (f1(right) - f1(swapped)).mean(-1)


# ------------------------------------------------------------------------- velocity and offset at real hits


def hit_rows(player, windows, train):
    """{row: hit_sums} of one set. "onsets known": the model knows the onsets, as when it humanises, and the
    tap; "tap alone": it knows the tap, and is scored in the cells that are really hit. One draw is the mean
    error of the single samples (of the tap alone: where the sample hits the cell); the median is the error of
    the samples' median, one guess a hit."""
    there = windows.rolls[0] > 0
    known = [roll[:, there] for roll in player(windows, "onsets")[1:]]
    onset, *played = player(windows, "unset")
    guesses = hit_guesses(train.rolls, windows.rolls).items()
    guesses = {name: [roll[there][None] for roll in guess] for name, guess in guesses} | {
        "onsets known, one draw": known,
        "onsets known, median": [np.median(draws, 0)[None] for draws in known],
        "tap alone, one draw": [np.where(onset > 0, roll, np.nan)[:, there] for roll in played],
        "tap alone, median": [median_at(roll, onset, np.nonzero(there))[None] for roll in played],
    }
    return {name: hit_sums(windows, *guess) for name, guess in guesses.items()}


def median_at(roll, onset, where):
    """The samples' median of a roll (N, W, T, V) in the cells `where` (a tuple of indices), (H,): of the hits
    in the cell; where there are none, of those in its step; where there are none, of all."""
    hit = onset > 0
    guess = np.full(len(where[0]), np.median(roll[hit]) if hit.any() else 0.0)
    for i, (window, step, voice) in enumerate(zip(*where)):
        for of in ((slice(None), window, step, voice), (slice(None), window, step)):
            if hit[of].any():
                guess[i] = np.median(roll[of][hit[of]])
                break
    return guess


def hit_sums(windows, vel, timeoffset):
    """Of guesses at the real hits of Windows, (N, H) in the order of np.nonzero, NaN for no guess: absolute
    errors and how many, (P, 2), of "velocity" (0 to 1) and "offset" (ms); of all hits, of those that are the
    tap ("..., the tap itself") and of the others ("..., the others")."""
    onset, real_vel, real_offset = windows.rolls
    where = np.nonzero(onset > 0)
    performance = windows.performance[where[0]]
    is_tap = loudest_voice(real_vel)[where[0], where[1], 0] == where[2]
    errors = {
        "velocity": np.abs(vel - real_vel[where]),
        "offset": np.abs(timeoffset - real_offset[where]) * windows.step_ms[where[0]],
    }
    row = {}
    for part, chosen in (("", True), (", the tap itself", is_tap), (", the others", ~is_tap)):
        for head, error in errors.items():
            there = ~np.isnan(error) & chosen
            row[head + part] = pair(np.where(there, error, 0).sum(0), there.sum(0), performance)
    return row
