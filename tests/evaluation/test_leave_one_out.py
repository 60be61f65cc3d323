"""Leaving out what is not 4/4: the folds, and the corpora that are trained on."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import training_script_causal_decoder as training
from benchmarks import leave_one_out as script
from data_aug import DrumBatches
from preprocessing import preprocess
from tests.conftest import TINY
from tests.helpers.inference_helpers import save_tiny_checkpoint
from tests.helpers.midi_files import beat, meter, midi_bytes, write, zipped
from utils.config.schema import load_config
from utils.corpus.find import open_corpus

NOT_FOUR = "a/jig.mid", "a/waltz.mid", "a/waltz_2.mid", "b/waltz.mid"
SPLITS = {"a/four.mid": "train", "b/four.mid": "validation", "c/four.mid": "test"} | dict(
    zip(NOT_FOUR, ("train", "validation", "train", "train"))
)

QUICK = [
    *("Training.warmup_steps=1", "Training.minimum_learning_rate=0", "Training.precision=float32"),
    *("Data.batch_size=2", "Data.clip_bar=2", "Data.preprocess_workers=1"),
]


@pytest.fixture(params=["folder", "zip"])
def corpus(request, tmp_path):
    """Three performances of 4/4, one of each split, and four that are not, in two sessions."""
    meters = {"jig": (6, 8), "waltz": (3, 4), "waltz_2": (3, 4), "four": (4, 4)}
    files = {
        name: midi_bytes(
            meter(0, *meters[name[2:].removesuffix(".mid")]) + beat(12, velocity=60 + 5 * number)
        )
        for number, name in enumerate(SPLITS)
    }
    rows = [f"{name.rpartition('/')[0]},rock,90,{name},{split}" for name, split in SPLITS.items()]
    table = "\n".join(["session,style,bpm,midi_filename,split", *rows, ""])
    folder = write(tmp_path / "corpus", files | {"info.csv": table})
    return open_corpus(folder if request.param == "folder" else zipped(folder, tmp_path / "c.zip", "top/"))


def cache_of(path, folder):
    sets = [f"Data.cache_dir={folder}", "Data.preprocess_workers=1"]
    return preprocess(load_config("config.yaml", sets), str(path))


def test_every_performance_that_is_not_four_four_is_held_out_once(corpus, tmp_path):
    folds = script.folds(cache_of(corpus.path, tmp_path / "cache"))
    assert tuple(folds) == script.HELD and folds["nothing"] == [()]
    for held in ("performances", "sessions", "everything"):
        assert sorted(name for names in folds[held] for name in names) == sorted(NOT_FOUR), held
    assert folds["sessions"] == [NOT_FOUR[:3], NOT_FOUR[3:]]
    for names in folds["performances"]:  # one of a session at a time
        assert len({name[0] for name in names}) == len(names)


@pytest.mark.parametrize("held", [(), NOT_FOUR[1:2], NOT_FOUR[:3], NOT_FOUR])
def test_nothing_that_is_held_out_is_left_in_the_training(corpus, held, tmp_path):
    script.write_corpus(corpus, NOT_FOUR, held, tmp_path / "new" / "corpus.zip")
    before = cache_of(corpus.path, tmp_path / "before")
    cache = cache_of(tmp_path / "new" / "corpus.zip", tmp_path / "cache")
    splits = {file["name"]: file["split"] for file in cache.files}
    others = dict.fromkeys(NOT_FOUR, "train") | dict.fromkeys(held, "test")
    assert splits == SPLITS | others
    assert all(map(np.array_equal, (before.vel, before.offset), (cache.vel, cache.offset)))
    without = [{key: x for key, x in file.items() if key != "split"} for file in before.files]
    assert [file | {"split": None} for file in without] == [file | {"split": None} for file in cache.files]
    data = load_config("config.yaml", ["Data.clip_bar=2", "Data.batch_size=4"]).Data
    batches = DrumBatches(cache, "train", data, 4)
    trained_on = {name for n in range(len(batches)) for name in batches.names_of(n)}
    assert trained_on == {"a/four.mid", *NOT_FOUR} - {*held}


@pytest.mark.parametrize("corpus", ["folder"], indirect=True)
def test_one_command_trains_what_is_not_done_and_prints_a_table(
    corpus, tiny_config, tmp_path, monkeypatch, capsys
):
    """A training that is stopped goes on, and one that is done is not run again."""
    trained, own_train = [], script.train

    def train(cfg, resume, init_from, midi_dir):
        trained.append((Path(cfg.Training.run_dir).parent.name, resume))
        with monkeypatch.context() as patch:
            if len(trained) == 1:
                patch.setattr(training, "stop_signals", lambda: nullcontext(["a signal"]))
            return own_train(cfg, resume, init_from, midi_dir)

    before = save_tiny_checkpoint(tiny_config, tmp_path / "before.pt")
    sets = [*TINY, *QUICK, f"Data.corpus={corpus.path}", f"Data.cache_dir={tmp_path / 'cache'}"]
    words = ["--init-from", str(before), "--steps", "3", "--out", str(tmp_path / "out")]
    words += [word for of in sets for word in ("--set", of)]
    monkeypatch.setattr(script, "train", train)
    with pytest.raises(SystemExit, match="the same command goes on"):
        script.main([*words, "--held", "everything"])
    for _ in range(2):
        script.main([*words, "--held", "nothing", "everything"])
    assert trained == [("everything_1", False), ("nothing_1", False), ("everything_1", True)]
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    for held in ("nothing", "everything"):
        assert rows.count(f"in their meter, controls unset, {held}") == 2
        assert rows.count(f"played as 4/4, {held}") == 2
    assert rows.count("trained on 4/4 alone, as 4/4, true controls") == 2


def test_results_of_several_trainings_stand_in_one_order():
    def result(*numbers):
        return {"own": {"nats": [[number, 1] for number in numbers]}}

    rows = script.together([result(2, 0), result(1)], [1, 2, 0], "performances")
    assert rows["own, performances"]["nats"].tolist() == [[0, 1], [1, 1], [2, 1]]
