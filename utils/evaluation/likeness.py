"""Figures of drums as they are played, in numpy: how real they look, how they answer a tap, how they obey.

Rolls are onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, float arrays (..., T, V): T steps, V
voices. A figure that has nothing to be taken from (the loudness of no hits) is NaN.
"""

import numpy as np

from model.bars import BarGrid
from utils.corpus.attributes import bar_attributes
from utils.midi.drums import VOICES, voice_index

KL_BINS = 16
COMMONEST = 6  # voices whose spreads are looked at one by one
MIDI_VELOCITY = 127


# ------------------------------------------------------------------------- likeness to real drums


def describe(rolls, real):
    """All figures of likeness of `rolls` = (onset, vel, timeoffset), as {name: number}.

    real: the same three of real drums; they say which voices are the six commonest and what the KLs are from.
    Names end in the voice where a figure is of one voice.
    """
    onset, vel, timeoffset = rolls
    figures = {"onset rate": mean(onset)}
    figures |= {f"onset rate, {name}": mean(onset[..., v]) for v, name in enumerate(VOICES)}
    all_voices = [("", (Ellipsis,))]
    for name, cells in all_voices + [(f", {VOICES[v]}", (Ellipsis, v)) for v in commonest_voices(real[0])]:
        hit = onset[cells] > 0
        velocities, offsets = vel[cells][hit], timeoffset[cells][hit]
        figures[f"velocity mean{name}"] = mean(velocities)
        figures[f"velocity deviation{name}"] = deviation(velocities)
        figures[f"offset deviation{name}"] = deviation(offsets)
    figures["offset spread within a step"] = offset_spread(onset, timeoffset)
    figures["steps with more than two non-kick voices"] = crowded_share(onset)
    figures["steps with open and closed hat"] = both_hats_share(onset)
    hit, real_hit = onset > 0, real[0] > 0
    figures["velocity KL"] = kl_divergence(real[1][real_hit], vel[hit], low=0.0)
    figures["offset KL"] = kl_divergence(real[2][real_hit], timeoffset[hit], low=-0.5)
    return figures


def mean(values):
    """Mean of an array of any shape."""
    return float(np.mean(values, dtype=np.float64)) if np.size(values) else float("nan")


def deviation(values):
    """Standard deviation (of the population) of an array of any shape."""
    return float(np.std(values, dtype=np.float64)) if np.size(values) else float("nan")


def ratio(generated, real):
    """generated / real, NaN where real is 0."""
    return generated / real if real else float("nan")


def commonest_voices(onset, n=COMMONEST):
    """Indices of the n voices with the most hits, the most frequent first."""
    hits = onset.reshape(-1, onset.shape[-1]).sum(0)
    return [int(voice) for voice in np.argsort(-hits, kind="stable")[:n]]


def kl_divergence(real, generated, low, width=1.0, bins=KL_BINS):
    """KL(real || generated) in nats of two 1-D samples, as histograms of `bins` equal bins over
    [low, low + width] with one added to every count."""
    p, q = (histogram(values, low, width, bins) + 1 for values in (real, generated))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def histogram(values, low, width=1.0, bins=KL_BINS):
    """Counts of a 1-D sample in `bins` equal bins over [low, low + width]; what lies outside is in the outer two."""
    place = np.floor((np.asarray(values, np.float64) - low) / width * bins).astype(int)
    return np.bincount(np.clip(place, 0, bins - 1), minlength=bins)


def crowded_share(onset):
    """Share of the steps in which more than two voices other than the kick are hit."""
    others = np.delete(onset, voice_index("kick"), axis=-1)
    return mean((others > 0).sum(-1) > 2)


def both_hats_share(onset):
    """Share of the steps in which open and closed hat are hit together."""
    return mean((onset[..., voice_index("open_hat")] > 0) & (onset[..., voice_index("closed_hat")] > 0))


def offset_spread(onset, timeoffset):
    """Latest minus earliest offset, in steps: the mean over steps with two hits or more."""
    hit = onset > 0
    latest = np.where(hit, timeoffset, -np.inf).max(-1)
    earliest = np.where(hit, timeoffset, np.inf).min(-1)
    several = hit.sum(-1) >= 2
    return mean(latest[several] - earliest[several])


# ------------------------------------------------------------------------- answers to a tap


def onset_scores(predicted, real):
    """Precision, recall and F1 of the hits among all cells, {name: number}; both arrays of one shape."""
    predicted, real = predicted > 0, real > 0
    right = int((predicted & real).sum())
    return {
        "precision": ratio(right, int(predicted.sum())),
        "recall": ratio(right, int(real.sum())),
        "f1": ratio(2 * right, int(predicted.sum()) + int(real.sum())),
    }


def tap_answers(onset, tap):
    """How the taps (..., T) bool are answered by onset (..., T, V), {name: number}.

    taps answered: share of the tapped steps with a hit of any voice; hits off the taps: share of all hits
    that fall on a step without a tap.
    """
    answered = (onset > 0).any(-1)[tap]
    return {
        "taps answered": mean(answered),
        "hits off the taps": ratio(float(onset[~tap].sum()), float(onset.sum())),
    }


# ------------------------------------------------------------------------- obedience


def adherence(asked, got, steps_per_bar):
    """Asked against got, bar by bar, {control: {spearman, error, asked}}; asked and got: (onset, vel, ...) rolls.

    spearman: rank correlation over the bars; error: mean absolute difference; asked: mean of what was asked.
    Hits and the nine voices are in hits per bar, velocity in MIDI's 0 to 127 (of the bars with hits on both sides).
    """
    figures = {}
    asked, got = (_bars_in_hits(*rolls[:2], steps_per_bar) for rolls in (asked, got))
    for name in asked:
        wanted, played = asked[name], got[name]
        there = ~np.isnan(wanted) & ~np.isnan(played)
        wanted, played = wanted[there].astype(np.float64), played[there].astype(np.float64)
        error = mean(np.abs(wanted - played))
        figures[name] = {"spearman": spearman(wanted, played), "error": error, "asked": mean(wanted)}
    return figures


def _bars_in_hits(onset, vel, steps_per_bar):
    grid = BarGrid.four_four(onset.shape[-2], steps_per_bar // 4)
    density, intensity, instrument = bar_attributes(onset, vel, grid).values()
    bars = {"hits": density * steps_per_bar * onset.shape[-1], "velocity": intensity * MIDI_VELOCITY}
    return bars | {name: instrument[..., v] * steps_per_bar for v, name in enumerate(VOICES)}


def spearman(a, b):
    """Spearman's rank correlation of two 1-D arrays, ties sharing their mean rank; NaN where one is constant."""
    if len(a) < 2:
        return float("nan")
    a, b = (rank - rank.mean() for rank in (ranks(a), ranks(b)))
    return ratio(float((a * b).sum()), float(np.sqrt((a * a).sum() * (b * b).sum())))


def ranks(values):
    """Ranks of a 1-D array, from 1; equals share their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
