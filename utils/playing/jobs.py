"""The jobs of a drummer who is given drums: play them with feeling, add to them, mend, continue, vary, blend them.

Drums are three rolls, onset, vel and timeoffset (1, T, 9), as drums_from_midi and generate give them, of any length.
Every job takes, by keyword, the controls of `generate`, as long as what it returns, and what else `generate` takes by
keyword: seed, model, num_samples, playable... `rhythm`, three rolls as process_midi gives them, is heard beside the
drums. lock: one or several voices of the drums that stay exactly as they are, whatever the job does to the others.
Bars, steps and voices are counted from 0; voices may go by name. All return onset, vel, timeoffset, float32
(num_samples, T, 9), in which what was to stay is as it was, to the bit, and raise ValueError naming the argument.
"""

import math

import torch

from model.decoding.sampling import encode
from utils.checks import drum_rolls, in_eval_mode, make_generator, numbers, three, voice_mask, whole
from utils.get_model import given_model
from utils.midi.drums import N_VOICES
from utils.midi.read import rhythm_roll
from utils.playing.generate import check_keywords, generate

BEAT = 4  # steps


def humanise(drums, *, lock=(), **playing):
    """Play the hits of the drums anew: the onsets stay, velocity and timing are the model's. Those of the drums are not
    looked at; to keep their accents, give the drums as `rhythm`, too."""
    rolls = drum_rolls(drums)
    everywhere = torch.ones_like(rolls[0])
    return _play_around(rolls, everywhere, everywhere * _locked(lock), **playing)


def add_voices(drums, voices, **playing):
    """Play the voices named, a list of names or indices, to the others, which stay. Drums that have them lose theirs."""
    return infill(drums, voices=voices, **playing)


def infill(drums, *, bars=None, steps=None, voices=None, lock=(), **playing):
    """Play anew what is named, with all that stands before, after and beside it in view.

    bars, steps: a number or several (a list, a range); voices: a list of names or indices. Cells that are in all that
    is named are played anew: steps=range(8, 16), voices=["kick"] is the kick of the first bar's second half.
    """
    rolls = drum_rolls(drums)
    model = playing["model"] = _model(playing)
    n_steps = len(rolls[0])
    if bars is None and steps is None and voices is None:
        raise ValueError("bars, steps, voices: None; at least one of them must say what is played anew")
    step = torch.arange(n_steps)
    anew = torch.ones(n_steps, N_VOICES, dtype=torch.bool)
    if bars is not None:
        n_bars = -(-n_steps // model.steps_per_bar)
        anew &= torch.isin(step // model.steps_per_bar, numbers(bars, "bars", n_bars))[:, None]
    if steps is not None:
        anew &= torch.isin(step, numbers(steps, "steps", n_steps))[:, None]
    if voices is not None:
        anew &= voice_mask(voices, "voices")
    if not anew.any():
        raise ValueError(f"bars: {bars}, steps: {steps}; no cell is in both of them")
    anew &= ~_locked(lock)
    if not anew.any():
        raise ValueError(f"lock: {lock!r}; nothing is left to be played anew")
    return _play_around(rolls, ~anew, ~anew, **playing)


def continue_drums(drums, bars, *, lock=(), **playing):
    """Go on for so many bars from where the drums, whole bars, end. Returns the drums and what follows them. Voices that
    are locked come round again."""
    rolls = drum_rolls(drums)
    model = playing["model"] = _model(playing)
    n_steps = len(rolls[0])
    if n_steps % model.steps_per_bar:
        raise ValueError(
            f"drums: {n_steps} steps; to go on from them they must be whole bars of {model.steps_per_bar}"
        )
    total = n_steps + whole(bars, "bars") * model.steps_per_bar
    rolls = [roll[torch.arange(total) % n_steps] for roll in rolls]
    there = (torch.arange(total) < n_steps)[:, None] | _locked(lock)
    return _play_around(rolls, there, there, **playing)


def vary(drums, strength, *, lock=(), seed=None, **playing):
    """Play variations: at strength 0 the drums themselves, at 1 another groove, in between something of both.

    So much of the drums is played anew, beat by beat and voice by voice, and so far does the gist of their bars, which
    the new hits follow, move towards one drawn at random. What is played anew at some strength is so at all above it:
    turn the dial with one seed and the drums move away from where they were.
    """
    rolls = drum_rolls(drums)
    model = playing["model"] = _model(playing)
    check_strength(strength)
    generator = make_generator(seed, "cpu")
    seed = int(torch.randint(2**62, (), generator=generator)) if seed is None else seed
    mine = gist(drums, model)
    other = torch.randn(mine.shape, generator=generator)
    beats = torch.rand(-(-len(rolls[0]) // BEAT), N_VOICES, generator=generator)
    stays = (beats >= strength).repeat_interleave(BEAT, dim=0)[: len(rolls[0])] | _locked(lock)
    playing |= {"seed": seed, "latent": between(mine, other, strength)}
    if not stays.any():
        return _play(len(rolls[0]), **playing)
    return _play_around(rolls, stays, stays, **playing)


def interpolate(first, second, bars, **playing):
    """Play so many bars that lead from the groove of the first drums to that of the second: in the first bar the gist of
    the first drums, in the last that of the second, hit by hit neither. Drums shorter than that come round again."""
    model = playing["model"] = _model(playing)
    bars = whole(bars, "bars")
    ends = [gist(drums, model, name) for drums, name in ((first, "first"), (second, "second"))]
    ends = [latent[:, torch.arange(bars) % latent.shape[1]] for latent in ends]
    if "latent" in playing:
        raise ValueError("latent: not for interpolate, which makes its own; generate takes it")
    share = torch.linspace(0, 1, bars)[:, None] if bars > 1 else torch.tensor([[0.5]])
    return _play(bars * model.steps_per_bar, latent=between(*ends, share), **playing)


def check_strength(strength):
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength <= 1:
        raise ValueError(
            f"strength: {strength!r}; it must be a number from 0, the same drums, to 1, another groove"
        )


def gist(drums, model=None, name="drums"):
    """What the rhythm of drums is about, bar by bar: the latents (1, bars, Z) that a model makes of it. Drums may end
    within a bar."""
    rolls = drum_rolls(drums, name)
    model = _model({"model": model})
    weight = next(model.parameters())
    to_bar_line = (0, 0, 0, -len(rolls[0]) % model.steps_per_bar)
    rhythm = rhythm_roll(*(torch.nn.functional.pad(roll, to_bar_line).numpy() for roll in rolls))
    rhythm = [torch.from_numpy(roll)[None].to(weight.device) for roll in rhythm]
    everywhere = torch.ones(rhythm[0].shape[:2], dtype=torch.bool, device=weight.device)
    with in_eval_mode(model), torch.no_grad():
        return (
            encode(model, rhythm, everywhere, everywhere, everywhere, model.grid(len(rolls[0])).whole())[1]
            .float()
            .cpu()
        )


def between(a, b, share):
    """Latents (..., Z) on the way from a (share 0) to b (1), along the arc, as far from 0 as both are."""
    share = torch.as_tensor(share)
    angle = torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos()[..., None]
    straight = (1 - share) * a + share * b
    arc = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return torch.where((angle > 1e-3) & (angle < math.pi - 1e-3), arc, straight)


def _model(playing):
    return given_model(playing.get("model"))


def _play_around(rolls, known_onset, known_vel, rhythm=None, **playing):
    """Drums around the cells of rolls (T, 9) that are known; masks (T, 9)."""
    if "known" in playing:
        raise ValueError("known: not for a job, which says itself what is known; generate takes it")
    names = "onset", "vel", "timeoffset", "known_onset", "known_vel"
    known = dict(zip(names, (*rolls, known_onset, known_vel)))
    return _play(len(rolls[0]), rhythm, known=known, **playing)


def _play(
    n_steps, rhythm=None, density=None, intensity=None, instrument=None, style=None, masks=None, **playing
):
    rhythm = (None,) * 3 if rhythm is None else three(rhythm, "rhythm")
    check_keywords(playing)
    return generate(*rhythm, density, intensity, instrument, style, masks, n_steps, **playing)


def _locked(lock):
    """The voices that are locked, (9,) bool; none for () and None."""
    return torch.zeros(N_VOICES, dtype=torch.bool) if lock is None or lock == () else voice_mask(lock, "lock")
