"""The weights of two checkpoints, averaged: what was trained on keeps more of what it knew before.

Between the weights that a fine-tuning began and ended with the loss hardly rises, and the average is good at
both tasks (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). Parts that OLD lacks are NEW's,
but what tells meters apart, which begins at zero; the config is NEW's.
"""

import argparse

from utils.checkpoints import as_shipped, load_checkpoint, save_checkpoint
from utils.config.schema import config_from_dict
from utils.get_model import get_model


def average(new, old, share):
    """The checkpoint NEW, a dict as it is shipped, with the share of OLD's weights in its own. Raises
    ValueError, naming the file, where one can't be read."""
    checkpoint = load_checkpoint(new)
    config = config_from_dict(checkpoint["config"], source=str(new)).to_dict()
    before, _ = get_model(config).for_longer_bars(_weights(load_checkpoint(old)))
    weights = _weights(checkpoint)
    both = weights.keys() & before.keys()
    shared = {name: weights[name] * (1 - share) + before[name] * share for name in both}
    mixed = weights | shared
    return as_shipped(checkpoint, config, {name: tensor.half() for name, tensor in mixed.items()})


def _weights(checkpoint):
    """The averaged weights of a run, or those of an exported checkpoint, in float32."""
    weights = checkpoint["vae_model"] | checkpoint.get("ema", {})
    return {name: tensor.float() for name, tensor in weights.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new", help="the checkpoint that was trained on")
    parser.add_argument("old", help="the one whose weights it began with")
    parser.add_argument("share", type=float, help="of the old weights, 0 to 1")
    parser.add_argument("out", help="the checkpoint to write")
    given = parser.parse_args()
    save_checkpoint(average(given.new, given.old, given.share), given.out)
