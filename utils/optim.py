"""Optimizer groups, learning rate and KL weight over the steps of a run."""

import math
import time

import torch
import torch.nn as nn

from model.model import training_loss


def make_optimizer(model, training):
    """AdamW that decays matrices only: no embeddings, norms, biases or lone vectors."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    decay, plain = [], []
    for p in model.parameters():
        (decay if id(p) in matrices and id(p) not in embeddings else plain).append(p)
    assert len(decay) + len(plain) == len(list(model.parameters()))
    groups = [
        {"params": decay, "weight_decay": training.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=tuple(training.betas), fused=True)


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


def choose_precision(precision, model, batch, device, training):
    """The dtype to autocast to, or None for float32; "auto" on the CPU times a few steps of both."""
    if precision == "auto" and device.type == "cpu":
        seconds = {dtype: _step_seconds(model, batch, dtype, training) for dtype in (None, torch.bfloat16)}
        return min(seconds, key=seconds.get)
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    return torch.bfloat16 if precision == "bfloat16" else None


def _step_seconds(model, batch, dtype, training, repeats=3):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            figures = model(batch)
        training_loss(figures, training.loss_weight.model_dump(), 0.0, 0.0).backward()
        seconds.append(time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    return min(seconds)
