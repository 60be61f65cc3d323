"""Controls between a musician and the model, by the table of model/controls.py.

A musician asks for hits per bar, MIDI velocities and names; the model is given z-scores, shares of steps and
ids. What is asked and what is played have the same shape, `Bars`, so that one can stand beside the other.
"""

import numpy as np
import torch

from model.controls import CONTROLS
from utils.checks import ArgumentError, whole, within
from utils.device import on_cpu, pick_device
from utils.midi.drums import STYLE_NONE, STYLES, style_id
from utils.playing.rolls import read_steps

NUMBERS = {name: control for name, control in CONTROLS.items() if control.n_ids is None}
FORBIDDEN = -1.0
NO_STYLE = "-"


class Bars(dict):
    """What is asked of bars, or what they have: control name -> array (n_bars, ...) in a musician's units.

    density (n_bars,): hits of all voices; intensity (n_bars,): mean MIDI velocity, 1 to 127; instrument
    (n_bars, 9): hits of each voice, negative where it is forbidden; style (n_bars,): ids or, where any bar
    blends styles, weights (n_bars, 18) that add up to 1. NaN, or the id STYLE_NONE, where nothing is asked.
    swing (n_bars,), which is no control of the model, as of utils.playing.wishes.
    """

    @classmethod
    def unset(cls, n_bars):
        """Bars that ask for nothing."""
        bars = cls()
        for name, control in CONTROLS.items():
            shape = n_bars if control.width is None else (n_bars, control.width)
            bars[name] = np.full(shape, control.unset)
        bars["swing"] = np.full(n_bars, np.nan)
        return bars

    @classmethod
    def joined(cls, parts):
        """The bars of several Bars, one after the other."""
        if any(part["style"].ndim > 1 for part in parts):
            parts = [part | {"style": as_weights(part["style"])} for part in parts]
        return cls({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def part(self, bars):
        """Copies of those in a slice."""
        return Bars({name: values[bars].copy() for name, values in self.items()})

    @property
    def n_bars(self):
        return len(self["density"])


def heading(control):
    """What a musician calls the control in tables: "hits" for hits_per_bar."""
    return control.wish.removesuffix("_per_bar")


# ---- styles


def style_weights(style):
    """A style as users write it, None, a name or a blend, as weights (18,) that add up to 1; NaN for none."""
    parts = "none" if style is None else style
    if not isinstance(style, dict):
        named = [part.partition("=") for part in str(parts).split("+")]
        parts = {name.strip(): weight if equals else 1 for name, equals, weight in named}
    weights = np.zeros(STYLE_NONE + 1)
    for name, weight in parts.items():
        which = style_id(name)
        try:
            weights[which] = float(weight)
        except (TypeError, ValueError):
            weights[which] = np.nan
    if not parts or not np.isfinite(weights).all() or (weights > 0).sum() < len(parts):
        rule = "a blend names styles, each with a weight above 0, as funk=0.7+jazz=0.3"
        raise ArgumentError((), style, rule)
    *styles, none = weights
    if none and len(parts) > 1:
        raise ArgumentError((), style, "'none' is no style that could be blended")
    return np.full(STYLE_NONE, np.nan) if none else np.array(styles) / np.sum(styles)


def as_ids(weights):
    """Weights (n, 18) as style ids (n,), where no row is a blend; otherwise as they are."""
    unset = np.isnan(weights[:, 0])
    ids = np.where(unset, STYLE_NONE, np.nan_to_num(weights).argmax(1))
    return ids if (unset | (weights.max(1) == 1)).all() else weights


def as_weights(styles):
    """The way back from as_ids."""
    if styles.ndim > 1:
        return styles
    return np.where(styles[:, None] == STYLE_NONE, np.nan, np.eye(STYLE_NONE + 1)[styles, :STYLE_NONE])


def style_name(style):
    """Of an id, or of the weights (18,) of a blend, "funk 0.7 + jazz 0.3"; NO_STYLE for none."""
    if np.ndim(style) == 0:
        return [*STYLES, NO_STYLE][style]
    parts = [which for which in np.argsort(-style, kind="stable") if style[which] > 0]
    if len(parts) < 2:
        return STYLES[parts[0]] if parts else NO_STYLE
    return " + ".join(f"{STYLES[which]} {style[which]:.2g}" for which in parts)


# ---- a musician's units and the model's


def _units(control, grid):
    """How many of a musician's units are a quantity of 1 in each bar, float32, (n_bars,) or (n_bars, 1)."""
    lengths = np.array(grid.lengths, np.float32)
    return control.units(lengths if control.width is None else lengths[:, None])


def to_model_units(asked, normalize_factor, grid):
    """Bars as the curves of `generate`: control name -> (1, T), or (1, T, 9), float32, NaN where unset and a
    negative value where a voice is forbidden; style int64 or, where there are blends, (1, T, 18) float32."""
    curves = {}
    for name, control in CONTROLS.items():
        value = asked[name]
        if control.n_ids is None:
            value = control.normalize(value / _units(control, grid), normalize_factor)
        curves[name] = grid.spread(value if value.dtype.kind == "i" else value.astype(np.float32), 0)[None]
    return curves


def measure(onset, vel, grid):
    """Count what was played. onset, vel: (T, 9) arrays. Returns Bars without styles."""
    onset, vel = np.asarray(onset, np.float32), np.asarray(vel, np.float32)
    played = Bars.unset(grid.n_bars)
    for name, control in NUMBERS.items():
        played[name] = control.measure(onset, vel, grid) * _units(control, grid)
    return played


# ---- curves


@on_cpu
def generate_control_params(control_points, values, seq_len, mode="linear", device="cpu", is_cat=False):
    """Draw a control curve through a few points.

    control_points: fractions of seq_len, rising, in [0, 1]. values: at each point a number, or a list of dim
    numbers (nine for instrument); None or NaN leaves the stretch to the model. mode: from one point to the
    next "left" holds the left value, "right" the right one, "linear" ramps (not for categories).
    is_cat: whole numbers (masks, styles). A device that is absent falls back to the CPU with a warning.

    Returns (1, seq_len, dim) on the device, float32, or int64 if is_cat. Raises ValueError.
    """
    seq_len = whole(seq_len, "seq_len")
    try:
        points = np.asarray(control_points, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 1 or not len(points) or not (np.diff(points, prepend=0, append=1) >= 0).all():
        rule = "they must be fractions of seq_len, rising from 0 to 1"
        raise ArgumentError("control_points", control_points, rule)
    try:
        table = np.asarray(values, dtype=np.float64).reshape(len(points), -1)
    except (TypeError, ValueError):
        rule = f"there must be one for each of the {len(points)} control_points, all of one size"
        raise ArgumentError("values", values, rule) from None
    if mode not in ("left", "right", "linear") or (is_cat and mode == "linear"):
        raise ArgumentError("mode", mode, "it must be 'left', 'right' or, not for categories, 'linear'")
    if is_cat and (table != np.round(table)).any():
        raise ArgumentError("values", values, "categories must be whole numbers")

    step = np.arange(seq_len) / seq_len
    if mode == "linear":
        curve = np.stack([np.interp(step, points, column) for column in table.T], axis=1)
    else:
        left = np.searchsorted(points, step, side="right") - 1
        curve = table.take(left + (mode == "right"), axis=0, mode="clip")
    dtype = torch.int64 if is_cat else torch.float32
    return torch.as_tensor(curve).to(dtype)[None].to(pick_device(device))


def read_curves(curves, masks, grid, normalize_factor):
    """Check curves, control name -> value as `generate` takes it; a name left out is None. Returns
    controls: name -> tensor (T, ...) as the model is given it, in each bar the mean of what is possible, NaN
    where unset; forbid (T, 9) bool: the cells of forbidden voices; mask (T,) bool: the steps that are played;
    asked: the Bars that all this asks for. A voice is forbidden in a bar where it is on all steps of it; of a
    bar of several style ids the first step's counts."""
    mask = torch.ones(grid.n_steps, dtype=torch.bool)
    if masks is not None:
        mask = control_curve(masks, "masks", grid.n_steps) > 0
    controls, asked = {}, Bars.unset(grid.n_bars)
    for name, control in CONTROLS.items():
        if control.n_ids is not None:
            style = style_steps(curves.get(name), grid.n_steps)
            controls[name] = style if style.ndim == 1 else grid.means(style, mask)
            asked[name] = grid.at_starts(controls[name], 0).numpy()
            continue
        curve = control_curve(curves.get(name), name, grid.n_steps, control.width)
        if name == "instrument":
            forbid = curve < 0
        possible = control.denormalize(curve, normalize_factor).clamp(control.lowest, control.highest)
        controls[name] = grid.means(control.normalize(possible, normalize_factor), mask)
        means = grid.at_starts(controls[name], 0).double().numpy()
        asked[name] = control.denormalize(means, normalize_factor) * _units(control, grid)
    forbidden = grid.at_starts(grid.means(forbid.float(), mask), 0).numpy() == 1
    asked["instrument"][forbidden] = FORBIDDEN
    return controls, forbid, mask, asked


def control_curve(value, name, seq_len, width=None):
    """A control as the user gave it, a tensor or array of at least seq_len steps, or None: unset throughout.
    Returns float32 (seq_len,), or (seq_len, width), NaN where unset."""
    if value is None:
        return torch.full((seq_len,) if width is None else (seq_len, width), torch.nan)
    curve = read_steps(value, name, width)
    if len(curve) < seq_len:
        rule = f"seq_len, {seq_len}, must be no longer than the controls"
        raise ArgumentError(name, value, rule, f"{len(curve)} steps")
    return curve[:seq_len]


def style_steps(style, seq_len):
    """Style ids (seq_len,) int64 of a curve of ids, one style's name, or None; STYLE_NONE where None, NaN or
    above 17. Of a blend or a curve of weights (1, steps, 18) weights (seq_len, 18) float32 that add up to 1,
    NaN where none is above 0; ids where nothing is blended."""
    if isinstance(style, (str, dict)):
        with within("style"):
            steps = torch.as_tensor(as_ids(style_weights(style)[None]))
        steps = steps.float() if steps.is_floating_point() else steps
        return steps.expand(seq_len, *steps.shape[1:])
    shape = np.shape(style)
    if len(shape) == 3 and shape[-1] > 1 or len(shape) == 2 and shape[0] > 1 and shape[-1] == STYLE_NONE:
        weights = control_curve(style, "style", seq_len, STYLE_NONE).nan_to_num(0.0, posinf=torch.inf)
        if not ((weights >= 0) & (weights < torch.inf)).all():
            found = f"weights from {weights.min():g} to {weights.max():g}"
            raise ArgumentError("style", style, "they must be numbers, 0 or more", found)
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.as_tensor(as_ids(weights.numpy()))
    ids = control_curve(style, "style", seq_len).nan_to_num(STYLE_NONE).clamp(max=STYLE_NONE)
    wrong = ids[(ids < 0) | (ids != ids.round())]
    if len(wrong):
        rule = f"it must be a style's id, 0 to {STYLE_NONE - 1}, or {STYLE_NONE} for none"
        raise ArgumentError("style", style, rule, f"{wrong[0]:g}")
    return ids.long()
