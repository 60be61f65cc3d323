"""How real the drums look that are played, how they obey the true controls, how varied they are, and what is copied.

Each figure stands beside the same of real drums of the split, and of those of the other split: the floor, what two sets
of real drums differ by. Rolls are onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, (N, W, T, V).
"""

from dataclasses import dataclass

import numpy as np

from utils.evaluation.bootstrap import estimate, mean, per_performance, quotient
from utils.evaluation.controls import adherence
from utils.evaluation.copies import measure_copies, variety
from utils.midi.drums import N_VOICES, VOICES, voice_index

KL_BINS = 16
COMMONEST = 6  # voices whose spreads are looked at one by one
LOWEST = {"velocity": 0.0, "offset": -0.5}  # where a head's histogram begins; it is 1 wide


@dataclass
class Likeness:
    """likeness_sums of some drums, and of the real drums that they stand beside."""

    sums: dict
    real: dict


def measure(player, sets):
    rows, spreads = {}, {}
    for name in ("T2", "T4"):
        windows = sets(name)
        played = {"controls unset": player(windows, "unset")}
        if name == "T4":
            played["true controls"] = player(windows, "given")
        drums = {"real": windows, "floor": sets(name, sets.other)}
        sums = {
            row: likeness_sums([roll[None] for roll in of.rolls], of.performance) for row, of in drums.items()
        }
        sums |= {setting: likeness_sums(rolls, windows.performance) for setting, rolls in played.items()}
        rows[name] = {row: Likeness(of, sums["real"]) for row, of in sums.items()}
        for setting in played:
            of_voices = {VOICES[v]: (rows[name][setting], v) for v in commonest_voices(sums["real"])}
            spreads[f"{name}, {setting}"] = of_voices
    onset = played["controls unset"][0]
    return {
        "likeness": rows,
        "histograms": rows,
        "spreads": spreads,
        "true controls": {"T4": adherence(windows, played["true controls"])},
        "variety": {"T4": variety(onset, windows, sets("T4", "train"))},
        "copies": {"T4": measure_copies(onset[0], windows, sets)},
    }


def likeness_sums(rolls, performance):
    """Sums over the windows of each of P performances: velocity and offset (P, V, 3): 1, x, xx of the hits; "velocity
    histogram", "offset histogram" (P, KL_BINS); within (P, 2): latest minus earliest offset of the steps
    with two hits or more, and those steps; crowded, both hats (P, 2): steps with more than two non-kick voices, with
    open and closed hat, and all steps; rate (P, V, 2): hits and steps. rolls (N, W, T, V)."""
    sums = {}

    def add(name, *values):
        sums[name] = sums.get(name, 0) + per_performance(np.stack(values, -1), performance)

    for onset, vel, timeoffset in zip(*rolls):
        hit = onset > 0
        steps = np.full(len(hit), hit.shape[1])
        for head, roll in (("velocity", vel), ("offset", timeoffset)):
            x = np.where(hit, roll, 0).astype(np.float64)
            add(head, hit.sum(1), x.sum(1), (x * x).sum(1))
            counts = np.stack([histogram(window[there], LOWEST[head]) for window, there in zip(roll, hit)])
            add(f"{head} histogram", *counts.T)
        several = hit.sum(-1) >= 2
        width = np.where(hit, timeoffset, -np.inf).max(-1) - np.where(hit, timeoffset, np.inf).min(-1)
        add("within", np.where(several, width, 0).sum(1), several.sum(1))
        crowded = np.delete(hit, voice_index("kick"), -1).sum(-1) > 2
        add("crowded", crowded.sum(1), steps)
        hats = hit[..., [voice_index("open_hat"), voice_index("closed_hat")]].all(-1)
        add("both hats", hats.sum(1), steps)
        add("rate", hit.sum(1), np.broadcast_to(steps[:, None], (len(hit), N_VOICES)))
    return sums


def histogram(values, low):
    """Counts of a 1-D sample in KL_BINS equal bins over [low, low + 1]; what lies outside is in the outer two."""
    place = np.floor((np.asarray(values, np.float64) - low) * KL_BINS).astype(int)
    return np.bincount(np.clip(place, 0, KL_BINS - 1), minlength=KL_BINS)


def commonest_voices(sums, n=COMMONEST):
    """Indices of the n voices with the most hits in likeness_sums, the most frequent first."""
    return [int(voice) for voice in np.argsort(-sums["rate"][..., 0].sum(0), kind="stable")[:n]]


# ------------------------------------------------------------------------- metrics


def rate(row, voice=None):
    """Hits per cell, of one voice or of all."""
    return estimate(mean, _of_voice(row.sums["rate"], voice))


def level(row, head, voice=None):
    """The mean of the hits' velocity (or offset); of one voice, where it is among the commonest."""
    if voice is not None and voice not in commonest_voices(row.real):
        return None
    return estimate(lambda s: quotient(s[..., 1], s[..., 0]), _of_voice(row.sums[head], voice))


def deviation(row, head, voice=None):
    """The standard deviation of the hits' velocity or offset; of one voice, where it is among the commonest."""
    if voice is not None and voice not in commonest_voices(row.real):
        return None
    return estimate(_deviation, _of_voice(row.sums[head], voice))


def deviation_over_real(row, head, voice=None):
    """The same divided by that of the real drums."""
    return _over_real(_deviation, *(_of_voice(of[head], voice) for of in (row.sums, row.real)))


def voice_deviation_over_real(row, head):
    likeness, voice = row
    return deviation_over_real(likeness, head, voice)


def spread_within_step(row):
    """Latest minus earliest offset, in steps: the mean over steps with two hits or more."""
    return estimate(mean, row.sums["within"])


def spread_within_step_over_real(row):
    return _over_real(mean, row.sums["within"], row.real["within"])


def share_of_steps(row, name):
    """Of the steps that are "crowded", or have "both hats"."""
    return estimate(mean, row.sums[name])


def kl(row, head):
    """KL(real || played) in nats of velocity or offset, as histograms with one added to every count."""
    return estimate(kl_of_counts, *(of[f"{head} histogram"] for of in (row.real, row.sums)))


def shares_of_bins(row, head):
    """[share of the hits in each bin], for the pictures."""
    counts = row.sums[f"{head} histogram"].sum(0)
    return quotient(counts, counts.sum()).tolist()


def kl_of_counts(real, played):
    """Out of the counts (..., KL_BINS) of both histograms."""
    p, q = ((counts + 1) / (counts.sum(-1, keepdims=True) + KL_BINS) for counts in (real, played))
    return (p * np.log(p / q)).sum(-1)


def _of_voice(sums, voice):
    """(P, V, k) -> (P, k)."""
    return sums.sum(1) if voice is None else sums[:, voice]


def _over_real(function, played, real):
    return estimate(lambda a, b: quotient(function(a), function(b)), played, real)


def _deviation(sums):
    """Out of sums (..., 3) of 1, x, xx."""
    n, x, xx = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(quotient(xx, n) - quotient(x, n) ** 2, 0))
