"""The figures of evaluate.py as text."""

from math import isnan

from utils.evaluation.likeness import ratio

# setting of the likelihood -> what it is called
_SETTINGS = {
    "given": "controls given",
    "unset": "controls unset",
    "given_latent": "controls given, bar latent alone",
    "unset_latent": "controls unset, bar latent alone",
    "given_no_rhythm": "controls given, no rhythm",
    "unset_no_rhythm": "controls unset, no rhythm",
    "given_swapped": "controls given, rhythm swapped",
    "unset_swapped": "controls unset, rhythm swapped",
    "given_latent_swapped": "controls given, latent alone, swapped",
    "unset_latent_swapped": "controls unset, latent alone, swapped",
}
# job that plays cells anew -> what it is called
JOBS = {
    "infill": "infill: the third bar of four",
    "add a voice": "add a voice: one of those that the window plays, each in its turn",
    "continue": "continue: two bars after two",
}
_NAME = 44  # characters
_CELL = 12
_WIDE = 24  # of a figure with its interval
_GOAL = 90  # of the name of a goal


def tables(figures):
    """The figures that evaluate gives, as one text: a table for each part that was done."""
    parts = {
        "likelihood": _likelihood,
        "tap": _tap,
        "rhythm": _rhythm,
        "controls": _controls,
        "realism": _realism,
        "jobs": _jobs,
        "goals": _goals,
    }
    texts = [_title(figures)] + [table(figures) for name, table in parts.items() if name in figures]
    return "\n\n".join("\n".join(lines) for lines in texts)


def line(name, *cells, width=_CELL):
    return f"  {name:<{_NAME}}" + "".join(f"{cell:>{width}}" for cell in cells)


def number(value, digits=3, sign=False):
    return "-" if isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def sure(figure, digits=3, sign=False):
    """A figure with its interval."""
    if isnan(figure["value"]):
        return "-"
    value, low, high = figure.values()
    return f"{number(value, digits, sign)} [{number(low, digits)}, {number(high, digits)}]"


def _title(f):
    yield f"{f['checkpoint']}, step {f['step']}"
    sets = ", ".join(f"{name}: {of['windows']} windows of {name[1:]} bars" for name, of in f["sets"].items())
    yield f"{f['split']} split, {f['sets']['T4']['performances']} performances; {sets}; seed {f['seed']}"
    yield "[]: 95 % intervals, bootstrap over performances"


def _likelihood(f):
    yield "Likelihood on T4, teacher-forced, in nats; cost: onset nats more than with the right rhythm"
    yield line("", "onset/step", "vel/hit", "offset/hit", "cost", width=_WIDE)
    for setting, name in _SETTINGS.items():
        scores = f["likelihood"][setting]
        cost = [sure(scores["cost"], sign=True)] if "cost" in scores else []
        yield line(
            name, *(sure(scores[head]) for head in ("onset", "velocity", "offset")), *cost, width=_WIDE
        )


def _tap(f):
    for name, figures in f["tap"].items():
        chosen = "; ".join(
            f"controls {setting}: from {scores['threshold']:.0%} of {scores['samples']} samples on, a = "
            f"{scores['smoothing']}"
            for setting, scores in figures["consensus"].items()
        )
        yield f"From the tap to the drums, {name}, controls unset: onsets among all cells"
        yield f"  Consensus, chosen on the validation split's own windows: {chosen}"
        yield line("", "F1", "precision", "recall", "macro F1", "nats/cell", "calibrated", width=_WIDE)
        for row, scores in figures["onsets"].items():
            keys = ("f1", "precision", "recall", "macro f1", "cross-entropy", "cross-entropy, calibrated")
            cells = [sure(scores[key]) if key in scores else "-" for key in keys]
            yield line(row, *cells, width=_WIDE)
        yield "  F1 by bar of the window"
        for row in ("sampled", "consensus"):
            yield line(row, *(sure(bar) for bar in figures["onsets"][row]["by bar"]), width=_WIDE)
        yield f"Velocity (0 to 1) and offset (ms) at the real hits, {name}: mean absolute error"
        parts = ("", ", the tap itself", ", the others")
        yield line(
            "", *(f"{head}{part}" for part in parts for head in ("velocity", "offset")), width=_WIDE + 3
        )
        for row, scores in figures["hits"].items():
            cells = [
                sure(scores[head + part], digits)
                for part in parts
                for head, digits in (("velocity", 3), ("offset", 2))
            ]
            yield line(row, *cells, width=_WIDE + 3)


def _rhythm(f):
    yield "Answers to the rhythm, T4: share of taps answered, share of hits off the taps"
    yield line("", "answered", "off taps")
    for name in ("real", "controls unset", "controls given"):
        yield line(name, *(number(value) for value in f["rhythm"][name].values()))
    swapped = f["rhythm"]["swapped"]
    yield (
        f"  Sampled F1 {sure(swapped['f1'])}, to another window's rhythm {sure(swapped['f1, swapped'])}: "
        f"a fall of {sure(swapped['fall'])}"
    )


def _controls(f):
    f = f["controls"]
    yield "Obedience: each bar is asked for something of its own, one control at a time, within what real bars cover;"
    yield "  hits per bar, MIDI velocity. cross: mean absolute correlation with the other attributes, for density"
    yield "  velocity and the voices' shares of the hits. held: the others at the real bar's own; where density is swept"
    yield "  the bar's mix is scaled, where a voice is swept density goes along (utils/evaluation/sweeps.py). obeyed: what the cross"
    yield "  would be if all that was asked were played"
    for length, controls in f["bars"].items():
        title = f"{length} bars at a time; cross by chance {controls['density']['unset']['chance']:.3f}"
        yield line(
            title, "range", "rho", "mean error", "cross", "obeyed", "linear cross", "obeyed", width=_WIDE
        )
        for control, modes in controls.items():
            low_high = "{:.0f} to {:.0f}".format(*f["ranges"][control]) if control in f["ranges"] else "-"
            for mode, scores in modes.items() if control != "style" else ():
                cells = [sure(scores["spearman"]), sure(scores["error"], 2)]
                for kind in ("", "linear "):
                    obeyed = number(scores[f"{kind}obeyed"]["value"]) if "obeyed" in scores else "-"
                    cells += [sure(scores[f"{kind}cross"]), obeyed]
                yield line(f"{control}, others {mode}", low_high, *cells, width=_WIDE)
    for length, controls in f["song"].items():
        yield f"Song: rho by bar of {length} in one go, others unset"
        yield line("", *next(iter(controls.values())), width=_WIDE)
        for control, parts in controls.items():
            yield line(control, *(sure(figure) for figure in parts.values()), width=_WIDE)
    yield "Style: share of the bars that a classifier of real bars hears as asked, each style asked as often"
    columns = {
        f"{length}, {mode}": of
        for length, controls in f["bars"].items()
        for mode, of in controls.get("style", {}).items()
    } | {"real bars": f["style"]}
    yield line("", *columns, width=_WIDE)
    yield line("all styles", *(sure(of["agreement"]) for of in columns.values()), width=_WIDE)
    for style in sorted({style for of in columns.values() for style in of["by style"]}):
        cells = [
            sure(of["by style"][style], 2) if style in of["by style"] else "-" for of in columns.values()
        ]
        yield line(style, *cells, width=_WIDE)


def _realism(f):
    for name, columns in f["realism"]["likeness"].items():
        settings = [setting for setting in ("unset", "given") if setting in columns]
        yield f"Likeness of the samples, {name}; /real: ratio to the real {f['split']} split; {f['floor']}: real too"
        yield line("", "real", f["floor"], *(cell for setting in settings for cell in (setting, "/real")))
        for figure, real in columns["real"].items():
            cells = [number(real, 4), number(columns["floor"][figure], 4)]
            for setting in settings:
                value = columns[setting][figure]
                cells += [number(value, 4), number(ratio(value, real), 2)]
            yield line(figure, *cells)
    yield "Obedience, bar by bar, all true controls given: hits in hits per bar, velocity in MIDI units"
    yield line("", "Spearman", "mean error", "mean asked")
    for name, scores in f["realism"]["given"].items():
        yield line(name, number(scores["spearman"]), number(scores["error"], 2), number(scores["asked"], 2))
    variety = f["realism"]["variety"]
    yield "Variety and copies, onsets, T4, controls unset: 1 - F1 of two takes to one rhythm"
    for name, figure in variety["difference"].items():
        yield line(name, sure(figure), width=_WIDE)
    rows = ("unset", "real", "floor")
    yield line("", "one sample", "real", f["floor"])
    for name in variety["repetition"]["real"]:
        yield line(name, *(number(variety["repetition"][row][name]) for row in rows))
    titles = {"mean": "longest copy of training drums, steps: mean", "most": "most", "whole": "whole windows"}
    for name, title in titles.items():
        yield line(
            title, *(number(variety["longest copy"][row][name], 0 if name == "most" else 2) for row in rows)
        )


def _jobs(f):
    yield "Humanised, T4, no rhythm heard: mean absolute error at the real hits, velocity (0 to 1) and offset (ms), and"
    yield "  KL from the real"
    heads = ("velocity", "offset", "velocity KL", "offset KL")
    yield line("", *heads, width=_WIDE)
    for row, scores in f["jobs"]["humanise"].items():
        yield line(row, *(sure(scores[head], 2 if head == "offset" else 3) for head in heads), width=_WIDE)
    yield "Played anew, T4, no rhythm heard: F1 of the onsets among the cells played anew"
    for job, title in JOBS.items():
        yield f"  {title}"
        for row, score in f["jobs"][job].items():
            yield line(row, sure(score), width=_WIDE)


def _goals(f):
    if f["goals"]:
        yield f"Goals, {f['split']} split"
        yield f"  {'':<{_GOAL}}{'best known':>12}{'goal':>14}{'measured':>26}"
    for row in f["goals"]:
        least, most = row["least"], row["most"]
        if least is None:
            bound = f"<= {most:g}"
        else:
            bound = f">= {least:g}" if most is None else f"{least:g} to {most:g}"
        cells = f"{row['known']:>12}{bound:>14}{sure(row['figure']):>26}"
        yield f"  {row['goal']:<{_GOAL}}{cells}  {'met' if row['met'] else 'not met'}"
