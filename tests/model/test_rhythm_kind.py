"""What the rhythm is: told to encoder and decoder, or not at all."""

import pytest
import torch

from model.controls import UNSET_KIND
from model.heads import hit_index
from model.model import DrumVAE
from tests.helpers.model_batches import FACTOR, random_batch, small_model, whole_and_bar_by_bar
from utils.checkpoints import load_weights


@pytest.fixture(scope="module")
def told(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = True
    return config


def kinds(batch, kind):
    return batch | {"rhythm_is": torch.full(batch["mask"].shape, kind)}


def onset_logits(model, batch):
    with torch.no_grad():
        return model.logits(batch | hit_index(batch["onset"]))[0]["onset"]


def test_new_parts_begin_so_that_the_model_plays_as_before(tiny_config, told):
    before = small_model(tiny_config)
    config = told.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config).eval()
    assert load_weights(model, before.state_dict(), "old.pt", model.NEW_PARTS) == [
        "encoder.kind",
        "condition.kind",
    ]
    batch = random_batch()
    wanted = onset_logits(before, batch)
    for kind in range(UNSET_KIND + 1):
        assert torch.equal(onset_logits(model, kinds(batch, kind)), wanted)
    with pytest.raises(ValueError, match="encoder.kind.weight"):
        load_weights(model, before.state_dict(), "old.pt")


def test_the_kind_reaches_encoder_and_decoder(told):
    model, batch = small_model(told), random_batch()
    logits = [onset_logits(model, kinds(batch, kind)) for kind in range(UNSET_KIND + 1)]
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in zip(logits, logits[1:]))
    assert torch.equal(onset_logits(model, batch), logits[UNSET_KIND])  # not said: unset
    for part in (model.encoder.kind, model.condition.kind):  # each by itself
        other = small_model(told)
        with torch.no_grad():
            (other.encoder.kind if part is model.condition.kind else other.condition.kind).weight.zero_()
        assert not torch.allclose(
            onset_logits(other, kinds(batch, 0)), onset_logits(other, kinds(batch, 1)), atol=1e-4
        )


def test_where_nothing_is_heard_the_kind_says_nothing(told):
    model, batch = small_model(told), random_batch()
    deaf = {name: torch.zeros_like(batch[name]) for name in ("use_context", "use_latent")}
    logits = [onset_logits(model, kinds(batch, kind) | deaf) for kind in (0, UNSET_KIND)]
    assert torch.equal(*logits)


def test_sample_and_stream_are_told(told):
    model, batch = small_model(told), random_batch(B=1, T=32)

    def play(kind):
        rhythm_is = None if kind is None else torch.full(batch["mask"].shape, kind)
        return whole_and_bar_by_bar(model, batch, rhythm_is=rhythm_is)

    played = [play(kind) for kind in (0, 1, 2, UNSET_KIND, None)]
    assert torch.equal(played[-1], played[-2])
    assert all(not torch.equal(a, b) for a, b in zip(played[:3], played[1:4]))


def test_training_moves_the_kinds_it_sees(told):
    config = told.to_dict()
    config["Data"]["normalize_factor"] = FACTOR
    model = DrumVAE(config)
    batch = kinds(random_batch(), 1)
    figures = model(batch)
    figures["onset_nats"].backward()
    for embedding in (model.encoder.kind, model.condition.kind):
        moved = embedding.weight.grad.abs().sum(1) > 0
        assert moved.tolist() == [False, True, False, False]
