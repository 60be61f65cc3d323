"""A model from a checkpoint's config, anywhere."""

from model.model import DrumVAE
from utils.checkpoints import load_checkpoint, load_weights
from utils.config import config_from_dict

_last_model = None


def get_model(config):
    """Build the model (untrained, on the CPU) that `config` describes: a checkpoint's plain dict.

    The model built last in this process is what generate() uses when it is given none.
    """
    global _last_model
    _last_model = DrumVAE(config)
    return _last_model


def last_model():
    """The model that get_model built last in this process; ValueError where there is none."""
    if _last_model is None:
        raise ValueError("model: none was given, and none was built in this process; call get_model(config) first")
    return _last_model


def load_model(path, device="cpu"):
    """The model of a checkpoint file, in eval mode on the device, in float32.

    A checkpoint of a training run gives its averaged weights, as a shipped one does. Raises ValueError, naming
    the file, for one that is missing, damaged, or does not fit.
    """
    checkpoint = load_checkpoint(path)
    model = get_model(config_from_dict(checkpoint["config"], source=str(path)).to_dict())
    load_weights(model, checkpoint["vae_model"] | checkpoint.get("ema", {}), path)
    return model.to(device).eval()
