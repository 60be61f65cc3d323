"""Train the drummer, from MIDI to checkpoint.

    python training_script_causal_decoder.py                                   config.yaml, from the beginning
    python training_script_causal_decoder.py --set Training.learning_rate=3e-4 --set Training.run_dir=runs/slow
    python training_script_causal_decoder.py --resume runs/default             go on where a run stopped
    python training_script_causal_decoder.py --init-from checkpoints/drummer.pt --midi-dir my_drums
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
import yaml
from torch.utils.data import DataLoader
from tqdm import tqdm

from data_aug import DrumBatches
from model.model import training_loss
from preprocessing import preprocess
from utils.checkpoints import (
    checkpoint_path,
    export_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
)
from utils.config import load_config
from utils.device import pick_device
from utils.ema import EMA
from utils.files import write_text
from utils.get_model import get_model
from utils.metrics import likelihood, to_device
from utils.optim import choose_precision, kl_weight, make_optimizer, make_scheduler
from utils.run_log import RunLog
from utils.run_samples import write_samples


def train(cfg, resume=False, init_from=None, midi_dir=None):
    """Run the training that cfg describes; returns the last validation figures."""
    training = cfg.Training
    run_dir = Path(training.run_dir)
    last = latest_checkpoint(run_dir / "checkpoints")
    if resume and last is None:
        raise ValueError(f"--resume: {run_dir} holds no checkpoint to go on from")
    if last is not None and not resume:
        raise ValueError(
            f"Training.run_dir: {run_dir} holds a run already; --resume goes on with it, "
            "--set Training.run_dir=... starts another"
        )

    # ---- data
    cache = preprocess(cfg, midi_dir)
    cfg.Data.normalize_factor = cache.normalize_factor
    data = cfg.Data
    plain_from = training.steps - training.plain_steps
    batches = DrumBatches(cache, "train", data, data.batch_size, training.seed, plain_from=plain_from)
    validation = DrumBatches(
        cache, "validation", data, data.validation_batch_size, augment=False, hop_bars=data.clip_bar
    )

    # ---- model
    device = pick_device(training.device)
    torch.manual_seed(training.seed)
    model = get_model(cfg.to_dict()).to(device)
    if init_from is not None:
        load_weights(model, load_checkpoint(init_from)["vae_model"], init_from)
    autocast = choose_precision(training.precision, model, to_device(batches[0], device), device, training)
    training.precision = "float32" if autocast is None else "bfloat16"
    optimizer = make_optimizer(model, training)
    scheduler = make_scheduler(optimizer, training)
    ema = EMA(model, training.ema_decay)

    step, best = 0, math.inf
    if resume:
        checkpoint = load_checkpoint(last, map_location=device)
        load_weights(model, checkpoint["vae_model"], last)
        optimizer.load_state_dict(checkpoint["vae_optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        ema.weights = checkpoint["ema"]
        step, best = checkpoint["step"], checkpoint["best"]

    # ---- the run folder
    config = cfg.to_dict()
    model.config = config
    write_text(run_dir / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    log = RunLog(run_dir, from_step=step)
    n_parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{n_parameters / 1e6:.2f} M parameters, {training.precision} on {device}, {len(batches.start)} windows "
        f"in {len(batches)} batches an epoch, steps {step} to {training.steps}, run folder {run_dir}"
    )

    def save(path, figures):
        save_checkpoint(
            {
                "config": config,
                "vae_model": model.state_dict(),
                "ema": ema.weights,
                "vae_optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "step": step,
                "best": best,
                "figures": figures,
            },
            path,
        )

    # ---- the loop
    loader = DataLoader(
        batches, batch_size=None, sampler=range(step, training.steps), num_workers=data.loader_workers
    )
    progress = tqdm(loader, initial=step, total=training.steps, unit="step", smoothing=0.05, dynamic_ncols=True)
    figures, window_start = {}, time.perf_counter()
    model.train()
    for batch in progress:
        # the chance of a step depends on its number alone, so a resumed run goes on as it would have
        torch.manual_seed(training.seed * 1_000_003 + step)
        batch = to_device(batch, device)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            sums = model(batch)
        vae = training.VAE_params
        weight = kl_weight(step, vae)
        loss = training_loss(sums, training.loss_weight.model_dump(), weight, vae.free_bits)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        if not torch.isfinite(norm):
            raise RuntimeError(
                f"step {step}: the gradient norm is {norm.item()} at loss {loss.item()} and learning rate "
                f"{scheduler.get_last_lr()[0]:.3g}; the weights are those before the step"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        step += 1
        ema.update(model, step)

        if step % training.log_every == 0:
            steps, hits = sums["steps"].item(), sums["hits"].item()
            now = time.perf_counter()
            train_figures = {
                "loss": loss.item(),
                "onset": sums["onset_nats"].item() / steps,
                "velocity": sums["velocity_nats"].item() / max(1, hits),
                "offset": sums["offset_nats"].item() / max(1, hits),
                "kl_per_bar": sums["kl_units"].sum().item() / max(1, sums["bars"].item()),
                "active_units": (sums["kl_units"] / sums["bars"] > 0.05).sum().item(),
                "kl_weight": weight,
                "gradient_norm": norm.item(),
                "learning_rate": scheduler.get_last_lr()[0],
                "samples_per_second": training.log_every * data.batch_size / (now - window_start),
            }
            window_start = now
            log.write(step, train_figures, "train")
            progress.set_postfix(loss=f"{train_figures['loss']:.3f}", onset=f"{train_figures['onset']:.3f}")

        last_step = step == training.steps
        if step % training.validate_every == 0 or last_step:
            with ema.swapped_in(model):
                by_setting = likelihood(model, map(validation.__getitem__, range(len(validation))), device,
                                        autocast=autocast)
            figures = {f"{name}_{setting}": v for setting, f in by_setting.items() for name, v in f.items()}
            figures["score"] = (figures["total_given"] + figures["total_unset"]) / 2
            log.write(step, figures, "validation")
            progress.write(
                f"step {step}: validation onset {figures['onset_given']:.3f} nats a step with controls, "
                f"{figures['onset_unset']:.3f} without; all heads {figures['score']:.3f}"
            )
            if figures["score"] < best:
                best = figures["score"]
                save(run_dir / "checkpoints" / "best.pt", figures)
        if step % training.checkpoint_every == 0 or last_step:
            save(checkpoint_path(run_dir / "checkpoints", step), figures)
            prune_checkpoints(run_dir / "checkpoints", training.keep_last)
        if step % training.sample_every == 0 or last_step:
            with ema.swapped_in(model):
                write_samples(model, validation[0], run_dir / "samples" / f"step_{step:08d}")
    log.close()
    export_checkpoint(run_dir / "checkpoints" / "best.pt", run_dir / "drummer.pt")
    print(f"{run_dir / 'drummer.pt'}: the averaged weights of the best validation, in half precision, to play with")
    return figures


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Train the drummer on a folder of MIDI.", epilog="Every other knob is in config.yaml."
    )
    parser.add_argument("--config", default="config.yaml", help="the configuration (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one key, e.g. Training.steps=100"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, with its own config")
    parser.add_argument("--init-from", metavar="CHECKPOINT", help="start from these weights (fine-tuning)")
    parser.add_argument("--midi-dir", metavar="FOLDER", help="train on this folder of MIDI in place of Data.corpus")
    args = parser.parse_args(arguments)
    try:
        if args.resume:
            run_config = Path(args.resume) / "config.yaml"
            if not run_config.is_file():
                raise ValueError(f"--resume: {args.resume} is no run folder, it holds no config.yaml")
            overrides = [*args.set, f"Training.run_dir={args.resume}"]
            cfg = load_config(run_config, overrides)
        else:
            cfg = load_config(args.config, args.set)
        train(cfg, bool(args.resume), args.init_from, args.midi_dir)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
