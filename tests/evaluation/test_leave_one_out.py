"""Leaving out what is not 4/4: the folds, and the corpora that are trained on."""

import numpy as np
import pytest

from benchmarks import leave_one_out as script
from data_aug import DrumBatches
from preprocessing import preprocess
from tests.helpers.midi_files import beat, meter, midi_bytes, write, zipped
from utils.config.schema import load_config
from utils.corpus.find import open_corpus

NOT_FOUR = "a/jig.mid", "a/waltz.mid", "a/waltz_2.mid", "b/waltz.mid"
SPLITS = {"a/four.mid": "train", "b/four.mid": "validation", "c/four.mid": "test"} | dict(
    zip(NOT_FOUR, ("train", "validation", "train", "train"))
)


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


def test_results_of_several_trainings_stand_in_one_order():
    def result(*numbers):
        return {"own": {"nats": [[number, 1] for number in numbers]}}

    rows = script.together([result(2, 0), result(1)], np.argsort([2, 0, 1]), "performances")
    assert rows["own, performances"]["nats"].tolist() == [[0, 1], [1, 1], [2, 1]]
