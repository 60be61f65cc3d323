"""The causal decoder: Phi-3 blocks, told the condition before each layer, and its static KV cache.

Shapes: B batch, T steps, D model width, H heads, C condition width, L layers, V voices, S steps in a bar.
"""

import torch
import torch.nn as nn

from model.layers import NORM_EPS, Block, Dropout, RMSNorm, RollEmbedding, rotary_table


def attention_band(T, window, device, causal):
    """(T, T), True where step i may look at step j: at most window - 1 steps away, ahead only if not causal."""
    distance = torch.arange(T, device=device)[:, None] - torch.arange(T, device=device)[None, :]
    if causal:
        return (distance >= 0) & (distance < window)
    return distance.abs() < window


def modulate(x, told):
    """What a layer reads of x (..., D): told (..., D) is added; of told (..., 2D) the second half first scales x."""
    shift, *scale = told.split(x.shape[-1], dim=-1)
    return torch.addcmul(x + shift, x, *scale) if scale else x + shift


class Phi3Decoder(nn.Module):
    """Reads what was played, is told the condition at every layer and step (in-attention, after MuseMorphose:
    Wu & Yang 2021; with film it also scales what the layer reads, after Perez et al. 2018), and gives the hidden
    state that the heads turn into the next step. P: the width of what is told, D, or 2D with film."""

    def __init__(
        self, n_voice, d_model, n_layer, n_head, d_ff, dropout, rope_theta, window, d_condition, film
    ):
        super().__init__()
        self.d_model, self.n_layer, self.n_head = d_model, n_layer, n_head
        self.d_modulation = 2 * d_model if film else d_model
        self.rope_theta, self.window = rope_theta, window
        self.embed = RollEmbedding(n_voice, d_model)
        self.start = nn.Parameter(torch.zeros(d_model))
        # the projections of all layers in one matrix: at decoding they are done once for all steps
        self.in_attention = nn.Linear(d_condition, n_layer * self.d_modulation)
        self.layers = nn.ModuleList(Block(d_model, n_head, d_ff, dropout) for _ in range(n_layer))
        self.norm = RMSNorm(d_model, eps=NORM_EPS)
        self.dropout = Dropout(dropout)

    def project_condition(self, condition):
        """condition (B, T, C) -> what each layer is told, (B, T, L, P)."""
        return self.in_attention(condition).unflatten(-1, (self.n_layer, self.d_modulation))

    def embed_previous(self, onset, vel, timeoffset):
        """Rolls (B, T, V) of what is played -> (B, T, D), where step t tells of step t - 1."""
        played = self.embed(onset, vel, timeoffset)[:, :-1]
        start = self.start.to(played.dtype).expand(played.shape[0], 1, -1)
        return torch.cat((start, played), dim=1)

    def forward(self, x, modulation):
        """x (B, T, D), modulation (B, T, L, P) -> hidden states (B, T, D), each of the steps up to its own."""
        T = x.shape[1]
        rotary = rotary_table(torch.arange(T, device=x.device), self.d_model // self.n_head, self.rope_theta)
        if T > self.window:
            attention = {"attention_mask": attention_band(T, self.window, x.device, causal=True)}
        else:
            attention = {"is_causal": True}
        x = self.dropout(x)
        for layer, told in zip(self.layers, modulation.unbind(2)):
            x = layer(modulate(x, told), rotary, **attention)
        return self.norm(x)

    def empty_cache(self, batch_size):
        """For each layer the keys and values of the last `window` steps, a ring: L of (2, B H, W, D/H)."""
        shape = (2, batch_size * self.n_head, self.window, self.d_model // self.n_head)
        return [self.start.new_zeros(shape) for _ in self.layers]

    def positions(self, first, n):
        """Where the n steps from `first` (counted from 0) are, as `step` wants to be told, each with n rows: cos and
        sin of query, key and value in one (values do not turn, queries are scaled), the slot in the ring, and what
        is added to the scores of the ring's slots: 0, or minus infinity where no step has been yet."""
        d_head = self.d_model // self.n_head
        position = torch.arange(first, first + n)
        cos, sin = rotary_table(position.double(), d_head, self.rope_theta)  # a stream may run for days
        cos, sin = (table.view(n, 1, 1, 2, d_head // 2) for table in (cos, sin))
        sin = torch.cat((-sin[..., :1, :], sin[..., 1:, :]), dim=-2)
        scale = d_head**-0.5
        cos = torch.cat((scale * cos, cos, torch.ones_like(cos)), dim=1)
        sin = torch.cat((scale * sin, sin, torch.zeros_like(sin)), dim=1)
        unseen = torch.zeros(n, self.window).masked_fill(
            torch.arange(self.window) > position[:, None], -torch.inf
        )
        cos, sin, unseen = (table.to(self.start) for table in (cos, sin, unseen))
        return cos, sin, (position % self.window)[:, None].to(self.start.device), unseen

    def step(self, x, modulation, weights, cache, place):
        """One step: x (B, D), modulation (B, L, P), weights: of each layer, see Block.weights, one row of `positions` ->
        hidden (B, D). Same numbers as forward."""
        for i, layer in enumerate(self.layers):
            x = layer.step(modulate(x, modulation[:, i]), weights[i], cache[i], place)
        return self.norm(x)
