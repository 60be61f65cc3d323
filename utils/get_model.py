"""A model from a checkpoint's config, anywhere; and which checkpoint it is."""

import hashlib
from pathlib import Path

import torch

from model.model import DrumVAE
from utils.checkpoints import load_checkpoint, load_weights
from utils.checks import shorten
from utils.config.schema import config_from_dict

_last_model = None
SHIPPED = Path(__file__).parent.parent / "checkpoints" / "drummer.pt"
DIGITS = 12  # of a SHA-256, in a receipt


def get_model(config):
    """Build the model (untrained, on the CPU) that `config` describes: a checkpoint's plain dict.

    The model built last in this process is what generate() uses when it is given none.
    """
    global _last_model
    if not isinstance(config, dict) or not {"Data", "Model"} <= config.keys():
        raise ValueError(
            f'config: {shorten(repr(config))}; it must be that of a checkpoint: torch.load(PATH)["config"]'
        )
    _last_model = DrumVAE(config)
    return _last_model


def given_model(model=None):
    """The model that is given, or for None the one that get_model built last in this process. Raises ValueError."""
    if model is not None and not isinstance(model, torch.nn.Module):
        raise ValueError(f"model: {shorten(repr(model))}; it must be a model that get_model built")
    return last_model() if model is None else model


def last_model():
    """The model that get_model built last in this process; ValueError where there is none."""
    if _last_model is None:
        raise ValueError(
            "model: none was given, and none was built in this process; call get_model(config) first"
        )
    return _last_model


def last_model_or_shipped():
    """The model that get_model built last in this process or, where none was built, that of the shipped checkpoint."""
    return load_model(SHIPPED) if _last_model is None else _last_model


def load_model(path, device="cpu"):
    """The model of a checkpoint file, in eval mode on the device, in float32.

    A checkpoint of a training run gives its averaged weights, as a shipped one does. Raises ValueError, naming
    the file, for one that is missing, damaged, or does not fit.
    """
    checkpoint = load_checkpoint(path)
    model = get_model(config_from_dict(checkpoint["config"], source=str(path)).to_dict())
    load_weights(model, checkpoint["vae_model"] | checkpoint.get("ema", {}), path)
    model.to(device).eval()
    _remember(model, Path(path).name, Path(path).read_bytes())
    return model


def checkpoint_of(model):
    """Which checkpoint a model is: {"file", "sha256"}, the first digits of its SHA-256.

    Of a model of load_model the file's name and digest, as sha256sum prints it. Of another one, or once its weights were
    changed in place, the digest of the weights in float32, and no file. Reckoned once, and again when they change.
    """
    if not hasattr(model, "checkpoint") or model.checkpoint[0] != _version(model):
        weights = (
            tensor.detach().to("cpu", torch.float32).numpy()
            for _, tensor in sorted(model.state_dict().items())
        )
        _remember(model, None, b"".join(array.tobytes() for array in weights))
    return dict(model.checkpoint[1])


def _remember(model, file, content):
    model.checkpoint = _version(model), {"file": file, "sha256": hashlib.sha256(content).hexdigest()[:DIGITS]}


def _version(model):
    """A number that every change of the weights in place raises; moving them to a device does not."""
    return sum(tensor._version for tensor in model.state_dict().values())
