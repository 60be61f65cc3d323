"""Drums for a rhythm, around what is already played, under control bar by bar: the one door to the model.

Shapes: T steps of a sixteenth, 16 to a bar of 4/4; nine voices in the order of utils/midi/drums.py.
"""

import contextlib
from typing import NamedTuple

import torch

from model.bars import BarGrid
from model.controls import CONTROLS
from model.decoding.sampling import given_controls, sample
from utils.checks import ArgumentError, whole
from utils.device import few_threads, on_cpu
from utils.get_model import given_model
from utils.playing.bar_lines import BarLines
from utils.playing.controls import read_curves
from utils.playing.feel import Feel, as_shown, pace_of
from utils.playing.receipt import best_takes
from utils.playing.request import KINDS, LOOSE_KINDS, PART_BARS, Dials, with_arguments_of
from utils.playing.rests import silent_steps, unasked
from utils.playing.rolls import (
    MAX_RHYTHM_STEPS,
    as_floats,
    beat_of,
    known_cells,
    limits,
    lock_voices,
    read_rhythm,
)
from utils.playing.swing import Swing
from utils.warn import warn

MOST_STEPS = 64 * MAX_RHYTHM_STEPS  # of all takes together, half a gigabyte


@on_cpu
@with_arguments_of(Dials, *CONTROLS)
def generate(
    piano_roll_onset,
    piano_roll_vel,
    piano_roll_timeoffset,
    density,
    intensity,
    instrument,
    style,
    masks,
    seq_len,
    *,
    model=None,
    drums=None,
    known=None,
    latent=None,
    meter=None,
    **more,
):
    """Write drums to a rhythm.

    Everything may be a torch tensor or a NumPy array, with or without the leading 1, on any device.

    piano_roll_onset, piano_roll_vel, piano_roll_timeoffset: (1, T, 9), the rhythm, up to 4096 bars. Of each
        step the loudest hit is heard. Shorter than seq_len: the model goes on by itself; longer: cut. All
        three None: there is no rhythm, and the model plays what it likes.
    density, intensity: (1, >= seq_len) z-scores; instrument: (1, >= seq_len, 9), share of the bar's steps
        that each voice hits, below zero: the voice is forbidden on that step; style: (1, >= seq_len) ids, or
        one style's name; or a blend of styles, a dict like {"funk": 0.7, "jazz": 0.3} or a curve of weights
        (1, >= seq_len, 18), where only the ratios count. A bar gets the mean of its steps, as nearly as it is
        possible. NaN (style: 18 and above, or no weight at all) is unset, and None leaves the
        control to the model.
    steady: (1, >= seq_len), share of a bar's hits that are as in the bar before, 0 to 1; for models that know
        it.
    masks: (1, >= seq_len), 1 = play, 0 = stay silent; None plays throughout.
    seq_len: steps to write, a multiple of 4; with `meter` any number.
    meter: the meter of all bars, such as "3/4", or a list with one for each bar (also text with commas); the
        last one goes on to the end. A bar has 2 to 32 steps, and no more than the model's longest. All
        arguments count these bars. None: 4/4.
    model: default: the one built last by get_model. seed: same seed, same drums; None: new ones each time.
    temperature: above 0; None: 0.8 for the onsets, to hands and parts 0.85, with rare voices lifted; 0.6
        for velocity, 1 for timing. guidance: how much the
        controls weigh where any is set; 1 samples as trained; past 1 steady has four times as much.
        Or a dict with a strength for any control, the others having the default. num_samples: versions.
    follow: "literal" or 1 follows the rhythm hit by hit, "loose" or 0 its gist bar by bar; numbers between
        lie between, and up to 2 beyond. "free": not at all. Where nothing is asked or known, a rhythm that is
        not told to be hands or a part counts OWN_FOLLOW times as much, see utils.playing.request.
    rhythm_is: "drums", a drummer's own hits or a loop; "hands", taps of a person; "part", a bass, a guitar, a
        clave, a click or another part; None or "unset": not known. It changes nothing for a model that was
        not trained with it.
    timing, accents: how much of the rhythm's own timing and loudness the drums take over, from 0, none, to 1,
        all; see utils.playing.feel. None: 0 for "hands" and "part" with a model that knows them; else as the
        model draws them, which is near to the rhythm's.
    feel: 1, as played, to 0, on the grid, and every voice of a bar equally loud; or a dict with a number for
        any of timing and velocity.
    stops: the drums rest with a rhythm of any kind; else they do so if it is "drums" or "hands" and followed
        literally. A rhythm rests where a whole bar of it, or more, is silent.
    drums, lock: three rolls, and one or several of their voices, names or indices, that stay exactly as they
        are; drums shorter than seq_len repeat. at_most: no step hits more voices than this.
        playable: no step needs more than two hands and two feet: one foot plays the kick, the other the
        closed hat, unless the open hat sounds. The likelier hits stay; known cells always do.
    swing: where in their beats the off-beats lie, one ratio or one for each bar: from 0.5, straight, past
        0.667, triplets, to 0.75, or "rhythm" for that of the rhythm. The drawn hits are moved within their
        beats, except those known with their velocity, see utils.playing.swing.bend. None: as drawn.
    known: drums to play around, a dict of onset, vel, timeoffset (1, seq_len, 9) and of two masks of that
        shape: known_onset, the cells that are as `onset` has them, hit or not; known_vel, those of them whose
        hits have their velocity and offset, too. They come back as they are, unless `masks` silences them,
        and are heard with the rhythm, which is then followed literally, or not at all; see the jobs of
        utils/playing/jobs.py.
    latent: (1, bars, Z), in place of the gist of each bar of the rhythm; see utils.playing.jobs.gist.
    best_of: how many takes are played, at least num_samples; the best num_samples of them come back, see
        utils.playing.receipt.best_takes. None: num_samples takes as they are drawn; for hands and parts, with
        a model that knows them, the most typical of eight for each sample, or of sixteen, in every eight bars
        of a longer one; up to 32 in all.

    Returns onset, vel, timeoffset, float32 (num_samples, seq_len, 9) on the model's device.
    Leaves no trace: the model's train/eval mode and all global random numbers are as before.
    Raises ValueError naming the argument, the value and the rule.
    """
    curves = {"density": density, "intensity": intensity, "instrument": instrument, "style": style}
    curves |= {name: more.pop(name) for name in CONTROLS if name in more}
    dials = Dials(**more)
    rhythm = piano_roll_onset, piano_roll_vel, piano_roll_timeoffset
    model = given_model(model)
    grid_of = None if meter is None else BarLines.in_meter(model, meter).of_steps
    return draw(make_plan(model, dials, seq_len, rhythm, curves, masks, drums, known, latent, grid_of))


class Plan(NamedTuple):
    """What the model plays. inputs: as `sample` takes them, tensors (T, ...) on the CPU, in lists and dicts.
    wishes: by which best_takes chooses: asked, rhythm_onset, grid and onsets_known. feel and swing: what is
    done to drums once they are drawn. silent (T,) bool: steps on which the drums rest, of which the first
    `waits` bars are not played at all. loose, own: see Dials.for_model. fresh: bars at which drums begin
    anew. parts: the bars of each part of which the best is chosen by itself, see best_of_parts; none: takes
    are whole."""

    model: torch.nn.Module
    dials: Dials
    grid: BarGrid
    inputs: dict
    wishes: tuple
    feel: Feel
    silent: torch.Tensor
    waits: int
    loose: bool
    own: bool
    swing: Swing
    fresh: tuple = ()
    parts: tuple = ()

    @property
    def unheard(self):
        """Whether nothing of a rhythm is heard."""
        return not (self.inputs["use_context"].any() or self.inputs["use_latent"].any())

    @property
    def open(self):
        """Whether so much is left to chance that several takes are played where best_of does not say."""
        return self.loose or (len(self.parts) > 0 and self.unheard)


class Told(NamedTuple):
    """What is known of a rhythm beside its rolls. kind: what it is, of RHYTHM_KINDS; held (T,) bool: steps on
    which its notes sound on; bpm (T,): the tempo; pads (T,): on which of two pads its taps are, see PADS;
    each None where it is not known. waits: whether drums wait for its first note."""

    kind: str | None = None
    held: object = None
    bpm: object = None
    waits: bool = False
    pads: object = None


def make_plan(
    model,
    dials,
    seq_len,
    rhythm,
    curves,
    masks=None,
    drums=None,
    known=None,
    latent=None,
    grid_of=None,
    told=None,
    swing=None,
):
    """The Plan for arguments of `generate`; curves: control name -> curve, or None. grid_of: the BarGrid of
    so many steps; None: 4/4, and whole beats. told: Told, what the file says of the rhythm; its kind holds
    where dials.rhythm_is says nothing. swing: of each bar of a song, where dials.swing says nothing.

    Each cell is decided by the first of these that speaks of it:
    1. a step that `masks` leaves out is silent;
    2. a voice of `lock` is as in `drums`, which come round again;
    3. a cell that is known is as in `known`, hit or not;
    4. a voice that `instrument` forbids is silent, and all are where the drums rest with the rhythm;
    5. what is left is drawn, and of more hits than at_most and playable allow the likelier ones stay.
    """
    steps = whole(seq_len, "seq_len")
    if (steps % 4 and grid_of is None) or steps > MAX_RHYTHM_STEPS:
        raise ArgumentError("seq_len", steps, f"it must be a multiple of 4 steps, {MAX_RHYTHM_STEPS} at most")
    takes = max(dials.num_samples, dials.best_of or 1)
    if takes * steps > MOST_STEPS:
        rule = f"of {steps} steps at most {MOST_STEPS // steps} takes are played"
        raise ArgumentError("best_of" if takes > dials.num_samples else "num_samples", takes, rule)
    if drums is None and dials.locked is not None:
        raise ArgumentError("lock", dials.lock, "it needs `drums`, three rolls that have these voices")
    if drums is not None and dials.locked is None:
        rule = "lock is None; it must name the voices that are played as they are"
        raise ArgumentError("drums", drums, rule, "three rolls")
    grid = (grid_of or model.grid)(steps)
    rhythm, reach = read_rhythm(rhythm, steps)
    known = None if known is None else known_cells(known, steps)
    if dials.locked is not None:
        known = lock_voices(known, drums, dials.locked, steps, beat=beat_of(grid_of))
    if latent is not None:
        shape, given = (1, grid.n_bars, model.config["Model"]["Intermediate"]["d_latent"]), latent
        latent = as_floats(given, "latent")
        if latent.shape != shape or not latent.isfinite().all():
            rule = f"it must be {shape}, finite numbers for each bar of seq_len"
            raise ArgumentError("latent", given, rule, f"shape {tuple(latent.shape)}")
        latent = latent[0]
    controls, forbid, mask, asked = read_curves(curves, masks, grid, model.normalize_factor)
    check_known(model, controls)
    told = told or Told()
    kind = dials.rhythm_is or told.kind
    silent, waits = silent_steps(rhythm[0], told.held, kind, dials, grid, reach, told.waits)
    forbid, asked = forbid | silent[:, None], unasked(asked, silent, grid)
    if known is not None and (known["known_onset"] & (known["onset"] > 0))[: grid.lines[waits]].any():
        waits = 0  # they sound
    around = known is not None
    brought = rhythm if dials.followed is not None else [torch.zeros_like(roll) for roll in rhythm]
    rhythm = as_shown(brought, dials.timing, dials.accents, model.told_kind and kind)
    use_context, use_latent = as_heard(reach, dials, grid, around, latent is not None)
    inputs = {"rhythm": rhythm, "use_context": use_context, "use_latent": use_latent, "latent": latent}
    inputs |= {"controls": controls, "forbid": forbid, "mask": mask, "known": known}
    inputs |= {"limit": limits(dials.at_most, dials.playable, steps)}
    inputs |= {"rhythm_is": kind_of_rhythm(model, dials, told.kind, steps)}
    inputs |= {"pads": pads_of_rhythm(model, kind, told.pads, steps)}
    followed = rhythm[0][: reach if use_context.any() else 0]
    onsets_known = around and bool((known["known_onset"] | ~mask[:, None]).all())
    open_cells = known is None or bool(known["known_onset"].float().mean() < 0.5)  # but a crash or a lock
    own = bool(use_context.any()) and not (around or is_loose(model, kind) or given_controls(controls))
    loose = is_loose(model, kind) and open_cells and dials.followed is not None and reach > 0
    feel = Feel.of(brought, dials, pace_of(told.bpm, rhythm, kind, known), known, grid)
    swing = Swing.of(dials.ratio.over(grid.n_bars) if dials.ratio else swing, grid, brought, **inputs)
    wishes = asked, followed, grid, onsets_known
    parts = [min(PART_BARS, grid.n_bars - bar) for bar in range(0, grid.n_bars, PART_BARS)] if loose else []
    return Plan(
        model, dials, grid, inputs, wishes, feel, silent, waits, loose, own, swing, parts=tuple(parts)
    )


def draw(plan, best_first=False):
    """Play the plan. best_first: several takes are ranked, and no two alike. Returns onset, vel, timeoffset,
    float32 (num_samples, T, 9), on the model's device."""
    dials, device, grid = plan.dials, next(plan.model.parameters()).device, plan.grid
    first = grid.lines[plan.waits]
    inputs = later(plan.inputs | {"latent": None}, first)
    inputs["latent"] = later(plan.inputs["latent"], plan.waits)
    inputs = batch_of(inputs, 1, device) | dials.for_model(device, plan.loose, plan.own)
    wanted, grid = dials.num_samples, grid.cut(plan.waits, grid.n_bars)

    def takes(number):
        fresh = [bar - plan.waits for bar in plan.fresh]
        with few_threads(grid.n_steps, device, number):
            drums = sample(plan.model, **inputs, num_samples=number, grid=grid, fresh=fresh)
        drums = plan.feel(tuple(torch.nn.functional.pad(roll, (0, 0, first, 0)) for roll in drums))
        return plan.swing(drums)

    with in_eval_mode(plan.model):
        if dials.best_of is None and not plan.open and not best_first:
            return takes(wanted)
        many = max(wanted, dials.best_of or (dials.usual_best_of(plan.grid.n_bars) if plan.open else 1))
        return best_takes(takes, wanted, many, *plan.wishes, typical=plan.loose, parts=plan.parts)


def is_loose(model, kind):
    """Whether a rhythm of this kind leaves more open than a drummer's own does, to a model that is told."""
    return model.told_kind and kind in LOOSE_KINDS


def later(x, first):
    """A tensor from an index of its first dimension on; lists and dicts of them; None."""
    if isinstance(x, dict):
        return {name: later(part, first) for name, part in x.items()}
    if isinstance(x, list):
        return [later(part, first) for part in x]
    return None if x is None else x[first:]


def batch_of(x, n, device):
    """A tensor n times, along a new first dimension, on the device; lists and dicts of them; None."""
    if isinstance(x, dict):
        return {name: batch_of(part, n, device) for name, part in x.items()}
    if isinstance(x, list):
        return [batch_of(part, n, device) for part in x]
    return None if x is None else x.expand(n, *x.shape).to(device)


def as_heard(reach, dials, grid, known, latent):
    """On which steps the context and the latent of a rhythm are used, of which `reach` steps are there.

    Known drums reach the decoder through the context alone. So where there are any it is used throughout, and
    a rhythm that is not followed is silent, as in training.
    """
    step, follow = torch.arange(grid.n_steps), dials.followed
    if known:
        if follow not in (1, None):
            rule = "beside known drums a rhythm is followed literally, or 'free', not at all"
            raise ArgumentError("follow", dials.follow, rule)
        return step >= 0, step >= 0
    begun = grid.spread(torch.tensor(grid.starts) < reach, 0)
    return (step < reach) & bool(follow), (begun & (follow is not None)) | latent


def check_known(model, controls):
    """ArgumentError where a control is set that the model does not know."""
    for name, values in controls.items():
        if name not in model.controls and CONTROLS[name].is_set(values).any():
            rule = f"this model was trained without it; it knows {', '.join(model.controls)}"
            raise ArgumentError(name, None, rule, "")


def kind_of_rhythm(model, dials, told, steps):
    """What the rhythm is, (steps,) long as `sample` takes it, or None for a model that is not told."""
    if not model.told_kind:
        if dials.rhythm_is is not None:
            warn(f"rhythm_is: {dials.rhythm_is}; this model hears every rhythm alike, whatever it is")
        return None
    return torch.full((steps,), KINDS.index(dials.rhythm_is or told or "unset"))


def pads_of_rhythm(model, kind, pads, steps):
    """On which of two pads the taps of hands are, (steps,) long as `sample` takes it, or None for a model
    that is not told, and for other kinds of rhythm."""
    if not model.told_pads or kind != "hands" or pads is None:
        return None
    pads = torch.as_tensor(pads)[:steps]
    return torch.nn.functional.pad(pads, (0, steps - len(pads)))


@contextlib.contextmanager
def in_eval_mode(model):
    """The model in eval mode, and afterwards each of its modules as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
