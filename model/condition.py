"""What the decoder is conditioned on: controls, latent, place in the bar, and the budget that is left.

Shapes: B batch, T steps, N bars, L steps of the longest bar, V voices (9), D width of the encoder, Z latent
width, C condition width, d control width.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from model.controls import CONTROLS, PHRASE, RHYTHM_KINDS, cells
from model.layers import zero_embedding
from model.meter import MeterEmbedding

STEADY_FEATURES = 9  # of the remaining budget of `steady`, beside those of each voice


class ScalarControl(nn.Module):
    """Embeds one number per step, (B, T) -> (B, T, d); NaN has a learned embedding of its own."""

    def __init__(self, d_control):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, d_control), nn.SiLU(), nn.Linear(d_control, d_control))
        self.unset = nn.Parameter(torch.zeros(d_control))

    def forward(self, value):
        unset = value.isnan()
        embedded = self.mlp(value.masked_fill(unset, 0.0).unsqueeze(-1))
        return torch.where(unset.unsqueeze(-1), self.unset.to(embedded.dtype), embedded)


class VoiceControl(nn.Module):
    """Embeds one number per voice, (B, T, V) -> (B, T, d); NaN unsets a voice and leaves the others set."""

    def __init__(self, n_voice, d_control):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_voice, d_control))
        self.bias = nn.Parameter(torch.zeros(n_voice, d_control))
        self.unset = nn.Parameter(torch.zeros(n_voice, d_control))
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(d_control, d_control))

    def forward(self, value):
        unset = value.isnan().to(self.weight.dtype)
        value = value.nan_to_num(0.0)
        # the sum over voices of (unset ? its unset vector : value x weight + bias), as three matrix products
        return self.mix(value @ self.weight + (1 - unset) @ self.bias + unset @ self.unset)


class IdControl(nn.Embedding):
    """Embeds one of n ids per step, the last of which means unset: (B, T) long -> (B, T, d). Or a blend of
    ids: weights (B, T, n - 1) that add up to 1 mix their vectors; NaN means unset."""

    def forward(self, value):
        if not value.is_floating_point():
            return super().forward(value)
        blend = value.nan_to_num(0.0) @ self.weight[:-1]
        return torch.where(value[..., :1].isnan(), self.weight[-1], blend)


def embedding_of(control, d_control):
    """The module that embeds a row of CONTROLS, by the kind of its values."""
    if control.n_ids is not None:
        return IdControl(control.n_ids, d_control)
    return ScalarControl(d_control) if control.width is None else VoiceControl(control.width, d_control)


class Condition(nn.Module):
    """One vector per step of everything that the decoder is conditioned on; each part can be unset."""

    def __init__(
        self,
        d_context,
        d_latent,
        d_control,
        d_condition,
        longest_bar,
        meters=False,
        rhythm_is=False,
        steady=False,
        phrase=False,
    ):
        """meters: whether the meter is told, beside the place in the bar; rhythm_is: whether the kind of the
        rhythm is; steady: whether that control is known; phrase: whether the place in the phrase is told."""
        super().__init__()
        self.d_control = d_control
        self.names = [name for name, control in CONTROLS.items() if not control.optional]
        for name in self.names:
            self.add_module(name, embedding_of(CONTROLS[name], d_control))
        self.position = nn.Embedding(longest_bar, d_control)
        self.meter = MeterEmbedding(d_control) if meters else None
        # a bar's latent has a projection of its own for each place in the bar
        self.unfold = nn.Linear(d_latent, longest_bar * d_control)
        self.unset_context = nn.Parameter(torch.zeros(d_context))
        self.unset_latent = nn.Parameter(torch.zeros(d_control))
        # the controls, the position and the latent have d_control numbers each
        self.mix = nn.Linear((len(self.names) + 2) * d_control + d_context, d_condition)
        self.steady = None
        if steady:
            self.steady = embedding_of(CONTROLS["steady"], d_condition)
            nn.init.zeros_(self.steady.mlp[2].weight)
            nn.init.zeros_(self.steady.mlp[2].bias)
        self.kind = zero_embedding(len(RHYTHM_KINDS) + 1, d_condition) if rhythm_is else None
        self.phrase = zero_embedding(PHRASE + 1, d_condition) if phrase else None

    def forward(self, context, latent, use_context, use_latent, controls, grid, kind=None, phrase=None):
        """context (B, T, D), latent (B, N, Z), use_context and use_latent (B, T) bool, controls {name:
        values} as in DrumVAE.forward, grid: the BarGrid of the steps, kind (B, T) long, see RHYTHM_KINDS, or
        None for a model that is not told, phrase (B, T) long: the bar's place in it, or UNSET_PHRASE, or None
        likewise -> (B, T, C)."""
        # of as many places as the bars have: they sound the same whatever the longest bar of the model
        rows, index = grid.longest * self.d_control, grid.on(context.device)
        latent = F.linear(latent, self.unfold.weight[:rows], self.unfold.bias[:rows])
        latent = latent.unflatten(-1, (-1, self.d_control))
        position = self.position(index.place)
        position = position if self.meter is None else position + self.meter(index)
        parts = (
            *(self.get_submodule(name)(controls[name]) for name in self.names),
            position.expand(len(context), -1, -1),
            torch.where(use_context.unsqueeze(-1), context, self.unset_context.to(context.dtype)),
            torch.where(use_latent.unsqueeze(-1), grid.by_step(latent), self.unset_latent.to(latent.dtype)),
        )
        dtype = context.dtype
        mixed = self.mix(torch.cat([part.to(dtype) for part in parts], dim=-1))
        mixed = mixed if self.kind is None else mixed + self.kind(kind).to(mixed.dtype)
        mixed = mixed if self.phrase is None else mixed + self.phrase(phrase).to(mixed.dtype)
        if self.steady is not None:
            value = controls.get("steady")
            value = torch.full_like(controls["density"], torch.nan) if value is None else value
            mixed = mixed + self.steady(value).to(mixed.dtype)
        return F.silu(mixed)


class BarLatent(nn.Module):
    """One Gaussian latent per bar from the mean over the bar's valid steps (a VAE; Kingma & Welling 2014).

    Each place in the bar has its own projection before the mean: a mean of steps projected alike would not
    show which of them was hit.
    """

    def __init__(self, d_model, d_latent, longest_bar, usual_bar=16):
        super().__init__()
        self.fold = nn.Parameter(
            torch.randn(longest_bar, d_model, 2 * d_latent) * (usual_bar / d_model) ** 0.5
        )
        # little noise at first, or the decoder never learns to use the latent and the KL switches it off
        self.bias = nn.Parameter(torch.cat((torch.zeros(d_latent), torch.full((d_latent,), -3.0))))
        with torch.no_grad():
            self.fold[..., d_latent:] *= 0.1

    def forward(self, hidden, mask, grid):
        """hidden (B, T, D), mask (B, T) -> mu, logvar (B, N, Z) and which bars have a valid step (B, N)."""
        hidden, weight = grid.by_bar(hidden), grid.by_bar(mask).to(hidden.dtype)
        projected = torch.einsum("bnsd,sdz->bnz", hidden * weight.unsqueeze(-1), self.fold[: grid.longest])
        n_steps = weight.sum(2, keepdim=True)
        mu, logvar = (projected / n_steps.clamp(min=1) + self.bias).chunk(2, dim=-1)
        # a bounded log-variance keeps the exponential of an untrained or half-precision encoder finite
        return mu, logvar.clamp(-8.0, 4.0), n_steps.squeeze(-1) > 0


class Budget(nn.Module):
    """What the controls request of the bar, less what its earlier steps have: exact, causal, cheap.

    Features per step, each present only where its control is set: hits left (in all, and per voice), the
    same per step that is left, the running deficit of velocity, and the mean velocity that the remaining
    hits would need. With `steady`, also: where the bar before has hits, how many of its hits were shared so
    far, and how many of those that are left must be.
    """

    def __init__(self, n_voice, normalize_factor, d_hidden, d_out, steady=False):
        super().__init__()
        self.normalize_factor = normalize_factor
        self.mlp = nn.Sequential(nn.Linear(7 + 3 * n_voice, d_hidden), nn.SiLU(), nn.Linear(d_hidden, d_out))
        self.n_features, self.steady = 7 + 3 * n_voice, None
        if steady:  # without biases: features of zeros, where the control is not set, change nothing
            layers = nn.Linear(STEADY_FEATURES + n_voice, d_hidden, False), nn.Linear(d_hidden, d_out, False)
            nn.init.zeros_(layers[1].weight)  # a model that was trained without it plays as before
            self.steady = nn.Sequential(layers[0], nn.SiLU(), layers[1])

    def targets(self, controls, place, length):
        """What does not depend on the drums: controls {name: values} of some steps (...), place: of each step
        in its bar, from 0, length: of the bar -> (..., 7 + 2V), with `steady` (..., 9 + 2V), to be given to
        `features`."""
        density, intensity, instrument = (controls[name] for name in ("density", "intensity", "instrument"))
        has_density, has_intensity, has_voice = ~density.isnan(), ~intensity.isnan(), ~instrument.isnan()
        length = length.to(density.dtype)
        wanted = {
            name: CONTROLS[name].denormalize(controls[name].nan_to_num(), self.normalize_factor)
            for name in ("density", "intensity")
        }
        wanted_hits = (wanted["density"] * cells(length)).clamp(min=0).minimum(cells(length))
        wanted_voice = instrument.nan_to_num().clamp(0, 1) * length.unsqueeze(-1)
        steps_left = (length - place).expand_as(density)
        scalars = (
            wanted_hits,
            wanted["intensity"].clamp(0, 1),
            has_density,
            has_intensity,
            has_density & has_intensity,
            steps_left,
        )
        scalars = torch.stack([scalar.to(density.dtype) for scalar in scalars], dim=-1)
        share_left = (steps_left / length).unsqueeze(-1)
        targets = torch.cat((scalars, wanted_voice, has_voice.to(density.dtype), share_left), dim=-1)
        if self.steady is None:
            return targets
        value = controls.get("steady", torch.full_like(density, torch.nan))
        value = torch.stack((~value.isnan(), value.nan_to_num().clamp(0, 1)), -1)
        return torch.cat((targets, value.to(density.dtype)), -1)

    def features(self, targets, played_onset, played_vel, before=None, kept=None):
        """targets: see above; played_onset, played_vel (..., V): sums over the bar's earlier steps. Where
        `steady` is asked: before (..., 3 + V), see bar_before, and kept (..., V), those of the earlier hits
        that the bar before has, too -> (..., F). All are tensors, or all arrays: NumPy starts small
        operations sooner."""
        V = played_onset.shape[-1]
        scalars = (targets[..., i : i + 1] for i in range(6))
        wanted_hits, wanted_vel, has_density, has_intensity, has_both, steps_left = scalars
        wanted_voice, has_voice = targets[..., 6 : 6 + V], targets[..., 6 + V : 6 + 2 * V]
        share_left = targets[..., 6 + 2 * V : 7 + 2 * V]
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
            share_left,
            voice_left / 4,
            voice_left / steps_left,
            has_voice,
        )
        if before is not None:
            asked, kept = targets[..., 7 + 2 * V :], kept.sum(-1)[..., None]
            features += self._of_steady(asked, before, hits, kept, share_left)
        return torch.cat(features, -1) if torch.is_tensor(targets) else np.concatenate(features, -1)

    def _of_steady(self, asked, before, hits, kept, share_left):
        """Features (..., STEADY_FEATURES + V) in parts, zeros where steady is not set or no bar is before.

        The likeness of two bars is 2 x shared / all hits of both, see measure_steady. As many hits as the bar
        before has left are taken to come: what of these must be shared for the likeness that is wanted.
        """
        total, left, there = (before[..., i : i + 1] for i in range(3))
        has, wanted = asked[..., :1] * there, asked[..., 1:]
        to_share = wanted * (hits + left + total) / 2 - kept
        now = 2 * kept / (hits + total - left).clip(min=1)
        numbers = (
            wanted,
            now,
            wanted - now,
            to_share / 8,
            (to_share / left.clip(min=1)).clip(-1, 2),
            left / 8,
            (total - hits - left) / 8,
            share_left,
        )
        return has, *(number * has for number in numbers), before[..., 3:] * has

    def forward(self, features):
        """features (..., F) with those of `steady` or without them -> (..., d_out)."""
        of_budget, of_steady = self.mlp(features[..., : self.n_features]), features[..., self.n_features :]
        return of_budget + self.steady(of_steady) if of_steady.shape[-1] else of_budget

    def matrices(self, steady):
        """Its two layers as one: (matrix, bias) of the first, (matrix, bias) of the second. steady: whether
        features of it are among those that they read."""
        (into, into_bias), (out, out_bias) = (layer.parameters() for layer in (self.mlp[0], self.mlp[2]))
        if steady:
            more = self.steady[0].weight
            into = torch.block_diag(into, more)
            into_bias = torch.cat((into_bias, more.new_zeros(len(more))))
            out = torch.cat((out, self.steady[2].weight), 1)
        return (into, into_bias), (out, out_bias)


def bar_before(onset, grid):
    """What the bar before has, for each step of onset (B, T, V): (B, T, 3 + V): its hits, those of them from
    this place on that this bar can share, whether there is such a bar, and the hits at this place. grid: the
    BarGrid of the steps."""
    bars = F.pad(grid.by_bar(onset), (0, 0, 0, 0, 1, 0))[:, :-1]
    exists = grid.by_bar(torch.ones_like(onset[..., :1]))
    there = torch.arange(bars.shape[1], device=onset.device) > 0
    return grid.by_step(_beside_bar(bars, exists, there.to(onset.dtype)[:, None, None]))


def bar_before_of_bar(past, shape, device):
    """The same of the bar that follows the bars `past`, each three rolls (B, n, V): (B, n, 3 + V) of its
    steps. shape: (B, n, V) of the bar."""
    if not past:
        return torch.zeros(*shape[:2], 3 + shape[2], device=device)
    bar = past[-1][0]
    longer = F.pad(bar, (0, 0, 0, max(0, shape[1] - bar.shape[1])))
    exists = (torch.arange(longer.shape[1], device=bar.device) < shape[1]).to(bar.dtype)[:, None]
    return _beside_bar(longer, exists, torch.ones_like(bar[:, :1, :1]))[:, : shape[1]]


def _beside_bar(bar, exists, there):
    """bar (..., L, V), exists (..., L, 1), there (..., 1, 1) -> (..., L, 3 + V)."""
    hits = bar.sum(-1, keepdim=True)
    total, within = hits.sum(-2, keepdim=True).expand_as(hits), hits * exists
    left = within.flip(-2).cumsum(-2).flip(-2)
    return torch.cat((total, left, there.expand_as(hits), bar), -1)


class History(nn.Module):
    """What each voice did at this place of the bars before: a groove repeats. Exact, causal, cheap: all of it
    is known when a bar begins.

    Features per step, for each of `lags` bars ago: onset, velocity and timing of each voice at the same place
    of that bar, and whether that bar has this place; zeros where it has none, or where there is no such bar.
    """

    def __init__(self, lags, n_voice, d_hidden, d_out):
        super().__init__()
        self.lags = tuple(lags)
        n_features = len(self.lags) * (3 * n_voice + 1)
        self.mlp = nn.Sequential(nn.Linear(n_features, d_hidden), nn.SiLU(), nn.Linear(d_hidden, d_out))
        nn.init.zeros_(self.mlp[2].weight)  # a model that was trained without it plays as before
        nn.init.zeros_(self.mlp[2].bias)

    def features(self, drums, grid):
        """Of all steps of drums, three rolls (B, T, V): (B, T, F). grid: the BarGrid of the steps."""
        bars = grid.by_bar(_with_presence(drums))
        earlier = [F.pad(bars, (0, 0, 0, 0, lag, 0))[:, : bars.shape[1]] for lag in self.lags]
        return grid.by_step(torch.cat(earlier, -1))

    def features_of_bar(self, past, shape):
        """The same of the bar that follows the bars `past`, each three rolls (B, n, V): (B, n, F) of its
        steps. shape: (B, n, V) of the bar."""
        parts = []
        for lag in self.lags:
            if lag > len(past):
                parts.append(self.mlp[0].weight.new_zeros(*shape[:2], 3 * shape[2] + 1))
                continue
            bar = _with_presence(past[-lag])[:, : shape[1]]
            parts.append(F.pad(bar, (0, 0, 0, shape[1] - bar.shape[1])))
        return torch.cat([part.to(parts[0].device, parts[0].dtype) for part in parts], -1)

    def forward(self, features):
        return self.mlp(features)


def _with_presence(drums):
    """Three rolls (B, T, V) and a one for each step: (B, T, 3V + 1)."""
    return torch.cat((*drums, torch.ones_like(drums[0][..., :1])), -1)
