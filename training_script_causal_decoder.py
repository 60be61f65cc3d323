"""Train the drummer, from MIDI to checkpoint.

python training_script_causal_decoder.py                                   config.yaml, from the beginning
python training_script_causal_decoder.py --set Training.learning_rate=3e-4 --set Training.run_dir=runs/slow
python training_script_causal_decoder.py --resume runs/default             continue a run that stopped
python training_script_causal_decoder.py --init-from checkpoints/drummer.pt --midi-dir my_drums
torchrun --nproc-per-node 4 training_script_causal_decoder.py              four processes, a GPU each
"""

import argparse
import math
import sys
from contextlib import nullcontext, redirect_stdout
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import yaml
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from data_aug import DrumBatches, Pieces
from model.heads import hit_index
from model.loss import training_loss
from preprocessing import preprocess
from utils.checkpoints import (
    checkpoint_path,
    export_checkpoint,
    load_checkpoint,
    load_latest,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
)
from utils.config.schema import config_from_dict
from utils.files import write_text
from utils.flags import FlagParser
from utils.get_model import get_model
from utils.training.distributed import ALONE, device_of, join_processes, leave_processes, restarted
from utils.training.environment import record_environment
from utils.training.launch import check_corpus, check_run, run_config
from utils.training.loop import (
    EMA,
    Clock,
    FiniteGuard,
    compile_model,
    ignore_stop_signals,
    keep_freed_memory,
    stop_signals,
)
from utils.training.metrics import likelihood, to_device, training_figures
from utils.training.optim import (
    AUTOCAST,
    choose_precision,
    kl_weight,
    loss_weights,
    make_optimizer,
    make_scheduler,
)
from utils.training.run_log import RunLog
from utils.training.run_samples import write_samples
from utils.training.teachers import Teachers


def train(cfg, resume=False, init_from=None, midi_dir=None, processes=ALONE):
    """Run the training that cfg describes; returns the last validation figures.

    Every process runs the same lines on its own pieces of the same batches; the main one keeps the run
    folder.
    """
    data, training = cfg.Data, cfg.Training
    main, run_dir = processes.main, Path(training.run_dir)
    if main:
        check_run(cfg, processes.count, resume, init_from, midi_dir)
    device = device_of(processes, training.device)
    training.precision = processes.from_main(choose_precision(training.precision, device))
    print(f"{training.precision} on {device}{processes}")
    keep_freed_memory()

    # ---- data
    cache = processes.in_turn(lambda: preprocess(cfg, midi_dir))
    check_corpus(cfg, cache)
    data.normalize_factor = cache.normalize_factor
    data.corpus = midi_dir or data.corpus
    plain_from = training.steps - training.plain_steps
    longest = cfg.Model.longest_bar
    batches = DrumBatches(
        cache, "train", data, data.batch_size, training.seed, plain_from=plain_from, longest_bar=longest
    )
    d_latent = cfg.Model.Intermediate.d_latent
    pieces_of = Pieces(batches, d_latent, training.accumulation_steps, processes.rank, processes.count)
    validation = DrumBatches(
        cache,
        "validation",
        data,
        data.validation_batch_size,
        augment=False,
        hop_bars=data.clip_bar,
        longest_bar=longest,
    )
    validation_loader = DataLoader(
        validation,
        batch_size=None,
        sampler=range(processes.rank, len(validation), processes.count),
        collate_fn=lambda batch: batch | hit_index(batch["onset"]),
        pin_memory=device.type == "cuda",
    )

    # ---- model
    teachers = Teachers(cfg, device)
    torch.manual_seed(training.seed)
    model = get_model(cfg.to_dict()).to(device)
    state = None
    if main and resume:
        source, state = load_latest(run_dir / "checkpoints")
        load_weights(model, state["vae_model"], source)
    elif main and init_from:
        new = load_weights(model, load_checkpoint(init_from)["vae_model"], init_from, model.NEW_PARTS)
        if new:
            print(f"--init-from: {init_from} has no {', '.join(new)}; they begin at zero, as if not there")
    state = processes.from_main(state)
    autocast = AUTOCAST[training.precision]
    if training.compile:
        print("Training.compile: the first step, and the first with windows of another length, take minutes")
        compile_model(model)
    parallel = model
    if processes.count > 1:  # which also gives all the main process's weights; the buffers are constants
        device_ids = [device] if device.type == "cuda" else None
        parallel = DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
    optimizer = make_optimizer(model, training)
    scheduler = make_scheduler(optimizer, training)
    ema = EMA(model, training.ema_decay)
    step, best, figures = 0, math.inf, {}
    if resume:
        optimizer.load_state_dict(state["vae_optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        ema.load(state["ema"])
        step, best, figures = state["step"], state["best"], state["figures"]

    # ---- the run folder
    config = cfg.to_dict()
    model.config = config
    if main:
        write_text(run_dir / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        if changes := record_environment(run_dir, step):
            print(f"warning: resumed under {changes}; the numbers may differ from an uninterrupted run's")
        n_parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{n_parameters / 1e6:.2f} M parameters, {len(batches.start)} windows "
            f"in {len(batches)} batches an epoch, steps {step} to {training.steps}, run folder {run_dir}"
        )
    log = RunLog(run_dir, from_step=step, enabled=main)

    def save(path):
        guard.check()
        log.flush()
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

    def describe(step):
        names = batches.names_of(step)
        rate = training.learning_rate * scheduler.lr_lambdas[0](step)
        some = f"{', '.join(names[:4])} and {len(names[4:])} more"
        return f"learning rate {rate:.3g}, batch {step} with windows of {some}"

    # ---- the loop
    loader = DataLoader(
        pieces_of,
        batch_size=None,
        sampler=range(step, training.steps),
        num_workers=data.loader_workers,
        worker_init_fn=ignore_stop_signals,
        pin_memory=device.type == "cuda",
    )
    clock, guard = Clock(), FiniteGuard(optimizer, device, describe)
    progress = tqdm(
        clock.waiting(loader),
        initial=step,
        total=training.steps,
        unit="step",
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not main,
    )
    vae, started_at = training.VAE_params, step
    model.train()
    with stop_signals() as signals:
        for pieces, tokens in progress:
            # the random numbers of a step depend on its number alone, so a resumed run goes on exactly
            chance = np.random.SeedSequence([training.seed, step, processes.rank])
            torch.manual_seed(chance.generate_state(1, np.uint64).item())
            weight, of_heads = kl_weight(step, vae), loss_weights(step, training)
            sums, losses = [], []
            for piece in pieces:
                last_piece = len(sums) == len(pieces) - 1
                with nullcontext() if last_piece or parallel is model else parallel.no_sync():
                    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                        batch = to_device(piece, device)
                        sums.append(parallel(batch, teachers.targets(batch)))
                    losses.append(training_loss(sums[-1], tokens, of_heads, weight, vae.free_bits))
                    # DistributedDataParallel takes the mean over the processes, the loss is a sum over them
                    (losses[-1] * processes.count).backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
            guard.before_step(step, sum(losses).detach(), norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()
            step += 1
            ema.update(model, step)

            if step % training.log_every == 0:
                guard.check()
                logged = training_figures(sums, losses, processes.sum)
                logged |= {
                    "kl_weight": weight,
                    "gradient_norm": norm.item(),
                    "learning_rate": scheduler.get_last_lr()[0],
                    **clock.lap(training.log_every * data.batch_size),
                }
                log.write(step, logged, "train")
                progress.set_postfix(loss=f"{logged['loss']:.3f}", onset=f"{logged['onset']:.3f}")
                if main and training.log_every < step - started_at <= 2 * training.log_every:
                    seconds = data.batch_size / logged["samples_per_second"]
                    rest = timedelta(seconds=round(seconds * (training.steps - step)))
                    progress.write(f"step {step}: {seconds:.3g} s a step; {rest} to go, validation aside")

            last_step = step == training.steps
            stopping = processes.any(bool(signals))
            with clock.stopped():
                if step % training.validate_every == 0 or last_step:
                    with ema.swapped_in(model):
                        by_setting = likelihood(
                            model, validation_loader, device, autocast=autocast, gather=processes.sum
                        )
                    figures = {
                        f"{name}_{setting}": v for setting, f in by_setting.items() for name, v in f.items()
                    }
                    figures["score"] = (figures["total_given"] + figures["total_unset"]) / 2
                    log.write(step, figures, "validation")
                    if main:
                        given, unset = figures["onset_given"], figures["onset_unset"]
                        progress.write(
                            f"step {step}: validation onset {given:.3f} nats a step with controls, "
                            f"{unset:.3f} without; all heads {figures['score']:.3f}"
                        )
                    if figures["score"] < best:
                        best = figures["score"]
                        if main:
                            save(run_dir / "checkpoints" / "best.pt")
                if main and (step % training.sample_every == 0 or last_step):
                    with ema.swapped_in(model):
                        write_samples(
                            model, validation[0], run_dir / "samples" / f"step_{step:08d}", log, step
                        )
                # last of all: a resumed run takes what is due at this step as done
                if main and (step % training.checkpoint_every == 0 or last_step or stopping):
                    save(checkpoint_path(run_dir / "checkpoints", step))
                    prune_checkpoints(run_dir / "checkpoints", training.keep_last, training.keep_every)
            if stopping:
                break
    progress.close()
    log.close()
    best_path = run_dir / "checkpoints" / "best.pt"
    if main and best_path.exists():
        export_checkpoint(best_path, run_dir / "drummer.pt")
        print(f"{run_dir / 'drummer.pt'}: the averaged weights of the best validation, in half precision")
    if main and step < training.steps:
        print(f"stopped at step {step} of {training.steps}, all saved; --resume {run_dir} goes on")
    return figures


def main(arguments=None):
    parser = FlagParser(
        usage="%(prog)s [flags]",
        description=__doc__,
        epilog="Every other knob is in config.yaml.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="YAML", default="config.yaml", help="the configuration (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one knob, e.g. Training.steps=100",
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="continue the run in this folder, with its own configuration"
    )
    parser.add_argument("--init-from", metavar="CHECKPOINT", help="start from these weights (fine-tuning)")
    parser.add_argument(
        "--midi-dir", metavar="FOLDER", help="folder or zip of MIDI files, in place of Data.corpus"
    )
    args = parser.parse_args(arguments)
    try:
        processes = join_processes()
        planned, again = None, processes.any(restarted())
        if processes.main:
            cfg, resume = run_config(args.config, args.set, args.resume, again)
            planned = cfg.to_dict(), resume
        config, resume = processes.from_main(planned)
        with nullcontext() if processes.main else redirect_stdout(None):
            train(config_from_dict(config), resume, args.init_from, args.midi_dir, processes)
        leave_processes()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before the first step; nothing was trained", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(record(main)())  # so that torchrun, when a process dies, reports its traceback
