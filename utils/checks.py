"""What generate and stream are asked, checked; each error names the argument, the value and the rule."""

import contextlib
import operator
import os

import numpy as np
import torch

from utils.drums import N_VOICES
from utils.midi import rhythm_roll

MAX_RHYTHM_STEPS = 128
FOLLOW = {"literal": (True, True), "loose": (False, True), "free": (False, False)}  # context heard, latent heard


def whole(value, name):
    """The value as an int; ValueError where it is no whole number, or below 1."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}: {value!r}; it must be a whole number, 1 or more")
    return number


def _seed(value):
    try:
        if 0 <= operator.index(value) < 2**63:
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"seed: {value!r}; it must be a whole number, 0 or more")


def check_playing(follow, temperature, guidance):
    if follow not in FOLLOW:
        raise ValueError(f"follow: {follow!r}; it must be one of {', '.join(FOLLOW)}")
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature: {temperature}; it must be above 0")
    if not 0 <= guidance < np.inf:
        raise ValueError(f"guidance: {guidance}; it must be 0 or more")


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


def laid_out(rhythm, seq_len):
    """Check a rhythm, onset, vel and timeoffset (1, T, 9), and lay the loudest hit of each step into seq_len steps.
    Returns three float32 tensors (seq_len, 9) and how many steps of it are heard. Raises ValueError."""
    rolls = []
    for name, roll, low, high in zip(("onset", "vel", "timeoffset"), rhythm, (0, 0, -0.5), (1, 1, 0.5)):
        name = f"piano_roll_{name}"
        roll = torch.as_tensor(roll).detach().to("cpu", torch.float32)
        if roll.ndim == 3 and len(roll) == 1:
            roll = roll[0]
        if roll.ndim != 2 or roll.shape[1] != N_VOICES:
            raise ValueError(f"{name}: shape {tuple(roll.shape)}; it must be (1, steps, {N_VOICES})")
        if len(roll) > MAX_RHYTHM_STEPS:
            raise ValueError(f"{name}: {len(roll)} steps; a rhythm has at most {MAX_RHYTHM_STEPS}")
        if rolls and len(roll) != len(rolls[0]):
            raise ValueError(f"{name}: {len(roll)} steps; it must be as long as piano_roll_onset, {len(rolls[0])}")
        if not ((roll >= low) & (roll <= high)).all():
            raise ValueError(f"{name}: from {roll.min():g} to {roll.max():g}; it must lie between {low} and {high}")
        rolls.append(roll)
    loudest = rhythm_roll(*(roll[:seq_len].numpy() for roll in rolls))
    heard = min(len(rolls[0]), seq_len)
    padding = (0, 0, 0, seq_len - heard)
    return *(torch.nn.functional.pad(torch.as_tensor(roll), padding) for roll in loudest), heard
