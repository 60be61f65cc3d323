"""What is drawn from a hidden state, one function at a time."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding.cpu_steps import CpuVoiceHits
from model.decoding.guide import Guide
from model.decoding.steps import (
    bar_steps,
    draw_hits,
    draw_onsets,
    draw_step,
    keep_within,
    pick,
    toward_median,
)
from model.heads import StepHeads, VoiceHits, offset_to_bin, velocity_to_bin
from tests.helpers.model_batches import small_model

V = 9


@pytest.fixture(scope="module")
def model(tiny_config):
    model = small_model(tiny_config)
    torch.nn.init.normal_(model.onset_head.pair.weight, std=0.3)  # so that the chain changes what is hit
    return model


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40), st.floats(0, 1, width=32))
@settings(max_examples=200)
def test_a_token_inverts_the_distribution(logits, uniform):
    logits = torch.tensor(logits)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    if (cumulative - uniform).abs().min() < 1e-5:  # rounding may decide
        return
    expected = min(int((cumulative < uniform).sum()), len(logits) - 1)
    assert pick(logits[None], torch.tensor([[uniform]])).item() == expected


def test_chance_next_to_one_picks_the_last_token():
    torch.manual_seed(0)
    logits, chance = torch.randn(1000, 32), 1 - 2**-24
    token = pick(logits, torch.full((1000, 1), chance))
    assert token.max() == 31 and (token == 31).float().mean() > 0.99
    assert pick(torch.full((1, 32), -1e9), torch.ones(1, 1)) == 31


def keep_by_hand(onset, above, limit, known):
    """Of one row: as long as a rule is broken its weakest hit goes, of equals the highest voice."""
    onset = [*onset]
    for rule in limit:
        while True:
            counted = [v for v in range(V) if onset[v] and rule[v] < V]
            droppable = [v for v in counted if not known[v]]
            if not droppable or len(counted) <= rule[counted[0]]:
                break
            onset[min(droppable, key=lambda v: (above[v], -v))] = 0
    return onset


@given(st.data())
@settings(max_examples=200)
def test_the_hits_furthest_above_their_thresholds_stay(data):
    """With ties, and with hits that are certain."""
    bits = st.lists(st.booleans(), min_size=V, max_size=V)
    onset = torch.tensor(data.draw(bits)).float()
    margins = st.lists(st.sampled_from([0.5, 1.0, 2.0, math.inf]), min_size=V, max_size=V)
    above = torch.where(onset > 0, torch.tensor(data.draw(margins)), -1.0)
    known = torch.tensor(data.draw(bits))
    rules = [
        torch.where(torch.tensor(data.draw(bits)), data.draw(st.integers(0, V - 1)), V) for _ in range(2)
    ]
    limit = torch.stack(rules)
    here = {"limit": limit[None], "known_onset": known[None], "onset": torch.ones(1, V)}
    kept = keep_within(onset[None], above[None], here)[0]
    assert kept.tolist() == keep_by_hand(*(x.tolist() for x in (onset, above, limit, known)))


def test_each_voice_is_drawn_given_the_voices_before_it(model):
    """Its logit given what was drawn, as training reads it, is above the threshold where it is hit, and only
    there."""
    torch.manual_seed(0)
    hidden, threshold = torch.randn(50, model.decoder.d_model), torch.randn(50, V)
    heads = StepHeads(model.onset_head, model.hit_head)
    with torch.no_grad():
        onset = draw_onsets(heads.onset_parts(hidden), {"threshold": threshold})
        logits = model.onset_head(hidden, onset)
        alone = model.onset_head(hidden, torch.zeros_like(onset))
    assert torch.equal(onset, (logits > threshold).float())
    assert not torch.equal(onset, (alone > threshold).float())


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("of_voice", [VoiceHits, CpuVoiceHits])
def test_a_hit_is_read_as_in_training(model, of_voice, n):
    torch.manual_seed(0)
    chain, heads = model.hit_head, StepHeads(model.onset_head, model.hit_head, of_voice)
    hidden, onset = torch.randn(n, model.decoder.d_model), (torch.rand(n, V) < 0.5).float()
    past, tokens = torch.randn(n, 2 * chain.velocity.d_head), torch.randint(20, (n,))
    for v, voice in enumerate(heads.voices):
        with torch.no_grad():
            x = torch.cat((hidden, onset), 1)
            velocity, for_offset = voice.velocity_logits(x, past)
            of_velocity, of_offset = past.chunk(2, 1)
            of_offset = of_offset + chain.embed_velocity(tokens, v)
            expected = [
                head.read(head.prepare(hidden, onset)[:, v], of_head, v)
                for head, of_head in ((chain.velocity, of_velocity), (chain.offset, of_offset))
            ]
            got = velocity, voice.offset_logits(for_offset, tokens)
            without_past = voice.velocity_logits(x, None)[0]
            torch.testing.assert_close(without_past, voice.velocity_logits(x, torch.zeros_like(past))[0])
            torch.testing.assert_close(voice.embed_hit(tokens, tokens), chain.embed_hit(tokens, tokens, v))
        for a, b in zip(got, expected):
            torch.testing.assert_close(a, b)


def test_weights_of_the_views_are_those_of_the_telescoping_sum():
    strength = {"density": 1.5, "intensity": 1.5, "instrument": 2.0, "style": 3.0}
    guide = Guide(strength, follow=0.5)
    logits = {view: torch.randn(1, 3) for view in guide.views}
    stages = [("density", "intensity", "instrument", "style"), ("instrument", "style"), ("style",), ()]
    mixed = [
        sum(0.5 * logits[frozenset(without), literal] for literal in (False, True)) for without in stages
    ]
    expected = mixed[0]
    for before, after, times in zip(mixed, mixed[1:], (1.5, 2.0, 3.0)):
        expected = expected + times * (after - before)
    torch.testing.assert_close(guide.blend(torch.cat([*logits.values()])), expected)


def draw_one_step(model, hidden, uniform, known=None):
    """One step of n draws by the hidden state (1, D), without a tap and without the encoder's guess."""
    n = len(uniform)
    conditioning = {
        "mask": torch.ones(n, dtype=torch.bool),
        "onset_bias": torch.zeros(n, 9),
        "tap_tokens": torch.zeros(n, 1),
        "tap_vel": torch.zeros(n),
        "tap_timeoffset": torch.zeros(n),
        "tap_velocity_bin": torch.full((n,), -1),
        "tap_offset_bin": torch.full((n,), -1),
    } | (known or {})
    bar = {name: x[:, None] for name, x in conditioning.items()}
    [here] = bar_steps(bar, uniform[:, None], (1.0,) * 3, 0.0, model)
    return draw_step(StepHeads(model.onset_head, model.hit_head), hidden.expand(n, -1), here, Guide(1.0))


def draw_values(model, hidden, onset, tap, uniform, guide):
    """draw_hits of the onsets (B, V) of a step with this tap."""
    voices = StepHeads(model.onset_head, model.hit_head).voices
    here = {name: x if name == "tap_tokens" else x[:, None] for name, x in tap.items()}
    here["chance"] = uniform[..., 1::2, None].permute(2, 1, 0, 3).contiguous()
    here["within"] = uniform[..., 2::2].permute(2, 0, 1)
    return draw_hits(voices, hidden, onset, here, guide)


def test_samples_have_the_probabilities_of_the_heads(model):
    """Onset, velocity and offset frequencies of one step drawn many times, against the heads' own numbers."""
    torch.manual_seed(0)
    n = 20000
    hidden = torch.randn(1, model.decoder.d_model)
    uniform = torch.rand(n, 9, 5)
    with torch.no_grad():
        onset, vel, timeoffset = draw_one_step(model, hidden, uniform)
        log_p = torch.nn.functional.logsigmoid
        sets = torch.tensor([[float(k >> v & 1) for v in range(9)] for k in range(512)])
        logits = model.onset_head(hidden.expand(512, -1), sets)
        expected = log_p(torch.where(sets > 0, logits, -logits)).sum(-1).exp()
    drawn = torch.bincount((onset * 2 ** torch.arange(9)).sum(-1).long(), minlength=512) / n
    assert (drawn - expected).abs().max() < 0.02
    assert ((vel > 0) == (onset > 0)).all() and (timeoffset.abs() <= 0.5).all()


def test_tokens_of_a_hit_have_the_probabilities_of_the_heads(model):
    """Two hits in a step, drawn many times: the first voice's velocity, then the second's tokens given the
    first."""
    torch.manual_seed(0)
    model = copy.deepcopy(model)
    for table in (model.hit_head.velocity_token, model.hit_head.offset_token, model.hit_head.own_velocity):
        table.weight.data *= (
            20  # so that what was drawn before in the step is plain to see in what comes after
        )
    n, k = 20000, model.offset_bins
    hidden, nothing = torch.randn(1, model.decoder.d_model), torch.zeros(n, 9, dtype=torch.bool)
    onset = torch.zeros(n, 9).index_fill_(1, torch.tensor([1, 4]), 1.0)
    known = {
        "onset": onset,
        "vel": onset,
        "timeoffset": onset * 0,
        "known_onset": ~nothing,
        "known_vel": nothing.clone(),
    }
    with torch.no_grad():
        _, vel, _ = draw_one_step(model, hidden, torch.rand(n, 9, 5), known)
        bins = torch.zeros(1, 1, 9, dtype=torch.long)
        expected = model.hit_head(hidden[None], onset[:1, None], bins, bins)[0].softmax(-1)[0]
        drawn = torch.bincount((vel[:, 1] * k).ceil().long() - 1, minlength=k) / n
        assert (drawn - expected).abs().sum() < 0.06

        known["known_vel"][:, 1] = True  # the first voice at full velocity, on the beat
        _, vel, timeoffset = draw_one_step(model, hidden, torch.rand(n, 9, 5), known)
        velocity_bin = velocity_to_bin(vel, model.velocity_bins)[:, None]
        offset_bin = offset_to_bin(timeoffset, k)[:, None]
        hits = onset[:, None]
        logits = model.hit_head(hidden.expand(n, 1, -1), hits, velocity_bin, offset_bin)
    for head, bins in zip(logits, (velocity_bin, offset_bin)):
        expected = head[1::2].softmax(-1).mean(0)  # of the second hit of every step
        drawn = torch.bincount(bins[:, 0, 4], minlength=k) / n
        assert (drawn - expected).abs().sum() < 0.06


def test_hits_of_a_few_rows_are_drawn_as_each_row_alone(model):
    """Under guidance, where the untold half has rows of its own."""
    torch.manual_seed(0)
    B, guide = 12, Guide(3.0)
    hidden, onset, uniform = (
        torch.randn(2 * B, model.decoder.d_model),
        (torch.rand(B, 9) < 0.3).float(),
        torch.rand(B, 9, 5),
    )
    tap = {
        "tap_vel": torch.rand(B),
        "tap_timeoffset": torch.rand(B) - 0.5,
        "tap_velocity_bin": torch.randint(32, (B,)),
        "tap_offset_bin": torch.randint(32, (B,)),
        "tap_tokens": torch.randn(2 * B, model.decoder.d_model),
    }
    with torch.no_grad():
        together = draw_values(model, hidden, onset, tap, uniform, guide)
        for b in range(B):
            here = {name: x[[b, B + b] if name == "tap_tokens" else [b]] for name, x in tap.items()}
            row = slice(b, b + 1)
            alone = draw_values(model, hidden[[b, B + b]], onset[row], here, uniform[row], guide)
            for one, many in zip(alone, together):
                torch.testing.assert_close(one[0], many[b])
    assert len(set(onset.sum(0).tolist())) > 3  # voices that few rows hit, and many


def test_velocity_and_timing_come_from_the_rows_that_hear_the_rhythm_once(model):
    torch.manual_seed(0)
    B, guide = 5, Guide(1.0, 1.5, ())
    hidden, onset = torch.randn(2 * B, model.decoder.d_model), torch.ones(B, 9)
    tap = {"tap_vel": torch.zeros(B), "tap_timeoffset": torch.zeros(B)}
    tap |= {"tap_velocity_bin": torch.full((B,), -1), "tap_offset_bin": torch.full((B,), -1)}
    tokens, uniform = torch.randn(2 * B, model.decoder.d_model), torch.rand(B, 9, 5)
    literal = torch.cat([torch.full((B,), view.literal) for view in guide.views])
    with torch.no_grad():
        drums = draw_values(model, hidden, onset, tap | {"tap_tokens": tokens}, uniform, guide)
        once = tap | {"tap_tokens": tokens[literal]}
        expected = draw_values(model, hidden[literal], onset, once, uniform, Guide(1.0))
    assert all(torch.equal(mine, other) for mine, other in zip(drums, expected))


def test_only_a_hit_with_both_tokens_of_the_tap_is_the_tap(model):
    torch.manual_seed(0)
    n, onset = 20000, torch.zeros(20000, 9).index_fill_(1, torch.tensor(2), 1.0)
    tap = {
        "tap_vel": torch.full((n,), 0.51),
        "tap_timeoffset": torch.full((n,), 0.01),
        "tap_tokens": torch.zeros(n, 1),
    }
    tap["tap_velocity_bin"] = velocity_to_bin(tap["tap_vel"], model.velocity_bins)
    tap["tap_offset_bin"] = offset_to_bin(tap["tap_timeoffset"], model.offset_bins)
    with torch.no_grad():
        hidden = torch.randn(1, model.decoder.d_model).expand(n, -1)
        vel, timeoffset = (
            roll[:, 2] for roll in draw_values(model, hidden, onset, tap, torch.rand(n, 9, 5), Guide(1.0))
        )
    as_loud = velocity_to_bin(vel, model.velocity_bins) == tap["tap_velocity_bin"]
    as_late = offset_to_bin(timeoffset, model.offset_bins) == tap["tap_offset_bin"]
    both = as_loud & as_late
    assert (
        (vel[both] == tap["tap_vel"][0]).all()
        and (timeoffset[both] == tap["tap_timeoffset"][0]).all()
        and both.any()
    )
    assert (vel[as_loud & ~as_late] != tap["tap_vel"][0]).all() and (as_loud & ~as_late).any()
    assert (timeoffset[as_late & ~as_loud] != tap["tap_timeoffset"][0]).all() and (as_late & ~as_loud).any()


def test_a_value_lies_anywhere_in_its_bin(model):
    """Uniformly, whichever bin was drawn: the chance that picked the bin must not place the value in it as
    well."""
    torch.manual_seed(0)
    n, everywhere = 20000, torch.ones(20000, 9)
    known = {"known_onset": everywhere.bool(), "known_vel": everywhere.bool() & False}
    known |= {"onset": everywhere, "vel": everywhere, "timeoffset": everywhere * 0}
    with torch.no_grad():
        _, vel, timeoffset = draw_one_step(
            model, torch.randn(1, model.decoder.d_model), torch.rand(n, 9, 5), known
        )
    for value, bins in ((vel[:, 0], model.velocity_bins), (timeoffset[:, 0] + 0.5, model.offset_bins)):
        place = value * bins
        for drawn in torch.bincount(place.ceil().long() - 1, minlength=bins).topk(2).indices.tolist():
            within = place[(place > drawn) & (place <= drawn + 1)] - drawn
            assert within.mean().item() == pytest.approx(0.5, abs=0.06)
            assert within.std().item() == pytest.approx(12**-0.5, abs=0.04)


def test_pick_inverts_the_distribution():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).expand(4, -1)
    assert pick(logits, torch.tensor([0.1, 0.3, 0.69, 0.99])[:, None]).tolist() == [0, 1, 1, 2]
    assert pick(logits, torch.full((4, 1), 1.0)).max() == 2


def test_a_colder_token_is_nearer_to_the_median():
    uniform = torch.tensor([0.0, 0.1, 0.5, 0.9, 1 - 2**-24])
    assert toward_median(uniform, 1) is uniform
    colder, warmer = toward_median(uniform, 0.5), toward_median(uniform, 2.0)
    assert colder.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-3)  # odds of 9 become 3
    assert warmer.tolist() == pytest.approx([0, 1 / 82, 0.5, 81 / 82, 1], abs=1e-6)
    assert ((0 <= warmer) & (warmer <= 1)).all()
    assert toward_median(uniform[1:], 1e-6).tolist() == pytest.approx([0.5] * 4, abs=1e-4)
