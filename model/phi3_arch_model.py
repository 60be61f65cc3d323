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


def played_before(x, steps_per_bar):
    """x (B, T, V), T whole bars -> sums over the earlier steps of the same bar, (B, T, V)."""
    B, T, V = x.shape
    bars = x.view(B, T // steps_per_bar, steps_per_bar, V)
    return (bars.cumsum(2) - bars).view(B, T, V)


class Budget(nn.Module):
    """What the user asked of the bar, less what was played of it so far: exact, causal, cheap.

    Features per step, each present only where its control is set: hits left (in all, and per voice), the
    same per step that is left, the running deficit of velocity, and the mean velocity that the remaining
    hits would need.
    """

    def __init__(self, n_voice, steps_per_bar, normalize_factor, d_hidden, d_out):
        super().__init__()
        self.steps_per_bar = steps_per_bar
        self.cells = n_voice * steps_per_bar
        self.normalize_factor = normalize_factor
        self.mlp = nn.Sequential(nn.Linear(7 + 3 * n_voice, d_hidden), nn.SiLU(), nn.Linear(d_hidden, d_out))

    def features(self, played_onset, played_vel, position_in_bar, density, intensity, instrument):
        """played_onset, played_vel (..., V): sums over the bar's earlier steps; position_in_bar (...) from 0;
        density, intensity (...) z-scores and instrument (..., V) shares, NaN = unset -> (..., 7 + 3V)."""
        hits, vel = played_onset.sum(-1), played_vel.sum(-1)
        steps_left = (self.steps_per_bar - position_in_bar).to(hits.dtype).expand_as(hits)

        has_density, has_intensity, has_voice = ~density.isnan(), ~intensity.isnan(), ~instrument.isnan()
        mean, std = self.normalize_factor["density"]
        wanted_hits = ((density.nan_to_num() * std + mean) * self.cells).clamp(0, self.cells)
        mean, std = self.normalize_factor["intensity"]
        wanted_vel = (intensity.nan_to_num() * std + mean).clamp(0, 1)
        wanted_voice = instrument.nan_to_num().clamp(0, 1) * self.steps_per_bar

        hits_left = (wanted_hits - hits) * has_density
        voice_left = (wanted_voice - played_onset) * has_voice
        deficit = (wanted_vel * hits - vel) * has_intensity
        needed_vel = (wanted_vel * wanted_hits - vel) / (wanted_hits - hits).clamp(min=1)
        needed_vel = needed_vel.clamp(-0.5, 1.5) * (has_density & has_intensity)
        scalars = (
            hits_left / 8,
            hits_left / steps_left,
            deficit,
            deficit / (hits + 1),
            needed_vel,
            has_density.to(hits.dtype),
            steps_left / self.steps_per_bar,
        )
        per_voice = (voice_left / 4, voice_left / steps_left.unsqueeze(-1), has_voice.to(hits.dtype))
        return torch.cat((torch.stack(scalars, dim=-1), *per_voice), dim=-1)

    def forward(self, features):
        return self.mlp(features)


class Phi3Decoder(nn.Module):
    """Reads what was played, is told the condition at every layer and step (in-attention, after
    MuseMorphose: Wu & Yang 2021), and gives the hidden state that the heads turn into the next step."""

    def __init__(self, n_voice, d_model, n_layer, n_head, d_ff, dropout, rope_theta, window, d_condition):
        super().__init__()
        self.d_model, self.n_layer, self.n_head = d_model, n_layer, n_head
        self.rope_theta, self.window = rope_theta, window
        self.embed = RollEmbedding(n_voice, d_model)
        self.start = nn.Parameter(torch.zeros(d_model))
        # the projections of all layers in one matrix: at decoding they are done once for all steps
        self.in_attention = nn.Linear(d_condition, n_layer * d_model)
        self.layers = nn.ModuleList(Block(d_model, n_head, d_ff, dropout) for _ in range(n_layer))
        self.norm = RMSNorm(d_model, eps=NORM_EPS)
        self.dropout = Dropout(dropout)

    def project_condition(self, condition):
        """condition (B, T, C) -> what each layer adds, (B, T, L, D)."""
        return self.in_attention(condition).unflatten(-1, (self.n_layer, self.d_model))

    def embed_previous(self, onset, vel, timeoffset):
        """Rolls (B, T, V) of what is played -> (B, T, D), where step t tells of step t - 1."""
        played = self.embed(onset, vel, timeoffset)[:, :-1]
        start = self.start.to(played.dtype).expand(played.shape[0], 1, -1)
        return torch.cat((start, played), dim=1)

    def forward(self, x, added):
        """x (B, T, D), added (B, T, L, D) -> hidden states (B, T, D), each of the steps up to its own."""
        T = x.shape[1]
        rotary = rotary_table(torch.arange(T, device=x.device), self.d_model // self.n_head, self.rope_theta)
        if T > self.window:
            attention = {"attention_mask": attention_band(T, self.window, x.device, causal=True)}
        else:
            attention = {"is_causal": True}
        x = self.dropout(x)
        for layer, told in zip(self.layers, added.unbind(2)):
            x = layer(x + told, rotary, **attention)
        return self.norm(x)

    def empty_cache(self, batch_size, T):
        """Static buffers for T steps: a (keys, values) pair of (B, H, T, D/H) for each layer, and the rotary table."""
        weight = self.start
        shape = (batch_size, self.n_head, T, self.d_model // self.n_head)
        buffers = [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in self.layers]
        positions = torch.arange(T, device=weight.device)
        return buffers, rotary_table(positions, self.d_model // self.n_head, self.rope_theta)

    def step(self, x, added, cache, position):
        """One step: x (B, 1, D), added (B, L, D), `position` from 0 -> hidden (B, D). Same numbers as forward."""
        buffers, (cos, sin) = cache
        rotary = cos[position : position + 1], sin[position : position + 1]
        for i, layer in enumerate(self.layers):
            x = layer(x + added[:, None, i], rotary, cache=buffers[i], position=position, window=self.window)
        return self.norm(x)[:, 0]
