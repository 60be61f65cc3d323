"""The drummer: an encoder reads the rhythm, a causal decoder writes the drums, conditioned bar by bar.

    rhythm, known cells -> RhythmEncoder -> context of each step, latent of each bar
    controls, context, latent, place in the bar -> Condition -> Phi3Decoder, at every layer and step
    drums so far -> Phi3Decoder -> hidden state -> OnsetChain, HitChain -> the next step

Shapes: B batch, T steps, N bars, V voices (9), D model width, Z latent width, C condition width, K bins.
"""

import torch
import torch.nn as nn

from model.bars import BEATS_PER_BAR, BarGrid
from model.batch_bars import BatchGrid
from model.condition import BarLatent, Budget, Condition, History, bar_before
from model.controls import CONTROLS, N_VOICES, PADS, PHRASE, RHYTHM_KINDS, UNSET_KIND, controls_of
from model.cpu_training import Dropout, RMSNorm
from model.derived_cache import DerivedCache
from model.heads import HitChain, OnsetChain, TapTokens, hit_index, offset_to_bin, velocity_to_bin
from model.layers import NORM_EPS, Block, RollEmbedding, rotary_table, zero_embedding
from model.loss import kl_per_unit, nats_of
from model.meter import MeterEmbedding, for_longer_bars
from model.phi3_arch_model import Phi3Decoder, attention_band


class RhythmEncoder(nn.Module):
    """Bidirectional transformer over the rhythm and whatever drum cells are already known."""

    def __init__(
        self,
        d_model,
        n_layer,
        n_head,
        d_ff,
        dropout,
        rope_theta,
        window,
        longest_bar,
        meters=False,
        rhythm_is=False,
        pads=False,
    ):
        """meters, rhythm_is, pads: whether it is told of the meter, of which kind the rhythm is, and on which
        of two pads each tap is."""
        super().__init__()
        self.d_head, self.rope_theta, self.window = d_model // n_head, rope_theta, window
        self.embed = RollEmbedding(3 * N_VOICES, d_model)  # the rhythm, the known cells, and which are known
        self.position = nn.Embedding(longest_bar, d_model)
        self.meter = MeterEmbedding(d_model) if meters else None
        self.layers = nn.ModuleList(Block(d_model, n_head, d_ff, dropout) for _ in range(n_layer))
        self.norm = RMSNorm(d_model, eps=NORM_EPS)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.position.weight, std=0.02)
        self.kind = zero_embedding(len(RHYTHM_KINDS) + 1, d_model) if rhythm_is else None
        self.pads = zero_embedding(len(PADS), d_model) if pads else None

    def forward(self, rhythm, known, known_onset, known_vel, attended, index, kind=None, pads=None):
        """rhythm and known: three rolls (B, T, V) each, onset, vel and timeoffset; known_onset, known_vel
        (B, T, V) bool: the cells of `known` to read, their onsets (hit or not), their velocity and offset;
        attended (B, T) bool: steps to attend to; index: their StepIndex; kind (B, T) long: what the rhythm
        is, see RHYTHM_KINDS, and pads (B, T) long: see PADS, where they are told. Returns (B, T, D)."""
        read = known_onset.to(known[0].dtype), known_vel.to(known[0].dtype)
        x = self.embed(
            torch.cat((rhythm[0], known[0] * read[0], read[0]), dim=-1),
            torch.cat((rhythm[1], known[1] * read[1], read[1]), dim=-1),
            torch.cat((rhythm[2], known[2] * read[1], read[1]), dim=-1),
        )
        T = x.shape[1]
        position = self.position(index.place)
        x = x + (position if self.meter is None else position + self.meter(index))
        x = x if self.kind is None else x + self.kind(kind).to(x.dtype)
        x = self.dropout(x if self.pads is None else x + self.pads(pads).to(x.dtype))
        rotary = rotary_table(torch.arange(T, device=x.device), self.d_head, self.rope_theta)
        mask = attended[:, None, None, :]
        if T > self.window:
            mask = mask & attention_band(T, self.window, x.device, causal=False)
        # a step may always attend to itself: a row with nothing to attend to would be NaN
        mask = mask | torch.eye(T, dtype=torch.bool, device=x.device)
        for layer in self.layers:
            x = layer(x, rotary, attention_mask=mask)
        return self.norm(x)


class DrumVAE(nn.Module):
    """Encoder, latent, decoder and heads. Built from a checkpoint's config by utils.get_model."""

    # parts that a config may ask for, and that begin so that a model without them plays the same
    NEW_PARTS = (
        "encoder.kind",
        "encoder.pads",
        "condition.kind",
        "history",
        "condition.steady",
        "condition.phrase",
        "budget.steady",
    )

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
        self.steps_per_beat = config["Data"]["down_sample_tpq"]
        self.steps_per_bar = BEATS_PER_BAR * self.steps_per_beat
        # a model that knows no longer bar than 4/4 is not told of meters: it was trained without
        self.longest_bar = config["Model"].get("longest_bar", self.steps_per_bar)
        bars = {"longest_bar": self.longest_bar, "meters": self.longest_bar > self.steps_per_bar}
        self.velocity_bins, self.offset_bins = output["velocity_bins"], output["offset_bins"]

        shared = {"rope_theta": decoder["rope_theta"], "window": decoder["window"]}
        self.told_kind = bool(config["Model"].get("rhythm_is", False))
        bars["rhythm_is"] = self.told_kind
        steady = bool(condition.get("steady", False))
        self.told_phrase = bool(condition.get("phrase", False))
        self.controls = tuple(name for name, control in CONTROLS.items() if steady or not control.optional)
        self.told_pads = bool(config["Model"].get("pads", False))
        self.encoder = RhythmEncoder(**encoder, **shared, **bars, pads=self.told_pads)
        self.latent = BarLatent(encoder["d_model"], latent["d_latent"], self.longest_bar, self.steps_per_bar)
        self.condition = Condition(
            encoder["d_model"],
            latent["d_latent"],
            condition["d_control"],
            condition["d_condition"],
            **bars,
            steady=steady,
            phrase=self.told_phrase,
        )
        sizes = {key: decoder[key] for key in ("d_model", "n_layer", "n_head", "d_ff", "dropout")}
        self.decoder = Phi3Decoder(
            N_VOICES, **sizes, **shared, d_condition=condition["d_condition"], film=condition["film"]
        )
        self.budget = self.history = None
        n_out = decoder["n_layer"] * self.decoder.d_modulation
        if decoder.get("history"):
            self.history = History(decoder["history"], N_VOICES, condition["d_condition"], n_out)
        if condition["remaining_budget"]:
            self.budget = Budget(
                N_VOICES,
                self.normalize_factor,
                2 * condition["d_control"],
                n_out,
                steady=bool(condition.get("remaining_steady", False)),
            )
        self.onset_head = OnsetChain(decoder["d_model"], N_VOICES, output["onset_chain"])
        self.tap = TapTokens(decoder["d_model"], self.velocity_bins, self.offset_bins)
        # under teacher forcing the earlier hits show which voices play, so the encoder would never learn it;
        # this head makes it predict the hit cells from the rhythm alone
        self.marginal_head = nn.Linear(encoder["d_model"], N_VOICES)
        nn.init.constant_(self.marginal_head.bias, -2.0)  # about one cell in eight is hit
        self.hit_head = HitChain(
            decoder["d_model"],
            N_VOICES,
            output["d_head"],
            self.velocity_bins,
            self.offset_bins,
            output["dropout"],
        )

    def _apply(self, *arguments, **options):
        """Moved or converted, the model gives up what decoding keeps with it: graphs lie where it was."""
        DerivedCache.drop_all(self)
        return super()._apply(*arguments, **options)

    def grid(self, n_steps):
        """The BarGrid of so many steps."""
        return BarGrid.four_four(n_steps, self.steps_per_beat)

    def for_longer_bars(self, state_dict):
        """See model.meter: the weights of a model of shorter bars as this one takes them, and what was
        done."""
        return for_longer_bars(state_dict, self.state_dict(), self.longest_bar)

    def grid_of(self, batch):
        """The bars of a batch: those that its rows have of their own, else 4/4."""
        return BatchGrid.in_batch(batch) or self.grid(batch["onset"].shape[1])

    def forward(self, batch, targets=None):
        """Teacher-forced pass over a batch (the dict that data_aug makes) -> dict of figures.

        onset, vel, timeoffset (B, T, V): the drums. The controls by their names, see model.controls: numbers
        (B, T) or (B, T, V), normalized where the control is, NaN = unset; ids (B, T) long, the last = unset,
        or weights, see IdControl. rhythm_is (B, T) long: what the rhythm is, see RHYTHM_KINDS; it may be
        missing, and is not read by a model that is not told. pads (B, T) long, likewise: see PADS. phrase
        (B, T) long, likewise: see phrase_of_steps. use_context, use_latent, mask (B, T).
        noise (B, N, Z), standard normal, makes the latent a sample; without that key it is the mean. With
        the keys of hit_index the hits are taken from there and the device is not waited for. With bar_index
        and bar_table each row has bars of its own, see model.batch_bars; else all have bars of 4/4. targets:
        what the nats are measured against, by head as `logits` returns them, or with probabilities (n_hit, K)
        in place of tokens; None: the drums themselves.

        Returned: onset_nats, velocity_nats, offset_nats (sums), steps, hits (counts), each a 0-d tensor;
        marginal_nats: of the encoder's own guess at the onsets of the steps it attends to, without the chain;
        kl (B, N, Z), the nats of each unit of each bar; bars (B, N) bool, those with a step that the encoder
        attends to. Known cells and steps outside the mask count nowhere.
        """
        batch = batch if "hit" in batch else batch | hit_index(batch["onset"])
        logits, played, (mu, logvar, bars) = self.logits(batch)
        nats = nats_of(logits, played if targets is None else targets, batch)
        return nats | {"steps": batch["mask"].sum(), "kl": kl_per_unit(mu, logvar), "bars": bars}

    def logits(self, batch):
        """The logits of all heads for a batch, as `forward` takes it, with the keys of hit_index.

        Returned: {head: logits} given the earlier drums: onset (each voice given the voices before it) and
        marginal (each cell by itself) (B, T, V); velocity and offset (n_hit, K). {head: targets}: the drums,
        as rolls, and as tokens (n_hit,) in the order of onset.nonzero(). And mu, logvar and bars as `encode`
        returns them, in float32.
        """
        onset, vel, timeoffset = drums = batch["onset"], batch["vel"], batch["timeoffset"]
        rhythm = batch["rhythm_onset"], batch["rhythm_vel"], batch["rhythm_timeoffset"]
        use_context, use_latent = batch["use_context"], batch["use_latent"]
        known, grid = (batch["known_onset"], batch["known_vel"]), self.grid_of(batch)

        kind = self.kind_of_steps(batch.get("rhythm_is"), use_context, use_latent)
        pads = self.pads_of_steps(batch.get("pads"), use_context, use_latent)
        context, mu, logvar, bars = self.encode(
            rhythm, drums, *known, batch["mask"], use_context, use_latent, grid, kind, pads
        )
        mu, logvar = mu.float(), logvar.float()
        latent = mu + batch["noise"] * (0.5 * logvar).exp() if "noise" in batch else mu

        controls = controls_of(batch)
        phrase = self.phrase_of_steps(batch.get("phrase"), batch["mask"].shape, grid)
        condition = self.condition(context, latent, use_context, use_latent, controls, grid, kind, phrase)
        hidden = self.decode(*drums, condition, controls, grid)

        velocity_bin = velocity_to_bin(vel, self.velocity_bins)
        offset_bin = offset_to_bin(timeoffset, self.offset_bins)
        marginal = self.marginal_head(context)
        hit_hidden = hidden + self.tap(rhythm, use_context).to(hidden.dtype)
        velocity, offset = self.hit_head(hit_hidden, onset, velocity_bin, offset_bin, batch)
        logits = {
            "onset": self.onset_head(hidden, onset) + self.onset_bias(marginal, use_context),
            "marginal": marginal,
            "velocity": velocity,
            "offset": offset,
        }
        hit = batch["hit"]
        tokens = {"velocity": velocity_bin.flatten()[hit], "offset": offset_bin.flatten()[hit]}
        return logits, {"onset": onset, "marginal": onset, **tokens}, (mu, logvar, bars)

    def kind_of_steps(self, rhythm_is, use_context, use_latent):
        """What the rhythm is, (B, T) long as the model is told, unset where nothing is heard of it; None for
        a model that is not told. rhythm_is: (B, T) long, or None, unset."""
        if not self.told_kind:
            return None
        if rhythm_is is None:
            rhythm_is = torch.full_like(use_context, UNSET_KIND, dtype=torch.long)
        return torch.where(use_context | use_latent, rhythm_is, UNSET_KIND)

    def pads_of_steps(self, pads, use_context, use_latent):
        """On which pad each tap is, (B, T) long as the model is told, unset where nothing is heard of it;
        None for a model that is not told. pads: (B, T) long, see PADS, or None, unset."""
        if not self.told_pads:
            return None
        if pads is None:
            return torch.zeros_like(use_context, dtype=torch.long)
        return pads * (use_context | use_latent)

    def phrase_of_steps(self, phrase, shape, grid):
        """Which of the PHRASE bars of a phrase each step's bar is, (B, T) long as the model is told; None for
        a model that is not told. phrase: the same, UNSET_PHRASE where it is not known; None: the grid's
        first bar begins a phrase."""
        if not self.told_phrase:
            return None
        if phrase is None:
            phrase = grid.on(next(self.parameters()).device).bar % PHRASE
        return phrase.expand(shape)

    def encode(
        self, rhythm, known, known_onset, known_vel, mask, use_context, use_latent, grid, kind=None, pads=None
    ):
        """context (B, T, D), mu and logvar (B, N, Z), and which bars have a step that is attended to (B, N).

        A step that may use neither context nor latent is not attended to: there the rhythm has not been
        played yet. kind: of kind_of_steps; pads: of pads_of_steps.
        """
        attended = mask & (use_context | use_latent)
        index = grid.on(mask.device)
        context = self.encoder(rhythm, known, known_onset, known_vel, attended, index, kind, pads)
        mu, logvar, bars = self.latent(context, attended, grid)
        return context, mu, logvar, bars

    def decode(self, onset, vel, timeoffset, condition, controls, grid):
        """Hidden states (B, T, D) of the decoder over the drums; condition (B, T, C)."""
        drums = onset, vel, timeoffset
        of_history, of_budget = self.features_of(drums, self.budget_targets(controls, grid), grid)
        modulation = self.decoder.project_condition(condition)
        modulation = self.add_budget(self.add_history(modulation, of_history), of_budget)
        return self.decoder(self.decoder.embed_previous(*drums), modulation)

    def features_of(self, drums, targets, grid):
        """The features (B, T, F) of all steps of drums, three rolls (B, T, V), for add_history and
        add_budget, None for what the model lacks. targets: as budget_targets gives them."""
        of_history = None if self.history is None else self.history.features(drums, grid)
        if self.budget is None:
            return of_history, None
        onset = drums[0]
        earlier = [grid.sums_before(roll) for roll in drums[:2]]
        if self.tells_steady:
            before = bar_before(onset, grid)
            earlier += [before, grid.sums_before(onset * before[..., 3:])]
        return of_history, self.budget.features(targets, *earlier)

    def onset_bias(self, marginal_logits, use_context):
        """What is added to the onset logits, (B, T, V): the encoder's own guess, nothing where the context is
        unset.

        The guess is learnt at every step; the decoder learns the choice of voices only where no earlier hit
        shows it, in the first steps of a window. No gradient flows back through it, so that it stays a guess.
        """
        return marginal_logits.detach() * use_context.unsqueeze(-1)

    @property
    def tells_steady(self):
        """Whether the remaining budget is also that of `steady`."""
        return self.budget is not None and self.budget.steady is not None

    @property
    def looks_back(self):
        """How many bars before a bar have to be known when it begins, beside what attention sees."""
        lags = () if self.history is None else self.history.lags
        return max(*lags, int(self.tells_steady), 0)

    def budget_targets(self, controls, grid):
        """Budget.targets of the controls (B, T, ...), for add_budget; None without a budget."""
        if self.budget is None:
            return None
        index = grid.on(controls["density"].device)
        return self.budget.targets(controls, index.place, index.length)

    def add_budget(self, modulation, features):
        """modulation (..., L, P) of L layers plus that of the remaining budget; features of Budget (..., F),
        or None."""
        return modulation if features is None else self._with(modulation, self.budget, features)

    def add_history(self, modulation, features):
        """modulation (..., L, P) of L layers plus that of the bars before; features of History (..., F), or
        None."""
        return modulation if features is None else self._with(modulation, self.history, features)

    def _with(self, modulation, part, features):
        return modulation + part(features.to(modulation.dtype)).unflatten(-1, modulation.shape[-2:])
