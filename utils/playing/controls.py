"""What is asked of each bar: control curves made fit for the model, and a musician's units turned into them.

The model is asked in z-scores of density and intensity and in shares of steps; a musician in hits per bar, MIDI
velocities and names. Asking and getting have the same shape, `Bars`, so that one can stand beside the other.
"""

import difflib
import re
from dataclasses import dataclass

import numpy as np
import torch

from model.bars import BarGrid
from utils.checks import as_floats, naming
from utils.config.yaml_file import read_file
from utils.corpus.attributes import bar_attributes
from utils.midi.drums import N_VOICES, STYLE_NONE, STYLES, look_up, style_id, voice_index

CONTROL_KEYS = ("hits_per_bar", "velocity", "voices", "forbid", "style")
MOST_HITS = 16 * N_VOICES  # of a bar
UNSET_WORDS = ("", "-", "none")
NO_STYLE = "-"
GUIDED = {  # what --guidance names, by flags and by the arguments of `generate`
    "hits_per_bar": "density",
    "velocity": "intensity",
    "voice": "instrument",
    "style": "style",
    "density": "density",
    "intensity": "intensity",
    "instrument": "instrument",
}


@dataclass
class Bars:
    """Per bar: what is asked or what was played. NaN (style: STYLE_NONE) where nothing is asked.

    hits: (bars,) hits of all voices together
    velocity: (bars,) mean MIDI velocity of the hits, 1 to 127
    voices: (bars, 9) hits of each voice; negative where the voice is forbidden
    style: (bars,) int, style id; or, where any bar blends styles, (bars, 18) weights that add up to 1, NaN for none
    """

    hits: np.ndarray
    velocity: np.ndarray
    voices: np.ndarray
    style: np.ndarray

    def __len__(self):
        return len(self.hits)


def ask(bars, hits_per_bar=None, velocity=None, voices=None, forbid=(), style=None):
    """Lay a musician's wishes out over `bars` bars.

    hits_per_bar, velocity, style and each value of the dict `voices` (name -> hits per bar) are one value for
    all bars or several: a list, or text with commas. A list shorter than the bars is stretched evenly, each
    value held until the next one's turn. Numbers may be {from: a, to: b}, too, evenly from the first bar to the last.
    None or "-" leaves a bar to the model. `forbid` lists voice names. A blend of styles is a dict of weights, or text
    with a plus: "funk=0.7+jazz=0.3".

    Returns Bars. Raises ValueError naming the argument, the value and the rule.
    """
    asked = Bars(
        hits=numbers(hits_per_bar, bars, "hits_per_bar", most=MOST_HITS),
        velocity=numbers(velocity, bars, "velocity", least=1, most=127),
        voices=np.full((bars, N_VOICES), np.nan),
        style=as_ids(np.stack([style_weights(item) for item in per_bar(style, bars, "style")])),
    )
    check_voices(voices)
    with naming("voices"):
        for name, value in (voices or {}).items():
            asked.voices[:, voice_index(name)] = numbers(value, bars, name, most=MOST_HITS // N_VOICES)
    with naming("forbid"):
        for name in filter(None, _items(forbid)):
            asked.voices[:, voice_index(name)] = -1.0
    return asked


def style_weights(style):
    """A style as a user writes it, None, a name or a blend, as weights (18,) that add up to 1; NaN where it is none.
    Raises ValueError."""
    if style is None:
        return np.full(STYLE_NONE, np.nan)
    parts = style
    if not isinstance(style, dict):
        named = [part.partition("=") for part in str(style).split("+")]
        parts = {name.strip(): weight if equals else 1 for name, equals, weight in named}
    weights = np.zeros(STYLE_NONE + 1)
    for name, weight in parts.items():
        with naming("style"):
            which = style_id(name)
        try:
            weights[which] = float(weight)
        except (TypeError, ValueError):
            weights[which] = np.nan
    if not parts or not ((weights >= 0) & (weights < np.inf)).all() or (weights > 0).sum() < len(parts):
        raise ValueError(
            f"style: {style!r}; a blend names styles, each with a weight above 0, as funk=0.7+jazz=0.3"
        )
    if weights[STYLE_NONE]:
        if len(parts) > 1:
            raise ValueError(f"style: {style!r}; 'none' is no style that could be blended")
        return np.full(STYLE_NONE, np.nan)
    return weights[:STYLE_NONE] / weights[:STYLE_NONE].sum()


def as_ids(weights):
    """Weights (n, 18) as style ids (n,), where no row is a blend; otherwise as they are."""
    unset = np.isnan(weights[:, 0])
    if (unset | (weights.max(1) == 1)).all():
        return np.where(unset, STYLE_NONE, np.nan_to_num(weights).argmax(1))
    return weights


def numbers(value, bars, name, least=0, most=np.inf):
    """A value for each of `bars` bars, (bars,), NaN where nothing is asked: one or several as in `ask`, or {from: a, to:
    b}, which goes evenly from the first bar to the last. ValueError naming `name` for what is no number from `least` to `most`."""
    ramp = isinstance(value, dict) and value.keys() == {"from", "to"}
    found = []
    for item in (value["from"], value["to"]) if ramp else per_bar(value, bars, name):
        try:
            number = np.nan if item is None else float(item)
        except (TypeError, ValueError):
            number = None
        if number is None or isinstance(item, bool) or number < least or number > most or np.isinf(number):
            rule = "a number" + (f", {least} or more" if least > -np.inf else "")
            rule = rule if most == np.inf else f"a number, {least} to {most}"
            raise ValueError(f"{name}: {item!r}; it must be {rule}, or '-' to leave it to the model")
        found.append(number)
    return np.linspace(*found, bars) if ramp else np.array(found)


def per_bar(value, bars, name):
    """One item for each bar, of one or several as `ask` takes them; None where nothing is asked."""
    items = _items(value) or [None]
    if len(items) > bars:
        raise ValueError(
            f"{name}: {len(items)} values for {bars} bars; give one for all, or at most one for each bar"
        )
    return [items[bar * len(items) // bars] for bar in range(bars)]


def _items(value):
    if isinstance(value, str):
        value = value.split(",")
    elif hasattr(value, "tolist"):
        value = np.ravel(value).tolist()
    elif isinstance(value, dict) or not hasattr(value, "__iter__"):
        value = [value]
    items = [item.strip() if isinstance(item, str) else item for item in value]
    return [None if isinstance(item, str) and item.lower() in UNSET_WORDS else item for item in items]


def read_controls(path):
    """Read a control file: YAML with any of hits_per_bar, velocity, voices, forbid and style, as `ask` takes them.

    Returns a dict of arguments for `ask`. Raises ValueError naming the file, the key and the rule.
    """
    controls, problems = read_file(path)
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")
    controls = {} if controls is None else controls
    if not isinstance(controls, dict):
        raise ValueError(
            f"{path}: holds a {type(controls).__name__}; it must hold keys out of {', '.join(CONTROL_KEYS)}"
        )
    check_keys(controls, CONTROL_KEYS, f"{path}: ")
    check_voices(controls.get("voices"), f"{path}: ")
    return {key: value for key, value in controls.items() if value is not None}


def check_keys(given, keys, where="", what="key"):
    """ValueError for the first of those given that is not among the keys, with the nearest of them."""
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the {what}s are {', '.join(keys)}"
            raise ValueError(f"{where}unknown {what} {key!r}; {hint}")


def check_voices(voices, where=""):
    if voices is not None and not isinstance(voices, dict):
        raise ValueError(f"{where}voices: {voices!r}; it must be voice names with hits per bar, as 'kick: 4'")


def parse_voices(words):
    """Read "kick=4 snare=2,2,4,2" (words of a command line, commas between voices allowed too) into a dict."""
    return _named(words, "--voice: {!r}; it must read name=hits, as kick=4 or snare=2,2,4,2")


def parse_guidance(words):
    """Read "2", or "style=3 hits-per-bar=2" with the names of flags, into what `generate` takes. Raises ValueError."""
    rule = "--guidance: {!r}; it must be a number, or read name=number for any of hits-per-bar, velocity, voice and style"
    one = len(words) == 1 and "=" not in words[0]
    try:
        given = {
            name: float(number) for name, number in ({"": words[0]} if one else _named(words, rule)).items()
        }
    except ValueError:
        raise ValueError(rule.format(" ".join(words))) from None
    if one:
        return given[""]
    names = list(GUIDED)
    return {
        GUIDED[names[look_up(name, names, "control of --guidance")]]: number for name, number in given.items()
    }


def _named(words, rule):
    """name=value name=value... as a dict of text."""
    text = " ".join(words)
    before, *parts = re.split(r"([A-Za-z][\w-]*)\s*=", text)
    if before.strip(" ,") or not parts:
        raise ValueError(rule.format(text))
    return {name: value.strip(" ,") for name, value in zip(parts[::2], parts[1::2])}


def to_model_units(asked, normalize_factor, steps_per_bar):
    """Turn Bars into the controls of `generate`.

    Returns density (1, T), intensity (1, T), instrument (1, T, 9), float32 with NaN where unset and a negative
    instrument value where a voice is forbidden, and style (1, T) int64 or, where there are blends, (1, T, 18) float32,
    with T = bars * steps_per_bar.
    """
    density_mean, density_std = normalize_factor["density"]
    intensity_mean, intensity_std = normalize_factor["intensity"]
    density = (asked.hits / (steps_per_bar * N_VOICES) - density_mean) / density_std
    intensity = (asked.velocity / 127 - intensity_mean) / intensity_std
    instrument = asked.voices / steps_per_bar

    def steps(per_bar):
        return np.repeat(per_bar, steps_per_bar, axis=0)[None]

    return (
        steps(density).astype(np.float32),
        steps(intensity).astype(np.float32),
        steps(instrument).astype(np.float32),
        steps(asked.style if asked.style.ndim == 1 else asked.style.astype(np.float32)),
    )


def laid_controls(density, intensity, instrument, style, masks, seq_len, normalize_factor):
    """Check the controls that `generate` takes. Returns density, intensity (seq_len,), as near as they are possible,
    instrument (seq_len, 9), style, see style_steps, and mask (seq_len,), tensors on the CPU, NaN where unset. Raises ValueError."""
    density = nearest_possible(control_curve(density, "density", seq_len), *normalize_factor["density"])
    intensity = nearest_possible(
        control_curve(intensity, "intensity", seq_len), *normalize_factor["intensity"]
    )
    instrument = control_curve(instrument, "instrument", seq_len, N_VOICES)
    style = style_steps(style, seq_len)
    mask = (
        torch.ones(seq_len, dtype=torch.bool) if masks is None else control_curve(masks, "masks", seq_len) > 0
    )
    return density, intensity, instrument, style, mask


def from_model_units(density, intensity, instrument, style, mask, normalize_factor, steps_per_bar):
    """The Bars that controls, as laid_controls gives them, ask for: the way back from to_model_units. Of a bar of
    several styles the first step's counts; a voice is forbidden in it where it is on all its steps."""
    density_mean, density_std = normalize_factor["density"]
    intensity_mean, intensity_std = normalize_factor["intensity"]
    curves = (density, intensity, instrument.clamp(0, 1), (instrument < 0).float())
    curves = (bar_means(curve, mask, steps_per_bar)[::steps_per_bar].double().numpy() for curve in curves)
    density, intensity, instrument, forbidden = curves
    style = style if style.ndim == 1 else bar_means(style, mask, steps_per_bar)
    return Bars(
        hits=(density * density_std + density_mean) * steps_per_bar * N_VOICES,
        velocity=(intensity * intensity_std + intensity_mean) * 127,
        voices=np.where(forbidden == 1, -1.0, instrument * steps_per_bar),
        style=style[::steps_per_bar].numpy(),
    )


def measure(onset, vel, steps_per_bar):
    """Count what was played. onset, vel: (T, 9) arrays, T any length. Returns Bars without styles."""
    density, intensity, instrument = bar_attributes(
        onset, vel, BarGrid.four_four(len(onset), steps_per_bar // 4)
    ).values()
    return Bars(
        hits=density * steps_per_bar * N_VOICES,
        velocity=intensity * 127,
        voices=instrument * steps_per_bar,
        style=np.full(len(density), STYLE_NONE),
    )


def asked_voices(asked):
    """The indices of the voices of which anything is asked in any bar, in voice order."""
    return [voice for voice in range(N_VOICES) if not np.isnan(asked.voices[:, voice]).all()]


def style_name(style):
    """Of an id, or of the weights (18,) of a blend, "funk 0.7 + jazz 0.3"; NO_STYLE for none."""
    if np.ndim(style) == 0:
        return NO_STYLE if style == STYLE_NONE else STYLES[style]
    if np.isnan(style[0]):
        return NO_STYLE
    parts = [which for which in np.argsort(-style, kind="stable") if style[which] > 0]
    return (
        STYLES[parts[0]]
        if len(parts) == 1
        else " + ".join(f"{STYLES[which]} {style[which]:.2g}" for which in parts)
    )


def control_curve(value, name, seq_len, dim=None):
    """A control as the user gave it, as float32 (seq_len,), or (seq_len, dim), on the CPU; NaN where unset.

    value: None (unset throughout), or a tensor or array of at least seq_len steps, with or without a leading 1
    and, where dim is None, a trailing 1. Raises ValueError naming `name`.
    """
    if value is None:
        return torch.full((seq_len,) if dim is None else (seq_len, dim), torch.nan)
    curve = as_floats(value, name)
    shape = tuple(curve.shape)
    if dim is None and curve.ndim > 1 and shape[-1] == 1:
        curve = curve[..., 0]
    rank = 1 if dim is None else 2
    if curve.ndim == rank + 1 and len(curve) == 1:
        curve = curve[0]
    if curve.ndim != rank or (dim is not None and curve.shape[1] != dim):
        raise ValueError(f"{name}: shape {shape}; it must be (1, steps{f', {dim}' if dim else ''})")
    if len(curve) < seq_len:
        raise ValueError(
            f"{name}: {len(curve)} steps; seq_len, {seq_len}, must be no longer than the controls"
        )
    return curve[:seq_len]


def nearest_possible(curve, mean, std):
    """Bring z-scores to the nearest that a bar can have: density and intensity themselves lie in [0, 1]."""
    return ((curve * std + mean).clamp(0, 1) - mean) / std


def bar_means(curve, mask, steps_per_bar):
    """Give all steps of a bar the mean of its steps that are valid and set; NaN where there are none.

    curve: (T,) or (T, D) tensor, NaN where unset. mask: (T,) bool. The last bar may be cut short.
    """
    valid = mask.reshape(-1, *[1] * (curve.ndim - 1))
    bars = curve.masked_fill(~valid, torch.nan).split(steps_per_bar)
    return torch.cat([bar.nanmean(0, keepdim=True).expand_as(bar) for bar in bars])


def style_steps(style, seq_len):
    """Style ids (seq_len,) int64 of a curve of ids, one style's name, or None; STYLE_NONE where None, NaN or above 17.
    Of a blend or a curve of weights (1, steps, 18) weights (seq_len, 18) float32 that add up to 1, NaN where none is above
    0; ids where nothing is blended."""
    if isinstance(style, (str, dict)):
        steps = as_ids(style_weights(style)[None])
        return (
            torch.as_tensor(steps)
            .to(torch.int64 if steps.ndim == 1 else torch.float32)
            .expand(seq_len, *steps.shape[1:])
        )
    shape = np.shape(style)
    if len(shape) == 3 and shape[-1] > 1 or len(shape) == 2 and shape[0] > 1 and shape[-1] == STYLE_NONE:
        weights = control_curve(style, "style", seq_len, STYLE_NONE).nan_to_num(0.0, posinf=torch.inf)
        if not ((weights >= 0) & (weights < torch.inf)).all():
            raise ValueError(
                f"style: weights from {weights.min():g} to {weights.max():g}; they must be numbers, 0 or more"
            )
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.as_tensor(as_ids(weights.numpy()))
    ids = control_curve(style, "style", seq_len).nan_to_num(STYLE_NONE).clamp(max=STYLE_NONE)
    wrong = ids[(ids < 0) | (ids != ids.round())]
    if len(wrong):
        raise ValueError(
            f"style: {wrong[0]:g}; it must be a style's id, 0 to {STYLE_NONE - 1}, or {STYLE_NONE} for none"
        )
    return ids.long()
