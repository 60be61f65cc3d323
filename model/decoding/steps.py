"""Step by step: one step of the decoder over its kv cache, and what is drawn from its hidden state.

Shapes: B batch, n steps of a bar (or of its beginning), V voices (9), D model width, L layers, K bins, N
views of the Guide, R = N B rows that go through the decoder, the rows of one view after those of another.
"""

import functools
import math
from contextlib import nullcontext

import torch

from model.heads import StepHeads, bin_to_offset, bin_to_velocity, offset_to_bin, velocity_to_bin

TAP = "tap_velocity_bin", "tap_offset_bin", "tap_vel", "tap_timeoffset"


def decoding_precision(model):
    """The precision in which the decoder's large matrices are multiplied fastest: 8 bits on a CPU, where
    reading them takes the time, 16 on CUDA, else float32. A model that is not in float32 keeps its own."""
    weight = model.decoder.start
    if weight.dtype != torch.float32:
        return weight.dtype
    return torch.int8 if weight.device.type == "cpu" else half_precision(weight.device) or torch.float32


def half_precision(device):
    """The precision of 16 bits that a GPU multiplies fast, None elsewhere. Before compute capability 8 CUDA
    only emulates bfloat16."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def encoding_autocast(model):
    """Encoder, condition and their projection run in bfloat16 where that is fast on a GPU, for a model in
    float32; docs/experiments.md has what it costs. float16 does not reach far enough for them."""
    weight = model.decoder.start
    if weight.dtype == torch.float32 and half_precision(weight.device) == torch.bfloat16:
        return torch.autocast(weight.device.type, dtype=torch.bfloat16)
    return nullcontext()


def inference(function):
    """A function of a model, or a method of an object that has one, without gradients and in a precision that
    the model chooses, see encoding_autocast: under the user's autocast it gives what it gives outside."""

    @functools.wraps(function)
    def in_own_precision(owner, *arguments, **options):
        kind = getattr(owner, "model", owner).decoder.start.device.type
        exact = (
            torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
        )
        with torch.no_grad(), exact:
            return function(owner, *arguments, **options)

    return in_own_precision


class Decoding:
    """The state between two steps: the kv cache, the embedding of what was drawn last, and the position.

    In torch, on any device. The steps of a bar read and write tensors that stay where they are, and on a GPU
    never wait for a value, so that a bar can be captured as one graph, see model.decoding.capture.
    """

    def __init__(self, model, batch_size, guide, temperature, precision):
        """temperature: one number, or three or four, see `sample`. precision: torch.float32, float16 or
        bfloat16, in which the decoder's matrices are multiplied."""
        self.model, self.guide, self.precision = model, guide, precision
        several = temperature if isinstance(temperature, tuple) else (temperature,) * 3
        *self.temperatures, lift = (*several, 0.0)[:4]
        self.lift = torch.tensor(lift, dtype=torch.float32, device=model.decoder.start.device)
        self.x = model.decoder.start.detach().repeat(batch_size * len(guide.views), 1)
        self.position = 0
        self.cache = model.decoder.empty_cache(len(self.x))
        self.weights, self.heads = self.derive()

    def derive(self):
        """The model's weights as the steps read them: of the layers, and of the heads."""
        weights = [layer.weights(self.precision) for layer in self.model.decoder.layers]
        return weights, StepHeads(self.model.onset_head, self.model.hit_head)

    def restart(self):
        """Back to the beginning of a piece: slots of the cache that are not written anew are masked."""
        self.x.copy_(self.model.decoder.start)
        self.position = 0

    def adopt(self, earlier):
        """Go on from the state of another Decoding, of the same strengths when fewer controls were given."""
        B = len(self.x) // len(self.guide.views)
        rows = [B * view + row for view in self.guide.came_from(earlier.guide) for row in range(B)]
        self.x.copy_(earlier.x[rows])
        for mine, other in zip(self.cache, earlier.cache):
            of_rows = other.unflatten(1, (len(earlier.x), -1))
            mine.copy_(of_rows[:, rows].flatten(1, 2))
        self.position = earlier.position

    @inference
    def bar(self, conditioning, uniform):
        """Draw the n steps of a bar, or of its beginning: conditioning of these steps, see
        build_conditioning; uniform (B, n, V, 5), in [0, 1). Returns onset, vel, timeoffset, float32 (B, n,
        V)."""
        n = uniform.shape[1]
        positions = self.model.decoder.positions(self.position, n)
        self.position += n
        with torch.inference_mode():  # where small operations start a tenth sooner
            drums = self.run_bar(conditioning, uniform, positions)
        return tuple(roll.clone() for roll in drums)

    def run_bar(self, conditioning, uniform, positions):
        guide, budget = self.guide, self.model.budget
        steps = bar_steps(conditioning, uniform, self.temperatures, self.lift, self.model)
        x, drums = self.x, []
        played_onset = played_vel = kept = uniform.new_zeros(len(uniform), uniform.shape[2])
        for here, position in zip(steps, zip(*positions)):
            features, before = None, here.get("bar_before")
            if budget is not None:
                played = [here["budget_targets"], *map(guide.repeat_views, (played_onset, played_vel))]
                played += [] if before is None else [before, guide.repeat_views(kept)]
                features = self.features(*played)
            hidden = self.step(x, here["modulation"], features, position)
            drums.append(draw_step(self.heads, hidden, here, guide))
            x = self.embed(*drums[-1])
            played_onset, played_vel = played_onset + drums[-1][0], played_vel + drums[-1][1]
            if before is not None:
                kept = kept + drums[-1][0] * before[: len(kept), 3:]
        self.x.copy_(x)
        return tuple(torch.stack(roll, 1) for roll in zip(*drums))

    def features(self, *rolls):
        """Budget.features, as `step` takes them."""
        return self.model.budget.features(*rolls)

    def step(self, x, modulation, features, position):
        """Through the decoder's layers: x (R, D), modulation (R, L, P), features of the budget (R, F) or
        None, position: one row of the decoder's tables of positions -> hidden (R, D)."""
        if features is not None:
            modulation = modulation + self.model.budget(features.to(modulation.dtype)).unflatten(
                -1, modulation.shape[-2:]
            )
        return self.model.decoder.step(x, modulation, self.weights, self.cache, position)

    def embed(self, *drums):
        """What the next step reads, (R, D), of the onset, vel, timeoffset (B, V) just drawn."""
        x = self.model.decoder.embed(*(roll.to(self.x.dtype) for roll in drums))
        return self.guide.repeat_views(x)


# ------------------------------------------------------------------------- what is drawn


def bar_steps(conditioning, uniform, temperatures, lift, model):
    """The conditioning of each step of a bar, a list of dicts, with all that its draws need and that does not
    depend on what is drawn: the values TAP as (B, 1); threshold (B, V) of the onsets; chance (2, V, B, 1) of
    the tokens of velocity and offset, within (2, B, V): where in their bins; velocity_bin and offset_bin of
    known cells. temperatures: of onsets, velocity and offset."""
    tap = {name: roll.unsqueeze(-1) for name, roll in conditioning.items() if name in TAP}
    bar = conditioning | tap
    bar["threshold"] = onset_threshold(uniform[..., 0], temperatures[0], lift, conditioning)
    if "known_vel" in conditioning:
        bar["velocity_bin"] = velocity_to_bin(conditioning["vel"], model.velocity_bins)
        bar["offset_bin"] = offset_to_bin(conditioning["timeoffset"], model.offset_bins)
    by_name = {name: roll.unbind(1) for name, roll in bar.items()}
    chance = [toward_median(uniform[..., 1 + 2 * head], temperatures[1 + head]) for head in range(2)]
    by_name["chance"] = torch.stack(chance, -1).unsqueeze(-1).permute(1, 3, 2, 0, 4).contiguous().unbind()
    by_name["within"] = uniform[..., 2::2].permute(1, 3, 0, 2).contiguous().unbind()
    return [{name: steps[t] for name, steps in by_name.items()} for t in range(uniform.shape[1])]


def onset_threshold(uniform, temperature, lift, conditioning):
    """What the logits of the onsets, without the onset bias, have to exceed: (B, ..., V), of uniform (B, ...,
    V).

    A hit where uniform < sigmoid((logit + lift) / temperature). Forbidden voices stay silent; known cells (if
    any) come before what is forbidden, and the mask before all.
    """
    threshold = temperature * torch.logit(uniform) - lift - conditioning["onset_bias"]
    if "forbid" in conditioning:
        threshold = threshold.masked_fill(conditioning["forbid"], math.inf)
    if "known_onset" in conditioning:
        silent = torch.full_like(threshold, math.inf)
        known = torch.where(conditioning["onset"] > 0, -silent, silent)
        threshold = torch.where(conditioning["known_onset"], known, threshold)
    return threshold.masked_fill(~conditioning["mask"].unsqueeze(-1), math.inf)


def toward_median(uniform, temperature):
    """Where a distribution of ordered tokens is inverted, in place of uniform: below temperature 1 nearer to
    its median, 1/2. Other than a softmax of logits / temperature it does not draw all tokens to the likeliest
    one: drummers hit 127 often, and colder drums would be louder."""
    return uniform if temperature == 1 else torch.sigmoid(temperature * torch.logit(uniform))


def draw_step(heads, hidden, here, guide):
    """The drums of a step: hidden (R, D), here: an entry of bar_steps -> onset, vel, timeoffset, float32 (B,
    V)."""
    onset = draw_onsets(guide.blend(heads.onset_parts(hidden).float()), here)
    return onset, *draw_hits(heads.voices, hidden, onset, here, guide)


def rows_hit(onset):
    """How many rows of onset (B, V) hit each voice. Looking costs little on a CPU, where most voices are
    silent in most steps; a GPU is not waited for: there every row counts as hit."""
    B, V = onset.shape
    return [sum(voice) for voice in zip(*onset.tolist())] if onset.device.type == "cpu" else [B] * V


def draw_onsets(parts, here):
    """The chain of nine voices: parts (B, 1 + V, V) as StepHeads.onset_parts gives them, float32 -> onset (B,
    V) float32."""
    above = parts[:, 0] - here["threshold"]
    onset = torch.zeros_like(above)
    hits = rows_hit(torch.gt(above, 0, out=onset))
    for v in range(onset.shape[1] - 1):
        if hits[v]:
            above = torch.addcmul(above, parts[:, 1 + v], onset.narrow(1, v, 1))
            hits = rows_hit(torch.gt(above, 0, out=onset))
    return keep_within(onset, above, here) if "limit" in here else onset


def keep_within(onset, above, here):
    """Of the hits drawn in a step, onset (B, V), keep as many as its limits allow: those furthest above their
    thresholds, above (B, V), and all known ones. limit (B, R, V), R rules: each has, at the voices that it
    counts, the number of them that may be hit, and V or more at the others.

    Hits are dropped once all voices are drawn: to stop at the limit would let the lowest voices win.
    """
    known = (
        here["known_onset"] & here["onset"].bool()
        if "known_onset" in here
        else torch.zeros_like(onset).bool()
    )
    margin = above.clamp(max=torch.finfo(above.dtype).max).masked_fill(known, math.inf)
    for most in here["limit"].unbind(1):
        counted = (onset > 0) & (most < onset.shape[1])
        rank = torch.where(counted, margin, -math.inf).argsort(descending=True, stable=True).argsort()
        onset = onset * ((rank < most) | known)
    return onset


def draw_hits(voices, hidden, onset, here, guide):
    """Velocity and offset of each hit, voice by voice: voices of StepHeads, hidden (R, D), onset (B, V).
    Returns vel, timeoffset (B, V), 0 where nothing is hit.

    A hit with the tap's own tokens is the tap: its values are the tap's to the last digit, not anywhere in
    the bin.
    """
    B, V = onset.shape
    hits = rows_hit(onset)
    if not any(hits):
        return torch.zeros_like(onset), torch.zeros_like(onset)
    velocity_chance, offset_chance = here["chance"].unbind()
    within = here["within"].unbind()
    known, past = here.get("known_vel"), None
    x, guide = guide.rows_of_hits(hidden + here["tap_tokens"]), guide.of_hits
    x = torch.cat((x, guide.repeat_views(onset).to(x.dtype)), 1)
    velocity_bins, offset_bins = onset.new_zeros(2, B, V, dtype=torch.long).unbind()
    last = max(v for v in range(V) if hits[v])
    for v, voice in enumerate(voices):
        if not hits[v]:
            continue
        some = None if hits[v] == B else onset[:, v].nonzero().squeeze(1)
        rows = guide.rows(some, B)

        logits, for_offset = voice.velocity_logits(of_rows(x, rows), of_rows(past, rows))
        velocity_bin = pick(guide.blend(logits), of_rows(velocity_chance[v], some))
        if known is not None:
            known_bin = of_rows(here["velocity_bin"][:, v], some)
            velocity_bin = torch.where(of_rows(known[:, v], some), known_bin, velocity_bin)
        bin_of_rows = guide.repeat_views(velocity_bin)
        logits = guide.blend(voice.offset_logits(for_offset, bin_of_rows))
        offset_bin = pick(logits, of_rows(offset_chance[v], some))
        if known is not None:
            known_bin = of_rows(here["offset_bin"][:, v], some)
            offset_bin = torch.where(of_rows(known[:, v], some), known_bin, offset_bin)

        put_rows(velocity_bins[:, v], some, velocity_bin)
        put_rows(offset_bins[:, v], some, offset_bin)
        if v < last:
            embedded = voice.embed_hit(bin_of_rows, guide.repeat_views(offset_bin))
            past = embedded.new_zeros(len(x), embedded.shape[1]) if past is None else past
            if rows is None:  # not all of them need be hit where nobody looked
                past = torch.addcmul(past, embedded, x[:, v - V, None])
            else:
                past = past.index_add(0, rows, embedded)

    is_tap = velocity_bins == here["tap_velocity_bin"]
    is_tap &= offset_bins == here["tap_offset_bin"]
    vel = bin_to_velocity(velocity_bins, within[0], voices[0].velocity_token.shape[0])
    timeoffset = bin_to_offset(offset_bins, within[1], voices[0].offset_token.shape[0])
    vel = torch.where(is_tap, here["tap_vel"], vel)
    timeoffset = torch.where(is_tap, here["tap_timeoffset"], timeoffset)
    if known is not None:
        vel = torch.where(known, here["vel"], vel)
        timeoffset = torch.where(known, here["timeoffset"], timeoffset)
    return vel * onset, timeoffset * onset


def of_rows(x, rows):
    """The rows (n,) of x, or all of them for None."""
    return x if rows is None or x is None else x[rows]


def put_rows(x, rows, values):
    """Write values into the rows (n,) of x, or into all of them for None."""
    if rows is None:
        x.copy_(values)
    else:
        x[rows] = values


def pick(logits, uniform):
    """Draw a token (B,) from logits (B, K) by inverting the distribution at uniform (B, 1), with no host
    synchronisation."""
    token = torch.searchsorted(logits.float().softmax(-1).cumsum(-1), uniform)
    return token.clamp_(max=logits.shape[-1] - 1).squeeze(-1)
