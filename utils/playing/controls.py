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
from utils.playing.rolls import as_floats

NUMBERS = {name: control for name, control in CONTROLS.items() if control.n_ids is None}
FORBIDDEN = -1.0
NO_STYLE = "-"


class Bars(dict):
    """What is asked of bars, or what they have: control name -> array (n_bars, ...) in a musician's units.

    density (n_bars,): hits of all voices; intensity (n_bars,): mean MIDI velocity, 1 to 127; instrument
    (n_bars, 9): hits of each voice, negative where it is forbidden; style (n_bars,): ids or, where any bar
    blends styles, weights (n_bars, 18) that add up to 1. NaN, or the id STYLE_NONE, where nothing is asked.
    """

    @classmethod
    def unset(cls, n_bars):
        """Bars of which nothing is asked."""
        shapes = {
            name: (n_bars,) if control.width is None else (n_bars, control.width)
            for name, control in CONTROLS.items()
        }
        return cls({name: np.full(shape, CONTROLS[name].unset) for name, shape in shapes.items()})

    @classmethod
    def joined(cls, parts):
        """The bars of several Bars, one after the other."""
        if any(part["style"].ndim > 1 for part in parts):
            parts = [part | {"style": as_weights(part["style"])} for part in parts]
        return cls({name: np.concatenate([part[name] for part in parts]) for name in CONTROLS})

    def part(self, bars):
        """Those of a slice; arrays are copies."""
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
    if style is None:
        return np.full(STYLE_NONE, np.nan)
    parts = style
    if not isinstance(style, dict):
        named = [part.partition("=") for part in str(style).split("+")]
        parts = {name.strip(): weight if equals else 1 for name, equals, weight in named}
    weights = np.zeros(STYLE_NONE + 1)
    for name, weight in parts.items():
        which = style_id(name)
        try:
            weights[which] = float(weight)
        except (TypeError, ValueError):
            weights[which] = np.nan
    if not parts or not ((weights >= 0) & (weights < np.inf)).all() or (weights > 0).sum() < len(parts):
        rule = "a blend names styles, each with a weight above 0, as funk=0.7+jazz=0.3"
        raise ArgumentError((), style, rule)
    if weights[STYLE_NONE] and len(parts) > 1:
        raise ArgumentError((), style, "'none' is no style that could be blended")
    styles = weights[:STYLE_NONE]
    return style_weights(None) if weights[STYLE_NONE] else styles / styles.sum()


def as_ids(weights):
    """Weights (n, 18) as style ids (n,), where no row is a blend; otherwise as they are."""
    unset = np.isnan(weights[:, 0])
    if (unset | (weights.max(1) == 1)).all():
        return np.where(unset, STYLE_NONE, np.nan_to_num(weights).argmax(1))
    return weights


def as_weights(styles):
    """The way back from as_ids."""
    if styles.ndim > 1:
        return styles
    return np.where(styles[:, None] == STYLE_NONE, np.nan, np.eye(STYLE_NONE + 1)[styles, :STYLE_NONE])


def style_name(style):
    """Of an id, or of the weights (18,) of a blend, "funk 0.7 + jazz 0.3"; NO_STYLE for none."""
    if np.ndim(style) == 0:
        return NO_STYLE if style == STYLE_NONE else STYLES[style]
    if np.isnan(style[0]):
        return NO_STYLE
    parts = [which for which in np.argsort(-style, kind="stable") if style[which] > 0]
    if len(parts) == 1:
        return STYLES[parts[0]]
    return " + ".join(f"{STYLES[which]} {style[which]:.2g}" for which in parts)


# ---- a musician's units and the model's


def _units(control, grid):
    """How many of a musician's units are a quantity of 1 in each bar, float32, (n_bars,) or (n_bars, 1)."""
    lengths = np.array(grid.lengths, np.float32)
    return control.units(lengths if control.width is None else lengths[:, None])


def to_model_units(asked, normalize_factor, grid):
    """Bars as the curves of `generate`: control name -> (1, T), or (1, T, 9), float32, NaN where unset and a
    negative value where a voice is forbidden; style int64 or, where there are blends, (1, T, 18) float32."""
    curves = {"style": asked["style"] if asked["style"].ndim == 1 else asked["style"].astype(np.float32)}
    for name, control in NUMBERS.items():
        value = control.normalize(asked[name] / _units(control, grid), normalize_factor)
        curves[name] = value.astype(np.float32)
    return {name: grid.spread(curves[name], 0)[None] for name in CONTROLS}


def from_model_units(curves, mask, normalize_factor, grid):
    """The Bars that curves, as read_curves gives them, ask for: the way back from to_model_units. Of a bar of
    several styles the first step's counts; a voice is forbidden in it where it is on all its steps."""
    first = list(grid.starts)
    asked = Bars()
    for name, control in NUMBERS.items():
        curve = curves[name] if control.normalized else curves[name].clamp(control.lowest, control.highest)
        quantity = control.denormalize(grid.means(curve, mask)[first].double().numpy(), normalize_factor)
        asked[name] = quantity * _units(control, grid)
    forbidden = grid.means((curves["instrument"] < 0).float(), mask)[first] == 1
    asked["instrument"] = np.where(forbidden.numpy(), FORBIDDEN, asked["instrument"])
    style = curves["style"]
    asked["style"] = (style if style.ndim == 1 else grid.means(style, mask))[first].numpy()
    return asked


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
    inside = ((points >= 0) & (points <= 1)).all()
    if points.ndim != 1 or not len(points) or not inside or (np.diff(points) < 0).any():
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
        curve = table[np.clip(left + (mode == "right"), 0, len(points) - 1)]
    dtype = torch.int64 if is_cat else torch.float32
    return torch.as_tensor(curve).to(dtype)[None].to(pick_device(device))


def read_curves(curves, masks, seq_len, normalize_factor):
    """Check curves, control name -> value as `generate` takes it, None for those left out. Returns tensors
    (seq_len, ...) on the CPU, as near as they are possible, NaN where unset, a negative instrument where a
    voice is forbidden; and the mask (seq_len,) bool."""
    read = {}
    for name, control in CONTROLS.items():
        if control.n_ids is not None:
            read[name] = style_steps(curves.get(name), seq_len)
            continue
        read[name] = control_curve(curves.get(name), name, seq_len, control.width)
        if control.normalized:
            read[name] = nearest_possible(read[name], control, normalize_factor)
    if masks is None:
        return read, torch.ones(seq_len, dtype=torch.bool)
    return read, control_curve(masks, "masks", seq_len) > 0


def for_model(curves, mask, grid):
    """Curves of read_curves as the model is given them: each bar its mean, of what a bar can have."""
    means = {}
    for name, curve in curves.items():
        control = CONTROLS[name]
        if control.n_ids is not None:
            means[name] = curve if curve.ndim == 1 else grid.means(curve, mask)
        else:
            curve = curve if control.normalized else curve.clamp(control.lowest, control.highest)
            means[name] = grid.means(curve, mask)
    return means


def control_curve(value, name, seq_len, dim=None):
    """A control as the user gave it, as float32 (seq_len,), or (seq_len, dim), on the CPU; NaN where unset.

    value: None (unset throughout), or a tensor or array of at least seq_len steps, with or without a leading
    1 and, where dim is None, a trailing 1. Raises ArgumentError.
    """
    if value is None:
        return torch.full((seq_len,) if dim is None else (seq_len, dim), torch.nan)
    curve = as_floats(value, name)
    found = f"shape {tuple(curve.shape)}"
    if dim is None and curve.ndim > 1 and curve.shape[-1] == 1:
        curve = curve[..., 0]
    rank = 1 if dim is None else 2
    if curve.ndim == rank + 1 and len(curve) == 1:
        curve = curve[0]
    if curve.ndim != rank or (dim is not None and curve.shape[1] != dim):
        raise ArgumentError(name, value, f"it must be (1, steps{f', {dim}' if dim else ''})", found)
    if len(curve) < seq_len:
        rule = f"seq_len, {seq_len}, must be no longer than the controls"
        raise ArgumentError(name, value, rule, f"{len(curve)} steps")
    return curve[:seq_len]


def nearest_possible(curve, control, normalize_factor):
    """Bring values of the model to the nearest that a bar can have."""
    quantity = control.denormalize(curve, normalize_factor).clamp(control.lowest, control.highest)
    return control.normalize(quantity, normalize_factor)


def style_steps(style, seq_len):
    """Style ids (seq_len,) int64 of a curve of ids, one style's name, or None; STYLE_NONE where None, NaN or
    above 17. Of a blend or a curve of weights (1, steps, 18) weights (seq_len, 18) float32 that add up to 1,
    NaN where none is above 0; ids where nothing is blended."""
    if isinstance(style, (str, dict)):
        with within("style"):
            steps = torch.as_tensor(as_ids(style_weights(style)[None]))
        steps = steps.to(torch.int64 if steps.ndim == 1 else torch.float32)
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
