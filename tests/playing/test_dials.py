"""The dials: guidance for each control, how far the tap is followed, blends of styles. What costs nothing
costs nothing, and each end of a dial is what it was without the dial."""

import math
import random

import pytest
import torch

from data_aug import unset_controls
from inference_bar_control import Jam, generate
from inference_bar_control import play as play_take
from model.controls import CONTROLS, controls_of
from model.decoding.cpu_steps import CpuDecoding
from model.decoding.guide import Guide, View
from model.decoding.sampling import build_conditioning, encode_rhythm, sample
from tests.helpers.inference_helpers import bars_of, build_tiny_model
from tests.helpers.model_batches import (
    hidden_states,
    random_batch,
    record_steps,
    sampling_inputs,
    small_model,
)
from utils.midi.drums import STYLES
from utils.playing.request import GUIDANCE, STEADIER, Dials, strengths_of

UNSET = [None] * 5  # density, intensity, instrument, style, masks

REQUIRED = [name for name, control in CONTROLS.items() if not control.optional]


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config)


@pytest.fixture(scope="module")
def player(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture
def rows(monkeypatch):
    """How many rows each bar of the decoder had."""
    counted, run_bar = [], CpuDecoding.run_bar
    monkeypatch.setattr(
        CpuDecoding, "run_bar", lambda self, *a: counted.append(len(self.x)) or run_bar(self, *a)
    )
    return counted


def play(model, batch, **dials):
    return sample(model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(1), **dials)


def only(*names):
    """A batch of a bar that asks for these controls alone."""
    batch = random_batch(T=16)
    return unset_controls(batch) | {name: batch[name] for name in names}


# ---- guidance


def test_weights_add_up_to_one_and_no_view_comes_twice():
    for seed in range(200):
        chance = random.Random(seed)
        strength = {name: chance.choice([0, 0.5, 1, 1.5, 3, 1.5]) for name in CONTROLS}
        given = [name for name in CONTROLS if chance.random() < 0.7]
        guide = Guide(strength, chance.choice([0, 0.3, 1, 1.7]), given)
        assert math.isclose(sum(guide.weights.values()), 1) and 0 not in guide.weights.values()
        assert all(view.without <= set(given) for view in guide.views)


def test_one_strength_for_all_is_the_plain_guidance_between_all_and_none():
    guide = Guide(1.5)
    assert guide.weights == {View(frozenset(), True): 1.5, View(frozenset(CONTROLS), True): -0.5}
    assert (
        Guide(dict.fromkeys(CONTROLS, 1.5)) == guide
        and hash(Guide(1.5)) == hash(guide)
        and guide != Guide(2.0)
    )
    known = CONTROLS.keys() - {"steady"}
    assert Guide(Dials(guidance={"style": 2.0}).strengths, given=known).weights == pytest.approx(
        {
            View(frozenset(), True): 2.0,
            View(frozenset(["style"]), True): GUIDANCE - 2.0,
            View(frozenset(known), True): 1.0 - GUIDANCE,
        }
    )


def test_steady_has_more_strength_where_one_number_is_for_all():
    usual = dict.fromkeys(CONTROLS, GUIDANCE)
    assert Dials().strengths == usual | {"steady": STEADIER * GUIDANCE} == strengths_of(GUIDANCE)
    assert Dials(guidance=1.0).strengths == dict.fromkeys(CONTROLS, 1.0)  # as trained
    assert Dials(guidance={"steady": 2}).strengths == usual | {"steady": 2}


def test_strengths_of_their_own_count_each_control_given_the_weaker_ones():
    guide = Guide({"density": 2.0, "intensity": 1.0, "instrument": 1.0, "style": 3.0})
    all_told, no_style, neither = (
        View(frozenset(), True),
        View(frozenset(["style"]), True),
        View(frozenset(["style", "density"]), True),
    )
    assert guide.weights == {all_told: 3.0, no_style: -1.0, neither: -1.0}
    logits = torch.tensor([[5.0], [3.0], [2.0]])  # in the order of the views
    assert guide.blend(logits).item() == 2.0 + 2.0 * (3.0 - 2.0) + 3.0 * (5.0 - 3.0)


@pytest.mark.parametrize("follow, of_onsets, of_hits", [(1.5, 5.0, 4.0), (0.5, 3.0, 3.0)])
def test_past_one_the_rhythm_counts_more_for_onsets_alone(follow, of_onsets, of_hits):
    guide = Guide(1.0, follow, ())
    by_view = {True: 4.0, False: 2.0}  # heard hit by hit, by its gist
    logits = torch.tensor([[by_view[view.literal]] for view in guide.views])
    assert guide.blend(logits).item() == of_onsets
    assert guide.of_hits.blend(guide.rows_of_hits(logits)).item() == of_hits


@pytest.mark.parametrize(
    "dials, names, views",
    [
        ({"guidance": 3.0}, (), 1),
        ({"guidance": 3.0}, REQUIRED, 2),
        ({"guidance": 1.0}, REQUIRED, 1),
        ({"guidance": 0.0}, REQUIRED, 1),
        ({"guidance": {"style": 3}}, ("density",), 1),
        ({"guidance": {"style": 3}}, ("style",), 2),
        ({"guidance": {"style": 3, "density": 2}}, REQUIRED, 3),
        ({"guidance": {"style": 3, "density": 2}}, ("intensity",), 1),
        ({"follow": 0}, (), 1),
        ({"follow": 0.5}, (), 2),
        ({"follow": 0.5, "guidance": 2.0}, ("density",), 4),
        ({"follow": 1.5, "guidance": 2.0}, (), 2),
    ],
)
def test_no_row_is_spent_on_what_changes_nothing(model, rows, dials, names, views):
    if isinstance(dials.get("guidance"), dict):
        dials = dials | {"guidance": dict.fromkeys(CONTROLS, 1.0) | dials["guidance"]}
    play(model, only(*names), **dials)
    assert set(rows) == {3 * views}


def test_each_row_is_told_its_part(model, monkeypatch):
    """Every view's hidden states are those of the full forward under what the view is told and hears."""
    batch = random_batch(T=32)
    everything = torch.ones_like(batch["known_onset"])
    known = {name: batch[name] for name in ("onset", "vel", "timeoffset")} | {
        "known_onset": everything,
        "known_vel": everything,
    }
    cached = record_steps(monkeypatch)
    strength, follow = {"density": 2.0, "intensity": 1.0, "instrument": 1.0, "style": 3.0}, 0.5
    play(model, batch, known=known, guidance=strength, follow=follow, precision=torch.float32)
    views = Guide(strength, follow).views
    assert len(views) == 6
    full = batch | known
    unset = unset_controls(full)
    with torch.no_grad():
        for view, hidden in zip(views, torch.stack(cached, dim=1).chunk(6)):
            told = full | {name: unset[name] for name in view.without}
            told["use_context"] = told["use_context"] & view.literal
            torch.testing.assert_close(hidden, hidden_states(model, told), atol=1e-5, rtol=1e-5)


# ---- the tap


def test_the_ends_of_the_dial_are_literal_and_loose_to_the_bit(player):
    rhythm = [random_batch(B=1, T=32)[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    density = torch.linspace(-1, 1, 32)

    def drums(follow):
        return generate(
            *rhythm, density, None, None, "funk", None, 32, model=player, seed=1, follow=follow, guidance=1.5
        )

    played = {follow: drums(follow) for follow in ("literal", 1, "loose", 0, 0.5)}
    for name, number in (("literal", 1), ("loose", 0)):
        assert all(torch.equal(a, b) for a, b in zip(played[name], played[number]))
    assert not torch.equal(played[1][1], played[0.5][1]) and not torch.equal(played[0][1], played[0.5][1])


def test_what_a_tap_tells_of_its_hits_is_told_to_the_literal_rows_and_counts_as_often_as_they(model):
    batch = random_batch()
    rhythm = [batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    mask, use_context, use_latent = batch["mask"], batch["use_context"], batch["use_latent"]
    grid = model.grid(mask.shape[1])
    with torch.no_grad():
        heard = encode_rhythm(model, rhythm, mask, use_context, use_latent, grid)
        told = build_conditioning(model, heard, controls_of(batch), Guide(1.0, 0.25), grid)
        loose = encode_rhythm(model, rhythm, mask, use_context & False, use_latent, grid)
    assert (
        torch.allclose(told["onset_bias"], 0.25 * heard["onset_bias"]) and heard["onset_bias"].abs().sum() > 0
    )
    literal, by_gist = told["tap_tokens"].chunk(2)
    assert torch.equal(literal, heard["tap_tokens"]) and torch.equal(by_gist, loose["tap_tokens"])
    assert not torch.equal(literal, by_gist)


# ---- blends of styles


def test_a_blend_of_one_style_is_that_style_to_the_bit(model, player):
    batch = random_batch(T=32)
    weights = torch.nn.functional.one_hot(batch["style"], len(STYLES)).float()
    for a, b in zip(play(model, batch), play(model, batch | {"style": weights})):
        assert torch.equal(a, b)
    one = [
        generate(*[None] * 6, style, None, 32, model=player, seed=1)
        for style in ("funk", {"Funk": 3}, "funk=2")
    ]
    assert all(torch.equal(a, b) for other in one[1:] for a, b in zip(one[0], other))


def test_a_blend_is_told_the_styles_mixed_by_their_weights(model):
    weights = torch.full((1, 2, len(STYLES)), torch.nan)
    weights[:, 0] = 0
    weights[:, 0, 16], weights[:, 0, 11] = 0.7, 0.3
    told, table = model.condition.style(weights), model.condition.style.weight
    torch.testing.assert_close(told[0, 0], 0.7 * table[16] + 0.3 * table[11])
    assert torch.equal(told[0, 1], table[18])


def test_a_blend_may_move_and_counts_as_a_control(model, player, rows):
    def drums(style, **how):
        return generate(*[None] * 6, style, None, 32, model=player, seed=1, **how)

    curve = torch.zeros(1, 32, len(STYLES))
    curve[:, :, 16] = torch.linspace(5, 0, 32)
    curve[:, :, 11] = torch.linspace(0, 5, 32)
    moved, still = drums(curve), drums({"funk": 1, "jazz": 1})
    assert not torch.equal(moved[1], still[1]) and not torch.equal(still[1], drums("funk")[1])
    assert all(torch.equal(a, b) for a, b in zip(moved, drums(2 * curve)))
    weights = torch.rand(3, 16, len(STYLES))
    rows.clear()
    play(model, only() | {"style": weights / weights.sum(-1, keepdim=True)}, guidance=2.0)
    assert set(rows) == {6}


@pytest.mark.parametrize(
    "style, says",
    [
        ({"funk": -1}, "weight above 0"),
        ({"funk": "much"}, "weight above 0"),
        ({}, "style: {}"),
        ("funk=0+jazz", "weight above 0"),
        ({"fnk": 1}, "did you mean funk"),
        ("funk+none", "'none' is no style"),
        (-torch.ones(1, 64, 18), "weights from -1"),
        (torch.ones(1, 64, 17), "style: shape"),
        (torch.ones(1, 32, 18), "style: 32 steps"),
    ],
)
def test_wrong_blends(player, style, says):
    with pytest.raises(ValueError, match=says):
        generate(*[None] * 6, style, None, 64, model=player)


@pytest.mark.parametrize(
    "dials, says",
    [
        ({"follow": "closely"}, "follow: 'closely'; it must be literal, loose, free, or a number from 0"),
        ({"follow": 2.5}, "follow: 2.5"),
        ({"follow": -0.1}, "follow: -0.1"),
        ({"follow": True}, "follow: True"),
        ({"follow": None}, "follow: None"),
        ({"guidance": {"loudness": 2}}, "guidance: 'loudness'; the controls are density"),
        ({"guidance": {"style": -1}}, "guidance: style: -1"),
        ({"guidance": "strong"}, "guidance: 'strong'"),
        ({"guidance": {"style": None}}, "guidance: style: None"),
    ],
)
def test_wrong_dials(player, dials, says):
    for door in (lambda **how: generate(*[None] * 3, *UNSET, 16, **how), Jam):
        with pytest.raises(ValueError, match=says):
            door(model=player, **dials)


# ---- bar by bar


def test_a_jam_takes_on_rows_where_controls_are_first_asked_for(player, rows, monkeypatch):
    """And plays what generate plays, which knows all of it from the beginning; in one precision, whatever the
    rows."""
    monkeypatch.setattr("model.decoding.capture.decoding_precision", lambda *_: torch.float32)
    monkeypatch.setattr(
        "utils.playing.request.OWN_FOLLOW", 1.0
    )  # generate knows what is asked later, a jam not
    guidance = {"density": 2.0, "style": 3.0, "intensity": 1.0, "instrument": 1.0}
    rhythm = [random_batch(B=1)[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    density, style = torch.full((1, 64), torch.nan), torch.full((1, 64), 18)
    density[:, 16:], style[:, 32:] = 1.5, 16
    how = {"guidance": guidance, "follow": 0.6}
    played = bars_of(player, [{"rhythm": rhythm}, {"density": 1.5}, {"style": 16}, {}], **how)
    assert rows == [4, 8, 12, 12]
    whole = generate(
        *rhythm, density, None, None, style, None, 64, model=player, seed=2, num_samples=2, **how
    )
    assert torch.equal(played[0], whole[0])
    for a, b in zip(played[1:], whole[1:]):
        torch.testing.assert_close(a, b)


def test_a_view_that_was_not_there_goes_on_from_the_nearest():
    before, now = Guide({**dict.fromkeys(CONTROLS, 1.0), "style": 3.0}, 0.5, ["style"]), None
    now = Guide({**dict.fromkeys(CONTROLS, 1.0), "style": 3.0, "density": 2.0}, 0.5, ["style", "density"])
    came = [(view, before.views[i]) for view, i in zip(now.views, now.came_from(before))]
    assert len(came) == 6 and all(
        view.literal == old.literal and (view.without & {"style"}) == old.without for view, old in came
    )


def test_rules_of_a_jam_change_between_bars(player):
    busy = [
        {"density": 9.0},
        {"at_most": 2},
        {"at_most": None, "playable": True},
        {"playable": False, "at_most": 1},
        {"at_most": None},
    ]
    onset = bars_of(player, busy)[0].unflatten(1, (5, 16))
    most = onset.sum(-1).amax((0, 2))
    assert most[0] > 4 and most[1] == 2 and most[3] == 1 and most[4] > 4
    assert (onset[:, 2][..., [1, 3, 4, 5, 6, 7, 8]].sum(-1) <= 2).all() and not (
        onset[:, 2][..., [2, 4]].sum(-1) > 1
    ).any()
    with pytest.raises(ValueError, match="at_most: 0"):
        Jam(model=player).change(at_most=0)


def test_a_receipt_tells_the_dials_in_words(player):
    drums = [torch.zeros(1, 16, 9)] * 3
    take = play_take(
        bars=1,
        model=player,
        seed=1,
        style={"funk": 3, "jazz": 1},
        guidance={"style": 3.0},
        follow=0.5,
        at_most=3,
    )
    assert (
        "style 3, follow 0.5, at most 3" in take.receipt.table()
        and "funk 0.75 + jazz 0.25" in take.receipt.table()
    )
    assert take.receipt.data()["bars"][0]["asked"]["style"] == "funk 0.75 + jazz 0.25"
    locked = play_take(bars=1, model=player, seed=1, drums=drums, lock=["kick", "snare"], best_of=3)
    assert "lock kick snare" in locked.receipt.table() and not locked.onset[..., :2].any()
