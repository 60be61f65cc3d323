"""What the model plays to fixed validation rhythms while it trains, as MIDI and as pictures."""

from pathlib import Path

import torch

from data_aug import unset_controls
from model.sampling import sample
from utils.drums import inverse_mapping
from utils.midi import roll_to_midi

N_RHYTHMS = 4


def write_samples(model, batch, folder):
    """Play the rhythms of the first windows of a validation batch, controls unset, always by the same chance."""
    device = next(model.parameters()).device
    batch = {name: tensor[:N_RHYTHMS].to(device) for name, tensor in unset_controls(batch).items()}
    names = ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset", "density", "intensity", "instrument", "style", "mask")
    played = sample(model, *(batch[name] for name in names), generator=torch.Generator(device).manual_seed(0))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(played[0])):
        length = int(batch["mask"][i].sum())
        roll_to_midi(*(x[i, :length].cpu().numpy() for x in played), inverse_mapping, folder / f"rhythm_{i}.mid")
