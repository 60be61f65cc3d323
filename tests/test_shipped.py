"""The shipped checkpoint: small, complete, in tune with its figures, and it hears the rhythm and obeys."""

import dataclasses
import math
import re
import shlex
import subprocess

import numpy as np
import pytest
import torch

from data_aug import swap_rhythm
from inference_bar_control import generate, generate_control_params, play, process_midi
from model.bars import BarGrid
from preprocessing import preprocess
from tests.conftest import REPOSITORY
from utils.config.schema import config_from_dict, load_config
from utils.evaluation.controls import adherence
from utils.evaluation.parts import LIKENESS, TRUE_CONTROLS
from utils.evaluation.player import Player, in_batches
from utils.evaluation.realism import beside_real, likeness_sums
from utils.evaluation.sets import partners, windows_of
from utils.get_model import load_model
from utils.midi.drums import voice_index
from utils.playing.controls import measure
from utils.training.metrics import likelihood

CHECKPOINT = REPOSITORY / "checkpoints" / "drummer.pt"
WINDOWS = 32  # of four bars


@pytest.fixture(scope="module")
def checkpoint():
    return torch.load(CHECKPOINT)


@pytest.fixture(scope="module")
def model():
    return load_model(CHECKPOINT)


@pytest.fixture(scope="module")
def test_windows(groove_zip, groove_cache, model):
    """An evenly spaced part of the real test split."""
    sets = [f"Data.corpus={groove_zip}", f"Data.cache_dir={groove_cache}"]
    config = load_config(REPOSITORY / "config.yaml", sets)
    data, cache = config.Data, preprocess(config)
    return windows_of("T4", cache, "test", data, model.normalize_factor, n_windows=WINDOWS)


def test_it_is_small_and_loads_anywhere(checkpoint):
    assert CHECKPOINT.stat().st_size <= 20e6
    assert {"config", "vae_model", "vae_optimizer", "scheduler", "step"} <= checkpoint.keys()
    assert "/" not in checkpoint["config"]["Data"]["corpus"].removeprefix("data/")


def test_make_drummer_is_its_recipe(checkpoint, tmp_path):
    (tmp_path / "requirements.txt").touch()  # in a folder without runs, with which it would go on
    command = ["make", "--dry-run", "--file", REPOSITORY / "Makefile", "drummer"]
    said = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
    *_, last = re.findall(r"training_script_causal_decoder\.py((?:\\\n|.)*)", said.stdout)
    words = shlex.split(last)
    sets = [value for flag, value in zip(words, words[1:]) if flag == "--set"]
    recipe = load_config(REPOSITORY / "config.yaml", sets).to_dict()
    trained = config_from_dict(checkpoint["config"]).to_dict()
    assert trained["Data"].pop("normalize_factor") and not recipe["Data"].pop("normalize_factor")
    assert trained["Training"].pop("precision") in ("float32", "bfloat16") and recipe["Training"].pop(
        "precision"
    )
    assert trained == recipe


def test_likelihood_is_what_was_promised_and_the_rhythm_is_heard(model, test_windows):
    batch, performance = test_windows.batch, test_windows.performance
    settings = ("given", "unset", "unset_latent")
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    ours, theirs = (likelihood(model, in_batches(b), torch.device("cpu"), settings) for b in (batch, swapped))
    cost = {setting: theirs[setting]["onset"] - ours[setting]["onset"] for setting in settings}
    assert ours["given"]["onset"] <= 0.5 and ours["unset"]["onset"] <= 0.85
    assert cost["given"] >= 0.75 and cost["unset"] >= 1.2
    assert cost["unset_latent"] >= 0.4  # the latent alone tells of the rhythm, too


def test_sampled_bars_are_like_real_ones_and_obey(model, test_windows):
    part = {name: tensor[::2] for name, tensor in test_windows.batch.items()}
    windows = dataclasses.replace(test_windows, batch=part, performance=test_windows.performance[::2])
    played = Player(model, 1, seed=0).play(part, 1, "")
    sums = [likeness_sums(rolls, windows.performance) for rolls in ([r[None] for r in windows.rolls], played)]
    scores = LIKENESS.score({name: beside_real(of, sums[0]) for name, of in zip(("real", "ours"), sums)})
    for name in ("onset rate", "velocity mean", "velocity deviation", "offset deviation"):
        assert scores["ours"][name]["value"] == pytest.approx(scores["real"][name]["value"], rel=0.1), name
    obeyed = {
        name: of["rho"]["value"] for name, of in TRUE_CONTROLS.score(adherence(windows, played)).items()
    }
    assert obeyed["density"] > 0.97 and obeyed["intensity"] > 0.95
    assert all(obeyed[voice] > 0.95 for voice in ("kick", "snare", "closed_hat"))


def drums(model, **controls):
    rhythm = process_midi(REPOSITORY / "examples" / "bass_line.mid")
    asked = {
        name: controls.pop(name, None) for name in ("density", "intensity", "instrument", "style", "masks")
    }
    return generate(*rhythm, *asked.values(), 64, model=model, seed=5, num_samples=8, **controls)


def test_density_and_intensity_are_obeyed_bar_by_bar(model):
    curve = generate_control_params([0, 0.25, 0.5, 0.75], [-1.5, 1.5, -0.5, 0.5], 64, "left")
    onset, vel, _ = drums(model, density=curve, intensity=-curve)
    got = [measure(o, v, BarGrid.four_four(len(o), 4)) for o, v in zip(onset.numpy(), vel.numpy())]
    hits, velocity = (np.mean([bars[name] for bars in got], axis=0) for name in ("density", "intensity"))
    assert (np.argsort(hits) == [0, 2, 3, 1]).all() and (np.argsort(velocity) == [1, 3, 2, 0]).all()
    mean, deviation = model.normalize_factor["density"]
    asked = (np.array([-1.5, 1.5, -0.5, 0.5]) * deviation + mean) * 144
    assert np.abs(hits - asked).max() < 2.5


def test_a_voice_is_played_as_often_as_asked(model):
    share = generate_control_params([0, 0.5], [[math.nan] * 8 + [0.0], [math.nan] * 8 + [0.5]], 64, "left")
    onset, _, _ = drums(model, instrument=share)
    ride = onset[:, :, voice_index("ride")].view(8, 4, 16).sum(-1).mean(0)
    assert ride[:2].max() <= 0.5 and (ride[2:] - 8).abs().max() < 2


def test_another_rhythm_gives_other_drums(model):
    bass = process_midi(REPOSITORY / "examples" / "bass_line.mid")
    clave = process_midi(REPOSITORY / "examples" / "clave_taps.mid")
    answered = []
    for rhythm in (bass, clave):
        how = {"rhythm_is": "drums", "model": model, "seed": 1, "num_samples": 8}
        onset, _, _ = generate(*rhythm, None, None, None, None, None, 64, **how)
        played = onset.any(-1).float()
        answered.append(
            [(played[:, other[0][0, :64].any(-1)] > 0).float().mean().item() for other in (bass, clave)]
        )
    assert answered[0][0] > 0.9 and answered[1][1] > 0.9
    assert answered[0][0] > answered[0][1] + 0.15 and answered[1][1] > answered[1][0] + 0.15


def test_its_card_names_data_licence_recipe_and_figures():
    card = (REPOSITORY / "checkpoints" / "README.md").read_text()
    for word in ("Groove MIDI Dataset", "CC BY 4.0", "make drummer", "python evaluate.py"):
        assert word in card
    assert re.search(r"\|.*\d\.\d+", card)


def test_to_a_bass_line_it_plays_a_beat(model):
    """Not the bass line: a hat or the ride keeps time, and the snare is on two and four."""
    take = play(REPOSITORY / "examples" / "bass_line.mid", model=model, seed=1, rhythm_is="part")
    bars = take.onset[0].unflatten(0, (-1, 16)) > 0
    timekeepers = [voice_index(name) for name in ("closed_hat", "open_hat", "ride")]
    assert (bars[..., timekeepers].any(-1).sum(1) >= 4).float().mean() > 0.9
    assert bars[:, [4, 12], voice_index("snare")].float().mean() > 0.6
