"""When preprocessing takes the cache that is there, and when it makes it anew."""

import hashlib
import shutil

import numpy as np
import pytest

import preprocessing
from preprocessing import preprocess
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus, table, write, zipped
from utils.corpus.cache import CACHE_FILE


@pytest.fixture
def cfg(config, tmp_path, monkeypatch):
    """The shipped configuration with all places inside tmp_path."""
    monkeypatch.delenv("GROOVE_ZIP", raising=False)
    mine = config.model_copy(deep=True)
    mine.Data.corpus = str(tmp_path / "corpus")
    mine.Data.cache_dir = str(tmp_path / "cache")
    mine.Data.preprocess_workers = 1
    return mine


def digest(cfg):
    return hashlib.sha256((open(f"{cfg.Data.cache_dir}/{CACHE_FILE}", "rb")).read()).hexdigest()


def test_twice_gives_identical_bytes_whatever_the_processes_zipped_or_not(cfg, tmp_path):
    many = {f"m{i}": midi_bytes(note(i, 36 + i % 20) + note(7 * i, 38)) for i in range(220)}
    small_corpus(tmp_path / "corpus", **many)
    preprocess(cfg)
    first = digest(cfg)
    cfg.Data.preprocess_workers = 2
    preprocess(cfg, force=True)
    assert digest(cfg) == first
    cfg.Data.corpus = str(zipped(tmp_path / "corpus", tmp_path / "all.zip", top="groove/"))
    preprocess(cfg, force=True)
    assert digest(cfg) == first


def test_a_kit_in_the_corpus_says_which_keys_are_which_voice(cfg, tmp_path, capsys):
    played = {
        "a.mid": midi_bytes(note(0, 60) + note(480, 61)),
        "b.mid": midi_bytes(note(0, 61) + note(480, 36)),
    }
    info = table(a=("rock", "train"), b=("rock", "validation"))
    write(tmp_path / "corpus" / "mine", played | {"info.csv": info, "kit.yaml": "snare: [60, 61]"})
    cache = preprocess(cfg)
    assert np.argwhere(cache.rolls(0, 32)[0]).tolist() == [
        [0, 1],
        [4, 1],
        [16, 1],
        [20, 0],
    ]  # 36 stays a kick
    assert "the keys are those of kit.yaml" in capsys.readouterr().out
    first = digest(cfg)
    cfg.Data.corpus = str(zipped(tmp_path / "corpus" / "mine", tmp_path / "all.zip", top="mine/"))
    preprocess(cfg, force=True)
    assert digest(cfg) == first
    cfg.Data.corpus = str(tmp_path / "corpus")
    write(tmp_path / "corpus" / "mine", {"kit.yaml": "ride: 60"})
    capsys.readouterr()
    assert np.argwhere(preprocess(cfg).rolls(0, 16)[0]).tolist()[0] == [0, 8]
    assert "made anew, because the corpus is another" in capsys.readouterr().out and digest(cfg) != first
    write(tmp_path / "corpus" / "mine", {"kit.yaml": "rid: 60"})
    with pytest.raises(ValueError, match="mine/kit.yaml in .*corpus: unknown voice 'rid'; did you mean ride"):
        preprocess(cfg)


def test_a_cache_that_fits_is_reused_and_says_so(cfg, tmp_path, capsys, monkeypatch):
    small_corpus(tmp_path / "corpus")
    preprocess(cfg)
    monkeypatch.setattr(preprocessing, "read_corpus", lambda *_: pytest.fail("read the corpus again"))
    preprocess(cfg)
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda cfg, folder: setattr(cfg.Data.splits, "test", 0.3), "splits changed"),
        (
            lambda cfg, folder: (folder / "b.mid").write_bytes(midi_bytes(beat(bars=2, velocity=61))),
            "the corpus is another",
        ),
        (lambda cfg, folder: (folder / "a.mid").rename(folder / "renamed.mid"), "the corpus is another"),
        (
            lambda cfg, folder: write(
                folder, {"info.csv": table(a=("jazz", "train"), b=("jazz", "validation"))}
            ),
            "the corpus is",
        ),
        (lambda cfg, folder: _shorten(f"{cfg.Data.cache_dir}/{CACHE_FILE}"), "damaged"),
    ],
)
def test_a_cache_that_does_not_fit_is_made_anew_and_says_why(cfg, tmp_path, capsys, change, says):
    small_corpus(tmp_path / "corpus")
    preprocess(cfg)
    change(cfg, tmp_path / "corpus")
    capsys.readouterr()
    preprocess(cfg)
    out = capsys.readouterr().out
    assert "made anew" in out and says in out and "2 kept" in out


def _shorten(path):
    with open(path, "r+b") as file:
        file.truncate(100)


def test_a_cache_of_midi_dir_stays_until_forced(cfg, tmp_path, capsys):
    small_corpus(tmp_path / "corpus")
    small_corpus(tmp_path / "mine", c=midi_bytes(beat()))
    assert len(preprocess(cfg, tmp_path / "mine").files) == 3
    assert len(preprocess(cfg).files) == 3
    assert "made with --midi-dir; python preprocessing.py --force goes back" in capsys.readouterr().out
    cfg.Data.splits.test = 0.3
    with pytest.raises(ValueError, match="made with --midi-dir, and splits changed: run .* --midi-dir again"):
        preprocess(cfg)
    assert len(preprocess(cfg, force=True).files) == 2
    assert len(preprocess(cfg, tmp_path / "mine").files) == 3


def test_a_cache_without_its_corpus_is_still_of_use(cfg, tmp_path, monkeypatch):
    small_corpus(tmp_path / "corpus")
    preprocess(cfg)
    shutil.rmtree(tmp_path / "corpus")
    monkeypatch.setattr(preprocessing, "download_groove", lambda _: pytest.fail("downloads"))
    assert len(preprocess(cfg).files) == 2
