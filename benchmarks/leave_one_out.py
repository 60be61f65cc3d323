"""Are meters learnt, or learnt by heart? Every performance that is not 4/4 is held out of a training.

    git show b113766:checkpoints/drummer.pt > output/before.pt
    python benchmarks/leave_one_out.py --init-from output/before.pt

A checkpoint that was trained on 4/4 alone is trained on with the parts and the augmentation that the shipped
recipe has for meters, several times: holding out nothing; each performance once, one of every session at a
time; each session (the folder that it lies in); everything. What is held out is in the split test and the
rest in train, whatever their split was. Then what was held out is scored as the part `meters` of evaluate.py
does it, and played to. A training that is done is not run again and one that was stopped goes on; all lies in
a folder of the checkpoint and the steps. For the Groove MIDI Dataset these are 11 trainings.
"""

import argparse
import csv
import io
import json
import sys
import zipfile
from itertools import zip_longest
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np

from preprocessing import preprocess
from training_script_causal_decoder import train
from utils.checkpoints import latest_checkpoint
from utils.config.schema import load_config
from utils.corpus.find import find_corpus, open_corpus, read_member
from utils.evaluation import meters
from utils.evaluation.parts import DOWNBEATS, NATS
from utils.evaluation.player import Player
from utils.evaluation.registry import Metric, Table
from utils.evaluation.sets import Sets
from utils.evaluation.tables import aligned, lines_of
from utils.files import write_text
from utils.get_model import load_model
from utils.training.launch import run_config
from utils.training.metrics import SUMS

RECIPE = [
    *("Model.longest_bar=32", "Model.Decoder.history=[1,2,4]", "Data.augmentation.meter=.15"),
    *(f"Model.Decoder.condition_params.{part}=true" for part in ("steady", "phrase")),
    *("Data.drop.steady=.3", "Data.augmentation.bar_shuffle=.1", "Data.augmentation.voice_drop=.1"),
    *("Data.augmentation.voice_mix=.1", "Data.augmentation.voice_shift=.1", "Data.batch_size=16"),
    *("Training.learning_rate=5e-4", "Training.warmup_steps=20", "Training.late_onset_weight=1"),
    *("Training.VAE_params.start_step=0", "Training.ema_decay=.98", "Training.sample_every=100000"),
]
NOTHING, PERFORMANCES, SESSIONS, EVERYTHING = HELD = "nothing", "performances", "sessions", "everything"
BEFORE = "trained on 4/4 alone"
SCORES = Table(
    "scores",
    "Performances that are not 4/4, and what was held out, teacher-forced, in nats; more: onset nats more\n"
    f"than {meters.OWN} with performances held out",
    [*NATS, Metric("more", "more")],
)


def folds(cache):
    """{of HELD: what is held out of each training}, tuples of names of performances that are not 4/4."""
    sessions = {}
    for file in cache.files:
        if file["bars"]:
            sessions.setdefault(PurePosixPath(file["name"]).parent, []).append(file["name"])
    one_of_each = [tuple(filter(None, names)) for names in zip_longest(*sessions.values())]
    everything = tuple(name for names in sessions.values() for name in names)
    return dict(zip(HELD, ([()], one_of_each, [tuple(names) for names in sessions.values()], [everything])))


def write_corpus(corpus, names, held, path):
    """The corpus as a zip whose table has those of `names` that are held in test, and the others in train."""
    lines = io.StringIO()
    writer = csv.DictWriter(lines, dict.fromkeys([*next(iter(corpus.table.values())), "split"]))
    writer.writeheader()
    for member, row in corpus.table.items():
        name = corpus.name(member)
        split = {"split": "test" if name in held else "train"} if name in names else {}
        writer.writerow(row | split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member in filter(None, (*corpus.members, corpus.kit_name)):
            archive.writestr(zipfile.ZipInfo(member), read_member(corpus.path, member))
        archive.writestr(zipfile.ZipInfo(corpus.table_name), lines.getvalue())


def result_of(title, held, names, corpus, args):
    """What `measure` gives after a training without what is held, both done where they were not before."""
    folder = args.out / f"{args.init_from.stem}_{args.steps}" / title
    run, path, done = folder / "run", folder / "corpus.zip", folder / "result.json"
    if not (run / "drummer.pt").exists():
        write_corpus(corpus, names, held, path)
        own = [f"Training.{key}={args.steps}" for key in ("steps", "validate_every")]
        own += [f"Training.plain_steps={args.steps // 4}", "Training.checkpoint_every=50"]
        own += [f"Training.run_dir={run}", f"Data.cache_dir={folder / 'cache'}"]
        begun = run if latest_checkpoint(run / "checkpoints") else None
        cfg, resume = run_config(REPOSITORY / "config.yaml", [*RECIPE, *args.set, *own], begun)
        train(cfg, resume, None if resume else str(args.init_from), str(path))
    if not (run / "drummer.pt").exists():
        sys.exit("stopped; the same command goes on")
    if not done.exists():
        write_text(done, json.dumps(measure(run, path, args.init_from, "test" if held else "train")))
    return json.loads(done.read_text())


def measure(run, path, before, split):
    """{table: {row: {name: sums as lists}}} of the performances of a split that are not 4/4, in the order of
    the cache. The weights before know no meter, and are scored as 4/4."""
    model, cfg = load_model(run / "drummer.pt"), load_config(run / "config.yaml")
    sets = Sets(preprocess(cfg, str(path)), split, cfg.Data, model.normalize_factor)
    found, _ = meters.windows_in_meters(sets, split, model.longest_bar)
    before = load_model(before)
    four = [meters.as_four_four(windows, sets.read_for(before)) for windows in found]
    scores = {row: sums["nats"] for row, sums in meters.read_rows(model, found, sets).items()}
    for setting, nats in meters.nats_of(before, four).items():
        scores[f"{BEFORE}, {meters.FOUR}, {meters.SETTINGS[setting]}"] = nats
    tables = {
        SCORES.name: {row: {"nats": nats} for row, nats in scores.items()},
        DOWNBEATS.name: meters.downbeat_rows(Player(model, 1, 0), found, split),
    }
    return {
        table: {row: {name: x.tolist() for name, x in sums.items()} for row, sums in rows.items()}
        for table, rows in tables.items()
    }


def in_order(some, names):
    return [name for name in names if name in some]


def together(results, order, held):
    """{row: {name: sums}} of one table of several results. order: which of all their performances."""
    return {
        row if row.startswith(BEFORE) else f"{row}, {held}": {
            name: np.concatenate([of[row][name] for of in results])[order] for name in sums
        }
        for row, sums in results[0].items()
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--init-from", type=Path, required=True, help="a checkpoint that knows 4/4 alone")
    parser.add_argument("--steps", type=int, default=200, help="of each training (default: %(default)s)")
    parser.add_argument("--held", nargs="+", choices=HELD, default=HELD, help="only these (default: all)")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N trainings of each")
    parser.add_argument(
        "--out", type=Path, default=Path("output/leave_one_out"), help="(default: %(default)s)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of the training")
    args = parser.parse_args(arguments)
    cfg = load_config(REPOSITORY / "config.yaml", args.set)
    cache, corpus = preprocess(cfg), open_corpus(find_corpus(cfg.Data.corpus))
    names = [file["name"] for file in cache.files if file["bars"]]
    if not names or not corpus.table:
        sys.exit(f"{corpus.path} needs performances that are not 4/4, and a table with their splits")
    each = {held: some[: args.first] for held, some in folds(cache).items() if held in args.held}
    places = {held: [name for some in each[held] for name in in_order(some or names, names)] for held in each}
    scored = [name for name in names if all(name in place for place in places.values())]
    print(f"{len(scored)} performances, {sum(map(len, each.values()))} trainings")
    rows = {SCORES.name: {}, DOWNBEATS.name: {}}
    for held, some in each.items():
        trained = [(f"{held}_{number}", without) for number, without in enumerate(some, 1)]
        results = [result_of(title, without, names, corpus, args) for title, without in trained]
        order = [places[held].index(name) for name in scored]
        for table in rows:
            rows[table] |= together([of[table] for of in results], order, held)
    for row, sums in rows[SCORES.name].items():
        setting = row.removeprefix(f"{BEFORE}, ").split(", ")[1]
        if own := rows[SCORES.name].get(f"{meters.OWN}, {setting}, {PERFORMANCES}"):
            more = sums["nats"][:, 0] - own["nats"][:, 0]
            sums["more"] = np.stack([more, own["nats"][:, SUMS.index("steps")]], 1)
    for table in (SCORES, DOWNBEATS):
        print(f"\n{table.title}\n{aligned(lines_of(table, table.score(rows[table.name])))}")


if __name__ == "__main__":
    main()
