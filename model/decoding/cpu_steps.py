"""The decoder's steps on a CPU: the layers as one compiled function; what is drawn is Decoding's own.

Shapes as in model.decoding.cpu_kernels.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from model.decoding import cpu_kernels
from model.decoding.steps import Decoding, DerivedCache
from model.heads import StepHeads
from model.layers import NORM_EPS

COMPILED = torch.int8, torch.float32  # the precisions of the large matrices


class Matrix(NamedTuple):
    """Of L layers, or of one: numbers (L, n_out, n_in), times a scale for each row (L, n_out), and the bias (L, n_out)."""

    numbers: np.ndarray  # float32 or int8
    scale: np.ndarray
    bias: np.ndarray


class Weights(NamedTuple):
    """The weights that cpu_kernels.run_layers and embed read."""

    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix
    attention_norm: np.ndarray  # (L, D)
    mlp_norm: np.ndarray
    norm: np.ndarray  # (D)
    features: Matrix  # of the budget; without one, with no rows
    budget: Matrix
    eps: np.float32  # of the norms
    rolls: np.ndarray  # (3, V, D), of onset, vel and timeoffset
    rolls_bias: np.ndarray  # (3, D)
    mix: Matrix


def matrix_of(matrix, precision, bias=None):
    """The Matrix of a tensor (n_out, n_in), or (L, n_out, n_in), and its bias, 0 where None; docs/experiments.md has the
    cost of rounding to torch.int8."""
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


def weights_in(model, precision):
    """The Weights of a model in float32, its large matrices in that precision: torch.float32 or int8."""
    decoder, budget = model.decoder, model.budget
    by_kind = zip(*(layer.matrices() for layer in decoder.layers))
    qkv, o, gate_up, down = (matrix_of(torch.stack(matrices), precision) for matrices in by_kind)
    mix, rolls = decoder.embed.mix, (decoder.embed.onset, decoder.embed.vel, decoder.embed.timeoffset)
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
        eps=np.float32(NORM_EPS),
        rolls=array(torch.stack([roll.weight.T for roll in rolls])),
        rolls_bias=array(torch.stack([roll.bias for roll in rolls])),
        mix=matrix_of(mix.weight, precision, mix.bias),
    )


def derived(model, precision):
    """(Weights, StepHeads) of a model, kept with it as long as its weights stay the same.

    The sums see what torch's counters of changes do not: what was done to a parameter's `.data`.
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
    cache = DerivedCache.of(model, "derived", [(p.data_ptr(), p._version, array(p).sum()) for p in parameters])
    if precision not in cache:
        cache[precision] = weights_in(model, precision), StepHeads(model.onset_head, model.hit_head)
    return cache[precision]


class CpuDecoding(Decoding):
    """A Decoding of a model in float32 on a CPU, precision torch.float32 or int8, its layers compiled. Each thread runs
    rows of its own through them."""

    def allocate(self):
        self.weights, self.heads = derived(self.model, self.precision)
        self.cache = torch.stack(self.cache)
        n_head = self.model.decoder.n_head
        self.cache_array = self.cache.unflatten(2, (len(self.x), n_head)).numpy()
        n_part = min(len(self.x) // len(self.guide.views), torch.get_num_threads())
        self.parts = [slice(part[0], part[-1] + 1) for part in np.array_split(range(len(self.x)), n_part)]

    def run_bar(self, conditioning, uniform, positions):
        positions = [table.flatten(2) if table.ndim > 2 else table for table in positions]  # cos and sin (n, 3, d)
        with workers(len(self.parts) - 1) as self.map:
            return super().run_bar(conditioning, uniform, positions)

    def step(self, x, added, features, position):
        hidden = torch.empty_like(x)
        features = x.new_empty(len(x), 0) if features is None else features
        position = tuple(array(table) for table in position)
        x, added, features, out = (array(rows) for rows in (x, added, features, hidden))

        def run(rows):
            inputs = x[rows], added[rows], features[rows], position, self.cache_array
            cpu_kernels.run_layers(self.weights, *inputs, rows.start, out[rows])

        for _ in self.map(run, self.parts):
            pass
        return hidden

    def embed(self, *drums):
        x = torch.empty_like(self.x)
        cpu_kernels.embed(self.weights, *(array(roll) for roll in drums), x.numpy())
        return x


@contextlib.contextmanager
def workers(n):
    """A map for n + 1 parts of work, each in a thread of its own, the first in this one."""
    if n == 0:
        yield map
        return
    with ThreadPoolExecutor(n) as pool:

        def map_in_threads(work, parts):
            others = [pool.submit(work, part) for part in parts[1:]]
            return [work(parts[0]), *(other.result() for other in others)]

        yield map_in_threads
