"""The parts that encoder and decoder are made of.

Shapes: B batch, T steps, V voices (9), D model width, H heads, W steps of the attention window.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from model.cpu_training import Dropout, RMSNorm, attend

NORM_EPS = 1e-5  # as in the published Phi-3


def rotary_table(positions, d_head, theta):
    """cos and sin of the rotary embedding (Su et al. 2021), each (len(positions), d_head), in the precision
    of the positions; float32 for integers."""
    positions = positions if positions.is_floating_point() else positions.float()
    inverse_frequency = theta ** (
        -torch.arange(0, d_head, 2, device=positions.device).to(positions.dtype) / d_head
    )
    angle = positions[:, None] * inverse_frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Rotate x (B, T, n D/H), whole heads side by side, by its positions; the two halves of a head are the
    pairs, as in Phi-3."""
    d_head = cos.shape[-1]
    n = x.shape[-1] // d_head
    other_half = x.unflatten(-1, (n, d_head)).roll(d_head // 2, dims=-1).flatten(-2)
    # the first half is cos a - sin b, the second sin a + cos b
    sin = torch.cat((-sin[:, : d_head // 2], sin[:, d_head // 2 :]), dim=-1)
    return x * cos.repeat(1, n).to(x.dtype) + other_half * sin.repeat(1, n).to(x.dtype)


def linear(x, weight):
    """x (..., D) times the matrix in the matrix's precision, the product in that of x."""
    return F.linear(x.to(weight.dtype), weight).to(x.dtype)


class Attention(nn.Module):
    """Self-attention with one fused query-key-value matrix and rotary positions."""

    def __init__(self, d_model, n_head):
        super().__init__()
        self.n_head, self.d_head = n_head, d_model // n_head
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, rotary, attention_mask=None, is_causal=False):
        """x (B, T, D) -> (B, T, D). `attention_mask` (broadcast to (B, H, T, T), True = attend) or
        `is_causal`."""
        B, T, D = x.shape
        qk, v = self.qkv_proj(x).split((2 * D, D), dim=-1)
        q, k = rotate(qk, *rotary).view(B, T, 2, self.n_head, self.d_head).permute(2, 0, 3, 1, 4)
        v = v.view(B, T, self.n_head, self.d_head).transpose(1, 2)
        y = attend(q, k, v, attention_mask, is_causal)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, D))

    def step(self, x, weights, cache, position):
        """forward for one step x (B, D), which writes its key and value into the kv cache (2, B H, W, D/H).

        weights: the two matrices, in any precision; position: one row of Phi3Decoder.positions. In few
        operations: at one step their number takes most of the time.
        """
        qkv_weight, o_weight = weights
        cos, sin, slot, unseen = position
        B, D = x.shape
        qkv = linear(x, qkv_weight).view(B, 3, self.n_head, 2, self.d_head // 2)
        qkv = torch.addcmul(qkv * cos, qkv.flip(-2), sin).view(B, 3, self.n_head, 1, self.d_head)
        cache.index_copy_(2, slot, qkv[:, 1:].transpose(0, 1).reshape(2, -1, 1, self.d_head))
        keys, values = cache
        q = qkv[:, 0].reshape(-1, 1, self.d_head)
        y = torch.baddbmm(unseen, q, keys.transpose(1, 2)).softmax(-1) @ values
        return linear(y.view(B, D), o_weight)


class SwiGLU(nn.Module):
    """Gated MLP with gate and up projection fused (Shazeer 2020)."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.gate_up_proj = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.down_proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(up * F.silu(gate))

    def step(self, x, weights):
        gate_up_weight, down_weight = weights
        gate, up = linear(x, gate_up_weight).chunk(2, dim=-1)
        return linear(up * F.silu(gate), down_weight)


class Block(nn.Module):
    """The Phi-3 block (Abdin et al. 2024): pre-norm attention and pre-norm SwiGLU, each on the residual.

    The decoder runs it causally, the encoder in both directions.
    """

    def __init__(self, d_model, n_head, d_ff, dropout):
        super().__init__()
        self.input_layernorm = RMSNorm(d_model, eps=NORM_EPS)
        self.self_attn = Attention(d_model, n_head)
        self.post_attention_layernorm = RMSNorm(d_model, eps=NORM_EPS)
        self.mlp = SwiGLU(d_model, d_ff)
        self.dropout = Dropout(dropout)

    def forward(self, x, rotary, **attention):
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), rotary, **attention))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))

    def matrices(self):
        """The four matrices, (n_out, n_in) each, in the order in which `step` takes them."""
        parts = self.self_attn.qkv_proj, self.self_attn.o_proj, self.mlp.gate_up_proj, self.mlp.down_proj
        return [part.weight for part in parts]

    def weights(self, dtype):
        """The four matrices in the given precision, for `step`."""
        return [matrix.to(dtype) for matrix in self.matrices()]

    def step(self, x, weights, cache, position):
        """One step in eval mode, x (B, D) -> (B, D), see Attention.step."""
        x = x + self.self_attn.step(self.input_layernorm(x), weights[:2], cache, position)
        return x + self.mlp.step(self.post_attention_layernorm(x), weights[2:])


def zero_embedding(n, d):
    """An embedding of n ids that begins at zero: a model that was trained without it plays as before."""
    embedding = nn.Embedding(n, d)
    nn.init.zeros_(embedding.weight)
    return embedding


class RollEmbedding(nn.Module):
    """Onsets, velocities and offsets, each projected, concatenated, and projected to the model's width."""

    def __init__(self, n_channel, d_model):
        super().__init__()
        self.onset = nn.Linear(n_channel, d_model)
        self.vel = nn.Linear(n_channel, d_model)
        self.timeoffset = nn.Linear(n_channel, d_model)
        self.mix = nn.Linear(3 * d_model, d_model)

    def forward(self, onset, vel, timeoffset):
        parts = (self.onset(onset), self.vel(vel), self.timeoffset(timeoffset))
        return self.mix(F.silu(torch.cat(parts, dim=-1)))
