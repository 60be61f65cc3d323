"""From a corpus of MIDI files to the cache that training reads.

    python preprocessing.py                     the corpus of config.yaml
    python preprocessing.py --midi-dir FOLDER   any folder or zip of MIDI files
"""

import argparse
import hashlib
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.attributes import bar_attributes
from utils.cache import CACHE_FILE, FORMAT, SPLITS, Cache, decode, encode, load_cache, save_cache
from utils.config import load_config
from utils.corpus import download_groove, download_place, find_corpus, open_corpus, read_member
from utils.drums import STYLE_NONE, STYLES, mapping, style_id
from utils.midi import MidiError, notes_to_roll, read_midi

FILES_WORTH_A_PROCESS = 100  # starting one takes longer than reading fewer


def preprocess(cfg, midi_dir=None, force=False):
    """The Cache of the corpus, read from cfg.Data.cache_dir if it fits, else made and written there.

    midi_dir: a folder or zip of MIDI files in place of cfg.Data.corpus. A cache made that way stays
    in use for later calls without midi_dir, until force=True.
    Prints what it did. Raises ValueError where the corpus can't be used.
    """
    data = cfg.Data
    path = midi_dir or find_corpus(data.corpus)
    corpus = open_corpus(path) if path else None
    cached = None if force else _cache_in_place(data.cache_dir)
    if cached:
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
    if corpus is None:
        corpus = open_corpus(download_groove(download_place(data.corpus)))

    results = _read_all(corpus, data.down_sample_tpq, data.preprocess_workers)
    cache = _assemble(corpus, results, data, _settings(data, corpus, midi_dir))
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


def _settings(data, corpus, midi_dir):
    """All that the cache's contents hang on, so that a change of any is seen."""
    tables = repr((sorted(mapping.items()), STYLES)).encode()
    return {
        "format": FORMAT,
        "source": "--midi-dir" if midi_dir else "Data.corpus",
        "corpus": corpus and corpus.identity(),
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


def _read_all(corpus, down_sample_tpq, workers):
    """What _read_one says of each member, in order."""
    jobs = [(m, corpus.name(m), corpus.table.get(m, {}).get("time_signature")) for m in corpus.members]
    work = partial(_read_one, corpus.path, down_sample_tpq)
    workers = min(workers, len(jobs) // FILES_WORTH_A_PROCESS)
    bar = partial(tqdm, total=len(jobs), desc="reading MIDI", unit="file", disable=None)
    if workers < 2:
        return list(bar(map(work, jobs)))
    with ProcessPoolExecutor(workers) as pool:
        try:
            return list(bar(pool.map(work, jobs, chunksize=25)))
        except BrokenProcessPool:
            raise ValueError(
                f"a process that read {corpus.path} died (out of memory, or killed); try Data.preprocess_workers=1"
            ) from None


def _read_one(path, down_sample_tpq, job):
    """(None, rolls as stored, bpm, hits lost, has drums) of a file, or (why it's skipped, which file)."""
    member, name, time_signature = job
    try:
        notes = read_midi(read_member(path, member), name=name).drums()
        has_drums = notes.is_drum[notes.track].any()
    except MidiError as error:
        return "unreadable", str(error)
    if not len(notes.tick):
        return "no notes", name
    reason = _meter_problem(notes, time_signature)
    if reason:
        return reason, name
    try:
        *roll, lost = notes_to_roll(notes.tick, notes.pitch, notes.velocity, notes.tpq, down_sample_tpq)
    except MidiError as error:
        return "too long", f"{name}: {error}"
    return None, encode(*roll), notes.tempos[0][1] if notes.tempos else 120.0, lost, bool(has_drums)


def _meter_problem(notes, time_signature):
    """Why the file isn't 4/4 throughout, by the corpus's table or by its own events; None if it is."""
    if time_signature and time_signature.strip().replace("-", "/") != "4/4":
        return "not 4/4"
    # of several events at one tick the last holds; without one at 0 a file starts in 4/4
    meters = {0: (4, 4)} | {tick: (n, d) for tick, n, d in notes.meters if tick <= notes.tick[-1]}
    if set(meters.values()) == {(4, 4)}:
        on_bar_lines = all(tick % (4 * notes.tpq) == 0 for tick in meters)
        return None if on_bar_lines else "meter changes"
    return "not 4/4" if len(set(meters.values())) == 1 else "meter changes"


def _assemble(corpus, results, data, settings):
    """The Cache of what was read."""
    skipped, kept, unknown_styles, lost, without_drums = {}, [], Counter(), 0, 0
    for member, (reason, *result) in zip(corpus.members, results):
        if reason:
            skipped.setdefault(reason, []).append(result[0])
            continue
        (vel, offset), bpm, lost_here, has_drums = result
        lost += lost_here
        without_drums += not has_drums
        kept.append((vel, offset, _describe(corpus, member, bpm, len(vel), data.splits, unknown_styles)))
    if not kept:
        raise ValueError(f"nothing is left of {corpus.path}: {_reasons(skipped)}")

    vel = np.concatenate([v for v, _, _ in kept])
    offset = np.concatenate([o for _, o, _ in kept])
    files = [file for _, _, file in kept]
    start = 0
    for file in files:
        file["start"] = start
        start += file["n_steps"]
    report = {
        "kept": len(files),
        "splits": {split: sum(file["split"] == split for file in files) for split in SPLITS},
        "skipped": skipped,
        "unknown_styles": dict(unknown_styles),
        "without_drums": without_drums,
        "rows_without_file": len(corpus.table.keys() - set(corpus.members)),
        "hits": int((vel > 0).sum()),
        "lost": lost,
    }
    _check_splits(corpus, report["splits"])
    cache = Cache(vel, offset, files, {}, settings, report)
    cache.normalize_factor = _normalize_factor(cache, 4 * data.down_sample_tpq)
    return cache


def _describe(corpus, member, bpm, n_steps, splits, unknown_styles):
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
        "bpm": _bpm(row.get("bpm"), bpm),
        "beat_type": row.get("beat_type") or None,
        "n_steps": n_steps,
    }


def _bpm(of_table, of_file):
    try:
        return float(of_table)
    except (TypeError, ValueError):
        return round(float(of_file), 3)


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


def _normalize_factor(cache, steps_per_bar):
    """Mean and deviation of density over all train bars, of intensity over those with hits."""
    train = [slice(f["start"], f["start"] + f["n_steps"]) for f in cache.files if f["split"] == "train"]
    vel = np.concatenate([cache.vel[part] for part in train])
    onset, vel, _ = decode(vel, np.zeros_like(vel))
    density, intensity, _ = bar_attributes(onset, vel, steps_per_bar)
    factor = {}
    for name, values in (("density", density), ("intensity", intensity)):
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
    if report["rows_without_file"]:
        lines.append(f"  {report['rows_without_file']} rows of the table name no file of the corpus")
    lines.append(", ".join(f"{split} {count}" for split, count in report["splits"].items()))
    share = report["lost"] / (report["hits"] + report["lost"])
    lines.append(f"{report['hits']} hits; {report['lost']} lost ({share:.1%}) to a louder one in their cell")
    for name, (mean, deviation) in cache.normalize_factor.items():
        lines.append(f"{name} of a train bar: mean {mean:.4f}, deviation {deviation:.4f}")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Make the cache of rolls that training reads.")
    parser.add_argument("--config", default="config.yaml", help="configuration file (default: config.yaml)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one knob of the configuration"
    )
    parser.add_argument("--midi-dir", help="folder or zip of MIDI files, in place of Data.corpus")
    parser.add_argument("--force", action="store_true", help="make the cache anew even if it fits")
    args = parser.parse_args(arguments)
    try:
        preprocess(load_config(args.config, args.set), args.midi_dir, args.force)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
