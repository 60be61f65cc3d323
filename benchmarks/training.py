"""How fast training is on this machine, and how much faster it could be at most.

    python benchmarks/training.py             the model and the batches of config.yaml
    python benchmarks/training.py --full      encoder 256 x 8, decoder 384 x 8, 64 windows x 64 steps
    python benchmarks/training.py --compile   compiled beside uncompiled
    python benchmarks/training.py --loader    the pace of the batches alone

The yardstick is the product of two large square matrices in the precision of the steps, which is chosen as
the training script chooses it. Products and training steps are timed in turn, one of each a round, and
medians are taken, so that what else goes on on the machine hurts them alike. A step is what the training
script does with a batch: forward, backward, clipping, AdamW. Its floating point operations are those of its
matrix products, multiplications and additions both counted, as torch's FlopCounterMode finds them;
attention's are among them, but for float32 on the CPU (2 % of the rest at full size). Needs the corpus: see
preprocessing.py.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from data_aug import DrumBatches, Pieces
from model.loss import training_loss
from preprocessing import preprocess
from utils.config.schema import load_config
from utils.device import pick_device
from utils.get_model import get_model
from utils.training.loop import Clock, compile_model, keep_freed_memory
from utils.training.metrics import to_device
from utils.training.optim import AUTOCAST, choose_precision, make_optimizer

FULL = [
    *(f"Model.Encoder.{key}" for key in ("d_model=256", "n_layer=8", "n_head=4", "d_ff=704")),
    *(f"Model.Decoder.{key}" for key in ("d_model=384", "n_layer=8", "n_head=6", "d_ff=1024")),
    *(f"Data.{key}" for key in ("batch_size=64", "clip_bar=4", "down_sample_tpq=4")),
]
SQUARE = {"cpu": 4096, "cuda": 8192, "mps": 4096}  # rows and columns of the yardstick's matrices
LOADER_BATCHES = 100
LOADER_RUNS = 5


def seconds(work, device):
    """How long work() takes, until the device is done with it."""
    start = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def medians(works, rounds, device):
    """{name: seconds} of works, {name: function}: the medians of so many rounds that call each once, after
    one more."""
    for work in works.values():
        seconds(work, device)
    taken = [{name: seconds(work, device) for name, work in works.items()} for _ in range(rounds)]
    return {name: statistics.median(times[name] for times in taken) for name in works}


def square_product(dtype, device):
    a, b = torch.randn(2, SQUARE[device.type], SQUARE[device.type], device=device).to(dtype)
    return lambda: a @ b


class Trainer:
    """The step of the training script, for a new model."""

    def __init__(self, cfg, device, precision):
        self.training, self.device, self.autocast = cfg.Training, device, AUTOCAST[precision]
        self.model = get_model(cfg.to_dict()).to(device).train()
        slow = self.training.model_copy(update={"learning_rate": 1e-5})  # nothing is to be learnt here
        self.optimizer = make_optimizer(self.model, slow)

    def gradients(self, piece, tokens):
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            figures = self.model(to_device(piece, self.device))
        training_loss(figures, tokens, self.training.loss_weight.model_dump(), 0.001, 0.0).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)

    def step(self, piece, tokens):
        self.gradients(piece, tokens)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def optimizers(self):
        """{"fused", "not fused"}: functions that take AdamW's step alone; gradients must be there."""
        groups = [
            {key: group[key] for key in ("params", "weight_decay")} for group in self.optimizer.param_groups
        ]
        other = torch.optim.AdamW(groups, lr=1e-5, betas=tuple(self.training.betas), fused=False)
        return {"fused": self.optimizer.step, "not fused": other.step}


def loader_of(batches, cfg, n, device):
    """The training script's loader, for n batches; see Pieces for what it gives."""
    pieces = Pieces(batches, cfg.Model.Intermediate.d_latent)
    return DataLoader(
        pieces,
        batch_size=None,
        sampler=range(n),
        num_workers=cfg.Data.loader_workers,
        pin_memory=device.type == "cuda",
    )


def report_loader(batches, cfg, device):
    """Windows per second of the loader, while nobody trains, in the shortest and the median of some runs over
    the same batches; the first batch, which starts the workers, is not timed. A window that is cut in two
    halves counts once."""
    taken = []
    for _ in range(LOADER_RUNS):
        loader = iter(loader_of(batches, cfg, LOADER_BATCHES + 1, device))
        next(loader)
        taken.append(seconds(partial(deque, loader, maxlen=0), device))
    best, usual = (
        LOADER_BATCHES * cfg.Data.batch_size / figure for figure in (min(taken), statistics.median(taken))
    )
    where = (
        f"in {cfg.Data.loader_workers} processes" if cfg.Data.loader_workers else "in the training process"
    )
    print(f"loader alone     {best:,.0f} windows/s, {where}; median of {LOADER_RUNS} runs {usual:,.0f}")


def report_step(trainer, precision, pieces, tokens, cfg, rounds):
    """The step beside the yardstick: how fast, and at what share of it."""
    device, data = trainer.device, cfg.Data
    with FlopCounterMode(display=False) as counter:
        trainer.step(pieces[0], tokens)
    works = {
        "product": square_product(AUTOCAST[precision] or torch.float32, device),
        "step": lambda: trainer.step(pieces[0], tokens),
    }
    taken = medians(works, rounds, device)
    n, rate = SQUARE[device.type], counter.get_total_flops() / taken["step"]
    peak = 2 * n**3 / taken["product"]
    print(
        f"matrix product   {peak / 1e9:,.0f} GFLOP/s in {precision}: {n} x {n} times {n} x {n}\n"
        f"training step    {taken['step'] * 1000:,.0f} ms: {1 / taken['step']:.2f} steps/s, "
        f"{data.batch_size / taken['step']:,.0f} windows/s, "
        f"{tokens['steps'] / taken['step']:,.0f} sixteenths of drums/s\n"
        f"achieved         {rate / 1e9:,.0f} GFLOP/s, {counter.get_total_flops() / 1e9:,.1f} GFLOP a step: "
        f"{rate / peak:.1%} of the product"
    )


def report_waiting(trainer, batches, cfg, n):
    """The loop as it is: a step for each new batch, and the share of the time in which it waited for one."""
    clock = Clock()
    for done, (pieces, tokens) in enumerate(clock.waiting(loader_of(batches, cfg, n + 1, trainer.device))):
        # each step to its end: the most that a loop can wait, for a GPU could work while the next batch is
        # made
        seconds(partial(trainer.step, pieces[0], tokens), trainer.device)
        if done == 0:
            clock.lap(0)
    figures = clock.lap(n * cfg.Data.batch_size)
    print(
        f"with its loader  {figures['samples_per_second']:,.0f} windows/s, "
        f"{figures['data_wait']:.2%} of the time waiting for batches"
    )


def report_adamw(trainer, pieces, tokens, rounds):
    trainer.gradients(pieces[0], tokens)
    taken = medians(trainer.optimizers(), rounds, trainer.device)
    print(
        f"AdamW's part     {taken['fused'] * 1000:.1f} ms fused, {taken['not fused'] * 1000:.1f} ms not fused"
    )


def report_compiled(plain, batches, cfg, precision, rounds):
    """Whole windows and halves are compiled each for itself."""
    compiled = Trainer(cfg, plain.device, precision)
    compile_model(compiled.model)
    all_pieces, of_shape = Pieces(batches, cfg.Model.Intermediate.d_latent), {}
    for n in range(20):
        (piece,), tokens = all_pieces[n]
        of_shape.setdefault(piece["mask"].shape[1], (piece, tokens))
    for n_steps, batch in of_shape.items():
        first = seconds(partial(compiled.step, *batch), plain.device)
        works = {"plain": partial(plain.step, *batch), "compiled": partial(compiled.step, *batch)}
        taken = medians(works, rounds, plain.device)
        print(
            f"compiled         windows of {n_steps} steps: {first - taken['compiled']:.0f} s to compile, "
            f"then {taken['compiled'] * 1000:,.0f} ms a step beside "
            f"{taken['plain'] * 1000:,.0f} ms uncompiled, "
            f"{taken['plain'] / taken['compiled']:.2f} x the speed"
        )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the full size in place of config.yaml's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of config.yaml"
    )
    parser.add_argument(
        "--steps", type=int, default=10, metavar="N", help="timed of each kind (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--precision",
        choices=("auto", *AUTOCAST),
        default="auto",
        help="as Training.precision (default: auto)",
    )
    parser.add_argument("--compile", action="store_true", help="measure Training.compile as well")
    parser.add_argument("--loader", action="store_true", help="measure the loader alone, and nothing else")
    args = parser.parse_args(arguments)
    keep_freed_memory()
    device = pick_device(args.device)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # what an earlier run has compiled is compiled again
        cfg = load_config(
            "config.yaml", [*(FULL if args.full else []), *args.set, f"Data.cache_dir={folder}"]
        )
        cache = preprocess(cfg)
        cfg.Data.normalize_factor = cache.normalize_factor
        longest = cfg.Model.longest_bar
        batches = DrumBatches(cache, "train", cfg.Data, cfg.Data.batch_size, longest_bar=longest)
        if args.loader:
            report_loader(batches, cfg, device)
            return

        pieces, tokens = Pieces(batches, cfg.Model.Intermediate.d_latent)[0]
        precision = choose_precision(args.precision, device)
        trainer = Trainer(cfg, device, precision)
        encoder, decoder = cfg.Model.Encoder, cfg.Model.Decoder
        n_parameters = sum(p.numel() for p in trainer.model.parameters())
        print(
            f"\nmodel            {n_parameters / 1e6:.2f} M parameters: "
            f"encoder {encoder.d_model} x {encoder.n_layer}, decoder {decoder.d_model} x {decoder.n_layer}; "
            f"{cfg.Data.batch_size} windows x {batches.n_steps} steps; {precision} on {device}"
            + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else "")
        )
        report_step(trainer, precision, pieces, tokens, cfg, args.steps)
        report_loader(batches, cfg, device)
        report_waiting(trainer, batches, cfg, args.steps)
        report_adamw(trainer, pieces, tokens, args.steps)
        if args.compile:
            report_compiled(trainer, batches, cfg, precision, args.steps)


if __name__ == "__main__":
    main()
