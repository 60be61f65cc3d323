"""From a hidden state to the hits of a step: onsets in a chain, then velocity and offset, hit by hit.

Shapes: B batch, T steps, V voices (9), D model width, K bins of a token.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from model.cpu_training import Dropout

# Share of the hits in the last of 32 bins of velocity, MIDI 124 to 127, that have 127, where electronic kits
# end; in the training split of the Groove MIDI Dataset
AT_THE_TOP = 0.94


class OnsetChain(nn.Module):
    """Nine binary tokens, each voice given the voices before it in the same step.

    logit[v] = base[v] + sum over u < v of pair[v, u] * onset[u]; base and pair are projections of the hidden
    state. The pairs start at zero, which makes nine independent Bernoulli outputs; with chained=False they
    stay zero.
    """

    def __init__(self, d_model, n_voice, chained):
        super().__init__()
        self.n_voice = n_voice
        self.base = nn.Linear(d_model, n_voice)
        self.pair = nn.Linear(d_model, n_voice * n_voice) if chained else None
        if chained:
            nn.init.zeros_(self.pair.weight)
            nn.init.zeros_(self.pair.bias)
        below = torch.ones(n_voice, n_voice).tril(diagonal=-1)
        self.register_buffer("below", below, persistent=False)

    def parts(self, hidden):
        """hidden (..., D) -> base (..., V) and pair (..., V, V), strictly lower triangular."""
        if self.pair is None:
            return self.base(hidden), hidden.new_zeros(*hidden.shape[:-1], self.n_voice, self.n_voice)
        pair = self.pair(hidden).unflatten(-1, (self.n_voice, self.n_voice))
        return self.base(hidden), pair * self.below

    def forward(self, hidden, onset):
        """Logits (..., V) of every voice given the true onsets (..., V) of the voices before it."""
        base, pair = self.parts(hidden)
        return base + (pair * onset.to(pair.dtype).unsqueeze(-2)).sum(-1)


class BinHead(nn.Module):
    """Logits over K bins for each voice of a step, from the hidden state, the step's onsets, and `past`: the
    earlier tokens of this step, embedded in the head's hidden width."""

    def __init__(self, d_model, n_voice, d_head, n_bin, dropout):
        super().__init__()
        self.n_voice, self.d_head = n_voice, d_head
        self.from_hidden = nn.Linear(d_model, n_voice * d_head)
        self.from_onset = nn.Linear(n_voice, n_voice * d_head, bias=False)
        self.mlp = nn.Sequential(nn.SiLU(), Dropout(dropout), nn.Linear(d_head, d_head), nn.SiLU())
        self.out = nn.Linear(d_head, n_bin)
        self.voice_bias = nn.Parameter(torch.zeros(n_voice, n_bin))

    def prepare(self, hidden, onset):
        """The part of the input that is there before the step's first token: (..., V, d_head)."""
        prepared = self.from_hidden(hidden) + self.from_onset(onset.to(hidden.dtype))
        return prepared.unflatten(-1, (self.n_voice, -1))

    def read(self, prepared, past, voice):
        """Logits (..., K) for prepared and past (..., d_head) of the given voice or voices (...)."""
        return self.out(self.mlp(prepared + past)) + self.voice_bias[voice]


class HitChain(nn.Module):
    """Velocity and offset tokens of the hits of a step, voice by voice.

    A voice's velocity is given the velocities and offsets of the voices before it in the step; its offset
    is given those and its own velocity. Hits that share a step share most of their timing.
    """

    def __init__(self, d_model, n_voice, d_head, velocity_bins, offset_bins, dropout):
        super().__init__()
        self.velocity = BinHead(d_model, n_voice, d_head, velocity_bins, dropout)
        self.offset = BinHead(d_model, n_voice, d_head, offset_bins, dropout)
        # a row per voice and bin; the first half of a row goes to the velocity head, the second to the offset
        # head
        self.velocity_token = nn.Embedding(n_voice * velocity_bins, 2 * d_head)
        self.offset_token = nn.Embedding(n_voice * offset_bins, 2 * d_head)
        self.own_velocity = nn.Embedding(n_voice * velocity_bins, d_head)
        for table in (self.velocity_token, self.offset_token, self.own_velocity):
            nn.init.normal_(table.weight, std=0.02)
        self.register_buffer("velocity_row", torch.arange(n_voice) * velocity_bins, persistent=False)
        self.register_buffer("offset_row", torch.arange(n_voice) * offset_bins, persistent=False)

    def embed_hit(self, velocity_bin, offset_bin, voice):
        """A voice's hit as the voices after it see it: (..., 2 d_head)."""
        velocity = self.velocity_token(velocity_bin + self.velocity_row[voice])
        return velocity + self.offset_token(offset_bin + self.offset_row[voice])

    def embed_velocity(self, velocity_bin, voice):
        """A hit's velocity as its own offset sees it: (..., d_head)."""
        return self.own_velocity(velocity_bin + self.velocity_row[voice])

    def forward(self, hidden, onset, velocity_bin, offset_bin, index=None):
        """Logits (n_hit, K) of velocity and of offset at the true tokens, for the cells where onset
        (B, T, V) is set, in the order of onset.nonzero(); the bins are (B, T, V) as well. index: the
        hit_index of onset, made here where None."""
        index = hit_index(onset) if index is None else index
        hit = index["hit"]
        voice = hit % onset.shape[-1]
        velocity_bin, offset_bin = velocity_bin.flatten()[hit], offset_bin.flatten()[hit]
        hits = self.embed_hit(velocity_bin, offset_bin, voice)
        # few steps have more than one hit: sum over the pairs of hits there are, not over all voices of all
        # steps
        past = torch.zeros_like(hits).index_add(0, index["later_hit"], hits[index["earlier_hit"]])

        past_velocity, past_offset = past.chunk(2, dim=-1)
        past_offset = past_offset + self.embed_velocity(velocity_bin, voice)
        prepared_velocity = self.velocity.prepare(hidden, onset).flatten(0, -2)[hit]
        prepared_offset = self.offset.prepare(hidden, onset).flatten(0, -2)[hit]
        velocity = self.velocity.read(prepared_velocity, past_velocity, voice)
        offset = self.offset.read(prepared_offset, past_offset, voice)
        return velocity, offset


class StepHeads:
    """OnsetChain and HitChain laid out for one step in eval mode: few operations, the weights as they are
    now."""

    def __init__(self, onset_chain, hit_chain, of_voice=None):
        """of_voice: the class of its voices; None: VoiceHits."""
        V, base, pair = onset_chain.n_voice, onset_chain.base, onset_chain.pair
        weight, bias = base.weight.new_zeros(1 + V, V, base.in_features), base.bias.new_zeros(1 + V, V)
        weight[0], bias[0] = base.weight.detach(), base.bias.detach()
        if pair is not None:  # row 1 + u: what a hit of voice u adds to each voice after it
            below = onset_chain.below
            weight[1:] = (pair.weight.detach().unflatten(0, (V, V)) * below[..., None]).transpose(0, 1)
            bias[1:] = (pair.bias.detach().unflatten(0, (V, V)) * below).T
        self.onset_weight, self.onset_bias = weight.flatten(0, 1).T, bias.flatten()
        self.n_voice = V
        self.voices = [(of_voice or VoiceHits)(hit_chain, voice) for voice in range(V)]

    def onset_parts(self, hidden):
        """hidden (n, D) -> (n, 1 + V, V): the voices' logits without any hit, then, row by row, what a hit of
        each voice adds to those of the voices after it."""
        return torch.addmm(self.onset_bias, hidden, self.onset_weight).view(len(hidden), -1, self.n_voice)


class VoiceHits:
    """One voice of a HitChain as a step reads it: its rows of the two heads and of the tables."""

    def __init__(self, chain, voice):
        heads = chain.velocity, chain.offset
        rows = slice(voice * chain.velocity.d_head, (voice + 1) * chain.velocity.d_head)
        into = [torch.cat((head.from_hidden.weight[rows], head.from_onset.weight[rows]), 1) for head in heads]
        self.into = torch.cat(into).detach().T  # (D + V, 2 d_head)
        self.bias = torch.cat([head.from_hidden.bias[rows] for head in heads]).detach()
        self.layers = [
            [
                head.mlp[2].bias.detach(),
                head.mlp[2].weight.detach().T,
                (head.out.bias + head.voice_bias[voice]).detach(),
                head.out.weight.detach().T,
            ]
            for head in heads
        ]

        def of_voice(table):
            return table.weight.detach().unflatten(0, (chain.velocity.n_voice, -1))[voice]

        self.velocity_token, self.offset_token = of_voice(chain.velocity_token), of_voice(chain.offset_token)
        self.own_velocity = of_voice(chain.own_velocity)

    def velocity_logits(self, x, past):
        """x (n, D + V), hidden state and onsets, and past (n, 2 d_head), None before the first hit -> the
        logits (n, K), and what the head of offset reads of x and past, (n, d_head)."""
        prepared = torch.addmm(self.bias, x, self.into)
        prepared = prepared if past is None else prepared + past
        for_velocity, for_offset = prepared.chunk(2, 1)
        return bin_logits(for_velocity, *self.layers[0]), for_offset

    def offset_logits(self, for_offset, velocity_bin):
        """With the hit's own velocity (n,)."""
        return bin_logits(for_offset + self.own_velocity.index_select(0, velocity_bin), *self.layers[1])

    def embed_hit(self, velocity_bin, offset_bin):
        """See HitChain.embed_hit."""
        velocity = self.velocity_token.index_select(0, velocity_bin)
        return velocity + self.offset_token.index_select(0, offset_bin)


def bin_logits(prepared, between_bias, between, out_bias, out):
    """BinHead.read without dropout: (n, d_head) -> (n, K)."""
    x = torch.addmm(between_bias, F.silu(prepared), between)
    return torch.addmm(out_bias, F.silu(x), out)


class TapTokens(nn.Module):
    """The tap's own velocity and offset at a step, as tokens, for the heads of velocity and offset.

    Most hits repeat the tap, and the path through encoder and decoder is slow to learn that.
    """

    def __init__(self, d_model, velocity_bins, offset_bins):
        super().__init__()
        self.velocity_bins, self.offset_bins = velocity_bins, offset_bins
        self.velocity = nn.Embedding(velocity_bins + 1, d_model)  # row 0: no tap, or of unknown velocity
        self.offset = nn.Embedding(offset_bins + 1, d_model)
        for table in (self.velocity, self.offset):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, rhythm, heard):
        """rhythm: onset, vel, timeoffset (B, T, V), one channel of which holds the tap; heard (B, T) bool:
        steps at which the heads may use it -> (B, T, D)."""
        onset, vel, timeoffset = (roll.sum(-1) for roll in rhythm)
        tapped = (onset > 0) & heard
        velocity = torch.where(tapped & (vel > 0), velocity_to_bin(vel, self.velocity_bins) + 1, 0)
        offset = torch.where(tapped, offset_to_bin(timeoffset, self.offset_bins) + 1, 0)
        return self.velocity(velocity) + self.offset(offset)

    def no_tap(self):
        """The tokens of no tap at all, (D,)."""
        return self.velocity.weight[0] + self.offset.weight[0]


def hit_index(onset):
    """Where the hits of onset (B, T, V) are, as a dict of long tensors:

    hit (n_hit,)                        their places in the flattened onset, in order
    later_hit, earlier_hit (n_pair,)    rows of `hit`: all pairs of hits that share a step

    Their number depends on the values, for which a GPU would have to be waited for. So the loader makes this
    with the batch, on the CPU.
    """
    hit = onset.flatten().nonzero().squeeze(1)
    step = hit.div(onset.shape[-1], rounding_mode="floor")
    apart = range(1, onset.shape[-1])
    earlier = [(step[n:] == step[:-n]).nonzero().squeeze(1) for n in apart]
    later = [row + n for n, row in zip(apart, earlier)]
    return {"hit": hit, "later_hit": torch.cat(later), "earlier_hit": torch.cat(earlier)}


def velocity_to_bin(vel, n_bin):
    """Velocity in (0, 1] -> token 0 .. n_bin - 1 (0 where there is no hit)."""
    return (torch.ceil(vel * n_bin).long() - 1).clamp(0, n_bin - 1)


def offset_to_bin(timeoffset, n_bin):
    """Offset in [-0.5, 0.5) -> token 0 .. n_bin - 1."""
    return torch.floor((timeoffset + 0.5) * n_bin).long().clamp(0, n_bin - 1)


def bin_to_velocity(velocity_bin, within, n_bin):
    """A velocity of the bin; `within` in [0, 1) says where: below AT_THE_TOP of the last bin at its end.
    Never below MIDI velocity 1."""
    in_last = ((within - AT_THE_TOP) / (1 - AT_THE_TOP)).clamp(min=0)
    within = torch.where(velocity_bin == n_bin - 1, in_last, within)
    return ((velocity_bin + 1 - within) / n_bin).clamp(min=1 / 127)


def bin_to_offset(offset_bin, within, n_bin):
    """An offset of the bin; `within` in [0, 1) says where. Always below 0.5, in float32 too."""
    return ((offset_bin + within) / n_bin - 0.5).clamp(max=0.5 - 1e-6)
