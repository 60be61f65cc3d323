"""A model from a checkpoint's config, anywhere; and which checkpoint it is."""

import hashlib
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch

from model.decoding.weights import fingerprint
from model.derived_cache import DerivedCache
from model.model import DrumVAE
from utils.checkpoints import load_checkpoint, load_weights
from utils.checks import shorten
from utils.config.schema import config_from_dict
from utils.device import on_cpu

_last_model = None
SHIPPED = Path(__file__).parent.parent / "checkpoints" / "drummer.pt"
DIGITS = 12  # of a SHA-256, in a receipt


@on_cpu
@torch.inference_mode(False)
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
    """The model that is given, or for None the one that get_model built last in this process or, where none
    was, that of the shipped checkpoint. Raises ValueError."""
    if model is None:
        return load_model(SHIPPED) if _last_model is None else _last_model
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model: {shorten(repr(model))}; it must be a model that get_model built")
    return model


@on_cpu
@torch.inference_mode(False)  # so that the model can be trained, and its weights changed, outside of it
def load_model(path, device="cpu"):
    """The model of a checkpoint file, in eval mode on the device, in float32.

    A checkpoint of a training run gives its averaged weights, as a shipped one does. Raises ValueError,
    naming the file, for one that is missing, damaged, or does not fit.
    """
    global _last_model
    checkpoint = load_checkpoint(path)
    config = config_from_dict(checkpoint["config"], source=str(path)).to_dict()
    weights = checkpoint["vae_model"] | checkpoint.get("ema", {})
    if _is_larger(config["Model"], weights):
        _check_fit(config, weights, path)
    model = _built(config, path)
    load_weights(model, weights, path)
    _last_model = model
    model.to(device).eval()
    model.loaded_from = Path(path).name, fingerprint(model.parameters())
    return model


def _built(config, path):
    try:
        return DrumVAE(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _is_larger(sizes, weights):
    """Whether the sizes of a config's Model say more than the weights can be of: a width that none of them
    has, or more in the layers than in all weights together."""
    stacks = sizes["Encoder"], sizes["Decoder"]
    others = *stacks, sizes["Intermediate"], sizes["Output"], sizes["Decoder"]["condition_params"]
    widest = max((width for tensor in weights.values() for width in tensor.shape), default=0)
    if any(isinstance(size, int) and size > widest for part in others for size in part.values()):
        return True
    in_layers = sum(part["n_layer"] * part["d_model"] * (part["d_model"] + part["d_ff"]) for part in stacks)
    return in_layers > sum(tensor.numel() for tensor in weights.values())


def _check_fit(config, weights, path):
    """ValueError where the weights are not those of the config, before memory is taken for a model of any
    size. It imports torch's compiler, which takes more than a second."""
    with torch.device("meta"), redirect_stdout(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is copied
        load_weights(_built(config, path), weights, path)


def checkpoint_of(model):
    """Which weights a model has: {"file", "sha256"}.

    sha256: the first digits of the SHA-256 of its weights in float32, in the order of their names: the same
    however they were loaded. file: the name of the checkpoint that load_model read them from; None where they
    came otherwise or have changed since. The digest is computed once, and again when they change.
    """
    now = fingerprint(model.parameters())
    cache = DerivedCache.of(model, "identity", now)
    if not cache:
        digest = hashlib.sha256()
        for _, tensor in sorted(model.state_dict().items()):
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy())
        cache["sha256"] = digest.hexdigest()[:DIGITS]
    file, loaded = getattr(model, "loaded_from", (None, None))
    return {"file": file if loaded == now else None, "sha256": cache["sha256"]}
