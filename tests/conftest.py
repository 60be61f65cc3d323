"""What the tests share: the repository, its config, a small model's config, and the real corpus."""

import gc
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported; see the Makefile

import pytest
from hypothesis import settings

from utils.config.schema import load_config

REPOSITORY = Path(__file__).resolve().parent.parent

TINY = [
    "Model.longest_bar=32",
    "Model.Encoder={d_model: 32, n_layer: 2, n_head: 2, d_ff: 64, dropout: 0}",
    "Model.Intermediate.d_latent=8",
    "Model.Decoder.d_model=32",
    "Model.Decoder.n_layer=2",
    "Model.Decoder.n_head=2",
    "Model.Decoder.d_ff=64",
    "Model.Decoder.dropout=0",
    "Model.Decoder.condition_params={d_condition: 32, d_control: 8, film: true, remaining_budget: true}",
    "Model.Output.d_head=16",
    "Model.Output.dropout=0",
]


# the first to be begun, so that no process waits for another at the end
LONGEST = """readme notebook page resume evaluate training speed server fuzz shipped surroundings jobs_real
inference_command preprocessing distributed weights cpu_steps sampling capture model steps"""
LONGEST = [f"test_{name}.py" for name in LONGEST.split()]

settings.register_profile("without a clock", deadline=None)  # a busy machine is no failure
settings.load_profile("without a clock")


gc.disable()  # until all is imported: a million objects, of which none goes


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(name) if (name := item.path.name) in LONGEST else len(LONGEST))
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)  # garbage is looked for as seldom as memory allows
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def threads():
    """The processes of the suite, and those that they start, share the cores: threads that wait for a core
    cost more than they give."""
    import torch  # here, as the process that only hands out the tests need not wait for it

    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    number = max(1, min(2, (os.cpu_count() or 1) // processes))
    torch.set_num_threads(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(number))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Nothing that is written here is to outlive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def repository():
    """Path of the repository's root."""
    return REPOSITORY


def _shared_config(overrides=()):
    """A config for the whole session; a test that changes it in place fails the session."""
    config = load_config(REPOSITORY / "config.yaml", overrides)
    as_loaded = config.to_dict()
    yield config
    assert config.to_dict() == as_loaded, (
        "a test changed the shared config; change config.model_copy(deep=True)"
    )


@pytest.fixture(scope="session")
def config():
    """The config of config.yaml. Shared: change a config.model_copy(deep=True)."""
    yield from _shared_config()


@pytest.fixture(scope="session")
def tiny_config():
    """The same with a model of two narrow layers and no dropout. Shared, too."""
    yield from _shared_config(TINY)


@pytest.fixture(scope="session")
def groove_zip():
    """Path of groove-v1.0.0-midionly.zip, from the environment variable GROOVE_ZIP; skips without it."""
    named = os.environ.get("GROOVE_ZIP")
    if not named:
        pytest.skip("real data: GROOVE_ZIP does not name a copy of groove-v1.0.0-midionly.zip")
    if not Path(named).is_file():
        pytest.skip(f"real data: GROOVE_ZIP names {named}, where there is no file")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def groove_cache(tmp_path_factory):
    """The folder of a cache of the real corpus, which all processes of the suite share, so that it is read
    once."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "groove_cache"
