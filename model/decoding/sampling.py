"""Drawing drums from the model: what the encoder hears and the decoder is told, then bar by bar.

Shapes: B batch, T steps, V voices (9), S steps in a bar.
"""

import contextlib
import math

import torch

from model.decoding.capture import begin
from model.decoding.steps import CONTROLS, Guide
from model.heads import offset_to_bin, velocity_to_bin
from model.model import UNSET_STYLE

UNIFORMS_PER_VOICE = 5  # onset, velocity token, place in its bin, offset token, place in its bin
KNOWN = "known_onset", "known_vel"
SHORT = 128  # steps in all that one thread hears sooner than two, see docs/experiments.md
WINDOW_BARS, MARGIN_BARS = (
    16,
    4,
)  # of a long rhythm: what is heard at once, and what of it at either end is not kept


@contextlib.contextmanager
def few_threads(little, device):
    """One thread of the CPU where there is so little to multiply that waking another takes longer than it helps."""
    before = torch.get_num_threads()
    if device.type == "cpu" and little:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def encode_rhythm(model, rhythm, mask, use_context, use_latent, known=None, latent=None):
    """What the encoder makes of a rhythm, and all else that no control changes: a dict of tensors (B, T, ...).

    rhythm: onset, vel, timeoffset (B, T, V), T whole bars; mask, use_context, use_latent (B, T) bool; known: dict
    of rolls and masks as in `sample`, or None; latent (B, N, Z): of each bar, in place of what the encoder makes of
    it, or None. Of a dict like this every bar can be cut out.
    """
    context, mu = encode(model, rhythm, mask, use_context, use_latent, known)
    latent = mu if latent is None else latent.to(mu.dtype)
    heard = {
        "mask": mask,
        "use_context": use_context,
        "use_latent": use_latent,
        "context": context,
        "latent": latent.repeat_interleave(model.steps_per_bar, dim=1),
        "onset_bias": model.onset_bias(model.marginal_head(context), use_context).float(),
    }
    return heard | tap_of(model, rhythm, use_context & mask) | (known or {})


def encode(model, rhythm, mask, use_context, use_latent, known=None):
    """The context (B, T, D) and each bar's latent (B, N, Z), its mean, of what `encode_rhythm` takes.

    A rhythm of more than WINDOW_BARS is heard in windows that overlap, each but for its margins, so that it takes no
    more memory than a short one; docs/experiments.md has what that changes.
    """
    dtype = next(model.parameters()).dtype
    silence = torch.zeros_like(rhythm[0])
    cells = known or dict.fromkeys(("onset", "vel", "timeoffset"), silence) | dict.fromkeys(
        KNOWN, silence.bool()
    )
    rolls = tuple(cells[name].to(dtype) for name in ("onset", "vel", "timeoffset"))
    rolls_heard = tuple(roll.to(dtype) for roll in rhythm)
    masks = cells["known_onset"], cells["known_vel"], mask, use_context, use_latent

    S, T = model.steps_per_bar, mask.shape[1]
    width, margin, kept = WINDOW_BARS * S, MARGIN_BARS * S, 0
    last = max(T - width, 0)
    contexts, latents = [], []
    for start in (*range(0, last, width - 2 * margin), last):
        here = slice(start, start + width)
        cut_heard, cut = ([roll[:, here] for roll in three] for three in (rolls_heard, rolls))
        with few_threads(mask.numel() <= SHORT, mask.device):
            context, mu, _, _ = model.encode(cut_heard, cut, *(steps[:, here] for steps in masks))
        end = T if start == last else start + width - margin
        contexts.append(context[:, kept - start : end - start])
        latents.append(mu[:, (kept - start) // S : (end - start) // S])
        kept = end
    return torch.cat(contexts, 1), torch.cat(latents, 1)


def tap_of(model, rhythm, heard):
    """The tap of rolls (B, T, V), of which one channel holds it, where it is heard, (B, T) bool: dict of its tap_tokens
    (B, T, D), see TapTokens; tap_vel and tap_timeoffset (B, T); tap_velocity_bin and tap_offset_bin (B, T), -1 where
    no tap or no loudness is known, which no hit has."""
    _, vel, timeoffset = (roll.sum(-1) for roll in rhythm)
    velocity_bin = torch.where((vel > 0) & heard, velocity_to_bin(vel, model.velocity_bins), -1)
    return {
        "tap_tokens": model.tap(rhythm, heard),
        "tap_vel": vel,
        "tap_timeoffset": timeoffset,
        "tap_velocity_bin": velocity_bin,
        "tap_offset_bin": offset_to_bin(timeoffset, model.offset_bins),
    }


def unset_of(control):
    """What a control's unset steps hold: NaN, or an id of their own."""
    return math.nan if control.is_floating_point() else UNSET_STYLE


def given_controls(controls):
    """Which of the four controls are set on any step. Asks their device once."""
    steps = [~x.isnan() if x.is_floating_point() else x != UNSET_STYLE for x in controls]
    given = torch.stack([there.any() for there in steps]).tolist()
    return tuple(name for name, there in zip(CONTROLS, given) if there)


def build_conditioning(model, heard, controls, guide):
    """What the decoder is told of the steps of `heard`, whole bars, under controls: density, intensity (B, T),
    instrument (B, T, V), NaN = unset, style (B, T) or weights, see StyleControl. The dict of `heard`, ready for
    Decoding.bar."""
    controls = [guide.controls(control, unset_of(control), name) for control, name in zip(controls, CONTROLS)]
    latent = heard["latent"][:, :: model.steps_per_bar]
    use_context = guide.heard(heard["use_context"], torch.zeros_like(heard["use_context"]))
    condition = model.condition(
        guide.double(heard["context"]),
        guide.double(latent),
        use_context,
        guide.double(heard["use_latent"]),
        *(control.to(latent.dtype) if control.is_floating_point() else control for control in controls),
    )
    told = {
        name: x for name, x in heard.items() if name not in ("context", "latent", "use_context", "use_latent")
    }
    told["modulation"] = model.decoder.project_condition(condition)
    told["tap_tokens"] = guide.heard(told["tap_tokens"], model.tap.no_tap().expand_as(told["tap_tokens"]))
    if guide.follow != 1:
        told["onset_bias"] = (
            guide.follow * told["onset_bias"]
        )  # it is of the hits of the tap alone, so it counts as often
    asked = model.budget_targets(*controls[:3])
    return told if asked is None else told | {"budget_targets": asked}


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
    latent=None,
    forbid=None,
    limit=None,
    num_samples=1,
    temperature=1.0,
    guidance=1.0,
    follow=1.0,
    generator=None,
    precision=None,
):
    """Play drums to a rhythm, or to several.

    rhythm_onset, rhythm_vel, rhythm_timeoffset: (B, T, V) rolls. density, intensity (B, T) z-scores,
    instrument (B, T, V) shares, NaN = unset; style (B, T) ids, 18 = unset, or weights, see StyleControl.
    mask (B, T) bool: steps that exist. use_context, use_latent (B, T) bool: whether a step may use the rhythm's context
    and its bar's latent (all by default). known: dict with onset, vel, timeoffset (B, T, V) and known_onset, known_vel
    (B, T, V) bool; those cells come back as they are. latent (B, N, Z): what to use in place of the latents of the
    rhythm's bars. forbid (B, T, V) bool: voices that stay silent. limit (B, T, R, V): how many voices a step may hit, see
    keep_within; known cells stay, however many they are. num_samples: how often each rhythm is played; it is heard once.
    temperature > 0. guidance: 1 = as trained, more = the controls turned up, where any is set; or a dict of all four.
    follow: 1 = the rhythm's hits as trained, 0 = the gist of its bars alone, see Guide; known cells are told by the
    context as well, so beside them it must be 1. `generator`, on the model's device, is the only source of chance. The
    model should be in eval mode; rolls are float32 whatever its precision.

    Returns onset, vel, timeoffset: float32 (B * num_samples, T, V), the samples of a rhythm one after the other; zero
    outside the mask.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature}; it must be above 0")
    B, T, V = rhythm_onset.shape
    S = model.steps_per_bar
    device = rhythm_onset.device
    everywhere = torch.ones(B, T, dtype=torch.bool, device=device)

    def steps(x, fill=0):
        """x, and steps that do not exist to the end of its last bar."""
        return x if T % S == 0 else torch.cat((x, x.new_full((B, S - T % S, *x.shape[2:]), fill)), dim=1)

    heard = encode_rhythm(
        model,
        tuple(steps(x.float()) for x in (rhythm_onset, rhythm_vel, rhythm_timeoffset)),
        steps(mask.bool()),
        steps(everywhere if use_context is None else use_context.bool()) & bool(follow),
        steps(everywhere if use_latent is None else use_latent.bool()),
        None if known is None else {name: steps(x) for name, x in known.items()},
        latent,
    )
    for name, rule in (("forbid", forbid), ("limit", limit)):
        if rule is not None:
            heard[name] = steps(rule)
    controls = density, intensity, instrument, style
    guide = Guide(guidance, follow, given_controls(controls))
    controls = [steps(control, unset_of(control)) for control in controls]
    told = build_conditioning(model, heard, controls, guide)
    decoding = begin(model, B * num_samples, guide, temperature, precision)
    bars = []
    for start in range(0, T, S):
        n = min(S, T - start)
        uniform = torch.rand(B * num_samples, n, V, UNIFORMS_PER_VOICE, generator=generator, device=device)
        here = {
            name: x[:, start : start + n].repeat_interleave(num_samples, dim=0) for name, x in told.items()
        }
        bars.append(decoding.bar(here, uniform))
    return tuple(torch.cat(roll, 1) for roll in zip(*bars))
