"""An exponential moving average of the weights: what is validated, sampled and shipped."""

from contextlib import contextmanager

import torch


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def load(self, weights):
        """Go on from the averages of a checkpoint, name -> tensor, wherever they lie."""
        self.weights = {name: weights[name].to(own.device) for name, own in self.weights.items()}

    @torch.no_grad()
    def update(self, model, step):
        """After optimizer step number `step` (from 1). The average warms up, so that it forgets the random start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged = [self.weights[name] for name, _ in model.named_parameters()]
        torch._foreach_lerp_(averaged, list(model.parameters()), 1 - decay)

    @contextmanager
    def swapped_in(self, model):
        """The model with the averaged weights, in eval mode; what it was before comes back whatever happens."""
        training = model.training
        own = {name: p.data for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.data = self.weights[name]
        model.eval()
        try:
            yield model
        finally:
            for name, p in model.named_parameters():
                p.data = own[name]
            model.train(training)
