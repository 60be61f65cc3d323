"""The parts that encoder and decoder are made of.

Shapes: B batch, T steps, V voices (9), D model width, H heads, Z latent width, S steps in a bar, N bars (T / S).
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

NORM_EPS = 1e-5  # as in the published Phi-3
LONGEST_WRITTEN_OUT = 512  # steps, see attend


def rotary_table(positions, d_head, theta):
    """cos and sin of the rotary embedding (Su et al. 2021), each (len(positions), d_head), in the precision of the
    positions, float32 where they are whole numbers."""
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


class RMSNorm(nn.RMSNorm):
    """torch's, but where it learns on the CPU, for which torch has no kernel, with a third of the passes over x."""

    def forward(self, x):
        weight = self.weight.to(x.dtype)  # under autocast the fused kernel wants them alike
        if x.device.type == "cpu" and torch.is_grad_enabled():
            return LeanRMSNorm.apply(x, weight, self.eps)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


class LeanRMSNorm(torch.autograd.Function):
    """x (..., D), weight (D) -> x / sqrt(mean(x^2) + eps) * weight, with its gradient written out."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        norm = torch.linalg.vector_norm(
            x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)
        )
        scale = torch.rsqrt(norm.square() / x.shape[-1] + eps).to(x.dtype)
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        normed, scale, weight = ctx.saved_tensors
        by_normed = grad * normed
        # what a longer x would change is taken out of the gradient: only the direction of x counts
        along = (by_normed @ weight).unsqueeze(-1)
        grad_x = (grad * weight).addcmul_(normed, along, value=-1 / len(weight)).mul_(scale)
        return grad_x, by_normed.flatten(0, -2).sum(0), None


def attend(q, k, v, attention_mask, is_causal):
    """softmax(q k / sqrt(d)) v for q, k, v (B, H, T, d), by torch's kernel wherever that is the fastest.

    In bfloat16 on the CPU it takes several times as long, backward above all, as the few matrix products that it
    consists of, until T is so large that the scores no longer fit the cache.
    """
    on_cpu = q.device.type == "cpu" and q.dtype == torch.bfloat16
    if on_cpu and k.shape[-2] <= LONGEST_WRITTEN_OUT and (is_causal or attention_mask is not None):
        return attend_written_out(q, k, v, attention_mask, is_causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, is_causal=is_causal)


def attend_written_out(q, k, v, attention_mask, is_causal):
    """scaled_dot_product_attention, matrix product by matrix product."""
    if is_causal:
        attention_mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    hidden = q.new_zeros(attention_mask.shape).masked_fill(~attention_mask, -torch.inf)
    scores = torch.add(hidden, q @ k.transpose(-2, -1), alpha=q.shape[-1] ** -0.5)
    return scores.softmax(-1) @ v


class Dropout(nn.Module):
    """nn.Dropout, with the chance drawn four elements at a time where drawing is slow, on the CPU.

    There every element gets 16 random bits, so `p` is met to 1/65536, and what is kept is scaled by the true
    share. As everywhere in torch, torch.manual_seed decides, and the number of threads does not.
    """

    def __init__(self, p):
        super().__init__()
        self.p = p
        self.threshold = min(round(p * 65536), 65535)

    def forward(self, x):
        if x.device.type != "cpu" or not self.training or self.threshold == 0:
            return F.dropout(x, self.p, self.training)
        bits = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 4),)).view(torch.int16)
        # ones and zeros in x's own precision: products of unlike types are slow
        kept = torch.ge(bits[: x.numel()].view(x.shape), self.threshold - 32768, out=torch.empty_like(x))
        return x * kept * (65536 / (65536 - self.threshold))

    def extra_repr(self):
        return f"p={self.p}"


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
        """x (B, T, D) -> (B, T, D). `attention_mask` (broadcast to (B, H, T, T), True = may look) or `is_causal`."""
        B, T, D = x.shape
        qk, v = self.qkv_proj(x).split((2 * D, D), dim=-1)
        q, k = rotate(qk, *rotary).view(B, T, 2, self.n_head, self.d_head).permute(2, 0, 3, 1, 4)
        v = v.view(B, T, self.n_head, self.d_head).transpose(1, 2)
        y = attend(q, k, v, attention_mask, is_causal)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, D))

    def step(self, x, weights, cache, place):
        """The same of the one step x (B, D), whose key and value are written into the cache (2, B H, W, D/H).

        weights: of the two matrices, in any precision; place: where the step is, see Phi3Decoder.positions. In few
        operations: of one step their number is most of the time.
        """
        qkv_weight, o_weight = weights
        cos, sin, slot, unseen = place
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
        """The four matrices in that precision, for `step`."""
        return [matrix.to(dtype) for matrix in self.matrices()]

    def step(self, x, weights, cache, place):
        """One step in eval mode, x (B, D) -> (B, D), see Attention.step."""
        x = x + self.self_attn.step(self.input_layernorm(x), weights[:2], cache, place)
        return x + self.mlp.step(self.post_attention_layernorm(x), weights[2:])


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
