"""Sweeps: what is asked of each bar, that it can be had, and what is made of the answers."""

import numpy as np
import pytest
import torch

from data_aug import unset_controls
from model.bars import BarGrid
from model.controls import UNSET_STYLE
from tests.helpers.evaluation_windows import KICK, RIDE, SNARE, figures, values, windows_in
from tests.helpers.model_batches import FACTOR, random_batch, small_model
from utils.evaluation import style_classifier
from utils.evaluation.controls import (
    attributes,
    correlation,
    curve,
    measure,
    moments,
    ranks,
    style_rows,
    sums_of,
    together,
)
from utils.evaluation.parts import OBEDIENCE, STYLE
from utils.evaluation.player import Player
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
from utils.midi.drums import VOICES
from utils.playing.controls import Bars

BAR = BarGrid.four_four(16, 4)


def bars(*voices, velocity=60.0, style=3):
    """Bars of these hits per voice, as {voice: hits} each."""
    counts = np.zeros((len(voices), 9), np.float32)
    for row, hits in zip(counts, voices):
        for voice, number in hits.items():
            row[voice] = number
    hits = counts.sum(1)
    loudness = np.where(hits > 0, velocity, np.nan)
    steady, styles = np.full(len(voices), 50.0), np.full(len(voices), style)
    return Bars(density=hits, intensity=loudness, instrument=counts, style=styles, steady=steady)


def spearman(a, b):
    """Rank correlation of two arrays without the sums."""
    return np.corrcoef(ranks(np.asarray(a)), ranks(np.asarray(b)))[0, 1]


def obedience(*sweeps, name="rho"):
    """One value of OBEDIENCE of the mean of (asked, got, ...) as sums_of takes them."""
    return values(OBEDIENCE, together([sums_of(*sweep) for sweep in sweeps]))[name]


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
    covered = {name: (2.0, 5.0) for name in SWEPT if name != "style"}
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
    own, target = bars({KICK: 4, SNARE: 2}, {RIDE: 8}), np.array([5.0, 6.0])
    for name in SWEPT:
        asked = ask(name, "unset", target, own, 16)
        given = [~np.isnan(asked[of]) for of in ("density", "intensity", "instrument", "steady")]
        assert sum(part.sum() for part in (*given, asked["style"] != UNSET_STYLE)) == 2, name
    assert ask("kick", "unset", target, own, 16)["instrument"][:, KICK].tolist() == [5, 6]


def test_held_the_others_are_the_bars_own_and_nothing_contradicts():
    own, target = bars({KICK: 4, SNARE: 2}, {RIDE: 8}), np.array([3.0, 6.0])

    def held(sweep, mode="held"):
        return ask(sweep, mode, target, own, 16)

    def same(asked, *names):
        return all(np.array_equal(asked[name], own[name]) for name in names)

    assert held("intensity")["intensity"] is target and same(
        held("intensity"), "density", "instrument", "style"
    )
    snare = held("snare")
    assert snare["instrument"][:, SNARE].tolist() == [3, 6] and snare["density"].tolist() == [7, 14]
    assert np.array_equal(snare["density"], snare["instrument"].sum(1)) and same(snare, "intensity", "style")
    dense = held("density")
    assert dense["instrument"][:, [KICK, SNARE, RIDE]].tolist() == [[2, 1, 0], [0, 0, 6]]
    assert dense["density"] is target and same(dense, "intensity", "style")
    free = held("density", "held, mix unset")
    assert (
        np.isnan(free["instrument"]).all() and free["density"] is target and same(free, "intensity", "style")
    )
    assert held("style")["style"] is target and same(held("style"), "density", "intensity", "instrument")
    assert own["instrument"][0, SNARE] == 2 and own["density"].tolist() == [6, 8]  # untouched


def test_a_mix_is_scaled_in_whole_hits():
    mix = np.zeros((5, 9))
    mix[0, :3] = 4, 2, 1
    mix[1, :2] = 14, 6  # thirty hits: 21 and 9, but a voice has sixteen steps
    mix[2, 0] = 3  # twenty hits of one voice
    mix[4, :3] = 1, 1, 1
    scaled = scaled_mix(mix, np.array([10, 30, 20, 8, 7.0]), 16)
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
    windows, model = windows_in(batch), small_model(tiny_config)
    own = own_bars(windows)
    np.testing.assert_allclose(own["density"][4], batch["onset"][1, :16].sum())
    assert (own["style"] == 6).all() and len(own["style"]) == 20
    heard, before = {}, 0

    def listen(player, batch, samples, title, guidance):
        nonlocal before
        for name, tensor in batch.items():
            heard[name] = torch.cat((heard[name], tensor)) if before else tensor
        assert (guidance is None) == (not before)  # steady, which is last, has its own
        before += len(batch["onset"])
        rows = (
            before
            - len(batch["onset"])
            + np.arange(len(batch["onset"]), dtype=np.float32)[None, :, None, None]
        )
        return [np.broadcast_to(rows, (1, *batch["onset"].shape))] * 3

    monkeypatch.setattr(Player, "play", listen)
    drawn = targets(ranges(own), np.array([2, 9]), 20)
    played, grid = play_sweeps(Player(model, 1, 0), windows, own, drawn, 8)
    assert (grid.n_bars, grid.n_steps) == (8, 128)
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
    assert heard["intensity"][rows].isnan().all() and (heard["style"][rows] == UNSET_STYLE).all()
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
    assert others[0, 1 + KICK] == pytest.approx(4 / 6) and others[1, 1 + RIDE] == 1
    assert np.isnan(others[2]).all()
    own, others = attributes("intensity", got)
    assert np.isnan(own[2]) and others[:, 0].tolist() == [6, 8, 0] and others.shape == (3, 10)
    own, others = attributes("snare", got)
    assert own.tolist() == [2, 0, 0] and others.shape == (3, 9)
    assert others[0, 0] == 60 and others[0, 1:].sum() == 4  # velocity and voices, without the snare itself


def test_figures_of_an_obedient_drummer_and_of_one_that_is_not():
    rng = np.random.default_rng(3)
    asked, place = rng.integers(0, 9, 400).astype(float), np.repeat(np.arange(20), 20)
    others = np.column_stack([asked + rng.normal(0, 1e-3, 400), rng.normal(size=400)])
    obedient = values(OBEDIENCE, sums_of(asked, asked + 1, place, cross=others))
    assert obedient["rho"] == pytest.approx(1) and obedient["mean error"] == pytest.approx(1)
    assert obedient["cross"] == pytest.approx(0.5, abs=0.06)
    deaf = figures(OBEDIENCE, sums_of(asked, rng.normal(size=400), place, cross=others[:, 1:]))
    assert abs(deaf["rho"]["value"]) < 0.15 and deaf["rho"]["low"] < 0 < deaf["rho"]["high"]
    chance, cross = deaf["cross by chance"]["value"], deaf["cross"]["value"]
    assert cross < 4 * chance == pytest.approx(4 * 0.0399, abs=1e-3) and "obeyed" not in deaf
    assert obedience((asked, asked, place), (asked, -asked, place)) == pytest.approx(0)
    leaky = values(OBEDIENCE, sums_of(asked, asked, place, cross=others**3, obeyed=others[:, 1:]))
    assert leaky["obeyed"] == pytest.approx(cross)
    assert leaky["cross"] == pytest.approx(obedient["cross"])  # ranks don't see a power
    assert leaky["linear cross"] < leaky["cross"]


def test_a_fall_is_from_the_short_to_the_long():
    asked, place = np.arange(40.0), np.repeat(np.arange(4), 10)
    obeyed, contrary = (sums_of(asked, got, place) for got in (asked, -asked))
    assert values(OBEDIENCE, contrary | {"fall": (obeyed["rho"], contrary["rho"])})[
        "fall of rho"
    ] == pytest.approx(2)
    short, long = together([obeyed] * 9), together([contrary] * 8 + [obeyed])
    assert values(OBEDIENCE, {"fall": (short["rho"], long["rho"])})["fall of rho"] == pytest.approx(2 * 8 / 9)


def test_obedience_is_told_apart_along_the_window():
    rng = np.random.default_rng(0)
    asked = rng.permutation(480).astype(float)
    got = np.where(np.arange(480) % 96 < 72, asked, -asked)  # from bar 73 on the contrary
    got[:24] = np.nan
    of = values(OBEDIENCE, sums_of(asked, got, np.repeat(np.arange(5), 96), 96))
    assert [of[f"rho, {part} quarter"] for part in ("first", "second", "third", "last")] == pytest.approx(
        [1, 1, 1, -1]
    )


def test_chance_is_what_independent_values_correlate():
    rng = np.random.default_rng(0)
    asked, others = rng.integers(0, 9, 500).astype(float), rng.normal(size=(500, 200))
    of = values(OBEDIENCE, sums_of(asked, asked, np.repeat(np.arange(50), 10), cross=others))
    assert of["cross"] == pytest.approx(of["cross by chance"], rel=0.15)


def test_curves_are_by_value_or_by_bin():
    asked, got = np.array([0, 0, 1, 1, 1.0]), np.array([0, 1, 1, 1, np.nan])
    assert [(point["asked"], point["mean"]) for point in curve(asked, got)] == [(0, 0.5), (1, 1)]
    many = curve(np.linspace(0, 80, 800), np.linspace(0, 40, 800))
    assert len(many) == 8
    assert many[0]["asked"] == pytest.approx(5, abs=0.1) and many[-1]["mean"] == pytest.approx(37.5, abs=0.1)


def test_agreement_leaves_out_bars_without_a_style():
    asked, heard = np.array([0, 0, 1, UNSET_STYLE]), np.array([0, 1, 1, UNSET_STYLE])
    scores = STYLE.score(style_rows({"real bars": (asked, heard, np.arange(4))}))
    agreement = {row: of["real bars"]["value"] for row, of in scores.items()}
    assert agreement == pytest.approx({"all styles": 2 / 3, "reggae": 0.5, "gospel": 1})


def test_the_classifier_hears_what_tells_two_styles_apart(monkeypatch):
    monkeypatch.setattr(style_classifier, "STEPS", 60)
    rng = np.random.default_rng(0)
    onset = (rng.random((60, 32, 9)) < 0.1).astype(np.float32)
    style = np.repeat([2, 11], [50, 10])
    onset[style == 11, ::4, RIDE] = 1
    rolls = [onset, onset * 0.5, onset * 0]
    before = torch.get_rng_state()
    two_bars = BarGrid.four_four(32, 4)
    classifier = StyleClassifier(rolls, style, two_bars)
    assert torch.equal(before, torch.get_rng_state()) and classifier.styles.tolist() == [2, 11]
    assert (classifier(rolls, two_bars) == np.repeat(style, 2)).mean() > 0.95
    assert np.array_equal(
        classifier(rolls, two_bars), StyleClassifier(rolls, style, two_bars)(rolls, two_bars)
    )


def test_a_rare_style_counts_as_much_as_a_common_one(monkeypatch):
    monkeypatch.setattr(style_classifier, "STEPS", 60)
    onset, style = np.zeros((60, 16, 9), np.float32), np.repeat([2, 11], [50, 10])
    onset[30:, ::4, RIDE] = (
        1  # all of the rare style, and twice as many windows of the other, which mostly does without
    )
    rolls = [onset, onset * 0.5, onset * 0]
    assert StyleClassifier(rolls, style, BAR)(rolls, BAR).tolist() == [2] * 30 + [11] * 30


def test_all_lengths_that_the_windows_give(tiny_config, monkeypatch):
    monkeypatch.setattr(style_classifier, "STEPS", 2)
    windows = windows_in(random_batch(B=5, T=64), [0, 0, 1, 1, 2])
    measured = measure(Player(small_model(tiny_config), 1, 0), lambda name, split=None: windows)
    bars = {length: OBEDIENCE.score(rows) for length, rows in measured["bars"].items()}
    assert set(bars) == {"4 bars", "16 bars"} == set(measured["style"])
    for name in ("fall of rho", "rho, first quarter", "rho, last quarter"):
        assert all(name in of for of in bars["16 bars"].values()) and not any(
            name in of for of in bars["4 bars"].values()
        )
    held = bars["4 bars"]["density, others held"]
    assert "obeyed" not in bars["4 bars"]["density, others held, mix unset"]
    own = own_bars(windows)
    drawn = targets(ranges(own), np.array([]), 20)["density"]
    mix = scaled_mix(own["instrument"], drawn, 16)
    wished = [
        spearman(drawn, own["intensity"]),
        *(spearman(drawn, voice) for voice in (mix / drawn[:, None]).T),
    ]
    assert held["obeyed"]["value"] == pytest.approx(np.abs(wished).mean())
    assert (held["from"]["value"], held["to"]["value"]) == ranges(own)["density"]
    for of in bars.values():
        mean = np.mean([of[f"{voice}, others held"]["rho"]["value"] for voice in VOICES])
        assert of["instrument, others held"]["rho"]["value"] == pytest.approx(mean)
    four, sixteen = (
        bars[length]["intensity, others unset"]["rho"]["value"] for length in ("4 bars", "16 bars")
    )
    assert four != sixteen
    fall = bars["16 bars"]["intensity, others unset"]["fall of rho"]["value"]
    assert fall == pytest.approx(four - sixteen)
