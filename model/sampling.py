"""Drawing drums from the model, one step at a time over its KV cache.

Shapes: B batch, T steps, V voices (9), D model width, L layers, K bins, S steps in a bar.
"""

import math

import torch
import torch.nn.functional as F

from model.heads import bin_to_offset, bin_to_velocity, offset_to_bin, velocity_to_bin

UNIFORMS_PER_VOICE = 5  # onset, velocity token, place in its bin, offset token, place in its bin


def pick(logits, uniform, temperature):
    """Draw a token from logits (B, K) by inverting the distribution at uniform (B,), with no host synchronisation."""
    cumulative = F.softmax(logits.float() / temperature, dim=-1).cumsum(-1)
    return (cumulative < uniform.unsqueeze(-1)).sum(-1).clamp(max=logits.shape[-1] - 1)


class Guide:
    """Classifier-free guidance (Ho & Salimans 2022) as one doubled batch: the first half is told the
    controls, the second is not, and the logits of the first are moved away from those of the second."""

    def __init__(self, strength):
        self.strength = strength
        self.doubled = strength != 1.0

    def double(self, x):
        return torch.cat((x, x)) if self.doubled else x

    def controls(self, x, unset):
        return torch.cat((x, torch.full_like(x, unset))) if self.doubled else x

    def blend(self, logits):
        """(2B, ...) -> (B, ...), or the logits as they are without guidance."""
        if not self.doubled:
            return logits
        told, untold = logits.chunk(2)
        return untold + self.strength * (told - untold)


def draw_step(model, hidden, prior, tap, uniform, guide, temperature, forbid, known):
    """Draw one step: onsets in a chain, then velocity and offset of each hit.

    hidden (B, D), or (2B, D) under guidance; prior (B, V) logits, see DrumVAE.prior; tap: what tap_of gives, of
    this step; uniform (B, V, 5); forbid (B, V) bool; known: dict of the step's known cells, all (B, V), or None.
    Returns onset, vel, timeoffset, each (B, V). A hit with the tap's own tokens is the tap: its values are the tap's to
    the last digit, not anywhere in the bin.
    """
    B, V, _ = uniform.shape
    base, pair = (guide.blend(part.float()) for part in model.onset_head.parts(hidden))
    onset = hidden.new_zeros(B, V)
    for v in range(V):
        logit = base[:, v] + prior[:, v] + (pair[:, v] * onset).sum(-1)
        drawn = (uniform[:, v, 0] < torch.sigmoid(logit / temperature)) & ~forbid[:, v]
        if known is not None:
            drawn = torch.where(known["known_onset"][:, v], known["onset"][:, v] > 0, drawn)
        onset[:, v] = drawn.to(onset.dtype)

    head, K_vel, K_off = model.hit_head, model.velocity_bins, model.offset_bins
    doubled_onset = guide.double(onset)
    hit_hidden = hidden + guide.double(tap["tokens"])
    velocity_base = head.velocity.prepare(hit_hidden, doubled_onset)
    offset_base = head.offset.prepare(hit_hidden, doubled_onset)
    past = hidden.new_zeros(hidden.shape[0], 2 * velocity_base.shape[-1])
    vel, timeoffset = torch.zeros_like(onset), torch.zeros_like(onset)
    for v in range(V):
        if not hidden.is_cuda and not onset[:, v].any():
            continue  # looking costs nothing on the CPU, and most voices are silent in most steps
        past_velocity, past_offset = past.chunk(2, dim=-1)
        logits = guide.blend(head.velocity.read(velocity_base[:, v], past_velocity, v))
        velocity_bin = pick(logits, uniform[:, v, 1], temperature)
        if known is not None:
            fixed = known["known_vel"][:, v]
            velocity_bin = torch.where(fixed, velocity_to_bin(known["vel"][:, v], K_vel), velocity_bin)
        own = head.own(guide.double(velocity_bin), v)
        logits = guide.blend(head.offset.read(offset_base[:, v], past_offset + own, v))
        offset_bin = pick(logits, uniform[:, v, 3], temperature)
        if known is not None:
            offset_bin = torch.where(fixed, offset_to_bin(known["timeoffset"][:, v], K_off), offset_bin)
        voice_vel = bin_to_velocity(velocity_bin, uniform[:, v, 2], K_vel)
        voice_offset = bin_to_offset(offset_bin, uniform[:, v, 4], K_off)
        is_tap = (velocity_bin == tap["velocity_bin"]) & (offset_bin == tap["offset_bin"])
        voice_vel = torch.where(is_tap, tap["vel"], voice_vel)
        voice_offset = torch.where(is_tap, tap["timeoffset"], voice_offset)
        if known is not None:
            voice_vel = torch.where(fixed, known["vel"][:, v], voice_vel)
            voice_offset = torch.where(fixed, known["timeoffset"][:, v], voice_offset)
        vel[:, v] = voice_vel * onset[:, v]
        timeoffset[:, v] = voice_offset * onset[:, v]
        told = head.note(guide.double(velocity_bin), guide.double(offset_bin), v)
        past = past + told * doubled_onset[:, v, None]
    return onset, vel, timeoffset


def tap_of(model, rhythm, heard):
    """The tap of rolls (B, T, V), of which one channel holds it, where it is heard, (B, T) bool: dict of its tokens
    (B, T, D), see TapTokens; vel and timeoffset (B, T); velocity_bin and offset_bin (B, T), -1 where no tap or no
    loudness is known, which no hit has."""
    _, vel, timeoffset = (roll.sum(-1) for roll in rhythm)
    velocity_bin = torch.where((vel > 0) & heard, velocity_to_bin(vel, model.velocity_bins), -1)
    return {
        "tokens": model.tap(rhythm, heard), "vel": vel, "timeoffset": timeoffset,
        "velocity_bin": velocity_bin, "offset_bin": offset_to_bin(timeoffset, model.offset_bins),
    }  # fmt: skip


@torch.no_grad()
def sample(
    model,
    rhythm_onset,
    rhythm_vel,
    rhythm_timeoffset,
    density,
    intensity,
    instrument,
    style,
    mask,
    use_context=None,
    use_latent=None,
    known=None,
    forbid=None,
    temperature=1.0,
    guidance=1.0,
    generator=None,
):
    """Play drums to a rhythm.

    rhythm_onset, rhythm_vel, rhythm_timeoffset: (B, T, V) rolls. density, intensity (B, T) z-scores,
    instrument (B, T, V) shares, NaN = unset; style (B, T) ids, 18 = unset. mask (B, T) bool: steps that
    exist. use_context, use_latent (B, T) bool: whether a step may use the rhythm's context and its bar's
    latent (all by default). known: dict with onset, vel, timeoffset (B, T, V) and known_onset, known_vel
    (B, T, V) bool; those cells come back as they are. forbid (B, T, V) bool: voices that stay silent.
    temperature > 0; guidance 1 = as trained, more = the controls turned up. `generator`, on the model's
    device, is the only source of chance. The model should be in eval mode.

    Returns onset, vel, timeoffset: float32 (B, T, V), zero outside the mask.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature}; it must be above 0")
    B, T, V = rhythm_onset.shape
    S = model.steps_per_bar
    device = rhythm_onset.device
    whole = math.ceil(T / S) * S - T  # a bar cut short is filled up with steps that do not exist
    guide = Guide(guidance)
    everywhere = torch.ones(B, T, dtype=torch.bool, device=device)

    def steps(x, fill=0):
        return x if whole == 0 else torch.cat((x, x.new_full((B, whole, *x.shape[2:]), fill)), dim=1)

    mask = steps(mask.bool())
    use_context = steps(everywhere if use_context is None else use_context.bool())
    use_latent = steps(everywhere if use_latent is None else use_latent.bool())
    rhythm = tuple(steps(x) for x in (rhythm_onset, rhythm_vel, rhythm_timeoffset))
    if known is None:
        silence = torch.zeros_like(rhythm[0])
        known_rolls, known_onset, known_vel = (silence,) * 3, silence.bool(), silence.bool()
    else:
        known = {name: steps(x) for name, x in known.items()}
        known_rolls = known["onset"], known["vel"], known["timeoffset"]
        known_onset, known_vel = known["known_onset"], known["known_vel"]
    forbid = torch.zeros_like(rhythm[0], dtype=torch.bool) if forbid is None else steps(forbid)

    nan = float("nan")
    context, mu, _, _ = model.hear(rhythm, known_rolls, known_onset, known_vel, mask, use_context, use_latent)
    controls = (
        guide.controls(steps(density, nan), nan),
        guide.controls(steps(intensity, nan), nan),
        guide.controls(steps(instrument, nan), nan),
        guide.controls(steps(style, model.unset_style), model.unset_style),
    )
    condition = model.condition(
        guide.double(context), guide.double(mu), guide.double(use_context), guide.double(use_latent), *controls
    )
    added = model.decoder.project_condition(condition)
    prior = model.prior(model.marginal_head(context), use_context).float()
    tap = tap_of(model, rhythm, use_context & mask)
    cache = model.decoder.empty_cache(added.shape[0], T)

    onset, vel, timeoffset = (torch.zeros(B, T, V, device=device) for _ in range(3))
    played_onset = torch.zeros(B, V, device=device)
    played_vel = torch.zeros(B, V, device=device)
    position = torch.arange(S, device=device)
    for t in range(T):
        if t % S == 0:
            played_onset.zero_()
            played_vel.zero_()
        if t == 0:
            x = model.decoder.start.expand(added.shape[0], 1, -1)
        else:
            last = (guide.double(roll[:, t - 1 : t]) for roll in (onset, vel, timeoffset))
            x = model.decoder.embed(*last)
        played = guide.double(played_onset), guide.double(played_vel)
        here = model.add_budget(added[:, t], *played, position[t % S], *(control[:, t] for control in controls[:3]))
        hidden = model.decoder.step(x, here, cache, t)
        uniform = torch.rand(B, V, UNIFORMS_PER_VOICE, generator=generator, device=device)
        here_tap = {name: x[:, t] for name, x in tap.items()}
        fixed = None if known is None else {name: roll[:, t] for name, roll in known.items()}
        silent = forbid[:, t] | ~mask[:, t, None]
        step = draw_step(model, hidden, prior[:, t], here_tap, uniform, guide, temperature, silent, fixed)
        for roll, value in zip((onset, vel, timeoffset), step):
            roll[:, t] = value * mask[:, t, None]
        played_onset += onset[:, t]
        played_vel += vel[:, t]
    return onset, vel, timeoffset
