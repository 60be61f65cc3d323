"""Windows of random hits, configs with one thing switched on, and batches made of both."""

from pathlib import Path

import numpy as np
import torch

from data_aug import RHYTHM_KEYS, collate, make_batch
from utils.config.schema import load_config
from utils.corpus.cache import Cache
from utils.midi.drums import RHYTHM_CHANNEL

CONFIG = Path(__file__).parents[2] / "config.yaml"
S, T = 16, 64
NORMALIZE = {"density": [0.12, 0.05], "intensity": [0.55, 0.15]}


def data_config(**sections):
    """The config's Data with every probability 0 and the plain rhythm and task, but for `sections`.

    data_config(augmentation={"swing": 1}) strikes every window with swing and nothing else.
    """
    plain = load_config(CONFIG).Data
    values = {"halves": 0.0}
    for section in ("augmentation", "drop"):
        for name, value in dict(getattr(plain, section)).items():
            if not name.endswith(("_max", "_range", "_std", "_share")):
                values[f"{section}.{name}"] = 0.0
    for section, only in (("rhythm_source", "loudest"), ("task", "tap")):
        for name in dict(getattr(plain, section)):
            values[f"{section}.{name}"] = float(name == only)
    for section, changed in sections.items():
        values.update({f"{section}.{name}": value for name, value in changed.items()})
    return load_config(CONFIG, [f"Data.{key}={value}" for key, value in values.items()]).Data


def hits(rng, n_steps, share=0.2):
    """Random rolls as the cache stores them: vel uint8 and offset int16, (n_steps, 9)."""
    vel = (rng.random((n_steps, 9)) < share) * rng.integers(1, 128, (n_steps, 9))
    offset = np.where(vel > 0, rng.integers(-32768, 32768, vel.shape), 0)
    return vel.astype(np.uint8), offset.astype(np.int16)


def windows_of_hits(n_rows=32, seed=0, share=0.2, n_steps=T):
    rng = np.random.default_rng(seed)
    return collate([hits(rng, n_steps, share) for _ in range(n_rows)], T)


def batch_of(data, vel_offset_mask=None, seed=0):
    vel, offset, mask = vel_offset_mask or windows_of_hits()
    style = np.arange(len(vel)) % 18
    return make_batch(vel.copy(), offset.copy(), mask, style, data, NORMALIZE, np.random.default_rng(seed))


def rhythm_of(batch):
    return [batch[name][..., RHYTHM_CHANNEL].numpy() for name in RHYTHM_KEYS]


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        assert torch.equal(
            torch.nan_to_num(batch[name].double(), 99), torch.nan_to_num(other[name].double(), 99)
        ), name


def twelve_performances():
    """A cache of twelve performances of 1 to 9 bars, nine of them for training."""
    rng, files, start, rolls = np.random.default_rng(1), [], 0, []
    for index in range(12):
        n_steps = S * (1 + index * 3 % 10)
        split = ("train", "train", "train", "validation")[index % 4]
        files.append(
            {
                "name": f"{index}.mid",
                "split": split,
                "style": index,
                "bpm": 120.0,
                "beat_type": "beat",
                "start": start,
                "n_steps": n_steps,
            }
        )
        start += n_steps
        rolls.append(hits(rng, n_steps))
    vel, offset = (np.concatenate(part) for part in zip(*rolls))
    return Cache(vel=vel, offset=offset, files=files, normalize_factor=NORMALIZE, settings={}, report={})
