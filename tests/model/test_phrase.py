"""The place in the phrase: which bar of eight each bar is."""

import numpy as np
import torch

from data_aug import DrumBatches
from model.controls import PHRASE, UNSET_PHRASE, controls_of
from model.decoding.sampling import sample
from model.decoding.streaming import Stream
from model.heads import hit_index
from model.model import DrumVAE
from tests.helpers.drum_windows import data_config, twelve_performances
from tests.helpers.model_batches import FACTOR, random_batch, small_model
from utils.checkpoints import load_weights


def told_of_phrases(config):
    config = config.model_copy(deep=True)
    config.Model.Decoder.condition_params.phrase = True
    return config


def onset_logits(model, batch, phrase=None):
    batch = (
        batch if phrase is None else batch | {"phrase": torch.as_tensor(phrase).expand(batch["mask"].shape)}
    )
    with torch.no_grad():
        return model.logits(batch | hit_index(batch["onset"]))[0]["onset"]


def test_it_begins_at_zero_and_the_first_bar_begins_a_phrase(tiny_config):
    config = told_of_phrases(tiny_config)
    plain, batch = config.to_dict(), random_batch()
    plain["Data"]["normalize_factor"] = FACTOR
    before, model = small_model(tiny_config), DrumVAE(plain).eval()
    assert load_weights(model, before.state_dict(), "old.pt", model.NEW_PARTS) == ["condition.phrase"]
    assert torch.equal(onset_logits(model, batch), onset_logits(before, batch))
    told = small_model(config)
    in_order = torch.arange(batch["mask"].shape[1]) // 16 % PHRASE
    assert torch.equal(onset_logits(told, batch), onset_logits(told, batch, in_order))
    assert not torch.allclose(onset_logits(told, batch), onset_logits(told, batch, UNSET_PHRASE), atol=1e-4)


def test_a_jam_goes_on_through_the_phrase_as_a_piece_does(tiny_config):
    """A rhythm of one bar that comes round: the bars are those of a piece that has it ten times."""
    model, batch = small_model(told_of_phrases(tiny_config)), random_batch(B=1, T=160)
    rhythm = [torch.zeros_like(batch["onset"])] * 3
    controls, dials = controls_of(batch), {"precision": torch.float32}
    deaf = torch.zeros(1, 160, dtype=torch.bool)
    chance = torch.Generator().manual_seed(1)
    whole = sample(model, rhythm, controls, batch["mask"], deaf, deaf, generator=chance, **dials)
    stream = Stream(model, generator=torch.Generator().manual_seed(1), **dials)
    stream.set_rhythm(None)
    for bar in range(10):
        steps = slice(16 * bar, 16 * bar + 16)
        played = stream.bar({name: values[:, steps] for name, values in controls.items()})
        assert all(torch.equal(mine, roll[:, steps]) for mine, roll in zip(played, whole))


def test_windows_know_which_bar_of_the_performance_they_begin_at():
    cache = twelve_performances()
    data = data_config()
    batches = DrumBatches(cache, "train", data, 8, augment=False)
    seen = torch.cat([batches[n]["phrase"] for n in range(len(batches))]).numpy()
    starts = np.array([file["start"] for file in cache.files])
    for row, start in zip(seen, batches.start):
        first = (start - starts[starts <= start].max()) // 16
        assert (row == (first + np.arange(len(row)) // 16) % PHRASE).all()
    batch = DrumBatches(cache, "train", data_config(augmentation={"bar_shuffle": 1}), 8)[0]
    assert (batch["phrase"] == UNSET_PHRASE).all()
    dropped = DrumBatches(cache, "train", data_config(drop={"phrase": 1}), 8)[0]
    assert (dropped["phrase"] == UNSET_PHRASE).all()
