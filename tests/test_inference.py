import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import torch

import inference_bar_control as inference
from inference_bar_control import convert_to_midi, generate, generate_control_params, process_midi
from utils.checkpoints import save_checkpoint
from utils.config import load_config
from utils.controls import ask, bar_means, measure, parse_voices, read_controls, receipt, to_model_units
from utils.drums import STYLE_NONE, STYLES, inverse_mapping
from utils.get_model import get_model

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
FACTOR = {"density": [0.125, 0.05], "intensity": [0.5, 0.1]}
UNSET = [None] * 5  # density, intensity, instrument, style, masks


def tiny_config():
    """The program's model in small, as the plain dict of a checkpoint."""
    config = load_config(ROOT / "config.yaml").to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    config["Model"]["Encoder"].update(d_model=32, n_layer=1, n_head=2, d_ff=48)
    config["Model"]["Decoder"].update(d_model=32, n_layer=1, n_head=2, d_ff=48)
    return config


@pytest.fixture(scope="module")
def tiny_model():
    torch.manual_seed(0)
    return get_model(tiny_config())


@pytest.fixture
def heard(monkeypatch):
    """Replaces the sampling by a silent drummer, and holds what it was asked."""
    asked = {}
    names = ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset", "density", "intensity", "instrument", "style", "mask")

    def sample(model, *inputs, **more):
        asked.update(zip(names, inputs), **more)
        return [torch.zeros_like(asked["rhythm_onset"]) for _ in range(3)]

    monkeypatch.setattr(inference, "sample", sample)
    return asked


@pytest.fixture
def rhythm():
    return process_midi(EXAMPLES / "clave_taps.mid")


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


# ---- the rhythm


def test_process_midi_keeps_the_loudest_of_every_step_in_channel_three(tmp_path):
    path = write_midi(tmp_path / "two.mid", {"bass": [(0, 28, 90), (1, 28, 50)], "keys": [(0.0625, 60, 127), (4, 64, 30)]})
    onset, vel, timeoffset = process_midi(path)
    assert onset.shape == vel.shape == timeoffset.shape == (1, 32, 9) and onset.dtype == torch.float32
    assert onset.nonzero().tolist() == [[0, 0, 3], [0, 4, 3], [0, 16, 3]]
    assert vel[0, [0, 4, 16], 3].mul(127).round().tolist() == [127, 50, 30]
    assert timeoffset[0, 0, 3] == 0.25


def test_process_midi_chooses_a_track_by_name_or_number(tmp_path):
    path = write_midi(tmp_path / "two.mid", {"bass": [(0, 28, 90), (1, 28, 50)], "keys": [(2, 60, 127)]})
    assert process_midi(path, track="keys")[0].nonzero().tolist() == [[0, 8, 3]]
    assert all(torch.equal(a, b) for a, b in zip(process_midi(path, track=0), process_midi(path, track="bass")))
    with pytest.raises(ValueError, match=r"two\.mid: no track 'drums'; its tracks are 0 'bass', 1 'keys'"):
        process_midi(path, track="drums")


def test_process_midi_names_the_file_that_is_missing_corrupt_or_without_notes(tmp_path):
    corrupt, silent = tmp_path / "corrupt.mid", tmp_path / "silent.mid"
    corrupt.write_bytes(b"MThd\0\0\0\6\0\1rubbish")
    pretty_midi.PrettyMIDI().write(str(silent))
    for path in (corrupt, silent, tmp_path / "missing.mid"):
        with pytest.raises(ValueError, match=path.name):
            process_midi(path)


def test_examples_are_readable_rhythms_and_come_from_their_script(tmp_path):
    subprocess.run([sys.executable, EXAMPLES / "make_examples.py", tmp_path], check=True)
    committed = sorted(path.name for path in EXAMPLES.glob("*.mid"))
    assert committed == sorted(path.name for path in tmp_path.glob("*.mid"))
    for name in committed:
        assert (EXAMPLES / name).read_bytes() == (tmp_path / name).read_bytes(), name
        onset, _, _ = process_midi(EXAMPLES / name)
        assert onset.shape == (1, 64, 9) and (onset.reshape(4, 16, 9).sum((1, 2)) >= 2).all()
    assert set(read_controls(EXAMPLES / "controls.yaml")) == {"hits_per_bar", "velocity", "voices", "forbid", "style"}


# ---- control curves


@pytest.mark.parametrize(
    "mode, expected",
    [("left", [1, 1, 5, 5]), ("right", [5, 5, 2, 2]), ("linear", [1, 3, 5, 3.5])],
)
def test_control_curve_modes(mode, expected):
    curve = generate_control_params([0, 0.5, 1], [1, 5, 2], 4, mode)
    assert curve.shape == (1, 4, 1) and curve.dtype == torch.float32
    assert curve.flatten().tolist() == expected


def test_control_curve_of_several_dimensions_categories_and_none():
    curve = generate_control_params([0.25, 0.75], [[1, 2], [3, 4]], 4, "left")
    assert curve.tolist() == [[[1, 2], [1, 2], [1, 2], [3, 4]]]
    assert generate_control_params([0, 1], [2, 2], 8, "left", is_cat=True).dtype == torch.int64
    assert generate_control_params([0, 0.5], [None, 1], 4, "left").isnan().flatten().tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (([0, 2], [1, 1], 8), r"control_points: \[0, 2\]"),
        (([0.5, 0], [1, 1], 8), "control_points"),
        (([0, 1], [1, 2, 3], 8), r"values: \[1, 2, 3\]"),
        (([0, 1], [[1, 2], [3]], 8), "values"),
        (([0, 1], [1, 1], 8, "up"), "mode: 'up'"),
        (([0, 1], [1, 2], 8, "linear", "cpu", True), "mode: 'linear'"),
        (([0, 1], [1, 1.5], 8, "left", "cpu", True), r"values: \[1, 1.5\]"),
        (([0, 1], [1, 1], 0), "seq_len: 0"),
        (([0, 1], [1, 1], 8, "left", "gpu"), "device: 'gpu'"),
    ],
)
def test_control_curve_names_what_is_wrong(arguments, named):
    with pytest.raises(ValueError, match=named):
        generate_control_params(*arguments)


def test_absent_device_falls_back_with_a_warning():
    with pytest.warns(UserWarning, match="cuda:97 is not available") as caught:
        assert generate_control_params([0, 1], [1, 1], 8, "left", "cuda:97").device.type == "cpu"
    assert len(caught) == 1


# ---- what generate asks of the model


def test_curve_within_a_bar_asks_for_its_mean(heard, rhythm, tiny_model):
    ramp = generate_control_params([0, 1], [-1, 1], 32, "linear")
    generate(*rhythm, ramp, ramp[:, :, 0], None, None, None, 32, model=tiny_model)
    for name in ("density", "intensity"):
        assert torch.allclose(heard[name][0, :16], ramp[0, :16, 0].mean()) and heard[name].shape == (1, 32)
        assert torch.allclose(heard[name][0, 16:], ramp[0, 16:, 0].mean())
    assert heard["instrument"].isnan().all() and (heard["style"] == STYLE_NONE).all()


def test_mean_of_a_bar_leaves_out_unset_and_invalid_steps():
    curve = torch.tensor([1.0, torch.nan, 3.0, 9.0, torch.nan, torch.nan])
    mask = torch.tensor([True, True, True, False, True, True])
    means = bar_means(curve, mask, 4)
    assert means[:4].tolist() == [2.0] * 4 and means[4:].isnan().all()


def test_negative_instrument_forbids_the_voice_there_and_counts_as_zero(heard, rhythm, tiny_model):
    instrument = torch.full((16, 9), torch.nan)
    instrument[:, 0] = 0.5
    instrument[:8, 0] = -1
    generate(*rhythm, None, None, instrument, None, None, 16, model=tiny_model)
    assert heard["forbid"][0, :, 0].tolist() == [True] * 8 + [False] * 8 and not heard["forbid"][0, :, 1:].any()
    assert heard["instrument"][0, :, 0].tolist() == [0.25] * 16 and heard["instrument"][0, :, 1:].isnan().all()


def test_impossible_requests_are_met_as_nearly_as_can_be(heard, rhythm, tiny_model):
    generate(*rhythm, [-100.0] * 16, [50.0] * 16, torch.full((16, 9), 3.0), None, None, 16, model=tiny_model)
    assert torch.allclose(heard["density"] * 0.05 + 0.125, torch.tensor(0.0), atol=1e-6)
    assert torch.allclose(heard["intensity"] * 0.1 + 0.5, torch.tensor(1.0))
    assert (heard["instrument"] == 1).all()


def test_styles_by_id_by_name_and_unset(heard, rhythm, tiny_model):
    for style, expected in ((np.full((1, 16), 16), 16), ("funk", STYLES.index("funk")), ([99] * 16, 18), ([np.nan] * 16, 18)):
        generate(*rhythm, None, None, None, style, None, 16, model=tiny_model)
        assert heard["style"].tolist() == [[expected] * 16] and heard["style"].dtype == torch.int64


@pytest.mark.parametrize("seq_len", [32, 64, 96])
def test_rhythm_shorter_or_longer_than_what_is_written(heard, rhythm, tiny_model, seq_len):
    generate(*rhythm, *UNSET, seq_len, model=tiny_model)
    known = min(seq_len, 64)
    assert torch.equal(heard["rhythm_onset"][:, :known], rhythm[0][:, :known]) and heard["rhythm_onset"].shape[1] == seq_len
    for name in ("use_context", "use_latent"):
        assert heard[name][0].tolist() == [True] * known + [False] * (seq_len - known)


@pytest.mark.parametrize("follow, context, latent", [("literal", True, True), ("loose", False, True), ("free", False, False)])
def test_how_the_rhythm_is_followed(heard, rhythm, tiny_model, follow, context, latent):
    generate(*rhythm, *UNSET, 64, model=tiny_model, follow=follow)
    assert (heard["use_context"] == context).all() and (heard["use_latent"] == latent).all()


def test_full_drum_loop_is_heard_by_its_loudest_hits(heard, tiny_model):
    onset, vel, timeoffset = torch.zeros(3, 16, 9).unbind()
    onset[0, [0, 8]], vel[0, 0], vel[0, 8], timeoffset[0, 8] = 1, 0.4, 0.9, 0.2
    generate(onset, vel, timeoffset, *UNSET, 16, model=tiny_model)
    assert heard["rhythm_onset"].nonzero().tolist() == [[0, 0, 3]]
    assert heard["rhythm_vel"][0, 0, 3] == vel[0, 8] and heard["rhythm_timeoffset"][0, 0, 3] == timeoffset[0, 8]


# ---- generate with a real, untrained model


def test_forbidden_voice_never_sounds_and_masked_steps_are_silent(rhythm, tiny_model):
    instrument = torch.zeros(1, 64, 9)
    instrument[:, :, 4] = -0.01
    masks = torch.ones(1, 64)
    masks[:, 40:] = 0
    free = generate(*rhythm, *UNSET, 64, model=tiny_model, seed=1)
    onset, vel, timeoffset = generate(*rhythm, None, None, instrument, None, masks, 64, model=tiny_model, seed=1, num_samples=3)
    assert onset.shape == vel.shape == timeoffset.shape == (3, 64, 9)
    assert onset[:, :, 4].sum() == 0 < free[0][:, :, 4].sum()
    assert onset[:, 40:].sum() == 0 < free[0][:, 40:].sum() and onset[:, :40].sum() > 0
    assert ((onset == 0) | (onset == 1)).all() and not vel[onset == 0].any() and not timeoffset[onset == 0].any()
    assert (vel[onset == 1] > 0).all() and (vel <= 1).all() and (timeoffset >= -0.5).all() and (timeoffset < 0.5).all()


def test_same_seed_same_drums_for_tensors_and_arrays(rhythm, tiny_model):
    first = generate(*rhythm, *UNSET, 20, model=tiny_model, seed=5)
    arrays = [roll[0].numpy() for roll in rhythm]
    again = generate(*arrays, *UNSET, 20, model=tiny_model, seed=5)
    other = generate(*rhythm, *UNSET, 20, model=tiny_model, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first, again)) and first[0].shape == (1, 20, 9)
    assert not torch.equal(first[0], other[0])
    unseeded = [generate(*rhythm, *UNSET, 20, model=tiny_model)[0] for _ in range(2)]
    assert not torch.equal(*unseeded)


def test_generate_leaves_no_trace(rhythm, tiny_model):
    tiny_model.train()
    tiny_model.encoder.eval()
    modes = [module.training for module in tiny_model.modules()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    trained = [parameter.clone() for parameter in tiny_model.parameters()]
    generate(*rhythm, *UNSET, 16, model=tiny_model, seed=1)
    generate(*rhythm, *UNSET, 16, model=tiny_model)
    assert [module.training for module in tiny_model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert (np.random.get_state()[1] == before[1]).all()
    assert all(torch.equal(a, b) for a, b in zip(trained, tiny_model.parameters()))


def test_mode_is_restored_when_sampling_fails(rhythm, tiny_model, monkeypatch):
    monkeypatch.setattr(inference, "sample", lambda *_, **__: 1 / 0)
    tiny_model.train()
    with pytest.raises(ZeroDivisionError):
        generate(*rhythm, *UNSET, 16, model=tiny_model)
    assert tiny_model.training


def test_model_defaults_to_the_last_one_built(rhythm, tiny_model, monkeypatch):
    import utils.get_model

    monkeypatch.setattr(utils.get_model, "_last_model", None)
    with pytest.raises(ValueError, match="model: .*get_model"):
        generate(*rhythm, *UNSET, 16)
    monkeypatch.setattr(utils.get_model, "_last_model", tiny_model)
    assert torch.equal(generate(*rhythm, *UNSET, 16, seed=1)[0], generate(*rhythm, *UNSET, 16, model=tiny_model, seed=1)[0])


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"seq_len": 18}, "seq_len: 18; .* multiple of 4"),
        ({"seq_len": 0}, "seq_len: 0"),
        ({"seq_len": 16.0}, "seq_len: 16.0"),
        ({"density": torch.zeros(1, 12)}, "density: 12 steps; seq_len, 16, .* no longer than the controls"),
        ({"intensity": torch.zeros(2, 16)}, r"intensity: shape \(2, 16\)"),
        ({"instrument": torch.zeros(1, 16)}, r"instrument: shape \(1, 16\)"),
        ({"masks": torch.ones(1, 8)}, "masks: 8 steps"),
        ({"style": [-3] * 16}, "style: -3"),
        ({"style": [1.5] * 16}, "style: 1.5"),
        ({"style": "fuk"}, "style 'fuk'; did you mean funk"),
        ({"piano_roll_onset": torch.zeros(1, 144, 9)}, "piano_roll_onset: 144 steps; .* at most 128"),
        ({"piano_roll_vel": torch.zeros(1, 32, 9)}, "piano_roll_vel: 32 steps; .* 64"),
        ({"piano_roll_vel": torch.full((1, 64, 9), 90.0)}, "piano_roll_vel: from 90 to 90; .* 0 and 1"),
        ({"piano_roll_timeoffset": torch.zeros(2, 64, 9)}, r"piano_roll_timeoffset: shape \(2, 64, 9\)"),
        ({"follow": "closely"}, "follow: 'closely'"),
        ({"temperature": 0}, "temperature: 0"),
        ({"guidance": -1}, "guidance: -1"),
        ({"num_samples": 0}, "num_samples: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": "one"}, "seed: 'one'"),
    ],
)
def test_generate_names_argument_value_and_rule(heard, rhythm, tiny_model, changes, named):
    rolls = dict(zip(("piano_roll_onset", "piano_roll_vel", "piano_roll_timeoffset"), rhythm))
    unset = dict.fromkeys(("density", "intensity", "instrument", "style", "masks"))
    with pytest.raises(ValueError, match=named):
        generate(**{**rolls, **unset, "seq_len": 16, "model": tiny_model, **changes})


def test_extras_are_keyword_only(rhythm, tiny_model):
    with pytest.raises(TypeError):
        generate(*rhythm, *UNSET, 16, tiny_model)


# ---- MIDI out


def test_convert_to_midi_writes_drums_and_returns_their_notes(tmp_path):
    onset, vel, timeoffset = torch.zeros(3, 1, 16, 9).unbind()
    onset[0, 4, 1] = onset[0, 4, 2] = onset[0, 0, 0] = 1
    vel[0, 4, 1], vel[0, 4, 2], vel[0, 0, 0] = 1, 0.5, 100 / 127
    timeoffset[0, 4, 1] = 0.25
    path = tmp_path / "drums.mid"
    score = convert_to_midi(onset, vel, timeoffset, inverse_mapping, path, tempo=90.0)
    assert score["pitch"].tolist() == [36, 42, 38] and score["velocity"].tolist() == [100, 64, 127]
    assert np.allclose(score["time"], [0, 60 / 90, 60 / 90 * (1 + 0.25 / 4)], atol=1e-3) and (score["duration"] > 0).all()
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
        (dict(path=tmp_path / "absent" / "drums.mid"), "absent"),
    ):
        with pytest.raises(ValueError, match=named):
            convert_to_midi(**{**dict(onset=roll, vel=roll, time=roll, inverse_mapping=inverse_mapping, path=path), **arguments})
    assert list(tmp_path.iterdir()) == []


# ---- a musician's units


def test_wishes_are_stretched_over_the_bars():
    asked = ask(4, hits_per_bar="8,-", velocity=[60, None, 90], voices={"kick": 4}, forbid=["crash"], style="funk,-")
    assert asked.hits.tolist()[:2] == [8, 8] and np.isnan(asked.hits[2:]).all()
    assert asked.velocity[0] == asked.velocity[1] == 60 and np.isnan(asked.velocity[2]) and asked.velocity[3] == 90
    assert asked.style.tolist() == [16, 16, STYLE_NONE, STYLE_NONE]
    assert asked.voices[:, 0].tolist() == [4] * 4 and (asked.voices[:, 6] < 0).all() and np.isnan(asked.voices[:, 1]).all()


@pytest.mark.parametrize(
    "wishes, named",
    [
        ({"hits_per_bar": "many"}, "hits_per_bar: 'many'"),
        ({"hits_per_bar": -1}, "hits_per_bar: -1"),
        ({"velocity": 0}, "velocity: 0; .* 1 or more"),
        ({"velocity": [1, 2, 3, 4, 5]}, "velocity: 5 values for 4 bars"),
        ({"voices": {"kik": 4}}, "'kik'; did you mean kick"),
        ({"voices": {"kick": True}}, "voices: kick: True"),
        ({"forbid": ["cymbal"]}, "cymbal"),
        ({"style": "fnk"}, "'fnk'; did you mean funk"),
    ],
)
def test_wishes_that_make_no_sense(wishes, named):
    with pytest.raises(ValueError, match=named):
        ask(4, **wishes)


def test_what_is_measured_asks_for_itself():
    """Counting bars, turning the counts to model units and undoing those gives the shares of the cells."""
    chance = np.random.default_rng(0)
    onset = (chance.random((32, 9)) < 0.2).astype(np.float32)
    vel = onset * chance.uniform(0.1, 1, (32, 9)).astype(np.float32)
    got = measure(onset, vel, 16)
    assert got.hits.tolist() == [onset[:16].sum(), onset[16:].sum()]
    density, intensity, instrument, style = to_model_units(got, FACTOR, 16)
    assert density.shape == intensity.shape == style.shape == (1, 32) and instrument.shape == (1, 32, 9)
    assert np.allclose(density[0, :16] * 0.05 + 0.125, onset[:16].mean(), atol=1e-6)
    assert np.allclose(intensity[0, 16:] * 0.1 + 0.5, vel[16:].sum() / onset[16:].sum(), atol=1e-6)
    assert np.allclose(instrument[0, 0], onset[:16].mean(0))


def test_voices_on_the_command_line():
    assert parse_voices(["kick=4"]) == parse_voices(["kick", "=4"]) == {"kick": "4"}
    assert parse_voices(["kick=4,", "closed-hat=8,8,4,8", "snare=2"]) == {"kick": "4", "closed-hat": "8,8,4,8", "snare": "2"}
    for words in (["kick"], ["4"], ["4 kick=2"]):
        with pytest.raises(ValueError, match="--voice"):
            parse_voices(words)


def test_control_file_errors_name_file_key_and_rule(tmp_path):
    path = tmp_path / "wishes.yaml"
    for text, named in (
        ("velocty: 3", "wishes.yaml: unknown key 'velocty'; did you mean velocity"),
        ("- 3", "wishes.yaml: holds a list"),
        ("velocity: 3\nvelocity: 4", "wishes.yaml.*velocity.*twice"),
        ("voices: kick", "wishes.yaml: voices: 'kick'"),
        ("a: [", "wishes.yaml"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=named):
            read_controls(path)
    with pytest.raises(ValueError, match="absent.yaml"):
        read_controls(tmp_path / "absent.yaml")


def test_receipt_sets_what_came_out_beside_what_was_asked():
    onset, vel = np.zeros((2, 32, 9), np.float32)
    onset[:3, 0], vel[:3, 0] = 1, 0.5
    table = receipt(ask(2, hits_per_bar=12.5, voices={"kick": 4}, forbid="ride", style="jazz"), measure(onset, vel, 16))
    bar_one, bar_two = (line.split() for line in table.splitlines()[2:])
    assert bar_one == ["1", "12.5", "3", "-", "64", "4", "3", "none", "0", "jazz"]
    assert bar_two == ["2", "12.5", "0", "-", "-", "4", "0", "none", "0", "jazz"]


# ---- the command


@pytest.fixture
def checkpoint(tmp_path, tiny_model):
    path = tmp_path / "tiny.pt"
    save_checkpoint({"config": tiny_model.config, "vae_model": tiny_model.state_dict(), "step": 0}, path)
    return path


def command(*words):
    return inference.main(inference.parse_arguments([str(word) for word in words]))


def test_command_writes_midi_picture_and_table(checkpoint, tmp_path, capsys):
    controls = tmp_path / "controls.yaml"
    controls.write_text("hits_per_bar: [10, 20]\nvoices: {kick: 4, snare: 2}\nforbid: [ride]\n")
    arguments = ["--rhythm", EXAMPLES / "bass_line.mid", "--controls", controls, "--voice", "kick=3", "--forbid", "crash,", "high_tom",
                 "--style", "funk", "--seed", 7, "--num-samples", 2, "--checkpoint", checkpoint, "--device", "cpu"]  # fmt: skip
    assert command(*arguments, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bass_line_1.mid", "bass_line_1.png", "bass_line_2.mid", "bass_line_2.png",
    ]  # fmt: skip
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "out" / "bass_line_1.mid"))
    assert midi.get_tempo_changes()[1][0] == pytest.approx(96, abs=1e-3)
    assert {49, 50, 51}.isdisjoint(note.pitch for note in midi.instruments[0].notes)
    assert (tmp_path / "out" / "bass_line_1.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in printed.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ", "4 ")]
    assert len(rows) == 8 and [row[1] for row in rows[:4]] == ["10", "10", "20", "20"]
    assert {row[5] for row in rows} == {"3"} and {row[7] for row in rows} == {"2"} and "seed 7" in printed

    assert command(*arguments, "--out", tmp_path / "again") == 0
    for name in ("bass_line_1.mid", "bass_line_2.mid"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_command_hears_the_first_eight_bars_of_a_long_rhythm_and_says_so(checkpoint, tmp_path, capsys):
    long = write_midi(tmp_path / "long.mid", {"bass": [(quarter, 40, 90) for quarter in range(40)]})
    assert command("--rhythm", long, "--bars", 1, "--checkpoint", checkpoint, "--out", tmp_path) == 0
    assert "the rhythm has 10 bars: the first 8 are heard" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, named",
    [
        (["--rhythm", "absent.mid"], "absent.mid"),
        (["--style", "fnk"], "did you mean funk"),
        (["--voice", "kik=3"], "did you mean kick"),
        (["--bars", "0"], "--bars: 0"),
        (["--hits-per-bar", "1,2,3,4,5"], "hits_per_bar: 5 values for 4 bars"),
        (["--checkpoint", "absent.pt"], "absent.pt"),
        (["--controls", "absent.yaml"], "absent.yaml"),
        (["--track", "flute"], "no track 'flute'"),
        (["--temperature", "-1"], "temperature: -1"),
        (["--device", "abacus"], "device: 'abacus'"),
    ],
)
def test_command_errors_are_one_line_and_leave_nothing(checkpoint, tmp_path, capsys, words, named):
    defaults = ["--rhythm", EXAMPLES / "clave_taps.mid", "--checkpoint", checkpoint, "--out", tmp_path / "out"]
    assert command(*defaults, *words) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_and_typos_answer_before_anything_heavy_is_imported():
    script = (
        "import json, runpy, sys\n"
        "sys.argv = ['inference_bar_control.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('inference_bar_control.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    print(json.dumps([stop.code, 'torch' in sys.modules]))"
    )
    for words, status in ((["--help"], 0), (["--rythm", "x.mid"], 2)):
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout.splitlines()[-1]) == [status, False]
        assert done.stderr.count("\n") == (0 if status == 0 else 1)
