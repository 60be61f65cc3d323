"""The decoder's steps on a CPU: the steps of a bar as one compiled function, and what of the model it reads.

Shapes as in model.decoding.cpu_kernels; n steps of a bar (or of its beginning).
"""

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from model.decoding.cpu_kernels import play_bar
from model.decoding.steps import Decoding, Kept, onset_threshold
from model.heads import offset_to_bin, velocity_to_bin
from model.layers import NORM_EPS

COMPILED = torch.int8, torch.float32  # the precisions of the large matrices


class Matrix(NamedTuple):
    """Of L layers, or of one: numbers (L, n_out, n_in), times a scale for each row (L, n_out), and the bias (L, n_out)."""

    numbers: np.ndarray  # float32 or int8
    scale: np.ndarray
    bias: np.ndarray


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
    budget: Matrix
    steps_per_bar: np.float32
    eps: np.float32  # of the norms
    onset: Matrix  # base and pair, V + V V rows
    rolls: np.ndarray  # (3, V, D), see embed_rolls
    rolls_bias: np.ndarray  # (3, D)
    mix: Matrix


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
    "modulation": (4, torch.float32),  # (n, R, L, P)
    "budget_targets": (3, torch.float32),  # (n, R, 6 + 2V), see Budget.targets
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
BY_VIEW = "modulation", "budget_targets", "tap_tokens"  # R rows


# ------------------------------------------------------------------------- from torch and back


def matrix_of(matrix, precision, bias=None):
    """A Matrix of a tensor (n_out, n_in), or (L, n_out, n_in), and its bias, none where None; docs/experiments.md has what
    it costs to round to torch.int8."""
    matrix = matrix.detach() if matrix.ndim == 3 else matrix.detach().unsqueeze(0)
    scale = torch.ones(matrix.shape[:-1])
    bias = torch.zeros_like(scale) if bias is None else bias.detach().view_as(scale)
    if precision == torch.int8 and matrix.numel():
        scale = (matrix.abs().amax(-1) / 127).clamp(min=1e-12)
        matrix = matrix / scale.unsqueeze(-1)
    numbers = matrix.round().to(torch.int8) if precision == torch.int8 else matrix
    return Matrix(*(array(x) for x in (numbers, scale, bias)))


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
    mix, rolls = decoder.embed.mix, (decoder.embed.onset, decoder.embed.vel, decoder.embed.timeoffset)
    pair, pair_bias = torch.zeros(V * V, D), torch.zeros(V * V)
    if head.pair is not None:
        below = head.below.flatten()
        pair, pair_bias = head.pair.weight * below[:, None], head.pair.bias * below
    onset, onset_bias = torch.cat((head.base.weight, pair)), torch.cat((head.base.bias, pair_bias))
    (into, into_bias), (out, out_bias) = ((torch.zeros(0, 0), torch.zeros(0)),) * 2
    if budget is not None:
        (into, into_bias), (out, out_bias) = budget.mlp[0].parameters(), budget.mlp[2].parameters()
    return Weights(
        qkv,
        o,
        gate_up,
        down,
        attention_norm=array(torch.stack([layer.input_layernorm.weight for layer in decoder.layers])),
        mlp_norm=array(torch.stack([layer.post_attention_layernorm.weight for layer in decoder.layers])),
        norm=array(decoder.norm.weight),
        features=matrix_of(into, torch.float32, into_bias),
        budget=matrix_of(out, precision, out_bias),
        steps_per_bar=np.float32(model.steps_per_bar),
        eps=np.float32(NORM_EPS),
        onset=matrix_of(onset, torch.float32, onset_bias),
        rolls=array(torch.stack([roll.weight.T for roll in rolls])),
        rolls_bias=array(torch.stack([roll.bias for roll in rolls])),
        mix=matrix_of(mix.weight, precision, mix.bias),
    )


def hits_in(chain):
    """The Hits of a HitChain in float32."""
    tables = chain.velocity_token, chain.offset_token, chain.own_velocity
    by_voice = (array(table.weight.unflatten(0, (chain.velocity.n_voice, -1))) for table in tables)
    return Hits(bins_of(chain.velocity), bins_of(chain.offset), *by_voice)


def weights_of(model, precision):
    """(Weights, Hits) of a model, kept with it as long as nothing in them changes.

    The sums tell what the counters of changes do not see: what was done to a parameter's `.data`.
    """
    parts = (
        model.decoder.layers,
        model.decoder.norm,
        model.decoder.embed,
        model.onset_head,
        model.hit_head,
        model.budget,
    )
    parameters = [p for part in parts if part is not None for p in part.parameters()]
    kept = Kept.of(model, "laid_out", [(p.data_ptr(), p._version, array(p).sum()) for p in parameters])
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
        told = told | {
            "threshold": onset_threshold(uniform[..., 0], self.temperature, told),
            "uniform": uniform,
        }
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
        hidden = np.empty((n, B * self.n_view, self.model.decoder.d_model), np.float32)
        drums = np.empty((3, n, B, V), np.float32)
        play_bar(
            *self.weights,
            told,
            self.mixed_by,
            np.float32(self.temperature),
            self.position - n,
            cos,
            sin,
            self.x[rows].numpy(),
            self.cache[rows].numpy(),
            hidden,
            *drums,
        )
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
