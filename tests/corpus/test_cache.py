import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from utils.corpus import cache as module
from utils.corpus.cache import CACHE_FILE, FORMAT, Cache, decode, encode, load_cache, save_cache, windows


def make_cache(lengths=(16, 64, 80, 100), seed=0, **settings):
    """Random rolls; performances alternate between train/beat and test/fill."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    vel = (rng.integers(1, 128, (n, 9)) * (rng.random((n, 9)) < 0.2)).astype(np.uint8)
    offset = (rng.integers(-32768, 32768, (n, 9)) * (vel > 0)).astype(np.int16)
    files = [
        {
            "name": f"täp {i}.mid",
            "split": ("train", "test")[i % 2],
            "style": i,
            "bpm": 100.0 + i,
            "beat_type": ("beat", "fill")[i % 2],
            "start": int(sum(lengths[:i])),
            "n_steps": length,
        }
        for i, length in enumerate(lengths)
    ]
    factor = {"density": [0.1, 0.05], "intensity": [0.5, 0.1]}
    return Cache(vel, offset, files, factor, {"format": FORMAT} | settings, {"kept": len(lengths)})


def test_a_cache_is_read_as_it_was_saved(tmp_path):
    cache = make_cache()
    save_cache(cache, tmp_path / "made" / "on the way")
    back = load_cache(tmp_path / "made" / "on the way")
    np.testing.assert_array_equal(back.vel, cache.vel)
    np.testing.assert_array_equal(back.offset, cache.offset)
    assert (back.vel.dtype, back.offset.dtype) == (np.uint8, np.int16)
    for name in ("files", "normalize_factor", "settings", "report"):
        assert getattr(back, name) == getattr(cache, name)


@given(
    arrays(np.uint8, (4, 9), elements=st.integers(0, 127)),
    arrays(np.float32, (4, 9), elements=st.floats(-0.5, 0.5, width=32, exclude_max=True)),
)
def test_rolls_survive_storage(velocity, timeoffset):
    onset = (velocity > 0).astype(np.float32)
    vel, timeoffset = velocity / np.float32(127), timeoffset * onset
    back = decode(*encode(onset, vel, timeoffset))
    np.testing.assert_array_equal(back[0], onset)
    np.testing.assert_array_equal(back[1], vel)
    np.testing.assert_allclose(back[2], timeoffset, atol=1 / 65536)
    assert all(a.dtype == np.float32 for a in back)
    assert back[2].min() >= -0.5 and back[2].max() < 0.5


def test_rolls_of_a_part_are_those_steps():
    cache = make_cache()
    onset, vel, timeoffset = cache.rolls(16, 80)
    assert onset.shape == vel.shape == timeoffset.shape == (64, 9)
    np.testing.assert_array_equal(onset, cache.vel[16:80] > 0)
    np.testing.assert_array_equal(np.rint(vel * 127), cache.vel[16:80])
    np.testing.assert_array_equal(timeoffset * 65536, cache.offset[16:80])


def test_the_same_cache_gives_the_same_bytes(tmp_path, monkeypatch):
    save_cache(make_cache(), tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 1e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2001, 9, 9, 1, 46, 40, 6, 252, 0))
    save_cache(make_cache(), tmp_path / "b")
    assert (tmp_path / "a" / CACHE_FILE).read_bytes() == (tmp_path / "b" / CACHE_FILE).read_bytes()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_the_old_cache_and_nothing_else(tmp_path, monkeypatch, stop):
    save_cache(make_cache(), tmp_path)
    before = (tmp_path / CACHE_FILE).read_bytes()
    write = module._write_members

    def break_off(cache, file):
        write(cache, file)
        raise stop(28, "No space left on device")

    monkeypatch.setattr(module, "_write_members", break_off)
    with pytest.raises((KeyboardInterrupt, ValueError)):
        save_cache(make_cache(seed=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CACHE_FILE]
    assert (tmp_path / CACHE_FILE).read_bytes() == before


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="file/cache.npz: can't be written"):
        save_cache(make_cache(), tmp_path / "file")


def test_a_missing_cache_names_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="no cache at .*cache.npz; python preprocessing.py makes one"):
        load_cache(tmp_path)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def _without_rolls(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps({"files": [], "settings": {}}))


@pytest.mark.parametrize("damage", [_truncate, _flip, _without_rolls, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_names_the_remedy(tmp_path, damage):
    save_cache(make_cache(), tmp_path)
    damage(tmp_path / CACHE_FILE)
    with pytest.raises(ValueError, match="cache.npz is damaged .*--force makes it anew"):
        load_cache(tmp_path)


def test_a_cache_of_another_format_names_the_remedy(tmp_path):
    save_cache(make_cache(format=FORMAT + 1), tmp_path)
    with pytest.raises(ValueError, match=f"of format {FORMAT + 1}, not {FORMAT}; .*--force"):
        load_cache(tmp_path)


# ---- windows; performances start at 0, 16, 80, 160 and have 16, 64, 80, 100 steps


def test_windows_stay_within_a_performance():
    start, length = windows(make_cache(), "train", 64, 16)
    assert list(zip(start.tolist(), length.tolist())) == [(0, 16), (80, 64), (96, 64)]
    assert start.dtype == length.dtype == np.int64


def test_whole_windows_leave_short_performances_and_tails_out():
    start, length = windows(make_cache(), "train", 64, 64, whole=True)
    assert list(zip(start.tolist(), length.tolist())) == [(80, 64)]
    start, length = windows(make_cache(), "test", 32, 32, whole=True)
    assert list(zip(start.tolist(), length.tolist())) == [(16, 32), (48, 32), (160, 32), (192, 32), (224, 32)]


def test_windows_of_one_kind_of_performance():
    assert len(windows(make_cache(), "train", 64, 16, beat_type="beat")[0]) == 3
    assert len(windows(make_cache(), "train", 64, 16, beat_type="fill")[0]) == 0


@pytest.mark.parametrize("arguments", [("training", 64, 16), ("train", 0, 16), ("train", 64, 0)])
def test_bad_arguments_of_windows_are_named(arguments):
    with pytest.raises(ValueError, match="split must be one of|must be at least 1"):
        windows(make_cache(), *arguments)
