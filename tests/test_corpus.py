import hashlib
import http.server
import threading

import pytest

import preprocessing
from midi_files import beat, midi_bytes, small_corpus, write, zipped
from preprocessing import preprocess
from utils.corpus import GMD_SHA256, download_groove, download_place, find_corpus, open_corpus


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


@pytest.mark.parametrize("make, message", [
    (lambda path: None, "no folder or zip of MIDI files at .*there"),
    (lambda path: path.mkdir(), "no MIDI files .* in .*there"),
    (lambda path: path.write_bytes(b"PK but no zip"), "there is neither a folder nor a readable zip"),
    (lambda path: write(path, {"a.mid": midi_bytes(beat()), "info.csv": b"\xff\xfe\x00midi"}), "info.csv in .*not a readable CSV"),
])
def test_a_corpus_that_cannot_be_read_is_an_error_that_names_it(tmp_path, make, message):
    make(tmp_path / "there")
    with pytest.raises(ValueError, match=message):
        open_corpus(tmp_path / "there")


def test_hidden_files_and_other_tables_are_passed_over(tmp_path):
    one = midi_bytes(beat())
    write(tmp_path, {"a.MID": one, "b.midi": one, "._a.mid": one, "__MACOSX/a.mid": one, "notes.csv": "x,y\n1,2\n", "c.txt": ""})
    corpus = open_corpus(tmp_path)
    assert corpus.members == ("a.MID", "b.midi") and corpus.table == {}


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
        preprocessing, "download_groove", lambda target: download_groove(target, f"{address}/groove.zip", sha256)
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
    assert list(target.parent.iterdir()) == []
