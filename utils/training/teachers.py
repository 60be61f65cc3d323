"""Models that were trained before, whose opinions are part of what a model learns."""

from functools import reduce

import torch
import torch.nn.functional as F

from utils.get_model import load_model

# what tokens and controls mean
ALIKE = (
    "Model.Output.velocity_bins",
    "Model.Output.offset_bins",
    "Data.down_sample_tpq",
    "Data.normalize_factor",
)


class Teachers:
    """Knowledge distillation (Hinton, Vinyals and Dean 2015): the loss is measured against what was played and against
    how likely each teacher thinks that is. A recording is one of many ways to play its rhythm, and several models know
    more of them than one does; docs/experiments.md has what that gives."""

    def __init__(self, cfg, device):
        """cfg: the Config of the run, normalize_factor included; it names the checkpoints and their share in [0, 1].
        Raises ValueError for one that can't be read, that draws other tokens or reads controls otherwise."""
        self.share = cfg.Training.teachers_share
        self.models = [load_model(path, device) for path in cfg.Training.teachers]
        for path, teacher in zip(cfg.Training.teachers, self.models):
            for key in ALIKE:
                its, wanted = (
                    reduce(dict.__getitem__, key.split("."), config)
                    for config in (teacher.config, cfg.to_dict())
                )
                if its != wanted:
                    raise ValueError(
                        f"Training.teachers: {path} has {key} {its}; it must be that of the run, {wanted}"
                    )

    @torch.no_grad()
    def targets(self, batch):
        """What DrumVAE.forward takes as `targets` for a batch with the keys of hit_index, None where there are no teachers.

        Each teacher hears what the student hears, but without dropout and with the mean of its latent.
        """
        if not self.models:
            return None
        heard = {name: tensor for name, tensor in batch.items() if name != "noise"}
        spoken = [teacher.logits(heard)[:2] for teacher in self.models]
        targets = {}
        for name, truth in spoken[0][1].items():
            chance = torch.stack([probabilities(logits[name], truth) for logits, _ in spoken]).mean(0)
            truth = truth if truth.is_floating_point() else F.one_hot(truth, chance.shape[-1]).float()
            targets[name] = truth.lerp(chance, self.share)
        return targets


def probabilities(logits, truth):
    """Of each cell for itself, where the truth is a roll; else of all tokens of each hit."""
    return logits.float().sigmoid() if truth.is_floating_point() else logits.float().softmax(-1)
