"""Is it new: how much of what is played stands in the training drums, repeats itself, or is always the same.
Onsets alone are looked at: arrays are (..., W, T, V), W windows of T steps, V voices."""

import numpy as np

from utils.evaluation.baselines import nearest_tap
from utils.evaluation.bootstrap import pair, per_performance, quotient

AT_ONCE = 32  # windows


def copy_rows(onset, windows, sets):
    """{row: copy_sums} of one sample, onset (W, T, V), of the real drums, and of those of the other split."""
    known, floor = training_bars(sets.cache, windows.grid.longest), sets("T4", sets.other)
    rows = {"one sample": copy_sums(onset, windows, known)}
    rows["real"] = copy_sums(windows.rolls[0], windows, known)
    return rows | {"floor": copy_sums(floor.rolls[0], floor, known)}


def copy_sums(onset, windows, known):
    """For `mean`, (P, 2): "like the bar before": bars that equal the one before in their window; "like no
    other": bars that equal no other of all windows; "longest": steps on end of a window that stand just so in
    a training performance; "whole": windows that do from end to end. "most": the longest of all."""
    bars = windows.grid.by_bar(step_codes(onset))
    before = (bars[:, 1:] == bars[:, :-1]).all(-1)
    in_a_row = bars.reshape(-1, bars.shape[-1])
    _, which, count = np.unique(in_a_row, axis=0, return_inverse=True, return_counts=True)
    alone = (count[which.ravel()] == 1).reshape(bars.shape[:2])
    longest = longest_copies(onset, windows.grid, *known)[:, None]
    whole = longest == windows.grid.n_steps
    values = {"like the bar before": before, "like no other": alone, "longest": longest, "whole": whole}
    all_of = {name: np.full(len(of), of.shape[1]) for name, of in values.items()}
    sums = {name: pair(of.sum(1), all_of[name], windows.performance) for name, of in values.items()}
    return sums | {"most": int(longest.max())}


def variety_rows(onset, windows, train):
    """{row: {"hits": pair_sums}}. Samples, onset (N, W, T, V), that differ from one another as they differ
    from the real drums are as varied as the rhythm leaves open."""
    real = windows.rolls[0]
    nearest = train.rolls[0][nearest_tap(train.rolls, windows.rolls)]
    sums = {
        "two samples": pair_sums(onset),
        "a sample and the real drums": sum(pair_sums(np.stack([sample, real])) for sample in onset),
        "the nearest training tap's drums and the real drums": pair_sums(np.stack([nearest, real])),
    }
    return {row: {"hits": per_performance(of, windows.performance)} for row, of in sums.items()}


def step_codes(onset):
    """(..., V) -> (...) int16: which voices are hit, as one number."""
    return ((np.asarray(onset) > 0) @ (1 << np.arange(np.shape(onset)[-1]))).astype(np.int16)


def training_bars(cache, steps_per_bar):
    """All bars of the training performances in 4/4, fills too: step_codes (bars, S), and which bar is the
    first of a performance, (bars,) bool."""
    files = [file for file in cache.files if file["split"] == "train" and not file.get("bars")]
    steps = [cache.vel[file["start"] : file["start"] + file["n_steps"]] for file in files]
    codes = [step_codes(vel).reshape(-1, steps_per_bar) for vel in steps]
    return np.concatenate(codes), np.concatenate([np.arange(len(bars)) == 0 for bars in codes])


def longest_copies(onset, grid, bars, first):
    """For each window (W, T, V) the most consecutive steps of it, (W,), that stand just so, all voices and at
    the same place in the bar, in a training performance. bars, first: of training_bars."""
    longest, at_place = [], np.ascontiguousarray(bars.T)
    for start in range(0, len(onset), AT_ONCE):
        codes = step_codes(onset[start : start + AT_ONCE])
        run = np.zeros((len(codes), len(bars)), np.int16)  # steps up to here, ending in each training bar
        most = np.zeros(len(codes), np.int16)
        for place, code in zip(grid.index.place, codes.T):
            if place == 0:
                run[:, 1:] = run[:, :-1].copy()
                run[:, first] = 0
            run += 1
            run *= at_place[place] == code[:, None]
            most = np.maximum(most, run.max(1))
        longest.append(most)
    return np.concatenate(longest)


def pair_sums(onset):
    """(W, 2) of samples (N, W, T, V) of the same rhythms, to be summed and given to `difference`: hits that
    two samples have in common, and hits of the two, over all pairs."""
    count, n = (onset > 0).sum(0), len(onset)
    return np.stack([(count * (count - 1)).sum((1, 2)) / 2, (n - 1) * count.sum((1, 2))], 1)


def difference(sums):
    """1 - F1 between two takes, out of sums (..., 2) of hits in common and of hits of both."""
    return 1 - quotient(2 * sums[..., 0], sums[..., 1])
