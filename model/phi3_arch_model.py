"""The causal decoder: Phi-3 blocks with the condition added before each layer, and their static kv cache.

Shapes: B batch, T steps, D model width, H heads, C condition width, L layers, V voices, W steps of the
attention window, P width of a layer's modulation: D, or 2D with film.
"""

import torch
import torch.nn as nn

from model.cpu_training import Dropout, RMSNorm
from model.layers import NORM_EPS, Block, RollEmbedding, rotary_table


def attention_band(T, window, device, causal):
    """(T, T), True where step i attends to step j: less than window steps away, ahead only if not causal."""
    distance = torch.arange(T, device=device)[:, None] - torch.arange(T, device=device)[None, :]
    if causal:
        return (distance >= 0) & (distance < window)
    return distance.abs() < window


def modulate(x, modulation):
    """The input of a layer: x (..., D) plus modulation (..., D); with film, modulation (..., 2D), the second
    half also scales x."""
    shift, *scale = modulation.split(x.shape[-1], dim=-1)
    return torch.addcmul(x + shift, x, *scale) if scale else x + shift


class Phi3Decoder(nn.Module):
    """Reads the drums so far and gives the hidden state from which the heads draw the next step.

    The condition modulates the input of every layer at every step (in-attention, after MuseMorphose: Wu &
    Yang 2021; with film also by scaling, after Perez et al. 2018).
    """

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
        """condition (B, T, C) -> the modulation of each layer, (B, T, L, P)."""
        return self.in_attention(condition).unflatten(-1, (self.n_layer, self.d_modulation))

    def embed_previous(self, onset, vel, timeoffset):
        """Rolls (B, T, V) of the drums -> (B, T, D), where step t holds step t - 1."""
        embedded = self.embed(onset, vel, timeoffset)[:, :-1]
        start = self.start.to(embedded.dtype).expand(embedded.shape[0], 1, -1)
        return torch.cat((start, embedded), dim=1)

    def forward(self, x, modulation):
        """x (B, T, D), modulation (B, T, L, P) -> hidden states (B, T, D), each from the steps up to its
        own."""
        T = x.shape[1]
        rotary = rotary_table(torch.arange(T, device=x.device), self.d_model // self.n_head, self.rope_theta)
        if T > self.window:
            attention = {"attention_mask": attention_band(T, self.window, x.device, causal=True)}
        else:
            attention = {"is_causal": True}
        x = self.dropout(x)
        for layer, of_layer in zip(self.layers, modulation.unbind(2)):
            x = layer(modulate(x, of_layer), rotary, **attention)
        return self.norm(x)

    def empty_cache(self, batch_size):
        """The kv cache: for each layer the keys and values of the last W steps, a ring, (2, B H, W, D/H)."""
        shape = (2, batch_size * self.n_head, self.window, self.d_model // self.n_head)
        return [self.start.new_zeros(shape) for _ in self.layers]

    def positions(self, first, n):
        """What `step` needs to know of the positions of n steps from `first`, counted from 0; n rows each:
        cos and sin of query, key and value together (values are not rotated, queries are scaled), the slot in
        the ring, and what is added to the scores of the ring's slots: 0, or minus infinity where no step has
        been written yet."""
        d_head = self.d_model // self.n_head
        device = self.start.device  # where all is made: a GPU is not waited for
        position = torch.arange(first, first + n, device=device)
        exact = torch.float32 if device.type == "mps" else torch.float64  # a stream may run for days
        cos, sin = rotary_table(position.to(exact), d_head, self.rope_theta)
        cos, sin = (table.view(n, 1, 1, 2, d_head // 2) for table in (cos, sin))
        sin = torch.cat((-sin[..., :1, :], sin[..., 1:, :]), dim=-2)
        scale = d_head**-0.5
        cos = torch.cat((scale * cos, cos, torch.ones_like(cos)), dim=1)
        sin = torch.cat((scale * sin, sin, torch.zeros_like(sin)), dim=1)
        ahead = torch.arange(self.window, device=device) > position[:, None]
        unseen = torch.zeros(n, self.window, device=device).masked_fill(ahead, -torch.inf)
        cos, sin, unseen = (table.to(self.start.dtype) for table in (cos, sin, unseen))
        return cos, sin, (position % self.window)[:, None], unseen

    def step(self, x, modulation, weights, cache, position):
        """forward for one step: x (B, D), modulation (B, L, P), weights: Block.weights of each layer, cache:
        see empty_cache, position: one row of `positions` -> hidden (B, D)."""
        for i, layer in enumerate(self.layers):
            x = layer.step(modulate(x, modulation[:, i]), weights[i], cache[i], position)
        return self.norm(x)
