"""What the tests of inference share: a tiny untrained model, and MIDI files written on the spot."""

import pretty_midi
import torch

from inference_bar_control import Jam
from utils.checkpoints import save_checkpoint
from utils.get_model import get_model

FACTOR = {"density": [0.125, 0.05], "intensity": [0.5, 0.1]}


def build_tiny_model(config):
    """The same random weights every time; config: the fixture tiny_config."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return get_model(
            {**config.to_dict(), "Data": {**config.to_dict()["Data"], "normalize_factor": FACTOR}}
        )


def save_tiny_checkpoint(config, path):
    model = build_tiny_model(config)
    save_checkpoint({"config": model.config, "vae_model": model.state_dict(), "step": 0}, path)
    return path


def write_midi(path, tracks, tempo=120.0):
    """tracks: name -> [(quarter, pitch, velocity)]."""
    midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=tempo)
    for name, notes in tracks.items():
        instrument = pretty_midi.Instrument(33, name=name)
        beat = 60 / tempo
        instrument.notes = [pretty_midi.Note(v, p, q * beat, (q + 0.2) * beat) for q, p, v in notes]
        midi.instruments.append(instrument)
    midi.write(str(path))
    return path


def bars_of(player, changes, **how):
    """The bars of a jam, each after the changes to it."""
    jam, played = Jam(model=player, seed=2, num_samples=2, **how), []
    for change in changes:
        jam.change(**change)
        played.append(next(jam))
    return [torch.cat(roll, 1) for roll in zip(*played)]
