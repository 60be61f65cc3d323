"""The weights of two checkpoints, averaged."""

import pytest
import torch

from tests.helpers.inference_helpers import build_tiny_model
from utils.checkpoints import export_checkpoint, load_checkpoint, save_checkpoint
from utils.get_model import load_model
from utils.training.average import average


@pytest.fixture
def paths(tiny_config, tmp_path):
    """A run's checkpoint of a model that is told what the rhythm is, and an older one of one that is not."""
    new, old = tiny_config.model_copy(deep=True), tiny_config.model_copy(deep=True)
    new.Model.rhythm_is, old.Model.longest_bar = True, 16
    for name, config in (("new", new), ("old", old)):
        model = build_tiny_model(config)
        weights = {key: x + torch.rand_like(x) for key, x in model.state_dict().items()}
        ema = {key: 2 * weights[key] for key, _ in model.named_parameters()}
        own = {"config": model.config, "vae_model": weights, "vae_optimizer": {}, "scheduler": {}, "step": 9}
        save_checkpoint(own | ({"ema": ema} if name == "new" else {}), tmp_path / f"{name}.pt")
    return tmp_path / "new.pt", tmp_path / "old.pt"


def test_a_share_of_what_was_known_before(paths, tmp_path):
    new, old = paths
    none, half, all_of_it = (average(new, old, share) for share in (0, 0.5, 1))
    export_checkpoint(new, tmp_path / "shipped.pt")
    shipped, before = load_checkpoint(tmp_path / "shipped.pt"), load_checkpoint(old)["vae_model"]
    weights, places = all_of_it["vae_model"], 0
    assert none["config"] == shipped["config"] and none["step"] == 9
    for name, mine in shipped["vae_model"].items():
        theirs = before.get(name, mine).half()
        if theirs.shape != mine.shape:  # the new places of a longer bar: as a training begins with them
            places += 1
            theirs = torch.cat((theirs, weights[name][len(theirs) :]))
        assert torch.equal(none["vae_model"][name], mine) and torch.equal(weights[name], theirs), name
        torch.testing.assert_close(
            half["vae_model"][name].float(), (mine.float() + theirs) / 2, atol=2e-3, rtol=2e-3
        )
    assert places > 0 and len(shipped["vae_model"]) > len(before)
    save_checkpoint(half, tmp_path / "half.pt")
    assert load_model(tmp_path / "half.pt").told_kind
