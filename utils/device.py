"""Which device to run on."""

import contextlib
import functools

import torch

from utils.checks import ArgumentError
from utils.warn import warn

SHORT = 128  # steps that one thread encodes sooner than two, see docs/experiments.md
FEW = 8  # takes that one thread draws as soon as two, which wait for each other in every small operation


def on_cpu(function):
    """A function that makes its tensors on the CPU unless it names a device, whatever the user has given to
    torch.set_default_device."""

    @functools.wraps(function)
    def made_on_cpu(*arguments, **options):
        if torch.get_default_device().type == "cpu":
            return function(*arguments, **options)
        with torch.device("cpu"):
            return function(*arguments, **options)

    return made_on_cpu


@contextlib.contextmanager
def few_threads(n_steps, device, takes=1):
    """One thread of the CPU where one plays so few steps, in FEW takes at most, that waking another costs
    more; far more where another program has the core. It holds for this thread, and for those that use torch
    for the first time meanwhile."""
    before = torch.get_num_threads()
    few = device.type == "cpu" and before > 1 and n_steps <= SHORT and takes <= FEW
    if few:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if few:
            torch.set_num_threads(before)


def pick_device(name="auto"):
    """torch.device for a name such as "cpu", "cuda:1", "mps" or "auto"; one that is absent gives the CPU and
    a warning.

    ArgumentError for a name that means no device anywhere.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        rule = "it must be auto, or a device such as cpu, cuda:0 or mps"
        raise ArgumentError("device", name, rule) from None
    there = {
        "cpu": lambda: True,
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if device.type not in there or not there[device.type]():
        warn(f"device {name} is not here; the CPU is used instead")
        return torch.device("cpu")
    return device
