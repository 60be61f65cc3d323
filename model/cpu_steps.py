"""The decoder's steps on a CPU, in NumPy over buffers that stay where they are.

A step is some hundreds of small operations between a few matrices, and NumPy begins one in a third of the time that
torch needs; the matrices are torch's. Shapes: R rows, D model width, H heads, W steps in the ring, L layers, V voices.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from model.layers import NORM_EPS


class Int8(NamedTuple):
    """A matrix (n_in, n_out) in 8 bits: whole numbers (n_out, n_in) int8, times a scale (n_out) for each column, which is
    in bfloat16, as what it is multiplied with must be."""

    numbers: torch.Tensor
    scale: torch.Tensor

    dtype = torch.bfloat16

    @property
    def shape(self):
        return self.numbers.T.shape

    @staticmethod
    def of(matrix):
        """Of a matrix (n_out, n_in) float32; docs/experiments.md has what the rounding costs."""
        scale = (matrix.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
        return Int8((matrix / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale)


class Product:
    """R rows times a matrix: `run` makes y (R, n_out) of what was written into x (R, n_in), both float32."""

    def __init__(self, matrix, rows, bias=None):
        """matrix (n_in, n_out) in any precision, or Int8; bias (n_out) float32, or None."""
        n_in, n_out = matrix.shape
        self.matrix, self.bias = matrix, bias
        self.x, self.y = np.zeros((rows, n_in), np.float32), np.zeros((rows, n_out), np.float32)
        self.wide = torch.from_numpy(self.x), torch.from_numpy(self.y)
        # in the matrix's precision: these very tensors, or others to convert to and from
        self.into, self.out = (tensor.to(matrix.dtype) for tensor in self.wide)

    def run(self):
        if isinstance(self.matrix, Int8):
            self.wide[1].copy_(torch._weight_int8pack_mm(self.into.copy_(self.wide[0]), *self.matrix))
        elif self.into is self.wide[0]:
            torch.mm(self.into, self.matrix, out=self.out)
        else:
            torch.mm(self.into.copy_(self.wide[0]), self.matrix, out=self.out)
            self.wide[1].copy_(self.out)
        if self.bias is not None:
            self.y += self.bias
        return self.y


class CpuLayer:
    """Block.step of R rows, with its buffers."""

    def __init__(self, matrices, cache, n_head):
        """matrices: of Matrices.layers; cache (2, R H, W, D/H)."""
        _, heads, window, d_head = cache.shape
        rows = heads // n_head
        self.qkv, self.o, self.gate_up, self.down = (Product(matrix, rows) for matrix in matrices)
        self.pairs = self.qkv.y.reshape(rows, 3, n_head, 2, d_head // 2)
        self.swapped = self.pairs[..., ::-1, :]
        self.seen = self.o.x.reshape(rows, n_head, 1, d_head)
        self.cache = cache.numpy().reshape(2, rows, n_head, window, d_head)
        self.gate, self.up = self.gate_up.wide[1].chunk(2, dim=-1)

    def step(self, x, place):
        """x (R, D), to which the layer adds its own; place: of Phi3Decoder.places."""
        normed(x, self.qkv.x)
        self.qkv.run()
        self.attend(*place)
        x += self.o.run()
        normed(x, self.gate_up.x)
        self.gate_up.run()
        torch.mul(F.silu(self.gate), self.up, out=self.down.wide[0])
        x += self.down.run()

    def attend(self, cos, sin, slot, unseen):
        """Of the step's query, key and value, in `pairs`, what its heads see, into `seen`."""
        rows, n_head, _, d_head = self.seen.shape
        turned = (self.pairs * cos + self.swapped * sin).reshape(rows, 3, n_head, d_head)
        self.cache[:, :, :, slot[0]] = turned[:, 1:].swapaxes(0, 1)
        keys, values = self.cache
        scores = np.matmul(turned[:, 0, :, None], keys.swapaxes(2, 3))
        scores += unseen
        np.matmul(torch.from_numpy(scores).softmax(-1).numpy(), values, out=self.seen)


def normed(x, out):
    """RMSNorm without its weight, which is in the matrix that follows: x (R, D), into out."""
    square = np.matmul(x[:, None], x[:, :, None])[:, 0]
    np.divide(x, np.sqrt(square / x.shape[1] + NORM_EPS), out=out)


def laid_out(matrix, precision):
    """matrix (n_out, n_in) transposed, in that precision, in memory as it is read the fastest: in float32 in lines as
    long as can be, else in those of n_in."""
    if precision == torch.int8:
        return Int8.of(matrix.detach())
    matrix = matrix.detach().to(precision)
    turn = precision == torch.float32 and matrix.shape[0] > matrix.shape[1]
    return matrix.T.contiguous() if turn else matrix.contiguous().T


class Matrices:
    """All matrices that a step reads, laid out in a precision, each with the weight of the norm before it, if any."""

    def __init__(self, model, precision):
        self.layers = []
        for layer in model.decoder.layers:
            qkv, o, gate_up, down = layer.matrices()
            qkv, gate_up = qkv * layer.input_layernorm.weight, gate_up * layer.post_attention_layernorm.weight
            self.layers.append([laid_out(matrix, precision) for matrix in (qkv, o, gate_up, down)])
        embed, budget = model.decoder.embed, model.budget
        rolls = embed.onset, embed.vel, embed.timeoffset
        self.rolls = laid_out(torch.block_diag(*(roll.weight for roll in rolls)), torch.float32)
        self.rolls_bias = torch.cat([roll.bias for roll in rolls]).detach().numpy()
        self.mix = laid_out(embed.mix.weight, precision)
        head = model.onset_head
        weights, biases = [head.base.weight], [head.base.bias]
        if head.pair is not None:
            below = head.below.flatten()
            weights, biases = [*weights, head.pair.weight * below[:, None]], [*biases, head.pair.bias * below]
        self.onset, self.onset_bias = laid_out(torch.cat(weights), torch.float32), torch.cat(biases).detach().numpy()
        if budget is not None:
            self.features = laid_out(budget.mlp[0].weight, torch.float32)
            self.budget = laid_out(budget.mlp[2].weight, precision)


class CpuSteps:
    """What a step does before the heads, of R rows: see DrumVAE.add_budget, RollEmbedding and Phi3Decoder.step."""

    def __init__(self, model, matrices, cache):
        """cache: Phi3Decoder.empty_cache, which the steps write."""
        rows = len(cache[0][0]) // model.decoder.n_head
        self.layers = [CpuLayer(*of_layer, model.decoder.n_head) for of_layer in zip(matrices.layers, cache)]
        self.norm = model.decoder.norm.weight.detach().numpy()
        self.rolls = Product(matrices.rolls, rows, matrices.rolls_bias)
        self.mix = Product(matrices.mix, rows, model.decoder.embed.mix.bias.detach().numpy())
        self.onset = Product(matrices.onset, rows, matrices.onset_bias)
        self.n_voice = model.onset_head.n_voice
        self.budget = model.budget
        if self.budget is not None:
            into, _, out = model.budget.mlp
            self.features = Product(matrices.features, rows, into.bias.detach().numpy())
            self.told = Product(matrices.budget, rows, out.bias.detach().numpy())

    def embed(self, onset, vel, timeoffset):
        """Rolls (R, V) of a step -> (R, D)."""
        np.concatenate((onset.numpy(), vel.numpy(), timeoffset.numpy()), -1, out=self.rolls.x)
        self.rolls.run()
        self.mix.wide[0].copy_(F.silu(self.rolls.wide[1]))
        return torch.from_numpy(self.mix.run().copy())

    def add_budget(self, added, asked, played_onset, played_vel):
        """added (R, L, P) plus what the remaining budget says to each layer."""
        if self.budget is None:
            return added
        played = played_onset.numpy(), played_vel.numpy()
        self.features.x[:] = self.budget.features(asked.numpy(), *played, concatenate=np.concatenate)
        self.features.run()
        self.told.wide[0].copy_(F.silu(self.features.wide[1]))
        return torch.from_numpy(self.told.run().reshape(added.shape) + added.numpy())

    def step(self, x, added, place):
        """x (R, D), added (R, L, P), one row of Phi3Decoder.places -> hidden (R, D)."""
        x, told = x.numpy().copy(), added.numpy()
        shift, scale = told[..., : x.shape[1]], 1 + told[..., x.shape[1] :]
        place = [table.numpy() for table in place]
        for i, layer in enumerate(self.layers):
            if scale.size:
                x *= scale[:, i]
            x += shift[:, i]
            layer.step(x, place)
        normed(x, x)
        return torch.from_numpy(x * self.norm)

    def onset_parts(self, hidden):
        """See OnsetChain.parts."""
        self.onset.x[:] = hidden.numpy()
        base, pair = torch.from_numpy(self.onset.run()).tensor_split((self.n_voice,), dim=-1)
        if not pair.numel():
            return base, pair.new_zeros(len(base), self.n_voice, self.n_voice)
        return base, pair.unflatten(-1, (self.n_voice, self.n_voice))


class TorchSteps:
    """The same on any device, in operations of torch alone."""

    def __init__(self, model, weights, cache):
        """weights: Block.weights of each layer."""
        self.decoder, self.weights, self.cache = model.decoder, weights, cache
        self.embed, self.add_budget = model.decoder.embed, model.add_budget
        self.onset_parts = model.onset_head.parts

    def step(self, x, added, place):
        return self.decoder.step(x, added, self.weights, self.cache, place)
