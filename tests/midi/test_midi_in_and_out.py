"""process_midi and convert_to_midi, and the example rhythms."""

import subprocess
import sys

import numpy as np
import pretty_midi
import pytest
import torch

from inference_bar_control import convert_to_midi, process_midi
from tests.helpers.inference_helpers import write_midi
from utils.midi.drums import inverse_mapping
from utils.playing.command import read_controls


def test_process_midi_keeps_the_loudest_of_every_step_in_channel_three(tmp_path):
    path = write_midi(
        tmp_path / "two.mid", {"bass": [(0, 28, 90), (1, 28, 50)], "keys": [(0.0625, 60, 127), (4, 64, 30)]}
    )
    onset, vel, timeoffset = process_midi(path, track="all")
    assert onset.shape == vel.shape == timeoffset.shape == (1, 32, 9) and onset.dtype == torch.float32
    assert onset.nonzero().tolist() == [[0, 0, 3], [0, 4, 3], [0, 16, 3]]
    assert vel[0, [0, 4, 16], 3].mul(127).round().tolist() == [127, 50, 30]
    assert timeoffset[0, 0, 3] == 0.25


def test_process_midi_chooses_a_track_by_name_or_number(tmp_path):
    path = write_midi(tmp_path / "two.mid", {"bass": [(0, 28, 90), (1, 28, 50)], "keys": [(2, 60, 127)]})
    assert process_midi(path, track="keys")[0].nonzero().tolist() == [[0, 8, 3]]
    assert all(
        torch.equal(a, b) for a, b in zip(process_midi(path, track=1), process_midi(path, track="bass"))
    )
    with pytest.raises(
        ValueError, match=r"two\.mid: no track 'drums'; its tracks are 1 'bass' .*, 2 'keys' "
    ):
        process_midi(path, track="drums")
    with pytest.raises(
        ValueError, match=r"two\.mid: no notes in track '0'; its tracks are 1 'bass' .*, 2 'keys' "
    ):
        process_midi(path, track=0)


def test_process_midi_names_the_file_that_is_missing_corrupt_or_without_notes(tmp_path):
    corrupt, silent = tmp_path / "corrupt.mid", tmp_path / "silent.mid"
    corrupt.write_bytes(b"MThd\0\0\0\6\0\1rubbish")
    pretty_midi.PrettyMIDI().write(str(silent))
    for path in (corrupt, silent, tmp_path / "missing.mid"):
        with pytest.raises(ValueError, match=path.name):
            process_midi(path)


def test_examples_are_readable_rhythms_and_come_from_their_script(repository, tmp_path):
    examples = repository / "examples"
    subprocess.run([sys.executable, examples / "make_examples.py", tmp_path], check=True)
    committed = sorted(path.name for path in examples.glob("*.mid"))
    assert committed == sorted(path.name for path in tmp_path.glob("*.mid"))
    for name in committed:
        assert (examples / name).read_bytes() == (tmp_path / name).read_bytes(), name
        onset, _, _ = process_midi(examples / name)
        assert onset.shape == (1, 64, 9) and (onset.reshape(4, 16, 9).sum((1, 2)) >= 2).all()
    assert set(read_controls(examples / "controls.yaml")) == {
        "hits_per_bar",
        "velocity",
        "voices",
        "forbid",
        "style",
    }


# ---- MIDI out


def test_convert_to_midi_writes_drums_and_returns_their_notes(tmp_path):
    onset, vel, timeoffset = torch.zeros(3, 1, 16, 9).unbind()
    onset[0, 4, 1] = onset[0, 4, 2] = onset[0, 0, 0] = 1
    vel[0, 4, 1], vel[0, 4, 2], vel[0, 0, 0] = 1, 0.5, 100 / 127
    timeoffset[0, 4, 1] = 0.25
    path = tmp_path / "drums.mid"
    score = convert_to_midi(onset, vel, timeoffset, inverse_mapping, path, tempo=90.0)
    assert score["pitch"].tolist() == [36, 42, 38] and score["velocity"].tolist() == [100, 64, 127]
    assert (
        np.allclose(score["time"], [0, 60 / 90, 60 / 90 * (1 + 0.25 / 4)], atol=1e-3)
        and (score["duration"] > 0).all()
    )
    midi = pretty_midi.PrettyMIDI(str(path))
    assert midi.resolution == 480 and midi.get_tempo_changes()[1][0] == pytest.approx(90, abs=1e-3)
    assert [(m.numerator, m.denominator) for m in midi.time_signature_changes] == [(4, 4)]
    assert midi.instruments[0].is_drum and [note.pitch for note in midi.instruments[0].notes] == [36, 42, 38]
    silent = convert_to_midi(*torch.zeros(3, 1, 16, 9), inverse_mapping, path)
    assert len(silent) == 0 and silent.dtype.names == ("time", "duration", "pitch", "velocity")


def test_convert_to_midi_names_what_is_wrong_and_writes_nothing(tmp_path):
    roll = torch.zeros(1, 16, 9)
    path = tmp_path / "drums.mid"
    for arguments, named in (
        (dict(onset=torch.zeros(2, 16, 9)), r"onset: shape \(2, 16, 9\)"),
        (dict(tempo=0), "tempo"),
        (dict(tempo="fast"), "tempo: 'fast'; it must be a number"),
        (dict(path=""), "path: ''; it must be the name of a file"),
        (dict(path=3), "path: 3"),
        (dict(inverse_mapping="gm"), "inverse_mapping: 'gm'; it must be a dict"),
        (dict(vel="loud"), "vel: 'loud'; it must be a tensor, an array or a list"),
        (dict(lead_in="no"), "lead_in: 'no'; it must be True or False"),
    ):
        with pytest.raises(ValueError, match=named):
            convert_to_midi(
                **{
                    **dict(onset=roll, vel=roll, time=roll, inverse_mapping=inverse_mapping, path=path),
                    **arguments,
                }
            )
    assert list(tmp_path.iterdir()) == []
