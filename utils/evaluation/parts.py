"""Every metric: its name, its sums and the function of their totals, its digits and goals, in the table in
which it is printed, in the part that `--parts` chooses.

A new metric is a row here and, in the module of its part, its sums or its function; the docstrings there
define the figures. Text, Markdown, JSON and the judgement of the goals are all made from these tables.
"""

from utils.evaluation import controls, copies, jobs, likelihood, realism, tap
from utils.evaluation.bootstrap import mean
from utils.evaluation.registry import Goal, Metric, Part, Table
from utils.evaluation.sets import BARS
from utils.midi.drums import VOICES

GIVEN, UNSET = "true controls", "controls unset"
SWAPPED = [f"{row}, another window's rhythm" for row in (GIVEN, UNSET)]
TAP_MEAN, TAP_COPY = "training mean given the tap", "copy of the tap"
PLAYED = [("T2", UNSET), ("T4", UNSET), ("T4", GIVEN)]
SPREAD_OVER_REAL = realism.over_real(realism.deviation)


def held_and_unset(length, sweep, **bounds):
    return [Goal(length, f"{sweep}, others {mode}", **bounds) for mode in ("held", "unset")]


def in_each_setting(**bounds):
    return [Goal(*setting, **bounds) for setting in PLAYED]


LIKELIHOOD = Table(
    "likelihood",
    "Likelihood, teacher-forced, in nats; cost: onset nats more than with the right rhythm",
    [
        Metric(
            "onset, per step",
            "nats",
            likelihood.nats_per("steps", "onset_nats"),
            goals=[Goal("T4", GIVEN, most=0.55, known="1.03"), Goal("T4", UNSET, most=0.85)],
        ),
        Metric("velocity, per hit", "nats", likelihood.nats_per("hits", "velocity_nats"), 2),
        Metric("offset, per hit", "nats", likelihood.nats_per("hits", "offset_nats"), 2),
        Metric(
            "total, per step",
            "nats",
            likelihood.nats_per("steps", "onset_nats", "velocity_nats", "offset_nats"),
        ),
        Metric("cost", "cost", goals=[Goal("T4", row, least=1, known="0") for row in SWAPPED]),
    ],
)
ANSWERS = [Metric(name, name) for name in ("taps answered", "hits off the taps")]
ONSETS = Table(
    "onsets",
    "From the tap to the drums: onsets among all cells; a consensus is chosen on validation",
    [
        Metric(
            "F1",
            "cells",
            tap.sampled_f1,
            goals=[
                Goal("T2", "consensus", least=0.68, known=".624", beside=TAP_MEAN),
                Goal("T2", "sampled", least=0.58, known=".523"),
                Goal("T2", "consensus, density given", least=0.72, known=".618"),
            ],
        ),
        Metric("precision", "cells", tap.precision),
        Metric("recall", "cells", tap.recall),
        Metric("macro F1", "voices", tap.macro_f1),
        Metric(
            "nats per cell", "nats", goals=[Goal("T2", "consensus", most=0.2, known=".217", beside=TAP_MEAN)]
        ),
        Metric("calibrated", "calibrated"),
        *ANSWERS,
        Metric("threshold", "threshold", digits=2),
        Metric("smoothing", "smoothing", digits=2),
    ],
)
BY_BAR = [Metric(f"bar {bar + 1}", "bars", tap.f1_of(bar)) for bar in range(BARS)]
BY_VOICE = [Metric(name, "voices", tap.f1_of(voice)) for voice, name in enumerate(VOICES)]
MEDIAN = "onsets known, median"
HITS = Table(
    "hits",
    "Mean absolute error of velocity (0 to 1) and offset (ms) at the real hits",
    [
        Metric("velocity", "velocity", goals=[Goal("T2", MEDIAN, known=".090", beside=TAP_COPY)]),
        Metric(
            "offset",
            "offset",
            digits=1,
            goals=[
                Goal("T2", row, most=5, known="5.5", beside=TAP_COPY) for row in (MEDIAN, "tap alone, median")
            ],
        ),
        *(
            Metric(f"{head}, {part}", f"{head}, {part}", digits=digits)
            for part in ("the tap itself", "the others")
            for head, digits in (("velocity", 3), ("offset", 1))
        ),
    ],
)
SWAPS = Table(
    "swapped rhythm",
    "F1 to the right rhythm and to another window's, controls unset",
    [
        Metric("F1", "right", tap.sampled_f1),
        Metric("F1, swapped", "swapped", tap.sampled_f1),
        Metric("fall of F1", "both", tap.fall, goals=[Goal("T4", "sampled", least=0.2)]),
    ],
)
DENSITY_HELD = "density, others held"
OBEDIENCE = Table(
    "bars",
    "Obedience: a target for each bar, one control at a time, see utils/evaluation/sweeps.py; in one go",
    [
        Metric("from", "from", digits=0),
        Metric("to", "to", digits=0),
        Metric(
            "rho",
            "rho",
            controls.rho,
            goals=[
                *held_and_unset("4 bars", "density", least=0.98, known=".87"),
                *held_and_unset("4 bars", "intensity", least=0.97),
                *held_and_unset("4 bars", "instrument", least=0.95),
            ],
        ),
        Metric("mean error", "error", controls.mean_error, 2),
        Metric(
            "cross", "cross", controls.cross, goals=[Goal("4 bars", DENSITY_HELD, most=0.03, known=".023")]
        ),
        Metric("obeyed", "obeyed", controls.cross),
        Metric(
            "linear cross", "linear cross", controls.cross, goals=[Goal("4 bars", DENSITY_HELD, most=0.03)]
        ),
        Metric("linear obeyed", "linear obeyed", controls.cross),
        Metric("cross by chance", "chance"),
        Metric(
            "fall of rho",
            "fall",
            controls.fall,
            goals=[
                goal
                for control in ("density", "intensity", "instrument")
                for goal in held_and_unset("96 bars", control, most=0.01, known=".03")
            ],
        ),
        *(Metric(f"rho, {quarter}", quarter, controls.rho) for quarter in controls.QUARTERS),
    ],
)
STYLE = Table(
    "style",
    "Style: share of the bars that a classifier of real bars hears as asked; in one go",
    [Metric(kind, kind) for kind in ("others unset", "others held", "real bars")],
)
LIKENESS = Table(
    "likeness",
    "Likeness to the real drums; floor: real drums of the other split",
    [
        *(
            Metric(f"onset {rate}", rate, digits=4)
            for rate in ("rate", *(f"rate, {voice}" for voice in VOICES))
        ),
        *(
            Metric(f"{head} {name}{of}", f"{head}{of}", function, 4)
            for of in ("", *(f", {voice}" for voice in VOICES))
            for head, name, function in (
                ("velocity", "mean", realism.level),
                ("velocity", "deviation", realism.deviation),
                ("offset", "deviation", realism.deviation),
            )
        ),
        *(Metric(f"{head} deviation / real", f"{head} / real", SPREAD_OVER_REAL) for head in realism.LOWEST),
        Metric("offset spread within a step", "within", digits=4),
        Metric(
            "offset spread within a step / real",
            "within / real",
            realism.over_real(mean),
            goals=in_each_setting(least=0.9, most=1.1),
        ),
        Metric(
            "steps with more than two non-kick voices",
            "crowded",
            digits=4,
            goals=in_each_setting(most=0.02, known=".118"),
        ),
        Metric("steps with open and closed hat", "both hats", digits=4),
        Metric("velocity KL", "velocity KL", realism.kl, 4, in_each_setting(most=0.05, known=".444")),
        Metric("offset KL", "offset KL", realism.kl, 4, in_each_setting(most=0.02, known="1.287")),
    ],
    down=True,
)
SPREADS = Table(
    "spreads",
    "Standard deviation of the commonest voices' velocity and offset, divided by that of the real drums",
    [
        Metric(
            f"{head} deviation / real",
            head,
            SPREAD_OVER_REAL,
            goals=[Goal(", ".join(setting), None, 0.95, 1.05) for setting in PLAYED],
        )
        for head in realism.LOWEST
    ],
)
TRUE_CONTROLS = Table(
    "true controls",
    "Obedience, bar by bar, all true controls given; hits per bar, MIDI velocity",
    [
        Metric("rho", "rho", lambda moments: controls.rho(moments, flat=float("nan"))),
        Metric("mean error", "error", controls.mean_error, 2),
        Metric("mean asked", "asked", controls.mean_error, 2),
    ],
)
COPIES = Table(
    "copies",
    "Repetition, and copies (steps on end that stand just so in a training performance), of one sample",
    [
        Metric("bars like the bar before", "like the bar before"),
        Metric("bars like no other", "like no other"),
        Metric("longest copy, mean", "longest", digits=1),
        Metric("longest copy, most", "most", digits=0),
        Metric("whole windows", "whole", digits=2),
    ],
)
HUMANISE = Table(
    "humanise",
    "Humanised, no rhythm given: mean absolute error at the real hits, and KL from the real",
    [
        Metric("velocity", "velocity"),
        Metric("offset", "offset", digits=1),
        *(Metric(f"{head} KL", f"{head} histogram", realism.kl) for head in realism.LOWEST),
    ],
)
CURVES = Table("curves", "What was got for what was asked", [Metric("curve", "curve")], drawn=True)
BINS = Table("histograms", "", [Metric(head, f"{head} bins") for head in realism.LOWEST], drawn=True)
VARIETY = Table("variety", "Variety, onsets, controls unset", [Metric("1 - F1", "hits", copies.difference)])
ANEW = Table("anew", "Played anew, no rhythm given: these onsets", [Metric("F1", "cells", tap.sampled_f1)])

PARTS = {
    "likelihood": Part(likelihood.measure, [LIKELIHOOD]),
    "tap": Part(
        tap.measure,
        [ONSETS, Table("by bar", "F1 by bar", BY_BAR), Table("by voice", "F1 by voice", BY_VOICE), HITS],
    ),
    "rhythm": Part(tap.measure_rhythm, [Table("answers", "Answers to the rhythm", ANSWERS), SWAPS]),
    "controls": Part(controls.measure, [OBEDIENCE, CURVES, STYLE]),
    "realism": Part(realism.measure, [LIKENESS, SPREADS, BINS, TRUE_CONTROLS, VARIETY, COPIES]),
    "jobs": Part(jobs.measure, [HUMANISE, ANEW]),
}
