"""What a training leaves to look at: metrics.jsonl and TensorBoard say the same, also after a crash; the
pictures."""

import json
import time
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from model.bars import BarGrid
from model.batch_bars import BatchGrid
from tests.helpers.model_batches import random_batch, small_model
from utils import files
from utils.midi.read import notes_to_roll, read_midi
from utils.midi.timeline import Timeline
from utils.playing import plots
from utils.training import run_samples
from utils.training.run_log import CLOCKS, RunLog
from utils.training.run_samples import N_RHYTHMS, write_samples


def text_of(folder):
    return (folder / "metrics.jsonl").read_text()


def lines(folder):
    def no_such_token(token):
        raise AssertionError(f"{token} is no JSON")

    return [json.loads(line, parse_constant=no_such_token) for line in text_of(folder).splitlines()]


def events(folder):
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def scalars(folder, tag):
    return [(event.step, pytest.approx(event.value)) for event in events(folder).Scalars(tag)]


def interrupted(folder, *more):
    """A log of steps 2, 4 and 6 with their own number as loss, and what a killed process may have added."""
    log = RunLog(folder, from_step=0)
    for step in (2, 4, 6):
        log.write(step, {"loss": float(step)}, "train")
    log.close()
    for events in folder.rglob("events.out.tfevents.*"):  # of an earlier second, as TensorBoard sorts by name
        parts = events.name.split(".")
        events.rename(events.with_name(".".join([*parts[:3], "1", *parts[4:]])))
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b"".join(more))
    return folder


# ------------------------------------------------------------------------- figures


def test_figures_are_there_before_the_log_is_closed(tmp_path, monkeypatch):
    quick = RecordWriter.write  # TensorBoard's, which another thread calls; here on a slow disk
    monkeypatch.setattr(RecordWriter, "write", lambda self, data: time.sleep(0.02) or quick(self, data))
    log = RunLog(tmp_path, from_step=0)
    log.write(20, {"loss": 1.5, "active_units": 7, "samples_per_second": 80.25}, "train")
    log.write(20, {"onset_given": 0.25, "anything_else": 2}, "validation")
    log.flush()
    assert lines(tmp_path) == [
        {"step": 20, "kind": "train", "loss": 1.5, "active_units": 7, "samples_per_second": 80.25},
        {"step": 20, "kind": "validation", "onset_given": 0.25, "anything_else": 2},
    ]
    assert events(tmp_path).Tags()["scalars"] == [
        "train/loss",
        "train/active_units",
        "train/samples_per_second",
        "validation/onset_given",
        "validation/anything_else",
    ]
    assert scalars(tmp_path, "train/samples_per_second") == [(20, 80.25)]
    log.close()
    assert set(CLOCKS) == {"samples_per_second", "data_wait"}


def test_what_is_not_finite_is_null(tmp_path):
    log = RunLog(tmp_path, from_step=0)
    figures = {
        "nan": float("nan"),
        "inf": -float("inf"),
        "tensor": torch.tensor(float("nan")),
        "none": None,
        "loss": torch.tensor(0.5),
        "count": np.int64(3),
        "low": np.float32("inf"),
    }
    log.write(1, figures, "train")
    log.close()
    nulls = dict.fromkeys(("nan", "inf", "tensor", "none", "low"))
    assert lines(tmp_path) == [{"step": 1, "kind": "train", **nulls, "loss": 0.5, "count": 3}]


@pytest.mark.parametrize(
    "left",
    [
        b'{"step": 7, "ki',
        b'{"step": 3, "kind": "train", "loss": 9',
        b"\0\0\0\0",
        b"\xff\xfe{",
        b"5\n",
        b"[]\n",
        b"\n\n",
        b'{"kind": "train"}\n',
        b'{"step": "3", "kind": "train"}\n',
        b'{"step": 3}\n',
    ],
)
def test_a_resumed_run_logs_as_if_it_had_never_stopped(tmp_path, left):
    interrupted(tmp_path, left)
    log = RunLog(tmp_path, from_step=4)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]
    log.write(6, {"loss": 60.0}, "train")
    log.close()
    assert lines(tmp_path) == [
        {"step": s, "kind": "train", "loss": v} for s, v in ((2, 2.0), (4, 4.0), (6, 60.0))
    ]
    assert scalars(tmp_path, "train/loss") == [(2, 2), (4, 4), (6, 60)]


def test_what_comes_after_a_damaged_line_is_kept(tmp_path):
    interrupted(tmp_path, b'{"step": 7, "ki\n', b'{"step": 8, "kind": "train", "loss": NaN}\n')
    RunLog(tmp_path, from_step=8).close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6, 8] and lines(tmp_path)[-1]["loss"] is None


def test_untouched_lines_stay_as_they_are(tmp_path):
    before = text_of(interrupted(tmp_path))
    RunLog(tmp_path, from_step=6).close()
    assert text_of(tmp_path) == before


def test_a_run_without_a_checkpoint_begins_anew(tmp_path):
    RunLog(interrupted(tmp_path), from_step=0).close()
    assert text_of(tmp_path) == ""


def test_events_that_were_cut_short_are_passed_over(tmp_path):
    interrupted(tmp_path)
    (written,) = (tmp_path / "tensorboard").iterdir()
    written.write_bytes(written.read_bytes()[:-9])
    log = RunLog(tmp_path, from_step=4)
    log.write(6, {"loss": 60.0}, "train")
    log.close()
    assert scalars(tmp_path, "train/loss") == [(2, 2), (4, 4), (6, 60)]


def test_a_crash_while_the_figures_are_cut_leaves_the_old_ones(tmp_path, monkeypatch):
    before = text_of(interrupted(tmp_path))

    def crash(*paths):
        raise OSError("no")

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(ValueError, match="can't be written"):
        RunLog(tmp_path, from_step=2)
    assert text_of(tmp_path) == before and {path.name for path in tmp_path.iterdir()} == {
        "metrics.jsonl",
        "tensorboard",
    }


def test_a_silent_log_touches_nothing(tmp_path):
    place = tmp_path / "run"
    log = RunLog(place, from_step=0, enabled=False)
    log.write(1, {"loss": 1.0}, "train")
    log.image(1, "rhythm_0", place / "none.png")
    log.flush()
    log.close()
    assert not place.exists()
    before = text_of(interrupted(tmp_path))
    RunLog(tmp_path, from_step=2, enabled=False).close()
    assert text_of(tmp_path) == before


# ------------------------------------------------------------------------- samples


@pytest.fixture(scope="module")
def sampled(tiny_config, tmp_path_factory):
    """(folder of the samples, folder of the log, batch) of a small model that played at step 30."""
    folder = tmp_path_factory.mktemp("samples")
    batch = random_batch(B=9, T=32)
    batch["mask"][[0, 2], 16:] = False  # two windows of one bar
    log = RunLog(folder / "run", from_step=0)
    write_samples(small_model(tiny_config), batch, folder / "step_30", log, 30)
    log.close()
    return folder / "step_30", folder / "run", batch


def test_each_rhythm_gets_midi_of_both_and_one_picture(sampled):
    folder, _, batch = sampled
    names = [f"rhythm_{i}{end}" for i in range(N_RHYTHMS) for end in (".png", "_played.mid", "_real.mid")]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    onsets = []
    for i, window in enumerate((1, 4, 6, 8)):  # spread over the seven that are whole
        notes = read_midi(folder / f"rhythm_{i}_real.mid")
        onset, *_ = notes_to_roll(notes.tick, notes.pitch, notes.velocity, notes.tpq)
        early = batch["timeoffset"][window, 0] < 0  # these play on the beat, see roll_to_midi
        assert (torch.tensor(onset)[1:] == batch["onset"][window, 1:]).all() and early.any()
        played = pretty_midi.PrettyMIDI(str(folder / f"rhythm_{i}_played.mid")).instruments[0].notes
        onsets.append(tuple(note.start for note in played))
    assert len(set(onsets)) == N_RHYTHMS


def test_a_picture_shows_the_rhythm_and_below_it_played_and_real(monkeypatch):
    batch, pictures = random_batch(B=2, T=32), []
    monkeypatch.setattr(plots, "save", lambda figure, path: pictures.append(figure))
    played, real = ([batch[name][i] for name in ("onset", "vel", "timeoffset")] for i in (0, 1))
    rhythm = [batch[f"rhythm_{name}"][1] for name in ("onset", "vel", "timeoffset")]
    grid = BarGrid.four_four(32, 4)
    plots.draw_takes("unused.png", {"played": played, "real": real}, rhythm, grid, "a title")
    above, *rolls = pictures[0].axes
    assert len(above.collections[-1].get_offsets()) == rhythm[0].sum()
    for axis, name, (onset, vel, _) in zip(rolls, ("played", "real"), (played, real)):
        hits = [patch for patch in axis.patches if patch.get_zorder() == 3]
        assert len(hits) == onset.sum()
        counts = [
            f"{bar.sum():.0f} hits, velocity {127 * v.sum() / bar.sum():.0f}"
            for bar, v in zip(onset.split(16), vel.split(16))
        ]
        assert [text.get_text() for text in axis.texts] == [name, *counts]


def test_pictures_are_in_tensorboard(sampled):
    folder, run, _ = sampled
    found = events(run)
    assert found.Tags()["images"] == [f"samples/rhythm_{i}" for i in range(N_RHYTHMS)]
    for i in range(N_RHYTHMS):
        (image,) = found.Images(f"samples/rhythm_{i}")
        height, width, _ = imread(folder / f"rhythm_{i}.png").shape
        assert (image.step, image.width, image.height) == (30, width, height)
        copy = run / "copy.png"
        copy.write_bytes(image.encoded_image_string)
        np.testing.assert_allclose(
            imread(copy)[..., :3], imread(folder / f"rhythm_{i}.png")[..., :3], atol=0.01
        )


def test_the_same_model_always_plays_the_same(sampled, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(run_samples, "draw_takes", lambda *_: None)
    folder, _, batch = sampled
    chance = torch.get_rng_state()
    model = small_model(tiny_config)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    write_samples(model, batch, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)  # training goes on by its own chance
    torch.set_rng_state(chance)
    for path in Path(folder).glob("*.mid"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_windows_are_written_in_their_own_bars(monkeypatch, tiny_config, tmp_path):
    monkeypatch.setattr(run_samples, "draw_takes", lambda *_: None)
    songs = ["6/8"] * 3, ["4/4", "2/4", "3/4"]
    grids = [BarGrid.of(list(song)) for song in songs]
    own = {name: torch.from_numpy(bars) for name, bars in BatchGrid.of(grids).as_batch().items()}
    batch = random_batch(B=2, T=36) | own
    write_samples(small_model(tiny_config), batch, tmp_path)
    for i, song in enumerate(songs):
        for kind in ("played", "real"):
            midi = read_midi(tmp_path / f"rhythm_{i}_{kind}.mid")
            assert [f"{n}/{d}" for _, n, d in midi.meters] == list(dict.fromkeys(song))
            assert Timeline.of(midi).grid(36) == grids[i]
            assert int(midi.ends[-1]) == 36 * 120


def test_few_and_short_windows_are_played_too(tiny_config, tmp_path):
    batch = random_batch(B=2, T=32)
    batch["mask"][:, 16:] = False
    write_samples(small_model(tiny_config), batch, tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert pretty_midi.PrettyMIDI(str(tmp_path / "rhythm_0_real.mid")).get_end_time() <= 2  # one bar at 120
