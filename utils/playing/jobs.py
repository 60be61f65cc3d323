"""The jobs of a drummer who is given drums: play them with feeling, add to them, mend, continue, vary, blend.

Drums are three rolls of any length, as drums_from_midi gives them. Every job takes by keyword what `generate`
does, its controls as long as what comes back, and `meter`, of the drums and of what comes back; rhythm, three
rolls that are heard beside the drums; and lock, voices that stay as they are, whatever the job does to the
others. Bars, steps and voices count from 0; voices may go by name. Returns as `generate`; what was to stay is
as it was, to the bit.

A job is a row of JOBS in arguments.py and a function of LAYOUTS here: what stays and what is played anew.
"""

import math
from dataclasses import dataclass, fields

import torch

from model.controls import CONTROLS
from model.decoding.sampling import encode
from utils.checks import ArgumentError, check_keys, number, whole
from utils.device import on_cpu
from utils.get_model import given_model
from utils.midi.drums import N_VOICES, voice_index
from utils.midi.read import MAX_BARS, rhythm_roll
from utils.playing.arguments import JOBS
from utils.playing.bar_lines import BarLines
from utils.playing.generate import batch_of, draw, in_eval_mode, make_plan
from utils.playing.request import KINDS, Dials
from utils.playing.rolls import KNOWN, ROLLS, beat_of, drum_rolls, looped, one_of, three, voice_mask

TIMEKEEPERS = [voice_index(name) for name in ("closed_hat", "ride")]
EIGHTHS = 0.5  # of the steps


def humanise(drums, *, lock=(), **playing):
    """Play the hits of the drums with the model's velocity and timing. It hears those of the drums only if
    they are also the `rhythm`."""
    return _play("humanise", drums, lock=lock, **playing)


def add_voices(drums, voices, **playing):
    """Play voices, names or indices, beside the others, which stay. Their old hits go. Without a wish a
    closed hat, or else a ride, gets eighths: left to itself it hardly plays in some takes."""
    return _play("add", drums, {"voices": voices}, **playing)


def infill(drums, *, bars=None, steps=None, voices=None, lock=(), **playing):
    """Play some cells anew; the model hears all that stands before, after and beside them.

    bars, steps: a number or several (a list, a range); voices: a list of names or indices. The new cells are
    those in all that you name: steps=range(8, 16), voices=["kick"] is the kick in the second half of the
    first bar.
    """
    own = {"bars": bars, "steps": steps, "voices": voices}
    return _play("infill", drums, own, lock=lock, **playing)


def continue_drums(drums, bars, *, lock=(), **playing):
    """Play so many bars after the drums, which are whole bars. Returns the drums and the new bars."""
    return _play("continue", drums, {"bars": whole(bars, "bars", most=MAX_BARS)}, lock=lock, **playing)


def vary(drums, strength, *, lock=(), seed=None, **playing):
    """Play variations: at strength 0 the drums themselves, at 1 another groove, in between something of both.

    The strength is the share of the drums that is new, beat by beat and voice by voice, and how far the gist
    of the new hits moves towards a random one. Cells that are new at one strength are new at all above it.
    """
    return _play("vary", drums, {"strength": strength}, lock=lock, seed=seed, **playing)


@on_cpu
def interpolate(first, second, bars, **playing):
    """Play so many bars that lead from the gist of the first drums to that of the second. Shorter drums
    repeat."""
    own = {"second": second, "bars": bars}
    return _play("interpolate", first, own, name="first", **playing)


@on_cpu
def _play(job, drums, own=None, *, name="drums", model=None, rhythm=None, meter=None, **playing):
    """own: the arguments of the job alone. playing: controls, dials, masks, known and latent."""
    more = {name: playing.pop(name, None) for name in ("masks", "known", "latent")}
    dials = [field.name for field in fields(Dials)]
    check_keys(playing, [*CONTROLS, "rhythm", "masks", "model", "meter", *dials], what="argument")
    curves = {name: playing.pop(name, None) for name in CONTROLS}
    how, model = Dials(**playing), given_model(model)
    drums, lines = drum_rolls(drums, name, beat=beat_of(meter)), BarLines.in_meter(model, meter)
    rhythm = (None,) * 3 if rhythm is None else three(rhythm, "rhythm")
    layout = LAYOUTS[job](drums, lines, how, **own or {})
    more["grid_of"] = None if meter is None else lines.of_steps
    return draw(plan_layout(job, layout, drums, model, how, rhythm, curves, **more))


def plan_layout(job, layout, drums, model, dials, rhythm, curves, known=None, latent=None, **more):
    """The Plan of a Layout of drums, three rolls (T, 9); the other arguments are those of make_plan."""
    if job != "tap" and known is not None:
        rule = "not for a job, which says itself what is known; generate takes it"
        raise ArgumentError("known", known, rule, "")
    if layout.latent is not None and latent is not None:
        raise ArgumentError("latent", latent, f"not for {job}, which makes its own; generate takes it", "")
    if layout.stays is not None and layout.stays.any():
        cells = layout.stays, layout.stays & (not layout.new_feeling)
        known = dict(zip((*ROLLS, *KNOWN), (*looped(drums, layout.steps), *cells)))
    if job == "add" and all(curve is None for curve in curves.values()):
        curves = curves | {"instrument": _eighths(~layout.stays)}
    latent = layout.latent if latent is None else latent
    drums = None if job != "tap" and dials.locked is None else drums  # beside a lock alone they are checked
    more |= {"drums": drums, "known": known, "latent": latent}
    return make_plan(model, dials, layout.steps, rhythm, curves, **more)


def _eighths(anew):
    """The curve (T, 9) that asks the first timekeeper among the voices that are anew (T, 9) for eighths."""
    curve = torch.full(anew.shape, torch.nan)
    curve[:, [voice for voice in TIMEKEEPERS if anew[:, voice].any()][:1]] = EIGHTHS
    return curve


# ---- what stays and what is played anew


@dataclass(frozen=True)
class Layout:
    """What a job plays: how many steps; which cells (steps, 9) stay as in the drums, over and over; whether
    the velocity and timing of these are new; the gist of the bars."""

    steps: int
    stays: torch.Tensor | None = None
    new_feeling: bool = False
    latent: torch.Tensor | None = None


# each of a job: of drums, three rolls (T, 9) or None, whose bars are those of the BarLines


def _tap(drums, lines, dials, steps):
    return Layout(steps)


def _humanise(drums, lines, dials):
    return Layout(len(drums[0]), torch.ones_like(drums[0], dtype=torch.bool), new_feeling=True)


def _infill(drums, lines, dials, bars=None, steps=None, voices=None):
    grid = lines.of_steps(len(drums[0]))
    if bars is None and steps is None and voices is None:
        raise ArgumentError("bars, steps, voices", None, "at least one of them must say what is played anew")
    anew = torch.ones(grid.n_steps, N_VOICES, dtype=torch.bool)
    if bars is not None:
        anew &= grid.spread(one_of(bars, "bars", grid.n_bars), 0)[:, None]
    if steps is not None:
        anew &= one_of(steps, "steps", grid.n_steps)[:, None]
    if voices is not None:
        anew &= voice_mask(voices, "voices")
    if not anew.any():
        raise ArgumentError("bars", bars, "no cell is in both of them", f"{bars}, steps: {steps}")
    if dials.locked is not None and not (anew & ~dials.locked).any():
        raise ArgumentError("lock", dials.lock, "nothing is left to be played anew")
    return Layout(grid.n_steps, ~anew)


def _continue(drums, lines, dials, bars=None):
    grid = lines.of_steps(len(drums[0]))
    if grid.missing:
        rule = f"to go on from them they must be whole bars, the last one of {grid.lengths[-1]}"
        raise ArgumentError("drums", None, rule, f"{grid.n_steps} steps")
    bars = whole(grid.n_bars if bars is None else bars, "bars", most=MAX_BARS - grid.n_bars)
    steps = lines.of_bars(grid.n_bars + bars).n_steps
    return Layout(steps, (torch.arange(steps) < grid.n_steps)[:, None].expand(steps, N_VOICES))


def _vary(drums, lines, dials, strength=0.5):
    strength = number(strength, "strength", "a number from 0, the same drums, to 1, another groove", most=1)
    random = {"generator": torch.Generator().manual_seed(dials.seed), "dtype": torch.float32}
    grid = lines.of_steps(len(drums[0]))
    mine, beat = _gist(drums, lines.model, grid), (grid.index.place_in_beat == 0).cumsum() - 1
    other = torch.randn(mine.shape, **random)
    stays = torch.rand(beat[-1] + 1, N_VOICES, **random) >= strength
    return Layout(grid.n_steps, stays[beat], latent=between(mine, other, strength))


def _interpolate(drums, lines, dials, second, bars, second_lines=None):
    """second_lines: the BarLines of the second drums, where they have others."""
    bars = whole(bars, "bars", most=MAX_BARS)
    both = (drums, lines), (drum_rolls(second, "second", beat=1), second_lines or lines)
    ends = [_gist(rolls, lines.model, own.of_steps(len(rolls[0]))) for rolls, own in both]
    ends = [latent[:, torch.arange(bars) % latent.shape[1]] for latent in ends]
    share = torch.linspace(0, 1, bars)[:, None] if bars > 1 else torch.tensor([[0.5]])
    return Layout(lines.of_bars(bars).n_steps, latent=between(*ends, share))


LAYOUTS = {
    "tap": _tap,
    "humanise": _humanise,
    "add": _infill,
    "infill": _infill,
    "continue": _continue,
    "vary": _vary,
    "interpolate": _interpolate,
}
assert LAYOUTS.keys() == JOBS.keys()


@on_cpu
def gist(drums, model=None, meter=None):
    """The gist of the rhythm of drums, bar by bar: the latents (1, bars, Z) that the model makes of it."""
    rolls, model = drum_rolls(drums, beat=beat_of(meter)), given_model(model)
    return _gist(rolls, model, BarLines.in_meter(model, meter).of_steps(len(rolls[0])))


def _gist(rolls, model, grid):
    """That of three rolls (T, 9) in these bars."""
    rhythm = rhythm_roll(*(grid.fill(roll, dim=0).numpy() for roll in rolls))
    rhythm = batch_of([torch.from_numpy(roll) for roll in rhythm], 1, next(model.parameters()).device)
    everywhere = torch.ones_like(rhythm[0][..., 0], dtype=torch.bool)
    kind = torch.full_like(everywhere, KINDS.index("drums"), dtype=torch.long)
    told = {"kind": model.kind_of_steps(kind, everywhere, everywhere)}
    told |= {"pads": model.pads_of_steps(None, everywhere, everywhere)}
    with in_eval_mode(model), torch.no_grad():
        _, latents = encode(model, rhythm, everywhere, everywhere, everywhere, grid.whole(), **told)
    return latents.float().cpu()


def between(a, b, share):
    """Latents (..., Z) on the way from a (share 0) to b (1), along the arc, as far from 0 as both are."""
    share = torch.as_tensor(share)
    angle = torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos()[..., None]
    straight = (1 - share) * a + share * b
    arc = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return torch.where((angle > 1e-3) & (angle < math.pi - 1e-3), arc, straight)
