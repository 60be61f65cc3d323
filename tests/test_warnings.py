"""Warnings point at the line that called into the program."""

import warnings

import pytest

from inference_bar_control import generate_control_params
from tests.helpers.training_runs import path_of
from utils.checkpoints import load_latest, save_checkpoint
from utils.device import pick_device
from utils.warn import warn


def damaged_run(folder):
    for step in (1, 2):
        save_checkpoint({"config": {}, "vae_model": {}}, path_of(folder, step))
    path_of(folder, 2).write_bytes(b"damaged")
    return path_of(folder, 1).parent


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: pick_device("cuda:99"),
        lambda folder: generate_control_params([0, 1], [1, 1], 16, "left", "cuda:99"),
        lambda folder: load_latest(damaged_run(folder)),
    ],
)
def test_a_warning_names_the_users_file_and_line(tmp_path, call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path)
    assert [warning.filename for warning in caught] == [__file__]
    assert caught[0].lineno == call.__code__.co_firstlineno


def test_a_warning_passes_over_the_frames_of_a_decorator():
    import torch

    with pytest.warns(UserWarning, match="careful") as caught:
        torch.no_grad()(warn)("careful")
    assert caught[0].filename == __file__
