"""Decoding on a GPU: the steps of a bar are captured once as a CUDA graph, and replayed as one launch.

A step is some hundred small kernels, and launching them one by one takes the CPU far longer than the GPU
needs for them.
"""

import contextlib
import copy
from types import SimpleNamespace

import torch

from model.decoding.cpu_steps import COMPILED, CpuDecoding
from model.decoding.steps import Decoding, decoding_precision
from model.decoding.weights import tensors_in
from model.derived_cache import DerivedCache

KEPT = 4  # graphs of one model: of as many batch sizes, temperatures, sets of known cells...


class CapturedDecoding(Decoding):
    """A Decoding whose bars are CUDA graphs, one for each kind of bar: how long it is, and which conditioning
    it has.

    The graphs read a copy of the model's weights that stays where it is. `refresh` copies them anew, on the
    device: it need not ask whether they changed, which only a wait for the device would tell.
    """

    def __init__(self, model, *arguments):
        self.live, self.graphs = model, {}
        parts = copy.deepcopy([model.decoder, model.onset_head, model.hit_head, model.budget])
        own = SimpleNamespace(velocity_bins=model.velocity_bins, offset_bins=model.offset_bins)
        own.decoder, own.onset_head, own.hit_head, own.budget = parts
        super().__init__(own, *arguments)

    @torch.no_grad()
    def refresh(self):
        """Read the model's weights as they are now."""
        torch._foreach_copy_(parameters(self.model), parameters(self.live))
        torch._foreach_copy_(
            *(tensors_in(derived) for derived in ((self.weights, self.heads), self.derive()))
        )

    def run_bar(self, conditioning, uniform, positions):
        kind = uniform.shape[1], tuple(conditioning)
        with on_device(self.x.device):
            if kind not in self.graphs:
                self.graphs[kind] = self.capture(conditioning, uniform, positions)
            graph, inputs, outputs = self.graphs[kind]
            for static, value in zip(inputs, (*conditioning.values(), uniform, *positions)):
                static.copy_(value)
            graph.replay()
            return outputs

    def capture(self, conditioning, uniform, positions):
        """(the graph, the tensors it reads, the tensors it writes). The state is left as it was."""
        before = [tensor.clone() for tensor in (self.x, *self.cache)]
        inputs = [tensor.clone() for tensor in (*conditioning.values(), uniform, *positions)]
        conditioning = dict(zip(conditioning, inputs))
        uniform, *positions = inputs[len(conditioning) :]
        stream = torch.cuda.Stream(self.x.device)
        stream.wait_stream(torch.cuda.current_stream(self.x.device))
        with torch.cuda.stream(stream):  # libraries set themselves up in a first run, which can't be captured
            super().run_bar(conditioning, uniform, positions)
        torch.cuda.current_stream(self.x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # other threads, as one that pins memory for a loader, may go on calling CUDA
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = super().run_bar(conditioning, uniform, positions)
        for tensor, value in zip((self.x, *self.cache), before):
            tensor.copy_(value)
        return graph, inputs, outputs


def parameters(model):
    parts = model.decoder, model.onset_head, model.hit_head, model.budget
    return [p.detach() for part in parts if part is not None for p in part.parameters()]


def on_device(device):
    """The device of the current stream and of new graphs, and not another one of the machine's."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@torch.inference_mode(False)  # what is allocated may be used, and written, outside of it as well
@torch.no_grad()
def fresh(model, batch_size, guide, temperature, precision=None):
    """A Decoding at its beginning, for its caller alone: on a GPU a captured one, on a CPU a compiled one, if
    it can be. precision: see Decoding and CpuDecoding; None: decoding_precision."""
    start, precision = model.decoder.start, precision or decoding_precision(model)
    kind = Decoding
    if start.is_cuda:
        kind = CapturedDecoding
    elif start.device.type == "cpu" and start.dtype == torch.float32 and precision in COMPILED:
        kind = CpuDecoding
    return kind(model, batch_size, guide, temperature, precision)


@torch.inference_mode(False)
@torch.no_grad()
def begin(model, batch_size, guide, temperature, precision=None):
    """A Decoding at its beginning, of the model's weights as they are now. On a GPU it is kept with the
    model, so that the second call is as fast as the hundredth."""
    if not model.decoder.start.is_cuda:
        return fresh(model, batch_size, guide, temperature, precision)
    cache = DerivedCache.of(model, "captured")
    kind = batch_size, guide, temperature, precision or decoding_precision(model)
    if kind in cache:
        cache[kind].refresh()
        cache[kind].restart()
        return cache[kind]
    if len(cache) == KEPT:
        del cache[next(iter(cache))]
    cache[kind] = fresh(model, batch_size, guide, temperature, precision)
    return cache[kind]
