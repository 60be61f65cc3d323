"""The files of a corpus read to the hits of their rolls, by several processes.

What is kept of a file are its hits alone, so that memory grows with the rolls of the cache and nothing else.
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
from utils.midi.find_drums import find_drums
from utils.midi.kits import voice_of_pitch
from utils.midi.read import MAX_BYTES, MidiError, notes_to_roll, read_midi
from utils.midi.timeline import Timeline

FILES_PER_PART = 100  # that one process reads in one go


def read_corpus(corpus, down_sample_tpq, workers):
    """Reads all members of the corpus, in their order, in so many processes; 1 worker: in this one.

    Returns a list of parts (about, cell, vel, offset). about: per file a dict of checksum and either skipped
    (the reason) and why, or n_steps, bars (see Cache), inexact_bars, n_hits, bpm, lost, has_drums. cell
    uint32 (index into the file's flat roll), vel uint8 and offset int16, as the cache stores them: the hits
    of all these files, one file after the other.
    """
    meter_of = {member: row.get("time_signature") for member, row in corpus.table.items()}
    jobs = [(member, corpus.name(member), meter_of.get(member)) for member in corpus.members]
    parts = [jobs[start : start + FILES_PER_PART] for start in range(0, len(jobs), FILES_PER_PART)]
    read = partial(read_part, corpus.path, down_sample_tpq, voice_of_pitch(corpus.kit))
    reading = _in_processes(read, parts, workers) if workers > 1 else map(read, parts)
    found = []
    with tqdm(total=len(jobs), desc="reading MIDI", unit="file", disable=None) as bar:
        for part in reading:
            found.append(part)
            bar.update(len(part[0]))
    return found


def _in_processes(read, parts, workers):
    """read(part) of each part, in order."""
    pool = ProcessPoolExecutor(min(workers, len(parts)), initializer=_follow_parent)
    try:
        yield from pool.map(read, parts)
    except BrokenProcessPool:
        raise ValueError(
            "the processes that read MIDI are killed, or can't start; try Data.preprocess_workers=1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent():
    """Leaves Ctrl-C to the parent, and ends with it: else a killed parent's processes would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def read_part(path, down_sample_tpq, voices, jobs):
    """(about, cell, vel, offset) of some files of the corpus at `path`; see read_corpus.

    voices: the voice of each pitch, (128,). jobs: per file its member, name, and meter by the table or None.
    """
    about, hits = [], [(np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty(0, np.int16))]
    for job in jobs:
        entry, *found = _read_file(path, down_sample_tpq, voices, *job)
        about.append(entry)
        hits += found
    return about, *map(np.concatenate, zip(*hits))


def _read_file(path, down_sample_tpq, voices, member, name, time_signature):
    """The file's entry in `about`, and, unless it's skipped, its hits (cell, vel, offset)."""
    seen = None

    def skipped(reason, why):
        return [{"checksum": seen, "skipped": reason, "why": why}]

    try:
        data = read_member(path, member, MAX_BYTES + 1)
        seen = checksum(data)
        notes = read_midi(data, name=name)
        if 2 * notes.ended.sum() > len(notes.ended):
            # an onset without an end is a glitch, unless the file is of a machine
            notes = notes.select(notes.ended)
        notes = notes.select(find_drums(notes))
    except MidiError as error:
        return skipped("unreadable", str(error))
    if not len(notes.tick):
        return skipped("no notes", name)
    timeline = _timeline(notes, time_signature)
    if timeline is None:
        return skipped("meter that can't be read", f"{name}: {time_signature}")
    try:
        columns = notes.tick, notes.pitch, notes.velocity
        *roll, lost = notes_to_roll(*columns, notes.tpq, down_sample_tpq, voices)
    except MidiError as error:
        return skipped("too long", f"{name}: {error}")
    vel, offset = (stored.ravel() for stored in encode(*roll))
    cell = np.flatnonzero(vel).astype(np.uint32)
    grid = timeline.grid(int(cell[-1]) // N_VOICES + 1, down_sample_tpq)
    entry = {
        "checksum": seen,
        "n_steps": grid.n_steps,
        "bars": bars_of(grid),
        "inexact_bars": bool(timeline.misfits(grid.n_steps, down_sample_tpq)),
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
