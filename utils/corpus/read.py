"""The files of a corpus read to the hits of their rolls, by several processes.

What is kept of a file are its hits alone, about half of what its roll takes, so that memory grows with the
rolls of the cache and with nothing else.
"""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm import tqdm

from utils.corpus.cache import bars_of, encode
from utils.corpus.find import checksum, read_member
from utils.midi.drums import N_VOICES
from utils.midi.kits import voice_of_pitch
from utils.midi.read import MAX_BYTES, MidiError, notes_to_roll, read_midi
from utils.midi.timeline import Timeline

FILES_PER_PART = 100  # that one process reads in one go


def read_corpus(corpus, down_sample_tpq, workers):
    """Reads all members of the corpus, in their order.

    workers: processes to read in, so that a file that crashes the reader costs that file alone; 1: this
    process.

    Returns a list of parts (about, cell, vel, offset). about: per file a dict of checksum and either skipped
    (the reason) and why, or n_steps, bars (see Cache), inexact_bars, n_hits, bpm, lost,
    has_drums. cell uint32 (index into the file's flat
    roll), vel uint8 and offset int16, as the cache stores them: the hits of all these files, one file after
    the other.
    """
    jobs = [
        (member, corpus.name(member), corpus.table.get(member, {}).get("time_signature"))
        for member in corpus.members
    ]
    parts = [jobs[start : start + FILES_PER_PART] for start in range(0, len(jobs), FILES_PER_PART)]
    read = partial(read_part, corpus.path, down_sample_tpq, voice_of_pitch(corpus.kit))
    reading = _in_processes(read, parts, min(workers, len(parts))) if workers > 1 else map(read, parts)
    found = []
    with tqdm(total=len(jobs), desc="reading MIDI", unit="file", disable=None) as bar:
        for part in reading:
            found.append(part)
            bar.update(len(part[0]))
    return found


# ---- several processes


def _in_processes(read, parts, workers):
    """read(part) of each part, in order. A file that kills the process that reads it is skipped."""
    done = 0
    while done < len(parts):
        pool = ProcessPoolExecutor(workers, initializer=_follow_parent)
        try:
            for future in [pool.submit(read, part) for part in parts[done:]]:
                yield future.result()
                done += 1
        except BrokenProcessPool:  # by this part, or by another, whose turn will come
            yield _past_deadly_files(read, parts[done])
            done += 1
        finally:
            pool.shutdown(cancel_futures=True)


def _past_deadly_files(read, part):
    """read(part), one file after the other: the first without a result is the one that killed the process."""
    jobs, found = [[], *([job] for job in part)], []  # none first, to see whether a process can be had at all
    while len(found) < len(jobs):
        with ProcessPoolExecutor(1, initializer=_follow_parent) as pool:
            try:
                for future in [pool.submit(read, job) for job in jobs[len(found) :]]:
                    found.append(future.result())
            except BrokenProcessPool:
                if not found:
                    raise ValueError(
                        "the processes that read MIDI are killed, or can't start; "
                        "try Data.preprocess_workers=1"
                    ) from None
                found.append(read(jobs[len(found)], deadly=True))
    about, *hits = zip(*found)
    return [entry for entries in about for entry in entries], *map(np.concatenate, hits)


def _follow_parent():
    """Leaves Ctrl-C to the parent, and ends with it: else a killed parent's processes would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# ---- some files


def read_part(path, down_sample_tpq, voices, jobs, deadly=False):
    """(about, cell, vel, offset) of some files of the corpus at `path`; see read_corpus.

    voices: the voice of each pitch, (128,). jobs: per file its member, name, and meter by the table or None.
    deadly: the files are not parsed, as that kills the process.
    """
    about, hits = [], [(np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty(0, np.int16))]
    for job in jobs:
        entry, *found = _read_file(path, down_sample_tpq, voices, *job, deadly)
        about.append(entry)
        hits += found
    return about, *map(np.concatenate, zip(*hits))


def _read_file(path, down_sample_tpq, voices, member, name, time_signature, deadly):
    """The file's entry in `about`, and, unless it's skipped, its hits (cell, vel, offset)."""
    seen = None

    def skipped(reason, why):
        return [{"checksum": seen, "skipped": reason, "why": why}]

    try:
        data = read_member(path, member, MAX_BYTES + 1)
        seen = checksum(data)
        if deadly:
            raise MidiError(f"{name}: the process that reads it dies")
        notes = read_midi(data, name=name)
        if 2 * notes.ended.sum() > len(notes.ended):
            # an onset without an end is a glitch, unless the file is of a machine
            notes = notes.select(notes.ended)
        notes = notes.drums()
    except MidiError as error:
        return skipped("unreadable", str(error))
    if not len(notes.tick):
        return skipped("no notes", name)
    timeline = _timeline(notes, time_signature)
    if timeline is None:
        return skipped("meter that can't be read", f"{name}: {time_signature}")
    try:
        *roll, lost = notes_to_roll(
            notes.tick, notes.pitch, notes.velocity, notes.tpq, down_sample_tpq, voices
        )
    except MidiError as error:
        return skipped("too long", f"{name}: {error}")
    vel, offset = (stored.ravel() for stored in encode(*roll))
    cell = np.flatnonzero(vel).astype(np.uint32)
    grid = timeline.grid(int(cell[-1]) // N_VOICES + 1, down_sample_tpq)
    entry = {
        "checksum": seen,
        "n_steps": grid.n_steps,
        "bars": bars_of(grid),
        "inexact_bars": not timeline.fits(grid.n_steps, down_sample_tpq),
        "n_hits": len(cell),
        "bpm": notes.tempos[0][1] if notes.tempos else 120.0,
        "lost": lost,
        "has_drums": bool(notes.is_drum[notes.track].any()),
    }
    return entry, (cell, vel[cell], offset[cell])


def _timeline(notes, time_signature):
    """The file's Timeline; where its own events leave it at 4/4, in the meter of the corpus's table, if there
    is one. None where that is no meter."""
    timeline = Timeline.of(notes)
    if not (time_signature or "").strip() or {meter[1:] for meter in timeline.meters} != {(4, 4)}:
        return timeline
    try:
        numerator, denominator = map(int, time_signature.replace("-", "/").split("/"))
    except ValueError:
        return None
    if (numerator, denominator) == (4, 4):
        return timeline
    known = numerator >= 1 and denominator in (1, 2, 4, 8, 16, 32, 64)
    return replace(timeline, meters=((0, numerator, denominator),)) if known else None
