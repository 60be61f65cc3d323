"""Step by step: one step of the decoder over its KV cache, and what is drawn from it.

Shapes: B batch, n steps of a bar (or of its beginning), V voices (9), D model width, L layers, K bins. Under guidance
what goes through the decoder has as many times B rows as the Guide has views.
"""

import itertools
import math
from typing import NamedTuple

import torch

from model.controls import CONTROLS
from model.heads import bin_to_offset, bin_to_velocity, offset_to_bin, velocity_to_bin

EVERY_ROW = slice(None)


class View(NamedTuple):
    """How a row of a guided batch sees what is asked: which of the given controls it is not told, and whether it hears
    the tap hit by hit, or no more than the gist of its bars."""

    without: frozenset
    literal: bool


class Guide:
    """Classifier-free guidance (Ho & Salimans 2022), for each control and for the tap, as one larger batch: each of B rows
    comes in several views, and their logits are mixed by weights that add up to 1.

    strength: one of all controls, or a dict of all four. Controls of one strength go together, the weaker before the
    stronger: on the way from no control to all of them each step counts as many times as its strength says, each given
    those before it. At 1 throughout that is Bayes' rule and the model as trained, and one strength for all is the plain
    guidance between all and none. follow: how many times the step from the gist of the tap to its hits counts. given: the
    controls that are set anywhere; no row is spent on the others, nor on views of no weight.
    """

    def __init__(self, strength=1.0, follow=1.0, given=CONTROLS):
        strengths = strength if isinstance(strength, dict) else dict.fromkeys(CONTROLS, strength)
        levels = sorted({strengths[name] for name in given})
        weights = {}
        for level, (reached, ahead) in zip((-math.inf, *levels), itertools.pairwise((1.0, *levels, 0.0))):
            without = frozenset(name for name in given if strengths[name] > level)
            weights[View(without, False)] = (reached - ahead) * (1 - follow)
            weights[View(without, True)] = (reached - ahead) * follow
        # the view of the least comes last: the others are measured from it
        self.weights = {view: weight for view, weight in reversed(weights.items()) if weight != 0}
        self.views = tuple(self.weights)
        self.follow, self.given = follow, frozenset(given)

    def __eq__(self, other):
        return self.weights == other.weights

    def __hash__(self):
        return hash(tuple(self.weights.items()))

    def double(self, x):
        """x (B, ...) for each view: (n B, ...)."""
        return torch.cat((x,) * len(self.views)) if len(self.views) > 1 else x

    def controls(self, x, unset, name):
        """A control (B, ...) for each view: as it is, or `unset` throughout."""
        return torch.cat([torch.full_like(x, unset) if name in view.without else x for view in self.views])

    def heard(self, x, unheard):
        """What comes of the tap (B, ...) for each view, `unheard` (B, ...) where no more than its gist is heard."""
        return torch.cat([x if view.literal else unheard for view in self.views])

    def rows(self, rows, B):
        """The rows of B in all views; rows (n,) long, or EVERY_ROW."""
        if rows is EVERY_ROW or len(self.views) == 1:
            return rows
        return torch.cat([rows + B * view for view in range(len(self.views))])

    def blend(self, logits):
        """(n B, ...) -> (B, ...), or the logits as they are of a single view."""
        if len(self.views) == 1:
            return logits
        *more, least = logits.chunk(len(self.views))
        return sum((weight * (view - least) for weight, view in zip(self.weights.values(), more)), least)

    def came_from(self, earlier):
        """For each view the index of the one of an earlier Guide, of the same strengths and fewer controls given, that
        was the same, or the nearest to it where none was."""

        def apart(view, other):
            return view.literal != other.literal, len((view.without & earlier.given) ^ other.without)

        return [
            min(range(len(earlier.views)), key=lambda i: apart(view, earlier.views[i])) for view in self.views
        ]


def decoding_precision(model):
    """The precision in which the decoder's matrices are multiplied the fastest: on a CPU 8 bits, for there it is a matter of
    reading them, on CUDA bfloat16, else, and where the model itself is not in float32, its own."""
    weight = model.decoder.start
    if weight.dtype != torch.float32:
        return weight.dtype
    return {"cpu": torch.int8, "cuda": torch.bfloat16}.get(weight.device.type, torch.float32)


class Kept(dict):
    """What decoding made of a model and may use again, and the state of the weights it was made of. A copy of the
    model starts without: graphs can't be copied or saved."""

    made_of = None

    def __deepcopy__(self, memo):
        return Kept()

    def __reduce__(self):
        return Kept, ()

    @staticmethod
    def of(model, name, made_of):
        """That of the model by this name, empty where made_of is another than it was."""
        kept = model.__dict__.setdefault(name, Kept())
        if kept.made_of != made_of:
            kept.clear()
            kept.made_of = made_of
        return kept


class Decoding:
    """The state between one step and the next: the cache, what was played last, and how far it has come.

    Here in torch, on any device. The steps of a bar read and write tensors that stay where they are, and never ask the
    device anything, so that a GPU can take a bar in one go, see model.decoding.capture.
    """

    def __init__(self, model, batch_size, guide, temperature, precision):
        """precision: torch.float32, float16 or bfloat16, in which the decoder's matrices are multiplied."""
        self.model, self.guide, self.temperature, self.precision = model, guide, temperature, precision
        self.x = model.decoder.start.detach().repeat(batch_size * len(guide.views), 1)
        self.position = 0
        self.lay_out()

    def lay_out(self):
        self.cache = self.model.decoder.empty_cache(len(self.x))
        self.weights = [layer.weights(self.precision) for layer in self.model.decoder.layers]
        self.voices = self.model.hit_head.voices()

    def restart(self):
        """Forget what was played: the places of the cache that are not written anew are not looked at."""
        self.x.copy_(self.model.decoder.start)
        self.position = 0

    def go_on_from(self, earlier):
        """Take up what another Decoding has played, of the same strengths when fewer controls were given."""
        B = len(self.x) // len(self.guide.views)
        rows = [B * view + row for view in self.guide.came_from(earlier.guide) for row in range(B)]
        self.x.copy_(earlier.x[rows])
        for mine, other in zip(self.cache, earlier.cache):
            of_rows = other.unflatten(1, (len(earlier.x), -1))
            mine.copy_(of_rows[:, rows].flatten(1, 2))
        self.position = earlier.position

    def bar(self, told, uniform):
        """Draw the n steps of a bar, or of its beginning: told as build_conditioning gives it, of these steps; uniform
        (B, n, V, 5), in [0, 1). Returns onset, vel, timeoffset, float32 (B, n, V)."""
        n = uniform.shape[1]
        places = self.model.decoder.positions(self.position, n)
        self.position += n
        return self.play(told, uniform, places)

    def play(self, told, uniform, places):
        guide, model = self.guide, self.model
        threshold = onset_threshold(uniform[..., 0], self.temperature, told)
        played_onset, played_vel = torch.zeros_like(threshold[:, 0]), torch.zeros_like(threshold[:, 0])
        x, drawn = self.x, []
        told = {name: roll.unbind(1) for name, roll in told.items()}
        by_step = zip(threshold.unbind(1), uniform.unbind(1), zip(*(table.unbind() for table in places)))
        for t, (threshold, uniform, place) in enumerate(by_step):
            here = {name: roll[t] for name, roll in told.items()}
            played = guide.double(played_onset), guide.double(played_vel)
            modulation = model.add_budget(here["modulation"], here.get("budget_targets"), *played)
            hidden = model.decoder.step(x, modulation, self.weights, self.cache, place)
            onset = draw_onsets(model.onset_head.parts(hidden), threshold, guide, here)
            vel, timeoffset = draw_hits(self.voices, hidden, onset, here, uniform, guide, self.temperature)
            drawn.append((onset, vel, timeoffset))
            x = model.decoder.embed(*(guide.double(roll).to(hidden.dtype) for roll in drawn[-1]))
            played_onset, played_vel = played_onset + onset, played_vel + vel
        self.x.copy_(x)
        return tuple(torch.stack(roll, 1) for roll in zip(*drawn))


def onset_threshold(uniform, temperature, told):
    """What the logits of the onsets, without the prior, have to exceed: (B, ..., V), of uniform (B, ..., V).

    A hit where uniform < sigmoid(logit / temperature). Told prior, forbid (if any), the known cells (if any), which
    come before what is forbidden, and the mask, which comes before all.
    """
    threshold = temperature * torch.logit(uniform) - told["onset_bias"]
    if "forbid" in told:
        threshold = threshold.masked_fill(told["forbid"], math.inf)
    if "known_onset" in told:
        known = torch.where(told["onset"] > 0, -math.inf, math.inf)
        threshold = torch.where(told["known_onset"], known, threshold)
    return threshold.masked_fill(~told["mask"].unsqueeze(-1), math.inf)


def draw_onsets(parts, threshold, guide, told):
    """The chain of nine voices: parts as OnsetChain.parts gives them, threshold (B, V) as onset_threshold does, told of
    this step: limit and the known cells, if any -> onset (B, V) float32."""
    base, pair = (guide.blend(part.float()) for part in parts)
    above = base - threshold
    onset = torch.zeros_like(above)
    for v in range(onset.shape[1]):
        torch.gt(above[:, v], 0, out=onset[:, v])
        if v + 1 < onset.shape[1]:
            above = torch.addcmul(above, pair[:, :, v], onset[:, v, None])
    return keep_within(onset, above, told) if "limit" in told else onset


def keep_within(onset, above, told):
    """Of the hits drawn in a step, onset (B, V), as many as may be: those that are the furthest above their thresholds,
    above (B, V), and all that are known. Told of this step: limit (B, R, V), R rules, each of them the same number at
    all voices that it counts, how many of them may be hit, and V or more at the others.

    The hits are dropped once all voices are drawn: to stop at the limit would let the lowest voices win.
    """
    known = (
        told["known_onset"] & told["onset"].bool()
        if "known_onset" in told
        else torch.zeros_like(onset).bool()
    )
    margin = above.clamp(max=torch.finfo(above.dtype).max).masked_fill(known, math.inf)
    for most in told["limit"].unbind(1):
        counted = (onset > 0) & (most < onset.shape[1])
        rank = torch.where(counted, margin, -math.inf).argsort(descending=True, stable=True).argsort()
        onset = onset * ((rank < most) | known)
    return onset


def draw_hits(voices, hidden, onset, told, uniform, guide, temperature):
    """Velocity and offset of each hit, voice by voice: voices of HitChain.voices, hidden (B, D), onset (B, V), told of
    this step: the tap and the known cells, if any; uniform (B, V, 5). Returns vel, timeoffset (B, V), 0 where nothing
    is hit.

    A hit with the tap's own tokens is the tap: its values are the tap's to the last digit, not anywhere in the bin.
    """
    B, V = onset.shape
    # looking costs nothing on the CPU, and most voices are silent in most steps; on a GPU all rows are drawn
    hits = onset.sum(0).tolist() if onset.device.type == "cpu" else [B] * V
    if not any(hits):
        return torch.zeros_like(onset), torch.zeros_like(onset)
    n_velocity, n_offset = len(voices[0].velocity_token), len(voices[0].offset_token)
    known = told.get("known_vel")
    if known is not None:
        known_velocity_bin = velocity_to_bin(told["vel"], n_velocity)
        known_offset_bin = offset_to_bin(told["timeoffset"], n_offset)
    hidden, doubled_onset = hidden + told["tap_tokens"], guide.double(onset).to(hidden.dtype)
    past = hidden.new_zeros(len(hidden), voices[0].velocity_token.shape[1])
    past_velocity, past_offset = past.chunk(2, dim=-1)
    velocity_bins, offset_bins = onset.new_zeros(2, B, V, dtype=torch.long)
    for v, voice in enumerate(voices):
        if not hits[v]:
            continue
        some = EVERY_ROW if hits[v] == B else onset[:, v].nonzero().squeeze(1)
        rows = guide.rows(some, B)
        step = of_rows(hidden, rows), of_rows(doubled_onset, rows)

        logits = guide.blend(voice.velocity.logits(*step, of_rows(past_velocity, rows)))
        velocity_bin = pick(logits, uniform[some, v, 1], temperature)
        if known is not None:
            velocity_bin = torch.where(known[some, v], known_velocity_bin[some, v], velocity_bin)
        doubled_bin = guide.double(velocity_bin)
        logits = guide.blend(
            voice.offset.logits(*step, of_rows(past_offset, rows) + voice.embed_velocity(doubled_bin))
        )
        offset_bin = pick(logits, uniform[some, v, 3], temperature)
        if known is not None:
            offset_bin = torch.where(known[some, v], known_offset_bin[some, v], offset_bin)

        velocity_bins[some, v], offset_bins[some, v] = velocity_bin, offset_bin
        if any(hits[v + 1 :]):
            past[rows] += voice.embed_hit(doubled_bin, guide.double(offset_bin)) * step[1][:, v, None]

    is_tap = velocity_bins == told["tap_velocity_bin"][:, None]
    is_tap &= offset_bins == told["tap_offset_bin"][:, None]
    vel = bin_to_velocity(velocity_bins, uniform[..., 2], n_velocity)
    timeoffset = bin_to_offset(offset_bins, uniform[..., 4], n_offset)
    vel = torch.where(is_tap, told["tap_vel"][:, None], vel)
    timeoffset = torch.where(is_tap, told["tap_timeoffset"][:, None], timeoffset)
    if known is not None:
        vel, timeoffset = (
            torch.where(known, told["vel"], vel),
            torch.where(known, told["timeoffset"], timeoffset),
        )
    return vel * onset, timeoffset * onset


def of_rows(x, rows):
    return x if rows is EVERY_ROW else x[rows]


def pick(logits, uniform, temperature):
    """Draw a token from logits (B, K) by inverting the distribution at uniform (B,), with no host synchronisation."""
    logits = logits.float() if temperature == 1 else logits.float() / temperature
    cumulative = logits.softmax(-1).cumsum(-1)
    return (
        torch.searchsorted(cumulative, uniform.unsqueeze(-1).contiguous())
        .squeeze(-1)
        .clamp_(max=logits.shape[-1] - 1)
    )
