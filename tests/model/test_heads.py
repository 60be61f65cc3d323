"""The heads are chains of tokens: each given those before it in its step, and no others."""

import pytest
import torch

from model.heads import HitChain, OnsetChain, bin_to_offset, bin_to_velocity, offset_to_bin, velocity_to_bin


def test_chain_of_onsets_is_a_distribution_over_all_512_sets():
    torch.manual_seed(0)
    head = OnsetChain(16, 9, chained=True)
    for p in head.parameters():
        torch.nn.init.normal_(p)
    every_set = torch.tensor([[float(n >> v & 1) for v in range(9)] for n in range(512)])
    logits = head(torch.randn(1, 16).expand(512, -1), every_set)
    log_probability = torch.nn.functional.logsigmoid(torch.where(every_set > 0, logits, -logits)).sum(-1)
    assert log_probability.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_chain_without_interaction_is_the_independent_model():
    head = OnsetChain(16, 9, chained=True)
    hidden = torch.randn(5, 16)
    assert torch.equal(head(hidden, torch.ones(5, 9)), head(hidden, torch.zeros(5, 9)))


def test_voices_hear_only_the_voices_before_them_in_a_step():
    torch.manual_seed(0)
    head = HitChain(16, 9, 8, 4, 4, dropout=0.0).eval()
    for p in head.parameters():
        torch.nn.init.normal_(p)
    hidden, onset = torch.randn(1, 1, 16), torch.ones(1, 1, 9)
    bins = torch.zeros(1, 1, 9, dtype=torch.long)
    velocity, offset = head(hidden, onset, bins, bins)
    for v in range(9):
        changed = bins.clone()
        changed[..., v] = 3
        by_velocity = head(hidden, onset, changed, bins)
        by_offset = head(hidden, onset, bins, changed)
        for now in (by_velocity, by_offset):
            assert torch.equal(now[0][: v + 1], velocity[: v + 1]) and torch.equal(now[1][:v], offset[:v])
            assert not (now[0][v + 1 :] == velocity[v + 1 :]).all(-1).any()
            assert not (now[1][v + 1 :] == offset[v + 1 :]).all(-1).any()
        assert not torch.equal(by_velocity[1][v], offset[v])  # its own velocity, yes
        assert torch.equal(by_offset[1][v], offset[v])  # its own offset, no


def test_hit_logits_are_those_of_the_cells_one_by_one():
    """The pairs of hits summed at once, against a walk through each step."""
    torch.manual_seed(0)
    head = HitChain(16, 9, 8, 4, 5, dropout=0.0).eval()
    hidden, onset = torch.randn(3, 6, 16), (torch.rand(3, 6, 9) < 0.4).float()
    velocity_bin, offset_bin = torch.randint(0, 4, (3, 6, 9)), torch.randint(0, 5, (3, 6, 9))
    velocity, offset = head(hidden, onset, velocity_bin, offset_bin)
    for row, (b, t, v) in enumerate(onset.nonzero().tolist()):
        past = torch.zeros(16)
        for u in range(v):
            if onset[b, t, u]:
                past = past + head.embed_hit(velocity_bin[b, t, u], offset_bin[b, t, u], u)
        prepared = head.velocity.prepare(hidden[b, t], onset[b, t])[v]
        torch.testing.assert_close(velocity[row], head.velocity.read(prepared, past[:8], v))
        prepared = head.offset.prepare(hidden[b, t], onset[b, t])[v]
        own = head.embed_velocity(velocity_bin[b, t, v], v)
        torch.testing.assert_close(offset[row], head.offset.read(prepared, past[8:] + own, v))


def test_tokens_cover_their_ranges():
    vel = torch.arange(1, 128) / 127
    for within in (0.0, 0.5, 0.999):
        back = bin_to_velocity(velocity_to_bin(vel, 32), torch.full_like(vel, within), 32)
        assert ((back > 0) & (back <= 1) & ((back - vel).abs() <= 1 / 32 + 1e-6)).all()
        assert torch.equal(velocity_to_bin(back, 32), velocity_to_bin(vel, 32))
    within = torch.arange(1000) / 1000
    last = bin_to_velocity(torch.full((1000,), 31), within, 32)
    assert (last == 1).float().mean().item() == pytest.approx(0.94, abs=2e-3) and last.min() < 31.1 / 32
    offset = torch.arange(-480, 480) / 960
    for within in (0.0, 0.5, 0.999):
        back = bin_to_offset(offset_to_bin(offset, 32), torch.full_like(offset, within), 32)
        assert ((back >= -0.5) & (back < 0.5) & ((back - offset).abs() <= 1 / 32 + 1e-6)).all()
