"""Figures of a model on batches of a split."""

import torch

from data_aug import unset_controls


def to_device(batch, device):
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def unset_context(batch):
    """The same batch with the rhythm heard through the bar's latent alone."""
    return batch | {"use_context": torch.zeros_like(batch["use_context"])}


def unset_rhythm(batch):
    """The same batch with the rhythm not heard at all."""
    return unset_context(batch) | {"use_latent": torch.zeros_like(batch["use_latent"])}


# what is changed about a batch before it is scored
SETTINGS = {
    "given": lambda batch: batch,  # true controls
    "unset": unset_controls,  # the rhythm alone
    "given_latent": unset_context,  # the rhythm through the bar's latent alone
    "unset_latent": lambda batch: unset_context(unset_controls(batch)),
    "given_no_rhythm": unset_rhythm,
    "unset_no_rhythm": lambda batch: unset_rhythm(unset_controls(batch)),
}


@torch.no_grad()
def likelihood(model, batches, device, settings=("given", "unset"), autocast=None):
    """Teacher-forced figures in nats, {setting: {onset, velocity, offset, total}}.

    onset: per step, the nine voices summed; velocity, offset: per hit; total: all three per step. The latent
    is its mean. batches: iterable of batches as data_aug makes them; autocast: a dtype, or None for float32.
    """
    sums = {setting: {} for setting in settings}
    for batch in batches:
        batch = to_device(batch, device)
        for setting in settings:
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                figures = model(SETTINGS[setting](batch), sample_latent=False)
            for name in ("onset_nats", "velocity_nats", "offset_nats", "steps", "hits"):
                sums[setting][name] = sums[setting].get(name, 0.0) + figures[name].double()
    return {setting: _per_step_and_hit(sums[setting]) for setting in settings}


def _per_step_and_hit(s):
    steps, hits = float(s["steps"]), max(float(s["hits"]), 1.0)
    onset, velocity, offset = (float(s[f"{head}_nats"]) for head in ("onset", "velocity", "offset"))
    return {
        "onset": onset / steps,
        "velocity": velocity / hits,
        "offset": offset / hits,
        "total": (onset + velocity + offset) / steps,
    }
