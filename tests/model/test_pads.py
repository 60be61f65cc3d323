"""On which of two pads each tap is: told to the encoder, or not at all."""

import pytest
import torch

from model.controls import PADS, controls_of
from model.decoding.sampling import sample
from model.heads import hit_index
from model.model import DrumVAE
from tests.helpers.model_batches import FACTOR, random_batch, small_model, whole_and_bar_by_bar
from utils.checkpoints import load_weights
from utils.midi.drums import RHYTHM_CHANNEL

LOWER, HIGHER = PADS.index("lower"), PADS.index("higher")


@pytest.fixture(scope="module")
def told(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.pads = True
    return config


def with_pads(batch, pad):
    struck = batch["rhythm_onset"][..., RHYTHM_CHANNEL] > 0
    return batch | {"pads": torch.where(struck, pad, 0)}


def onset_logits(model, batch):
    with torch.no_grad():
        return model.logits(batch | hit_index(batch["onset"]))[0]["onset"]


def test_a_new_part_begins_so_that_the_model_plays_as_before(tiny_config, told):
    before, config = small_model(tiny_config), told.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config).eval()
    assert load_weights(model, before.state_dict(), "old.pt", model.NEW_PARTS) == ["encoder.pads"]
    batch = random_batch()
    for pad in range(len(PADS)):
        assert torch.equal(onset_logits(model, with_pads(batch, pad)), onset_logits(before, batch))


def test_the_pads_are_heard_where_the_rhythm_is(told):
    model, batch = small_model(told), random_batch()
    logits = [onset_logits(model, with_pads(batch, pad)) for pad in range(len(PADS))]
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in zip(logits, logits[1:]))
    assert torch.equal(onset_logits(model, batch), logits[0])  # not said: unset
    deaf = {name: torch.zeros_like(batch[name]) for name in ("use_context", "use_latent")}
    silent = [onset_logits(model, with_pads(batch, pad) | deaf) for pad in (0, HIGHER)]
    assert torch.equal(*silent)
    one, no = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    pads = torch.tensor([[1, 2, 0, 3]])
    assert torch.equal(model.pads_of_steps(pads, no, one), pads)
    assert not model.pads_of_steps(pads, no, no).any()


def test_sample_and_stream_are_told(told):
    model, batch = small_model(told), random_batch(B=1, T=32)
    lower, higher, unset, none = (
        whole_and_bar_by_bar(model, batch, pads=None if pad is None else with_pads(batch, pad)["pads"])
        for pad in (LOWER, HIGHER, 0, None)
    )
    assert torch.equal(unset, none)
    assert not torch.equal(lower, unset) and not torch.equal(lower, higher)


def test_pads_of_a_long_rhythm_are_heard_in_its_windows(told, monkeypatch):
    monkeypatch.setattr("model.decoding.sampling.WINDOW_BARS", 4)
    monkeypatch.setattr("model.decoding.sampling.MARGIN_BARS", 1)
    model, batch = small_model(told), random_batch(B=1, T=16 * 9)
    rhythm = [batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    late = torch.zeros_like(batch["mask"], dtype=torch.long)
    late[:, 16 * 8 :] = HIGHER
    played = [
        sample(model, rhythm, controls_of(batch), batch["mask"], pads=pads, generator=torch.Generator())[0]
        for pads in (late, late * 0)
    ]
    assert torch.equal(*(onset[:, : 16 * 4] for onset in played))
    assert not torch.equal(*(onset[:, 16 * 8 :] for onset in played))


def test_training_moves_the_pads_it_sees(told):
    config = told.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config)
    model(with_pads(random_batch(), LOWER))["onset_nats"].backward()
    moved = model.encoder.pads.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, True, False, False]
