"""The files of a corpus read to rolls, in chunks that are put on disk as soon as they are read.

Memory doesn't grow with the corpus, no process sends rolls to another, and a run that was stopped leaves its
chunks to the next. A chunk's name is a digest of all that its contents hang on, so that a file that has changed
belongs to a chunk that isn't there yet.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.corpus.cache import DAMAGE, FORMAT, encode
from utils.corpus.find import checksum, read_member
from utils.files import written_whole
from utils.midi.kits import voice_of_pitch
from utils.midi.read import MAX_BYTES, MidiError, notes_to_roll, read_midi

FILES_PER_CHUNK = 100
FILES_WORTH_A_PROCESS = 100  # starting one takes longer than reading fewer


@dataclass(frozen=True)
class Chunk:
    """Some files of a corpus and the place of what was read of them.

    jobs: per file its member, name, meter by the table (or None), stamp. target: an .npz of
    about: JSON, per file {checksum, and either skipped, why or n_steps, n_hits, bpm, lost, has_drums};
    cell (flat index into the file's roll), vel, offset: the hits of all files, one after the other.
    """

    target: Path
    jobs: tuple

    def load(self):
        """about (a list of dicts), cell uint32, vel uint8, offset int16."""
        with np.load(self.target, allow_pickle=False) as archive:
            return json.loads(archive["about"].tobytes()), archive["cell"], archive["vel"], archive["offset"]

    def is_whole(self):
        try:
            self.load()
        except DAMAGE:  # missing, or cut short where the machine went down
            return False
        return True


def read_corpus(corpus, down_sample_tpq, workers, folder):
    """Read all members of the corpus into chunks in `folder`, but for those that are there already.

    Returns the Chunks, in the order of the members. A KeyboardInterrupt says how far it came.
    Raises ValueError where the folder can't be written.
    """
    chunks = _divide(corpus, down_sample_tpq, folder)
    todo = [chunk for chunk in chunks if not chunk.is_whole()]
    n, n_todo = (sum(len(chunk.jobs) for chunk in some) for some in (chunks, todo))
    if n_todo < n:
        print(f"cache: goes on from {n - n_todo} of {n} files, which were read before")
    read = partial(read_chunk, corpus.path, down_sample_tpq, voice_of_pitch(corpus.kit))
    workers = min(workers, n_todo // FILES_WORTH_A_PROCESS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tqdm(total=n, initial=n - n_todo, desc="reading MIDI", unit="file", disable=None) as bar:
            for chunk in _in_processes(read, todo, workers) if workers > 1 else _here(read, todo):
                bar.update(len(chunk.jobs))
    except KeyboardInterrupt:
        n_read = sum(len(chunk.jobs) for chunk in chunks if chunk.target.exists())
        raise KeyboardInterrupt(f"{n_read} of {n} files are read and kept in {folder}") from None
    except OSError as error:
        raise ValueError(f"can't write to {folder}: {error.strerror or error}") from error
    return chunks


def _divide(corpus, down_sample_tpq, folder):
    jobs = [
        (member, corpus.name(member), corpus.table.get(member, {}).get("time_signature"), stamp)
        for member, stamp in zip(corpus.members, corpus.stamps())
    ]
    chunks = []
    for start in range(0, len(jobs), FILES_PER_CHUNK):
        part = tuple(jobs[start : start + FILES_PER_CHUNK])
        origin = FORMAT, down_sample_tpq, corpus.path.resolve(), corpus.kit, part
        digest = hashlib.sha256(repr(origin).encode()).hexdigest()
        chunks.append(Chunk(folder / f"{digest[:32]}.npz", part))
    return chunks


def _here(read, chunks):
    for chunk in chunks:
        read(chunk)
        yield chunk


# ---- several processes


def _in_processes(read, chunks, workers):
    """Read the chunks and yield each when it's done, also past files that kill the process that reads them."""
    todo = list(chunks)
    while todo:
        try:
            with _processes(workers, todo, read) as futures:
                for future in as_completed(futures):
                    future.result()
                    todo.remove(futures[future])
                    yield futures[future]
        except BrokenProcessPool:
            done = [chunk for chunk in todo if chunk.is_whole()]
            # they begin in order, so what broke the pool is among the first that aren't done
            suspects = [chunk for chunk in todo if chunk not in done][:workers]
            for chunk in suspects:
                read(chunk, deadly=_deadly(read, chunk))
            yield from done + suspects
            todo = [chunk for chunk in todo if chunk not in done + suspects]


def _deadly(read, chunk):
    """The jobs of the chunk whose file kills the process that reads it."""
    if not _survives(read, chunk, ()):
        raise ValueError(
            "the processes that read MIDI are killed, or can't start; try Data.preprocess_workers=1"
        )
    found, parts = set(), [chunk.jobs]
    while parts:
        jobs = parts.pop()
        if _survives(read, chunk, jobs):
            continue
        if len(jobs) == 1:
            found |= set(jobs)
        else:
            parts += [jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]]
    return found


def _survives(read, chunk, jobs):
    """Whether a process lives to read the files of these of the chunk's jobs."""
    try:
        with _processes(1, [chunk], partial(read, deadly=set(chunk.jobs) - set(jobs), keep=False)) as futures:
            for future in futures:
                future.result()
    except BrokenProcessPool:
        return False
    return True


@contextlib.contextmanager
def _processes(workers, chunks, work):
    """A pool that does work(chunk) for the chunks: {future: chunk}. What hasn't begun by the end never does."""
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    try:
        with _interrupts_blocked():
            futures = {pool.submit(work, chunk): chunk for chunk in chunks}
        yield futures
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_blocked():
    """Processes that start in here never see Ctrl-C: theirs is to finish the chunk they are at."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent():
    """Were the parent killed, its pool's processes would wait for work for ever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# ---- a chunk


def read_chunk(path, down_sample_tpq, voices, chunk, deadly=(), keep=True):
    """Read the files of a chunk and put it in its place, whole or not at all.

    voices: the voice of each pitch, (128,). deadly: jobs whose file isn't parsed, as that kills the process.
    keep=False: only try.
    """
    about, hits = [], [(np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty(0, np.int16))]
    for job in chunk.jobs:
        entry, *found = _read_file(path, down_sample_tpq, voices, job, job in deadly)
        about.append(entry)
        hits += found
    if not keep:
        return
    cell, vel, offset = map(np.concatenate, zip(*hits))
    with written_whole(chunk.target) as aside, open(aside, "wb") as file:
        np.savez(
            file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), cell=cell, vel=vel, offset=offset
        )


def _read_file(path, down_sample_tpq, voices, job, deadly):
    """The file's entry in `about`, and, unless it's skipped, its hits (cell, vel, offset)."""
    member, name, time_signature, _ = job
    seen = None
    try:
        data = read_member(path, member, MAX_BYTES + 1)
        seen = checksum(data)
        if deadly:
            raise MidiError(f"{name}: the process that reads it dies")
        notes = read_midi(data, name=name)
        if 2 * notes.ended.sum() > len(notes.ended):  # an onset without an end is a glitch, unless the file is of a machine
            notes = notes.select(notes.ended)
        notes = notes.drums()
    except MidiError as error:
        return [_skipped(seen, "unreadable", str(error))]
    if not len(notes.tick):
        return [_skipped(seen, "no notes", name)]
    reason = _meter_problem(notes, time_signature)
    if reason:
        return [_skipped(seen, reason, name)]
    try:
        *roll, lost = notes_to_roll(
            notes.tick, notes.pitch, notes.velocity, notes.tpq, down_sample_tpq, voices
        )
    except MidiError as error:
        return [_skipped(seen, "too long", f"{name}: {error}")]
    vel, offset = (stored.ravel() for stored in encode(*roll))
    cell = np.flatnonzero(vel).astype(np.uint32)
    entry = {
        "checksum": seen,
        "n_steps": len(roll[0]),
        "n_hits": len(cell),
        "bpm": notes.tempos[0][1] if notes.tempos else 120.0,
        "lost": lost,
        "has_drums": bool(notes.is_drum[notes.track].any()),
    }
    return entry, (cell, vel[cell], offset[cell])


def _skipped(seen, reason, why):
    return {"checksum": seen, "skipped": reason, "why": why}


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
