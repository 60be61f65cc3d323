"""Whether a model's weights are what they were."""

import numpy as np
import torch

from model.decoding.cpu_kernels import checksum


def fingerprint(tensors):
    """Numbers that change whenever a value of the tensors changes, whoever changed it and however: by an
    optimizer's fused step, by a swap of `.data`, in place. A model moved or widened to float64 keeps its
    fingerprint.

    The values themselves are looked at, as float32: torch's counters of changes see neither of the first two.
    One read of the weights, and on another device than the CPU one copy of all.
    """
    tensors = [tensor.detach().flatten().float() for tensor in tensors]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        tensors = [torch.cat(tensors).cpu()]
    return [checksum(tensor.numpy().view(np.uint32)) for tensor in tensors]


def tensors_in(derived):
    """The tensors in lists, and in attributes of objects, in order."""
    if isinstance(derived, torch.Tensor):
        return [derived]
    parts = derived if isinstance(derived, (list, tuple)) else getattr(derived, "__dict__", {}).values()
    return [tensor for part in parts for tensor in tensors_in(part)]
