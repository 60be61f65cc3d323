"""The drummer: an encoder hears the rhythm, a causal decoder plays it, told bar by bar what is wanted.

Shapes: B batch, T steps (whole bars), V voices (9), D model width, Z latent width, C condition width,
N bars (T / S), S steps in a bar (16).
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from model.heads import HitChain, OnsetChain, TapTokens, hit_index, offset_to_bin, velocity_to_bin
from model.layers import (
    NORM_EPS,
    BarLatent,
    Block,
    Dropout,
    RMSNorm,
    RollEmbedding,
    ScalarControl,
    StyleControl,
    VoiceControl,
    kl_per_unit,
    rotary_table,
)
from model.phi3_arch_model import Budget, Phi3Decoder, attention_band, played_before

N_VOICE = 9
N_STYLE = 19  # the last id, UNSET_STYLE, is "none"
UNSET_STYLE = N_STYLE - 1
BEATS_PER_BAR = 4


class RhythmEncoder(nn.Module):
    """Bidirectional transformer over the rhythm and whatever drum cells are already known."""

    def __init__(self, d_model, n_layer, n_head, d_ff, dropout, rope_theta, window, steps_per_bar):
        super().__init__()
        self.d_head, self.rope_theta, self.window = d_model // n_head, rope_theta, window
        self.steps_per_bar = steps_per_bar
        self.embed = RollEmbedding(3 * N_VOICE, d_model)  # the rhythm, the known cells, and which are known
        self.position = nn.Embedding(steps_per_bar, d_model)
        self.layers = nn.ModuleList(Block(d_model, n_head, d_ff, dropout) for _ in range(n_layer))
        self.norm = RMSNorm(d_model, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, rhythm, known, known_onset, known_vel, heard):
        """rhythm and known: three rolls (B, T, V) each, onset, vel and timeoffset; known_onset, known_vel
        (B, T, V) bool: which cells of `known` may be seen, their onsets (hit or not), their velocity and
        offset; heard (B, T) bool: steps to attend to. Returns (B, T, D)."""
        seen = known_onset.to(known[0].dtype), known_vel.to(known[0].dtype)
        x = self.embed(
            torch.cat((rhythm[0], known[0] * seen[0], seen[0]), dim=-1),
            torch.cat((rhythm[1], known[1] * seen[1], seen[1]), dim=-1),
            torch.cat((rhythm[2], known[2] * seen[1], seen[1]), dim=-1),
        )
        T = x.shape[1]
        steps = torch.arange(T, device=x.device)
        x = self.dropout(x + self.position(steps % self.steps_per_bar))
        rotary = rotary_table(steps, self.d_head, self.rope_theta)
        mask = heard[:, None, None, :]
        if T > self.window:
            mask = mask & attention_band(T, self.window, x.device, causal=False)
        # a step may always look at itself: a row with nothing to look at would be NaN
        mask = mask | torch.eye(T, dtype=torch.bool, device=x.device)
        for layer in self.layers:
            x = layer(x, rotary, attention_mask=mask)
        return self.norm(x)


class Condition(nn.Module):
    """Everything that a step is told from outside, as one vector; each part can be unset."""

    def __init__(self, d_context, d_latent, d_control, d_condition, steps_per_bar):
        super().__init__()
        self.steps_per_bar = steps_per_bar
        self.density = ScalarControl(d_control)
        self.intensity = ScalarControl(d_control)
        self.instrument = VoiceControl(N_VOICE, d_control)
        self.style = StyleControl(N_STYLE, d_control)
        self.position = nn.Embedding(steps_per_bar, d_control)
        # a bar's latent is unfolded into what it says to each of the bar's steps
        self.unfold = nn.Linear(d_latent, steps_per_bar * d_control)
        self.unset_context = nn.Parameter(torch.zeros(d_context))
        self.unset_latent = nn.Parameter(torch.zeros(d_control))
        self.mix = nn.Linear(6 * d_control + d_context, d_condition)

    def forward(self, context, latent, use_context, use_latent, density, intensity, instrument, style):
        """context (B, T, D), latent (B, N, Z), use_context and use_latent (B, T) bool, controls as in
        DrumVAE.forward -> (B, T, C)."""
        T = context.shape[1]
        latent = self.unfold(latent).view(len(latent), T, -1)
        position = torch.arange(T, device=context.device) % self.steps_per_bar
        parts = (
            self.density(density),
            self.intensity(intensity),
            self.instrument(instrument),
            self.style(style),
            self.position(position).expand(context.shape[0], -1, -1),
            torch.where(use_context.unsqueeze(-1), context, self.unset_context.to(context.dtype)),
            torch.where(use_latent.unsqueeze(-1), latent, self.unset_latent.to(latent.dtype)),
        )
        dtype = context.dtype
        return F.silu(self.mix(torch.cat([part.to(dtype) for part in parts], dim=-1)))


class DrumVAE(nn.Module):
    """Encoder, latent, decoder and heads. Built from a checkpoint's config by utils.get_model."""

    def __init__(self, config):
        """config: the plain dict that a checkpoint carries, Data.normalize_factor included."""
        super().__init__()
        encoder, latent = config["Model"]["Encoder"], config["Model"]["Intermediate"]
        decoder, output = config["Model"]["Decoder"], config["Model"]["Output"]
        condition = decoder["condition_params"]
        if config["Data"]["normalize_factor"] is None:
            raise ValueError(
                "Data.normalize_factor: None; a model needs the statistics that preprocessing.py makes"
            )
        self.config = config
        self.normalize_factor = config["Data"]["normalize_factor"]
        self.steps_per_bar = BEATS_PER_BAR * config["Data"]["down_sample_tpq"]
        self.unset_style = UNSET_STYLE
        self.velocity_bins, self.offset_bins = output["velocity_bins"], output["offset_bins"]

        shared = {"rope_theta": decoder["rope_theta"], "window": decoder["window"]}
        self.encoder = RhythmEncoder(**encoder, **shared, steps_per_bar=self.steps_per_bar)
        self.latent = BarLatent(encoder["d_model"], latent["d_latent"], self.steps_per_bar)
        self.condition = Condition(
            encoder["d_model"],
            latent["d_latent"],
            condition["d_control"],
            condition["d_condition"],
            self.steps_per_bar,
        )
        sizes = {key: decoder[key] for key in ("d_model", "n_layer", "n_head", "d_ff", "dropout")}
        self.decoder = Phi3Decoder(
            N_VOICE, **sizes, **shared, d_condition=condition["d_condition"], film=condition["film"]
        )
        self.budget = None
        if condition["remaining_budget"]:
            n_out = decoder["n_layer"] * self.decoder.d_modulation
            self.budget = Budget(
                N_VOICE, self.steps_per_bar, self.normalize_factor, 2 * condition["d_control"], n_out
            )
        self.onset_head = OnsetChain(decoder["d_model"], N_VOICE, output["onset_chain"])
        self.tap = TapTokens(decoder["d_model"], self.velocity_bins, self.offset_bins)
        # under teacher forcing the hits before tell which voices play, and the encoder would never have to: so it is
        # asked for itself which cells are hit, given the rhythm alone
        self.marginal_head = nn.Linear(encoder["d_model"], N_VOICE)
        nn.init.constant_(self.marginal_head.bias, -2.0)  # about one cell in eight is hit
        self.hit_head = HitChain(
            decoder["d_model"],
            N_VOICE,
            output["d_head"],
            self.velocity_bins,
            self.offset_bins,
            output["dropout"],
        )

    def encode(self, rhythm, known, known_onset, known_vel, mask, use_context, use_latent):
        """The encoder's side: context (B, T, D), mu and logvar (B, N, Z), and the bars that have any (B, N).

        A step that neither context nor latent may use is not attended to: nobody has played there yet.
        """
        heard = mask & (use_context | use_latent)
        context = self.encoder(rhythm, known, known_onset, known_vel, heard)
        mu, logvar, bars = self.latent(context, heard)
        return context, mu, logvar, bars

    def onset_bias(self, marginal_logits, use_context):
        """What the onset logits start from, (B, T, V): the encoder's own guess, nothing where the context is unset.

        The guess is learnt at every step, the choice of voices by the decoder only where no hit before it gives it
        away: in the first steps of a window. No gradient goes back through it, so that it stays a guess.
        """
        return marginal_logits.detach() * use_context.unsqueeze(-1)

    def budget_targets(self, density, intensity, instrument):
        """What the controls (B, T, ...) ask of each bar, for add_budget: (B, T, ...), None without a budget."""
        if self.budget is None:
            return None
        position = torch.arange(density.shape[1], device=density.device) % self.steps_per_bar
        return self.budget.targets(position, density, intensity, instrument)

    def add_budget(self, modulation, asked, played_onset, played_vel):
        """modulation (..., L, P) plus what the remaining budget says to each layer; see Budget.features."""
        if self.budget is None:
            return modulation
        features = self.budget.features(asked, played_onset, played_vel).to(modulation.dtype)
        return modulation + self.budget(features).unflatten(-1, modulation.shape[-2:])

    def forward(self, batch, targets=None):
        """Teacher-forced pass over a batch (the dict that data_aug makes) -> dict of figures.

        onset, vel, timeoffset (B, T, V): what was played. density, intensity (B, T) z-scores and instrument
        (B, T, V) shares, NaN = unset; style (B, T) long, 18 = unset, or weights, see StyleControl. use_context,
        use_latent, mask (B, T).
        noise (B, N, Z), standard normal, makes the latent a sample; without that key it is the mean. With
        the keys of hit_index the hits are looked up there and the device is not waited for.
        targets: what the nats are measured against: of each head what `logits` gives, or None for just that, or
        probabilities in its place, (n_hit, K) of tokens.
        Returned: onset_nats, velocity_nats, offset_nats (sums), steps, hits (counts), each a 0-d tensor;
        marginal_nats: of the encoder's own guess at the onsets it hears, each cell for itself; kl (B, N, Z), the
        nats of each unit of each bar; bars (B, N) bool, those that were heard. Known cells and steps outside the
        mask count nowhere.
        """
        batch = batch if "hit" in batch else batch | hit_index(batch["onset"])
        logits, played, (mu, logvar, bars) = self.logits(batch)
        targets = played if targets is None else targets
        mask, heard = batch["mask"].unsqueeze(-1), (batch["use_context"] | batch["use_latent"]).unsqueeze(-1)
        open_cells = mask & ~batch["known_onset"]
        open_hit = (mask & ~batch["known_vel"]).flatten()[batch["hit"]]
        counted = {
            "onset": open_cells,
            "marginal": open_cells & heard,
            "velocity": open_hit,
            "offset": open_hit,
        }
        nats = {
            f"{name}_nats": (head_nats(logits[name], targets[name]) * where).sum()
            for name, where in counted.items()
        }
        return nats | {
            "steps": mask.sum(),
            "hits": open_hit.sum(),
            "kl": kl_per_unit(mu, logvar),
            "bars": bars,
        }

    def logits(self, batch):
        """What the heads say of a batch, as `forward` takes it, with the keys of hit_index.

        Returned: logits, given what was played before: onset and marginal (B, T, V), the voices one after the other and
        each cell for itself; velocity and offset (n_hit, K). What was played, by the same names: rolls, and tokens
        (n_hit,) in the order of onset.nonzero(). And mu, logvar and bars as `encode` gives them, in float32.
        """
        onset, vel, timeoffset, mask = batch["onset"], batch["vel"], batch["timeoffset"], batch["mask"]
        use_context, use_latent = batch["use_context"], batch["use_latent"]
        controls = [batch[name] for name in ("density", "intensity", "instrument", "style")]

        rhythm = batch["rhythm_onset"], batch["rhythm_vel"], batch["rhythm_timeoffset"]
        context, mu, logvar, bars = self.encode(
            rhythm,
            (onset, vel, timeoffset),
            batch["known_onset"],
            batch["known_vel"],
            mask,
            use_context,
            use_latent,
        )
        mu, logvar = mu.float(), logvar.float()
        latent = mu + batch["noise"] * (0.5 * logvar).exp() if "noise" in batch else mu

        condition = self.condition(context, latent, use_context, use_latent, *controls)
        hidden = self.decode(onset, vel, timeoffset, condition, controls)

        velocity_bin = velocity_to_bin(vel, self.velocity_bins)
        offset_bin = offset_to_bin(timeoffset, self.offset_bins)
        hit = batch["hit"]
        marginal = self.marginal_head(context)
        hit_hidden = hidden + self.tap(rhythm, use_context).to(hidden.dtype)
        velocity, offset = self.hit_head(hit_hidden, onset, velocity_bin, offset_bin, batch)
        logits = {
            "onset": self.onset_head(hidden, onset) + self.onset_bias(marginal, use_context),
            "marginal": marginal,
            "velocity": velocity,
            "offset": offset,
        }
        tokens = {"velocity": velocity_bin.flatten()[hit], "offset": offset_bin.flatten()[hit]}
        return logits, {"onset": onset, "marginal": onset, **tokens}, (mu, logvar, bars)

    def decode(self, onset, vel, timeoffset, condition, controls):
        """Hidden states (B, T, D) of the decoder over what is played, given condition (B, T, C) and controls."""
        played = played_before(onset, self.steps_per_bar), played_before(vel, self.steps_per_bar)
        asked = self.budget_targets(*controls[:3])
        modulation = self.add_budget(self.decoder.project_condition(condition), asked, *played)
        return self.decoder(self.decoder.embed_previous(onset, vel, timeoffset), modulation)


def head_nats(logits, target):
    """Cross-entropy in float32 of each cell, logits and target (B, T, V), or of each hit: logits (n_hit, K), target
    tokens (n_hit,) or their probabilities (n_hit, K)."""
    of_cells = logits.ndim == 3
    cross_entropy = F.binary_cross_entropy_with_logits if of_cells else F.cross_entropy
    return cross_entropy(logits.float(), target, reduction="none")


def count_tokens(batch, steps_per_bar):
    """How many steps (in the mask) and bars (that are heard) of a batch count in its loss: {"steps", "bars"}."""
    heard = batch["mask"] & (batch["use_context"] | batch["use_latent"])
    return {
        "steps": int(batch["mask"].sum()),
        "bars": int(heard.unflatten(1, (-1, steps_per_bar)).any(2).sum()),
    }


def training_loss(figures, tokens, loss_weight, kl_weight, free_bits):
    """The minimised sum: nats per step of each head, plus the KL per bar, of which each unit of each bar has
    free_bits nats for nothing (after Kingma et al. 2016).

    figures: as DrumVAE.forward returns them. tokens: count_tokens of the whole batch, of which the figures may
    be a piece: the losses of all pieces add up to that of the batch. loss_weight: dict onset, velocity, offset.
    """
    steps, bars = max(1, tokens["steps"]), max(1, tokens["bars"])
    loss = sum(weight * figures[f"{head}_nats"] / steps for head, weight in loss_weight.items())
    kl = figures["kl"].clamp(min=free_bits) * figures["bars"].unsqueeze(-1)
    return loss + kl_weight * kl.sum() / bars
