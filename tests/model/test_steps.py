"""What is drawn from a hidden state, one function at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding.steps import Guide, draw_onsets, keep_within, pick
from model.heads import StepHeads
from tests.helpers.model_batches import small_model

V = 9


@pytest.fixture(scope="module")
def model(tiny_config):
    model = small_model(tiny_config)
    torch.nn.init.normal_(model.onset_head.pair.weight, std=0.3)  # so that the chain changes what is hit
    return model


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40),
    st.floats(0, 1, width=32),
    st.sampled_from([0.3, 1.0, 2.0]),
)
@settings(max_examples=200)
def test_a_token_inverts_the_distribution(logits, uniform, temperature):
    logits = torch.tensor(logits)
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    if (cumulative - uniform).abs().min() < 1e-5:  # rounding may decide
        return
    expected = min(int((cumulative < uniform).sum()), len(logits) - 1)
    assert pick(logits[None], torch.tensor([uniform]), temperature).item() == expected


def test_chance_next_to_one_picks_the_last_token():
    torch.manual_seed(0)
    logits, chance = torch.randn(1000, 32), 1 - 2**-24
    token = pick(logits, torch.full((1000,), chance), 1.0)
    assert token.max() == 31 and (token == 31).float().mean() > 0.99
    assert pick(torch.full((1, 32), -1e9), torch.ones(1), 1.0) == 31


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
    """Its logit given what was drawn, as training reads it, is above the threshold where it is hit, and only there."""
    torch.manual_seed(0)
    hidden, threshold = torch.randn(50, model.decoder.d_model), torch.randn(50, V)
    heads = StepHeads(model.onset_head, model.hit_head)
    with torch.no_grad():
        onset = draw_onsets(heads.onset_parts(hidden), {"threshold": threshold})
        logits = model.onset_head(hidden, onset)
        alone = model.onset_head(hidden, torch.zeros_like(onset))
    assert torch.equal(onset, (logits > threshold).float())
    assert not torch.equal(onset, (alone > threshold).float())


def test_a_hit_is_read_as_in_training(model):
    torch.manual_seed(0)
    chain, heads = model.hit_head, StepHeads(model.onset_head, model.hit_head)
    hidden, onset = torch.randn(5, model.decoder.d_model), (torch.rand(5, V) < 0.5).float()
    past, tokens = torch.randn(5, 2 * chain.velocity.d_head), torch.randint(20, (5,))
    for v, voice in enumerate(heads.voices):
        with torch.no_grad():
            for_velocity, for_offset = voice.prepare(torch.cat((hidden, onset), 1), past)
            of_velocity, of_offset = past.chunk(2, 1)
            of_offset = of_offset + chain.embed_velocity(tokens, v)
            expected = [
                head.read(head.prepare(hidden, onset)[:, v], of_head, v)
                for head, of_head in ((chain.velocity, of_velocity), (chain.offset, of_offset))
            ]
            got = voice.velocity_logits(for_velocity), voice.offset_logits(for_offset, tokens)
            torch.testing.assert_close(voice.embed_hit(tokens, tokens), chain.embed_hit(tokens, tokens, v))
        for a, b in zip(got, expected):
            torch.testing.assert_close(a, b)


def test_weights_of_the_views_are_those_of_the_telescoping_sum():
    strength = {"density": 1.5, "intensity": 1.5, "instrument": 2.0, "style": 3.0}
    guide = Guide(strength, follow=0.5)
    logits = {view: torch.randn(1, 3) for view in guide.views}
    stages = [("density", "intensity", "instrument", "style"), ("instrument", "style"), ("style",), ()]
    mixed = [sum(0.5 * logits[frozenset(without), literal] for literal in (False, True)) for without in stages]
    expected = mixed[0]
    for before, after, times in zip(mixed, mixed[1:], (1.5, 2.0, 3.0)):
        expected = expected + times * (after - before)
    torch.testing.assert_close(guide.blend(torch.cat([*logits.values()])), expected)
