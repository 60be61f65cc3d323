"""Operations that train faster on a CPU than torch's own. On other devices they are torch's.

Shapes: B batch, T steps, D model width, H heads, d = D / H.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

LONGEST_WRITTEN_OUT = 512  # steps, see attend


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm. While training on the CPU, for which torch has no kernel, with a third of the passes over
    x."""

    def forward(self, x):
        weight = self.weight.to(x.dtype)  # under autocast the fused kernel wants one precision
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
        # the gradient has no part along x, since only the direction of x counts
        along = (by_normed @ weight).unsqueeze(-1)
        grad_x = (grad * weight).addcmul_(normed, along, value=-1 / len(weight)).mul_(scale)
        return grad_x, by_normed.flatten(0, -2).sum(0), None


class Dropout(nn.Module):
    """nn.Dropout. On the CPU, where drawing random numbers is slow, one number serves four elements.

    There every element gets 16 random bits, so `p` is met to 1/65536, and kept elements are scaled by the
    true share. torch.manual_seed decides what is dropped, whatever the number of threads.
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


def attend(q, k, v, attention_mask, is_causal):
    """softmax(q k / sqrt(d)) v for q, k, v (B, H, T, d), by torch's kernel wherever that is fastest.

    In bfloat16 on the CPU the kernel takes several times as long, above all backward, as its few matrix
    products by themselves, until T is so large that the scores no longer fit the cache.
    """
    on_cpu = q.device.type == "cpu" and q.dtype == torch.bfloat16
    if on_cpu and k.shape[-2] <= LONGEST_WRITTEN_OUT and (is_causal or attention_mask is not None):
        return attend_written_out(q, k, v, attention_mask, is_causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, is_causal=is_causal)


def attend_written_out(q, k, v, attention_mask, is_causal):
    """scaled_dot_product_attention as separate matrix products."""
    if is_causal:
        attention_mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    hidden = q.new_zeros(attention_mask.shape).masked_fill(~attention_mask, -torch.inf)
    scores = torch.add(hidden, q @ k.transpose(-2, -1), alpha=q.shape[-1] ** -0.5)
    return scores.softmax(-1) @ v
