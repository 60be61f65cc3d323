"""How good a checkpoint is: how likely it finds real drums, how near its drums come to them beside those of
simple rules, how closely it follows the controls. utils/evaluation/parts.py lists every metric. Or how good
many runs are: one table of their run folders and one picture of their curves, without a checkpoint.

python evaluate.py                                                the shipped checkpoint on the test split
python evaluate.py --checkpoint runs/default/checkpoints/best.pt --split validation --windows 100 --samples 8
python evaluate.py --parts likelihood,tap                         only these parts of it
python evaluate.py --runs runs/*                                  the runs of a sweep, the best first
python evaluate.py --midi FOLDER                                  anybody's drums to rhythms that people bring

FOLDER holds drums to the rhythms of $RHYTHMS_ZIP, under the same names, as songs/pop_00.mid. Several folders
are several takes and also get a consensus. See utils/evaluation/brought.py.

The windows are two and four bars long, see utils/evaluation/sets.py. The command prints tables and writes
the figures as JSON. Beside the JSON file, under its name, it writes the tables in Markdown and a folder of
pictures. The same command gives the same figures.
"""

import argparse
import copy
import sys
import time
from pathlib import Path

from utils.checks import shorten
from utils.config.errors import ConfigError
from utils.config.schema import SPLITS, config_from_dict
from utils.config.yaml_file import apply_override
from utils.files import json_text, write_text
from utils.flags import FlagParser

# torch is imported where a checkpoint is evaluated, so that a table of runs comes at once.

CHECKPOINT_FLAGS = {
    "checkpoint": "checkpoints/drummer.pt",
    "split": "test",
    "parts": None,
    "windows": None,
    "samples": 32,
    "seed": 0,
    "guidance": None,
    "beside": None,
    "device": "auto",
    "midi_dir": None,
    "set": [],
    "json": "output/evaluation.json",
}
RUNS_FLAGS = {"sort": "score", "curves": "output/curves.png", "json": "output/runs.json"}
MIDI_FLAGS = {"windows": None, "json": "output/midi.json"}


def evaluate_checkpoint(args):
    from preprocessing import preprocess
    from utils.checkpoints import load_checkpoint
    from utils.device import pick_device
    from utils.evaluation.parts import PARTS
    from utils.evaluation.pictures import draw_pictures
    from utils.evaluation.player import Player
    from utils.evaluation.registry import judge
    from utils.evaluation.sets import Sets
    from utils.evaluation.tables import as_markdown, as_text
    from utils.get_model import load_model
    from utils.playing.request import GUIDANCE

    for name, lowest in (("windows", 2), ("samples", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and not lowest <= value < 2**63:
            raise ValueError(f"--{name}: {value}; it must be at least {lowest}")
    if args.split not in SPLITS:
        raise ValueError(f"--split: {args.split!r}; the splits are {', '.join(SPLITS)}")
    chosen = list(PARTS) if args.parts is None else args.parts.split(",")
    for name in chosen:
        if name not in PARTS:
            raise ValueError(f"--parts: {name!r}; the parts are {', '.join(PARTS)}")
    left_out = {name: why for name in chosen if (why := PARTS[name].missing())}
    pictures = picture_folder(args.json)
    device = pick_device(args.device)
    checkpoint = load_checkpoint(args.checkpoint)
    config = changed_config(checkpoint["config"], args.set, args.checkpoint)
    model = load_model(args.checkpoint, device)
    cache = preprocess(config, args.midi_dir)
    sets = Sets(cache, args.split, config.Data, model.normalize_factor, args.windows)
    beside = None if args.beside is None else load_model(args.beside, device)
    guidance = GUIDANCE if args.guidance is None else args.guidance
    player = Player(model, args.samples, args.seed, guidance, beside)

    figures = {"checkpoint": args.checkpoint, "step": checkpoint.get("step", 0)}
    figures |= {"split": sets.split, "floor": sets.other, "samples": player.samples, "seed": player.seed}
    figures |= {"beside": args.beside, "guidance": player.guidance}
    figures |= {"sets": {name: sets(name).size() for name in ("T2", "T4")}}
    seconds = []
    for name in (name for name in PARTS if name in chosen and name not in left_out):
        began = time.perf_counter()
        figures[name] = PARTS[name].figures(player, sets)
        seconds.append(f"{name} {time.perf_counter() - began:.1f} s")
    figures["goals"] = judge(figures, PARTS)

    print(as_text(figures, PARTS))
    for name, why in left_out.items():
        print(f"\nleft out: {name}, as {why}")
    write_json(figures, args.json)
    write_text(f"{pictures}.md", as_markdown(figures, PARTS))
    drawn = draw_pictures(figures, player, sets, pictures)
    written = ", ".join([args.json, f"{pictures}.md", *(f"{pictures / name}" for name in drawn)])
    print(f"\n{written} written; on {device}: {', '.join(seconds)}")


def picture_folder(path):
    """The folder beside the JSON that has its name; made at once, so that what can't be written is said at
    once."""
    folder = Path(path).with_suffix("")
    if folder == Path(path):
        raise ValueError(
            f"--json: {path}; it must end in .json or the like: without that it is the pictures' folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--json: {path} can't be written: {error.strerror}") from error
    return folder


def changed_config(config, overrides, source):
    """A checkpoint's config (a plain dict) as utils.config.schema gives it, changed by overrides of Data."""
    config, problems = copy.deepcopy(config), []
    for override in overrides:
        if not override.strip().startswith("Data."):
            problems.append(
                f"--set {shorten(override)}: only Data can be changed here, the model is as it was trained"
            )
        problems += apply_override(config, override)
    if problems:
        raise ConfigError(source, problems)
    return config_from_dict(config, source)


def compare_runs(args):
    from utils.evaluation.compare_runs import draw_curves, summary, table
    from utils.training.runs import read_runs

    runs, left_out = read_runs(args.runs)
    rows = summary(runs, args.sort)
    print(
        f"Lowest {args.sort} on validation first; each run at its best step; nats with true controls / unset"
    )
    print(table(rows, args.sort))
    if left_out:
        print(f"left out, {len(left_out)}: {'; '.join(left_out)}")
    write_json({"sort": args.sort, "runs": rows, "left_out": left_out}, args.json)
    by_folder = {run.folder: run for run in runs}
    draw_curves(args.curves, [by_folder[row["folder"]] for row in rows])
    print(f"\n{args.curves}, {args.json} written")


def evaluate_midi(args):
    """The figures of the part `brought` of folders of MIDI; beside their JSON the tables in Markdown."""
    from utils.evaluation import brought
    from utils.evaluation.parts import PARTS
    from utils.evaluation.registry import judge
    from utils.evaluation.tables import as_markdown, as_text

    if why := brought.missing():
        raise ValueError(f"--midi: {why}, to which these drums are played")
    figures = {"folders": args.midi}
    figures["brought"] = PARTS["brought"].score(brought.measure_midi(args.midi, args.windows))
    figures["goals"] = judge(figures, PARTS)
    print(as_text(figures, PARTS))
    write_json(figures, args.json)
    beside = Path(args.json).with_suffix(".md")
    write_text(beside, as_markdown(figures, PARTS))
    print(f"\n{args.json}, {beside} written")


def write_json(figures, path):
    """The figures, NaN as null; the file appears whole or not at all."""
    write_text(path, json_text(figures, indent=1) + "\n")


def parse_arguments(arguments=None):
    """The flags of one of the three uses, defaults filled in. Raises ValueError for a flag that belongs to
    another."""
    parser = FlagParser(
        usage="%(prog)s [flags]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--json",
        metavar="PATH",
        help="where the figures go (default: output/evaluation.json; with --runs output/runs.json, "
        "with --midi output/midi.json)",
    )
    flag = parser.add_argument_group("a checkpoint").add_argument
    flag("--checkpoint", metavar="PT", help="default: checkpoints/drummer.pt")
    flag("--split", help="train, validation or test (default)")
    flag("--windows", type=int, metavar="N", help="use only N windows of each set, evenly spaced")
    flag(
        "--samples", type=int, metavar="N", help="how often a window is played for a consensus (default: 32)"
    )
    flag(
        "--parts",
        metavar="A,B",
        help="only these parts of utils/evaluation/parts.py, e.g. likelihood,tap (default: all)",
    )
    flag("--seed", type=int, metavar="N", help="the seed of the samples (default: 0)")
    flag(
        "--guidance",
        type=float,
        metavar="X",
        help="how much the controls weigh where one is set (default: as in generate)",
    )
    flag(
        "--beside",
        metavar="PT",
        help="another checkpoint; the part meters also prints its likelihood of bars that are cut",
    )
    flag("--device", help="cpu, cuda, cuda:1, mps, or auto (default)")
    flag("--midi-dir", metavar="FOLDER", help="a folder or zip of MIDI in place of Data.corpus")
    flag(
        "--set",
        action="append",
        metavar="Data.KEY=VALUE",
        help="change one knob of the checkpoint's config, e.g. Data.cache_dir=data/cache",
    )
    flag = parser.add_argument_group("many runs").add_argument
    flag("--runs", nargs="+", metavar="FOLDER", help="compare these run folders, finished or not")
    flag(
        "--sort", metavar="FIGURE", help="the validation figure to sort by, e.g. onset_unset (default: score)"
    )
    flag("--curves", metavar="PNG", help="where the picture of the curves goes (default: output/curves.png)")
    flag = parser.add_argument_group("anybody's drums").add_argument
    flag(
        "--midi",
        nargs="+",
        metavar="FOLDER",
        help="folders of MIDI files, named like the rhythms in $RHYTHMS_ZIP; each folder is a take",
    )
    given = vars(parser.parse_args(arguments))

    use = next((use for use in ("runs", "midi") if use in given), None)
    mine = {"runs": RUNS_FLAGS, "midi": MIDI_FLAGS, None: CHECKPOINT_FLAGS}[use]
    for name in given:
        if name not in (use, *mine):
            why = "needs --runs" if use is None else f"means nothing with --{use}, which loads no checkpoint"
            raise ValueError(f"--{name.replace('_', '-')} {why}")
    return argparse.Namespace(**{**mine, **given})


def main(arguments=None):
    try:
        args = parse_arguments(arguments)
        uses = {"runs": compare_runs, "midi": evaluate_midi}
        next((use for name, use in uses.items() if hasattr(args, name)), evaluate_checkpoint)(args)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"stopped; {str(stop) or 'nothing was written'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
