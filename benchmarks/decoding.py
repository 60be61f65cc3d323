"""How fast drums are drawn on this machine, beside what it would take without a cache and what it takes at
least.

    python benchmarks/decoding.py --full                           encoder 256 x 8, decoder 384 x 8, untrained
    python benchmarks/decoding.py --checkpoint checkpoints/drummer.pt
    python benchmarks/decoding.py                                  the model of config.yaml, untrained

All on the same weights in one run: milliseconds a step at every batch and length, each the shortest of
several runs, in the precision that is chosen for them and in float32; how many times as long it takes without
a cache (see sample_without_cache), for the same drums, which is checked in float32; how many times as long as
the memory needs to hand over what a step reads (see bytes_read); and the hits of a step. Before that, the
time of a step by its bar in the piece, what the first call costs, and the peak memory of the process. Without
the corpus: what it plays to is a rhythm of examples/.
"""

import argparse
import contextlib
import functools
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from training import FULL, seconds

from inference_bar_control import process_midi
from model.decoding.guide import Guide
from model.decoding.sampling import UNIFORMS_PER_VOICE, build_conditioning, encode_rhythm, sample
from model.decoding.steps import Decoding, bar_steps, decoding_precision, draw_step
from model.heads import StepHeads
from utils.config.schema import load_config
from utils.device import pick_device
from utils.get_model import get_model, load_model

REPOSITORY = Path(__file__).resolve().parent.parent
NORMALIZE = {
    "density": [0.1287, 0.0432],
    "intensity": [0.5698, 0.1433],
}  # of the bars of the Groove MIDI Dataset
LARGE = {"cpu": 2**28, "cuda": 2**33, "mps": 2**30}  # bytes that no cache holds
RUNS = 5  # of each kind, of which the shortest counts; without a cache fewer, for they take long


def make_inputs(model, rows, n_steps, device):
    """What `sample` plays to: a bass line again and again, the mean density and loudness of GMD, funk."""
    bass = process_midi(REPOSITORY / "examples/bass_line.mid", down_sample_tpq=model.steps_per_bar // 4)
    times = -(-n_steps // bass[0].shape[1])
    rhythm = [roll.repeat(rows, times, 1)[:, :n_steps].to(device) for roll in bass]
    mean = torch.zeros(rows, n_steps, device=device)
    any_voice = torch.full_like(rhythm[0], torch.nan)
    style = torch.full((rows, n_steps), 16, device=device)
    controls = {"density": mean, "intensity": mean, "instrument": any_voice, "style": style}
    return rhythm, controls, torch.ones_like(mean, dtype=torch.bool)


# ------------------------------------------------------------------------- the baseline


@torch.no_grad()
def sample_without_cache(model, inputs, generator, whole):
    """The baseline: what `sample` draws, but at every step the whole decoder is run over all that was played.

    inputs: the three that `sample` takes first, T whole bars, none masked. whole: over all T steps every
    time, those that lie ahead silent, so that all shapes stay the same; else over the growing prefix, as
    short as can be. In both, encoder and condition are run once. In float32. Returns onset, vel, timeoffset,
    (B, T, V).
    """
    rhythm, controls, mask = inputs
    B, T, V = rhythm[0].shape
    S, guide, heads = model.steps_per_bar, Guide(1.0), StepHeads(model.onset_head, model.hit_head)
    grid = model.grid(T)
    encoded = encode_rhythm(model, rhythm, mask, mask, mask, grid)
    conditioning = build_conditioning(model, encoded, controls, guide, grid)
    drums = tuple(torch.zeros_like(rhythm[0]) for _ in range(3))
    for t in range(T):
        if t % S == 0:
            uniform = torch.rand(B, S, V, UNIFORMS_PER_VOICE, generator=generator, device=mask.device)
            steps = bar_steps(
                {name: x[:, t : t + S] for name, x in conditioning.items()}, uniform, (1.0,) * 3, 0.0, model
            )
        hidden = run_decoder(model, drums, conditioning, T if whole else t + 1)[:, t]
        drawn = draw_step(heads, hidden, steps[t % S], guide)
        for roll, value in zip(drums, drawn):
            roll[:, t] = value
    return drums


def run_decoder(model, drums, conditioning, n):
    """Hidden states (B, n, D) of the first n steps, whole bars or not, of drums (B, T, V); see
    DrumVAE.decode."""
    grid = model.grid(drums[0].shape[1])
    features = model.features_of(drums, conditioning.get("budget_targets"), grid)
    of_history, of_budget = (None if of is None else of[:, :n] for of in features)
    modulation = model.add_history(conditioning["modulation"][:, :n], of_history)
    modulation = model.add_budget(modulation, of_budget)
    return model.decoder(model.decoder.embed_previous(*(roll[:, :n] for roll in drums)), modulation)


# ------------------------------------------------------------------------- the floor


def bandwidth(n_bytes, device):
    """Bytes per second at which the device reads a buffer of n_bytes, again and again."""
    buffer = torch.zeros(n_bytes // 4, device=device)
    return buffer.nbytes / min(seconds(buffer.sum, device) for _ in range(20))


def bytes_read(model, rows, n_steps, precision):
    """(weights, cache): bytes that a step reads at the least, on the mean of n_steps.

    Weights: what a step of one hit takes part in: the decoder's embedding, blocks and last norm, the
    remaining budget, but for `steady`, which is not asked here, and the heads, of velocity and offset one
    voice; the large matrices in that precision. Not encoder and condition, which run once a piece, nor the
    rows that are looked up in tables. Cache: keys and values of the steps that may be looked back at, for
    each of the batch's rows.
    """
    decoder, heads = model.decoder, (model.hit_head.velocity, model.hit_head.offset)
    parts = [decoder.embed, decoder.layers, decoder.norm, model.onset_head, *heads]
    parts += [model.budget.mlp] if model.budget else []
    weights = sum(p.nbytes for part in parts for p in part.parameters())
    matrices = [matrix for layer in decoder.layers for matrix in layer.matrices()]
    if decoder.start.device.type == "cpu":  # see model.decoding.cpu_steps.weights_in
        matrices += [decoder.embed.mix.weight, *([model.budget.mlp[2].weight] if model.budget else [])]
    weights -= sum(matrix.numel() * (matrix.itemsize - precision.itemsize) for matrix in matrices)
    by_voice = [
        p for head in heads for p in (*head.from_hidden.parameters(), head.from_onset.weight, head.voice_bias)
    ]
    weights -= sum(p.nbytes for p in by_voice) * (heads[0].n_voice - 1) // heads[0].n_voice
    seen = statistics.mean(min(t + 1, decoder.window) for t in range(n_steps))
    return weights, 2 * decoder.n_layer * rows * seen * decoder.d_model * decoder.start.element_size()


# ------------------------------------------------------------------------- what is printed


@contextlib.contextmanager
def beginnings(device):
    """A list that gets the time at which each bar begins to be drawn. A bar, not a step: a GPU takes it in
    one go."""
    begun, bar = [], Decoding.bar

    def noted(*args):
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        begun.append(time.perf_counter())
        return bar(*args)

    Decoding.bar = noted
    try:
        yield begun
    finally:
        Decoding.bar = bar


def report_calls(model, n_steps, calls, device):
    """The first calls of this process, one after the other, each with a seed of its own: as wholes and bar by
    bar."""
    inputs = make_inputs(model, 1, n_steps, device)
    taken, by_bar = [], []
    for seed in range(calls):
        generator = torch.Generator(device).manual_seed(seed)
        call = functools.partial(sample, model, *inputs, generator=generator)
        with beginnings(device) as begun:
            taken.append(seconds(call, device))
            begun.append(time.perf_counter())
        by_bar.append([after - before for before, after in zip(begun, begun[1:])])
    print(
        f"calls            {taken[0] * 1000:.0f} ms the first, {taken[1] * 1000:.0f} ms the second, "
        f"{taken[-1] * 1000:.0f} ms number {calls}; median {statistics.median(taken[1:]) * 1000:.0f} ms: "
        f"{n_steps} steps at batch 1"
    )
    bars = [statistics.median(times) / model.steps_per_bar * 1000 for times in zip(*by_bar[1:])]
    furthest = max(abs(bar / statistics.mean(bars) - 1) for bar in bars)
    print(
        f"a step by bar    {', '.join(f'{bar:.2f}' for bar in bars)} ms, "
        f"at most {furthest:.1%} from their mean; medians of {calls - 1} calls"
    )


def in_turn(works, runs, device):
    """{name: (seconds of its shortest run, what it gave)} of works, {name: (function, how many runs at
    most)}: a run of each after the other, so that what else goes on on the machine hurts them alike."""
    taken, given = {name: [] for name in works}, {}
    for run in range(runs):
        for name, (work, most) in works.items():
            if run < most:
                keep = functools.partial(lambda name, work: given.update({name: work()}), name, work)
                taken[name].append(seconds(keep, device))
    return {name: (min(taken[name]), given[name]) for name in works}


def check_alike(got, wanted, what):
    """Two ways to draw from the same seed must give the same drums.

    Of a hundred thousand draws one may lie so near its edge that rounding decides, and with it all that
    follows in its row: one row in 64 may differ.
    """
    differing = sum(
        any(not torch.equal(a, b) for a, b in zip(*rows)) for rows in zip(zip(*got), zip(*wanted))
    )
    if differing > len(got[0]) // 64:
        raise SystemExit(
            f"{what}: {differing} of {len(got[0])} rows are not what the cached loop drew from that seed"
        )


def measure(model, rows, n_steps, runs, device):
    """How `rows` rows of n_steps are drawn at once: seconds of a piece in each precision, {precision:
    seconds}, of the baseline over the growing prefix and over all steps, and hits a step."""
    inputs = make_inputs(model, rows, n_steps, device)

    def chance():
        return torch.Generator(device).manual_seed(0)

    few = 1 + (runs - 1) // (2 * rows)  # without a cache it takes long
    works = {
        precision: (
            lambda precision=precision: sample(model, *inputs, generator=chance(), precision=precision),
            runs,
        )
        for precision in (decoding_precision(model), torch.float32)
    }
    for name, whole in (("growing", False), ("whole", True)):
        works[name] = (lambda whole=whole: sample_without_cache(model, inputs, chance(), whole), few)
    done = in_turn(works, runs, device)
    slow = [done.pop(name) for name in ("growing", "whole")]
    drums = done[torch.float32][1]
    for _, same in slow:
        check_alike(same, drums, f"{n_steps} steps at batch {rows} without a cache")
    by_precision = {precision: taken for precision, (taken, _) in done.items()}
    return by_precision, [taken for taken, _ in slow], drums[0].sum() / rows / n_steps


def report_speed(model, batches, lengths, runs, device):
    memory = bandwidth(LARGE[device.type], device)
    weights, _ = bytes_read(model, 1, 1, decoding_precision(model))
    again = bandwidth(weights, device)
    print(
        f"memory           {memory / 1e9:.1f} GB/s; a buffer of the {weights / 1e6:.1f} MB of weights that "
        f"a step at batch 1 reads {again / 1e9:.1f} GB/s, again and again\n\n"
        "                                     without a cache, float32, takes    times the\n"
        "steps  batch  precision  ms a step    growing prefix    all steps       floor    "
        "steps/s   x first   hits"
    )
    for n_steps in lengths:
        first = None  # steps per second at the first batch size
        for rows in batches:
            by_precision, slow, hits = measure(model, rows, n_steps, runs, device)
            for precision, taken in by_precision.items():
                steps = rows * n_steps / taken
                first = first or steps
                floor = n_steps * sum(bytes_read(model, rows, n_steps, precision)) / memory
                print(
                    f"{n_steps:5}  {rows:5}  {str(precision)[6:]:>9}  {taken / n_steps * 1000:9.3f}    "
                    f"{slow[0] / taken:10.1f} times  {slow[1] / taken:6.1f} times   {taken / floor:9.1f}   "
                    f"{steps:8,.0f}   {steps / first:7.1f}   {hits:4.2f}"
                )


def peak_memory(device):
    """MiB, of the process, or on a GPU of its tensors there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def report_memory(model, batches, n_steps, device, alone):
    """alone: peak_memory before the first call. To be called before anything larger is done: a peak never
    falls."""
    peaks = [f"{alone:.0f} MiB with the model alone"]
    for rows in sorted(batches):
        sample(model, *make_inputs(model, rows, n_steps, device))
        peaks.append(f"{peak_memory(device):.0f} after {n_steps} steps at batch {rows}")
    print(f"peak memory      {', '.join(peaks)}")


def make_model(args, device):
    if args.checkpoint:
        return load_model(args.checkpoint, device)
    torch.manual_seed(0)
    config = load_config(REPOSITORY / "config.yaml", [*(FULL if args.full else []), *args.set])
    config.Data.normalize_factor = NORMALIZE
    return get_model(config.to_dict()).to(device).eval()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the full size in place of config.yaml's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of config.yaml"
    )
    parser.add_argument("--checkpoint", metavar="PT", help="its model and weights in place of config.yaml's")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64], metavar="B")
    parser.add_argument("--steps", type=int, nargs="+", default=[64, 128], metavar="T", help="whole bars")
    parser.add_argument(
        "--calls", type=int, default=100, metavar="N", help="3 or more (default: %(default)s)"
    )
    parser.add_argument(
        "--runs", type=int, default=RUNS, metavar="N", help="of each kind (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    if args.calls < 3 or args.runs < 1 or min(args.batch) < 1:
        parser.error("--calls must be 3 or more, --runs and --batch 1 or more")
    device = pick_device(args.device)
    model = make_model(args, device)
    if any(n < 1 or n % model.steps_per_bar for n in args.steps):
        parser.error(f"--steps must be whole bars of {model.steps_per_bar}, not {args.steps}")
    decoder = model.decoder
    n_parameters = sum(p.numel() for p in model.parameters())
    print(
        f"model            {n_parameters / 1e6:.2f} M parameters, "
        f"decoder {decoder.d_model} x {decoder.n_layer}, "
        f"looking back {decoder.window} steps; {decoder.start.dtype} on {device}"
        + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else "")
    )
    alone = peak_memory(device)
    report_calls(model, max(args.steps), args.calls, device)
    report_memory(model, args.batch, max(args.steps), device, alone)
    report_speed(model, args.batch, args.steps, args.runs, device)


if __name__ == "__main__":
    main()
