"""What the tests of training share."""

import pytest
import torch

import training_script_causal_decoder as script


@pytest.fixture
def no_samples(monkeypatch):
    """Runs draw no samples, which take longer than the steps."""
    monkeypatch.setattr(script, "write_samples", lambda *_: None)


@pytest.fixture(scope="module")
def plain_runs():
    """For a whole module: no samples, and one thread, so that a forked process, which has no other, computes
    the same to the bit."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "write_samples", lambda *_: None)
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(threads)
