"""How good a checkpoint is: its likelihood, its drums beside real ones, its obedience, and what needs no model.

    python evaluate.py                                                the shipped checkpoint on the test split
    python evaluate.py --checkpoint runs/default/checkpoints/best.pt --split validation --windows 100

The windows are T4: four bars of the performances of a beat (no fills), not overlapping. Prints a table and
writes the same figures as JSON. One seed gives one result on one kind of device; all is computed in float32.
"""

import argparse
import copy
import json
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from data_aug import RHYTHM_KEYS, make_batch, swap_rhythm
from model.sampling import sample
from preprocessing import preprocess
from utils.baselines import baseline_scores, taps
from utils.cache import SPLITS, decode, windows
from utils.checkpoints import load_checkpoint
from utils.config import config_from_dict
from utils.config_errors import ConfigError
from utils.config_yaml import apply_override
from utils.device import pick_device
from utils.evaluation_table import tables
from utils.files import write_text
from utils.get_model import load_model
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


# ------------------------------------------------------------------------- the command


def changed_config(config, overrides, source):
    """A checkpoint's config (a plain dict) as utils.config gives it, changed by overrides of Data."""
    config, problems = copy.deepcopy(config), []
    for override in overrides:
        if not override.strip().startswith("Data."):
            problems.append(f"--set {override}: only Data can be changed here, the model is as it was trained")
        problems += apply_override(config, override)
    if problems:
        raise ConfigError(source, problems)
    return config_from_dict(config, source)


def write_json(figures, path):
    """The figures, NaN as null; the file appears whole or not at all."""
    try:
        write_text(path, json.dumps(_without_nan(figures), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ValueError(f"--json: {path} can't be written: {error.strerror}") from error


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description="Figures of a checkpoint on a split, trivial baselines beside them.")
    parser.add_argument("--checkpoint", default="checkpoints/drummer.pt", metavar="PT", help="default: %(default)s")
    parser.add_argument("--split", default="test", choices=SPLITS, help="default: %(default)s")
    parser.add_argument("--windows", type=int, metavar="N", help="only so many of the windows, evenly spaced")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="how often a window is played (default: 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    parser.add_argument("--json", default="output/evaluation.json", metavar="PATH", help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto (default)")
    parser.add_argument("--midi-dir", metavar="FOLDER", help="a folder or zip of MIDI in place of Data.corpus")
    parser.add_argument("--set", action="append", default=[], metavar="Data.KEY=VALUE",
                        help="change one knob of the checkpoint's config, e.g. Data.cache_dir=data/cache")  # fmt: skip
    return parser.parse_args(arguments)


def run(args):
    for name, lowest in (("windows", 2), ("samples", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and not lowest <= value < 2**63:
            raise ValueError(f"--{name}: {value}; it must be at least {lowest}")
    device = pick_device(args.device)
    checkpoint = load_checkpoint(args.checkpoint)
    config = changed_config(checkpoint["config"], args.set, args.checkpoint)
    model = load_model(args.checkpoint, device)
    cache = preprocess(config, args.midi_dir)
    figures = {"checkpoint": args.checkpoint, "step": checkpoint.get("step", 0)}
    figures |= evaluate(model, config, cache, args.split, args.windows, args.samples, args.seed)
    seconds = figures.pop("seconds")  # the JSON is the same every time
    print(tables(figures))
    write_json(figures, args.json)
    print(f"\n{args.json} written; on {device}: " + ", ".join(f"{part} {s:.1f} s" for part, s in seconds.items()))


def main(arguments=None):
    args = parse_arguments(arguments)
    try:
        run(args)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
