"""Every metric: its name, its sums and the function of their totals, its digits and goals, in the table in
which it is printed, in the part that `--parts` chooses.

A new metric is a row here and, in the module of its part, its sums or its function; the docstrings there
define the figures. Text, Markdown, JSON and the judgement of the goals are all made from these tables.
"""

from math import nan

from utils.evaluation import brought, controls, copies, groove, jobs, likelihood, meters, realism, tap
from utils.evaluation.bootstrap import mean
from utils.evaluation.controls import cross, mean_error, rho
from utils.evaluation.likelihood import nats_per
from utils.evaluation.realism import deviation, kl, over_real
from utils.evaluation.registry import Goal, Metric, Part, Table
from utils.evaluation.sets import BARS
from utils.evaluation.tap import sampled_f1
from utils.midi.drums import VOICES

GIVEN, UNSET = "true controls", "controls unset"
SWAPPED = [f"{row}, another window's rhythm" for row in (GIVEN, UNSET)]
TAP_MEAN, TAP_COPY = "training mean given the tap", "copy of the tap"
MEDIANS = ("onsets known, median", "tap alone, median")
PLAYED = [("T2", UNSET), ("T4", UNSET), ("T4", GIVEN)]
OF_TAKE, ROCK = "one take", "rock beat, kick on the rhythm"
HEADS = ("velocity", "offset")
OF_EACH = ["", *(f", {voice}" for voice in VOICES)]


def held_and_unset(length, sweep, **bounds):
    return [Goal(length, f"{sweep}, others {mode}", **bounds) for mode in ("held", "unset")]


def in_each_setting(**bounds):
    return [Goal(*setting, **bounds) for setting in PLAYED]


def for_brought(row, **least):
    return [Goal(group, row, bound, beside=ROCK) for group, bound in least.items()]


def as_alike(lag):
    goals = [Goal(f"{bars} bars", "played", -0.02, 0.02) for bars in (BARS, groove.LONG) if lag < bars]
    name = f"{groove.lag_of(lag)} - real"
    return Metric(name, name, groove.difference, goals=goals)


# ---- goals that do not fit on the line of their metric

ONSET_NATS = [Goal("T4", GIVEN, most=0.55, known="1.03"), Goal("T4", UNSET, most=0.85)]
ONSET_F1 = [
    Goal("T2", "consensus", least=0.68, known=".624", beside=TAP_MEAN),
    Goal("T2", "sampled", least=0.58, known=".523"),
    Goal("T2", "consensus, density given", least=0.72, known=".618"),
]
CELL_NATS = [Goal("T2", "consensus", most=0.2, known=".217", beside=TAP_MEAN)]
HIT_VELOCITY = [Goal("T2", MEDIANS[0], known=".090", beside=TAP_COPY)]
HIT_OFFSET = [Goal("T2", row, most=5, known="5.5", beside=TAP_COPY) for row in MEDIANS]
OBEYED = [
    *held_and_unset("4 bars", "density", least=0.98, known=".87"),
    *held_and_unset("4 bars", "intensity", least=0.97),
    *held_and_unset("4 bars", "instrument", least=0.95),
]
CROSS = [Goal("4 bars", "density, others held", most=0.03, known=".023")]
LINEAR_CROSS = [Goal("4 bars", "density, others held", most=0.03)]
NO_FALL = [
    goal
    for control in ("density", "intensity", "instrument")
    for goal in held_and_unset("96 bars", control, most=0.01, known=".03")
]
AS_WIDE = [Goal(", ".join(setting), None, 0.95, 1.05) for setting in PLAYED]
AS_SPREAD = [Goal("T4", "files that swing", 0.9, 1.1)]
TOLD_APART = [Goal("4 bars", "played", most=0.62), Goal("4 bars", groove.SHUFFLED, least=0.6)]
CROWDED = in_each_setting(most=0.02, known=".118")
AS_MANY = [Goal(group, OF_TAKE, 0.9, 1.2 if group == "songs" else 1.1) for group in brought.GROUPS]

# ---- metrics of several tables, and tables

ANSWERS = [Metric(name, name) for name in ("taps answered", "hits off the taps")]
BY_BAR = [Metric(f"bar {bar + 1}", "bars", tap.f1_of(bar)) for bar in range(BARS)]
BY_VOICE = [Metric(name, "voices", tap.f1_of(voice)) for voice, name in enumerate(VOICES)]

LIKELIHOOD = Table(
    "likelihood",
    "Likelihood, teacher-forced, in nats; cost: onset nats more than with the right rhythm",
    [
        Metric("onset, per step", "nats", nats_per("steps", "onset_nats"), goals=ONSET_NATS),
        Metric("velocity, per hit", "nats", nats_per("hits", "velocity_nats"), 2),
        Metric("offset, per hit", "nats", nats_per("hits", "offset_nats"), 2),
        Metric("total, per step", "nats", nats_per("steps", "onset_nats", "velocity_nats", "offset_nats")),
        Metric("cost", "cost", goals=[Goal("T4", row, least=1, known="0") for row in SWAPPED]),
    ],
)
ONSETS = Table(
    "onsets",
    "From the tap to the drums: onsets among all cells; a consensus is chosen on validation",
    [
        Metric("F1", "cells", sampled_f1, goals=ONSET_F1),
        Metric("precision", "cells", tap.precision),
        Metric("recall", "cells", tap.recall),
        Metric("macro F1", "voices", tap.macro_f1),
        Metric("nats per cell", "nats", goals=CELL_NATS),
        Metric("calibrated", "calibrated"),
        *ANSWERS,
        Metric("threshold", "threshold", digits=2),
        Metric("smoothing", "smoothing", digits=2),
    ],
)
HITS = Table(
    "hits",
    "Mean absolute error of velocity (0 to 1) and offset (ms) at the real hits",
    [
        Metric("velocity", "velocity", goals=HIT_VELOCITY),
        Metric("offset", "offset", digits=1, goals=HIT_OFFSET),
        *(
            Metric(f"{head}, {part}", f"{head}, {part}", digits=digits)
            for part in ("the tap itself", "the others")
            for head, digits in zip(HEADS, (3, 1))
        ),
    ],
)
SWAPS = Table(
    "swapped rhythm",
    "F1 to the right rhythm and to another window's, controls unset",
    [
        Metric("F1", "right", sampled_f1),
        Metric("F1, swapped", "swapped", sampled_f1),
        Metric("fall of F1", "both", tap.fall, goals=[Goal("T4", "sampled", least=0.2)]),
    ],
)
OBEDIENCE = Table(
    "bars",
    "Obedience: a target for each bar, one control at a time, see utils/evaluation/sweeps.py; in one go",
    [
        Metric("from", "from", digits=0),
        Metric("to", "to", digits=0),
        Metric("rho", "rho", rho, goals=OBEYED),
        Metric("mean error", "error", mean_error, 2),
        Metric("cross", "cross", cross, goals=CROSS),
        Metric("obeyed", "obeyed", cross),
        Metric("linear cross", "linear cross", cross, goals=LINEAR_CROSS),
        Metric("linear obeyed", "linear obeyed", cross),
        Metric("cross by chance", "chance"),
        Metric("fall of rho", "fall", controls.fall, goals=NO_FALL),
        *(Metric(f"rho, {quarter}", quarter, rho) for quarter in controls.QUARTERS),
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
        *(Metric(f"onset rate{of}", f"rate{of}", digits=4) for of in OF_EACH),
        *(
            Metric(f"{head} {name}{of}", f"{head}{of}", function, 4)
            for of in OF_EACH
            for head, name, function in (
                ("velocity", "mean", realism.level),
                ("velocity", "deviation", deviation),
                ("offset", "deviation", deviation),
            )
        ),
        *(Metric(f"{head} deviation / real", f"{head} / real", over_real(deviation)) for head in HEADS),
        Metric("offset spread within a step", "within", digits=4),
        Metric(
            "offset spread within a step / real",
            "within / real",
            over_real(mean),
            goals=in_each_setting(least=0.9, most=1.1),
        ),
        Metric("steps with more than two non-kick voices", "crowded", digits=4, goals=CROWDED),
        Metric("steps with open and closed hat", "both hats", digits=4),
        Metric("velocity KL", "velocity KL", kl, 4, in_each_setting(most=0.05, known=".444")),
        Metric("offset KL", "offset KL", kl, 4, in_each_setting(most=0.02, known="1.287")),
    ],
    down=True,
)
SPREADS = Table(
    "spreads",
    "Standard deviation of the commonest voices' velocity and offset, divided by that of the real drums",
    [Metric(f"{head} deviation / real", head, over_real(deviation), goals=AS_WIDE) for head in HEADS],
)
TRUE_CONTROLS = Table(
    "true controls",
    "Obedience, bar by bar, all true controls given; hits per bar, MIDI velocity",
    [
        Metric("rho", "rho", lambda moments: rho(moments, flat=nan)),
        Metric("mean error", "error", mean_error, 2),
        Metric("mean asked", "asked", mean_error, 2),
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
        *(Metric(f"{head} KL", f"{head} histogram", kl) for head in HEADS),
    ],
)
CURVES = Table("curves", "What was got for what was asked", [Metric("curve", "curve")], drawn=True)
BINS = Table("histograms", "", [Metric(head, f"{head} bins") for head in HEADS], drawn=True)
VARIETY = Table("variety", "Variety, onsets, controls unset", [Metric("1 - F1", "hits", copies.difference)])
NATS = [
    Metric("onset, per step", "nats", nats_per("steps", "onset_nats")),
    Metric("total, per step", "nats", nats_per("steps", "onset_nats", "velocity_nats", "offset_nats")),
]
METERS = Table(
    "meters",
    "Files that are not 4/4, by split, teacher-forced, in nats; cost: onset nats more than in their meter",
    [*NATS, Metric("cost", "cost"), Metric("files", "files", digits=0)],
)
DOWNBEATS = Table(
    "downbeats",
    "Files that are not 4/4, controls unset: what is on the downbeat of their bars",
    [
        Metric("bars with a kick on it", "kick"),
        Metric("share of the crashes", "crash"),
        Metric("crashes a bar", "crashes"),
        Metric("hits beyond the bar line", "beyond"),
    ],
)
CUT = Table(
    "cut",
    "Windows of 4/4, and what is left of them in 3/4, teacher-forced, in nats",
    [*NATS, Metric("onset, fewer than the other", "fewer")],
)
SWING = Table(
    "swing",
    "Swing: the ratio asked of each window, drawn evenly, and what is got; controls unset",
    [
        Metric("rho", "rho", rho, goals=[Goal("T4", "asked and got", least=0.9)]),
        Metric("mean error", "error", mean_error),
    ],
)
OFF_BEATS = Table(
    "off-beats",
    "Where off-beats lie (.5: straight, .667: triplets), controls unset; untapped: no answers to a tap",
    [
        Metric("hits / real", "hits"),
        Metric("ratio, real", "real", realism.level),
        Metric("ratio", "played", realism.level),
        Metric("spread / real", "both", over_real(deviation), goals=AS_SPREAD),
        Metric("nearer to thirds, real", "real thirds"),
        Metric("nearer to thirds", "played thirds"),
    ],
)
ANEW = Table("anew", "Played anew, no rhythm given: these onsets", [Metric("F1", "cells", sampled_f1)])
VOICE_F1, BAR_F1 = Table("by voice", "F1 by voice", BY_VOICE), Table("by bar", "F1 by bar", BY_BAR)

BROUGHT = Table(
    "brought",
    "Played to rhythms that people bring, beside their own drums, see utils/evaluation/brought.py",
    [
        Metric(
            "F1",
            "cells",
            sampled_f1,
            goals=[
                *for_brought(OF_TAKE, simple=0.45, complex=0.49, repetition=0.45, songs=0.42),
                *for_brought("consensus", simple=0.54, complex=0.57, repetition=0.55, songs=0.55),
            ],
        ),
        Metric("hits / real", "hits", goals=AS_MANY),
        Metric("hits a bar", "hits a bar", digits=1),
        Metric("backbeat", "backbeat", goals=for_brought(OF_TAKE, songs=0.6)),
        Metric("bars with a timekeeper", "bars with a timekeeper", goals=for_brought(OF_TAKE, songs=0.95)),
        Metric("likeness to the bar before", "likeness to the bar before"),
        Metric("hits off the rhythm", "hits off the rhythm"),
        Metric("files that tell their kind", "kind"),
    ],
    down=True,
)

GROOVE = Table(
    "groove",
    "How a groove holds: bars and those before them, timekeeper, fills, see utils/evaluation/groove.py",
    [
        *(Metric(groove.lag_of(lag), groove.lag_of(lag)) for lag in groove.LAGS),
        *(as_alike(lag) for lag in groove.LAGS),
        Metric("changes of timekeeper in four bars", "changes", goals=[Goal("4 bars", "played", most=0.18)]),
        Metric("velocity from bar to bar", "velocity", digits=1),
        Metric("fills", "fills"),
        Metric("crashes after fills", "crashes"),
    ],
    down=True,
)
TWO_SAMPLES = Table(
    "two samples",
    "Told from real drums: AUC of a classifier of four bars; .5: can't be told apart",
    [Metric("AUC", "scores", groove.auc, goals=TOLD_APART)],
)

PARTS = {
    "likelihood": Part(likelihood.measure, [LIKELIHOOD]),
    "tap": Part(tap.measure, [ONSETS, BAR_F1, VOICE_F1, HITS]),
    "rhythm": Part(tap.measure_rhythm, [Table("answers", "Answers to the rhythm", ANSWERS), SWAPS]),
    "controls": Part(controls.measure, [OBEDIENCE, CURVES, STYLE]),
    "realism": Part(realism.measure, [LIKENESS, SPREADS, BINS, TRUE_CONTROLS, VARIETY, COPIES]),
    "jobs": Part(jobs.measure, [HUMANISE, ANEW]),
    "meters": Part(meters.measure, [METERS, DOWNBEATS, CUT, SWING, OFF_BEATS]),
    "groove": Part(groove.measure, [GROOVE, TWO_SAMPLES]),
    "brought": Part(brought.measure, [BROUGHT], brought.missing),
}
