"""Step by step: one step of the decoder over its KV cache, and what is drawn from it.

Shapes: B batch, n steps of a bar (or of its beginning), V voices (9), D model width, L layers, K bins. Under guidance
what goes through the decoder has as many times B rows as the Guide has views.
"""

import contextlib
import itertools
import math
import os
from typing import NamedTuple

import torch
import torch.nn.functional as F

from model.cpu_steps import CpuSteps, Matrices, TorchSteps
from model.heads import bin_to_offset, bin_to_velocity, offset_to_bin, velocity_to_bin

EVERY_ROW = slice(None)
FEW_ROWS = 4  # see decoding_precision
WORTH_A_THREAD = 300_000_000  # multiplications of a step in float32, see docs/performance.md
QUICKER_HALVES = 6  # times as many in the same time in bfloat16
# where that is set the machine is there for us alone: idle threads stay awake, and to share little work costs nothing
THREADS_STAY_AWAKE = os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE"
CONTROLS = "density", "intensity", "instrument", "style"


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

        return [min(range(len(earlier.views)), key=lambda i: apart(view, earlier.views[i])) for view in self.views]


def decoding_precision(model, rows):
    """The precision that multiplies the decoder's matrices the fastest, where the model itself is in float32.

    docs/performance.md has what was measured. Few rows on a CPU are a matter of reading the weights, so they are read in
    8 bits, where torch has a quick kernel for it. More rows are a matter of multiplying: in bfloat16 where the CPU has a
    unit for such products, else in float32.
    """
    weight = model.decoder.start
    if weight.dtype != torch.float32:
        return weight.dtype
    if weight.is_cuda:
        return torch.bfloat16
    if weight.device.type != "cpu":
        return torch.float32
    if rows <= FEW_ROWS and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        return torch.int8
    return torch.bfloat16 if torch.cpu.get_capabilities().get("amx_bf16") else torch.float32


@contextlib.contextmanager
def few_threads(little, device):
    """One thread of the CPU where there is so little to multiply that waking another takes longer than it helps."""
    before = torch.get_num_threads()
    if device.type == "cpu" and little and not THREADS_STAY_AWAKE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


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


def matrices_of(model, precision):
    """The Matrices of a model on the CPU, kept with it as long as nothing in them changes.

    The sums tell what the counters of changes do not see: what was done to a parameter's `.data`.
    """
    parts = model.decoder.layers, model.decoder.embed, model.onset_head, model.budget or torch.nn.Identity()
    made_of = [(p.data_ptr(), p._version, p.sum().item()) for part in parts for p in part.parameters()]
    kept = Kept.of(model, "matrices", made_of)
    if precision not in kept:
        kept[precision] = Matrices(model, precision)
    return kept[precision]


class Decoding:
    """The state between one step and the next: the cache, what was played last, and how far it has come.

    The steps of a bar read and write tensors that stay where they are, and never ask the device anything, so that a
    GPU can take a bar in one go, see model.capture.
    """

    may_use_numpy = True  # where it can be

    def __init__(self, model, batch_size, guide, temperature, precision=None):
        """precision: torch.float32, float16 or bfloat16, on a CPU also int8, in which the decoder's matrices are
        multiplied; None: decoding_precision."""
        self.model, self.guide, self.temperature = model, guide, temperature
        rows = batch_size * len(guide.views)
        precision = precision or decoding_precision(model, rows)
        layers = model.decoder.layers
        self.multiplications = rows * sum(matrix.numel() for layer in layers for matrix in layer.matrices())
        if precision == torch.bfloat16:
            self.multiplications //= QUICKER_HALVES
        self.cache = model.decoder.empty_cache(rows)
        start = model.decoder.start
        if self.may_use_numpy and start.device.type == "cpu" and start.dtype == torch.float32:
            self.steps = CpuSteps(model, matrices_of(model, precision), self.cache)
        else:
            self.steps = TorchSteps(model, [layer.weights(precision) for layer in layers], self.cache)
        self.voices = model.hit_head.voices()
        self.x = model.decoder.start.detach().repeat(rows, 1)
        self.position = 0

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
        """Draw the n steps of a bar, or of its beginning: told as told_of gives it, of these steps; uniform
        (B, n, V, 5), in [0, 1). Returns onset, vel, timeoffset, float32 (B, n, V)."""
        n = uniform.shape[1]
        places = self.model.decoder.places(self.position, n)
        self.position += n
        with few_threads(self.multiplications < WORTH_A_THREAD, uniform.device):
            return self.play(told, uniform, places)

    def play(self, told, uniform, places):
        guide = self.guide
        threshold = onset_threshold(uniform[..., 0], self.temperature, told)
        played_onset, played_vel = torch.zeros_like(threshold[:, 0]), torch.zeros_like(threshold[:, 0])
        x, drawn = self.x, []
        told = {name: roll.unbind(1) for name, roll in told.items()}
        by_step = zip(threshold.unbind(1), uniform.unbind(1), zip(*(table.unbind() for table in places)))
        for t, (threshold, uniform, place) in enumerate(by_step):
            here = {name: roll[t] for name, roll in told.items()}
            played = guide.double(played_onset), guide.double(played_vel)
            added = self.steps.add_budget(here["added"], here.get("asked"), *played)
            hidden = self.steps.step(x, added, place)
            onset = draw_onsets(self.steps.onset_parts(hidden), threshold, guide, here)
            vel, timeoffset = draw_hits(self.voices, hidden, onset, here, uniform, guide, self.temperature)
            drawn.append((onset, vel, timeoffset))
            x = self.steps.embed(*(guide.double(roll).to(hidden.dtype) for roll in drawn[-1]))
            played_onset, played_vel = played_onset + onset, played_vel + vel
        self.x.copy_(x)
        return tuple(torch.stack(roll, 1) for roll in zip(*drawn))


def onset_threshold(uniform, temperature, told):
    """What the logits of the onsets, without the prior, have to exceed: (B, ..., V), of uniform (B, ..., V).

    A hit where uniform < sigmoid(logit / temperature). Told prior, forbid (if any), the known cells (if any), which
    come before what is forbidden, and the mask, which comes before all.
    """
    threshold = temperature * torch.logit(uniform) - told["prior"]
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
    chain = chain_on_cpu if above.device.type == "cpu" else chain_anywhere
    above = chain(above, pair, onset)
    return keep_within(onset, above, told) if "limit" in told else onset


def chain_anywhere(above, pair, onset):
    """above (B, V): the logits given no voice, above their thresholds; pair (B, V, V): what each voice adds to those
    that come after it. Writes onset (B, V), returns the logits given all voices, above their thresholds."""
    for v in range(onset.shape[1]):
        torch.gt(above[:, v], 0, out=onset[:, v])
        if v + 1 < onset.shape[1]:
            above = torch.addcmul(above, pair[:, :, v], onset[:, v, None])
    return above


def chain_on_cpu(above, pair, onset):
    """The same in NumPy, looking: most voices are silent in most steps, and have nothing to add."""
    above, pair, onset = above.numpy(), pair.numpy(), onset.numpy()
    for v in range(onset.shape[1]):
        hit = above[:, v] > 0
        if hit.any():
            onset[:, v] = hit
            above += pair[:, :, v] * onset[:, v, None]
    return torch.from_numpy(above)


def keep_within(onset, above, told):
    """Of the hits drawn in a step, onset (B, V), as many as may be: those that are the furthest above their thresholds,
    above (B, V), and all that are known. Told of this step: limit (B, R, V), R rules, each of them the same number at
    all voices that it counts, how many of them may be hit, and V or more at the others.

    The hits are dropped once all voices are drawn: to stop at the limit would let the lowest voices win.
    """
    known = told["known_onset"] & told["onset"].bool() if "known_onset" in told else torch.zeros_like(onset).bool()
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
        logits = guide.blend(voice.offset.logits(*step, of_rows(past_offset, rows) + voice.own(doubled_bin)))
        offset_bin = pick(logits, uniform[some, v, 3], temperature)
        if known is not None:
            offset_bin = torch.where(known[some, v], known_offset_bin[some, v], offset_bin)

        velocity_bins[some, v], offset_bins[some, v] = velocity_bin, offset_bin
        if any(hits[v + 1 :]):
            past[rows] += voice.note(doubled_bin, guide.double(offset_bin)) * step[1][:, v, None]

    is_tap = velocity_bins == told["tap_velocity_bin"][:, None]
    is_tap &= offset_bins == told["tap_offset_bin"][:, None]
    vel = bin_to_velocity(velocity_bins, uniform[..., 2], n_velocity)
    timeoffset = bin_to_offset(offset_bins, uniform[..., 4], n_offset)
    vel = torch.where(is_tap, told["tap_vel"][:, None], vel)
    timeoffset = torch.where(is_tap, told["tap_timeoffset"][:, None], timeoffset)
    if known is not None:
        vel, timeoffset = torch.where(known, told["vel"], vel), torch.where(known, told["timeoffset"], timeoffset)
    return vel * onset, timeoffset * onset


def of_rows(x, rows):
    return x if rows is EVERY_ROW else x[rows]


def pick(logits, uniform, temperature):
    """Draw a token from logits (B, K) by inverting the distribution at uniform (B,), with no host synchronisation."""
    logits = logits.float() if temperature == 1 else logits.float() / temperature
    cumulative = logits.softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulative, uniform.unsqueeze(-1).contiguous()).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
