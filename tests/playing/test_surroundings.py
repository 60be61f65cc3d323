"""What a user's own code sets around a call changes nothing that is played."""

import contextlib
import copy
import itertools

import pytest
import torch

from inference_bar_control import Jam, continue_drums, generate, humanise, infill, interpolate, vary
from tests.helpers.inference_helpers import save_tiny_checkpoint
from utils.get_model import checkpoint_of, load_model


def jam(drums, model):
    bars = itertools.islice(Jam(*drums, model=model, seed=1, density=1.0), 3)
    return [torch.cat(rolls, 1) for rolls in zip(*bars)]


PLAYED = {
    "generate": lambda drums, model: generate(
        *drums, torch.ones(1, 32, device="cpu"), None, None, "funk", None, 32, model=model, seed=1
    ),
    "humanise": lambda drums, model: humanise(drums, model=model, seed=1),
    "infill": lambda drums, model: infill(drums, bars=1, lock="kick", model=model, seed=1),
    "continue": lambda drums, model: continue_drums(drums, 1, model=model, seed=1),
    "vary": lambda drums, model: vary(drums, 0.5, model=model, seed=1),
    "interpolate": lambda drums, model: interpolate(drums, drums, 2, model=model, seed=1),
    "jam": jam,
}


@contextlib.contextmanager
def default_float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device():
    """Where nothing can be computed: what is made there by mistake is seen."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


AROUND = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "float64": default_float64,
    "another device": default_device,
    "gradients": torch.enable_grad,
}


@pytest.mark.parametrize("played", PLAYED.values(), ids=PLAYED)
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_what_is_set_around_a_call_changes_nothing(model, drums, played, around):
    expected = played(drums, model)
    with around():
        got = played(drums, copy.deepcopy(model))  # which keeps nothing yet
    for a, b in zip(got, expected):
        assert a.dtype == torch.float32 and not a.requires_grad and torch.equal(a, b)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("played", PLAYED.values(), ids=PLAYED)
def test_a_model_in_another_precision_plays(model, drums, played, precision):
    rolls = played(drums, copy.deepcopy(model).to(precision))
    assert all(roll.dtype == torch.float32 for roll in rolls) and rolls[0].sum() > 10


def test_a_model_loaded_and_heard_in_inference_mode_serves_outside_as_well(tiny_config, tmp_path, drums):
    path = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    with torch.inference_mode():
        model = load_model(path)
        inside, known = PLAYED["generate"](drums, model), checkpoint_of(model)
        playing = Jam(*drums, model=model, seed=1)
        next(playing)
    next(playing)
    playing.change(style="funk")
    next(playing)
    outside = PLAYED["generate"](drums, model)
    assert known["file"] == "tiny.pt" and checkpoint_of(model) == known
    assert all(torch.equal(a, b) for a, b in zip(inside, outside))
    model.decoder.start.sum().backward()
    with torch.no_grad():
        model.decoder.start.add_(1)
    assert checkpoint_of(model)["file"] is None


def test_what_is_little_is_played_by_one_thread_and_the_others_are_given_back(model, drums, monkeypatch):
    threads, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda *a: threads.append(torch.get_num_threads()) or encode(*a))
    before, silent = torch.get_num_threads(), [torch.zeros(1, 8 * 16 + 16, 9)] * 3
    torch.set_num_threads(2)
    try:
        for rhythm, number in ((drums, 1), (drums, 2), (drums, 9), (silent, 1)):
            steps = rhythm[0].shape[1]
            generate(*rhythm, None, None, None, None, None, steps, model=model, num_samples=number, seed=1)
        next(Jam(*drums, model=model))
        Jam(*silent, model=model)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == [1, 1, 2, 2, 1, 2]
