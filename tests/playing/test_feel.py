"""Whose timing and loudness the drums have: the drummer's, the rhythm's, the grid's; and tempo in it."""

import numpy as np
import pytest
import torch

from inference_bar_control import Jam, generate, humanise, infill, play, vary
from model.bars import BarGrid
from tests.helpers.inference_helpers import build_tiny_model
from tests.helpers.midi_files import midi_bytes, note
from tests.helpers.model_batches import random_batch, small_model
from utils.midi.read import rhythm_roll
from utils.playing import generate as generating
from utils.playing.arguments import parse_arguments, parse_feel
from utils.playing.feel import PACE, Feel, as_shown
from utils.playing.request import Dials

UNSET = [None] * 5  # density, intensity, instrument, style, masks
GRID = BarGrid.four_four_bars(4, 4)
BATCH = random_batch(B=2)
DRUMS = [BATCH[name] for name in ("onset", "vel", "timeoffset")]
RHYTHM = [BATCH[f"rhythm_{name}"][1] for name in ("onset", "vel", "timeoffset")]  # another window's


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture
def shown(monkeypatch):
    """The rhythm that the model is shown: vel, timeoffset."""
    held, sample = {}, generating.sample

    def listen(model, rhythm, *inputs, **more):
        held.update(zip(("onset", "vel", "timeoffset"), rhythm))
        return sample(model, rhythm, *inputs, **more)

    monkeypatch.setattr(generating, "sample", listen)
    return held


def felt(known=None, pace=None, **dials):
    return [roll.numpy() for roll in Feel.of(RHYTHM, Dials(**dials), pace, known, GRID)(DRUMS)]


# ---- once the drums are drawn


def test_as_brought_the_loudest_hit_that_answers_a_tap_is_the_tap_and_the_others_go_with_it():
    onset, vel, timeoffset = felt(timing=1, accents=1)
    answered = (onset > 0).any(-1) & (RHYTHM[0] > 0).any(-1).numpy()
    for got, tap, before in zip(rhythm_roll(onset, vel, timeoffset)[1:], RHYTHM[1:], rhythm_roll(*DRUMS)[1:]):
        assert np.allclose(got[answered].sum(-1), tap.sum(-1).expand(2, -1)[answered], atol=1e-6)
        assert np.array_equal(got[~answered], before[~answered]) and answered.sum() > 50
    inside = (onset > 0) & (np.abs(timeoffset) < 0.49) & (vel > 0.01) & answered[..., None]
    several = inside.sum(-1) == (onset > 0).sum(-1)
    for got, before, apart in ((vel, DRUMS[1], np.log), (timeoffset, DRUMS[2], lambda x: x)):
        steps = several & ((onset > 0).sum(-1) > 1)
        got, before = (apart(np.where(onset > 0, x, 1))[steps] for x in (got, before.numpy()))
        hit = onset[steps] > 0
        moved = np.where(hit, got - before, np.nan)
        assert len(moved) > 10 and np.allclose(
            np.nanmax(moved, 1), np.nanmin(moved, 1), atol=1e-4
        )  # all the same


def test_half_as_brought_is_half_the_way_and_nothing_at_all_is_what_was_drawn():
    one, half = felt(timing=1, accents=1), felt(timing=0.5, accents=0.5)
    loudest = np.where(DRUMS[0] > 0, DRUMS[1], -1).argmax(-1)[..., None]
    for whole, got, drawn in zip(one[1:], half[1:], DRUMS[1:]):
        ends = (np.take_along_axis(x, loudest, -1) for x in (whole, drawn.numpy()))
        assert np.allclose(np.take_along_axis(got, loudest, -1), sum(ends) / 2, atol=1e-6)
    for dials in ({}, {"timing": 0, "accents": 0}):
        assert all(np.array_equal(got, drawn) for got, drawn in zip(felt(**dials), DRUMS))


def test_without_feel_drums_are_on_the_grid_and_even_and_bars_keep_their_loudness():
    _, vel, timeoffset = felt(feel=0)
    onset = DRUMS[0].numpy()
    assert not timeoffset.any()
    bars, played, before = (x.reshape(2, 4, 16, 9) for x in (onset, vel, DRUMS[1].numpy()))
    most = np.where(bars > 0, played, -1).max(2)
    least = np.where(bars > 0, played, 2).min(2)
    assert np.allclose(most[most > 0], least[most > 0], atol=1e-6)
    assert np.allclose(played.sum((2, 3)), before.sum((2, 3)), rtol=1e-5)
    _, vel, timeoffset = felt(feel={"timing": 0.7})
    assert np.array_equal(vel, DRUMS[1]) and np.allclose(timeoffset, 0.7 * DRUMS[2].numpy())


def test_what_is_known_stays_whatever_the_dials(model):
    window = [roll[:1] for roll in DRUMS]
    for job, own in ((infill, {"bars": 1}), (vary, {"strength": 0.3})):
        how = {"rhythm": window, "seed": 1, "model": model, "timing": 0.5, "accents": 0.2, "feel": 0.5}
        plain, turned = (
            job(window, **own, **how | {"timing": None, "accents": None, "feel": 1}),
            job(window, **own, **how),
        )
        stays = (plain[1] == window[1]) & (plain[0] > 0)
        assert torch.equal(turned[1][stays], window[1][stays]) and stays.sum() > 50
        assert torch.equal(turned[2][stays], window[2][stays])
    still = humanise(window, seed=1, model=model, feel=0)
    assert torch.equal(still[0], window[0]) and not still[2].any()


# ---- what the model is shown


def test_drums_are_shown_as_far_as_they_are_to_be_answered_and_hands_as_they_are(model, tiny_config, shown):
    def heard(player=model, **dials):
        generate(*RHYTHM, *UNSET, 64, model=player, seed=1, **dials)
        return shown["vel"][0].sum(-1), shown["timeoffset"][0].sum(-1)

    vel, late = RHYTHM[1].sum(-1), RHYTHM[2].sum(-1)
    for dials in ({}, {"timing": 1, "accents": 1}, {"feel": 0}):
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(heard(**dials), (vel, late)))
    nothing = heard(timing=0, accents=0)
    assert not nothing[0].any() and not nothing[1].any()
    half = heard(timing=0.5, accents=0.5)
    tapped = vel > 0
    assert torch.allclose(half[1], late / 2)
    assert torch.allclose(half[0][tapped], (vel[tapped] + vel[tapped].mean()) / 2)
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = True
    told = small_model(config)
    assert torch.equal(heard(told, timing=0, accents=0.5, rhythm_is="hands")[1], late)
    assert not heard(told, timing=0, rhythm_is="drums")[1].any()
    assert as_shown(RHYTHM, 0, 0, "part") is RHYTHM


def test_hands_are_answered_by_the_drummers_own_timing_unless_it_is_asked(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = True
    told = small_model(config)
    default, own, brought = (
        generate(*RHYTHM, *UNSET, 64, model=told, seed=1, rhythm_is="hands", **dials)
        for dials in ({}, {"timing": 0, "accents": 0}, {"timing": 1, "accents": 1})
    )
    assert all(torch.equal(a, b) for a, b in zip(default, own))
    got = rhythm_roll(*brought)
    both = (got[0] > 0).any(-1)[0] & (RHYTHM[0] > 0).any(-1).numpy()
    assert both.sum() > 5 and np.allclose(got[2][0].sum(-1)[both], RHYTHM[2].sum(-1)[both], atol=1e-6)
    assert torch.equal(default[0], brought[0])


def test_a_jam_has_the_feel_of_generate_and_takes_another_on_the_way(model):
    dials = {"model": model, "seed": 1, "timing": 0.5, "accents": 0.8, "feel": {"velocity": 0.5}}
    whole = generate(*RHYTHM, *UNSET, 64, **dials)
    jam = Jam(*RHYTHM, **dials)
    bars = [next(jam) for _ in range(3)]
    jam.change(feel=0)
    bars.append(next(jam))
    for roll, parts in zip(whole, zip(*bars)):
        assert torch.equal(roll[:, :48], torch.cat(parts, 1)[:, :48])
    assert whole[2][:, 48:].any() and not bars[3][2].any() and torch.equal(bars[3][0], whole[0][:, 48:])


# ---- tempo


def test_where_no_tempo_is_heard_drums_are_tighter_in_steps_the_slower_they_are(model, tmp_path):
    def offsets(late=0, channel=0, tempo=None, **how):
        file = tmp_path / "a.mid"
        places = [480 * quarter + late * (quarter % 2) for quarter in range(8)]
        file.write_bytes(midi_bytes([event for tick in places for event in note(tick, 36, channel=channel)]))
        take = play(*() if "bars" in how else (file,), model=model, seed=1, tempo=tempo, **how)
        return take.time[take.onset > 0]

    for how in ({}, {"bars": 2}, {"late": 30, "timing": 0}):
        usual, slow = offsets(**how, tempo=120), offsets(**how, tempo=60)
        assert usual.std() > 0.1 and torch.allclose(slow, 0.5**PACE * usual)
        assert torch.equal(usual, offsets(**how))  # also where nothing says how fast it is
    for how in ({"late": 30}, {"channel": 9}, {"job": "humanise"}):
        assert torch.equal(offsets(**how), offsets(**how, tempo=60))


# ---- how it is said


def test_flags_and_the_receipt(model):
    words = "--rhythm a.mid --timing 0 --accents .5 --stops --count-in --feel timing=.5 velocity=.8".split()
    given = parse_arguments(words)
    assert (given.timing, given.accents, given.stops, given.count_in) == (0, 0.5, True, True)
    assert parse_feel(given.feel) == {"timing": 0.5, "velocity": 0.8} and parse_feel(["0.7"]) == 0.7
    take = play(bars=1, model=model, seed=1, timing=0, feel={"timing": 0.5}, stops=True)
    assert "timing 0, feel timing 0.5, stops True" in take.receipt.table()
    off = play(bars=1, model=model, seed=1, feel=1).receipt.table()
    assert not any(f", {name}" in off for name in ("timing", "accents", "feel", "stops"))


@pytest.mark.parametrize(
    "dials, says",
    [
        ({"timing": 1.5}, "timing: 1.5; it must be a number from 0, the drummer's, to 1, the rhythm's"),
        ({"accents": "loud"}, "accents: 'loud'"),
        ({"feel": 2}, "feel: 2; it must be a number from 0, on the grid and even, to 1, as played"),
        ({"feel": {"swing": 1}}, "feel: 'swing'; it is of timing and velocity"),
        ({"feel": {"timing": -1}}, "feel: timing: -1"),
        ({"stops": "yes"}, "stops: 'yes'; it must be True or False"),
    ],
)
def test_wrong_dials(dials, says):
    with pytest.raises(ValueError, match=says):
        Dials(**dials)
    if "feel" in dials:
        with pytest.raises(ValueError, match="feel: 'tight'; it must be a number from 0 to 1, or read"):
            parse_feel(["tight"])
