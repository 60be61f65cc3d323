"""From logits to the number that training minimises."""

import torch.nn.functional as F


def head_nats(logits, target):
    """Cross-entropy in float32 of each cell, logits and target (B, T, V), or of each hit: logits (n_hit, K),
    target tokens (n_hit,) or their probabilities (n_hit, K)."""
    of_cells = logits.ndim == 3
    cross_entropy = F.binary_cross_entropy_with_logits if of_cells else F.cross_entropy
    return cross_entropy(logits.float(), target, reduction="none")


def kl_per_unit(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, 1)) in nats, elementwise."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def encoded_steps(batch):
    """(B, T) bool: the steps that the encoder attends to."""
    return batch["mask"] & (batch["use_context"] | batch["use_latent"])


def nats_of(logits, targets, batch):
    """The cross-entropy of each head, summed over the cells and hits that count: {"onset_nats",
    "marginal_nats", "velocity_nats", "offset_nats"}, and `hits`, how many hits count. batch: with the keys of
    hit_index."""
    mask = batch["mask"].unsqueeze(-1)
    encoded = (batch["use_context"] | batch["use_latent"]).unsqueeze(-1)
    open_cells = mask & ~batch["known_onset"]
    open_hits = (mask & ~batch["known_vel"]).flatten()[batch["hit"]]
    counted = {
        "onset": open_cells,
        "marginal": open_cells & encoded,
        "velocity": open_hits,
        "offset": open_hits,
    }
    nats = {
        f"{name}_nats": (head_nats(logits[name], targets[name]) * where).sum()
        for name, where in counted.items()
    }
    return nats | {"hits": open_hits.sum()}


def count_tokens(batch, grid):
    """How many steps (in the mask) and bars (with a step that the encoder attends to) of a batch count in its
    loss: {"steps", "bars"}. grid: the BarGrid of its steps."""
    return {"steps": int(batch["mask"].sum()), "bars": int(grid.by_bar(encoded_steps(batch)).any(2).sum())}


def training_loss(figures, tokens, loss_weight, kl_weight, free_bits):
    """The minimised sum: nats per step of each head, plus the KL per bar, where the first free_bits nats of
    each unit of each bar cost nothing (after Kingma et al. 2016).

    figures: as DrumVAE.forward returns them. tokens: count_tokens of the whole batch, of which the figures
    may be a piece: the losses of all pieces add up to that of the batch. loss_weight: {head: weight}, for
    onset, velocity, offset and marginal.
    """
    steps, bars = max(1, tokens["steps"]), max(1, tokens["bars"])
    loss = sum(weight * figures[f"{head}_nats"] / steps for head, weight in loss_weight.items())
    kl = figures["kl"].clamp(min=free_bits) * figures["bars"].unsqueeze(-1)
    return loss + kl_weight * kl.sum() / bars
