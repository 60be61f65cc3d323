"""Step by step: one step of the decoder over its KV cache, and what is drawn from it.

Shapes: B batch, n steps of a bar (or of its beginning), V voices (9), D model width, L layers, K bins. Under guidance
what comes out of the decoder has 2B rows.
"""

import contextlib
import math

import torch
import torch.nn.functional as F

from model.heads import bin_to_offset, bin_to_velocity, offset_to_bin, velocity_to_bin

EVERY_ROW = slice(None)
WORTH_A_THREAD = 300_000_000  # multiplications of a step, see docs/performance.md
EVERY_VOICE, BY_HAND = slice(None), slice(1, None)  # all but the kick, which is played by foot


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

    def rows(self, rows, B):
        """The rows of B, doubled, that belong to these rows; rows (n,) long, or EVERY_ROW."""
        return rows if rows is EVERY_ROW or not self.doubled else torch.cat((rows, rows + B))

    def blend(self, logits):
        """(2B, ...) -> (B, ...), or the logits as they are without guidance."""
        if not self.doubled:
            return logits
        told, untold = logits.chunk(2)
        return untold + self.strength * (told - untold)


def decoding_precision(model, rows):
    """The precision that multiplies the decoder's matrices the fastest, where the model itself is in float32.

    docs/performance.md has what was measured. A single row on a CPU is a matter of reading the weights, and half as
    many bytes take less than half as long; more rows are a matter of multiplying, which no CPU does in float16.
    """
    weight = model.decoder.start
    if weight.dtype != torch.float32:
        return weight.dtype
    if weight.is_cuda:
        return torch.bfloat16
    return torch.float16 if weight.device.type == "cpu" and rows == 1 else torch.float32


@contextlib.contextmanager
def few_threads(multiplications, device):
    """One thread of the CPU for steps of so few multiplications that waking another takes longer than it helps."""
    before = torch.get_num_threads()
    if device.type == "cpu" and multiplications < WORTH_A_THREAD:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


class Decoding:
    """The state between one step and the next: the cache, what was played last, and how far it has come.

    The steps of a bar read and write tensors that stay where they are, and never ask the device anything, so that a
    GPU can take a bar in one go, see model.capture.
    """

    def __init__(self, model, batch_size, guide, temperature, precision=None):
        """precision: torch.float32, float16 or bfloat16, in which the decoder's matrices are multiplied; None:
        decoding_precision."""
        self.model, self.guide, self.temperature = model, guide, temperature
        rows = batch_size * (2 if guide.doubled else 1)
        precision = precision or decoding_precision(model, rows)
        self.weights = [layer.weights(precision) for layer in model.decoder.layers]
        self.multiplications = rows * sum(matrix.numel() for layer in self.weights for matrix in layer)
        self.cache = model.decoder.empty_cache(rows)
        self.x = model.decoder.start.detach().repeat(rows, 1)
        self.position = 0

    def restart(self):
        """Forget what was played: the places of the cache that are not written anew are not looked at."""
        self.x.copy_(self.model.decoder.start)
        self.position = 0

    def bar(self, told, uniform):
        """Draw the n steps of a bar, or of its beginning: told as told_of gives it, of these steps; uniform
        (B, n, V, 5), in [0, 1). Returns onset, vel, timeoffset, float32 (B, n, V)."""
        n = uniform.shape[1]
        places = self.model.decoder.places(self.position, n)
        self.position += n
        with few_threads(self.multiplications, uniform.device):
            return self.play(told, uniform, places)

    def play(self, told, uniform, places):
        model, guide = self.model, self.guide
        threshold = onset_threshold(uniform[..., 0], self.temperature, told)
        played_onset, played_vel = torch.zeros_like(threshold[:, 0]), torch.zeros_like(threshold[:, 0])
        x, drawn = self.x, []
        for t in range(uniform.shape[1]):
            here = {name: roll[:, t] for name, roll in told.items()}
            played = guide.double(played_onset), guide.double(played_vel)
            added = model.add_budget(here["added"], here.get("asked"), *played)
            hidden = model.decoder.step(x, added, self.weights, self.cache, [table[t] for table in places])
            onset = draw_onsets(model, hidden, threshold[:, t], guide, here)
            vel, timeoffset = draw_hits(model, hidden, onset, here, uniform[:, t], guide, self.temperature)
            drawn.append((onset, vel, timeoffset))
            x = model.decoder.embed(*(guide.double(roll).to(hidden.dtype) for roll in drawn[-1]))
            played_onset, played_vel = played_onset + onset, played_vel + vel
        self.x.copy_(x)
        return tuple(torch.stack(roll, 1) for roll in zip(*drawn))


def onset_threshold(uniform, temperature, told):
    """What the logits of the onsets, without the prior, have to exceed: (B, ..., V), of uniform (B, ..., V).

    A hit where uniform < sigmoid(logit / temperature). Told prior, forbid (if any), the known cells (if any), which
    come before what is forbidden, and the mask, which comes before all.
    """
    threshold = temperature * torch.logit(uniform) - told["prior"]
    if "forbid" in told:
        threshold = threshold.masked_fill(told["forbid"], math.inf)
    if "known_onset" in told:
        known = torch.where(told["onset"] > 0, -math.inf, math.inf)
        threshold = torch.where(told["known_onset"], known, threshold)
    return threshold.masked_fill(~told["mask"].unsqueeze(-1), math.inf)


def draw_onsets(model, hidden, threshold, guide, told):
    """The chain of nine voices: hidden (B, D), threshold (B, V) as onset_threshold gives it, told of this step: limit and
    the known cells, if any -> onset (B, V) float32."""
    base, pair = (guide.blend(part.float()) for part in model.onset_head.parts(hidden))
    onset = torch.zeros_like(threshold)
    above = base - threshold
    for v in range(onset.shape[1]):
        torch.gt(above[:, v], 0, out=onset[:, v])
        if v + 1 < onset.shape[1]:
            above = above + pair[:, :, v] * onset[:, v, None]
    return keep_within(onset, above, told) if "limit" in told else onset


def keep_within(onset, above, told):
    """Of the hits drawn in a step, onset (B, V), as many as may be: those that are the furthest above their thresholds,
    above (B, V), and all that are known. Told of this step: limit (B, 2), of all voices and of those played by hand.

    The hits are dropped once all voices are drawn: to stop at the limit would let the lowest voices win.
    """
    known = told["known_onset"] & told["onset"].bool() if "known_onset" in told else torch.zeros_like(onset).bool()
    margin = above.clamp(max=torch.finfo(above.dtype).max).masked_fill(known, math.inf)
    for voices, most in ((BY_HAND, told["limit"][:, 1:]), (EVERY_VOICE, told["limit"][:, :1])):
        rank = torch.where(onset > 0, margin, -math.inf)[:, voices].argsort(descending=True, stable=True).argsort()
        onset[:, voices] = onset[:, voices] * ((rank < most) | known[:, voices])
    return onset


def draw_hits(model, hidden, onset, told, uniform, guide, temperature):
    """Velocity and offset of each hit, voice by voice: hidden (B, D), onset (B, V), told of this step: the tap and
    the known cells, if any; uniform (B, V, 5). Returns vel, timeoffset (B, V), 0 where nothing is hit.

    A hit with the tap's own tokens is the tap: its values are the tap's to the last digit, not anywhere in the bin.
    """
    B, V = onset.shape
    head, K_vel, K_off = model.hit_head, model.velocity_bins, model.offset_bins
    vel, timeoffset = torch.zeros_like(onset), torch.zeros_like(onset)
    # looking costs nothing on the CPU, and most voices are silent in most steps; on a GPU all rows are drawn
    hits = onset.sum(0).tolist() if onset.device.type == "cpu" else [B] * V
    if not any(hits):
        return vel, timeoffset
    doubled_onset = guide.double(onset)
    hidden = hidden + told["tap_tokens"]
    past_velocity, past_offset = hidden.new_zeros(2, len(hidden), head.velocity.d_head)
    for v in range(V):
        if not hits[v]:
            continue
        some = EVERY_ROW if hits[v] == B else onset[:, v].nonzero().squeeze(1)
        rows = guide.rows(some, B)
        known = {name: told[name][some, v] for name in ("known_vel", "vel", "timeoffset")} if "known_vel" in told else None
        tap = {name: told[f"tap_{name}"][some] for name in ("vel", "timeoffset", "velocity_bin", "offset_bin")}
        chance, step = uniform[some, v], (hidden[rows], doubled_onset[rows], v)

        logits = guide.blend(head.velocity.read(head.velocity.prepare_voice(*step), past_velocity[rows], v))
        velocity_bin = pick(logits, chance[:, 1], temperature)
        if known is not None:
            velocity_bin = torch.where(known["known_vel"], velocity_to_bin(known["vel"], K_vel), velocity_bin)
        own = head.own(guide.double(velocity_bin), v)
        logits = guide.blend(head.offset.read(head.offset.prepare_voice(*step), past_offset[rows] + own, v))
        offset_bin = pick(logits, chance[:, 3], temperature)
        if known is not None:
            offset_bin = torch.where(known["known_vel"], offset_to_bin(known["timeoffset"], K_off), offset_bin)

        is_tap = (velocity_bin == tap["velocity_bin"]) & (offset_bin == tap["offset_bin"])
        voice_vel = torch.where(is_tap, tap["vel"], bin_to_velocity(velocity_bin, chance[:, 2], K_vel))
        voice_offset = torch.where(is_tap, tap["timeoffset"], bin_to_offset(offset_bin, chance[:, 4], K_off))
        if known is not None:
            voice_vel = torch.where(known["known_vel"], known["vel"], voice_vel)
            voice_offset = torch.where(known["known_vel"], known["timeoffset"], voice_offset)
        vel[some, v], timeoffset[some, v] = voice_vel, voice_offset
        if any(hits[v + 1 :]):
            told_on = head.note(guide.double(velocity_bin), guide.double(offset_bin), v) * doubled_onset[rows, v, None]
            past_velocity[rows] += told_on.chunk(2, dim=-1)[0]
            past_offset[rows] += told_on.chunk(2, dim=-1)[1]
    return vel * onset, timeoffset * onset


def pick(logits, uniform, temperature):
    """Draw a token from logits (B, K) by inverting the distribution at uniform (B,), with no host synchronisation."""
    cumulative = F.softmax(logits.float() / temperature, dim=-1).cumsum(-1)
    return (cumulative < uniform.unsqueeze(-1)).sum(-1).clamp(max=logits.shape[-1] - 1)
