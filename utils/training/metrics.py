"""Figures of a model on batches of a split."""

import torch

from data_aug import unset_controls


def to_device(batch, device):
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def unset_context(batch):
    return batch | {"use_context": torch.zeros_like(batch["use_context"])}


def unset_rhythm(batch):
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

ACTIVE = 0.05  # nats a bar above which a latent unit counts as in use
SUMS = ("onset_nats", "velocity_nats", "offset_nats", "steps", "hits")  # of what DrumVAE.forward returns


def likelihood(model, batches, device, settings=("given", "unset"), autocast=None, gather=None):
    """Teacher-forced figures in nats, {setting: {onset, velocity, offset, total}}.

    onset: per step, the nine voices summed; velocity, offset: per hit; total: all three per step. The latent
    is its mean. batches: iterable of batches as data_aug makes them; autocast: a dtype, or None for float32;
    gather: adds up a tensor of sums over the processes that share the batches."""
    sums = token_sums(model, batches, device, settings, autocast)
    sums = sums if gather is None else gather(sums)
    return {setting: _per_step_and_hit(*row) for setting, row in zip(settings, sums.tolist())}


@torch.no_grad()
def token_sums(model, batches, device, settings, autocast=None):
    """The sums that `likelihood` divides, in the order of SUMS: (settings, 5) float64."""
    sums = []  # kept on the device, so that it is waited for once
    for batch in (to_device(batch, device) for batch in batches):
        for setting in settings:
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                figures = model(SETTINGS[setting](batch))
            sums += [figures[name].float() for name in SUMS]
    if not sums:
        return torch.zeros(len(settings), len(SUMS), dtype=torch.float64)
    return torch.stack(sums).cpu().double().view(-1, len(settings), len(SUMS)).sum(0)


def _per_step_and_hit(onset, velocity, offset, steps, hits):
    hits = max(hits, 1.0)
    return {
        "onset": onset / steps,
        "velocity": velocity / hits,
        "offset": offset / hits,
        "total": (onset + velocity + offset) / steps,
    }


def training_figures(pieces, losses, gather=None):
    """What is logged of one optimizer step, over all pieces of its batch: loss, onset (nats per step),
    velocity, offset (nats per hit), kl_per_bar (nats), active_units (how many units of the latent carry more
    than ACTIVE).

    pieces: what DrumVAE.forward returned of each; losses: their losses, which add up; gather as in
    `likelihood`."""
    sums = 0
    for figures, loss in zip(pieces, losses):
        units = (figures["kl"] * figures["bars"].unsqueeze(-1)).sum((0, 1))
        scalars = [loss, figures["bars"].sum(), *(figures[name] for name in SUMS)]
        scalars = torch.stack([scalar.detach().float() for scalar in scalars])
        sums = sums + torch.cat((scalars, units.detach()))
    sums = sums.cpu().double()
    sums = sums if gather is None else gather(sums)
    loss, bars, *heads = sums[: 2 + len(SUMS)].tolist()
    units = sums[2 + len(SUMS) :] / max(1, bars)
    figures = {"loss": loss, **_per_step_and_hit(*heads)}
    del figures["total"]
    return figures | {"kl_per_bar": units.sum().item(), "active_units": int((units > ACTIVE).sum())}
