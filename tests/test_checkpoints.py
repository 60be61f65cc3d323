"""Checkpoints: whole or not at all, read safely, exported small."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from tests.helpers.inference_helpers import save_tiny_checkpoint
from utils import get_model
from utils.checkpoints import (
    checkpoint_path,
    export_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
)


def make_model(width=8):
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width))


@pytest.fixture
def training(config):
    """A model after a step, with all that a training checkpoint holds of it."""
    torch.manual_seed(0)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    model(torch.randn(16, 4)).square().sum().backward()
    optimizer.step()
    scheduler.step()
    average = {name: value / 3 for name, value in model.state_dict().items() if value.is_floating_point()}
    return {
        "config": config.to_dict(),
        "vae_model": model.state_dict(),
        "vae_optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "step": 7,
        "ema": average,
        "rng": torch.get_rng_state(),
        "figures": {"onset": 0.6, "epochs": [1, 2]},
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def test_round_trip_is_exact(training, tmp_path):
    path = tmp_path / "new" / "last.pt"
    save_checkpoint(training, path)
    assert same(load_checkpoint(path), training)
    assert same(torch.load(path), training), "torch.load with its defaults"
    assert os.listdir(path.parent) == ["last.pt"]


def test_resumes_optimizer_and_scheduler(training, tmp_path):
    save_checkpoint(training, tmp_path / "a.pt")
    found = load_checkpoint(tmp_path / "a.pt")
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.load_state_dict(found["vae_optimizer"])
    assert same(optimizer.state_dict(), training["vae_optimizer"])


def test_crash_while_writing_leaves_the_old_file(training, tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(training, path)
    before = path.read_bytes()

    def half_written(checkpoint, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(ValueError, match="last.pt: can't be written: disk full"):
        save_checkpoint({**training, "step": 8}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["last.pt"]


def test_file_is_on_disk_before_it_gets_its_name(training, tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, original=original: (calls.append(name), original(*args))
        )
    save_checkpoint(training, tmp_path / "a.pt")
    assert calls == ["fsync", "replace", "fsync"][: 3 if os.name == "posix" else 2]


@pytest.mark.parametrize(
    "value, kind",
    [
        (np.float64(0.5), "numpy.float64"),
        (np.zeros(2), "numpy.ndarray"),
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
    ],
)
def test_what_would_not_load_is_not_written(training, tmp_path, value, kind):
    training["figures"] = {"loss": [1.0, value]}
    with pytest.raises(ValueError, match=rf"checkpoint\['figures'\]\['loss'\]\[1\] is a {kind}"):
        save_checkpoint(training, tmp_path / "a.pt")
    assert os.listdir(tmp_path) == []


# ---- Files that are no checkpoint


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("code_ran",))


def _flip_a_weight(path):
    """One bit of a tensor's bytes: torch.load alone reads it without a word."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        data = archive.read(largest)
    raw = bytearray(path.read_bytes())
    raw[raw.index(data) + 3] ^= 1
    path.write_bytes(raw)


def with_weight(change, name="0.weight"):
    """Writes a checkpoint with a weight that is changed."""

    def write(path):
        weights = make_model().state_dict()
        weights[name] = change(weights["0.weight"])
        torch.save({"config": {}, "vae_model": weights}, path)

    return write


def test_a_file_that_is_broken_anywhere_at_its_end_is_named(training, tmp_path):
    """Where a zip has its directory."""
    path, rng = tmp_path / "spoiled.pt", np.random.default_rng(0)
    save_checkpoint({"config": {}, "vae_model": {"x": torch.zeros(3)}}, path)
    whole = path.read_bytes()
    for _ in range(100):
        raw = bytearray(whole)
        for at in rng.integers(1, 500, rng.integers(1, 4)):
            raw[-at] = rng.integers(256)
        path.write_bytes(raw)
        try:
            load_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda path: path.unlink(), "no such checkpoint file"),
        (lambda path: path.write_bytes(b""), "truncated, damaged or not a checkpoint"),
        (lambda path: path.write_text("hello"), "truncated, damaged or not a checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated, damaged or not a checkpoint"),
        (_flip_a_weight, "damaged, the checksum of"),
        (lambda path: path.write_bytes(pickle.dumps(RunsCode())), "truncated, damaged or not a checkpoint"),
        (
            lambda path: torch.save({"config": {}, "vae_model": RunsCode()}, path),
            "could run code when loaded; refused",
        ),
        (lambda path: torch.save(make_model(), path), "could run code when loaded; refused"),
        (lambda path: torch.save([1, 2], path), "holds a list, a dict is expected"),
        (lambda path: torch.save({"config": {}}, path), "it lacks vae_model"),
        (lambda path: torch.save({"config": None, "model": {}}, path), "it lacks config and vae_model"),
        (with_weight(lambda x: x / 0), "weights that can't be used: 0.weight is not finite"),
        (with_weight(lambda x: x.double() * 1e300), "0.weight is not finite"),
        (
            with_weight(torch.Tensor.to_sparse),
            "0.weight is sparse, quantised, nested, complex or without data",
        ),
        (
            with_weight(lambda x: x.to("meta")),
            "0.weight is sparse, quantised, nested, complex or without data",
        ),
        (with_weight(lambda x: torch.zeros(1).expand(10**6, 10**6)), "0.weight is one number for many"),
        (with_weight(list), "0.weight is no tensor with a name"),
        (with_weight(torch.zeros_like, name=1), "1 is no tensor with a name"),
        (
            lambda path: torch.save({"config": {}, "vae_model": {}, "ema": []}, path),
            "ema is no dict of tensors",
        ),
    ],
)
def test_bad_files_are_named_with_the_reason(training, tmp_path, monkeypatch, spoil, reason):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "spoiled.pt"
    save_checkpoint(training, path)
    spoil(path)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ") and reason in str(caught.value)
    assert not (tmp_path / "code_ran").exists()


# ---- Weights into a model


def test_weights_that_fit_are_cast(training):
    model = make_model()
    load_weights(
        model,
        {
            name: value.half() if value.is_floating_point() else value
            for name, value in training["vae_model"].items()
        },
        "a.pt",
    )
    assert model[0].weight.dtype == torch.float32
    assert torch.allclose(model[0].weight, training["vae_model"]["0.weight"], atol=1e-3)


def test_weights_that_do_not_fit_are_listed(training):
    weights = {**training["vae_model"], "2.weight": torch.zeros(1), "0.bias": torch.zeros(3)}
    del weights["1.weight"]
    with pytest.raises(ValueError) as caught:
        load_weights(make_model(), weights, "a.pt")
    message = str(caught.value)
    assert message.startswith("a.pt: the weights do not fit the model: ") and "\n" not in message
    for problem in (
        'Missing key(s) in state_dict: "1.weight"',
        'Unexpected key(s) in state_dict: "2.weight"',
    ):
        assert problem in message
    assert "size mismatch for 0.bias" in message and "[3]" in message and "[8]" in message


def test_long_lists_are_cut():
    many = {f"weight {i}": torch.zeros(1) for i in range(1000)}
    with pytest.raises(ValueError, match="Unexpected key.*weight 0") as caught:
        load_weights(torch.nn.Identity(), many, "a.pt")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "key, value, reason",
    [
        ("d_ff", 65536, "the weights do not fit the model: "),
        ("n_layer", 200, "the weights do not fit the model: "),
        ("n_layer", 10**9, "Model.Decoder.n_layer: 1000000000, but at most 256"),
    ],
)
def test_a_config_of_another_size_is_refused_before_a_model_is_built(
    tiny_config, tmp_path, monkeypatch, key, value, reason
):
    path = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    checkpoint = load_checkpoint(path)
    checkpoint["config"]["Model"]["Decoder"][key] = value
    save_checkpoint(checkpoint, path)
    real = get_model.DrumVAE

    def built(config):
        assert torch.get_default_device().type == "meta", "memory was taken for it"
        return real(config)

    monkeypatch.setattr(get_model, "DrumVAE", built)
    with pytest.raises(ValueError, match=f"tiny.pt: {reason}"):
        get_model.load_model(path)


# ---- Export


def test_export_ships_the_averaged_weights(training, tmp_path):
    save_checkpoint(training, tmp_path / "best.pt")
    export_checkpoint(tmp_path / "best.pt", tmp_path / "shipped.pt")
    shipped = load_checkpoint(tmp_path / "shipped.pt")
    assert list(shipped) == ["config", "vae_model", "vae_optimizer", "scheduler", "step", "figures"]
    assert shipped["vae_optimizer"] == shipped["scheduler"] == {}
    assert shipped["config"] == training["config"] and shipped["figures"] == training["figures"]
    assert shipped["step"] == 7
    assert shipped["vae_model"].keys() == training["vae_model"].keys()
    for name, average in training["ema"].items():
        assert same(shipped["vae_model"][name], average.half()), name
    assert same(shipped["vae_model"]["1.num_batches_tracked"], training["vae_model"]["1.num_batches_tracked"])
    make_model().load_state_dict(shipped["vae_model"])


@pytest.mark.parametrize(
    "average, reason",
    [
        ({}, "holds no averaged weights"),
        ({"0.wait": torch.zeros(8, 4)}, "averaged weights that do not fit the model: 0.wait"),
        ({"0.weight": torch.zeros(3)}, "averaged weights that do not fit the model: 0.weight"),
        ({"0.bias": torch.full((8,), 1e5)}, "0.bias reaches 100000, more than float16 can hold"),
    ],
)
def test_export_refuses_what_can_not_be_shipped(training, tmp_path, average, reason):
    save_checkpoint({**training, "ema": average}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match=f"best.pt: {reason}"):
        export_checkpoint(tmp_path / "best.pt", tmp_path / "shipped.pt")
    assert not (tmp_path / "shipped.pt").exists()


# ---- A run's folder


def test_last_checkpoints_stay(tmp_path):
    names = [checkpoint_path(tmp_path, step).name for step in (500, 1500, 99_999_999, 100_000_000)]
    assert names[0] == "step_00000500.pt"
    others = ["best.pt", "step_old.pt", "step_00000100.pt.pt"]
    for name in names[::-1] + others + ["step_00002000.pt.123.part"]:
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path) == tmp_path / names[-1]
    prune_checkpoints(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == sorted(names[-2:] + others)
    prune_checkpoints(tmp_path, 5)
    assert sorted(os.listdir(tmp_path)) == sorted(names[-2:] + others)


def test_every_so_many_steps_one_is_kept_for_good(tmp_path):
    for step in range(100, 1100, 100):
        checkpoint_path(tmp_path, step).touch()
    prune_checkpoints(tmp_path, 2, keep_every=300)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        checkpoint_path(tmp_path, step).name for step in (300, 600, 900, 1000)
    ]


def test_folder_without_checkpoints(tmp_path):
    assert latest_checkpoint(tmp_path) is None and latest_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(ValueError, match="keep_last: 0"):
        prune_checkpoints(tmp_path, 0)
