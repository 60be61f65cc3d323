"""A GPU that is none: what a CUDA graph does, done by running it again."""

import pytest
import torch

from model.decoding.capture import CapturedDecoding
from model.decoding.steps import Decoding


class PretendedGraph:
    """Replays what was captured by running it again, on the tensors that were captured: what a CUDA graph
    does."""

    def replay(self):
        (decoding, kind), (_, inputs, outputs) = self.captured
        n, names = kind
        uniform, *positions = inputs[len(names) :]
        conditioning = dict(zip(names, inputs))
        for static, value in zip(outputs, Decoding.run_bar(decoding, conditioning, uniform, positions)):
            static.copy_(value)


class Captured(list):
    """The graphs that were captured; made: with what each of torch.cuda's objects was made, (arguments,
    options)."""

    def __init__(self):
        self.made = {"Stream": [], "graph": []}


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Captured decodings on the CPU, for models whose parameters say that they are on a GPU."""
    captured, capture = Captured(), CapturedDecoding.capture

    def remember(self, conditioning, uniform, positions):
        made = capture(self, conditioning, uniform, positions)
        captured.append(made[0])
        made[0].captured = (self, (uniform.shape[1], tuple(conditioning))), made
        return made

    class Nothing:
        def __init__(self, *arguments, **options):
            captured.made.get(type(self).__name__, []).append((arguments, options))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait_stream(self, _):
            pass

    monkeypatch.setattr(CapturedDecoding, "capture", remember)
    for name in ("Stream", "stream", "graph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, type(name, (Nothing,), {}))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", PretendedGraph)
    monkeypatch.setattr(torch.nn.Parameter, "is_cuda", True, raising=False)
    return captured
