"""A model from a checkpoint's config, anywhere."""

from model.model import DrumVAE

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
