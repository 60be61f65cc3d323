"""The usage that the design promises, run as it stands; only the three paths in it are replaced."""

import warnings

import numpy as np
import pretty_midi
import torch

from tests.helpers.inference_helpers import save_tiny_checkpoint
from utils.midi.drums import VOICE_PITCHES, inverse_mapping, mapping, mapping_table

USAGE = """
mapping_table = {n: idx for idx, n in enumerate(set(mapping.values()))}
inverse_mapping = {val: key for key, val in mapping_table.items()}
ckpt = torch.load("CKPT_PATH")
model = get_model(ckpt["config"])
model.load_state_dict(ckpt["vae_model"])
model.eval()

(
    piano_roll_onset,
    piano_roll_vel,
    piano_roll_timeoffset,
) = process_midi("rhythmic_pattern_midi.mid")

masks = generate_control_params([0, 1], [1, 1], 64, "left", "cuda:0", True)[:, :, 0]
density = generate_control_params(
    [0, 0.25, 0.5, 0.75, 1], [-2, 1, 1, 2, 1], 64, "left"
)
intensity = generate_control_params(
    [0, 0.25, 0.5, 0.75, 1], [5, -1, -1, -2, 0.0], 64, "left"
)

instrument = generate_control_params(
    [0, 0.25, 0.5, 0.75, 1],
    [
        [0.25, -1.0, 0.0, 0, 0, 0, 0, 0, 0],
        [0.25, 0.1, 0.5, 0, 0, 0, 0, 0, 0],
        [0.25, 0.5, 0.5, 0, 0.1, 0, 0, 0, 0.2],
        [0.25, 0.5, 0.5, 0, 0, 0, 0, 0, 0.2],
        [0.25, 0.05, 0.1, 0, 0, 0, 0, 0, 0],
    ],
    64,
    "left",
)
style = generate_control_params([0, 1], [2, 2], 64, "left", is_cat=True)[:, :, 0]
onset, vel, time = generate(piano_roll_onset,
                            piano_roll_vel,
                            piano_roll_timeoffset,
                            density,
                            intensity,
                            instrument,
                            style,
                            masks,
                            64)
np_score = convert_to_midi(
    onset,
    vel,
    time,
    inverse_mapping,
    "/home/test.midi",
)
"""


def test_public_usage_runs_as_it_stands(repository, tiny_config, tmp_path):
    checkpoint = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    script = USAGE.replace("CKPT_PATH", str(checkpoint)).replace(
        "/home/test.midi", str(tmp_path / "test.midi")
    )
    script = script.replace("rhythmic_pattern_midi.mid", str(repository / "examples" / "clave_taps.mid"))
    names = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        exec("from inference_bar_control import *\n" + script, names)

    for name in ("onset", "vel", "time"):
        assert names[name].shape == (1, 64, 9) and names[name].dtype == torch.float32
    assert names["masks"].shape == (1, 64) and names["instrument"].shape == (1, 64, 9)
    assert names["inverse_mapping"] == {0: 36, 1: 38, 2: 42, 3: 43, 4: 46, 5: 47, 6: 49, 7: 50, 8: 51}
    fell_back = [str(warning.message) for warning in caught if "cuda:0" in str(warning.message)]
    assert len(fell_back) == (0 if torch.cuda.is_available() else 1)

    onset, score = names["onset"][0], names["np_score"]
    assert onset[:16, 1].sum() == 0  # the snare is forbidden in the first bar
    assert len(score["time"]) == onset.sum() == len(score["pitch"]) and (np.diff(score["time"]) >= 0).all()
    assert (score["duration"] > 0).all() and score["velocity"].min() >= 1 and score["velocity"].max() <= 127
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "test.midi"))
    assert midi.instruments[0].is_drum and len(midi.instruments[0].notes) == len(score)


def test_voices_walk_in_pitch_order_out_of_the_set():
    assert list(set(mapping.values())) == VOICE_PITCHES == list(mapping_table)
    assert inverse_mapping == {index: pitch for pitch, index in mapping_table.items()}
