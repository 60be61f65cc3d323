import hashlib
import http.server
import struct
import threading
import tracemalloc
import zipfile

import pytest

import preprocessing
from preprocessing import preprocess
from tests.helpers.midi_files import beat, midi_bytes, small_corpus, write, zipped
from utils.corpus.find import (
    GMD_SHA256,
    checksum,
    download_groove,
    download_place,
    find_corpus,
    open_corpus,
    read_member,
)
from utils.midi.read import MidiError


@pytest.fixture(autouse=True)
def no_corpus_from_outside(monkeypatch):
    monkeypatch.delenv("GROOVE_ZIP", raising=False)


def test_the_corpus_in_place_comes_first_then_a_download_then_groove_zip(tmp_path, monkeypatch):
    place, named = tmp_path / "groove", tmp_path / "elsewhere.zip"
    assert find_corpus(place) is None
    monkeypatch.setenv("GROOVE_ZIP", str(named))
    with pytest.raises(ValueError, match="GROOVE_ZIP names .*elsewhere.zip, which doesn't exist"):
        find_corpus(place)
    named.touch()
    assert find_corpus(place) == named
    download_place(place).touch()
    assert find_corpus(place) == tmp_path / "groove.zip"
    place.mkdir()
    assert find_corpus(place) == place


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "no folder or zip of MIDI files at .*there"),
        (lambda path: path.mkdir(), "no MIDI files .* in .*there"),
        (lambda path: path.write_bytes(b"PK but no zip"), "there is neither a folder nor a readable zip"),
        (
            lambda path: write(path, {"a.mid": midi_bytes(beat()), "info.csv": b"\xff\xfe\x00midi"}),
            "info.csv in .*not a readable CSV",
        ),
    ],
)
def test_a_corpus_that_cannot_be_read_is_an_error_that_names_it(tmp_path, make, message):
    make(tmp_path / "there")
    with pytest.raises(ValueError, match=message):
        open_corpus(tmp_path / "there")


def test_hidden_files_and_other_tables_are_passed_over(tmp_path):
    one = midi_bytes(beat())
    write(
        tmp_path,
        {
            "a.MID": one,
            "b.midi": one,
            "._a.mid": one,
            "__MACOSX/a.mid": one,
            "notes.csv": "x,y\n1,2\n",
            "c.txt": "",
        },
    )
    corpus = open_corpus(tmp_path)
    assert corpus.members == ("a.MID", "b.midi") and corpus.table == {}


def test_a_zip_that_lies_or_bursts_costs_little_and_is_named(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.mid", bytes(40 << 20))
        archive.writestr("liar.mid", bytes(40 << 20))
        archive.writestr("broken.mid", b"MThd" * 100, zipfile.ZIP_STORED)
    data = path.read_bytes()
    place = data.rindex(b"liar.mid") - 46 + 24  # the unpacked size, in the table at the end
    data = data[:place] + struct.pack("<I", 1000) + data[place + 4 :]
    path.write_bytes(data.replace(b"MThd" * 3, b"MThc" * 3))
    tracemalloc.start()
    try:
        assert len(read_member(path, "bomb.mid", 1000)) == 1000
        with pytest.raises(MidiError, match="liar.mid in .*bomb.zip: can't be read"):
            read_member(path, "liar.mid", 10**6)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    for member in ("broken.mid", "missing.mid"):
        with pytest.raises(MidiError, match=f"{member} in .*bomb.zip: can't be read"):
            read_member(path, member)
    assert len(open_corpus(path).identity()) == 64


def test_a_file_that_is_gone_or_closed_is_named_and_part_of_the_identity(tmp_path):
    corpus = open_corpus(write(tmp_path, {"a.mid": b"a", "b.mid": b"b"}))
    whole = corpus.identity()
    assert corpus.identity([checksum(b"a"), checksum(b"b")]) == whole
    (tmp_path / "b.mid").unlink()
    with pytest.raises(MidiError, match="b.mid in .*: can't be read .No such file"):
        read_member(tmp_path, "b.mid")
    assert corpus.identity() == corpus.identity([checksum(b"a"), None]) != whole


@pytest.fixture
def server(tmp_path):
    """A web server of the folder tmp_path/web: (its address, the folder)."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", folder
        serving.shutdown()


def test_a_missing_corpus_is_downloaded_checked_and_kept(config, tmp_path, server, monkeypatch):
    address, web = server
    cfg = config.model_copy(deep=True)
    cfg.Data.corpus, cfg.Data.cache_dir = str(tmp_path / "corpus"), str(tmp_path / "cache")
    data = zipped(small_corpus(tmp_path / "made"), web / "groove.zip").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(
        preprocessing,
        "download_groove",
        lambda target: download_groove(target, f"{address}/groove.zip", sha256),
    )
    assert len(preprocess(cfg).files) == 2
    assert (tmp_path / "corpus.zip").read_bytes() == data
    (web / "groove.zip").unlink()
    assert len(preprocess(cfg, force=True).files) == 2


def test_a_download_that_is_wrong_or_fails_leaves_nothing(tmp_path, server):
    address, web = server
    (web / "groove.zip").write_bytes(b"something else")
    target = tmp_path / "data" / "groove.zip"
    with pytest.raises(ValueError, match=f"has SHA-256 .*, not {GMD_SHA256}.*GROOVE_ZIP"):
        download_groove(target, f"{address}/groove.zip")
    with pytest.raises(ValueError, match="can't download .*missing.zip.*404.*GROOVE_ZIP"):
        download_groove(target, f"{address}/missing.zip")
    assert not target.parent.exists()
