"""What generate and stream are asked, checked; each error names the argument, the value and the rule."""

import contextlib
import math
import operator
import os

import numpy as np
import torch

from model.controls import CONTROLS
from utils.config.errors import shorten
from utils.midi.drums import HAND_VOICES, HANDS, HATS, N_VOICES, VOICES, voice_index
from utils.midi.read import MAX_BARS, rhythm_roll

MAX_RHYTHM_STEPS = 16 * MAX_BARS
GUIDANCE = 1.5  # where controls are set; chosen on the validation split, see docs/experiments.md
ROLLS = ("onset", 0, 1), ("vel", 0, 1), ("timeoffset", -0.5, 0.5)  # with the range of their values
KNOWN = "known_onset", "known_vel"
FOLLOW = {"literal": 1.0, "loose": 0.0, "free": None}
MOST_FOLLOW = 2
MOST_WHOLE = 2**31 - 1


@contextlib.contextmanager
def naming(name):
    """Puts the name of an argument before the message of a ValueError within."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def whole(value, name):
    """The value as an int; ValueError where it is no whole number, below 1, or more than anything is counted to."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= MOST_WHOLE:
        most = f", {MOST_WHOLE} at most" if number > MOST_WHOLE else ""
        raise ValueError(f"{name}: {value!r}; it must be a whole number, 1 or more{most}")
    return number


def _seed(value):
    try:
        if 0 <= operator.index(value) < 2**63:
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"seed: {value!r}; it must be a whole number, 0 or more")


def check_temperature(temperature):
    """The temperature as a float. Raises ValueError."""
    number = as_number(temperature)
    if not 0 < number < np.inf:
        raise ValueError(f"temperature: {temperature!r}; it must be a number above 0")
    return number


def file_name(value, name):
    """The name of a file to write, a text or a Path. Raises ValueError."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ValueError(f"{name}: {value!r}; it must be the name of a file")
    return value


def check_switch(value, name):
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: {value!r}; it must be True or False")


def how_followed(follow):
    """How much of the rhythm is followed, a number from 0 to MOST_FOLLOW, or None: not at all. ValueError."""
    if isinstance(follow, str) and follow in FOLLOW:
        return FOLLOW[follow]
    number = as_number(follow)
    if not 0 <= number <= MOST_FOLLOW:
        rule = f"{', '.join(FOLLOW)}, or a number from 0, loose, past 1, literal, to {MOST_FOLLOW}"
        raise ValueError(f"follow: {follow!r}; it must be {rule}")
    return number


def strengths(guidance):
    """The strength of each control, a dict, of one strength or a dict of some. Raises ValueError."""
    if not isinstance(guidance, dict):
        return dict.fromkeys(CONTROLS, _strength(guidance, "guidance"))
    for name in guidance:
        if name not in CONTROLS:
            raise ValueError(f"guidance: {name!r}; the controls are {', '.join(CONTROLS)}")
    return {name: _strength(guidance.get(name, GUIDANCE), f"guidance: {name}") for name in CONTROLS}


def _strength(value, name):
    number = as_number(value)
    if not 0 <= number < np.inf:
        raise ValueError(f"{name}: {value!r}; it must be a number, 0 or more")
    return number


def as_number(value):
    """The value as a float, NaN where it is none."""
    try:
        return math.nan if isinstance(value, (str, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def make_generator(seed, device):
    """The source of chance of one call: of the seed, a new one each time where it is None."""
    generator = torch.Generator(device=device)
    return generator.manual_seed(int.from_bytes(os.urandom(7), "big") if seed is None else _seed(seed))


@contextlib.contextmanager
def in_eval_mode(model):
    """The model in eval mode, and afterwards each of its modules as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def as_floats(value, name):
    """A tensor, an array or nested lists as a float32 tensor on the CPU; None in a list is NaN. ValueError."""
    try:
        value = np.asarray(value, np.float32) if isinstance(value, (list, tuple)) else value
        return torch.as_tensor(value).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{name}: {shorten(repr(value))}; it must be a tensor, an array or a list of numbers"
        ) from None


def roll(value, name, low, high, most=MAX_RHYTHM_STEPS):
    """A roll as the user gave it, as float32 (T, 9) on the CPU. ValueError for another shape or a value out of range."""
    roll = as_floats(value, name)
    if roll.ndim == 3 and len(roll) == 1:
        roll = roll[0]
    if roll.ndim != 2 or roll.shape[1] != N_VOICES:
        raise ValueError(f"{name}: shape {tuple(roll.shape)}; it must be (1, steps, {N_VOICES})")
    if most is not None and len(roll) > most:
        raise ValueError(f"{name}: {len(roll)} steps; a rhythm has at most {most}")
    if not ((roll >= low) & (roll <= high)).all():
        raise ValueError(
            f"{name}: from {roll.min():g} to {roll.max():g}; it must lie between {low} and {high}"
        )
    return roll


def laid_out(rhythm, seq_len):
    """Check a rhythm, onset, vel and timeoffset (1, T, 9), and lay the loudest hit of each step into seq_len steps.
    Returns three float32 tensors (seq_len, 9) and how many steps of it are heard. Raises ValueError."""
    if all(part is None for part in rhythm):
        return *torch.zeros(3, seq_len, N_VOICES), 0
    rolls = []
    for (part, low, high), value in zip(ROLLS, rhythm):
        name = f"piano_roll_{part}"
        if value is None:
            raise ValueError(f"{name}: None; give all three rolls of a rhythm, or none of them")
        rolls.append(roll(value, name, low, high))
        if len(rolls[-1]) != len(rolls[0]):
            raise ValueError(
                f"{name}: {len(rolls[-1])} steps; it must be as long as piano_roll_onset, {len(rolls[0])}"
            )
    loudest = rhythm_roll(*(part[:seq_len].numpy() for part in rolls))
    heard = min(len(rolls[0]), seq_len)
    padding = (0, 0, 0, seq_len - heard)
    return *(torch.nn.functional.pad(torch.as_tensor(part), padding) for part in loudest), heard


def three(rolls, name):
    """Three rolls, of any kind. Raises ValueError where there are not three."""
    try:
        onset, vel, timeoffset = rolls
    except (TypeError, ValueError):
        what = (
            f"{len(rolls)} rolls" if isinstance(rolls, (list, tuple)) else f"of type {type(rolls).__name__}"
        )
        raise ValueError(f"{name}: {what}; it must be three rolls: onset, vel, timeoffset") from None
    return onset, vel, timeoffset


def drum_rolls(drums, name="drums", any_length=False):
    """Check drums, onset, vel and timeoffset (1, T, 9), T a multiple of 4 unless it may be any_length.
    Returns three float32 tensors (T, 9). Raises ValueError."""
    parts = zip(ROLLS, three(drums, name))
    rolls = [roll(value, f"{name}: {part}", low, high, None) for (part, low, high), value in parts]
    if len({len(part) for part in rolls}) > 1:
        steps = ", ".join(str(len(part)) for part in rolls)
        raise ValueError(f"{name}: {steps} steps; the three rolls must be equally long")
    if not any_length and (not len(rolls[0]) or len(rolls[0]) % 4):
        raise ValueError(f"{name}: {len(rolls[0])} steps; they must be a multiple of 4, and 4 at least")
    return rolls


def known_cells(known, seq_len):
    """Check the drums that are known, as `generate` takes them. Returns the dict with float32 rolls and bool masks,
    (seq_len, 9) each. Raises ValueError."""
    names = [part for part, _, _ in ROLLS]
    if not isinstance(known, dict) or set(known) != {*names, *KNOWN}:
        there = ", ".join(map(str, known)) or "empty" if isinstance(known, dict) else type(known).__name__
        raise ValueError(f"known: {there}; it must be a dict of {', '.join(names)} and {', '.join(KNOWN)}")
    onset, vel, timeoffset = drum_rolls([known[name] for name in names], "known")
    masks = [roll(known[name], f"known: {name}", 0, 1, None) > 0 for name in KNOWN]
    for name, part in zip((*names, *KNOWN), (onset, vel, timeoffset, *masks)):
        if len(part) != seq_len:
            raise ValueError(f"known: {name}: {len(part)} steps; it must be as long as seq_len, {seq_len}")
    known_onset, known_vel = masks
    if (known_vel & ~known_onset).any():
        raise ValueError(
            "known: known_vel is set where known_onset is not; of a cell's hit the onset must be known, too"
        )
    if ((onset != 0) & (onset != 1) & known_onset).any():
        raise ValueError("known: onset: a known cell is neither 0 nor 1; it must be hit or not")
    if (((vel > 0) != (onset > 0)) & known_vel).any() or ((timeoffset != 0) & (onset == 0) & known_vel).any():
        raise ValueError(
            "known: a cell of known_vel must have a velocity above 0 if hit, velocity and offset 0 if not"
        )
    return dict(zip((*names, *KNOWN), (onset, vel, timeoffset, known_onset, known_vel)))


def locked_cells(lock, drums, seq_len):
    """Of drums, (1, T, 9), the voices that `lock` names, as known_cells gives them; drums shorter than seq_len come round
    again. None where both are None. Raises ValueError."""
    if lock is None and drums is None:
        return None
    if drums is None:
        raise ValueError(
            f"lock: {lock!r}; it needs `drums`, three rolls of which these voices are played as they are"
        )
    if lock is None:
        raise ValueError(
            "drums: three rolls, but lock is None; it must name the voices that are played as they are"
        )
    rolls = [roll[torch.arange(seq_len) % len(roll)] for roll in drum_rolls(drums)]
    locked = voice_mask(lock, "lock").expand(seq_len, N_VOICES)
    return known_cells(
        dict(zip((*(part for part, _, _ in ROLLS), *KNOWN), (*rolls, locked, locked))), seq_len
    )


def bar_latents(latent, bars, size):
    """Latents (1, bars, size) as float32 (bars, size) on the CPU. Raises ValueError."""
    latent = as_floats(latent, "latent")
    if latent.shape != (1, bars, size) or not latent.isfinite().all():
        shape = tuple(latent.shape)
        raise ValueError(
            f"latent: shape {shape}; it must be (1, {bars}, {size}), finite numbers for each bar of seq_len"
        )
    return latent[0]


def limits(at_most, playable, seq_len):
    """What a step may hit: (seq_len, 3, 9), of the hats, of the voices for hands, and of all, the number of voices that
    may be hit together, and 9 at the voices that this is not about; None without a limit."""
    check_switch(playable, "playable")
    if at_most is None and not playable:
        return None
    most = torch.full((3, N_VOICES), N_VOICES)
    if playable:
        most[0, HATS] = 1
        most[1, HAND_VOICES] = HANDS
    if at_most is not None:
        most[2] = whole(at_most, "at_most")
    return most.expand(seq_len, *most.shape)


def voice_mask(voices, name):
    """One voice or several, each a name or an index, as a mask (9,). ValueError."""
    if isinstance(voices, str) or not hasattr(voices, "__iter__"):
        voices = [voices]
    with naming(name):
        found = [voice_index(voice) if isinstance(voice, str) else voice for voice in voices]
    if not found:
        raise ValueError(f"{name}: {voices!r}; it must name a voice or several: {', '.join(VOICES)}")
    return torch.isin(torch.arange(N_VOICES), numbers(found, name, N_VOICES))


def numbers(value, name, n):
    """One number or several, from 0 to n - 1, as a tensor. ValueError."""
    several = [value] if not hasattr(value, "__iter__") else list(value)
    try:
        several = (
            []
            if any(isinstance(number, bool) for number in several)
            else [operator.index(number) for number in several]
        )
    except TypeError:
        several = []
    if not several or not all(0 <= number < n for number in several):
        raise ValueError(f"{name}: {value!r}; it must be a number or several, from 0 to {n - 1}")
    return torch.tensor(several)
