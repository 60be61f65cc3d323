"""MIDI to sound: what is heard, and errors of soundfonts that are none."""

import io
import wave

import numpy as np
import pytest

import inference_bar_control as inference
from tests.helpers.inference_helpers import save_tiny_checkpoint, write_midi
from utils.checks import ArgumentError
from utils.midi import sound as sound_module
from utils.midi.drums import VOICES, inverse_mapping
from utils.midi.sound import MOST_MINUTES, RING, SAMPLE_RATE, SOUNDFONT, check_soundfont, one_shots, render
from utils.midi.write import roll_to_midi


def energy_at(data, times, before=0.012, after=0.03):
    """How loud a WAV is just after each of these seconds, and just before; and its sound, (n,)."""
    with wave.open(data if isinstance(data, io.BytesIO) else str(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, SAMPLE_RATE)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float) / 2**15
    sound = np.abs(sound.reshape(-1, 2)).max(1)
    middles = (np.asarray(times) * SAMPLE_RATE).astype(int)
    gap = int(0.002 * SAMPLE_RATE)
    ahead = [sound[max(m - int(before * SAMPLE_RATE), 0) : max(m - gap, 1)].max() for m in middles]
    return np.array([sound[m : m + int(after * SAMPLE_RATE)].max() for m in middles]), np.array(ahead), sound


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
    assert len(sound) / SAMPLE_RATE == pytest.approx(2 * 4 * 60 / 75 + RING, abs=0.01)


def test_a_last_crash_dies_away_and_full_loudness_does_not_clip(tmp_path):
    onset = np.zeros((16, 9))
    onset[::4, [0, 1, 6, 8]] = onset[::2, 2] = onset[15, 6] = 1
    peaks, ends = [], []
    for vel in (1.0, 0.5):
        roll_to_midi(onset, vel * onset, 0 * onset, inverse_mapping, tmp_path / "loud.mid")
        render(tmp_path / "loud.mid", tmp_path / "loud.wav")
        (rings,), _, sound = energy_at(tmp_path / "loud.wav", [2 + RING / 2])
        peaks.append(sound.max())
        ends.append((rings, sound[-100:].max()))
    assert 0.6 > peaks[0] > 1.5 * peaks[1] > 0.05  # 0.6: room for a band
    assert all(rings > 0.002 and last < rings / 4 for rings, last in ends), ends


def test_a_single_hit_of_each_voice_begins_at_once_ends_and_grows_with_velocity():
    shots = one_shots((50, 100))
    assert [*shots] == VOICES
    for name, layers in shots.items():
        (at_once,), _, soft = energy_at(io.BytesIO(layers[50]), [0])
        _, _, loud = energy_at(io.BytesIO(layers[100]), [0])
        assert at_once > 0.5 * soft.max() and len(loud) <= RING * SAMPLE_RATE, name
        assert loud.max() == pytest.approx(4 * soft.max(), rel=0.2), name
        assert loud[-1] <= 0.01 * loud.max() < loud.max(), name
    assert energy_at(io.BytesIO(shots["closed_hat"][100]), [0])[2].size < SAMPLE_RATE  # it is short


def test_what_lasts_too_long_is_no_sound_and_nothing_is_left(tmp_path):
    midi = write_midi(tmp_path / "long.mid", {"bass": [(0, 40, 90), (4 * 60 * MOST_MINUTES, 40, 90)]})
    with pytest.raises(ValueError, match="60 minutes; sound is made of 30 at most"):
        render(midi, tmp_path / "long.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["long.mid"]


@pytest.mark.parametrize(
    "name, said",
    [("nowhere.sf2", "nowhere.sf2: no such file"), ("text.sf2", "text.sf2: can't be played (SoundFont")],
)
def test_a_soundfont_that_is_none_is_told_in_one_line_before_anything_is_played(
    repository, tiny_config, tmp_path, monkeypatch, capsys, name, said
):
    (tmp_path / "text.sf2").write_text("no sound")
    words = ["--rhythm", repository / "examples" / "bass_line.mid", "--wav", "--soundfont", tmp_path / name]
    words += [
        "--checkpoint",
        save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt"),
        "--out",
        tmp_path / "out",
    ]
    monkeypatch.setattr("utils.playing.generate.sample", lambda *_, **__: pytest.fail("it played"))
    assert inference.main(inference.parse_arguments([*map(str, words)])) == 2
    error = capsys.readouterr().err
    assert "--soundfont: " in error and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_soundfont_goes_with_sound(repository, tmp_path, capsys):
    words = ["--rhythm", str(repository / "examples" / "bass_line.mid"), "--soundfont", str(SOUNDFONT)]
    assert inference.main(inference.parse_arguments(words)) == 2
    assert "--soundfont: it goes with --wav" in capsys.readouterr().err


def test_a_renderer_that_panics_says_one_sentence(monkeypatch):
    class PanicException(BaseException):
        """As of code in Rust."""

    def panic(*_):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(sound_module.midirenderer, "render_wave_from", panic)
    with pytest.raises(ArgumentError, match="can't be played .index out of bounds.; it must be a soundfont"):
        check_soundfont(SOUNDFONT)


def test_the_command_writes_the_sound_beside_the_rest(repository, tiny_config, tmp_path, capsys):
    checkpoint = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    words = ["--rhythm", repository / "examples" / "bass_line.mid", "--wav", "--bars", 1, "--seed", 1]
    words += ["--checkpoint", checkpoint, "--out", tmp_path / "out"]
    assert inference.main(inference.parse_arguments([str(word) for word in words])) == 0
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".json", ".mid", ".png", ".wav"]
    assert "bass_line_1.png, " in (said := capsys.readouterr().out) and "bass_line_1.wav\n" in said
