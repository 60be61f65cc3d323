"""95 % intervals of figures by the bootstrap (Efron 1979) over performances.

Windows of one performance are alike, so whole performances are drawn again, with replacement. Every figure is
a function of sums over the performances; resampling them is one matrix product, however large the set.
"""

import functools
import warnings

import numpy as np

REPEATS = 1000
COVERED = 95  # per cent
SEED = 0


def per_performance(values, performance, n_performances=None):
    """Sums of values (W, ...) over the windows of each performance (W,): (P, ...) float64. P is
    n_performances, where performance counts from 0, or as many as there are."""
    if n_performances is None:
        names, performance = np.unique(performance, return_inverse=True)
        n_performances = len(names)
    sums = np.zeros((n_performances, *np.shape(values)[1:]))
    np.add.at(sums, performance, values)
    return sums


def pair(part, whole, performance):
    """(P, 2): two arrays (W,) summed, for `mean`: the figure sum(part) / sum(whole)."""
    return per_performance(np.stack([part, whole], 1), performance)


def estimate(function, *sums):
    """{"value", "low", "high"}: a figure and its interval.

    sums: arrays (P, ...); those of equally many performances are drawn together. function: of the totals of
    each, (...,), with any leading axes in front; gives one number for each of these, NaN where undefined.
    """
    value = function(*(part.sum(0) for part in sums))
    with warnings.catch_warnings():  # a figure that is NaN in every draw has no interval
        warnings.simplefilter("ignore", RuntimeWarning)
        again = function(*(np.tensordot(draws(len(part)), part, 1) for part in sums))
        low, high = np.nanpercentile(again, [50 - COVERED / 2, 50 + COVERED / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


@functools.cache
def draws(n_performances):
    """How often each performance is in each draw: (REPEATS, P), the same every time."""
    chance = np.full(n_performances, 1 / n_performances)
    return np.random.default_rng(SEED).multinomial(n_performances, chance, REPEATS).astype(np.float64)


def quotient(a, b):
    """a / b elementwise, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def mean(sums):
    """Of sums (..., 2) of x and 1."""
    return quotient(sums[..., 0], sums[..., 1])


def f1(sums):
    """Of sums (..., 3) of cells that are hit in both, in the guess, in the real drums."""
    return quotient(2 * sums[..., 0], sums[..., 1] + sums[..., 2])
