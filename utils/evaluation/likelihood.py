"""Teacher-forced nats on T4, in all settings and with another window's rhythm."""

import numpy as np
import torch

from data_aug import swap_rhythm
from utils.evaluation.bootstrap import estimate, quotient
from utils.evaluation.player import in_batches
from utils.evaluation.sets import partners
from utils.training.metrics import SETTINGS, token_sums

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
ONSET, VELOCITY, OFFSET, STEPS, HITS = range(5)  # of metrics.SUMS


def measure(player, sets):
    windows = sets("T4")
    return {"likelihood": {"T4": teacher_forced(player.model, windows.batch, windows.performance)}}


def teacher_forced(model, batch, performance):
    """{row: (sums, the sums with the right rhythm or None)} of a batch of windows, each of a performance (W,); sums
    (P, 5) in the order of metrics.SUMS."""
    right = sums_by_setting(model, batch, performance, tuple(SETTINGS))
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    wrong = sums_by_setting(model, swapped, performance, SWAPPED)
    rows = {ROWS[name]: (sums, None) for name, sums in right.items()}
    return rows | {
        f"{ROWS[name]}, another window's rhythm": (sums, right[name]) for name, sums in wrong.items()
    }


def sums_by_setting(model, batch, performance, settings):
    """{setting: what metrics.token_sums gives for each performance, (P, 5)}."""
    device = next(model.parameters()).device
    sums = []
    for which in np.unique(performance):
        part = {name: tensor[performance == which] for name, tensor in batch.items()}
        sums.append(token_sums(model, in_batches(part), device, settings).numpy())
    return dict(zip(settings, np.stack(sums, 1)))


# ------------------------------------------------------------------------- metrics


def onset(row):
    """Nats per step, the nine voices summed."""
    return _per_token(row[0], [ONSET], STEPS)


def velocity(row):
    """Nats per hit."""
    return _per_token(row[0], [VELOCITY], HITS)


def offset(row):
    """Nats per hit."""
    return _per_token(row[0], [OFFSET], HITS)


def total(row):
    """Nats per step of all three."""
    return _per_token(row[0], [ONSET, VELOCITY, OFFSET], STEPS)


def cost(row):
    """Onset nats per step more than with the right rhythm."""
    sums, right = row
    return None if right is None else _per_token(np.column_stack([sums - right, sums[:, STEPS]]), [ONSET], -1)


def _per_token(sums, nats, tokens):
    return estimate(lambda total: quotient(total[..., nats].sum(-1), total[..., tokens]), sums)
