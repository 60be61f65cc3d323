"""From a corpus of MIDI files to the cache that training reads.

    python preprocessing.py                     the corpus of config.yaml
    python preprocessing.py --midi-dir FOLDER   any folder or zip of MIDI files

It reads about a thousand files per second. Where it is stopped, an older cache stays as it was.
"""

import argparse
import hashlib
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from model.bars import LONGEST_BAR, SHORTEST_BAR
from model.controls import CONTROLS
from utils.config.schema import SPLITS, load_config
from utils.corpus.attributes import bar_attributes
from utils.corpus.cache import CACHE_FILE, FORMAT, Cache, decode, grid_of, load_cache, locked, save_cache
from utils.corpus.find import download_groove, download_place, find_corpus, open_corpus
from utils.corpus.read import read_corpus
from utils.flags import FlagParser
from utils.midi.drums import N_VOICES, STYLE_NONE, STYLES, mapping, style_id

BARS_AT_ONCE = 1024  # whose statistics are taken, to bound the memory that takes


def preprocess(cfg, midi_dir=None, force=False):
    """The Cache of the corpus, read from cfg.Data.cache_dir if it fits, else made and written there.

    midi_dir: a folder or zip of MIDI files in place of cfg.Data.corpus. A cache made that way stays
    in use for later calls without midi_dir, until force=True.
    Prints what it did. Raises ValueError where the corpus can't be used. Of several processes that come at
    once, one makes the cache and the others wait for it.
    """
    data = cfg.Data
    path = midi_dir or find_corpus(data.corpus)
    corpus = open_corpus(path) if path else None
    cached = None if force else _fitting_cache(data, corpus, midi_dir)
    if cached:
        return cached
    with locked(data.cache_dir) as waited:
        cached = _fitting_cache(data, corpus, midi_dir) if waited and not force else None
        return cached or _make_cache(data, corpus, midi_dir)


def _fitting_cache(data, corpus, midi_dir):
    """The cache in place, or None if there is none that fits."""
    cached = _cache_in_place(data.cache_dir)
    if not cached:
        return None
    reason = _misfit(cached, _settings(data, corpus, midi_dir), midi_dir)
    if not reason:
        print(f"cache: {data.cache_dir} ({len(cached.files)} performances, {_origin(cached)})")
        return cached
    if midi_dir is None and cached.settings["source"] == "--midi-dir":
        raise ValueError(  # rather than train on another corpus than the one that was chosen
            f"the cache {data.cache_dir} was made with --midi-dir, and {reason}: run python preprocessing.py "
            "--midi-dir again, or with --force for Data.corpus"
        )
    print(f"cache: {data.cache_dir} is made anew, because {reason}")
    return None


def _make_cache(data, corpus, midi_dir):
    if corpus is None:
        corpus = open_corpus(download_groove(download_place(data.corpus)))
    parts = read_corpus(corpus, data.down_sample_tpq, data.preprocess_workers)
    cache = _assemble(corpus, parts, data, midi_dir)
    save_cache(cache, data.cache_dir)
    print(report_text(cache))
    return cache


def _cache_in_place(folder):
    if not (Path(folder) / CACHE_FILE).exists():
        return None
    try:
        return load_cache(folder)
    except ValueError as error:
        print(f"cache: {folder} is made anew: {error}")
        return None


def _settings(data, corpus, midi_dir, checksums=None):
    """All that the cache's contents hang on, so that a change of any is seen.

    checksums: of the corpus's members, where they have been read."""
    tables = repr((sorted(mapping.items()), STYLES)).encode()
    return {
        "format": FORMAT,
        "source": "--midi-dir" if midi_dir else "Data.corpus",
        "corpus": corpus and corpus.identity(checksums),
        "style_of_corpus": corpus and corpus.style_of_top(),
        "down_sample_tpq": data.down_sample_tpq,
        "splits": [data.splits.validation, data.splits.test],
        "voices_and_styles": hashlib.sha256(tables).hexdigest(),
    }


def _misfit(cached, wanted, midi_dir):
    """Why the cache can't be used, or "" if it can."""
    differing = {key for key in wanted if cached.settings.get(key) != wanted[key]} - {"source"}
    other_corpus = {"corpus", "style_of_corpus"}
    if midi_dir is None and (cached.settings["source"] == "--midi-dir" or wanted["corpus"] is None):
        differing -= other_corpus  # the user chose this corpus, or has only the cache of it
    if differing & other_corpus:
        return "the corpus is another or has changed"
    return f"{' and '.join(sorted(differing))} changed" if differing else ""


def _origin(cached):
    if cached.settings["source"] == "--midi-dir":
        return "made with --midi-dir; python preprocessing.py --force goes back to Data.corpus"
    return "up to date"


def _assemble(corpus, parts, data, midi_dir):
    """The Cache of what read_corpus gives."""
    skipped, files, unknown_styles, checksums, totals = {}, [], Counter(), [], Counter()
    for member, about in zip(corpus.members, (file for part in parts for file in part[0])):
        checksums.append(about["checksum"])
        if "skipped" in about:
            skipped.setdefault(about["skipped"], []).append(about["why"])
            continue
        file = _describe(corpus, member, about, data.splits, unknown_styles)
        files.append(file | {"start": totals["steps"]})
        totals += Counter(
            steps=about["n_steps"],
            hits=about["n_hits"],
            lost=about["lost"],
            without_drums=not about["has_drums"],
            inexact_bars=about["inexact_bars"],
        )
    if not files:
        raise ValueError(f"nothing is left of {corpus.path}: {_reasons(skipped)}")
    report = {
        "kept": len(files),
        "splits": {split: sum(file["split"] == split for file in files) for split in SPLITS},
        "skipped": skipped,
        "unknown_styles": dict(unknown_styles),
        "without_drums": totals["without_drums"],
        "inexact_bars": totals["inexact_bars"],
        "kit": corpus.name(corpus.kit_name) if corpus.kit_name else "",
        "rows_without_file": len(corpus.table.keys() - set(corpus.members)),
        "hits": totals["hits"],
        "lost": totals["lost"],
    }
    _check_splits(corpus, report["splits"])
    settings = _settings(data, corpus, midi_dir, checksums)
    cache = Cache(*_fill(parts, totals["steps"]), files, {}, settings, report)
    cache.normalize_factor = _normalize_factor(cache)
    return cache


def _fill(parts, n_steps):
    """The hits of all files in two arrays (n_steps, 9), vel and offset."""
    vel, offset = np.zeros((n_steps, N_VOICES), np.uint8), np.zeros((n_steps, N_VOICES), np.int16)
    start = 0
    for about, cell, *hits in parts:
        kept = [file for file in about if "skipped" not in file]
        starts = start + np.cumsum([0] + [file["n_steps"] for file in kept])
        cell = cell + N_VOICES * np.repeat(starts[:-1], [file["n_hits"] for file in kept])
        vel.ravel()[cell], offset.ravel()[cell] = hits
        start = starts[-1]
    return vel, offset


def _describe(corpus, member, about, splits, unknown_styles):
    """The cache's entry for a performance, from the corpus's table, else from names."""
    row = {key: (value or "").strip() for key, value in corpus.table.get(member, {}).items() if key}
    style = corpus.style_of_folder(member)
    if row.get("style"):
        name = row["style"].split("/")[0]  # "funk/groove1" is funk
        try:
            style = style_id(name)
        except ValueError:
            style = STYLE_NONE
            unknown_styles[name] += 1
    split = row.get("split") or _split_by_hash(corpus.name(member), splits)
    if split not in SPLITS:
        raise ValueError(
            f"{corpus.table_name} in {corpus.path}: split of {member} must be one of {', '.join(SPLITS)}, "
            f"not {split!r}"
        )
    return {
        "name": corpus.name(member),
        "split": split,
        "style": style,
        "bpm": _bpm(row.get("bpm"), about["bpm"]),
        "beat_type": row.get("beat_type") or None,
        "n_steps": about["n_steps"],
        "bars": about["bars"],
    }


def _bpm(of_table, of_file):
    try:
        bpm = float(of_table)
    except (TypeError, ValueError):
        bpm = math.nan
    return bpm if math.isfinite(bpm) else round(float(of_file), 3)


def _split_by_hash(name, splits):
    """A performance keeps its split whatever else joins or leaves the corpus."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    if share < splits.test:
        return "test"
    return "validation" if share < splits.test + splits.validation else "train"


def _check_splits(corpus, sizes):
    for split in ("train", "validation"):
        if not sizes[split]:
            raise ValueError(
                f"{corpus.path} leaves no file for {split} ({sum(sizes.values())} files in all); add files, "
                "change Data.splits, or set the splits in a CSV with the columns midi_filename and split"
            )


def _normalize_factor(cache):
    """Mean and deviation of each normalized control over the train bars that have it: those of performances
    in 4/4, if there are any, so that models of 4/4 and of all meters mean the same by a control."""
    train = [file for file in cache.files if file["split"] == "train"]
    in_four = [file for file in train if not file["bars"]]
    parts = {name: [] for name, control in CONTROLS.items() if control.normalized}
    for file in in_four or train:
        grid = grid_of(file)
        for first in range(0, grid.n_bars, BARS_AT_ONCE):
            last = min(first + BARS_AT_ONCE, grid.n_bars)
            here, bars = grid.steps_of(first, last), grid.cut(first, last)
            steps = slice(file["start"] + here.start, file["start"] + here.stop)
            onset, vel, _ = decode(cache.vel[steps], np.zeros((), np.int16))
            of_bars = bar_attributes(onset, vel, bars)
            for name, part in parts.items():
                part.append(of_bars[name])
    factor = {}
    for name, part in parts.items():
        values = np.concatenate(part)
        values = values[~np.isnan(values)].astype(np.float64)
        # bars that are all alike would divide by zero
        factor[name] = [float(values.mean()), float(values.std()) or 1.0]
    return factor


def _reasons(skipped):
    return "; ".join(f"{len(files)} {reason}" for reason, files in sorted(skipped.items()))


def report_text(cache):
    """What preprocessing kept, skipped and lost, for people."""
    report = cache.report
    lines = [f"{report['kept']} kept" + (f"; {_reasons(report['skipped'])}" if report["skipped"] else "")]
    for reason, files in sorted(report["skipped"].items()):
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        lines.append(f"  {reason}: {', '.join(files[:3])}{more}")
    for style, count in sorted(report["unknown_styles"].items()):
        lines.append(f"  style {style!r} of {count} files isn't known and counts as none")
    if report["without_drums"]:
        lines.append(f"  {report['without_drums']} kept files have no drum track; all their notes were read")
    if report.get("inexact_bars"):
        lines.append(
            f"  {report['inexact_bars']} files have bars that are no whole number of steps, or shorter than "
            f"{SHORTEST_BAR} or longer than {LONGEST_BAR}: they were read as the nearest that are not"
        )
    if report.get("kit"):
        lines.append(f"  the keys are those of {report['kit']}")
    if report["rows_without_file"]:
        lines.append(f"  {report['rows_without_file']} rows of the table name no file of the corpus")
    lines.append(", ".join(f"{split} {count}" for split, count in report["splits"].items()))
    share = report["lost"] / (report["hits"] + report["lost"])
    lines.append(f"{report['hits']} hits; {report['lost']} lost ({share:.1%}) to a louder one in their cell")
    for name, (mean, deviation) in cache.normalize_factor.items():
        lines.append(f"{name} of a train bar: mean {mean:.4f}, deviation {deviation:.4f}")
    return "\n".join(lines)


def main(arguments=None):
    parser = FlagParser(
        usage="%(prog)s [flags]", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", metavar="YAML", default="config.yaml", help="the configuration (default: config.yaml)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one knob of the configuration",
    )
    parser.add_argument(
        "--midi-dir", metavar="FOLDER", help="folder or zip of MIDI files, in place of Data.corpus"
    )
    parser.add_argument("--force", action="store_true", help="make a new cache even if the old one fits")
    args = parser.parse_args(arguments)
    try:
        preprocess(load_config(args.config, args.set), args.midi_dir, args.force)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: no cache was written; the same command starts again", file=sys.stderr)
        return 130  # what a shell says of a program that Ctrl-C ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
