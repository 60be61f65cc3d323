"""Do the drums obey: what is asked of each bar against what is played, by the sweeps of utils/evaluation/sweeps.py.

spearman: rank correlation over the bars. error: mean absolute difference, in hits per bar or MIDI velocity. cross:
mean absolute Spearman correlation of what is asked with every other attribute of what is played, after MuseMorphose (Wu
& Yang 2021); linear cross: the same with Pearson's. For density the other attributes are velocity and each voice's share
of the hits (their numbers add up to the hits); for intensity hits and those of each voice; for a voice velocity and the
hits of each other voice.

Neither is 0 for drums that obey to the letter: by chance, and because hits are whole, so that in a sparse bar a voice's
share is nothing or much (which ranks feel more than means do). obeyed, linear obeyed: what they are of that which was
asked, where all of it was. chance: what is to be expected where nothing depends on what is asked. The interval of a mean
of absolute values lies high.
"""

import time

import numpy as np

from utils.evaluation.bootstrap import estimate, per_performance, quotient
from utils.evaluation.likeness import ranks
from utils.evaluation.player import BARS
from utils.evaluation.style_classifier import StyleClassifier
from utils.evaluation.sweeps import ask, measure_rolls, modes_of, own_bars, play_sweeps, ranges, targets
from utils.midi.drums import N_VOICES, STYLES, VOICES

LENGTHS = (4, 16, 96)  # bars
CURVE_BINS = 8
PARTS = 4  # of a window, in which obedience is looked at apart


def control_figures(player, windows, train):
    """All figures of the sweeps over the real windows (Windows of BARS bars), as a dict for JSON.

    ranges: {control: (low, high)}. bars: {"4", "16", "96", as far as the windows go: {control: {mode: figures}}}, where
    "instrument" is the mean over the nine voices and "style" as style_figures gives it. falls: {"16", "96": {control:
    {mode: how far spearman is below that at the shortest}}}. song: {"16", "96": {"density", "intensity": what along gives,
    others unset}}. style: what the classifier says of the real bars.
    """
    steps_per_bar = player.model.steps_per_bar
    own, own_train = own_bars(windows, steps_per_bar), own_bars(train, steps_per_bar)
    began = time.perf_counter()
    classifier = StyleClassifier(train.rolls, train.batch["style"][:, 0].numpy(), steps_per_bar)
    player.seconds["style classifier"] = time.perf_counter() - began
    covered = ranges(own_train)
    drawn = targets(covered, classifier.styles, own.n_bars)
    place = np.repeat(np.unique(windows.performance, return_inverse=True)[1], BARS)

    bars, sums, song = {}, {}, {}
    for length in (length for length in LENGTHS if length <= own.n_bars):
        played = play_sweeps(player, windows, own, drawn, length)
        bars[length], sums[length] = {}, {}
        for (control, mode), rolls in played.items():
            asked = drawn[control][: rolls[0].size // (steps_per_bar * N_VOICES)]
            if control == "style":
                figures = style_figures(asked, classifier(rolls), place)
            else:
                got = attributes(control, measure_rolls(rolls, steps_per_bar))
                wished = attributes(control, ask(control, mode, asked, own))[1] if mode == "held" else None
                sums[length][control, mode] = sweep_sums(asked, *got, wished, place)
                figures = sweep_figures([sums[length][control, mode]], len(asked)) | {
                    "curve": curve(asked, got[0])
                }
                if mode == "unset" and control in ("density", "intensity") and length > BARS:
                    song.setdefault(str(length), {})[control] = along(asked, got[0], place, length)
            bars[length].setdefault(control, {})[mode] = figures
        for mode in modes_of(VOICES[0]):
            of_voices = [sums[length][voice, mode] for voice in VOICES]
            bars[length].setdefault("instrument", {})[mode] = sweep_figures(of_voices, len(asked))
    return {
        "ranges": covered,
        "bars": {str(length): figures for length, figures in bars.items()},
        "falls": {str(length): falls(sums[min(sums)], sums[length]) for length in sums if length > min(sums)},
        "song": song,
        "style": style_figures(own["style"], classifier(windows.rolls), place),
    }


def attributes(control, got):
    """Of Bars that were played: what the control asks for (n,), and every other attribute (n, K); NaN where a bar has
    none."""
    hits, velocity, voices = (got[name] for name in ("density", "intensity", "instrument"))
    if control == "density":
        return hits, np.column_stack([velocity, quotient(voices, hits[:, None])])
    if control == "intensity":
        return velocity, np.column_stack([hits, voices])
    voice = VOICES.index(control)
    return voices[:, voice], np.column_stack([velocity, np.delete(voices, voice, 1)])


def sweep_sums(asked, got, others, wished, place):
    """What sweep_figures needs, summed over the bars of each of P performances. asked, got (n,); others (n, K): the other
    attributes; wished (n, K): what was asked of them, or None. place: of each bar, which performance."""
    there = ~np.isnan(got)
    sums = {
        "error": np.column_stack([np.where(there, np.abs(asked - got), 0), there]),
        "own": moments(asked, got),
    }
    for name, values in (("cross", others), ("obeyed", wished)):
        if values is not None:
            sums[name] = np.stack([moments(asked, other) for other in values.T], 1)
            sums[f"linear {name}"] = np.stack([moments(asked, other, ranked=False) for other in values.T], 1)
    return {name: per_performance(part, place[: len(asked)], place.max() + 1) for name, part in sums.items()}


def sweep_figures(sums, n_bars):
    """spearman, error, the crosses and what is obeyed, means over one sweep or several (a list of what sweep_sums
    gives)."""
    sums = {name: np.stack([part[name] for part in sums], 1) for name in sums[0]}
    figures = {
        "spearman": estimate(lambda m: correlation(m).mean(-1), sums.pop("own")),
        "error": estimate(lambda s: quotient(s[..., 0], s[..., 1]).mean(-1), sums.pop("error")),
    }
    crosses = {
        name: estimate(lambda m: np.abs(correlation(m)).mean((-1, -2)), part) for name, part in sums.items()
    }
    return figures | crosses | {"chance": (2 / (np.pi * n_bars)) ** 0.5}


def falls(short, long):
    """How far spearman falls from one length to another, {control: {mode: figure}}; each {(control, mode): sums}."""
    figures = {}
    for control in ("density", "intensity", "instrument"):
        voices = VOICES if control == "instrument" else [control]
        for mode in modes_of(control):
            ends = [np.stack([sums[voice, mode]["own"] for voice in voices], 1) for sums in (short, long)]
            fall = estimate(lambda a, b: (correlation(a) - correlation(b)).mean(-1), *ends)
            figures.setdefault(control, {})[mode] = fall
    return figures


def along(asked, got, place, length):
    """Obedience by bar index in windows of so many bars, {"1-24", ...: spearman of the bars there}, in PARTS equal parts.
    asked, got (n,), NaN where a bar has nothing; place: of each bar, which performance."""
    part = np.arange(len(asked)) % length * PARTS // length
    figures = {}
    for number in range(PARTS):
        here = np.flatnonzero(part == number)
        sums = per_performance(moments(asked[here], got[here]), place[here], place.max() + 1)
        first, last = number * length // PARTS + 1, (number + 1) * length // PARTS
        figures[f"{first}-{last}"] = estimate(correlation, sums)
    return figures


def moments(a, b, ranked=True):
    """(n, 6) to be summed and given to `correlation`: 1 and the first and second moments of a and b (n,), or of their
    ranks among all bars, 0 where either is NaN. The ranks stay what they are when performances are drawn again: on
    made-up bars in 75 unequal performances the interval was within .003 of that with new ranks for every draw."""
    there = ~(np.isnan(a) | np.isnan(b))
    sums = np.zeros((len(a), 6))
    if there.any():
        x, y = ((ranks(values[there]) if ranked else values[there]).astype(np.float64) for values in (a, b))
        x, y = ((values - values.mean()) / (values.std() or 1) for values in (x, y))
        sums[there] = np.column_stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    return sums


def correlation(moments):
    """Pearson's correlation out of sums (..., 6) of 1, x, y, xx, yy, xy; 0 where one of both is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    n = np.maximum(n, 1)
    spread = np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0)
    flat = spread <= 1e-12 * n * n
    return np.where(flat, 0.0, (xy - x * y / n) / np.sqrt(np.where(flat, 1, spread)))


def curve(asked, got):
    """What was got for what was asked, in order: [{asked, mean, low, high}], low and high the 10th and 90th percentile.
    By value, or in CURVE_BINS equal parts of the range where there are more values than 40."""
    there = ~np.isnan(got)
    asked, got = asked[there], got[there]
    group = asked
    if len(np.unique(asked)) > 40:
        edges = np.linspace(asked.min(), asked.max(), CURVE_BINS + 1)
        group = np.clip(np.searchsorted(edges, asked, side="right") - 1, 0, CURVE_BINS - 1)
    points = []
    for value in np.unique(group):
        of = group == value
        low, high = np.percentile(got[of], [10, 90])
        points.append({"asked": asked[of].mean(), "mean": got[of].mean(), "low": low, "high": high})
    return [{name: float(number) for name, number in point.items()} for point in points]


def style_figures(asked, heard, place):
    """Share of the bars whose style the classifier hears as asked, {"agreement": of all bars, "by style": {name:
    figure}}; bars without a style are left out."""
    figures = {"by style": {}}
    right = (asked == heard).astype(np.float64)
    place = place[: len(asked)]

    def agreement(chosen):
        sums = per_performance(np.column_stack([right * chosen, chosen]), place)
        return estimate(lambda s: quotient(s[..., 0], s[..., 1]), sums)

    for style, name in enumerate(STYLES):
        if (asked == style).any():
            figures["by style"][name] = agreement(asked == style)
    return figures | {"agreement": agreement(asked < len(STYLES))}
