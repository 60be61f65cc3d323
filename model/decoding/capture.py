"""Decoding on a GPU: the steps of a bar are captured once as a CUDA graph, and played back as one launch.

A step is some hundred small kernels, and launching them one by one takes the CPU far longer than the GPU needs for them.
"""

import torch

from model.decoding.cpu_steps import COMPILED, CpuDecoding
from model.decoding.steps import Decoding, DerivedCache, decoding_precision

KEPT = 4  # graphs of one model: of as many batch sizes, temperatures, sets of known cells...


class CapturedDecoding(Decoding):
    """A Decoding whose bars are CUDA graphs, one for each kind of bar: how long, and what is conditioning."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.graphs = {}

    def run_bar(self, conditioning, uniform, positions):
        kind = uniform.shape[1], tuple(conditioning)
        if kind not in self.graphs:
            self.graphs[kind] = self.capture(conditioning, uniform, positions)
        graph, inputs, outputs = self.graphs[kind]
        for static, value in zip(inputs, (*conditioning.values(), uniform, *positions)):
            static.copy_(value)
        graph.replay()
        return tuple(roll.clone() for roll in outputs)

    def capture(self, conditioning, uniform, positions):
        """(the graph, the tensors it reads, the tensors it writes). What capturing plays is forgotten."""
        before = [tensor.clone() for tensor in (self.x, *self.cache)]
        inputs = [tensor.clone() for tensor in (*conditioning.values(), uniform, *positions)]
        conditioning = dict(zip(conditioning, inputs))
        uniform, *positions = inputs[len(conditioning) :]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            aside
        ):  # libraries set themselves up in the first run, which can't be captured
            super().run_bar(conditioning, uniform, positions)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = super().run_bar(conditioning, uniform, positions)
        for tensor, value in zip((self.x, *self.cache), before):
            tensor.copy_(value)
        return graph, inputs, outputs


def fresh(model, batch_size, guide, temperature, precision=None):
    """A Decoding at its beginning, for its caller alone: on a GPU a captured one, on a CPU a compiled one, if it can be.
    precision: see Decoding and CpuDecoding; None: decoding_precision."""
    start, precision = model.decoder.start, precision or decoding_precision(model)
    kind = CapturedDecoding if start.is_cuda else Decoding
    if start.device.type == "cpu" and start.dtype == torch.float32 and precision in COMPILED:
        kind = CpuDecoding
    return kind(model, batch_size, guide, temperature, precision)


def begin(model, batch_size, guide, temperature, precision=None):
    """A Decoding at its beginning, which the next call may use again: on a GPU it is kept with the model, so that
    the second call is as fast as the hundredth, and made anew where the model's weights have changed or moved since.
    """
    if not model.decoder.start.is_cuda:
        return fresh(model, batch_size, guide, temperature, precision)
    weights = tuple((p.data_ptr(), p._version) for p in model.parameters())
    kept = DerivedCache.of(model, "captured", weights)
    kind = batch_size, guide, temperature, precision
    if kind not in kept:
        if len(kept) == KEPT:
            del kept[next(iter(kept))]
        kept[kind] = fresh(model, batch_size, guide, temperature, precision)
    kept[kind].restart()
    return kept[kind]
