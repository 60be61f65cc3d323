"""What the model plays to fixed validation rhythms while it trains, as MIDI and as pictures."""

from pathlib import Path

import torch

from data_aug import RHYTHM_KEYS, unset_controls
from model.batch_bars import BatchGrid
from model.controls import controls_of
from model.decoding.sampling import sample
from utils.midi.drums import inverse_mapping
from utils.midi.timeline import Timeline
from utils.midi.write import roll_to_midi
from utils.playing.plots import draw_takes

N_RHYTHMS = 4


def write_samples(model, batch, folder, log=None, step=None):
    """Play rhythms out of a batch, controls unset, always the same ones and by the same chance.

    For each, folder gets rhythm_0_played.mid and rhythm_0_real.mid, in the window's own bars, and
    rhythm_0.png, which shows both below the rhythm that was heard. log: a RunLog that gets the pictures as
    well, at `step`.
    """
    device = next(model.parameters()).device
    chosen = _spread(batch["mask"])
    batch = {name: tensor[chosen].to(device) for name, tensor in unset_controls(batch).items()}
    rhythms, chance = [batch[name] for name in RHYTHM_KEYS], torch.Generator(device).manual_seed(0)
    grids = [model.grid(batch["mask"].shape[1])] * len(chosen)
    if own := BatchGrid.in_batch(batch):
        grids = own.rows()
    played = [torch.zeros_like(roll) for roll in rhythms]
    for grid in dict.fromkeys(grids):  # windows whose bars are alike together
        rows = [i for i, other in enumerate(grids) if other == grid]
        controls = {name: values[rows] for name, values in controls_of(batch).items()}
        heard = [roll[rows] for roll in rhythms]
        about = {name: batch[name][rows] for name in ("rhythm_is", "pads")}
        drums = sample(model, heard, controls, batch["mask"][rows], **about, generator=chance, grid=grid)
        for roll, part in zip(played, drums):
            roll[rows] = part
    takes = {"played": played, "real": tuple(batch[name] for name in ("onset", "vel", "timeoffset"))}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(chosen)):
        length = int(batch["mask"][i].sum())
        rhythm = [batch[name][i, :length].cpu() for name in RHYTHM_KEYS]
        drums = {kind: [roll[i, :length].cpu().numpy() for roll in rolls] for kind, rolls in takes.items()}
        grid = grids[i].up_to(length)
        for kind, rolls in drums.items():
            path = folder / f"rhythm_{i}_{kind}.mid"
            roll_to_midi(*rolls, inverse_mapping, path, meters=Timeline().in_bars(grid))
        picture, at_step = folder / f"rhythm_{i}.png", "" if step is None else f", step {step}"
        title = f"validation rhythm {i}{at_step}, controls unset"
        draw_takes(picture, drums, rhythm, grid, title)
        if log is not None:
            log.image(step, f"rhythm_{i}", picture)


def _spread(mask):
    """N_RHYTHMS windows, evenly spaced over those of full length, or over all where those are too few."""
    full = mask.all(1).nonzero()[:, 0]
    windows = full if len(full) >= N_RHYTHMS else torch.arange(len(mask))
    return windows[torch.linspace(0, len(windows) - 1, min(N_RHYTHMS, len(windows))).long()]
