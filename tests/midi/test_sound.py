"""MIDI to sound: errors where FluidSynth is absent or fails, and what is heard where it is installed."""

import shutil
import wave

import numpy as np
import pytest

import inference_bar_control as inference
from tests.helpers.inference_helpers import save_tiny_checkpoint
from utils.midi.drums import inverse_mapping
from utils.midi.sound import SOUNDFONT, render
from utils.midi.write import roll_to_midi

needs_fluidsynth = pytest.mark.skipif(
    not shutil.which("fluidsynth"), reason="the program fluidsynth is not installed"
)


def program(folder, script):
    """A folder with a program named fluidsynth in it, and nothing else."""
    path = folder / "bin" / "fluidsynth"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path.parent)


def test_the_soundfont_is_there():
    assert SOUNDFONT.read_bytes()[:4] == b"RIFF"


def test_without_fluidsynth_the_command_says_in_one_line_how_to_get_it(
    repository, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = [
        "--rhythm",
        str(repository / "examples" / "bass_line.mid"),
        "--wav",
        "--out",
        str(tmp_path / "out"),
    ]
    assert inference.main(inference.parse_arguments(words)) == 2
    error = capsys.readouterr().err
    assert (
        "sound (--wav) needs the program FluidSynth" in error
        and "apt install fluidsynth" in error
        and error.count("\n") == 1
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["echo it is broken >&2; exit 3", "echo it is broken >&2"])
def test_a_fluidsynth_that_fails_is_quoted_and_leaves_nothing(tmp_path, monkeypatch, script):
    monkeypatch.setenv("PATH", program(tmp_path, script))
    with pytest.raises(ValueError, match="drums.mid: FluidSynth can't play it .it is broken"):
        render(tmp_path / "drums.mid", tmp_path / "drums.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def energy_at(path, times, before=0.012, after=0.03):
    """How loud the file is just after each of these seconds, and just before."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 44100)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float) / 2**15
    sound = np.abs(sound.reshape(-1, 2)).max(1)
    middles = (np.asarray(times) * 44100).astype(int)
    gap = int(0.002 * 44100)
    ahead = [sound[max(m - int(before * 44100), 0) : max(m - gap, 1)].max() for m in middles]
    return np.array([sound[m : m + int(after * 44100)].max() for m in middles]), np.array(ahead), sound


@needs_fluidsynth
def test_what_is_rendered_sounds_where_the_hits_are_and_nowhere_else(tmp_path):
    onset, vel, timeoffset = np.zeros((3, 32, 9))
    steps, offsets = [0, 5, 8, 14, 21, 27], [0, 0.3, -0.3, 0, 0.45, -0.45]
    onset[steps, 2], vel[steps, 2], timeoffset[steps, 2] = 1, 0.9, offsets  # closed hats, which are short
    source = tmp_path / "drums.mid"
    table = roll_to_midi(onset, vel, timeoffset, inverse_mapping, source, tempo=75)
    render(source, tmp_path / "drums.wav")
    played, ahead, sound = energy_at(tmp_path / "drums.wav", table["time"])
    assert (played > 0.02).all() and (played > 10 * ahead).all() and sound.max() < 1
    silent = np.setdiff1d(
        np.arange(32), [step + 1 for step in steps] + steps
    )  # a hat has died away a step later
    between, _, _ = energy_at(tmp_path / "drums.wav", (silent - 0.5) * 60 / 75 / 4 + 0.1, after=0.05)
    assert between.max() < 0.1 * played.min()
    assert len(sound) >= 2 * 4 * 60 / 75 * 44100


@needs_fluidsynth
def test_full_loudness_does_not_clip_and_louder_hits_sound_louder(tmp_path):
    onset = np.zeros((16, 9))
    onset[::4, [0, 1, 6, 8]] = onset[::2, 2] = 1
    peaks = []
    for vel in (1.0, 0.5):
        roll_to_midi(onset, vel * onset, 0 * onset, inverse_mapping, tmp_path / "loud.mid")
        render(tmp_path / "loud.mid", tmp_path / "loud.wav")
        peaks.append(energy_at(tmp_path / "loud.wav", [0])[2].max())
    assert 0.4 > peaks[0] > 1.5 * peaks[1] > 0.05  # 0.4: room for a band


@needs_fluidsynth
def test_the_command_writes_the_sound_beside_the_rest(repository, tiny_config, tmp_path, capsys):
    checkpoint = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    words = ["--rhythm", repository / "examples" / "bass_line.mid", "--wav", "--bars", 1]
    words += ["--checkpoint", checkpoint, "--out", tmp_path / "out"]
    assert inference.main(inference.parse_arguments([str(word) for word in words])) == 0
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".json", ".mid", ".png", ".wav"]
    assert "bass_line_1.png, " in (said := capsys.readouterr().out) and "bass_line_1.wav\n" in said
