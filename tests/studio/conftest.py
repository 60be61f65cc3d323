"""What the tests of the studio share: its server with a small model and sounds that are made on the spot."""

import io
import wave

import numpy as np
import pytest

from tests.helpers.inference_helpers import build_tiny_model
from utils.midi.drums import VOICES
from utils.studio.app import make_app


def beep():
    with wave.open(data := io.BytesIO(), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", None))
        file.writeframes((8000 * np.sin(np.arange(4800) / 9)).astype("<i2").tobytes())
    return data.getvalue()


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture(scope="module")
def app(model):
    return make_app(model, sounds={voice: {127: beep()} for voice in VOICES})
