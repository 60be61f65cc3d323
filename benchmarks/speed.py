"""How fast the parts are on this machine: python benchmarks/speed.py [--set Model.Decoder.n_layer=8]

Preprocessing (files/s), batches (windows/s), a training step in both precisions (windows/s), and decoding
(ms per step), with the model of config.yaml, untrained. Needs the corpus: see preprocessing.py.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from data_aug import DrumBatches
from model.model import training_loss
from model.sampling import sample
from preprocessing import preprocess
from utils.config import load_config
from utils.device import pick_device
from utils.get_model import get_model
from utils.metrics import to_device
from utils.optim import make_optimizer
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
        start = time.perf_counter()
        cache = preprocess(cfg)
        taken = time.perf_counter() - start
    print(f"\npreprocessing    {len(cache.files) / taken:9.0f} files/s    {taken:.2f} s in all")

    cfg.Data.normalize_factor = cache.normalize_factor
    data, training = cfg.Data, cfg.Training
    batches = DrumBatches(cache, "train", data, data.batch_size, augment=True)
    numbers = iter(range(10**6))
    taken = seconds(lambda: batches[next(numbers)], 50, device)
    print(f"batches          {data.batch_size / taken:9.0f} windows/s  in one process, with augmentation")

    model = get_model(cfg.to_dict()).to(device)
    optimizer = make_optimizer(model, training)
    batch = to_device(batches[0], device)
    float32_taken = None
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):

        def step():
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                figures = model(batch)
            training_loss(figures, training.loss_weight.model_dump(), 0.0, 0.0).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        taken = seconds(step, 5, device)
        float32_taken = float32_taken or taken
        print(
            f"training step    {data.batch_size / taken:9.0f} windows/s  {taken * 1000:.0f} ms, {name}, "
            f"{float32_taken / taken:.2f} x float32"
        )

    model.eval()
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
