"""How good a model is on a split: its likelihood, its drums beside real ones, its obedience, and what needs no model.

The windows are T4: four bars of the performances of a beat (no fills), not overlapping. One seed gives one result
on one kind of device; all is computed in float32.
"""

import time

import numpy as np
import torch
from tqdm import tqdm

from data_aug import RHYTHM_KEYS, make_batch, swap_rhythm
from model.sampling import sample
from utils.baselines import baseline_scores, taps
from utils.cache import decode, windows
from utils.metrics import SETTINGS, likelihood, to_device
from utils.realism import adherence, describe, onset_scores, tap_answers

BARS = 4  # of a window
BATCH = 128  # windows at once
CONTROLS = ("density", "intensity", "instrument", "style")
SWAPPED = ("given", "unset", "given_latent", "unset_latent")  # settings that are also scored with another's rhythm


def evaluate(model, config, cache, split, n_windows=None, samples=1, seed=0):
    """All figures of a model, in eval mode, on a split of the cache, as a dict for JSON; see `tables`.

    config: the checkpoint's, as utils.config gives it. n_windows: an evenly spaced part of the windows, all
    where None. samples: how often each window is played. `seconds` says how long each part took. Raises
    ValueError where the cache is too small.
    """
    batch, performance = evaluation_windows(cache, split, config.Data, model.normalize_factor, n_windows)
    other_split = "test" if split == "validation" else "validation"
    train, validation, other = (rolls_of(evaluation_windows(cache, name, config.Data, model.normalize_factor)[0])
                                for name in ("train", "validation", other_split))  # fmt: skip
    figures = {
        "split": split, "windows": len(performance), "performances": len(np.unique(performance)),
        "bars": BARS, "samples": samples, "seed": seed, "floor": other_split,
    }  # fmt: skip
    began, seconds = time.perf_counter(), {}
    figures["likelihood"] = teacher_forced(model, batch, performance)
    seconds["likelihood"] = time.perf_counter() - began

    real = rolls_of(batch)
    tap = taps(real[0])
    likeness = {"real": describe(real, real), "floor": describe(other, real)}
    tapped = {name: {**scores, **tap_answers(guess, tap)}
              for name, (guess, scores) in baseline_scores(train[0], validation[0], real[0]).items()}  # fmt: skip
    real_again = [np.tile(roll, (samples, 1, 1)) for roll in real]
    for setting in ("unset", "given"):
        began, title = time.perf_counter(), f"playing, controls {setting}"
        played = play(model, SETTINGS[setting](batch), samples, seed, title)
        seconds[title] = time.perf_counter() - began
        likeness[setting] = describe(played, real)
        answers = tap_answers(played[0], np.tile(tap, (samples, 1)))
        tapped[f"sampled, controls {setting}"] = {**onset_scores(played[0], real_again[0]), **answers}
    figures |= {"likeness": likeness, "tap": tapped}
    figures["adherence"] = adherence(real_again, played, model.steps_per_bar)  # of what was played as asked
    return figures | {"seconds": seconds}


def evaluation_windows(cache, split, data, normalize_factor, n_windows=None):
    """The windows of a split as one plain batch (see make_batch), and the performance (W,) that each is of.

    A corpus that doesn't tell beats from fills gives windows of everything.
    """
    of_split = [file for file in cache.files if file["split"] == split]
    beat_type = "beat" if any(file["beat_type"] for file in of_split) else None
    n_steps = BARS * data.steps_per_bar
    start, _ = windows(cache, split, n_steps, n_steps, whole=True, beat_type=beat_type)
    if not len(start):
        raise ValueError(f"split {split!r} of the cache holds no window of {BARS} whole bars; one at least is needed")
    if n_windows is not None and n_windows < len(start):
        start = start[np.linspace(0, len(start) - 1, n_windows).round().astype(int)]
    performance = np.searchsorted([file["start"] for file in cache.files], start, side="right") - 1
    style = np.array([cache.files[index]["style"] for index in performance], np.int64)
    steps = start[:, None] + np.arange(n_steps)
    _, vel, offset = decode(cache.vel[steps], cache.offset[steps])
    mask = np.ones(steps.shape, bool)
    return make_batch(vel, offset, mask, style, data, normalize_factor), performance


def rolls_of(batch):
    """onset, vel, timeoffset (W, T, V) of a batch, as numpy arrays."""
    return tuple(batch[name].numpy() for name in ("onset", "vel", "timeoffset"))


def in_batches(batch):
    """The batch in pieces of BATCH windows."""
    for start in range(0, len(batch["mask"]), BATCH):
        yield {name: tensor[start : start + BATCH] for name, tensor in batch.items()}


# ------------------------------------------------------------------------- likelihood


def teacher_forced(model, batch, performance):
    """Nats of the batch in all settings and with another window's rhythm, {setting: {onset, velocity, offset, total}};
    the settings SWAPPED come again as "..._swapped", with `cost`: onset nats per step more than unswapped."""
    device = next(model.parameters()).device
    figures = likelihood(model, in_batches(batch), device, tuple(SETTINGS))
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    for setting, scores in likelihood(model, in_batches(swapped), device, SWAPPED).items():
        cost = scores["onset"] - figures[setting]["onset"]
        figures[f"{setting}_swapped"] = {**scores, "cost": cost}
    return figures


def partners(performance):
    """For each window (W,) another one half the set away, or the first after that of another performance."""
    if len(np.unique(performance)) < 2:
        raise ValueError("all windows are of one performance; swapping rhythms needs windows of two at least")
    n_windows = len(performance)
    partner = (np.arange(n_windows) + n_windows // 2) % n_windows
    while (same := performance[partner] == performance).any():
        partner[same] = (partner[same] + 1) % n_windows
    return partner


# ------------------------------------------------------------------------- samples


def play(model, batch, samples, seed, title):
    """Drums drawn at temperature 1 to the batch's rhythms and controls: onset, vel, timeoffset, each
    (samples * W, T, V), the whole set again and again."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    again = {name: torch.cat([batch[name]] * samples) for name in (*RHYTHM_KEYS, *CONTROLS, "mask")}
    played = []
    progress = tqdm(total=len(again["mask"]), desc=title, unit="window", disable=None)
    for part in in_batches(again):
        rolls = sample(model, *to_device(part, device).values(), generator=generator)
        played.append([roll.cpu().numpy() for roll in rolls])
        progress.update(len(rolls[0]))
    progress.close()
    return tuple(np.concatenate(rolls) for rolls in zip(*played))
