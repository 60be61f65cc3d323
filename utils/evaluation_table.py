"""The figures of evaluate.py as text."""

from math import isnan

from utils.realism import ratio

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
_NAME = 44  # characters


def tables(figures):
    """The figures that evaluate.evaluate returns, as one text of five tables."""
    parts = (_title, _likelihood, _likeness, _tap, _adherence)
    return "\n\n".join("\n".join(part(figures)) for part in parts)


def _line(name, *cells):
    return f"  {name:<{_NAME}}" + "".join(f"{cell:>12}" for cell in cells)


def _number(value, digits=3, sign=False):
    return "-" if isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _title(f):
    yield f"{f['checkpoint']}, step {f['step']}"
    yield (f"{f['split']} split: {f['windows']} windows of {f['bars']} bars out of {f['performances']} performances; "
           f"{f['samples']} sample(s) each at temperature 1, seed {f['seed']}")  # fmt: skip


def _likelihood(f):
    yield "Likelihood, teacher-forced, in nats; cost: onset nats more than with the right rhythm"
    yield _line("", "onset/step", "vel/hit", "offset/hit", "cost")
    for setting, name in _SETTINGS.items():
        scores = f["likelihood"][setting]
        cost = [_number(scores["cost"], sign=True)] if "cost" in scores else []
        yield _line(name, *(_number(scores[head]) for head in ("onset", "velocity", "offset")), *cost)


def _likeness(f):
    columns = f["likeness"]
    yield f"Likeness of the samples; /real: ratio to the real {f['split']} split; {f['floor']}: real bars of that split"
    yield _line("", "real", f["floor"], "unset", "/real", "given", "/real")
    for name, real in columns["real"].items():
        cells = [_number(real, 4), _number(columns["floor"][name], 4)]
        for setting in ("unset", "given"):
            value = columns[setting][name]
            cells += [_number(value, 4), _number(ratio(value, real), 2)]
        yield _line(name, *cells)


def _tap(f):
    yield "From the tap to the drums: onsets among all cells; share of taps answered, share of hits off the taps"
    yield _line("", "precision", "recall", "F1", "answered", "off taps")
    for name, scores in f["tap"].items():
        keys = ("precision", "recall", "f1", "taps answered", "hits off the taps")
        yield _line(name, *(_number(scores[key]) for key in keys))


def _adherence(f):
    yield "Obedience, bar by bar, all controls given: hits in hits per bar, velocity in MIDI units"
    yield _line("", "Spearman", "mean error", "mean asked")
    for name, scores in f["adherence"].items():
        yield _line(name, _number(scores["spearman"]), _number(scores["error"], 2), _number(scores["asked"], 2))
