"""The decoder's steps on a CPU: the layers as one compiled function; what is drawn is Decoding's own.

Shapes as in model.decoding.cpu_kernels.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from model.decoding import cpu_kernels
from model.decoding.steps import Decoding
from model.decoding.weights import fingerprint
from model.derived_cache import DerivedCache
from model.heads import StepHeads, VoiceHits
from model.layers import NORM_EPS

COMPILED = torch.int8, torch.float32  # the precisions of the large matrices
EPS = np.float32(NORM_EPS)


class Matrix(NamedTuple):
    """Of L layers, or of one: numbers (L, n_out, n_in), times a scale for each row (L, n_out)."""

    numbers: np.ndarray  # float32 or int8
    scale: np.ndarray


class Weights(NamedTuple):
    """The weights that cpu_kernels.run_layers reads."""

    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix
    norms: np.ndarray  # (2 L + 1, D): of each layer before attention and before the MLP, and the last
    features: Matrix  # the budget's first matrix, without a budget with no rows
    features_bias: np.ndarray
    budget: Matrix  # its second
    budget_bias: np.ndarray


class Embedding(NamedTuple):
    """The weights that cpu_kernels.embed reads."""

    rolls: np.ndarray  # (3, V, D), of onset, vel and timeoffset
    rolls_bias: np.ndarray  # (3, D)
    mix: Matrix
    mix_bias: np.ndarray


def array(tensor):
    return tensor.detach().contiguous().numpy()


def matrix_of(matrix, precision):
    """The Matrix of a tensor (n_out, n_in), or (L, n_out, n_in); docs/experiments.md has the cost of rounding
    to torch.int8."""
    matrix = matrix.detach() if matrix.ndim == 3 else matrix.detach().unsqueeze(0)
    scale = matrix.new_ones(matrix.shape[:-1])
    if precision == torch.int8 and matrix.numel():
        scale = (matrix.abs().amax(-1) / 127).clamp(min=1e-12)
        matrix = (matrix / scale.unsqueeze(-1)).round().to(torch.int8)
    return Matrix(array(matrix), array(scale))


def weights_in(model, precision, steady=False):
    """Weights and Embedding of a model in float32, its large matrices in that precision: torch.float32 or
    int8. steady: see Budget.matrices."""
    decoder, budget = model.decoder, model.budget
    by_kind = zip(*(layer.matrices() for layer in decoder.layers))
    matrices = [matrix_of(torch.stack(of_layers), precision) for of_layers in by_kind]
    norms = [
        norm for layer in decoder.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)
    ]
    nothing = decoder.start.new_zeros(0, 0), decoder.start.new_zeros(0)
    (into, into_bias), (out, out_bias) = (nothing, nothing) if budget is None else budget.matrices(steady)
    embed = decoder.embed
    rolls = embed.onset, embed.vel, embed.timeoffset
    weights = Weights(
        *matrices,
        norms=array(torch.stack([norm.weight for norm in (*norms, decoder.norm)])),
        features=matrix_of(into, torch.float32),
        features_bias=array(into_bias),
        budget=matrix_of(out, precision),
        budget_bias=array(out_bias),
    )
    return weights, Embedding(
        rolls=array(torch.stack([roll.weight.T for roll in rolls])),
        rolls_bias=array(torch.stack([roll.bias for roll in rolls])),
        mix=matrix_of(embed.mix.weight, precision),
        mix_bias=array(embed.mix.bias),
    )


class CpuVoiceHits(VoiceHits):
    """A VoiceHits whose logits are compiled where there are few rows, as for a single item."""

    FEW = 4

    def __init__(self, chain, voice):
        super().__init__(chain, voice)
        self.into_rows = array(self.into.T), array(self.bias)
        self.heads = [
            (array(between.T), array(between_bias), array(out.T), array(out_bias))
            for between_bias, between, out_bias, out in self.layers
        ]
        self.own_array, self.no_past = array(self.own_velocity), np.empty((0, 0), np.float32)

    def velocity_logits(self, x, past):
        if x.shape[0] > self.FEW:
            return super().velocity_logits(x, past)
        past = self.no_past if past is None else past.numpy()
        logits, for_offset = cpu_kernels.velocity_logits(x.numpy(), past, *self.into_rows, self.heads[0])
        return torch.from_numpy(logits), for_offset

    def offset_logits(self, for_offset, velocity_bin):
        if for_offset.shape[0] > self.FEW:
            return super().offset_logits(for_offset, velocity_bin)
        inputs = for_offset, self.own_array, velocity_bin.numpy()
        return torch.from_numpy(cpu_kernels.offset_logits(*inputs, self.heads[1]))


class CpuDecoding(Decoding):
    """A Decoding of a model in float32 on a CPU, precision torch.float32 or int8, its layers compiled. Each
    thread runs rows of its own through them."""

    def __init__(self, model, batch_size, *arguments):
        super().__init__(model, batch_size, *arguments)
        self.cache = torch.stack(self.cache)
        self.cache_array = self.cache.unflatten(2, (len(self.x), model.decoder.n_head)).numpy()
        n_part = min(batch_size, torch.get_num_threads())
        # written anew in every step
        self.hidden = torch.empty_like(self.x)
        self.x_array, self.hidden_array = self.x.numpy(), self.hidden.numpy()
        self.no_features = np.empty((len(self.x), 0), np.float32)
        self.parts = [slice(part[0], part[-1] + 1) for part in np.array_split(range(len(self.x)), n_part)]

    def derive(self):
        """((Weights, Embedding), StepHeads), kept with the model as long as its weights stay the same."""
        model, decoder = self.model, self.model.decoder
        parts = decoder.layers, decoder.norm, decoder.embed, model.onset_head, model.hit_head, model.budget
        weights = [p for part in parts if part is not None for p in part.parameters()]
        cache = DerivedCache.of(model, "derived", fingerprint(weights))
        kind = self.precision, model.tells_steady and "steady" in self.guide.given
        if kind not in cache:
            heads = StepHeads(model.onset_head, model.hit_head, CpuVoiceHits)
            cache[kind] = weights_in(model, *kind), heads
        return cache[kind]

    def run_bar(self, conditioning, uniform, positions):
        cos, sin, slot, unseen = (table.numpy() for table in positions)
        cos, sin = (table.reshape(*table.shape[:2], -1) for table in (cos, sin))
        with workers(len(self.parts) - 1) as self.run_all:
            return super().run_bar(conditioning, uniform, (cos, sin, slot, unseen))

    def features(self, *rolls):
        return self.model.budget.features(*(roll.numpy() for roll in rolls))

    def step(self, x, modulation, features, position):
        features = self.no_features if features is None else features
        inputs, out = (self.x_array, modulation.contiguous().numpy(), features), self.hidden_array

        def run(rows):
            mine = (array[rows] for array in inputs)
            where = position, self.cache_array, rows.start
            cpu_kernels.run_layers(self.weights[0], EPS, *mine, *where, out[rows])

        self.run_all(run, *self.parts)
        return self.hidden

    def embed(self, *drums):
        cpu_kernels.embed(*self.weights[1], *(roll.numpy() for roll in drums), self.x_array)
        return self.x


@contextlib.contextmanager
def workers(n):
    """A function that does work(part) for each of n + 1 parts, the first in this thread, each other in one of
    its own."""
    with ThreadPoolExecutor(n) if n else contextlib.nullcontext() as pool:

        def run_all(work, first, *others):
            others = [pool.submit(work, part) for part in others]
            work(first)
            for other in others:
                other.result()

        yield run_all
