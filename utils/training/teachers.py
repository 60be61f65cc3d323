"""Models that were trained before, whose probabilities are part of what a model learns."""

from functools import reduce
from operator import getitem

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
    """Knowledge distillation (Hinton, Vinyals and Dean 2015): the targets mix what was played with the
    probabilities of each teacher. A recording is one of many ways to play its rhythm, and several models know
    more of them than one does; docs/experiments.md has the gain."""

    def __init__(self, cfg, device):
        """cfg: the Config of the run, normalize_factor included. Raises ValueError for a checkpoint that
        can't be read, or whose tokens or controls mean something else."""
        self.share = cfg.Training.teachers_share
        self.models = [load_model(path, device) for path in cfg.Training.teachers]
        for path, teacher in zip(cfg.Training.teachers, self.models):
            for key in ALIKE:
                its, wanted = (reduce(getitem, key.split("."), of) for of in (teacher.config, cfg.to_dict()))
                if its != wanted:
                    raise ValueError(
                        f"Training.teachers: {path} has {key} {its}; it must be that of the run, {wanted}"
                    )
            if teacher.longest_bar < cfg.Model.longest_bar:
                raise ValueError(
                    f"Training.teachers: {path} has Model.longest_bar {teacher.longest_bar}; it must be at "
                    f"least that of the run, {cfg.Model.longest_bar}"
                )

    @torch.no_grad()
    def targets(self, batch):
        """The `targets` of DrumVAE.forward for a batch with the keys of hit_index; None without teachers.
        Each reads what the student reads, but without dropout and with the mean of its latent."""
        if not self.models:
            return None
        batch = {name: tensor for name, tensor in batch.items() if name != "noise"}
        logits, played = zip(*(teacher.logits(batch)[:2] for teacher in self.models))
        targets = {}
        for name, truth in played[0].items():
            of_cells = truth.is_floating_point()  # a roll; else the token of each hit
            normalize = torch.sigmoid if of_cells else lambda x: x.softmax(-1)
            taught = torch.stack([normalize(each[name].float()) for each in logits]).mean(0)
            truth = truth if of_cells else F.one_hot(truth, taught.shape[-1]).float()
            targets[name] = truth.lerp(taught, self.share)
        return targets
