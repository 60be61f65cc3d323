"""Drawing drums from the model: encode the rhythm, build the conditioning, then draw bar by bar.

Shapes: B batch, T steps, N bars, V voices (9), D width of the encoder, Z latent width, R rules.
"""

import torch

from model.condition import bar_before_of_bar
from model.controls import CONTROLS, N_VOICES, UNSET_KIND, UNSET_PHRASE
from model.decoding.capture import begin
from model.decoding.guide import Guide
from model.decoding.steps import encoding_autocast, inference
from model.heads import offset_to_bin, velocity_to_bin

UNIFORMS_PER_VOICE = 5  # onset, velocity token, place in its bin, offset token, place in its bin
KNOWN = "known_onset", "known_vel"
TOLD = "kind", "phrase"  # of each step, beside the rhythm
WINDOW_BARS, MARGIN_BARS = 16, 4  # of a long rhythm: encoded at once, and not kept of that at either end


def encode_rhythm(
    model,
    rhythm,
    mask,
    use_context,
    use_latent,
    grid,
    known=None,
    latent=None,
    rhythm_is=None,
    phrase=None,
    pads=None,
):
    """Encode a rhythm: a dict of tensors (B, T, ...) of all that no control changes, so that bars can be cut
    out of it.

    rhythm: onset, vel, timeoffset (B, T, V); mask, use_context, use_latent (B, T) bool; grid: the BarGrid of
    the steps; known: dict of rolls and masks as in `sample`, or None; latent (B, N, Z): in place of the
    encoder's, or None. rhythm_is: (B, T) long, see RHYTHM_KINDS, or None, unset. phrase (B, T) long:
    see DrumVAE.phrase_of_steps. pads (B, T) long: see PADS, or None, unset.
    """
    kind = model.kind_of_steps(rhythm_is, use_context, use_latent)
    pads = model.pads_of_steps(pads, use_context, use_latent)
    context, mu = encode(model, rhythm, mask, use_context, use_latent, grid, known, kind, pads)
    latent = mu if latent is None else latent.to(mu.dtype)
    encoded = {
        "mask": mask,
        "use_context": use_context,
        "use_latent": use_latent,
        "context": context,
        "latent": grid.spread(latent),
        "onset_bias": model.onset_bias(model.marginal_head(context), use_context).float(),
    }
    told = {"kind": kind, "phrase": model.phrase_of_steps(phrase, mask.shape, grid)}
    encoded |= {name: steps for name, steps in told.items() if steps is not None}
    return encoded | read_tap(model, rhythm, use_context & mask) | (known or {})


@inference
def encode(model, rhythm, mask, use_context, use_latent, grid, known=None, kind=None, pads=None):
    """The context (B, T, D) and the mean of each bar's latent (B, N, Z); arguments as of encode_rhythm, kind
    and pads as kind_of_steps and pads_of_steps give them.

    More than WINDOW_BARS are encoded in windows that overlap, without their margins, so that a long rhythm
    takes no more memory than a short one; docs/experiments.md has what that changes.
    """
    dtype = next(model.parameters()).dtype
    silence = torch.zeros_like(rhythm[0])
    cells = known or dict.fromkeys(("onset", "vel", "timeoffset"), silence) | dict.fromkeys(
        KNOWN, silence.bool()
    )
    rhythm = [roll.to(dtype) for roll in rhythm]
    rolls = [cells[name].to(dtype) for name in ("onset", "vel", "timeoffset")]
    masks = cells["known_onset"], cells["known_vel"], mask, use_context, use_latent

    last, kept = max(grid.n_bars - WINDOW_BARS, 0), 0
    contexts, latents = [], []
    for first in (*range(0, last, WINDOW_BARS - 2 * MARGIN_BARS), last):
        stop = min(first + WINDOW_BARS, grid.n_bars)
        end = stop if first == last else stop - MARGIN_BARS
        here, window = grid.steps_of(first, stop), grid.cut(first, stop)
        with encoding_autocast(model):
            context, mu, _, _ = model.encode(
                [roll[:, here] for roll in rhythm],
                [roll[:, here] for roll in rolls],
                *(steps[:, here] for steps in masks),
                window,
                *(None if told is None else told[:, here] for told in (kind, pads)),
            )
        contexts.append(context[:, window.steps_of(kept - first, end - first)])
        latents.append(mu[:, kept - first : end - first])
        kept = end
    return torch.cat(contexts, 1).to(dtype), torch.cat(latents, 1).to(dtype)


def read_tap(model, rhythm, heard):
    """The tap in rolls (B, T, V), one channel of which holds it, where it is heard, (B, T) bool: a dict of
    tap_tokens (B, T, D), see TapTokens; tap_vel and tap_timeoffset (B, T); tap_velocity_bin and
    tap_offset_bin (B, T), -1, which no hit has, where there is no tap or its loudness is not known."""
    _, vel, timeoffset = (roll.sum(-1) for roll in rhythm)
    velocity_bin = torch.where((vel > 0) & heard, velocity_to_bin(vel, model.velocity_bins), -1)
    return {
        "tap_tokens": model.tap(rhythm, heard),
        "tap_vel": vel,
        "tap_timeoffset": timeoffset,
        "tap_velocity_bin": velocity_bin,
        "tap_offset_bin": offset_to_bin(timeoffset, model.offset_bins),
    }


def given_controls(controls):
    """The names of the controls that are set on any step. Waits for their device once."""
    given = torch.stack([CONTROLS[name].is_set(values).any() for name, values in controls.items()]).tolist()
    return tuple(name for name, there in zip(controls, given) if there)


def build_conditioning(model, encoded, controls, guide, grid):
    """What the steps of whole bars are conditioned on, ready for Decoding.bar: the dict of encode_rhythm,
    with context, latent and controls {name: values} projected. grid: the BarGrid of its steps."""
    latent = grid.at_starts(encoded["latent"])
    controls = {
        name: guide.controls(values, CONTROLS[name].unset_in(values), name)
        for name, values in controls.items()
    }
    with encoding_autocast(model):
        condition = model.condition(
            guide.repeat_views(encoded["context"]),
            guide.repeat_views(latent),
            guide.heard(encoded["use_context"], torch.zeros_like(encoded["use_context"])),
            guide.repeat_views(encoded["use_latent"]),
            {name: x.to(latent.dtype) if x.is_floating_point() else x for name, x in controls.items()},
            grid,
            *(guide.repeat_views(encoded[name]) if name in encoded else None for name in TOLD),
        )
        modulation = model.decoder.project_condition(condition)
    used_up = "context", "latent", "use_context", "use_latent", *TOLD
    conditioning = {name: x for name, x in encoded.items() if name not in used_up}
    conditioning["modulation"] = modulation.to(latent.dtype)
    tap = encoded["tap_tokens"]
    conditioning["tap_tokens"] = guide.heard(tap, model.tap.no_tap().expand_as(tap))
    if guide.follow != 1:  # the bias comes from the hits of the tap alone, so it counts as often as they do
        conditioning["onset_bias"] = guide.follow * encoded["onset_bias"]
    targets = model.budget_targets(controls, grid)
    return conditioning if targets is None else conditioning | {"budget_targets": targets}


def with_history(model, conditioning, past, guide):
    """The conditioning of a bar, a dict, after the bars `past`, each three rolls (B, n, V): see History; and
    bar_before, where `steady` is asked. guide: the Guide of its rows."""
    modulation = conditioning["modulation"]
    shape = len(modulation) // len(guide.views), modulation.shape[1], N_VOICES
    changed = {}
    if model.history is not None:
        features = guide.repeat_views(model.history.features_of_bar(past, shape))
        changed["modulation"] = model.add_history(modulation, features)
    if model.tells_steady and "steady" in guide.given:
        before = bar_before_of_bar(past, shape, modulation.device).to(modulation.dtype)
        changed["bar_before"] = guide.repeat_views(before)
    return conditioning | changed


@inference
def sample(
    model,
    rhythm,
    controls,
    mask,
    use_context=None,
    use_latent=None,
    known=None,
    latent=None,
    rhythm_is=None,
    phrase=None,
    pads=None,
    forbid=None,
    limit=None,
    num_samples=1,
    temperature=1.0,
    guidance=1.0,
    follow=1.0,
    generator=None,
    precision=None,
    grid=None,
    fresh=(),
):
    """Play drums to a rhythm, or to several.

    rhythm: onset, vel, timeoffset (B, T, V). controls: {name: values} of all CONTROLS, see DrumVAE.forward.
    mask (B, T) bool: steps that exist. use_context, use_latent (B, T) bool: whether a step may use the
    rhythm's context and its bar's latent (all by default). known: dict with onset, vel, timeoffset (B, T, V)
    and known_onset, known_vel (B, T, V) bool; those cells come back as they are. latent (B, N, Z): in place
    of the latents of the rhythm's bars. rhythm_is (B, T) long: what the rhythm is, see RHYTHM_KINDS; None:
    unset. phrase (B, T) long: see DrumVAE.phrase_of_steps. pads (B, T) long: on which pad each tap is, see
    PADS; None: unset. forbid (B, T, V) bool: voices that stay silent.
    limit (B, T, R, V): how many voices a step may hit, see keep_within; known cells stay, however many they
    are. num_samples: how often each rhythm is played; it is encoded once. temperature > 0: of all that is
    drawn, or three, of onsets, velocity and timing; or these and the lift, a number or one for each voice (a
    tuple of V) that is added to the log odds of its onsets: above 0 for more hits. Below 1 velocity and
    timing are drawn nearer to their medians, see toward_median. guidance: 1 = as
    trained, more = the controls turned up, where any is set; or a dict with a number for each control.
    follow: 1 = the rhythm's hits as trained, 0 = the latents of its bars alone, see Guide; known cells reach
    the decoder through the context too, so with them it must be 1. `generator`, on the model's device, is the
    only source of chance. The model should be in eval mode; rolls are float32 whatever its precision. grid:
    the BarGrid of the T steps; None: bars of 4/4. fresh: numbers of bars at which the drums begin anew, as if
    none had been played.

    Returns onset, vel, timeoffset: float32 (B * num_samples, T, V), the samples of a rhythm one after the
    other; zero outside the mask.
    """
    if not min(temperature[:3] if isinstance(temperature, tuple) else (temperature,)) > 0:
        raise ValueError(f"temperature: {temperature}; it must be above 0")
    B, T, V = rhythm[0].shape
    device, grid = mask.device, grid or model.grid(T)
    everywhere = torch.ones(B, T, dtype=torch.bool, device=device)
    encoded = encode_rhythm(
        model,
        [grid.fill(roll.float()) for roll in rhythm],
        grid.fill(mask.bool()),
        grid.fill(everywhere if use_context is None else use_context.bool()) & bool(follow),
        grid.fill(everywhere if use_latent is None else use_latent.bool()),
        grid.whole(),
        None if known is None else {name: grid.fill(x) for name, x in known.items()},
        latent,
        None if rhythm_is is None else grid.fill(rhythm_is, UNSET_KIND),
        None if phrase is None else grid.fill(phrase, UNSET_PHRASE),
        None if pads is None else grid.fill(pads),
    )
    for name, rule in (("forbid", forbid), ("limit", limit)):
        if rule is not None:
            encoded[name] = grid.fill(rule)
    guide = Guide(guidance, follow, given_controls(controls))
    controls = {name: grid.fill(x, CONTROLS[name].unset_in(x)) for name, x in controls.items()}
    conditioning = build_conditioning(model, encoded, controls, guide, grid.whole())
    decoding = begin(model, B * num_samples, guide, temperature, precision)
    bars, begun = [], 0
    for number, steps in enumerate(grid.bars()):
        if number in fresh:
            decoding, begun = begin(model, B * num_samples, guide, temperature, precision), number
        shape = B * num_samples, steps.stop - steps.start, V, UNIFORMS_PER_VOICE
        uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
        here = {name: x[:, steps].repeat_interleave(num_samples, dim=0) for name, x in conditioning.items()}
        bars.append(decoding.bar(with_history(model, here, bars[begun:], guide), uniform))
    return tuple(torch.cat(roll, 1) for roll in zip(*bars))
