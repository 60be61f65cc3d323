"""Do the drums obey: what is asked of each bar against what is played, by the sweeps of sweeps.py."""

import numpy as np

from utils.evaluation import sweeps
from utils.evaluation.bootstrap import mean, pair, per_performance, quotient
from utils.evaluation.sets import BARS
from utils.evaluation.style_classifier import StyleClassifier
from utils.midi.drums import STYLES, VOICES

LENGTHS = (4, 16, 96)  # bars
CURVE_BINS = 8
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")  # of longer windows


def measure(player, sets):
    windows, train = sets("T4"), sets("T4", "train")
    classifier = StyleClassifier(train.rolls, train.batch["style"][:, 0].numpy(), train.grid)
    own, covered, place = sweeps.own_bars(windows), sweeps.ranges(sweeps.own_bars(train)), place_of(windows)
    drawn = sweeps.targets(covered, classifier.styles, len(place))
    real = own["style"], classifier(windows.rolls, windows.grid), place
    bars, styles = {}, {}
    for length in (length for length in LENGTHS if length <= len(place)):
        asked_for = sweeps.known_to(player.model, drawn, length)
        played, grid = sweeps.play_sweeps(player, windows, own, asked_for, length)
        rows, heard = {}, {"real bars": real}
        for (name, mode), rolls in played.items():
            asked = asked_for[name][: len(rolls[0]) * length]
            if name not in sweeps.MEASURED:
                heard[f"others {mode}"] = asked, classifier(rolls, grid), place[: len(asked)]
                continue
            got, others = attributes(name, sweeps.measure_bars(rolls, grid))
            others = {"cross": others}
            if mode == "held":
                others["obeyed"] = attributes(name, sweeps.ask(name, mode, asked, own, grid.longest))[1]
            row = sums_of(asked, got, place, length, **others) | dict(zip(("from", "to"), covered[name]))
            rows[f"{name}, others {mode}"] = row | {"curve": curve(asked, got)}
        for mode in ("unset", "held"):
            row = together([rows[f"{voice}, others {mode}"] for voice in VOICES])
            rows[f"instrument, others {mode}"] = row
        for name, row in rows.items() if bars else ():
            row["fall"] = bars[f"{LENGTHS[0]} bars"][name]["rho"], row["rho"]
        bars[f"{length} bars"], styles[f"{length} bars"] = rows, style_rows(heard)
    return {"bars": bars, "curves": bars, "style": styles}


def place_of(windows):
    """The performance of each bar of Windows, counted from 0."""
    return np.unique(windows.performance, return_inverse=True)[1].repeat(windows.grid.n_bars)


def attributes(sweep, bars):
    """What the sweep asks for (n,), and every other attribute (n, K), NaN where a bar has none: of density
    the voices' shares of the hits in place of the hits, of a voice all but density (they go together)."""
    columns = {name: sweeps.column(bars, name) for name in sweeps.ALWAYS}
    own = columns.pop(sweep) if sweep in columns else sweeps.column(bars, sweep)
    if sweep == "density":
        columns |= {voice: quotient(columns[voice], own) for voice in VOICES}
    if sweep in VOICES:
        columns.pop("density")
    return own, np.column_stack(list(columns.values()))


def style_rows(heard):
    """{style or "all styles": {kind: (P, 2)}}, for `mean`: bars that the classifier hears as asked, and bars
    for which the style was asked. heard: {kind: (asked, heard, place)}, style ids (n,); bars without a style
    are left out."""
    rows = {}
    for kind, (asked, guess, place) in heard.items():
        chosen = {"all styles": asked < len(STYLES)}
        chosen |= {STYLES[style]: asked == style for style in np.unique(asked[asked < len(STYLES)])}
        for row, bars in chosen.items():
            rows.setdefault(row, {})[kind] = pair((asked == guess) & bars, bars, place)
    return rows


def adherence(windows, played):
    """{sweep: what sums_of gives} of drums played (N, W, T, V) with the true controls of Windows given."""
    real = [np.broadcast_to(roll, played[0].shape) for roll in windows.rolls]
    both = [sweeps.measure_bars(rolls, windows.grid) for rolls in (real, played)]
    place = np.tile(place_of(windows), len(played[0]))
    return {name: sums_of(*(sweeps.column(of, name) for of in both), place) for name in sweeps.ALWAYS}


def sums_of(asked, got, place, length=BARS, **others):
    """What the metrics of obedience take, sums over the bars of each of P performances, (P, 1, ...): of
    "rho", "cross", "obeyed", "linear ..." and QUARTERS what `moments` gives, of "error" and "asked" values
    and how many.

    asked, got (n,): of one control, NaN where a bar has nothing; others (n, K): the other attributes, cross:
    as played, obeyed: as asked. place (n or more,): of place_of; length: bars of a window.
    """

    def add(name, values, bars=slice(None)):
        row[name] = per_performance(values, place[: len(asked)][bars], place.max() + 1)[:, None]

    row, there = {"chance": (2 / (np.pi * len(asked))) ** 0.5}, ~np.isnan(asked) & ~np.isnan(got)
    add("rho", moments(asked, got))
    add("error", np.column_stack([np.where(there, np.abs(asked - got), 0), there]))
    add("asked", np.column_stack([np.where(there, asked, 0), there]))
    for name, values in others.items():
        add(name, np.stack([moments(asked, other) for other in values.T], 1))
        add(f"linear {name}", np.stack([moments(asked, other, ranked=False) for other in values.T], 1))
    for number, name in enumerate(QUARTERS) if length > BARS else ():
        bars = np.flatnonzero(np.arange(len(asked)) % length * len(QUARTERS) // length == number)
        add(name, moments(asked[bars], got[bars]), bars)
    return row


def together(rows):
    """Several of what sums_of gives as one, of which the metrics are the mean."""
    names = [name for name, of in rows[0].items() if np.ndim(of) > 1]
    sums = {name: np.concatenate([row[name] for row in rows], 1) for name in names}
    return sums | {"chance": rows[0]["chance"]}


# ------------------------------------------------------------------------- metrics of moments (..., n, 6)


def rho(moments, flat=0.0):
    """Rank correlation of asked and got over the bars; flat: its value where either is constant."""
    return correlation(moments, flat).mean(-1)


def fall(shortest, moments):
    """How far rho is below that of the shortest windows."""
    return rho(shortest) - rho(moments)


def mean_error(sums):
    return mean(sums).mean(-1)


def cross(moments):
    """Mean absolute correlation of what is asked with every other attribute of what is played, after
    MuseMorphose (Wu & Yang 2021), by ranks or linear.

    Not 0 for drums that obey to the letter: by chance, and because hits are whole, so that in a sparse bar a
    voice's share is nothing or much. "obeyed": what it would be if all that was asked were played. The
    interval of a mean of absolute values lies high.
    """
    return np.abs(correlation(moments)).mean((-1, -2))


def curve(asked, got):
    """What was got for what was asked, in order: [{asked, mean, low, high}], low and high the 10th and 90th
    percentile. By value, or in CURVE_BINS equal parts of the range where there are more values than 40."""
    there = ~np.isnan(got)
    asked, got = asked[there], got[there]
    group = asked
    if len(np.unique(asked)) > 40:
        edges = np.linspace(asked.min(), asked.max(), CURVE_BINS + 1)
        group = np.clip(np.searchsorted(edges, asked, side="right") - 1, 0, CURVE_BINS - 1)
    points = []
    for of in (group == value for value in np.unique(group)):
        numbers = asked[of].mean(), got[of].mean(), *np.percentile(got[of], [10, 90])
        points.append(dict(zip(("asked", "mean", "low", "high"), map(float, numbers))))
    return points


def moments(a, b, ranked=True):
    """(n, 6) to be summed and given to `correlation`: 1 and the first and second moments of a and b (n,), or
    of their ranks among all bars, 0 where either is NaN. The ranks stay when performances are drawn again:
    in a trial that moved the interval by less than .003."""
    there = ~(np.isnan(a) | np.isnan(b))
    sums = np.zeros((len(a), 6))
    if there.any():
        x, y = ((ranks(values[there]) if ranked else values[there]).astype(np.float64) for values in (a, b))
        x, y = ((values - values.mean()) / (values.std() or 1) for values in (x, y))
        sums[there] = np.column_stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    return sums


def ranks(values):
    """Ranks of a 1-D array, from 1; equals share their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def correlation(moments, flat=0.0):
    """Pearson's correlation out of sums (..., 6) of 1, x, y, xx, yy, xy; `flat` where either is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    n = np.maximum(n, 1)
    spread = np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0)
    constant = spread <= 1e-12 * n * n
    return np.where(constant, flat, (xy - x * y / n) / np.sqrt(np.where(constant, 1, spread)))
