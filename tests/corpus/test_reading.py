"""Preprocessing a large folder: stopped, with flat memory, two at once."""

import fcntl
import json
import multiprocessing
import os
import pty
import signal
import struct
import sys
import termios
import time
import tracemalloc

import pytest

from preprocessing import main, preprocess
from tests.conftest import REPOSITORY
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus, write
from tests.helpers.training_runs import end_of, fork
from utils.corpus import read as reading
from utils.corpus.cache import CACHE_FILE, LOCK_FILE
from utils.corpus.read import FILES_PER_PART

N_FILES = 5 * FILES_PER_PART + 30
needs_fork = pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="other processes don't see the monkeypatch"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that differ from their neighbours, some of them bad."""
    kinds = [midi_bytes(note(70 * i, 36 + i % 20) + note(130 * i + 5, 38, 20 + i)) for i in range(41)]
    files = {f"{i:04}.mid": kinds[i % len(kinds)] for i in range(N_FILES)}
    return write(tmp_path_factory.mktemp("many"), files | {"0003.mid": b"junk", "0444.mid": midi_bytes([])})


@pytest.fixture(scope="module")
def uninterrupted(folder, config, tmp_path_factory):
    """The bytes of the cache of the folder, read in one go."""
    mine = config.model_copy(deep=True)
    mine.Data.cache_dir = str(tmp_path_factory.mktemp("whole"))
    preprocess(mine, folder)
    return cache_bytes(mine)


@pytest.fixture
def cfg(config, tmp_path):
    mine = config.model_copy(deep=True)
    mine.Data.cache_dir = str(tmp_path / "cache")
    mine.Data.preprocess_workers = 1
    return mine


def cache_bytes(cfg):
    with open(f"{cfg.Data.cache_dir}/{CACHE_FILE}", "rb") as file:
        return file.read()


def command(folder, cfg, workers, *more):
    places = (f"Data.cache_dir={cfg.Data.cache_dir}", f"Data.preprocess_workers={workers}")
    config = ["--config", str(REPOSITORY / "config.yaml")]
    return main(
        [*config, "--midi-dir", str(folder), *(part for place in places for part in ("--set", place)), *more]
    )


def slowly(data, name, read=reading.read_midi):
    if name == "0030.mid":
        print("reading", name, flush=True)
    time.sleep(0.004)
    return read(data, name)


# ---- stopped


@needs_fork
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_the_old_cache_and_no_process(folder, cfg, tmp_path, monkeypatch, how):
    preprocess(cfg, small_corpus(tmp_path / "few"))
    before = cache_bytes(cfg)
    monkeypatch.setattr(reading, "read_midi", slowly)
    reader, writer = os.pipe()

    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
        os.set_inheritable(writer, True)
        return command(folder, cfg, 2, "--force")

    child = fork(tmp_path / "child", work)
    os.close(writer)
    said = tmp_path / "child" / "said"
    while not (said.exists() and said.read_text()):
        time.sleep(0.01)
    if how == signal.SIGINT:
        os.killpg(child, how)  # a terminal's Ctrl-C reaches every process
    else:
        os.kill(child, how)
    returned, said = end_of(child, tmp_path / "child")
    assert os.read(reader, 1) == b""  # which comes when no process of the pool is left
    os.close(reader)
    assert returned == (130 if how == signal.SIGINT else -how)
    told = "stopped: no cache was written; the same command starts again\n"
    assert said == "reading 0030.mid\n" + (told if how == signal.SIGINT else "")
    assert cache_bytes(cfg) == before
    assert sorted(os.listdir(cfg.Data.cache_dir)) == [LOCK_FILE, CACHE_FILE]


def test_what_a_killed_process_left_unfinished_goes_with_the_next_save(folder, cfg, uninterrupted):
    os.makedirs(cfg.Data.cache_dir)
    with open(f"{cfg.Data.cache_dir}/{CACHE_FILE}.1.part", "wb") as file:
        file.write(b"half of a cache")
    preprocess(cfg, folder)
    assert cache_bytes(cfg) == uninterrupted
    assert sorted(os.listdir(cfg.Data.cache_dir)) == [LOCK_FILE, CACHE_FILE]


def test_a_terminal_is_shown_the_rate(folder, cfg, monkeypatch):
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    with open(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert command(folder, cfg, 1) == 0
    assert "file/s" in os.read(ours, 1 << 16).decode()
    os.close(ours)


# ---- memory, processes


def test_memory_grows_with_the_rolls_alone(cfg, tmp_path):
    one = midi_bytes(beat(bars=30))

    def peak(n):
        """Bytes beyond those of the cache's two arrays."""
        corpus = write(tmp_path / str(n), {f"{i}.mid": one for i in range(n)})
        tracemalloc.start()
        try:
            cache = preprocess(cfg, corpus, force=True)
            return tracemalloc.get_traced_memory()[1] - cache.vel.nbytes - cache.offset.nbytes
        finally:
            tracemalloc.stop()

    few, many = peak(60), peak(260)
    assert (many - few) / 200 < 4000  # bytes a file; a roll of its own would be 13,000


@needs_fork
def test_two_processes_at_once_make_one_cache(folder, cfg, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "read_midi", slowly)
    places = [tmp_path / "first", tmp_path / "second"]
    both = [fork(place, lambda n=n: command(folder, cfg, n)) for n, place in enumerate(places, start=1)]
    returned, said = zip(*map(end_of, both, places))
    assert returned == (0, 0), said
    assert sum("is being made by another process; waiting for it" in out for out in said) == 1
    assert sum("performances, made with --midi-dir" in out for out in said) == 1
    assert cache_bytes(cfg) == uninterrupted


@needs_fork
def test_processes_that_cannot_be_had_are_an_error_with_the_remedy(folder, cfg, monkeypatch):
    monkeypatch.setattr(reading, "_follow_parent", lambda: os._exit(1))
    cfg.Data.preprocess_workers = 2
    with pytest.raises(ValueError, match="are killed, or can't start; try Data.preprocess_workers=1"):
        preprocess(cfg, folder)


# ---- odd places


def test_names_that_are_no_text_are_read_and_can_be_written(cfg, tmp_path, capsys):
    write(tmp_path / "corpus", {f"{i}.mid": midi_bytes(beat()) for i in range(20)})
    try:
        for name, data in ((b"\xff caf\xe9.mid", midi_bytes(beat())), (b"\xfe.mid", b"junk")):
            with open(os.fsencode(tmp_path / "corpus") + b"/" + name, "wb") as file:
                file.write(data)
    except OSError:
        pytest.skip("this file system has only names that are text")
    cache = preprocess(cfg, tmp_path / "corpus")
    assert "\\xff caf\\xe9.mid" in {file["name"] for file in cache.files}
    assert "unreadable: \\xfe.mid: not a readable MIDI file" in capsys.readouterr().out
    assert json.loads(json.dumps(cache.files)) == cache.files
    preprocess(cfg, tmp_path / "corpus")
    assert "performances, made with" in capsys.readouterr().out


def test_pipes_folders_dead_links_and_giants_are_no_hindrance(cfg, tmp_path):
    corpus = write(tmp_path / "corpus", {f"{i}.mid": midi_bytes(beat()) for i in range(20)})
    os.mkfifo(corpus / "pipe.mid")
    (corpus / "folder.mid").mkdir()
    (corpus / "nowhere.mid").symlink_to(tmp_path / "nowhere")
    (corpus / "loop").symlink_to(corpus)
    with open(corpus / "giant.mid", "wb") as file:
        file.truncate(1 << 40)
    report = preprocess(cfg, corpus).report
    assert report["kept"] == 20
    assert report["skipped"] == {
        "unreadable": ["giant.mid: not a readable MIDI file (larger than 8 MiB, the most that is read)"]
    }
