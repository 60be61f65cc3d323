"""Precision, optimizer, learning rate and loss weights over the steps of a run."""

import math
import timeit

import torch
import torch.nn as nn

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}  # Training.precision -> the dtype to autocast to
PRODUCT = 256  # rows and columns of the matrices that choose_precision multiplies
WORTH_IT = 1.5  # how many times as fast a product must be, as the rest of a step gains nothing
PRODUCTS = 20  # of each kind, of which the fastest counts: the first are slow, and other programs get between


def choose_precision(precision, device):
    """ "float32" or "bfloat16" for Training.precision; "auto" asks the device.

    A GPU before compute capability 8 and a CPU without bfloat16 instructions only emulate it, up to a hundred
    times as slow as float32. The CPU multiplies two small matrices, which takes milliseconds either way.
    """
    if precision != "auto":
        return precision
    fast = False
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        fast = _product_seconds(torch.float32) > WORTH_IT * _product_seconds(torch.bfloat16)
    return "bfloat16" if fast else "float32"


def _product_seconds(dtype):
    a, b = torch.ones(2, PRODUCT, PRODUCT, dtype=dtype)
    return min(timeit.repeat(lambda: a @ b, number=1, repeat=PRODUCTS))


def make_optimizer(model, training):
    """AdamW that decays matrices only: no embeddings, norms, biases or lone vectors."""
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if id(p) in matrices], "weight_decay": training.weight_decay},
        {"params": [p for p in learnt if id(p) not in matrices], "weight_decay": 0.0},
    ]
    # fused on every device: FiniteGuard leans on it
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


def loss_weights(step, training):
    """The weight of each head in the loss of a step, {name: weight}. Onsets are learnt first, and after that
    by heart: in the third quarter of the run the weights of onset and marginal decay linearly to
    late_onset_weight times what they were."""
    decayed = min(max(4 * step / training.steps - 2, 0.0), 1.0)
    onset = 1 - decayed * (1 - training.late_onset_weight)
    weights = training.loss_weight.model_dump()
    return weights | {name: onset * weights[name] for name in ("onset", "marginal")}
