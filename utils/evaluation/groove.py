"""Does a groove hold: what the model plays to the own taps of real drums, beside these drums.

Windows of four bars, and of LONG bars, which are played in one go. Shapes: N samples, W windows, n bars of 16
steps, V voices; drums are two arrays (..., n, 16, V), onset bool and vel [0, 1].
"""

import numpy as np

from data_aug import unset_controls
from utils.evaluation.bootstrap import mean, pair, per_performance, quotient
from utils.midi.drums import voice_index
from utils.playing.groove import TIMEKEEPERS

LONG = 32  # bars
LONG_SAMPLES = 4  # at most, of such a window
LAGS = (1, 2, 4, 8, 16)
TRAINING_WINDOWS = 1024  # of the training split, real and played, for the classifier
TOMS = [voice_index(name) for name in ("floor_tom", "mid_tom", "high_tom")]
CRASH = voice_index("crash")
FILL = 3  # steps with a tom more than the middle bar of the window has
SHUFFLED, HALVES = "real, their bars shuffled", "real, in two halves"


def measure(player, sets):
    windows, train = sets("T4"), sets.part("T4", "train", TRAINING_WINDOWS)
    real, played = drums_of(windows.rolls, windows.grid), drums_of(player(windows, "unset"), windows.grid)
    groove = {"4 bars": rows(real, played, windows.performance)}
    long = sets.longest(LONG)
    samples = player.play(
        unset_controls(long.batch), min(player.samples, LONG_SAMPLES), f"{long.name}, unset"
    )
    parts = [drums_of(rolls, long.grid) for rolls in (long.rolls, samples)]
    groove[f"{long.grid.n_bars} bars"] = rows(*parts, long.performance)
    taught = drums_of(train.rolls, train.grid)
    imitated = drums_of(player.play(unset_controls(train.batch), 1, f"{train.name}, unset"), train.grid)
    first, rng = [roll[0] for roll in played], np.random.default_rng(0)
    tests = {
        "played": ((taught, [roll[0] for roll in imitated]), (real, first)),
        SHUFFLED: [
            (of, shuffled(of, by, rng))
            for of, by in ((taught, train.performance), (real, windows.performance))
        ],
    }
    found = {row: {"scores": two_sample(*pairs, windows.performance)} for row, pairs in tests.items()}
    halves = [np.unique(of.performance, return_inverse=True)[1] % 2 for of in (train, windows)]
    if all(half.any() for half in halves):
        parts = [
            [[roll[half == which] for roll in of] for which in (0, 1)]
            for of, half in zip((taught, real), halves)
        ]
        found[HALVES] = {"scores": two_sample(*parts, windows.performance, halves[1])}
    return {"groove": groove, "two samples": {"4 bars": found}}


def drums_of(rolls, grid):
    """onset, vel of rolls (..., T, V)."""
    onset, vel = (grid.by_bar(roll, -2) for roll in rolls[:2])
    return onset > 0, np.where(onset > 0, vel, 0)


# ------------------------------------------------------------------------- what holds


def rows(real, played, performance):
    """{row: sums} of drums (W, ...) and of samples (N, W, ...)."""
    found = {"real": groove_sums([roll[None] for roll in real], performance)}
    found["played"] = groove_sums(played, performance)
    for lag in (lag for lag in LAGS if lag_of(lag) in found["real"]):
        found["played"][f"{lag_of(lag)} - real"] = found["played"][lag_of(lag)], found["real"][lag_of(lag)]
    return found


def lag_of(lag):
    return f"likeness at lag {lag}"


def groove_sums(drums, performance):
    """For `mean`, (P, 2), of samples (N, W, n, 16, V).

    "likeness at lag k": of the hits of a bar and the one k bars before, the share that both have. "changes":
    how often the timekeeper, that of hats and ride with the most hits in a bar, is another one than in the
    bar before, in four bars, that is at three bar lines. "velocity": by how much, in MIDI, the velocities in
    a cell differ that is hit in two bars on end. "fills": bars with a fill, see `fills`; "crashes": of these,
    where a bar follows, those after which it begins with a crash.
    """
    onset, vel = drums
    hits, n_bars = onset.sum((-2, -1)), onset.shape[2]
    sums = {}

    def add(name, values, there):
        """The mean of values where they are there, both (N, W, ...)."""
        axes = (0, *range(2, values.ndim))
        sums[name] = pair(np.where(there, values, 0).sum(axes), there.sum(axes), performance)

    for lag in (lag for lag in LAGS if lag < n_bars):
        shared = (onset[:, :, lag:] & onset[:, :, :-lag]).sum((-2, -1))
        either = hits[:, :, lag:] + hits[:, :, :-lag] - shared
        add(lag_of(lag), quotient(shared, either), either > 0)
    keeper = timekeeper(onset)
    changed = (keeper[:, :, 1:] != keeper[:, :, :-1]) & (np.minimum(keeper[:, :, 1:], keeper[:, :, :-1]) >= 0)
    add("changes", 3 * changed, np.ones_like(changed))
    both = onset[:, :, 1:] & onset[:, :, :-1]
    add("velocity", 127 * np.abs(vel[:, :, 1:] - vel[:, :, :-1]), both)
    fill = fills(onset)
    add("fills", fill, np.ones_like(fill))
    add("crashes", onset[:, :, 1:, 0, CRASH], fill[:, :, :-1])
    return sums


def timekeeper(onset):
    """Which of TIMEKEEPERS has the most hits in each bar (..., n), the first of equals; -1: none has any."""
    hits = onset[..., TIMEKEEPERS].sum(-2)
    return np.where(hits.any(-1), hits.argmax(-1), -1)


def fills(onset):
    """Whether a bar (..., n) is a fill: its toms are hit on FILL steps more than those of the window's median
    bar. So a beat on the floor tom is none."""
    steps = onset[..., TOMS].any(-1).sum(-1)
    return steps >= np.median(steps, -1, keepdims=True) + FILL


def difference(ours, theirs):
    return mean(ours) - mean(theirs)


# ------------------------------------------------------------------------- two samples


def two_sample(taught, tested, performance, half=None):
    """How well a classifier that is taught to tell two kinds of drums (W, n, 16, V) apart tells apart two
    others: its scores as sums (P, 2, K) for `auc`, how many windows of each kind and performance have each
    of K scores. performance (W,): of both kinds; half (W,): the kind of each window, where it has but one.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second
    from threadpoolctl import threadpool_limits

    x, y = np.concatenate([features(*of) for of in taught]), np.repeat([0, 1], [len(of[0]) for of in taught])
    there = ~np.isnan(x).all(0)
    model = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=8, random_state=0)
    with threadpool_limits(1):  # the trees are so small that threads only wait for each other
        model.fit(x[:, there], y)
        scores = [model.predict_proba(features(*of)[:, there])[:, 1] for of in tested]
    levels, place = np.unique(np.concatenate(scores), return_inverse=True)
    of_kind = [performance] * 2 if half is None else [performance[half == kind] for kind in (0, 1)]
    kind = np.repeat([0, 1], [len(of) for of in scores])
    counts = np.zeros((len(place), 2, len(levels)))
    counts[np.arange(len(place)), kind, place] = 1
    return per_performance(counts, np.concatenate(of_kind))


def auc(counts):
    """The chance that of two windows, one of each kind, the second has the higher score; of sums (..., 2, K).
    .5: they can't be told apart."""
    first, second = counts[..., 0, :], counts[..., 1, :]
    below = first.cumsum(-1) - first / 2
    return quotient((second * below).sum(-1), first.sum(-1) * second.sum(-1))


def shuffled(drums, performance, rng):
    """Drums (W, n, 16, V) with the bars of each performance in any order."""
    bars = np.repeat(performance, drums[0].shape[1])
    order = np.lexsort((rng.random(len(bars)), bars))
    source = np.empty(len(bars), int)
    source[np.argsort(bars, kind="stable")] = order
    return [roll.reshape(-1, *roll.shape[2:])[source].reshape(roll.shape) for roll in drums]


def features(onset, vel):
    """What the classifier knows of drums (W, n, 16, V), (W, F), NaN where there is nothing. At each lag: the
    likeness of bars, from the least to the most, and in the mean; of each voice, and difference of velocity.
    Bar by bar: hits of the timekeepers, steps with toms and with anything, a crash on one. Changes of
    timekeeper, fills; hits a bar, how they differ, mean velocity; of each voice hits and mean velocity."""
    n_bars, hits, columns = onset.shape[1], onset.sum((-2, -1)), []
    for lag in range(1, n_bars):
        both, either = onset[:, lag:] & onset[:, :-lag], onset[:, lag:] | onset[:, :-lag]
        alike, apart = quotient(both.sum((2, 3)), either.sum((2, 3))), np.abs(vel[:, lag:] - vel[:, :-lag])
        columns += [np.sort(alike, 1), alike.mean(1), quotient(both.sum((1, 2)), either.sum((1, 2)))]
        columns += [quotient((apart * both).sum((1, 2)), both.sum((1, 2)))]
        columns += [quotient((apart * both).sum((1, 2, 3)), both.sum((1, 2, 3)))]
    columns += [onset[..., TIMEKEEPERS].sum(2).reshape(len(onset), -1), onset[..., TOMS].any(-1).sum(2)]
    columns += [onset.any(-1).sum(2), onset[:, :, 0, CRASH]]
    keeper, by_voice = timekeeper(onset), onset.sum((1, 2))
    columns += [(keeper[:, 1:] != keeper[:, :-1]).sum(1), fills(onset).sum(1)]
    columns += [hits.mean(1), hits.std(1), quotient(vel.sum((1, 2, 3)), hits.sum(1))]
    return np.column_stack([*columns, by_voice, quotient(vel.sum((1, 2)), by_voice)])
