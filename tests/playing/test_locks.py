"""Locked voices: what is given stays, and comes round again."""

import pytest
import torch

from inference_bar_control import Jam, generate
from tests.helpers.inference_helpers import bars_of, build_tiny_model
from tests.helpers.model_batches import random_batch

UNSET = [None] * 5  # density, intensity, instrument, style, masks


@pytest.fixture(scope="module")
def player(tiny_config):
    return build_tiny_model(tiny_config)


def test_locked_voices_play_what_is_given_over_and_over(player):
    drums = [random_batch(B=1, T=16)[name] for name in ("onset", "vel", "timeoffset")]
    rhythm = [random_batch(B=1, T=32, seed=1)[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    locked = {"drums": drums, "lock": ["kick", "ride"]}
    whole = generate(*rhythm, *UNSET, 32, model=player, seed=2, num_samples=2, **locked)
    jam = bars_of(player, [{"rhythm": rhythm}, {}, {}], **locked)
    for played in (whole, jam):
        for roll, given in zip(played, drums):
            assert all(
                torch.equal(bar[..., [0, 8]], given[..., [0, 8]].expand(2, -1, -1))
                for bar in roll.split(16, 1)
            )
        assert not torch.equal(played[0][:, :16, 1:8], drums[0][..., 1:8].expand(2, -1, -1))
    assert torch.equal(whole[0], jam[0][:, :32])
    nothing, first = torch.zeros(1, 32, 9), torch.zeros(1, 32, 9)
    first[:, 0, 1] = 1
    known = {
        "onset": first,
        "vel": nothing,
        "timeoffset": nothing,
        "known_onset": first,
        "known_vel": nothing,
    }
    both = generate(*rhythm, *UNSET, 32, model=player, seed=2, known=known, **locked)[0]
    assert both[0, 0, 1] == 1 and torch.equal(both[..., [0, 8]], whole[0][:1, :, [0, 8]])
    freed = bars_of(player, [{}, {"drums": None, "lock": None}], **locked)
    assert not torch.equal(freed[0][:, 16:, 0], drums[0][..., 0].expand(2, -1))


@pytest.mark.parametrize(
    "how, says",
    [
        ({"lock": ["kick"]}, r"lock: \['kick'\]; it needs .drums."),
        ({"drums": [torch.zeros(1, 16, 9)] * 3}, "drums: three rolls; lock is None"),
        ({"drums": [torch.zeros(1, 16, 9)] * 3, "lock": ["cowbell"]}, "unknown voice 'cowbell'"),
        ({"drums": [torch.zeros(1, 16, 9)] * 3, "lock": []}, r"lock: \[\]"),
        ({"drums": 3, "lock": 0}, "drums: of type int"),
        ({"drums": [torch.zeros(1, 16, 9)] * 3, "lock": 0, "follow": 0.5}, "follow: 0.5; beside known drums"),
    ],
)
def test_wrong_locks(player, how, says):
    for door in (lambda **how: generate(*[None] * 3, *UNSET, 32, **how), Jam):
        with pytest.raises(ValueError, match=says):
            door(model=player, **how)


def test_a_lock_that_comes_round_too_late_is_told(player):
    drums, rhythm = ([torch.zeros(1, steps, 9)] * 3 for steps in (4092, 4096))
    with pytest.raises(ValueError, match="drums: 4092 steps, to a rhythm of 4096; .* after 4190208 steps"):
        Jam(*rhythm, model=player, drums=drums, lock="kick")
