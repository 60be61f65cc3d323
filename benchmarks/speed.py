"""How fast drums are drawn on this machine: python benchmarks/speed.py [--set Model.Decoder.n_layer=8]

Milliseconds per step at batch 1 and 64, with the model of config.yaml, untrained. What it plays to is real: needs
the corpus, see preprocessing.py. benchmarks/preprocessing.py and benchmarks/training.py measure the rest.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from data_aug import DrumBatches
from model.sampling import sample
from preprocessing import preprocess
from utils.config import load_config
from utils.device import pick_device
from utils.get_model import get_model
from utils.metrics import to_device
from utils.run_samples import INPUTS


def seconds(work, repeats, device):
    """The shortest of `repeats` runs, after one that warms up."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of config.yaml")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = pick_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config("config.yaml", [*args.set, f"Data.cache_dir={folder}"])
        cache = preprocess(cfg)
    cfg.Data.normalize_factor = cache.normalize_factor
    model = get_model(cfg.to_dict()).to(device).eval()
    batch = to_device(DrumBatches(cache, "train", cfg.Data, 64)[0], device)

    alone = None
    for rows in (1, 64):
        inputs = [batch[name][:rows] for name in INPUTS]
        steps = inputs[0].shape[1]
        taken = seconds(lambda: sample(model, *inputs), 2, device)
        alone = alone or taken
        print(
            f"decoding         {rows * steps / taken:9.0f} steps/s    {taken / steps * 1000:.2f} ms a step at batch {rows}, "
            f"{alone * rows / taken:.1f} x the throughput of batch 1"
        )


if __name__ == "__main__":
    main()
