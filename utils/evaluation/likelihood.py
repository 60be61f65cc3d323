"""Teacher-forced nats on T4, in all settings and with another window's rhythm."""

from dataclasses import dataclass

import numpy as np
import torch

from data_aug import swap_rhythm
from utils.evaluation.bootstrap import estimate, quotient
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
SWAPPED_ROW = "{}, another window's rhythm"


@dataclass
class Nats:
    """Sums (P, 5) in the order of metrics.SUMS; of a swapped rhythm also those with the right one."""

    sums: np.ndarray
    right: np.ndarray | None = None


def measure(player, sets):
    windows = sets("T4")
    return {"likelihood": {"T4": nats_of(player.model, windows.batch, windows.performance)}}


def nats_of(model, batch, performance):
    """{row: Nats} of a batch of windows, each of a performance (W,)."""
    right = sums_by_setting(model, batch, performance, tuple(SETTINGS))
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    wrong = sums_by_setting(model, swapped, performance, SWAPPED)
    rows = {ROWS[setting]: Nats(sums) for setting, sums in right.items()}
    return rows | {SWAPPED_ROW.format(ROWS[name]): Nats(sums, right[name]) for name, sums in wrong.items()}


def sums_by_setting(model, batch, performance, settings):
    """{setting: what metrics.token_sums gives for each performance, (P, 5)}."""
    device = next(model.parameters()).device
    sums = []
    for which in np.unique(performance):
        part = {name: tensor[performance == which] for name, tensor in batch.items()}
        sums.append(token_sums(model, in_batches(part), device, settings).numpy())
    return dict(zip(settings, np.stack(sums, 1)))


# ------------------------------------------------------------------------- metrics


def nats(row, tokens, *heads):
    """Nats of these heads ("onset_nats", ...) per token ("steps" or "hits")."""
    return _per_token(row.sums, tokens, *heads)


def cost(row):
    """Onset nats per step more than with the right rhythm."""
    return None if row.right is None else _per_token(row.sums, "steps", "onset_nats", minus=row.right)


def _per_token(sums, tokens, *heads, minus=0):
    above, below = [SUMS.index(head) for head in heads], sums[:, SUMS.index(tokens)]
    parts = np.column_stack([(sums - minus)[:, above], below])
    return estimate(lambda total: quotient(total[..., :-1].sum(-1), total[..., -1]), parts)
