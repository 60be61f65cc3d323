"""How real the drums look, how they obey the true controls, how varied they are, and what is copied.

Each figure stands beside that of real drums of the split, and of the other split (the floor, what two sets of
real drums differ by). Rolls are onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, (N, W, T, V).
"""

import numpy as np

from utils.evaluation.bootstrap import per_performance, quotient
from utils.evaluation.controls import adherence
from utils.evaluation.copies import copy_rows, variety_rows
from utils.midi.drums import VOICES, voice_index

KL_BINS = 16
COMMONEST = 6  # voices whose spreads are looked at one by one
LOWEST = {"velocity": 0.0, "offset": -0.5}  # where a head's histogram begins; it is 1 wide


def measure(player, sets):
    rows, spreads = {}, {}
    for name in ("T2", "T4"):
        windows = sets(name)
        played = {"controls unset": player(windows, "unset")}
        if name == "T4":
            played["true controls"] = player(windows, "given")
        both = windows, sets(name, sets.other)
        real, floor = (likeness_sums([roll[None] for roll in of.rolls], of.performance) for of in both)
        sums = {row: likeness_sums(rolls, windows.performance) for row, rolls in played.items()}
        spreads |= {f"{name}, {row}": spread_rows(of, real) for row, of in sums.items()}
        sums = {"real": real, "floor": floor, **sums}
        rows[name] = {row: beside_real(of, real) for row, of in sums.items()}
    onset = played["controls unset"][0]
    return {
        "likeness": rows,
        "histograms": rows,
        "spreads": spreads,
        "true controls": {"T4": adherence(windows, played["true controls"])},
        "variety": {"T4": variety_rows(onset, windows, sets("T4", "train"))},
        "copies": {"T4": copy_rows(onset[0], windows, sets)},
    }


def likeness_sums(rolls, performance):
    """Sums over the windows of each of P performances. "velocity", "offset" (P, V, 3): 1, x, xx of the hits;
    "velocity histogram", "offset histogram" (P, KL_BINS). For `mean`, (P, 2): "within": latest minus earliest
    offset, in steps, of the steps with two hits or more; "crowded", "both hats": of all steps those with more
    than two non-kick voices, with open and closed hat; "rate", and (P, V, 2) "rates": of all cells those that
    are hit."""
    onset, *heads = rolls
    hit, sums = onset > 0, {}

    def add(name, *values):
        """values: (N, W, ...) each, to be summed over the samples and the windows of a performance."""
        sums[name] = per_performance(np.stack([value.sum(0) for value in values], -1), performance)

    for head, roll in zip(LOWEST, heads):
        x = np.where(hit, roll, 0).astype(np.float64)
        add(head, hit.sum(2), x.sum(2), (x * x).sum(2))
        counts = [histogram(roll[:, w][hit[:, w]], LOWEST[head]) for w in range(hit.shape[1])]
        sums[f"{head} histogram"] = per_performance(np.stack(counts), performance)
    several, steps = hit.sum(-1) >= 2, np.ones(hit.shape[:3])
    width = np.where(hit, heads[1], -np.inf).max(-1) - np.where(hit, heads[1], np.inf).min(-1)
    crowded = np.delete(hit, voice_index("kick"), -1).sum(-1) > 2
    hats = hit[..., voice_index("open_hat")] & hit[..., voice_index("closed_hat")]
    add("within", np.where(several, width, 0).sum(2), several.sum(2))
    add("crowded", crowded.sum(2), steps.sum(2))
    add("both hats", hats.sum(2), steps.sum(2))
    add("rates", hit.sum(2), np.ones(hit.shape).sum(2))
    return sums | {"rate": sums["rates"].sum(1)}


def histogram(values, low):
    """Counts of a 1-D sample in KL_BINS equal bins over [low, low + 1]; the outer two hold the rest."""
    place = np.floor((np.asarray(values, np.float64) - low) * KL_BINS).astype(int)
    return np.bincount(np.clip(place, 0, KL_BINS - 1), minlength=KL_BINS)


def commonest_voices(sums, n=COMMONEST):
    """Indices of the n voices with the most hits in likeness_sums, the most frequent first."""
    return np.argsort(-sums["rates"][..., 0].sum(0), kind="stable")[:n].tolist()


def beside_real(sums, real):
    """What the metrics take of likeness_sums: "velocity", "rate" ... of all voices; "rate, kick" ... of each,
    "velocity, kick" ... of the commonest; "... / real", "... KL": beside the real; "... bins": shares."""
    row = {name: sums[name] for name in ("rate", "within", "crowded", "both hats")}
    row |= {f"rate, {voice}": sums["rates"][:, v] for v, voice in enumerate(VOICES)}
    row["within / real"] = sums["within"], real["within"]
    for head in LOWEST:
        row[head] = sums[head].sum(1)
        row |= {f"{head}, {VOICES[v]}": sums[head][:, v] for v in commonest_voices(real)}
        row[f"{head} / real"] = row[head], real[head].sum(1)
        counts = real[f"{head} histogram"], sums[f"{head} histogram"]
        row |= {f"{head} KL": counts, f"{head} bins": quotient(counts[1].sum(0), counts[1].sum()).tolist()}
    return row


def spread_rows(sums, real):
    """{voice: sums} of the commonest voices."""
    voices = commonest_voices(real)
    return {VOICES[v]: {head: (sums[head][:, v], real[head][:, v]) for head in LOWEST} for v in voices}


# ------------------------------------------------------------------------- metrics


def level(sums):
    """The mean out of sums (..., 3) of 1, x, xx."""
    return quotient(sums[..., 1], sums[..., 0])


def deviation(sums):
    """The standard deviation, likewise."""
    n, x, xx = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(quotient(xx, n) - quotient(x, n) ** 2, 0))


def over_real(metric):
    return lambda played, real: quotient(metric(played), metric(real))


def kl(real, played):
    """KL(real || played) in nats out of the counts (..., KL_BINS) of two histograms, one added to each."""
    p, q = ((counts + 1) / (counts.sum(-1, keepdims=True) + KL_BINS) for counts in (real, played))
    return (p * np.log(p / q)).sum(-1)
