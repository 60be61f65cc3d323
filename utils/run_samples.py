"""What the model plays to fixed validation rhythms while it trains, as MIDI and as pictures."""

from pathlib import Path

import torch

from data_aug import unset_controls
from model.sampling import sample
from utils.controls import measure
from utils.drums import inverse_mapping
from utils.midi import roll_to_midi
from utils.plots import draw_result

N_RHYTHMS = 4
INPUTS = ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset", "density", "intensity", "instrument", "style", "mask")


def write_samples(model, batch, folder, log=None, step=None):
    """Play the rhythms of the first windows of a batch, controls unset, always by the same chance; the real
    drums are drawn beside them."""
    device = next(model.parameters()).device
    batch = {name: tensor[:N_RHYTHMS].to(device) for name, tensor in unset_controls(batch).items()}
    played = sample(model, *(batch[name] for name in INPUTS), generator=torch.Generator(device).manual_seed(0))
    takes = {"played": played, "real": tuple(batch[name] for name in ("onset", "vel", "timeoffset"))}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(played[0])):
        length = int(batch["mask"][i].sum())
        rhythm = [batch[name][i, :length].cpu() for name in INPUTS[:3]]
        for kind, rolls in takes.items():
            drums = [roll[i, :length].cpu().numpy() for roll in rolls]
            name = folder / f"rhythm_{i}_{kind}"
            roll_to_midi(*drums, inverse_mapping, f"{name}.mid")
            got = measure(drums[0], drums[1], model.steps_per_bar)
            draw_result(f"{name}.png", drums, rhythm, None, got, model.steps_per_bar, f"validation rhythm {i}, {kind}")
