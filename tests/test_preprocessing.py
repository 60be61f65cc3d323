import subprocess
import sys

import numpy as np
import pytest

from model.bars import BarGrid
from preprocessing import main, preprocess, report_text
from tests.helpers.midi_files import beat, meter, midi_bytes, note, small_corpus, table, tempo, write
from utils.corpus.attributes import bar_attributes
from utils.corpus.cache import CACHE_FILE, decode, grid_of, load_cache, windows
from utils.midi.drums import STYLE_NONE, style_id


@pytest.fixture(autouse=True)
def no_corpus_from_outside(monkeypatch):
    monkeypatch.delenv("GROOVE_ZIP", raising=False)


@pytest.fixture
def cfg(config, tmp_path):
    """The shipped configuration with all places inside tmp_path."""
    mine = config.model_copy(deep=True)
    mine.Data.corpus = str(tmp_path / "corpus")
    mine.Data.cache_dir = str(tmp_path / "cache")
    mine.Data.preprocess_workers = 1
    return mine


# ---- what is kept


def test_a_folder_becomes_rolls_labels_and_statistics(cfg, tmp_path):
    small_corpus(tmp_path / "corpus")
    cache = preprocess(cfg)
    a, b = cache.files
    assert (a["name"], a["split"], a["style"], a["start"], a["n_steps"]) == (
        "a.mid",
        "train",
        style_id("funk"),
        0,
        80,
    )
    assert (b["name"], b["split"], b["style"], b["start"], b["n_steps"]) == (
        "b.mid",
        "validation",
        style_id("rock"),
        80,
        32,
    )
    assert (a["bpm"], a["beat_type"]) == (120.0, None)
    onset, vel, timeoffset = cache.rolls(80, 112)
    assert np.argwhere(onset)[:3].tolist() == [[0, 0], [0, 2], [4, 1]]
    assert set(np.rint(vel[onset > 0] * 127).astype(int)) == {60, 40} and not timeoffset.any()
    assert cache.report["kept"] == 2 and cache.report["hits"] == 7 * 8 and cache.report["lost"] == 0
    again = load_cache(cfg.Data.cache_dir)
    np.testing.assert_array_equal(again.vel, cache.vel)


def test_statistics_are_of_train_bars_only_and_population_deviations(cfg, tmp_path):
    quiet_bar = beat(bars=1, velocity=40) + note(2 * 1920, 36, 100)  # bar two is silent
    small_corpus(tmp_path / "corpus", c=midi_bytes(quiet_bar))
    factor = preprocess(cfg).normalize_factor
    density = np.array([8, 8, 8, 8, 8, 8, 0, 1]) / 144
    intensity = np.array([90, 90, 90, 90, 90, 30, 100]) / 127
    np.testing.assert_allclose(factor["density"], [density.mean(), density.std()], rtol=1e-6)
    np.testing.assert_allclose(factor["intensity"], [intensity.mean(), intensity.std()], rtol=1e-6)


def test_a_deviation_of_zero_becomes_one(cfg, tmp_path):
    small_corpus(tmp_path / "corpus")
    factor = preprocess(cfg).normalize_factor
    assert factor["density"][1] == 1.0 and factor["density"][0] == pytest.approx(8 / 144)


def test_tempo_changes_tracks_and_resolutions_are_read(cfg, tmp_path):
    two_tracks = midi_bytes(
        tempo(0, 93) + tempo(960, 150), note(0, 36), note(480, 38), note(480, 60, channel=0)
    )
    small_corpus(tmp_path / "corpus", c=two_tracks, d=midi_bytes(beat(tpq=96), tpq=96))
    cache = preprocess(cfg)
    c, d = cache.files[2:]
    onset, *_ = cache.rolls(c["start"], c["start"] + c["n_steps"])
    assert np.argwhere(onset).tolist() == [[0, 0], [4, 1]]
    assert c["bpm"] == pytest.approx(93, abs=0.01)
    np.testing.assert_array_equal(cache.vel[d["start"] :][:16], cache.vel[:16])


def test_files_without_drums_are_read_whole_and_reported(cfg, tmp_path):
    small_corpus(tmp_path / "corpus", bass=midi_bytes(note(0, 40, channel=0) + note(960, 43, channel=1)))
    cache = preprocess(cfg)
    assert cache.report["without_drums"] == 1 and "1 kept files have no drum track" in report_text(cache)
    assert (cache.vel[112:] > 0).sum() == 2


def test_hits_lost_to_a_louder_one_are_counted(cfg, tmp_path, capsys):
    small_corpus(tmp_path / "corpus", c=midi_bytes(note(0, 36, 90, 5) + note(12, 36, 50, 5)))
    assert preprocess(cfg).report["lost"] == 1
    assert "57 hits; 1 lost (1.7%) to a louder one in their cell" in capsys.readouterr().out


@pytest.mark.parametrize(
    "reason, data",
    [
        ("unreadable", b"MThd but no more than that"),
        ("no notes", midi_bytes(tempo(0, 100))),
        ("no notes", midi_bytes([])),
        ("too long", midi_bytes(note(0, 36) + note(5000 * 1920, 36))),
    ],
)
def test_a_file_that_does_not_fit_is_skipped_by_reason(cfg, tmp_path, capsys, reason, data):
    small_corpus(tmp_path / "corpus", odd=data)
    cache = preprocess(cfg)
    assert [file["name"] for file in cache.files] == ["a.mid", "b.mid"]
    assert list(cache.report["skipped"]) == [reason]
    out = capsys.readouterr().out
    assert out.startswith(f"2 kept; 1 {reason}\n") and f"{reason}: odd.mid" in out


@pytest.mark.parametrize(
    "events",
    [
        meter(0, 4, 4) + meter(0, 4, 4),
        meter(0, 3, 4) + meter(0, 4, 4),  # of several at one tick the last holds
        meter(0, 4, 4) + meter(1920, 4, 4),
        meter(0, 4, 4) + meter(100 * 1920, 3, 4),  # after the last note
    ],
)
def test_meter_events_that_leave_it_at_four_quarters_are_fine(cfg, tmp_path, events):
    small_corpus(tmp_path / "corpus", c=midi_bytes(events + beat(bars=3)))
    cache = preprocess(cfg)
    assert cache.report["kept"] == 3 and all(file["bars"] is None for file in cache.files)


@pytest.mark.parametrize(
    "events, bars",
    [
        (meter(0, 3, 4), [[4, [4, 4, 4]]]),
        (meter(0, 2, 2), [[3, [8, 8]]]),
        (meter(0, 4, 4) + meter(1920, 7, 8), [[1, [4] * 4], [3, [4, 4, 6]]]),
        (meter(1920, 3, 4), [[1, [4] * 4], [3, [4, 4, 4]]]),  # 4/4 until then
        (meter(960, 4, 4), [[1, [4, 4]], [3, [4] * 4]]),  # a bar of two quarters
    ],
)
def test_the_cache_has_a_file_in_its_own_bars(cfg, tmp_path, events, bars):
    small_corpus(tmp_path / "corpus", c=midi_bytes(events + beat(bars=3)))
    preprocess(cfg)
    cache = load_cache(cfg.Data.cache_dir)
    (file,) = [file for file in cache.files if file["name"] == "c.mid"]
    grid = grid_of(file)
    assert file["bars"] == bars and file["n_steps"] == grid.n_steps == 16 * 3 + (grid.n_steps - 48)
    onset, *_ = cache.rolls(file["start"], file["start"] + file["n_steps"])
    plain, *_ = cache.rolls(0, cache.files[0]["n_steps"])
    last_bar = onset[grid.steps_of(grid.n_bars - 1)]
    assert last_bar.any() and onset.sum() == 3 * plain[:16].sum()


def test_bars_that_are_no_whole_number_of_steps_are_said(cfg, tmp_path, capsys):
    small_corpus(tmp_path / "corpus", c=midi_bytes(meter(0, 5, 32) + beat()))
    cache = preprocess(cfg)
    assert cache.report["inexact_bars"] == 1
    assert "1 files have bars that are no whole number of steps" in capsys.readouterr().out


def test_the_table_may_tell_a_meter_that_the_file_does_not(cfg, tmp_path):
    small_corpus(tmp_path / "corpus", c=midi_bytes(beat(bars=3)))
    info = "midi_filename,split,time_signature,bpm,beat_type\n"
    info += "a.mid,train,4-4,77,beat\nb.mid,validation,4/4,inf,\nc.mid,train,6-8,,\n"
    write(tmp_path / "corpus", {"info.csv": info})
    cache = preprocess(cfg)
    assert cache.report["skipped"] == {}
    assert [(file["bpm"], file["beat_type"], file["bars"]) for file in cache.files] == [
        (77.0, "beat", None),
        (120.0, None, None),
        (120.0, None, [[4, [6, 6]]]),
    ]
    write(tmp_path / "corpus", {"info.csv": info.replace("6-8", "six")})
    assert preprocess(cfg).report["skipped"] == {"meter that can't be read": ["c.mid: six"]}


def test_nothing_left_is_an_error_and_makes_no_cache(cfg, tmp_path):
    write(tmp_path / "corpus", {"a.mid": b"junk", "b.mid": midi_bytes(tempo(0, 100))})
    with pytest.raises(ValueError, match="nothing is left of .*corpus: 1 no notes; 1 unreadable"):
        preprocess(cfg)
    assert not (tmp_path / "cache" / CACHE_FILE).exists()


# ---- styles and splits


def test_style_comes_from_the_table_else_the_folder_else_none(cfg, tmp_path):
    one = midi_bytes(beat())
    write(
        tmp_path / "corpus",
        {
            "Latin/deep/a.mid": one,
            "jazz/Funk/f.mid": one,
            "unsorted/b.mid": one,
            "Hip-Hop/c.mid": one,
            "Latin/d.mid": one,
            "Latin/e.mid": one,
            "info.csv": table(**{"Latin/d": ("jazz/fast", "train"), "Latin/e": ("polka", "validation")}),
        },
    )
    cfg.Data.splits.validation = cfg.Data.splits.test = 0.0
    cache = preprocess(cfg)
    styles = {file["name"]: file["style"] for file in cache.files}
    assert styles == {
        "Latin/deep/a.mid": style_id("latin"),
        "jazz/Funk/f.mid": style_id("funk"),
        "unsorted/b.mid": STYLE_NONE,
        "Hip-Hop/c.mid": style_id("hiphop"),
        "Latin/d.mid": style_id("jazz"),
        "Latin/e.mid": STYLE_NONE,
    }
    assert cache.report["unknown_styles"] == {"polka": 1} and "style 'polka' of 1 files" in report_text(cache)


def test_a_corpus_named_after_a_style_has_that_style(cfg, tmp_path):
    small_corpus(tmp_path / "reggae")
    write(tmp_path / "reggae", {"info.csv": "midi_filename,split\na.mid,train\nb.mid,validation\n"})
    assert {file["style"] for file in preprocess(cfg, tmp_path / "reggae").files} == {style_id("reggae")}


def test_the_hash_splits_by_file_stably_and_in_the_shares_asked_for(cfg, tmp_path):
    one = midi_bytes(note(0, 36))
    write(tmp_path / "corpus", {f"x/{i}.mid": one for i in range(300)} | {"y/0.mid": one})
    cache = preprocess(cfg)
    splits = {file["name"]: file["split"] for file in cache.files}
    sizes = cache.report["splits"]
    assert 15 <= sizes["validation"] <= 50 and 15 <= sizes["test"] <= 50
    for i in range(0, 300, 2):
        (tmp_path / "corpus" / "x" / f"{i}.mid").unlink()
    fewer = {file["name"]: file["split"] for file in preprocess(cfg).files}
    assert len(fewer) == 151 and fewer.items() <= splits.items()
    for_good = {"x/1.mid": "train", "x/27.mid": "test", "x/31.mid": "validation"}
    assert for_good.items() <= splits.items()


def test_a_split_left_empty_is_an_error_with_remedies(cfg, tmp_path):
    write(tmp_path / "corpus", {"a.mid": midi_bytes(beat())})
    with pytest.raises(
        ValueError,
        match="leaves no file for (train|validation) .1 files in all.; add files, change Data.splits",
    ):
        preprocess(cfg)
    assert not (tmp_path / "cache" / CACHE_FILE).exists()


def test_an_unknown_split_in_the_table_names_file_and_row(cfg, tmp_path):
    small_corpus(tmp_path / "corpus")
    write(tmp_path / "corpus", {"info.csv": table(a=("funk", "training"))})
    with pytest.raises(ValueError, match="info.csv in .*split of a.mid must be one of train, .*'training'"):
        preprocess(cfg)


def test_rows_that_name_no_file_are_reported(cfg, tmp_path):
    small_corpus(tmp_path / "corpus")
    info = table(a=("funk", "train"), b=("rock", "validation"), gone=("rock", "train"))
    write(tmp_path / "corpus", {"info.csv": info})
    assert "1 rows of the table name no file of the corpus" in report_text(preprocess(cfg))


# ---- the command line


def test_the_command_line_makes_the_cache(tmp_path, repository):
    small_corpus(tmp_path / "mine")
    command = [
        sys.executable,
        "preprocessing.py",
        "--midi-dir",
        tmp_path / "mine",
        "--set",
        f"Data.cache_dir={tmp_path / 'cache'}",
    ]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0 and "2 kept" in done.stdout, done.stderr
    assert len(load_cache(tmp_path / "cache").files) == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--midi-dir", "no/such/place"], "error: no folder or zip of MIDI files at no/such/place\n"),
        (["--set", "Data.copus=x"], "unknown key Data.copus; did you mean corpus?"),
        (["--config", "no.yaml"], "no.yaml"),
    ],
)
def test_errors_are_one_line_and_exit_code_two(arguments, message, capsys, monkeypatch, repository):
    monkeypatch.chdir(repository)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


# ---- the real corpus


@pytest.fixture(scope="module")
def groove(groove_zip, config, tmp_path_factory):
    mine = config.model_copy(deep=True)
    mine.Data.cache_dir = str(tmp_path_factory.mktemp("groove") / "cache")
    return preprocess(mine, groove_zip)


def test_groove_is_kept_by_the_official_split(groove):
    assert groove.report["kept"] == 1150 and groove.report["skipped"] == {}
    assert groove.report["splits"] == {"train": 897, "validation": 124, "test": 129}
    assert groove.report["unknown_styles"] == {} and groove.report["rows_without_file"] == 0
    assert {file["style"] for file in groove.files} == set(range(18))
    assert 0.065 <= groove.report["lost"] / (groove.report["hits"] + groove.report["lost"]) <= 0.0705


def test_groove_has_twelve_files_in_their_own_bars(groove):
    own = [(file["split"], [beats for _, beats in file["bars"]]) for file in groove.files if file["bars"]]
    assert groove.report["inexact_bars"] == 0
    assert sorted(own) == sorted(
        [("train", [beats]) for beats in ([4] * 5, *[[4] * 3] * 4, [4, 6], *[[6, 6]] * 4)]
        + [("validation", [beats]) for beats in ([4] * 3, [6, 6])]
    )


@pytest.mark.parametrize("bars, n_windows", [(2, 1059), (4, 525)])
def test_groove_has_the_published_evaluation_windows(groove, bars, n_windows):
    start, length = windows(
        groove, "test", bars * 16, bars * 16, whole=True, beat_type="beat", four_four=True
    )
    assert len(start) == n_windows and (length == bars * 16).all()
    hits = sum(int((groove.vel[a : a + n] > 0).sum()) for a, n in zip(start, length))
    of_files = np.searchsorted([file["start"] for file in groove.files], start, side="right")
    assert len(set(of_files)) == 75
    if bars == 2:
        assert hits == 39816 and round(hits / (length.sum() * 9), 4) == 0.1305


def test_groove_has_these_statistics(groove):
    assert groove.normalize_factor["density"] == pytest.approx([0.1287, 0.0432], abs=5e-5)
    assert groove.normalize_factor["intensity"] == pytest.approx([0.5698, 0.1433], abs=5e-5)
    train = [file for file in groove.files if file["split"] == "train" and not file["bars"]]
    rolls = [
        decode(groove.vel[f["start"] :][: f["n_steps"]], groove.offset[f["start"] :][: f["n_steps"]])
        for f in train
    ]
    density = np.concatenate(
        [bar_attributes(onset, vel, BarGrid.four_four(len(onset), 4))["density"] for onset, vel, _ in rolls]
    )
    assert groove.normalize_factor["density"] == pytest.approx([density.mean(), density.std()], rel=1e-4)
