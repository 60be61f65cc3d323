"""Teacher-forced nats on T4, in all settings and with another window's rhythm."""

import numpy as np
import torch

from data_aug import swap_rhythm
from utils.evaluation.bootstrap import quotient
from utils.evaluation.player import in_batches
from utils.evaluation.sets import partners
from utils.training.metrics import SETTINGS, SUMS, token_sums

# setting of metrics.SETTINGS -> its row
ROWS = {
    "given": "true controls",
    "unset": "controls unset",
    "given_latent": "true controls, bar latent alone",
    "unset_latent": "controls unset, bar latent alone",
    "given_no_rhythm": "true controls, no rhythm",
    "unset_no_rhythm": "controls unset, no rhythm",
}
SWAPPED = ("given", "unset", "given_latent", "unset_latent")  # also scored with another window's rhythm


def measure(player, sets):
    windows = sets("T4")
    return {"likelihood": {"T4": teacher_forced(player.model, windows.batch, windows.performance)}}


def teacher_forced(model, batch, performance):
    """{row: sums} of a batch of windows, each of a performance (W,): "nats" (P, 5) in the order of SUMS, and
    "cost" (P, 2): with another window's rhythm, onset nats more than with the right one, and steps."""
    right = sums_by_setting(model, batch, performance, tuple(SETTINGS))
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    rows = {ROWS[name]: {"nats": sums} for name, sums in right.items()}
    for name, sums in sums_by_setting(model, swapped, performance, SWAPPED).items():
        cost = np.stack([sums[:, 0] - right[name][:, 0], sums[:, SUMS.index("steps")]], 1)
        rows[f"{ROWS[name]}, another window's rhythm"] = {"nats": sums, "cost": cost}
    return rows


def sums_by_setting(model, batch, performance, settings):
    """{setting: what metrics.token_sums gives for each performance, (P, 5)}."""
    device = next(model.parameters()).device
    parts = [{name: of[performance == p] for name, of in batch.items()} for p in np.unique(performance)]
    sums = [token_sums(model, in_batches(part), device, settings).numpy() for part in parts]
    return dict(zip(settings, np.stack(sums, 1)))


def nats_per(token, *heads):
    """The metric nats of these heads per token, all names of metrics.SUMS."""
    heads, token = [SUMS.index(head) for head in heads], SUMS.index(token)
    return lambda sums: quotient(sums[..., heads].sum(-1), sums[..., token])
