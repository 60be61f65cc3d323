"""How real what is played looks, how varied it is, and how much of it is copied.

Each figure stands beside the same of real drums of the split, and of those of the other split: the floor, what two sets
of real drums differ by. Figures with an interval are {"value", "low", "high"}.
"""

import time

import numpy as np

from utils.evaluation.baselines import nearest_tap
from utils.evaluation.bootstrap import estimate, per_performance, quotient
from utils.evaluation.copies import difference, longest_copies, pair_sums, repetition, training_bars
from utils.evaluation.likeness import KL_BINS, adherence, commonest_voices, describe, histogram
from utils.midi.drums import VOICES, voice_index

HEADS = {"velocity": (1, 0.0), "offset": (2, -0.5)}  # which of the rolls, where its histogram begins


def realism_figures(player, sets):
    """All of it, on T2 and T4, as a dict for JSON.

    likeness: {set: {row: what describe gives}}, rows real, floor, unset, given (T4 alone). ratios: {set: {setting: what
    likeness_ratios gives}}. histograms: {set: {row: {head: shares of KL_BINS}}}. given: obedience to the true controls
    of T4 (realism.adherence). variety: see variety_figures.
    """
    figures = {"likeness": {}, "ratios": {}, "histograms": {}}
    for name in ("T2", "T4"):
        windows = sets(name)
        played = {
            setting: player(windows, setting)
            for setting in (("unset", "given") if name == "T4" else ("unset",))
        }
        rows = {"real": windows.rolls, "floor": sets(name, sets.other).rolls, **played}
        figures["likeness"][name] = {row: describe(rolls, windows.rolls) for row, rolls in rows.items()}
        figures["ratios"][name] = {
            setting: likeness_ratios(rolls, windows) for setting, rolls in played.items()
        }
        figures["histograms"][name] = {row: histograms(rolls) for row, rolls in rows.items()}
    real_again = [np.broadcast_to(roll, played["given"][0].shape) for roll in windows.rolls]
    figures["given"] = adherence(real_again, played["given"], player.model.steps_per_bar)
    began = time.perf_counter()
    figures["variety"] = variety_figures(played["unset"][0], windows, sets, player.model.steps_per_bar)
    player.seconds["copies"] = time.perf_counter() - began
    return figures


# ------------------------------------------------------------------------- likeness, with intervals


def likeness_ratios(rolls, windows):
    """What is played, rolls (N, W, T, V), over what is real: {name: figure}. The spreads are standard deviations.

    "velocity KL", "offset KL" (nats) and "steps with more than two non-kick voices" (share) are no ratios.
    """
    played, real = (
        likeness_sums(rolls, windows),
        likeness_sums([roll[None] for roll in windows.rolls], windows),
    )
    figures = {}
    voices = commonest_voices(windows.rolls[0])
    for head in HEADS:
        for name, chosen in [("", voices), *((f", {VOICES[voice]}", [voice]) for voice in voices)]:
            chosen = slice(None) if name == "" else chosen
            figures[f"{head} deviation{name}"] = estimate(
                lambda a, b: quotient(spread(a[..., chosen, :]), spread(b[..., chosen, :])),
                played[head],
                real[head],
            )
    within = played["within"], real["within"]
    figures["offset spread within a step"] = estimate(lambda a, b: quotient(mean_of(a), mean_of(b)), *within)
    for head in HEADS:
        bins = f"{head} histogram"
        figures[f"{head} KL"] = estimate(kl_of_counts, real[bins], played[bins])
    return figures | {"steps with more than two non-kick voices": estimate(mean_of, played["crowded"])}


def likeness_sums(rolls, windows):
    """Sums over the windows of each of P performances: velocity and offset (P, V, 3): 1, x, xx of the hits; their
    histograms (P, KL_BINS); within (P, 2): latest minus earliest offset of the steps with two hits or more, and those
    steps; crowded (P, 2): steps with more than two non-kick voices, and all steps. rolls (N, W, T, V)."""
    sums = {}

    def add(name, values):
        sums[name] = sums.get(name, 0) + per_performance(values, windows.performance)

    for onset, *heads in zip(*rolls):
        hit = onset > 0
        for (name, (_, low)), roll in zip(HEADS.items(), heads):
            x = np.where(hit, roll, 0).astype(np.float64)
            add(name, np.stack([hit.sum(1), x.sum(1), (x * x).sum(1)], -1))
            add(
                f"{name} histogram",
                np.stack([histogram(window[there], low) for window, there in zip(roll, hit)]),
            )
        several = hit.sum(-1) >= 2
        width = np.where(hit, heads[1], -np.inf).max(-1) - np.where(hit, heads[1], np.inf).min(-1)
        add("within", np.stack([np.where(several, width, 0).sum(1), several.sum(1)], -1))
        crowded = np.delete(hit, voice_index("kick"), -1).sum(-1) > 2
        add("crowded", np.stack([crowded.sum(1), np.full(len(hit), hit.shape[1])], -1))
    return sums


def mean_of(sums):
    """Out of sums (..., 2) of x and 1."""
    return quotient(sums[..., 0], sums[..., 1])


def spread(sums):
    """Standard deviation over all voices out of sums (..., V, 3) of 1, x, xx."""
    n, x, xx = np.moveaxis(sums.sum(-2), -1, 0)
    return np.sqrt(np.maximum(quotient(xx, n) - quotient(x, n) ** 2, 0))


def kl_of_counts(real, generated):
    """realism.kl_divergence out of the counts (..., KL_BINS) of both histograms."""
    p, q = ((counts + 1) / (counts.sum(-1, keepdims=True) + KL_BINS) for counts in (real, generated))
    return (p * np.log(p / q)).sum(-1)


def histograms(rolls):
    """{head: [share of the hits in each of KL_BINS bins]}."""
    hit = rolls[0] > 0
    counts = {name: histogram(rolls[index][hit], low) for name, (index, low) in HEADS.items()}
    return {name: [float(share) for share in quotient(count, count.sum())] for name, count in counts.items()}


# ------------------------------------------------------------------------- variety and copies


def variety_figures(onset, windows, sets, steps_per_bar):
    """Of what is played, onset (N, W, T, V), and of real drums.

    difference: 1 - F1 of two takes to one rhythm, {"two samples", "a sample and the real drums", "the nearest training
    tap's drums and the real drums"}: samples that differ from one another as they differ from the real drums are as
    varied as the rhythm leaves open. repetition: {row: see copies.repetition}. longest copy: {row: steps of the window
    that stand just so in a training performance, {"mean", "most", "whole": share of the windows that do from end to
    end}}; rows are the first sample, real and floor.
    """
    real, performance = windows.rolls[0], windows.performance
    train, floor = sets("T4", "train"), sets("T4", sets.other).rolls[0]
    nearest = train.rolls[0][nearest_tap(train.rolls, windows.rolls)]
    sums = {
        "two samples": pair_sums(onset),
        "a sample and the real drums": sum(pair_sums(np.stack([sample, real])) for sample in onset),
        "the nearest training tap's drums and the real drums": pair_sums(np.stack([nearest, real])),
    }
    rows = {"unset": onset[0], "real": real, "floor": floor}
    copied = {row: longest_copies(of, *training_bars(sets.cache, steps_per_bar)) for row, of in rows.items()}
    n_steps = real.shape[1]
    return {
        "difference": {
            name: estimate(difference, per_performance(part, performance)) for name, part in sums.items()
        },
        "repetition": {row: repetition(of, steps_per_bar) for row, of in rows.items()},
        "longest copy": {
            row: {
                "mean": float(steps.mean()),
                "most": int(steps.max()),
                "whole": float((steps == n_steps).mean()),
            }
            for row, steps in copied.items()
        },
    }
