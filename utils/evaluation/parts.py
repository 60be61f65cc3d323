"""Every metric: its function, its goals, in the table in which it is printed, in the part that `--parts` chooses.

A new metric is a row here and its function, in the module of its part. Text, Markdown, JSON and the judgement of the goals
are all made from these tables; the functions' docstrings define the figures.
"""

from utils.evaluation import controls, copies, jobs, likelihood, realism, tap
from utils.evaluation.registry import Goal, Metric, Part, Table
from utils.midi.drums import VOICES

GIVEN, UNSET = "true controls", "controls unset"
SWAPPED = [f"{row}, another window's rhythm" for row in (GIVEN, UNSET)]
TAP_MEAN, TAP_COPY = "training mean given the tap", "copy of the tap"
PLAYED = [("T2", UNSET), ("T4", UNSET), ("T4", GIVEN)]
N_BARS = 4  # of the longest set


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
            likelihood.onset,
            goals=[Goal("T4", GIVEN, most=0.55, known="1.03"), Goal("T4", UNSET, most=0.85)],
        ),
        Metric("velocity, per hit", likelihood.velocity),
        Metric("offset, per hit", likelihood.offset),
        Metric("total, per step", likelihood.total),
        Metric("cost", likelihood.cost, goals=[Goal("T4", row, least=1, known="0") for row in SWAPPED]),
    ],
)
ONSETS = Table(
    "onsets",
    "From the tap to the drums: onsets among all cells; what a consensus counts as a hit is chosen on validation",
    [
        Metric(
            "F1",
            tap.f1,
            goals=[
                Goal("T2", "consensus", least=0.68, known=".624", beside=TAP_MEAN),
                Goal("T2", "sampled", least=0.58, known=".523"),
                Goal("T2", "consensus, density given", least=0.72, known=".618"),
            ],
        ),
        Metric("precision", tap.precision),
        Metric("recall", tap.recall),
        Metric("macro F1", tap.macro_f1),
        Metric(
            "nats per cell",
            tap.cross_entropy,
            goals=[Goal("T2", "consensus", most=0.2, known=".217", beside=TAP_MEAN)],
        ),
        Metric("calibrated", tap.cross_entropy, True),
        Metric("taps answered", tap.taps_answered),
        Metric("hits off the taps", tap.hits_off_taps),
        Metric("threshold", tap.threshold, digits=2),
        Metric("smoothing", tap.smoothing, digits=2),
    ],
)
BY_BAR = [Metric(f"bar {bar + 1}", tap.f1_of_bar, bar) for bar in range(N_BARS)]
BY_VOICE = [Metric(name, tap.f1, voice) for voice, name in enumerate(VOICES)]
HITS = Table(
    "hits",
    "Mean absolute error of velocity (0 to 1) and offset (ms) at the real hits",
    [
        Metric(
            "velocity",
            tap.velocity_error,
            goals=[Goal("T2", "onsets known, median", known=".090", beside=TAP_COPY)],
        ),
        Metric(
            "offset",
            tap.offset_error,
            digits=2,
            goals=[
                Goal("T2", "onsets known, median", most=5, known="5.5", beside=TAP_COPY),
                Goal("T2", "tap alone, median", most=5, known="5.5", beside=TAP_COPY),
            ],
        ),
        Metric("velocity, the tap itself", tap.velocity_error, True),
        Metric("offset, the tap itself", tap.offset_error, True, digits=2),
        Metric("velocity, the others", tap.velocity_error, False),
        Metric("offset, the others", tap.offset_error, False, digits=2),
    ],
)
ANSWERS = Table(
    "answers",
    "Answers to the rhythm (the real drums' own loudest hits)",
    [Metric("taps answered", tap.taps_answered), Metric("hits off the taps", tap.hits_off_taps)],
)
SWAPS = Table(
    "swapped rhythm",
    "F1 to the right rhythm and to another window's, controls unset",
    [
        Metric("F1", tap.f1_right),
        Metric("F1, swapped", tap.f1_swapped),
        Metric("fall of F1", tap.fall, goals=[Goal("T4", "sampled", least=0.2)]),
    ],
)
OBEDIENCE = Table(
    "bars",
    "Obedience: a target for each bar, one control at a time (utils/evaluation/sweeps.py), by bars in one go",
    [
        Metric("from", dict.get, "from", digits=0),
        Metric("to", dict.get, "to", digits=0),
        Metric(
            "rho",
            controls.rho,
            goals=[
                *held_and_unset("4", "density", least=0.98, known=".87"),
                *held_and_unset("4", "intensity", least=0.97),
                *held_and_unset("4", "instrument", least=0.95),
            ],
        ),
        Metric("mean error", controls.mean_of, "error", digits=2),
        Metric(
            "cross",
            controls.cross,
            "cross",
            goals=[Goal("4", "density, others held", most=0.03, known=".023")],
        ),
        Metric("obeyed", controls.cross, "obeyed"),
        Metric(
            "linear cross",
            controls.cross,
            "linear cross",
            goals=[Goal("4", "density, others held", most=0.03)],
        ),
        Metric("linear obeyed", controls.cross, "linear obeyed"),
        Metric("cross by chance", controls.chance),
        Metric(
            "fall of rho",
            controls.fall,
            goals=[
                *held_and_unset("96", "density", most=0.01, known=".03"),
                *held_and_unset("96", "intensity", most=0.01, known=".03"),
                *held_and_unset("96", "instrument", most=0.01, known=".03"),
            ],
        ),
        *(Metric(f"rho, {quarter}", controls.rho, quarter) for quarter in controls.QUARTERS),
    ],
)
STYLE = Table(
    "style",
    "Style: share of the bars that a classifier of real bars hears as asked, by bars in one go",
    [Metric(kind, controls.agreement, kind) for kind in ("others unset", "others held", "real bars")],
)
LIKENESS = Table(
    "likeness",
    "Likeness to the real drums; floor: real drums of the other split",
    [
        Metric("onset rate", realism.rate, digits=4),
        *(Metric(f"onset rate, {name}", realism.rate, voice, digits=4) for voice, name in enumerate(VOICES)),
        *(
            Metric(f"{head} {what}{of}", function, head, voice, digits=4)
            for voice, of in [(None, ""), *((voice, f", {name}") for voice, name in enumerate(VOICES))]
            for head, what, function in (
                ("velocity", "mean", realism.level),
                ("velocity", "deviation", realism.deviation),
                ("offset", "deviation", realism.deviation),
            )
        ),
        Metric("velocity deviation / real", realism.deviation_over_real, "velocity"),
        Metric("offset deviation / real", realism.deviation_over_real, "offset"),
        Metric("offset spread within a step", realism.spread_within_step, digits=4),
        Metric(
            "offset spread within a step / real",
            realism.spread_within_step_over_real,
            goals=in_each_setting(least=0.9, most=1.1),
        ),
        Metric(
            "steps with more than two non-kick voices",
            realism.share_of_steps,
            "crowded",
            digits=4,
            goals=in_each_setting(most=0.02, known=".118"),
        ),
        Metric("steps with open and closed hat", realism.share_of_steps, "both hats", digits=4),
        Metric(
            "velocity KL", realism.kl, "velocity", digits=4, goals=in_each_setting(most=0.05, known=".444")
        ),
        Metric("offset KL", realism.kl, "offset", digits=4, goals=in_each_setting(most=0.02, known="1.287")),
    ],
    down=True,
)
SPREADS = Table(
    "spreads",
    "Standard deviation of the commonest voices' velocity and offset, divided by that of the real drums",
    [
        Metric(
            f"{head} deviation / real",
            realism.voice_deviation_over_real,
            head,
            goals=[Goal(", ".join(setting), None, 0.95, 1.05) for setting in PLAYED],
        )
        for head in realism.LOWEST
    ],
)
TRUE_CONTROLS = Table(
    "true controls",
    "Obedience, bar by bar, all true controls given; hits per bar, MIDI velocity",
    [
        Metric("rho", controls.rho, "rho", float("nan")),
        Metric("mean error", controls.mean_of, "error", digits=2),
        Metric("mean asked", controls.mean_of, "asked", digits=2),
    ],
)
COPIES = Table(
    "copies",
    "Repetition, and copies (steps on end that stand just so in a training performance), of one sample",
    [
        Metric("bars like the bar before", copies.bars_like_before),
        Metric("bars like no other", copies.bars_like_no_other),
        Metric("longest copy, mean", copies.mean_copy, digits=2),
        Metric("longest copy, most", copies.longest_copy, digits=0),
        Metric("whole windows", copies.whole_copies, digits=2),
    ],
)
HUMANISE = Table(
    "humanise",
    "Humanised, no rhythm given: mean absolute error at the real hits, and KL from the real",
    [
        Metric("velocity", jobs.velocity_error),
        Metric("offset", jobs.offset_error, digits=2),
        Metric("velocity KL", jobs.kl, "velocity"),
        Metric("offset KL", jobs.kl, "offset"),
    ],
)
CURVES = Table("curves", "What was got for what was asked", [Metric("curve", dict.get, "curve")], drawn=True)
BINS = Table(
    "histograms", "", [Metric(head, realism.shares_of_bins, head) for head in realism.LOWEST], drawn=True
)
VARIETY = Table("variety", "Variety, onsets, controls unset", [Metric("1 - F1", copies.difference)])
ANEW = Table("anew", "Played anew, no rhythm given: onsets among these cells", [Metric("F1", tap.f1)])

PARTS = {
    "likelihood": Part(likelihood.measure, [LIKELIHOOD]),
    "tap": Part(
        tap.measure,
        [ONSETS, Table("by bar", "F1 by bar", BY_BAR), Table("by voice", "F1 by voice", BY_VOICE), HITS],
    ),
    "rhythm": Part(tap.measure_rhythm, [ANSWERS, SWAPS]),
    "controls": Part(controls.measure, [OBEDIENCE, CURVES, STYLE]),
    "realism": Part(realism.measure, [LIKENESS, SPREADS, BINS, TRUE_CONTROLS, VARIETY, COPIES]),
    "jobs": Part(jobs.measure, [HUMANISE, ANEW]),
}
