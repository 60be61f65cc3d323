"""The figures of evaluate.py as Markdown: the tables of a model card and of a README, ready to be pasted."""

import re

from utils.evaluation.table import JOBS, number, sure

SET = "T4"  # of the tables that show one set

# setting of the likelihood -> what it is called; in the short table are those of SHORT
_SETTINGS = {
    "given": "true controls",
    "unset": "controls unset",
    "given_latent": "true controls, bar latent alone",
    "unset_latent": "controls unset, bar latent alone",
    "given_no_rhythm": "true controls, no rhythm",
    "unset_no_rhythm": "controls unset, no rhythm",
    "given_swapped": "true controls, another window's rhythm",
    "unset_swapped": "controls unset, another window's rhythm",
}
_SHORT = ("given", "unset", "unset_latent", "unset_no_rhythm", "given_swapped", "unset_swapped")

# row of the README's table -> best known of others, place of the figure, place of what needs no model, digits
_AGAINST_OTHERS = {
    "onset F1 of the samples' consensus, tap alone": (
        ".624",
        "tap/T2/onsets/consensus/f1",
        "tap/T2/onsets/training mean given the tap/f1",
        3,
    ),
    "onset F1 of a sample, tap alone": (".523", "tap/T2/onsets/sampled/f1", None, 3),
    "nats per cell of the consensus share": (
        ".217",
        "tap/T2/onsets/consensus/cross-entropy",
        "tap/T2/onsets/training mean given the tap/cross-entropy",
        3,
    ),
    "offset error at the real hits, ms, onsets known": (
        "5.5",
        "tap/T2/hits/onsets known, median/offset",
        "tap/T2/hits/copy of the tap/offset",
        1,
    ),
    "velocity error at the real hits, onsets known": (
        ".090",
        "tap/T2/hits/onsets known, median/velocity",
        "tap/T2/hits/copy of the tap/velocity",
        3,
    ),
    "velocity KL, samples to the tap alone": (".444", "realism/ratios/T2/unset/velocity KL", None, 3),
    "offset KL": ("1.287", "realism/ratios/T2/unset/offset KL", None, 3),
    "steps with more than two non-kick voices": (
        ".118",
        "realism/ratios/T2/unset/steps with more than two non-kick voices",
        None,
        3,
    ),
    "density, Spearman ρ of asked and got, the rest held": (
        ".87",
        "controls/bars/4/density/held/spearman",
        None,
        3,
    ),
    "intensity": ("–", "controls/bars/4/intensity/held/spearman", None, 3),
    "the nine voices, mean": ("–", "controls/bars/4/instrument/held/spearman", None, 3),
}


def markdown(figures):
    """The figures that evaluate gives, of all parts that were done: one text, a blank line between two tables."""
    tables = {
        "tap": (_against_others, _onsets, _hits),
        "likelihood": (_short_likelihood, _likelihood),
        "controls": (_controls, _song),
        "realism": (_realism, _variety),
        "jobs": (_humanised, _anew),
        "goals": (_goals,),
    }
    made = [table(figures) for part, several in tables.items() if figures.get(part) for table in several]
    return "\n\n".join("\n".join(lines) for lines in made if lines) + "\n"


def table(head, rows):
    """Lines of a table: head and rows are lists of cells."""
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells):
    return f"| {' | '.join(cells)} |"


def plain(figure, digits=3, interval=True):
    """A figure as text, shares and the like without the zero before the point; – where there is none."""
    if figure is None or number(figure["value"]) == "-":
        return "–"
    text = sure(figure, digits) if interval else number(figure["value"], digits)
    return re.sub(r"(?<!\d)0\.", ".", text) if digits == 3 else text


def found(figures, path):
    """The figure at a path such as "tap/T2/onsets", None where it was not measured."""
    for key in path.split("/") if path else ("",):
        figures = figures.get(key) if isinstance(figures, dict) else None
    return figures


def _against_others(f):
    rows = []
    for name, (known, path, without, digits) in _AGAINST_OTHERS.items():
        here, trivial = found(f, path), found(f, without)
        rows.append([name, known, plain(here, digits), plain(trivial, digits, interval=False)])
    return table([f"T2 of the {f['split']} split", "best known", "this checkpoint", "needs no model"], rows)


def _likelihood(f, settings=_SETTINGS, interval=True):
    rows = []
    for setting in settings:
        scores = f["likelihood"][setting]
        cost = f" ({number(scores['cost']['value'], 2, sign=True)})" if "cost" in scores else ""
        onset = plain(scores["onset"], 3, interval) + cost
        rows.append(
            [
                _SETTINGS[setting],
                onset,
                *(number(scores[head]["value"], 2) for head in ("velocity", "offset")),
            ]
        )
    return table(
        [f"nats, {f['split']} split", "onset, per step", "velocity, per hit", "offset, per hit"], rows
    )


def _short_likelihood(f):
    return _likelihood(f, _SHORT, interval=False)


def _onsets(f):
    sets = f["tap"]
    names = list(dict.fromkeys(name for of in sets.values() for name in of["onsets"]))
    rows = []
    for name in names:
        scores = [of["onsets"].get(name, {}) for of in sets.values()]
        cells = [(plain(of.get("f1")), plain(of.get("cross-entropy"), interval=False)) for of in scores]
        rows.append([name, *(cell for pair in cells for cell in pair)])
    return table(
        ["tap to drums", *(cell for name in sets for cell in (f"{name}: onset F1", "nats per cell"))], rows
    )


def _hits(f):
    rows = []
    for name, of in f["tap"]["T2"]["hits"].items():
        parts = [number(of[f"offset{part}"]["value"], 1) for part in (", the tap itself", ", the others")]
        rows.append([name, plain(of["velocity"]), plain(of["offset"], 1), *parts])
    head = [
        "error at the real hits, T2",
        "velocity, all",
        "offset, ms, all",
        "offset, the tap itself",
        "offset, the others",
    ]
    return table(head, rows)


def _controls(f):
    bars = f["controls"]["bars"]
    short, *longer = bars
    rows = []
    for control, modes in bars[short].items():
        for mode, of in modes.items():
            row = [control, mode]
            if control == "style":
                row = ["style, agreement", mode, plain(of["agreement"]), "–", "–"]
                rows.append(row + [plain(bars[n][control][mode]["agreement"], 3, False) for n in longer])
                continue
            row += [plain(of["spearman"]), number(of["error"]["value"], 2), plain(of["cross"], 3, False)]
            rows.append(row + [plain(bars[n][control][mode]["spearman"], 3, False) for n in longer])
    head = [f"asked and got, {short} bars", "others", "Spearman ρ", "mean error", "cross-correlation"]
    real = plain(f["controls"]["style"]["agreement"], 3, False)
    return [
        *table(head + [f"ρ at {n} bars" for n in longer], rows),
        "",
        f"Style: the classifier is right of {real} of real bars.",
    ]


def _song(f):
    """Along the longest windows; nothing where all are as long as the shortest."""
    if not f["controls"]["song"]:
        return []
    length, controls = list(f["controls"]["song"].items())[-1]
    rows = [[control, *(plain(figure) for figure in parts.values())] for control, parts in controls.items()]
    parts = (f"bars {part}" for part in next(iter(controls.values())))
    return table([f"Spearman ρ along {length} bars, others unset", *parts], rows)


def _realism(f):
    columns = f["realism"]["likeness"][SET]
    names = {
        "real": "real",
        "floor": f"real, {f['floor']}",
        "unset": "controls unset",
        "given": "true controls",
    }
    rows = [[name, *(number(columns[column][name], 4) for column in names)] for name in columns["real"]]
    return table([SET, *names.values()], rows)


def _variety(f):
    variety, rows = f["realism"]["variety"], []
    for name, figure in variety["difference"].items():
        rows.append([f"1 - F1 of {name}", plain(figure), "–", "–"])
    kinds = ("unset", "real", "floor")
    for name in variety["repetition"]["real"]:
        rows.append(
            [name, *(plain({"value": variety["repetition"][kind][name]}, 3, False) for kind in kinds)]
        )
    copied = [number(variety["longest copy"][kind]["mean"], 1) for kind in kinds]
    rows.append(["steps on end that stand just so in a training performance, mean", *copied])
    return table(
        [f"variety and copies, {SET}", "a sample, controls unset", "real", f"real, {f['floor']}"], rows
    )


def _humanised(f):
    rows = []
    for name, of in f["jobs"]["humanise"].items():
        rows.append(
            [
                name,
                plain(of["velocity"]),
                plain(of["offset"], 1),
                plain(of["velocity KL"]),
                plain(of["offset KL"]),
            ]
        )
    return table(
        [
            f"humanised, {SET}, no rhythm heard",
            "velocity error",
            "offset error, ms",
            "velocity KL",
            "offset KL",
        ],
        rows,
    )


def _anew(f):
    rows = [
        [title, name, plain(score)] for job, title in JOBS.items() for name, score in f["jobs"][job].items()
    ]
    return table([f"played anew, {SET}, no rhythm heard", "", "F1 of the onsets played anew"], rows)


def _goals(f):
    rows = []
    for row in f["goals"]:
        least, most = row["least"], row["most"]
        bound = (
            f"≤ {most:g}" if least is None else f"≥ {least:g}" if most is None else f"{least:g} to {most:g}"
        )
        rows.append(
            [row["goal"], row["known"] or "–", plain(row["figure"]), bound, "yes" if row["met"] else "no"]
        )
    met = sum(row["met"] for row in f["goals"])
    head = ["figure", "best known", "here, with its 95 % interval", "goal", "met"]
    return [f"{met} of {len(rows)} goals are met.", "", *table(head, rows)]
