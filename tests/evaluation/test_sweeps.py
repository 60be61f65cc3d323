"""Sweeps: what is asked of each bar, that it can be had, and what is made of the answers."""

import numpy as np
import pytest
import torch

from data_aug import unset_controls
from tests.helpers.model_batches import FACTOR, random_batch, small_model
from utils.evaluation import style_classifier
from utils.evaluation.controls import (
    along,
    attributes,
    control_figures,
    correlation,
    curve,
    falls,
    moments,
    style_figures,
    sweep_figures,
    sweep_sums,
)
from utils.evaluation.likeness import spearman
from utils.evaluation.markdown import markdown
from utils.evaluation.player import Player, Windows
from utils.evaluation.style_classifier import StyleClassifier
from utils.evaluation.sweeps import (
    SWEPT,
    ask,
    joined,
    modes_of,
    own_bars,
    play_sweeps,
    ranges,
    scaled_mix,
    targets,
)
from utils.midi.drums import STYLE_NONE, VOICES
from utils.playing.controls import Bars

KICK, SNARE, RIDE = (VOICES.index(name) for name in ("kick", "snare", "ride"))


def bars(*voices, velocity=60.0, style=3):
    """Bars of these hits per voice, as {voice: hits} each."""
    counts = np.zeros((len(voices), 9))
    for row, hits in zip(counts, voices):
        for voice, number in hits.items():
            row[voice] = number
    hits = counts.sum(1)
    velocity = np.where(hits > 0, velocity, np.nan)
    return Bars(density=hits, intensity=velocity, instrument=counts, style=np.full(len(voices), style))


# ------------------------------------------------------------------------- what is asked


def test_ranges_leave_out_two_per_cent_at_each_end():
    real = bars(*({KICK: hits} for hits in range(101)))
    real["intensity"] = np.linspace(20, 120, 101)
    covered = ranges(real)
    assert covered["density"] == covered["kick"] == (2, 98) and covered["intensity"] == pytest.approx(
        (22, 118)
    )
    assert covered["crash"] == (0, 1)  # never played, asked for all the same


def test_targets_are_even_over_the_range_and_the_same_every_time():
    covered = {name: (2.0, 5.0) for name in SWEPT[:-1]}
    drawn = targets(covered, np.array([3, 7]), 4000)
    assert set(drawn) == set(SWEPT)
    for name in ("density", "snare"):
        values, counts = np.unique(drawn[name], return_counts=True)
        assert values.tolist() == [2, 3, 4, 5] and counts.min() > 900
    assert drawn["intensity"].min() < 2.01 and drawn["intensity"].max() > 4.99
    assert not np.array_equal(drawn["kick"], drawn["snare"])
    assert (drawn["style"].reshape(-1, 4) == drawn["style"][::4, None]).all()  # for four bars each
    assert np.unique(drawn["style"], return_counts=True)[1].tolist() == [2000, 2000]
    again = targets(covered, np.array([3, 7]), 4000)
    assert all(np.array_equal(drawn[name], again[name]) for name in SWEPT)
    assert "style" not in targets(covered, np.array([]), 8)


def test_alone_a_control_is_all_that_is_asked():
    own = bars({KICK: 4, SNARE: 2}, {RIDE: 8})
    for control in SWEPT:
        asked = ask(control, "unset", np.array([5.0, 6.0]), own)
        given = [
            ~np.isnan(asked["density"]),
            ~np.isnan(asked["intensity"]),
            ~np.isnan(asked["instrument"]),
            asked["style"] != STYLE_NONE,
        ]
        assert sum(part.sum() for part in given) == 2, control
    assert ask("kick", "unset", np.array([5.0, 6.0]), own)["instrument"][:, KICK].tolist() == [5, 6]


def test_held_the_others_are_the_bars_own_and_nothing_contradicts():
    own = bars({KICK: 4, SNARE: 2}, {RIDE: 8})
    target = np.array([3.0, 6.0])
    louder = ask("intensity", "held", target, own)
    assert louder["intensity"] is target
    assert np.array_equal(louder["instrument"], own["instrument"]) and np.array_equal(
        louder["density"], own["density"]
    )
    snare = ask("snare", "held", target, own)
    assert snare["instrument"][:, SNARE].tolist() == [3, 6] and snare["density"].tolist() == [7, 14]
    assert np.array_equal(snare["density"], snare["instrument"].sum(1)) and np.array_equal(
        snare["intensity"], own["intensity"]
    )
    dense = ask("density", "held", target, own)
    assert (
        dense["instrument"][:, [KICK, SNARE, RIDE]].tolist() == [[2, 1, 0], [0, 0, 6]]
        and dense["density"] is target
    )
    free = ask("density", "held, mix unset", target, own)
    assert (
        np.isnan(free["instrument"]).all()
        and np.array_equal(free["style"], own["style"])
        and free["density"] is target
    )
    style = ask("style", "held", np.array([1, 2]), own)
    assert style["style"].tolist() == [1, 2] and np.array_equal(style["density"], own["density"])
    assert own["instrument"][0, SNARE] == 2 and own["density"].tolist() == [6, 8]  # untouched


def test_a_mix_is_scaled_in_whole_hits():
    mix = np.zeros((5, 9))
    mix[0, :3] = 4, 2, 1
    mix[1, :2] = 14, 6  # thirty hits: 21 and 9, but a voice has sixteen steps
    mix[2, 0] = 3  # twenty hits of one voice
    mix[4, :3] = 1, 1, 1
    scaled = scaled_mix(mix, np.array([10, 30, 20, 8, 7.0]))
    assert scaled[0, :3].tolist() == [6, 3, 1]  # 5.7, 2.9, 1.4
    assert scaled[1, :2].tolist() == [16, 14]
    assert np.isnan(scaled[2]).all() and np.isnan(scaled[3]).all()  # no room, and no mix
    assert scaled[4].sum() == 7 and scaled[4, 3:].sum() == 0


def test_windows_are_joined_in_their_order():
    batch = {"mask": torch.ones(5, 4, dtype=torch.bool), "onset": torch.arange(60).view(5, 4, 3)}
    two = joined(batch, 2)
    assert two["mask"].shape == (2, 8) and torch.equal(
        two["onset"].reshape(16, 3), torch.arange(48).view(16, 3)
    )


def test_the_model_is_told_what_is_asked(tiny_config, monkeypatch):
    batch = random_batch(B=5, T=64) | {"style": torch.full((5, 64), 6)}
    windows, model = Windows("random", batch, np.arange(5), np.full(5, 100.0)), small_model(tiny_config)
    own = own_bars(windows, 16)
    np.testing.assert_allclose(own["density"][4], batch["onset"][1, :16].sum())
    assert (own["style"] == 6).all() and own.n_bars == 20
    heard = {}

    def listen(player, batch, samples, title):
        heard.update(batch)
        rows = np.arange(len(batch["onset"]), dtype=np.float32)[None, :, None, None]
        return [np.broadcast_to(rows, (1, *batch["onset"].shape))] * 3

    monkeypatch.setattr(Player, "play", listen)
    drawn = targets(ranges(own), np.array([2, 9]), 20)
    played = play_sweeps(Player(model, 1, 0), windows, own, drawn, 8)
    sweeps = list(played)
    assert sweeps == [(control, mode) for control in SWEPT for mode in modes_of(control)]
    assert played["kick", "held"][0].shape == (2, 128, 9)
    for index, rolls in enumerate(played.values()):
        assert [roll[:, 0, 0].tolist() for roll in rolls] == [[2 * index, 2 * index + 1]] * 3
    for name, tensor in heard.items():
        assert tensor.shape[:2] == (2 * len(sweeps), 128), name
    rows = sweeps.index(("density", "unset")) * 2 + np.arange(2)
    mean, deviation = FACTOR["density"]
    hits = (heard["density"][rows] * deviation + mean) * 144
    np.testing.assert_allclose(hits[:, ::16].ravel(), drawn["density"][:16], rtol=1e-4)
    assert heard["intensity"][rows].isnan().all() and (heard["style"][rows] == STYLE_NONE).all()
    rows = sweeps.index(("kick", "held")) * 2 + np.arange(2)
    np.testing.assert_allclose(
        heard["instrument"][rows][:, ::16, KICK].ravel() * 16, drawn["kick"][:16], rtol=1e-5
    )
    assert (heard["style"][rows] == 6).all()
    assert torch.equal(heard["rhythm_onset"][rows], joined(unset_controls(batch), 2)["rhythm_onset"])


# ------------------------------------------------------------------------- what is made of it


def test_summed_moments_give_spearmans_correlation():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, 200).astype(float)
    b = a + rng.normal(0, 3, 200)
    b[rng.random(200) < 0.1] = np.nan
    there = ~np.isnan(b)
    parts = np.stack([moments(a, b)[rows].sum(0) for rows in np.array_split(np.arange(200), 7)])
    assert correlation(parts.sum(0)) == pytest.approx(spearman(a[there], b[there]))
    linear = correlation(moments(a, b, ranked=False).sum(0))
    assert linear == pytest.approx(np.corrcoef(a[there], b[there])[0, 1]) and linear != correlation(
        moments(a, b).sum(0)
    )
    assert correlation(moments(a, np.ones(200)).sum(0)) == 0
    assert correlation(moments(a, np.full(200, np.nan)).sum(0)) == 0


def test_other_attributes_are_those_that_the_control_leaves_free():
    got = bars({KICK: 4, SNARE: 2}, {RIDE: 8}, {})
    own, others = attributes("density", got)
    assert own.tolist() == [6, 8, 0] and others.shape == (3, 10)
    assert (
        others[0, 1 + KICK] == pytest.approx(4 / 6) and others[1, 1 + RIDE] == 1 and np.isnan(others[2]).all()
    )
    own, others = attributes("intensity", got)
    assert np.isnan(own[2]) and others[:, 0].tolist() == [6, 8, 0] and others.shape == (3, 10)
    own, others = attributes("snare", got)
    assert (
        own.tolist() == [2, 0, 0] and others.shape == (3, 9) and others[0, 1:].sum() == 4
    )  # without the snare itself


def test_figures_of_an_obedient_drummer_and_of_one_that_is_not():
    rng = np.random.default_rng(3)
    asked, place = rng.integers(0, 9, 400).astype(float), np.repeat(np.arange(20), 20)
    others = np.column_stack([asked + rng.normal(0, 1e-3, 400), rng.normal(size=400)])
    figures = sweep_figures([sweep_sums(asked, asked + 1, others, None, place)], 400)
    assert figures["spearman"]["value"] == pytest.approx(1) and figures["error"]["value"] == pytest.approx(1)
    assert figures["cross"]["value"] == pytest.approx(0.5, abs=0.06)
    deaf = sweep_figures([sweep_sums(asked, rng.normal(size=400), others[:, 1:], None, place)], 400)
    assert abs(deaf["spearman"]["value"]) < 0.15 and deaf["spearman"]["low"] < 0 < deaf["spearman"]["high"]
    assert deaf["cross"]["value"] < 4 * deaf["chance"] == pytest.approx(4 * 0.0399, abs=1e-3)
    both = [sweep_sums(asked, got, others, None, place) for got in (asked, -asked)]
    assert sweep_figures(both, 400)["spearman"]["value"] == pytest.approx(0)
    assert "obeyed" not in deaf
    leaky = sweep_figures([sweep_sums(asked, asked, others**3, others[:, 1:], place)], 400)
    assert leaky["obeyed"]["value"] == pytest.approx(deaf["cross"]["value"])
    assert leaky["cross"]["value"] == pytest.approx(figures["cross"]["value"])  # ranks don't see a power
    assert leaky["linear cross"]["value"] < leaky["cross"]["value"]


def test_a_fall_is_from_the_short_to_the_long():
    asked, place = np.arange(40.0), np.repeat(np.arange(4), 10)
    others = np.zeros((40, 1))
    obeyed, not_obeyed = (sweep_sums(asked, got, others, None, place) for got in (asked, -asked))
    short, long = (
        {(control, mode): sums for control in SWEPT for mode in modes_of(control)}
        for sums in (obeyed, not_obeyed)
    )
    figures = falls(short, long)
    assert set(figures) == {"density", "intensity", "instrument"} and set(figures["instrument"]) == {
        "unset",
        "held",
    }
    assert all(of["value"] == pytest.approx(2) for modes in figures.values() for of in modes.values())
    long["snare", "held"] = obeyed
    assert falls(short, long)["instrument"]["held"]["value"] == pytest.approx(2 * 8 / 9)


def test_obedience_is_told_apart_along_the_window():
    rng = np.random.default_rng(0)
    asked = rng.permutation(480).astype(float)
    got = np.where(np.arange(480) % 96 < 72, asked, -asked)  # from bar 73 on the contrary
    got[:24] = np.nan
    figures = along(asked, got, np.repeat(np.arange(5), 96), 96)
    assert {part: round(of["value"], 6) for part, of in figures.items()} == {
        "1-24": 1,
        "25-48": 1,
        "49-72": 1,
        "73-96": -1,
    }


def test_chance_is_what_independent_values_correlate():
    rng = np.random.default_rng(0)
    asked, others = rng.integers(0, 9, 500).astype(float), rng.normal(size=(500, 200))
    figures = sweep_figures([sweep_sums(asked, asked, others, None, np.repeat(np.arange(50), 10))], 500)
    assert figures["cross"]["value"] == pytest.approx(figures["chance"], rel=0.15)


def test_curves_are_by_value_or_by_bin():
    asked, got = np.array([0, 0, 1, 1, 1.0]), np.array([0, 1, 1, 1, np.nan])
    assert [(point["asked"], point["mean"]) for point in curve(asked, got)] == [(0, 0.5), (1, 1)]
    many = curve(np.linspace(0, 80, 800), np.linspace(0, 40, 800))
    assert len(many) == 8
    assert many[0]["asked"] == pytest.approx(5, abs=0.1) and many[-1]["mean"] == pytest.approx(37.5, abs=0.1)


def test_agreement_leaves_out_bars_without_a_style():
    asked, heard = np.array([0, 0, 1, STYLE_NONE]), np.array([0, 1, 1, STYLE_NONE])
    figures = style_figures(asked, heard, np.arange(4))
    assert figures["agreement"]["value"] == pytest.approx(2 / 3)
    assert {name: of["value"] for name, of in figures["by style"].items()} == {"reggae": 0.5, "gospel": 1}


def test_the_classifier_hears_what_tells_two_styles_apart(monkeypatch):
    monkeypatch.setattr(style_classifier, "STEPS", 60)
    rng = np.random.default_rng(0)
    onset = (rng.random((60, 32, 9)) < 0.1).astype(np.float32)
    style = np.repeat([2, 11], [50, 10])
    onset[style == 11, ::4, RIDE] = 1
    rolls = [onset, onset * 0.5, onset * 0]
    before = torch.get_rng_state()
    classifier = StyleClassifier(rolls, style, 16)
    assert torch.equal(before, torch.get_rng_state()) and classifier.styles.tolist() == [2, 11]
    assert (classifier(rolls) == np.repeat(style, 2)).mean() > 0.95
    assert np.array_equal(classifier(rolls), StyleClassifier(rolls, style, 16)(rolls))


def test_a_rare_style_counts_as_much_as_a_common_one(monkeypatch):
    monkeypatch.setattr(style_classifier, "STEPS", 60)
    onset, style = np.zeros((60, 16, 9), np.float32), np.repeat([2, 11], [50, 10])
    onset[30:, ::4, RIDE] = (
        1  # all of the rare style, and twice as many windows of the other, which mostly does without
    )
    rolls = [onset, onset * 0.5, onset * 0]
    assert StyleClassifier(rolls, style, 16)(rolls).tolist() == [2] * 30 + [11] * 30


def test_all_lengths_that_the_windows_give(tiny_config, monkeypatch):
    monkeypatch.setattr(style_classifier, "STEPS", 2)
    windows = Windows("random", random_batch(B=5, T=64), np.array([0, 0, 1, 1, 2]), np.full(5, 100.0))
    figures = control_figures(Player(small_model(tiny_config), 1, 0), windows, windows)
    assert set(figures["bars"]) == {"4", "16"} and set(figures["falls"]) == {"16"}
    assert set(figures["song"]) == {"16"} and set(figures["song"]["16"]) == {"density", "intensity"}
    assert list(figures["song"]["16"]["density"]) == ["1-4", "5-8", "9-12", "13-16"]
    table = markdown({"controls": figures, "goals": []})
    assert (
        "| Spearman ρ along 16 bars, others unset | bars 1-4 |" in table
        and table.count("| intensity | ") == 3
    )
    assert "along" not in markdown({"controls": figures | {"song": {}}, "goals": []})
    of_density = figures["bars"]["4"]["density"]
    assert "obeyed" not in of_density["held, mix unset"]
    own = own_bars(windows, 16)
    drawn = targets(ranges(own), np.array([]), 20)["density"]
    mix = scaled_mix(own["instrument"], drawn)
    wished = [
        spearman(drawn, own["intensity"]),
        *(spearman(drawn, voice) for voice in (mix / drawn[:, None]).T),
    ]
    assert of_density["held"]["obeyed"]["value"] == pytest.approx(np.abs(wished).mean())
    for bars_of in figures["bars"].values():
        means = [bars_of[voice]["held"]["spearman"]["value"] for voice in VOICES]
        assert bars_of["instrument"]["held"]["spearman"]["value"] == pytest.approx(np.mean(means))
    four, sixteen = (
        figures["bars"][length]["intensity"]["unset"]["spearman"]["value"] for length in ("4", "16")
    )
    assert four != sixteen
