"""How preprocessing takes the corpus, and a large folder: python benchmarks/preprocessing.py [--files 10000]

First the corpus of config.yaml, where it is at hand, from its zip or folder to the cache, with one process
and with two: as the command, from its start, and as the function, in a process that has imported all; the
shortest of RUNS each. Then a folder of so many MIDI files (copies of the corpus, or of examples/, each with
three bytes changed, so that some are damaged): files per second and peak memory for a tenth of them and for
all, with one process and with two. --files 0 leaves that out.

Notes per second: the hits that are kept and those that are lost to a louder one in their cell.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from preprocessing import preprocess
from utils.config.schema import load_config
from utils.corpus.cache import CACHE_FILE, load_cache
from utils.corpus.find import find_corpus, open_corpus, read_member

RUNS = 5  # of the corpus, of which the shortest counts


def corpus_at_hand():
    """Path of the corpus of config.yaml, or None; nothing is downloaded."""
    return find_corpus(load_config(REPOSITORY / "config.yaml").Data.corpus)


def measure_corpus(path, place):
    def command(cache, workers):
        status, _, said = finish(start(path, cache, workers))
        if status:
            raise SystemExit(said)

    def function(cache, workers):
        settings = [f"Data.cache_dir={cache}", f"Data.preprocess_workers={workers}"]
        with contextlib.redirect_stdout(io.StringIO()):
            preprocess(load_config(REPOSITORY / "config.yaml", settings), path)

    for workers in (1, 2):
        cache, taken = place / "corpus", {}
        for work in (command, function):
            for _ in range(RUNS):
                shutil.rmtree(cache, ignore_errors=True)
                begin = time.perf_counter()
                work(cache, workers)
                seconds = time.perf_counter() - begin
                taken[work.__name__] = min(taken.get(work.__name__, 1e9), seconds)
        report = load_cache(cache).report
        n_files = report["kept"] + sum(len(files) for files in report["skipped"].values())
        n_notes = report["hits"] + report["lost"]
        print(
            f"{path.name}: {n_files} files, {n_notes} notes, {workers} process{'es' * (workers > 1)}: "
            f"{taken['command']:.2f} s the command, {taken['function']:.2f} s the function, "
            f"{n_files / taken['function']:,.0f} files/s, {n_notes / taken['function']:,.0f} notes/s"
        )


def make_folder(folder, n):
    corpus = open_corpus(corpus_at_hand() or REPOSITORY / "examples")
    sources = [read_member(corpus.path, member) for member in corpus.members]
    rng = random.Random(0)
    for number in range(n):
        data = bytearray(sources[number % len(sources)])
        for place in rng.sample(range(100, len(data)), 3):
            if data[place] < 128:
                data[place] = rng.randrange(128)
        path = folder / f"{number // 1000:03}" / f"{number:06}.mid"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)


def start(folder, cache, workers):
    settings = (f"Data.cache_dir={cache}", f"Data.preprocess_workers={workers}")
    command = [sys.executable, REPOSITORY / "preprocessing.py", "--midi-dir", folder]
    command += [part for setting in settings for part in ("--set", setting)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    """(exit status, peak memory in MiB of its largest process, what it said)."""
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / 1024, said


def measure(folder, cache, workers, n):
    begin = time.perf_counter()
    status, peak, said = finish(start(folder, cache, workers))
    taken = time.perf_counter() - begin
    if status:
        raise SystemExit(said)
    made = load_cache(cache)
    arrays = (made.vel.nbytes + made.offset.nbytes) / 2**20
    n_notes = made.report["hits"] + made.report["lost"]
    rate = f"{n / taken:,.0f} files/s, {n_notes / taken:,.0f} notes/s"
    print(
        f"{n:7} files, {workers} process{'es' * (workers > 1):2}  {rate:>31}  {taken:6.2f} s  "
        f"peak {peak:5.0f} MiB, of which the rolls {arrays:4.0f} MiB"
    )
    return said


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10000, metavar="N", help="(default: %(default)s)")
    n = parser.parse_args(arguments).files
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        if path := corpus_at_hand():
            measure_corpus(path, place)
        else:
            print("no corpus at hand (see README.md): it is left out")
        if n == 0:
            return
        make_folder(place / "small", n // 10)
        make_folder(place / "large", n)
        measure(place / "small", place / "of_small", 1, n // 10)
        measure(place / "large", place / "one", 1, n)
        said = measure(place / "large", place / "two", 2, n)
        print("\n".join(f"    {line}" for line in said.splitlines()[:3]))

        begin = time.perf_counter()
        finish(start(place / "large", place / "two", 2))
        print(f"the same again, with a cache that fits: {time.perf_counter() - begin:.2f} s")

        of_all = {(place / name / CACHE_FILE).read_bytes() for name in ("one", "two")}
        print(f"one process, two: {'the same bytes' if len(of_all) == 1 else 'THE BYTES DIFFER'}")


if __name__ == "__main__":
    main()
