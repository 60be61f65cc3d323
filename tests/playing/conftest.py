"""What the tests of playing share: a tiny model, and drums of two bars."""

import pytest

from tests.helpers.inference_helpers import build_tiny_model
from tests.helpers.model_batches import random_rolls


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture(scope="module")
def drums():
    return random_rolls(T=32)
