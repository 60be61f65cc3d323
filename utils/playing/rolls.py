"""Rhythms and drums as users give them, checked: three rolls, onset, vel and timeoffset, (1, T, 9) each, as
float32 tensors (T, 9) on the CPU; voices by name; and the rules that limit a step."""

import itertools

import numpy as np
import torch

from utils.checks import ArgumentError, check_switch, whole, within
from utils.midi.drums import HAND_VOICES, HANDS, HATS, N_VOICES, VOICES, voices_meant
from utils.midi.read import MAX_BARS, rhythm_roll

MAX_RHYTHM_STEPS = 16 * MAX_BARS
ROLLS = {"onset": (0, 1), "vel": (0, 1), "timeoffset": (-0.5, 0.5)}  # with the range of their values
KNOWN = "known_onset", "known_vel"


def as_floats(value, name):
    """A tensor, an array or nested lists as a float32 tensor on the CPU; None in a list is NaN."""
    try:
        rolls = np.asarray(value, np.float32) if isinstance(value, (list, tuple)) else value
        return torch.as_tensor(rolls).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(name, value, "it must be a tensor, an array or a list of numbers") from None


def read_steps(value, name, width=None):
    """Values step by step, with or without a leading 1 and, where there is no width, a trailing 1, as float32
    (steps,) or (steps, width)."""
    steps = as_floats(value, name)
    found = f"shape {tuple(steps.shape)}"
    if width is None and steps.ndim > 1 and steps.shape[-1] == 1:
        steps = steps[..., 0]
    rank = 1 if width is None else 2
    if steps.ndim == rank + 1 and len(steps) == 1:
        steps = steps[0]
    if steps.ndim != rank or (width is not None and steps.shape[1] != width):
        rule = f"it must be (1, steps{f', {width}' if width else ''})"
        raise ArgumentError(name, value, rule + ": one version at a time" * (steps.ndim > rank), found)
    return steps


def read_roll(value, name, low, high, most=None):
    """A roll as float32 (T, 9), of values in this range."""
    roll = read_steps(value, name, N_VOICES)
    if most is not None and len(roll) > most:
        raise ArgumentError(name, value, f"a rhythm has at most {most}", f"{len(roll)} steps")
    if not ((roll >= low) & (roll <= high)).all():
        found = f"from {roll.min():g} to {roll.max():g}"
        raise ArgumentError(name, value, f"it must lie between {low} and {high}", found)
    return roll


def three(rolls, name):
    """Three rolls, of any kind. Raises ArgumentError where there are not three."""
    try:
        onset, vel, timeoffset = rolls
    except (TypeError, ValueError):
        several = isinstance(rolls, (list, tuple))
        found = f"{len(rolls)} rolls" if several else f"of type {type(rolls).__name__}"
        raise ArgumentError(name, rolls, "it must be three rolls: onset, vel, timeoffset", found) from None
    return onset, vel, timeoffset


def read_rhythm(rhythm, seq_len):
    """Check a rhythm, three rolls or None three times. Returns it with the loudest hit of each step alone, as
    three tensors (seq_len, 9), and how many of their steps it reaches."""
    if all(part is None for part in rhythm):
        return list(torch.zeros(3, seq_len, N_VOICES)), 0
    rolls = []
    for (part, (low, high)), value in zip(ROLLS.items(), rhythm):
        name = f"piano_roll_{part}"
        if value is None:
            raise ArgumentError(name, value, "give all three rolls of a rhythm, or none of them")
        rolls.append(read_roll(value, name, low, high, MAX_RHYTHM_STEPS))
        if len(rolls[-1]) != len(rolls[0]):
            rule = f"it must be as long as piano_roll_onset, {len(rolls[0])}"
            raise ArgumentError(name, value, rule, f"{len(rolls[-1])} steps")
    loudest = rhythm_roll(*(part[:seq_len].numpy() for part in rolls))
    reach = min(len(rolls[0]), seq_len)
    padding = (0, 0, 0, seq_len - reach)
    return [torch.nn.functional.pad(torch.as_tensor(part), padding) for part in loudest], reach


def drum_rolls(drums, name="drums", any_length=False, beat=4):
    """Check drums, T whole beats of so many steps, one at least, unless it may be any_length. Returns three
    tensors (T, 9)."""
    parts = zip(ROLLS.items(), three(drums, name))
    rolls = [read_roll(value, (name, part), low, high) for (part, (low, high)), value in parts]
    if len({len(part) for part in rolls}) > 1:
        found = f"{', '.join(str(len(part)) for part in rolls)} steps"
        raise ArgumentError(name, drums, "the three rolls must be equally long", found)
    steps = len(rolls[0])
    if not any_length and (not steps or steps % beat):
        rule = "one at least" if beat == 1 else f"a multiple of {beat}, and {beat} at least"
        raise ArgumentError(name, drums, f"they must be {rule}", f"{steps} steps")
    return rolls


def beat_of(bars):
    """Of so many steps drums have a whole number: of 4/4, where nothing is said of the bars, whole beats."""
    return 4 if bars is None else 1


def looped(rolls, steps):
    """Rolls (T, 9), whatever they are, over and over for so many steps."""
    return [roll[torch.arange(steps) % len(roll)] for roll in rolls]


def known_cells(known, seq_len):
    """Check known drums as `generate` takes them. Returns the dict with rolls and bool masks (seq_len, 9)."""
    names = (*ROLLS, *KNOWN)
    if not isinstance(known, dict) or set(known) != {*names}:
        there = ", ".join(map(str, known)) or "empty" if isinstance(known, dict) else type(known).__name__
        raise ArgumentError("known", known, f"it must be a dict of {', '.join(names)}", there)
    rolls = drum_rolls([known[name] for name in ROLLS], "known", any_length=True)
    masks = [read_roll(known[name], ("known", name), 0, 1) > 0 for name in KNOWN]
    cells = dict(zip(names, (*rolls, *masks)))
    for name, part in cells.items():
        if len(part) != seq_len:
            rule = f"it must be as long as seq_len, {seq_len}"
            raise ArgumentError(("known", name), known, rule, f"{len(part)} steps")
    onset, vel, timeoffset, known_onset, known_vel = cells.values()
    odd = known_vel & (((vel > 0) != (onset > 0)) | ((timeoffset != 0) & (onset == 0)))
    for wrong, rule in (
        (
            known_vel & ~known_onset,
            "known_vel is set where known_onset is not; it needs the onset of its hit",
        ),
        (known_onset & (onset != 0) & (onset != 1), "onset: a known cell must be 0 or 1, hit or not"),
        (odd, "a cell of known_vel must have a velocity above 0 if hit, velocity and offset 0 if not"),
    ):
        if wrong.any():
            raise ArgumentError("known", known, rule, "")
    return cells


def lock_voices(known, drums, locked, steps, beat=4):
    """The known cells, a dict or None, with the voices `locked` (9,) as in drums, over and over."""
    cells, drums = locked.expand(steps, len(locked)), drum_rolls(drums, beat=beat)
    mine = dict(zip((*ROLLS, *KNOWN), (*looped(drums, steps), cells, cells)))
    mine = known_cells(mine, steps)
    return {name: torch.where(cells, mine[name], known[name]) for name in mine} if known else mine


def limits(at_most, playable, seq_len):
    """How many of the hats, of the voices for hands and of all may be hit together on a step: (seq_len, 3,
    9), 9 at the other voices; None without a limit."""
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
    """One voice or several, each a name or an index, as a mask (9,). Raises ArgumentError."""
    if isinstance(voices, str) or not hasattr(voices, "__iter__"):
        voices = [voices]
    with within(name):
        found = [voices_meant(voice) if isinstance(voice, str) else [voice] for voice in voices]
    if not found:
        raise ArgumentError(name, voices, f"it must name a voice or several: {', '.join(VOICES)}")
    return one_of([*itertools.chain(*found)], name, N_VOICES)


def one_of(value, name, n):
    """One number or several, from 0 to n - 1, as a mask (n,) bool. Raises ArgumentError."""
    several = [value] if not hasattr(value, "__iter__") else list(value)
    mask = torch.zeros(n, dtype=torch.bool)
    try:
        for number in several:
            mask[whole(number, name, 0, n - 1)] = True
    except ArgumentError:
        mask[:] = False
    if not mask.any():
        raise ArgumentError(name, value, f"it must be a number or several, from 0 to {n - 1}")
    return mask
