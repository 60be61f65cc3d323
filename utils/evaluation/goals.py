"""The figures to reach, and whether they were. Nothing else in the program knows a goal.

Where a goal names no setting it stands here once for each that was measured: controls unset and given, the other
controls unset and held, two bars and four.
"""

from dataclasses import dataclass
from math import isnan, log

from utils.midi.drums import VOICES


@dataclass(frozen=True)
class Goal:
    """path: the keys of the figure in the JSON; a "*" stands for the one of several voices that is furthest from 1."""

    name: str
    path: str
    least: float | None = None
    most: float | None = None
    known: str = ""  # the best figure known of others


def _likeness(setting, of):
    """The goals of realism. setting: "T4/unset"; of: how it is called."""
    path, crowded = f"realism/ratios/{setting}", "more than two non-kick voices"
    return [
        Goal(f"velocity KL, {of}", f"{path}/velocity KL", most=0.05, known=".444"),
        Goal(f"offset KL, {of}", f"{path}/offset KL", most=0.02, known="1.287"),
        Goal(f"velocity spread / real, {of}", f"{path}/velocity deviation, *", 0.95, 1.05),
        Goal(f"offset spread / real, {of}", f"{path}/offset deviation, *", 0.95, 1.05),
        Goal(f"{crowded}, {of}", f"{path}/steps with {crowded}", most=0.02, known=".118"),
        Goal(f"offset spread within a step / real, {of}", f"{path}/offset spread within a step", 0.9, 1.1),
    ]


GOALS = [
    Goal("onset F1, T2, consensus", "tap/T2/onsets/consensus/f1", least=0.68, known=".624"),
    Goal("onset F1, T2, sampled", "tap/T2/onsets/sampled/f1", least=0.58, known=".523"),
    Goal(
        "nats per cell of the consensus share, T2",
        "tap/T2/onsets/consensus/cross-entropy",
        most=0.2,
        known=".217",
    ),
    Goal(
        "onset F1, T2, density given", "tap/T2/onsets/consensus, density given/f1", least=0.72, known=".618"
    ),
    Goal(
        "offset error, ms, T2, onsets known", "tap/T2/hits/onsets known, median/offset", most=5, known="5.5"
    ),
    Goal("offset error, ms, T2, tap alone", "tap/T2/hits/tap alone, median/offset", most=5, known="5.5"),
    *_likeness("T2/unset", "T2, controls unset"),
    *_likeness("T4/unset", "T4, controls unset"),
    *_likeness("T4/given", "T4, controls given"),
    Goal("cost of a swapped rhythm, controls given", "likelihood/given_swapped/cost", least=1, known="0"),
    Goal("cost of a swapped rhythm, controls unset", "likelihood/unset_swapped/cost", least=1, known="0"),
    Goal("fall of sampled F1 when it is swapped, T4", "rhythm/swapped/fall", least=0.2),
    Goal("onset nats per step, true controls", "likelihood/given/onset", most=0.55, known="1.03"),
    Goal("onset nats per step, controls unset", "likelihood/unset/onset", most=0.85),
    Goal("density rho, others held", "controls/bars/4/density/held/spearman", least=0.98, known=".87"),
    Goal("density rho, others unset", "controls/bars/4/density/unset/spearman", least=0.98, known=".87"),
    Goal(
        "density cross-correlation, ranks, others held",
        "controls/bars/4/density/held/cross",
        most=0.03,
        known=".023",
    ),
    Goal(
        "density cross-correlation, linear, others held",
        "controls/bars/4/density/held/linear cross",
        most=0.03,
    ),
    *(
        Goal(f"{control} rho, others {mode}", f"controls/bars/4/{control}/{mode}/spearman", least=least)
        for control, least in (("intensity", 0.97), ("instrument", 0.95))
        for mode in ("held", "unset")
    ),
    *(
        Goal(
            f"{control} rho, fall to 96 bars, others {mode}",
            f"controls/falls/96/{control}/{mode}",
            None,
            0.01,
            ".03",
        )
        for control in ("density", "intensity", "instrument")
        for mode in ("held", "unset")
    ),
]


def judge(figures):
    """What became of the goals whose parts were measured: [{"goal", "figure", "least", "most", "known", "met"}],
    figure {"value", "low", "high"}; a value that is NaN meets nothing."""
    rows = []
    for goal in GOALS:
        name, figure = _find(figures, goal)
        if figure is not None:
            value = figure["value"]
            met = (goal.least is None or value >= goal.least) and (goal.most is None or value <= goal.most)
            rows.append(
                {
                    "goal": name,
                    "figure": figure,
                    "least": goal.least,
                    "most": goal.most,
                    "known": goal.known,
                    "met": met and not isnan(value),
                }
            )
    return rows


def _find(figures, goal):
    """The goal's name and figure, None where it was not measured."""
    *keys, last = goal.path.split("/")
    for key in keys:
        figures = figures.get(key, {})
    if "*" not in last:
        return goal.name, figures.get(last)
    voices = {voice: figures[name] for voice in VOICES if (name := last.replace("*", voice)) in figures}
    if not voices:
        return goal.name, None
    furthest = max(voices, key=lambda voice: _distance(voices[voice]["value"]))
    return f"{goal.name}: {furthest} is the furthest of {len(voices)}", voices[furthest]


def _distance(ratio):
    return float("inf") if isnan(ratio) or ratio <= 0 else abs(log(ratio))
