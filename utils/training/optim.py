"""Optimizer groups, learning rate and KL weight over the steps of a run."""

import math
import time
from collections import Counter

import torch
import torch.nn as nn

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}  # Training.precision -> the dtype to autocast to


def make_optimizer(model, training):
    """AdamW that decays matrices only: no embeddings, norms, biases or lone vectors."""
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    decay, plain = [], []
    for p in model.parameters():
        if p.requires_grad:
            (decay if id(p) in matrices else plain).append(p)
    groups = [
        {"params": decay, "weight_decay": training.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=tuple(training.betas), fused=True)
    check_groups(optimizer, model)
    return optimizer


def check_groups(optimizer, model):
    """RuntimeError, naming them, unless the optimizer's groups hold every parameter that learns exactly once, and
    nothing else."""
    held = Counter(id(p) for group in optimizer.param_groups for p in group["params"])
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    problems = {
        "in no group": [name for key, name in names.items() if not held[key]],
        "held more than once": [name for key, name in names.items() if held[key] > 1],
        "not the model's": [f"{count} of them" for key, count in held.items() if key not in names],
    }
    said = [f"{what}: {', '.join(found)}" for what, found in problems.items() if found]
    if said:
        raise RuntimeError(f"the optimizer's groups do not partition the parameters; {'; '.join(said)}")


def make_scheduler(optimizer, training):
    """Linear warm-up, then a cosine from learning_rate down to minimum_learning_rate at the last step."""
    floor = training.minimum_learning_rate / training.learning_rate

    def factor(step):
        if step < training.warmup_steps:
            return (step + 1) / training.warmup_steps
        progress = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def kl_weight(step, vae):
    """Cyclical annealing (Fu et al. 2019): nothing until start_step, then cycles of half ramp, half hold."""
    if step < vae.start_step:
        return 0.0
    within = (step - vae.start_step) % vae.cycle_steps / vae.cycle_steps
    return vae.kl_weight * min(1.0, 2 * within)


def loss_weights(step, training):
    """The weight of each head in the loss of a step, {name: weight}.

    Onsets are learnt the soonest, and after that by heart: over the third quarter of the run their weight, and that of
    the encoder's own guess at them, falls in a line to late_onset_weight times what it was.
    """
    fallen = min(max(4 * step / training.steps - 2, 0.0), 1.0)
    onset = 1 - fallen * (1 - training.late_onset_weight)
    weights = training.loss_weight.model_dump()
    return weights | {name: onset * weights[name] for name in ("onset", "marginal")}


def choose_precision(precision, model, batch, device):
    """ "float32" or "bfloat16" for Training.precision; "auto" on the CPU times a few steps of both on a batch."""
    if precision == "auto" and device.type == "cpu":
        seconds = {name: _step_seconds(model, batch, dtype) for name, dtype in AUTOCAST.items()}
        return min(seconds, key=seconds.get)
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return precision


def _step_seconds(model, batch, dtype, repeats=3):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            figures = model(batch)
        sum(figures[f"{head}_nats"] for head in ("onset", "velocity", "offset")).backward()
        seconds.append(time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    return min(seconds)
