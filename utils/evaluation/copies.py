"""Is it new: how much of what is played stands in the training drums, repeats itself, or is the same every time.

Only onsets are looked at. Onset arrays are (..., W, T, V), W windows of T steps, V voices.
"""

import numpy as np

from utils.evaluation.bootstrap import quotient

AT_ONCE = 32  # windows


def step_codes(onset):
    """(..., V) -> (...) int16: which voices are hit, as one number."""
    return ((np.asarray(onset) > 0) @ (1 << np.arange(np.shape(onset)[-1]))).astype(np.int16)


def training_bars(cache, steps_per_bar):
    """All bars of the training performances, fills too: step_codes (bars, S), and which bar is the first of a
    performance, (bars,) bool."""
    codes, first = [], []
    for file in cache.files:
        if file["split"] == "train":
            bars = step_codes(cache.vel[file["start"] : file["start"] + file["n_steps"]]).reshape(
                -1, steps_per_bar
            )
            codes.append(bars)
            first.append(np.arange(len(bars)) == 0)
    return np.concatenate(codes), np.concatenate(first)


def longest_copies(onset, bars, first):
    """For each window (W, T, V) the most consecutive steps of it, (W,), that stand just so, all voices and at the same
    place in the bar, in a training performance. bars, first: of training_bars."""
    steps_per_bar, longest = bars.shape[1], []
    place = [np.ascontiguousarray(column) for column in bars.T]
    for start in range(0, len(onset), AT_ONCE):
        codes = step_codes(onset[start : start + AT_ONCE])
        run = np.zeros(
            (len(codes), len(bars)), np.int16
        )  # of the steps up to here, ending in each training bar
        most = np.zeros(len(codes), np.int16)
        for step, code in enumerate(codes.T):
            if step % steps_per_bar == 0:
                run[:, 1:] = run[:, :-1].copy()
                run[:, first] = 0
            run += 1
            run *= place[step % steps_per_bar] == code[:, None]
            most = np.maximum(most, run.max(1))
        longest.append(most)
    return np.concatenate(longest)


def repetition(onset, steps_per_bar):
    """{name: share of the bars}: those that equal the bar before in their window, and those that equal no other bar of
    all windows. onset (W, T, V)."""
    codes = step_codes(onset).reshape(len(onset), -1, steps_per_bar)
    again = (codes[:, 1:] == codes[:, :-1]).all(-1)
    _, which, count = np.unique(
        codes.reshape(-1, steps_per_bar), axis=0, return_inverse=True, return_counts=True
    )
    alone = count[which.ravel()] == 1
    return {"bars like the bar before": float(again.mean()), "bars like no other": float(alone.mean())}


def pair_sums(onset):
    """(W, 2) of samples (N, W, T, V) of the same rhythms, to be summed and given to `difference`: hits that two samples
    have in common, and hits of the two, over all pairs."""
    count, n = (onset > 0).sum(0), len(onset)
    return np.stack([(count * (count - 1)).sum((1, 2)) / 2, (n - 1) * count.sum((1, 2))], 1)


def difference(sums):
    """1 - F1 between two takes, out of sums (..., 2) of hits in common and of hits of both."""
    return 1 - quotient(2 * sums[..., 0], sums[..., 1])
