"""The decoder's steps on a CPU: the steps of a bar as one compiled function, and what of the model it reads.

Shapes as in model.cpu_kernels; n steps of a bar (or of its beginning).
"""

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from model.cpu_kernels import (
    add, add_bias, add_silu, add_told, attend, bin_logits, blend, budget_features, compiled, draw_onsets, embed_rolls, f32, gated, keep_within,
    multiply_by, normed, offset_in, pick, tell, velocity_in,
)  # fmt: skip
from model.decoding import Decoding, Kept, onset_threshold
from model.heads import offset_to_bin, velocity_to_bin


COMPILED = torch.int8, torch.float32  # the precisions of the large matrices


class Matrix(NamedTuple):
    """numbers (n_out, n_in), of L layers (L, n_out, n_in), times a scale for each row (n_out), (L, n_out)."""

    numbers: np.ndarray  # float32 or int8
    scale: np.ndarray


class Bins(NamedTuple):
    """A BinHead as bin_logits reads it."""

    from_hidden: np.ndarray  # (V, Q, D)
    from_onset: np.ndarray  # (V, Q, V)
    bias: np.ndarray  # (V, Q)
    between: np.ndarray  # (Q, Q)
    between_bias: np.ndarray  # (Q)
    out: np.ndarray  # (K, Q)
    out_bias: np.ndarray  # (V, K)


class Weights(NamedTuple):
    """All that a step reads of a model before its heads of velocity and offset."""

    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix
    attention_norm: np.ndarray  # (L, D)
    mlp_norm: np.ndarray
    norm: np.ndarray  # (D)
    features: Matrix  # of the budget; without one, with no rows
    features_bias: np.ndarray
    budget: Matrix
    budget_bias: np.ndarray
    steps_per_bar: np.float32
    onset: Matrix  # base and pair (V + V V, D)
    onset_bias: np.ndarray
    rolls: np.ndarray  # (3, V, D), see embed_rolls
    rolls_bias: np.ndarray  # (3, D)
    mix: Matrix
    mix_bias: np.ndarray


class Hits(NamedTuple):
    """A HitChain as draw_hits reads it."""

    velocity: Bins
    offset: Bins
    velocity_token: np.ndarray  # (V, K, 2Q)
    offset_token: np.ndarray
    own_velocity: np.ndarray  # (V, K, Q)


# What the steps of a bar are told: the number of dimensions, n first, then B or R; and what it consists of. What is not told
# has no elements.
TOLD = {
    "added": (4, torch.float32),  # (n, R, L, P)
    "asked": (3, torch.float32),  # (n, R, 6 + 2V), see Budget.asked
    "threshold": (3, torch.float32),  # (n, B, V), see decoding.onset_threshold
    "uniform": (4, torch.float32),  # (n, B, V, 5)
    "limit": (4, torch.int64),  # (n, B, rules, V), see decoding.keep_within
    "tap_tokens": (3, torch.float32),  # (n, R, D), and the four that follow (n, B): see sampling.tap_of
    "tap_velocity_bin": (2, torch.int64),
    "tap_offset_bin": (2, torch.int64),
    "tap_vel": (2, torch.float32),
    "tap_timeoffset": (2, torch.float32),
    "known_hit": (3, torch.bool),  # (n, B, V): hits that are known, and cells of which all that follows is
    "known_vel": (3, torch.bool),
    "vel": (3, torch.float32),
    "timeoffset": (3, torch.float32),
    "velocity_bin": (3, torch.int64),
    "offset_bin": (3, torch.int64),
}
Told = namedtuple("Told", TOLD)
BY_VIEW = "added", "asked", "tap_tokens"


@compiled
def multiply(x, matrix, y):
    multiply_by(x, matrix.numbers, matrix.scale, y)


@compiled
def of_layer(matrix, layer):
    return Matrix(matrix.numbers[layer], matrix.scale[layer])


@compiled
def draw_hits(hits, told, t, b, hidden, guide, temperature, onset, vel, timeoffset):
    """decoding.draw_hits of item b at step t: hidden (N, D), guide (N - 1), see blend, onset (V) -> vel, timeoffset (V)."""
    V, D, n_view, Q = len(onset), hidden.shape[1], len(guide) + 1, len(hits.velocity.between)
    K_velocity, K_offset = hits.velocity.out_bias.shape[1], hits.offset.out_bias.shape[1]
    heard, first, second = np.empty((n_view, D), np.float32), np.empty(Q, np.float32), np.empty(Q, np.float32)
    by_view, logits = np.empty((n_view, max(K_velocity, K_offset)), np.float32), np.empty(max(K_velocity, K_offset), np.float32)
    past_velocity, past_offset, own = np.zeros(Q, np.float32), np.zeros(Q, np.float32), np.empty(Q, np.float32)
    for view in range(n_view):
        for i in range(D):
            heard[view, i] = hidden[view, i] + told.tap_tokens[t, b * n_view + view, i]
    for v in range(V):
        vel[v] = timeoffset[v] = f32(0)
        if not onset[v]:
            continue
        known, chance = told.known_vel.size and told.known_vel[t, b, v], told.uniform[t, b, v]

        for view in range(n_view):
            bin_logits(heard[view], onset, past_velocity, hits.velocity, v, first, second, by_view[view, :K_velocity])
        blend(by_view, guide, logits[:K_velocity])
        velocity_bin = told.velocity_bin[t, b, v] if known else pick(logits[:K_velocity], chance[1], temperature)
        for q in range(Q):
            own[q] = past_offset[q] + hits.own_velocity[v, velocity_bin, q]
        for view in range(n_view):
            bin_logits(heard[view], onset, own, hits.offset, v, first, second, by_view[view, :K_offset])
        blend(by_view, guide, logits[:K_offset])
        offset_bin = told.offset_bin[t, b, v] if known else pick(logits[:K_offset], chance[3], temperature)
        for q in range(Q):
            past_velocity[q] += hits.velocity_token[v, velocity_bin, q] + hits.offset_token[v, offset_bin, q]
            past_offset[q] += hits.velocity_token[v, velocity_bin, Q + q] + hits.offset_token[v, offset_bin, Q + q]

        if known:
            vel[v], timeoffset[v] = told.vel[t, b, v], told.timeoffset[t, b, v]
        elif velocity_bin == told.tap_velocity_bin[t, b] and offset_bin == told.tap_offset_bin[t, b]:
            vel[v], timeoffset[v] = told.tap_vel[t, b], told.tap_timeoffset[t, b]
        else:
            vel[v] = velocity_in(velocity_bin, chance[2], K_velocity)
            timeoffset[v] = offset_in(offset_bin, chance[4], K_offset)


@compiled
def draw(hits, told, t, hidden, parts, guide, temperature, onset, vel, timeoffset):
    """What is played at step t: hidden (R, D), parts (R, V + V V) of the onset head -> onset, vel, timeoffset (B, V)."""
    B, V = onset.shape
    n_view = len(guide) + 1
    blended, unknown = np.empty(parts.shape[1], np.float32), np.zeros(V, np.bool_)
    for b in range(B):
        rows = slice(b * n_view, (b + 1) * n_view)
        blend(parts[rows], guide, blended)
        draw_onsets(blended, told.threshold[t, b], onset[b])
        if told.limit.size:
            known = told.known_hit[t, b] if told.known_hit.size else unknown
            keep_within(onset[b], blended[:V], told.limit[t, b], known)
        draw_hits(hits, told, t, b, hidden[rows], guide, temperature, onset[b], vel[b], timeoffset[b])


@compiled
def play_bar(weights, hits, told, guide, temperature, first, cos, sin, x, cache, hidden, onset, vel, timeoffset):
    """The steps of a bar, the first of which is number `first` of the piece; see Decoding.play.

    guide (N - 1): see blend. cos, sin (n, 3, d): see Phi3Decoder.places. x (R, D), what the first step reads, becomes
    what the next bar's will; cache (R, L, 2, H, W, d) is written. Into hidden (n, R, D) go the
    hidden states, into onset, vel, timeoffset (n, B, V) the drums.
    """
    n, R, L, P = told.added.shape
    B, V = onset.shape[1:]
    n_view = R // B
    D, W = x.shape[1], cache.shape[4]
    features_in, features = np.empty((R, 7 + 3 * V), np.float32), np.empty((R, len(weights.features_bias)), np.float32)
    budget, told_now, update = np.empty((R, L * P), np.float32), np.empty((R, L, P), np.float32), np.empty((R, D), np.float32)
    reading, seen, qkv = np.empty((R, D), np.float32), np.empty((R, D), np.float32), np.empty((R, 3 * D), np.float32)
    gate_up = np.empty((R, weights.gate_up.scale.shape[1]), np.float32)
    inner = np.empty((R, gate_up.shape[1] // 2), np.float32)
    parts = np.empty((R, V + V * V), np.float32)
    rolls, mixed = np.empty((B, 3 * D), np.float32), np.empty((B, D), np.float32)
    played_onset, played_vel = np.zeros((B, V), np.float32), np.zeros((B, V), np.float32)
    for t in range(n):
        if told.asked.size:
            budget_features(told.asked[t], played_onset, played_vel, weights.steps_per_bar, features_in)
            multiply(features_in, weights.features, features)
            add_silu(features, weights.features_bias)
            multiply(features, weights.budget, budget)
            add_told(told.added[t], budget, weights.budget_bias, told_now)
        else:
            told_now = told.added[t]
        slot, n_seen = (first + t) % W, min(first + t + 1, W)
        for layer in range(L):
            tell(x, told_now, layer)
            normed(x, weights.attention_norm[layer], reading)
            multiply(reading, of_layer(weights.qkv, layer), qkv)
            attend(qkv, cos[t], sin[t], cache, layer, slot, n_seen, seen)
            multiply(seen, of_layer(weights.o, layer), update)
            add(x, update)
            normed(x, weights.mlp_norm[layer], reading)
            multiply(reading, of_layer(weights.gate_up, layer), gate_up)
            gated(gate_up, inner)
            multiply(inner, of_layer(weights.down, layer), update)
            add(x, update)
        normed(x, weights.norm, hidden[t])
        multiply(hidden[t], weights.onset, parts)
        add_bias(parts, weights.onset_bias)
        draw(hits, told, t, hidden[t], parts, guide, temperature, onset[t], vel[t], timeoffset[t])
        add(played_onset, onset[t])
        add(played_vel, vel[t])
        embed_rolls(onset[t], vel[t], timeoffset[t], weights.rolls, weights.rolls_bias, rolls)
        multiply(rolls, weights.mix, mixed)
        add_bias(mixed, weights.mix_bias)
        for r in range(R):
            for i in range(D):
                x[r, i] = mixed[r // n_view, i]


# ------------------------------------------------------------------------- from torch and back


def matrix_of(matrix, precision):
    """A Matrix of a tensor (..., n_out, n_in); docs/experiments.md has what it costs to round to torch.int8."""
    matrix = matrix.detach()
    if precision != torch.int8:
        return Matrix(array(matrix), np.ones(matrix.shape[:-1], np.float32))
    scale = (matrix.abs().amax(-1) / 127).clamp(min=1e-12) if matrix.numel() else torch.zeros(matrix.shape[:-1])
    return Matrix(array((matrix / scale[..., None]).round().to(torch.int8)), array(scale))


def array(tensor):
    return tensor.detach().contiguous().numpy()


def bins_of(head):
    of_voice = head.n_voice, head.d_head
    return Bins(
        from_hidden=array(head.from_hidden.weight.unflatten(0, of_voice)),
        from_onset=array(head.from_onset.weight.unflatten(0, of_voice)),
        bias=array(head.from_hidden.bias.unflatten(0, of_voice)),
        between=array(head.mlp[2].weight),
        between_bias=array(head.mlp[2].bias),
        out=array(head.out.weight),
        out_bias=array(head.out.bias + head.voice_bias),
    )


def weights_in(model, precision):
    """The Weights of a model in float32, its large matrices in that precision: torch.float32 or int8."""
    decoder, head, budget = model.decoder, model.onset_head, model.budget
    V, D = head.n_voice, decoder.d_model
    by_kind = zip(*(layer.matrices() for layer in decoder.layers))
    qkv, o, gate_up, down = (matrix_of(torch.stack(matrices), precision) for matrices in by_kind)
    rolls = decoder.embed.onset, decoder.embed.vel, decoder.embed.timeoffset
    pair, pair_bias = torch.zeros(V * V, D), torch.zeros(V * V)
    if head.pair is not None:
        below = head.below.flatten()
        pair, pair_bias = head.pair.weight * below[:, None], head.pair.bias * below
    nothing = torch.zeros(0, 0), torch.zeros(0)
    (into, into_bias), (out, out_bias) = (nothing, nothing) if budget is None else (budget.mlp[i].parameters() for i in (0, 2))
    return Weights(
        qkv, o, gate_up, down,
        attention_norm=array(torch.stack([layer.input_layernorm.weight for layer in decoder.layers])),
        mlp_norm=array(torch.stack([layer.post_attention_layernorm.weight for layer in decoder.layers])),
        norm=array(decoder.norm.weight),
        features=matrix_of(into, torch.float32), features_bias=array(into_bias),
        budget=matrix_of(out, precision), budget_bias=array(out_bias),
        steps_per_bar=np.float32(model.steps_per_bar),
        onset=matrix_of(torch.cat((head.base.weight, pair)), torch.float32), onset_bias=array(torch.cat((head.base.bias, pair_bias))),
        rolls=array(torch.stack([roll.weight.T for roll in rolls])), rolls_bias=array(torch.stack([roll.bias for roll in rolls])),
        mix=matrix_of(decoder.embed.mix.weight, precision), mix_bias=array(decoder.embed.mix.bias),
    )  # fmt: skip


def hits_in(chain):
    """The Hits of a HitChain in float32."""
    tables = chain.velocity_token, chain.offset_token, chain.own_velocity
    by_voice = (array(table.weight.unflatten(0, (chain.velocity.n_voice, -1))) for table in tables)
    return Hits(bins_of(chain.velocity), bins_of(chain.offset), *by_voice)


def weights_of(model, precision):
    """(Weights, Hits) of a model, kept with it as long as nothing in them changes.

    The sums tell what the counters of changes do not see: what was done to a parameter's `.data`.
    """
    parts = model.decoder.layers, model.decoder.norm, model.decoder.embed, model.onset_head, model.hit_head, model.budget
    parameters = [p for part in parts if part is not None for p in part.parameters()]
    kept = Kept.of(model, "laid_out", [(p.data_ptr(), p._version, p.sum().item()) for p in parameters])
    if precision not in kept:
        kept[precision] = weights_in(model, precision), hits_in(model.hit_head)
    return kept[precision]


class CpuDecoding(Decoding):
    """A Decoding of a model in float32 on a CPU, precision torch.float32 or int8. Each thread plays items of its own."""

    def lay_out(self):
        decoder, self.n_view = self.model.decoder, len(self.guide.views)
        d_head = decoder.d_model // decoder.n_head
        self.cache = torch.zeros(len(self.x), decoder.n_layer, 2, decoder.n_head, decoder.window, d_head)
        self.weights = weights_of(self.model, self.precision)
        self.mixed_by = np.array(list(self.guide.weights.values())[:-1], np.float32)

    def go_on_from(self, earlier):
        views = self.guide.came_from(earlier.guide)
        for mine, other in ((self.x, earlier.x), (self.cache, earlier.cache)):
            other = other.unflatten(0, (-1, earlier.n_view))
            mine.copy_(other[:, views].flatten(0, 1))
        self.position = earlier.position

    def play(self, told, uniform, places):
        cos, sin = (array(table.flatten(1, 2).flatten(2)) for table in places[:2])
        told = told | {"threshold": onset_threshold(uniform[..., 0], self.temperature, told), "uniform": uniform}
        if "known_onset" in told:
            told["known_hit"] = told["known_onset"] & told["onset"].bool()
        if "known_vel" in told:
            told["velocity_bin"] = velocity_to_bin(told["vel"], self.model.velocity_bins)
            told["offset_bin"] = offset_to_bin(told["timeoffset"], self.model.offset_bins)
        B = len(uniform)
        parts = np.array_split(range(B), min(B, torch.get_num_threads()))
        played = [*in_threads(lambda part: self.play_items(told, cos, sin, part[0], part[-1] + 1), parts)]
        return tuple(torch.cat(rolls, 1).transpose(0, 1).contiguous() for rolls in zip(*played))

    def play_items(self, told, cos, sin, begin, end):
        """The same of items begin to end - 1 -> onset, vel, timeoffset (n, B, V)."""
        told = self.by_step(told, begin, end)
        rows = slice(begin * self.n_view, end * self.n_view)
        n, B, V = told.threshold.shape
        hidden, drums = np.empty((n, B * self.n_view, self.model.decoder.d_model), np.float32), np.empty((3, n, B, V), np.float32)
        play_bar(
            *self.weights, told, self.mixed_by, np.float32(self.temperature), self.position - n, cos, sin,
            self.x[rows].numpy(), self.cache[rows].numpy(), hidden, *drums,
        )  # fmt: skip
        return torch.from_numpy(drums)

    def by_step(self, told, begin, end):
        """Told of items begin to end - 1, of what `play` is told."""

        def of_items(name, n_dim, dtype):
            if name not in told:
                return torch.empty((0,) * n_dim, dtype=dtype)
            if name not in BY_VIEW:
                return told[name][begin:end].to(dtype)
            return told[name].unflatten(0, (self.n_view, -1))[:, begin:end].transpose(0, 1).flatten(0, 1)

        return Told(*(array(of_items(name, *kind).transpose(0, 1)) for name, kind in TOLD.items()))


def in_threads(work, parts):
    """map, in as many threads as there are parts, which torch leaves alone."""
    if len(parts) == 1:
        return map(work, parts)
    with ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.map(work, parts)
