"""Drums for a rhythm, around what is already played, under control bar by bar: the one door to the model.

Shapes: T steps of a sixteenth, 16 to a bar; nine voices in the order of utils/midi/drums.py.
"""

import inspect

import torch

from model.controls import CONTROLS
from model.decoding.sampling import sample
from utils.checks import (
    GUIDANCE,
    MAX_RHYTHM_STEPS,
    bar_latents,
    check_temperature,
    how_followed,
    in_eval_mode,
    known_cells,
    laid_out,
    limits,
    locked_cells,
    make_generator,
    strengths,
    whole,
)
from utils.get_model import given_model
from utils.playing.controls import bar_means, check_keys, from_model_units, laid_controls
from utils.playing.ranking import best_takes


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
    seed=None,
    temperature=1.0,
    guidance=GUIDANCE,
    follow="literal",
    num_samples=1,
    best_of=None,
    drums=None,
    lock=None,
    at_most=None,
    playable=False,
    known=None,
    latent=None,
):
    """Write drums to a rhythm.

    Everything may be a torch tensor or a NumPy array, with or without the leading 1, on any device.

    piano_roll_onset, piano_roll_vel, piano_roll_timeoffset: (1, T, 9), the rhythm, up to 4096 bars. Of each
        step the loudest hit is heard. Shorter than seq_len: the model goes on by itself; longer: cut. All three
        None: there is no rhythm, and the model plays what it likes.
    density, intensity: (1, >= seq_len) z-scores; instrument: (1, >= seq_len, 9), share of the bar's steps that
        each voice hits, below zero: the voice is forbidden on that step; style: (1, >= seq_len) ids, or one
        style's name; or a blend of styles, a dict like {"funk": 0.7, "jazz": 0.3} or a curve of weights
        (1, >= seq_len, 18), of which only the ratios count. A bar is asked for the mean of its steps, as nearly as it
        is possible. NaN (style: 18 and above, or no weight at all) is unset, and None leaves the control to the model.
    masks: (1, >= seq_len), 1 = play, 0 = stay silent; None plays throughout.
    seq_len: steps to write, a multiple of 4.
    model: default: the one built last by get_model. seed: same seed, same drums; None: new ones each time.
    temperature: above 0. guidance: how much the controls weigh where any is set; 1 samples as trained. Or a dict with a
        strength for any of density, intensity, instrument and style, the others having the default. num_samples: versions.
    follow: "literal" or 1 follows the rhythm hit by hit, "loose" or 0 its gist bar by bar; numbers between lie between,
        and up to 2 beyond. "free": not at all.
    drums, lock: three rolls, and one or several of their voices, names or indices, that are played exactly as they are
        there; drums shorter than seq_len come round again. at_most: no step hits more voices than this. playable: no
        step needs more than two hands and two feet, of which one plays the kick and the other, unless the open hat
        sounds, the closed. Where too many are drawn the likelier ones stay; known cells always do.
    known: drums to play around, a dict of onset, vel, timeoffset (1, seq_len, 9) and of two masks of that shape:
        known_onset, the cells that are as `onset` has them, hit or not; known_vel, those of them whose hits have
        their velocity and offset, too. They come back as they are, unless `masks` silences them, and are heard with
        the rhythm, which is then followed literally, or not at all. utils/playing/jobs.py has the jobs that this is for.
    latent: (1, bars, Z), used in place of the gist of each bar of the rhythm; see utils.playing.jobs.gist.

    best_of: so many takes are played, or num_samples if that is more, and the num_samples of them that obey best come
        back, the best first and no two alike (see utils/playing/ranking.py); fewer, with a warning, where there are no more
        different ones. None: num_samples takes as they are drawn.

    Returns onset, vel, timeoffset, float32 (num_samples, seq_len, 9) on the model's device.
    Leaves no trace: the model's train/eval mode and all global random numbers are as before.
    Raises ValueError naming the argument, the value and the rule.
    """
    model = given_model(model)
    seq_len = whole(seq_len, "seq_len")
    if seq_len % 4 or seq_len > MAX_RHYTHM_STEPS:
        raise ValueError(f"seq_len: {seq_len}; it must be a multiple of 4 steps, {MAX_RHYTHM_STEPS} at most")
    num_samples = whole(num_samples, "num_samples")
    best_of = None if best_of is None else max(num_samples, whole(best_of, "best_of"))
    temperature = check_temperature(temperature)
    follow, guidance = how_followed(follow), strengths(guidance)

    bar, factor = model.steps_per_bar, model.normalize_factor
    *rhythm, heard = laid_out((piano_roll_onset, piano_roll_vel, piano_roll_timeoffset), seq_len)
    known, locked = None if known is None else known_cells(known, seq_len), locked_cells(lock, drums, seq_len)
    if known and locked:
        known = {
            name: torch.where(locked["known_onset"], locked[name], cells) for name, cells in known.items()
        }
    known = known or locked
    if latent is not None:
        latent = bar_latents(latent, -(-seq_len // bar), model.config["Model"]["Intermediate"]["d_latent"])
    limit = limits(at_most, playable, seq_len)
    controls = laid_controls(density, intensity, instrument, style, masks, seq_len, factor)
    density, intensity, instrument, style, mask = controls
    style = bar_means(style, mask, bar) if style.ndim > 1 else style
    curves = [bar_means(curve, mask, bar) for curve in (density, intensity, instrument.clamp(0, 1))]
    rhythm, use_context, use_latent = as_heard(
        rhythm, heard, follow, bar, known is not None, latent is not None
    )

    weight = next(model.parameters())
    generator = make_generator(seed, weight.device)

    def prepare(x):
        """(seq_len, ...) -> (1, seq_len, ...) on the model's device."""
        return x[None].to(weight.device)

    curves = dict(zip(CONTROLS, map(prepare, (*curves, style))))

    def draw(num_samples):
        return sample(
            model,
            [prepare(roll) for roll in rhythm],
            curves,
            prepare(mask),
            use_context=prepare(use_context),
            use_latent=prepare(use_latent),
            known=known and {name: prepare(x) for name, x in known.items()},
            latent=None if latent is None else prepare(latent),
            forbid=prepare(instrument < 0),
            limit=None if limit is None else prepare(limit),
            num_samples=num_samples,
            temperature=temperature,
            guidance=guidance,
            follow=1.0 if follow is None else follow,
            generator=generator,
        )

    with in_eval_mode(model):
        if best_of is None:
            return draw(num_samples)
        onsets_known = known is not None and bool((known["known_onset"] | ~mask[:, None]).all())
        asked = from_model_units(*controls, factor, bar)
        followed = rhythm[0][: heard if use_context.any() else 0]
        return best_takes(draw, num_samples, best_of, asked, followed, bar, onsets_known)


def check_keywords(playing, own=()):
    """ValueError for the first of these names that is neither a function's own nor one that `generate` takes by keyword
    alone, with the nearest that is."""
    parts = inspect.signature(generate).parameters.values()
    names = [part.name for part in parts if part.kind == part.KEYWORD_ONLY]
    check_keys(playing, [*own, *(name for name in names if name not in own)], what="argument")


def as_heard(rhythm, heard, follow, steps_per_bar, known, latent):
    """The rhythm, and on which steps its context and its latent are used.

    Known drums reach the decoder through the context alone. So where there are any it is used throughout, and a rhythm
    that is not to be heard is silent, as in training.
    """
    step = torch.arange(len(rhythm[0]))
    if known:
        if follow not in (1, None):
            follow = repr("loose") if follow == 0 else f"{follow:g}"
            raise ValueError(
                f"follow: {follow}; beside known drums a rhythm is followed literally, or 'free', not at all"
            )
        rhythm = [torch.zeros_like(roll) for roll in rhythm] if follow is None else rhythm
        return rhythm, step >= 0, step >= 0
    use_latent = (step // steps_per_bar * steps_per_bar < heard) & (follow is not None)
    return rhythm, (step < heard) & bool(follow), use_latent | latent
