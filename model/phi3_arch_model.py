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

    def targets(self, position_in_bar, density, intensity, instrument):
        """What does not depend on what is played: position_in_bar (...) from 0; density, intensity (...) z-scores and
        instrument (..., V) shares, NaN = unset -> (..., 6 + 2V) for `features`."""
        has_density, has_intensity, has_voice = ~density.isnan(), ~intensity.isnan(), ~instrument.isnan()
        mean, std = self.normalize_factor["density"]
        wanted_hits = ((density.nan_to_num() * std + mean) * self.cells).clamp(0, self.cells)
        mean, std = self.normalize_factor["intensity"]
        wanted_vel = (intensity.nan_to_num() * std + mean).clamp(0, 1)
        wanted_voice = instrument.nan_to_num().clamp(0, 1) * self.steps_per_bar
        steps_left = (self.steps_per_bar - position_in_bar).to(density.dtype).expand_as(density)
        scalars = (
            wanted_hits,
            wanted_vel,
            has_density,
            has_intensity,
            has_density & has_intensity,
            steps_left,
        )
        scalars = torch.stack([scalar.to(density.dtype) for scalar in scalars], dim=-1)
        return torch.cat((scalars, wanted_voice, has_voice.to(density.dtype)), dim=-1)

    def features(self, asked, played_onset, played_vel):
        """asked: see above; played_onset, played_vel (..., V): sums over the bar's earlier steps -> (..., 7 + 3V)."""
        n_voice = played_onset.shape[-1]
        scalars = (asked[..., i, None] for i in range(6))
        wanted_hits, wanted_vel, has_density, has_intensity, has_both, steps_left = scalars
        wanted_voice, has_voice = asked[..., 6 : 6 + n_voice], asked[..., 6 + n_voice :]
        hits, vel = played_onset.sum(-1)[..., None], played_vel.sum(-1)[..., None]

        hits_over = wanted_hits - hits
        hits_left = hits_over * has_density
        voice_left = (wanted_voice - played_onset) * has_voice
        deficit = (wanted_vel * hits - vel) * has_intensity
        needed_vel = (wanted_vel * wanted_hits - vel) / hits_over.clip(min=1)
        features = (
            hits_left / 8,
            hits_left / steps_left,
            deficit,
            deficit / (hits + 1),
            needed_vel.clip(-0.5, 1.5) * has_both,
            has_density,
            steps_left / self.steps_per_bar,
            voice_left / 4,
            voice_left / steps_left,
            has_voice,
        )
        return torch.cat(features, -1)

    def forward(self, features):
        return self.mlp(features)


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
