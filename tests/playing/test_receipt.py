"""The receipt: what was asked and what came out, as a table, as data, and in the picture."""

import json

import numpy as np
import pytest
import torch

from inference_bar_control import Take
from model.bars import BarGrid
from tests.helpers.inference_helpers import FACTOR, build_tiny_model, save_tiny_checkpoint
from utils.checkpoints import save_checkpoint
from utils.get_model import checkpoint_of, load_model
from utils.midi.drums import STYLE_NONE, VOICES
from utils.playing import plots
from utils.playing.controls import measure, read_curves, to_model_units
from utils.playing.panels import ASKED, LOUDNESS_ANEW
from utils.playing.plots import draw_result
from utils.playing.receipt import Receipt, misses, tap_of
from utils.playing.wishes import ask

GRID = BarGrid.four_four(32, 4)


def few_hits(bars=2):
    """Three kicks in the first bar, velocity .5; onset, vel, timeoffset (T, 9)."""
    onset, vel, timeoffset = np.zeros((3, 16 * bars, 9), np.float32)
    onset[:3, 0], vel[:3, 0] = 1, 0.5
    return onset, vel, timeoffset


def taps(*steps, length=32):
    rolls = np.zeros((3, length, 9), np.float32)
    rolls[:2, steps, 3] = 1
    return rolls


WISHES = {"hits_per_bar": 12.5, "voices": {"kick": 4, "snare": "-,2"}, "forbid": "ride", "style": "jazz"}


def test_the_table_sets_what_came_out_beside_what_was_asked(model):
    receipt = Receipt(
        few_hits(), ask(2, **WISHES), model, taps(0, 1, 8), 7, {"temperature": 0.9, "best_of": 8}
    )
    *rows, off, tap, origin = receipt.table().splitlines()[2:]
    assert rows[0].split() == ["1", "12.5", "3", "-", "64", "4", "3", "-", "0", "jazz"]
    assert rows[1].split() == ["2", "12.5", "0", "-", "-", "4", "0", "2", "0", "jazz"]
    assert rows[2] == "silent, as you wish: ride"
    assert off == "distance from your wishes, on average: hits 88 %, voices 75 %"
    assert tap == "taps answered: 2 of 3 (67 %); hits off the taps: 1 of 3 (33 %)"
    sha = checkpoint_of(model)["sha256"]
    assert origin == f"seed 7, checkpoint in memory (SHA-256 {sha}), temperature 0.9, best of 8"


def test_a_voice_that_sounds_against_the_wish_keeps_its_column(model):
    asked = ask(2, voices={"kick": 0, "snare": 0}, forbid=["crash"])
    heading, _, first, _, said, *_ = Receipt(few_hits(), asked, model).table().splitlines()
    assert heading.split() == ["bar", "hits", "velocity", "kick"] and first.split()[-2:] == ["0", "3"]
    assert said == "silent, as you wish: snare, crash"


def test_a_job_says_nothing_of_taps_for_its_rhythm_is_the_drums(model):
    of_job = Receipt(few_hits(), None, model, taps(0, 1, 8), 7, {"job": "infill"})
    assert "taps" not in of_job.table() and of_job.data()["tap"]["tapped"] == 3


def test_the_data_are_plain_and_whole(model, tmp_path):
    receipt = Receipt(few_hits(), ask(2, **WISHES), model, taps(0, 1, 8), 7, {"follow": "literal"})
    receipt.save(tmp_path / "receipt.json")
    data = json.loads((tmp_path / "receipt.json").read_text())
    assert data == receipt.data() and (data["seed"], data["dials"]) == (7, {"follow": "literal"})
    assert data["miss"] == {"hits": 0.88, "voices": pytest.approx((0.25 + 1 + 1) / 3)}
    assert data["tap"] == {
        "tapped": 3,
        "answered": 2,
        "hits": 3,
        "off the taps": 1,
        "share answered": 0.6667,
        "share off": 0.3333,
    }
    asked, got = data["bars"][1]["asked"], data["bars"][1]["got"]
    assert (
        asked["hits"] == 12.5
        and asked["velocity"] is None
        and asked["style"] == "jazz"
        and asked["forbidden"] == ["ride"]
    )
    assert asked["voices"]["snare"] == 2 and asked["voices"]["ride"] is None and len(asked["voices"]) == 9
    assert got == {"hits": 0, "velocity": None, "voices": dict.fromkeys(asked["voices"], 0), "steady": 0}


def test_without_wishes_and_rhythm_the_receipt_says_what_is_there(model):
    receipt = Receipt(few_hits(), None, model)
    assert (
        receipt.data()["tap"] is None
        and receipt.data()["miss"] == {}
        and receipt.data()["bars"][0]["asked"]["style"] is None
    )
    assert (
        receipt.table().splitlines()[2].split() == ["1", "-", "3", "-", "64"]
        and "seed" not in receipt.table()
    )


def test_misses_are_relative_to_what_was_asked_and_silence_is_a_whole_one():
    got = measure(*few_hits()[:2], GRID)
    asked = ask(2, hits_per_bar="2,0", velocity="127,50", voices={"kick": 3}, forbid="crash")
    assert misses(asked, got) == {"hits": 0.25, "velocity": pytest.approx(0.75), "voices": 0.5}


def test_the_tap_counts_only_where_there_is_rhythm_and_drums():
    onset = few_hits()[0]
    tap = tap_of(onset, taps(0, 2, 4, length=5)[0])
    assert [*tap.values()] == [3, 2, 3, 1, 2 / 3, 1 / 3]
    assert tap_of(onset[:2], taps(0, 9, length=200)[0])["hits"] == 2
    short = tap_of(onset, taps(0, length=2)[0])
    assert (short["hits"], short["off the taps"]) == (2, 1)
    silent = tap_of(onset * 0, taps(length=16)[0])
    assert np.isnan([silent["share answered"], silent["share off"]]).all()


def test_what_generate_is_asked_comes_back_as_bars():
    asked = ask(2, hits_per_bar="12,-", velocity=80, voices={"kick": "4,0"}, forbid="ride", style="-,funk")
    *_, again = read_curves(to_model_units(asked, FACTOR, GRID), None, GRID, FACTOR)
    assert again.keys() == asked.keys()
    for name in asked:
        np.testing.assert_allclose(again[name], asked[name], atol=1e-4)


def test_of_library_controls_the_nearest_that_is_possible_was_asked(model):
    curve = torch.full((1, 32), 9.0)
    take = Take(
        [roll[None] for roll in few_hits()],
        asked={"intensity": curve, "density": -curve, "style": "funk"},
        model=model,
    )
    asked = take.receipt.asked
    assert asked["intensity"].tolist() == [127, 127] and asked["density"].tolist() == [0, 0]
    assert (
        asked["style"].tolist() == [16, 16]
        and np.isnan(asked["instrument"]).all()
        and take.receipt.got["style"][0] == STYLE_NONE
    )


def test_the_same_weights_have_one_identity_however_they_were_loaded(tiny_config, model, tmp_path):
    path = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    loaded, in_memory = load_model(path), checkpoint_of(model)
    assert checkpoint_of(loaded) == in_memory | {"file": "tiny.pt"} and in_memory["file"] is None
    assert checkpoint_of(loaded.double().float())["file"] == "tiny.pt"  # moved, not changed
    assert checkpoint_of(build_tiny_model(tiny_config)) == in_memory

    run = build_tiny_model(tiny_config)
    with torch.no_grad():
        run.decoder.start.add_(1)
    averages = {name: p.detach() for name, p in model.named_parameters()}
    contents = {"config": run.config, "vae_model": run.state_dict(), "ema": averages, "step": 5}
    save_checkpoint(contents, tmp_path / "run.pt")
    assert checkpoint_of(load_model(tmp_path / "run.pt")) == in_memory | {"file": "run.pt"}
    assert checkpoint_of(run)["sha256"] != in_memory["sha256"]


# ---- the picture


def draw(model, drums, asked=None, rhythm=None, **more):
    return draw_result(None, drums, rhythm, Receipt(drums, asked, model, rhythm, 7), "a title", **more)


def hits_of(roll):
    """The hits in a panel, in order of time."""
    hits = [patch for patch in roll.patches if patch.get_zorder() == 3]
    return sorted(hits, key=lambda patch: patch.get_x())


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_the_picture_says_asked_and_got_seed_and_checkpoint_and_marks_taps(model):
    asked = ask(2, hits_per_bar=12.5, voices={"kick": "3,4"}, forbid="ride", style="jazz")
    figure = draw(model, few_hits(), asked, taps(0, 1, 8))
    above, roll, hits = figure.axes
    figures, foot = [text.get_text() for text in figure.texts][-2:]
    assert "taps answered: 2 of 3" in figures
    assert foot.startswith(f"seed 7  ·  checkpoint in memory (SHA-256 {checkpoint_of(model)['sha256']})")
    assert words(above) == ["1", "2", "3", "4"] * 2 + ["bar 1", "bar 2", "jazz"]
    assert words(roll) == ["3/3", "0/4"] and [text.get_color() == ASKED for text in roll.texts] == [
        False,
        True,
    ]
    marks = above.collections[-1]
    assert (
        len(marks.get_offsets()) == 3
        and marks.get_facecolors()[2].tolist() == [1, 1, 1, 1] != marks.get_facecolors()[1].tolist()
    )
    assert [round(line.get_xdata()[0]) for line in roll.lines if line.get_linestyle() == ":"] == [8]
    assert words(hits) == ["3/12.5", "0/12.5"]
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "rhythm",
        "not answered",
        "soft to loud",
        plots.ASKED_IN_FIGURES,
        "forbidden",
    ]
    figure.canvas.draw()
    floor = hits.transData.transform((0, 0))[1]
    assert all(
        text.get_window_extent().y1 <= floor + 1 for text in hits.texts
    )  # the line of what was asked crosses none


def test_voices_stand_in_a_drummers_order_and_what_is_new_is_marked(model):
    onset, anew = np.zeros((2, 16, 9), np.float32)
    for step, name in enumerate(VOICES):
        onset[step, VOICES.index(name)] = 1
    anew[2:4] = 1
    figure = draw(model, (onset, onset, 0 * onset), None, taps(0, 12, length=16), anew=anew > 0)
    _, roll = figure.axes
    labels = dict(zip((label.get_text() for label in roll.get_yticklabels()), roll.get_yticks()))
    order = "crash, ride, open hat, closed hat, high tom, mid tom, floor tom, snare, kick".split(", ")
    assert sorted(labels, key=labels.get, reverse=True) == order
    heights = [patch.get_y() + patch.get_height() / 2 for patch in hits_of(roll)]
    assert heights == pytest.approx([labels[name.replace("_", " ")] for name in VOICES])
    colours = [patch.get_facecolor() for patch in hits_of(roll)]
    assert [colour == LOUDNESS_ANEW(1.0) for colour in colours] == [step in (2, 3) for step in range(9)]
    assert not roll.lines or all(line.get_linestyle() != ":" for line in roll.lines)  # a job answers no taps
    assert "played anew" in [text.get_text() for text in figure.legends[0].texts]


def test_bars_and_beats_are_those_of_the_meters(model):
    grid = BarGrid.of(["7/8", "3/4"])
    drums = [roll[: grid.n_steps] for roll in few_hits()]
    receipt = Receipt(drums, None, model)
    receipt.grid = grid
    figure = draw_result(None, drums, None, receipt, "a title")
    (roll,) = figure.axes
    assert words(roll) == ["1", "2", "3"] * 2 + ["bar 1", "bar 2"]
    assert [text.get_position()[0] + 0.35 for text in roll.texts] == [0, 4, 8, 14, 18, 22, 0, 14]
    lines = {line.get_xdata()[0] for line in roll.lines}
    assert lines == {-0.5, 3.5, 7.5, 13.5, 17.5, 21.5, 25.5}


def test_a_song_is_shown_with_its_sections_and_a_long_one_with_an_overview(model):
    figure = draw(model, few_hits(3), sections=[("verse", 2), ("end", 1)])
    assert words(figure.axes[0])[-2:] == ["verse", "end"]
    onset, vel, timeoffset = few_hits(20)
    onset[100, 1], vel[100, 1] = 1, 0.9
    rhythm, sections = taps(0, 50, length=99), [("verse", 19), ("end", 1)]
    figure = draw(model, (onset, vel, timeoffset), None, rhythm, sections=sections)
    strip, *curves = figure.axes[:3]
    (image,) = strip.images
    shown = np.argwhere(image.get_array()[..., 3] > 0).tolist()
    assert shown == [[0, 0], [0, 50], [8, 100], [9, 0], [9, 1], [9, 2]]  # the rhythm, nine voices
    assert words(strip) == ["verse", "end"] and words(curves[1]) == ["1", "20"]
    assert [words(axis)[-1] for axis in figure.axes[3::2]] == ["verse", "verse", "end"]
    alone = draw(model, (onset, vel, timeoffset), None, rhythm, sections=sections, overview=True)
    assert len(alone.axes) == 3


def test_an_overview_of_hundreds_of_bars_keeps_every_crash(model):
    onset = np.zeros((16 * 500, 9), np.float32)
    onset[2::4, 6] = 1
    figure = draw(model, (onset, onset, 0 * onset), overview=True)
    image = figure.axes[0].images[0].get_array()
    assert (image[0, :, 3] > 0).all() and image.shape[1] <= 2000 and not (image[1:, :, 3] > 0).any()
    assert len(words(figure.axes[-1])) == 16  # bars with a number


def overlapping(boxes, others):
    """Pairs of indices of boxes (left, bottom, right, top) that share more than an edge of a pixel."""
    apart = (boxes[:, None, :2] >= others[None, :, 2:] - 1) | (others[None, :, :2] >= boxes[:, None, 2:] - 1)
    return np.argwhere(~apart.any(-1))


@pytest.mark.parametrize("bars", [1, 5])
def test_no_text_of_a_picture_is_written_over_another_or_over_a_hit(model, bars, monkeypatch):
    monkeypatch.setattr(plots, "BARS_IN_LINE", 2)
    onset = np.ones((16 * bars, 9), np.float32)
    voices = dict.fromkeys(
        ("kick", "snare", "closed_hat", "floor_tom", "open_hat", "mid_tom", "crash", "high_tom"), 11.25
    )
    asked = ask(bars, hits_per_bar=62.5, velocity=101.5, voices=voices, forbid="ride", style="middleeastern")
    sections = [("a", bars - bars // 2), ("b", bars // 2)]
    rhythm = taps(*range(0, 16 * bars, 3), length=16 * bars)
    figure = draw(model, (onset, onset, 0 * onset), asked, rhythm, sections=sections)
    figure.canvas.draw()
    assert len(figure.axes) == (4 if bars == 1 else 3 + 2 * 3)
    texts = [
        text
        for axis in figure.axes
        for text in (*axis.texts, *axis.get_xticklabels(), *axis.get_yticklabels())
    ]
    texts += [*figure.texts, *figure.legends[0].texts]  # the title is among them
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    words = [text.get_text() for text in texts if text.get_text()]
    corners = np.array([box.extents for box in boxes])
    assert (corners[:, :2] >= 0).all() and (corners[:, 2:] <= figure.bbox.max).all()
    assert not [(words[one], words[other]) for one, other in overlapping(corners, corners) if one != other]
    roll = figure.axes[1 if bars == 1 else 4]
    hits = np.array([patch.get_window_extent().extents for patch in hits_of(roll)])
    assert not len(overlapping(np.array([text.get_window_extent().extents for text in roll.texts]), hits))
    panels = np.array([axis.get_window_extent().extents for axis in figure.axes])
    for number, axis in enumerate(figure.axes):
        for text in axis.texts:
            assert set(overlapping(text.get_window_extent().extents[None], panels)[:, 1]) <= {number}, text


def test_a_very_long_picture_ends_and_says_so(model, monkeypatch):
    monkeypatch.setattr(plots, "BARS_IN_LINE", 2)
    monkeypatch.setattr(plots, "BARS_IN_DETAIL", 3)
    figure = draw(model, few_hits(5))
    assert figure._suptitle.get_text() == "a title   bars 1 to 3 of 5 in detail"
    bars = [text for axis in figure.axes for text in words(axis) if text.startswith("bar")]
    assert bars == ["bar 1", "bar 2", "bar 3"]
