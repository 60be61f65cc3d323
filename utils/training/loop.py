"""What the training loop leans on: averaged weights, a guard against NaN, stop signals, a clock, speed."""

import ctypes
import signal
import threading
import time
from contextlib import contextmanager

import torch

STOPPING = (signal.SIGTERM, signal.SIGINT)
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # what glibc's mallopt calls them


class EMA:
    """An exponential moving average of the weights: what is validated, sampled and shipped."""

    def __init__(self, model, decay):
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def load(self, weights):
        """Go on from the averages of a checkpoint, name -> tensor, on whatever device."""
        self.weights = {name: weights[name].to(own.device) for name, own in self.weights.items()}

    @torch.no_grad()
    def update(self, model, step):
        """After optimizer step number `step` (from 1). The decay warms up, to forget the random start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged = [self.weights[name] for name, _ in model.named_parameters()]
        torch._foreach_lerp_(averaged, list(model.parameters()), 1 - decay)

    @contextmanager
    def swapped_in(self, model):
        """Within it the model has the averaged weights and is in eval mode."""
        training = model.training
        own = {name: p.data for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.data = self.weights[name]
        model.eval()
        try:
            yield model
        finally:
            for name, p in model.named_parameters():
                p.data = own[name]
            model.train(training)


class FiniteGuard:
    """Keeps what is not finite out of the weights.

    `before_step` looks at every step. On the CPU it raises at once. On other devices reading a number makes
    the host wait, so there a fused optimizer skips that step and all after it on the device, and `check`,
    called before anything is logged or saved, raises for the first of them.
    """

    def __init__(self, optimizer, device, describe):
        """describe(step) -> text for the message: what a person wants to know of that step."""
        self.optimizer, self.describe = optimizer, describe
        self.at_once = device.type == "cpu"
        if not self.at_once and not all(group.get("fused") for group in optimizer.param_groups):
            raise ValueError(
                f"optimizer: not fused; on {device.type} only a fused one skips steps that are not finite"
            )
        dtype = torch.float64 if self.at_once else torch.float32
        self.bad = torch.full((3,), -1.0, dtype=dtype, device=device)  # step, loss, norm; step -1: none

    def before_step(self, step, loss, norm):
        """step: of the optimizer step that is due; loss, norm: 0-d tensors, of its loss and gradient."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        seen = torch.stack((torch.full_like(norm, step), loss, norm)).to(self.bad.dtype)
        self.bad = torch.where(finite | (self.bad[0] >= 0), self.bad, seen)
        if self.at_once:
            self.check()
        else:  # the protocol of torch.amp.GradScaler: a fused optimizer skips where found_inf is 1
            self.optimizer.found_inf = (self.bad[0] >= 0).float()

    def check(self):
        """Raises FloatingPointError if any step so far was not finite."""
        step, loss, norm = self.bad.tolist()
        if step >= 0:
            raise FloatingPointError(
                f"step {int(step)}: loss {loss:g}, gradient norm {norm:g}; {self.describe(int(step))}; "
                "the step was not taken, and the last checkpoint holds none of it"
            )


@contextmanager
def stop_signals():
    """Within it, SIGTERM and Ctrl-C only add to the list that it gives: the loop finishes its step and saves.

    Without effect in a thread other than the main one, which gets no signals.
    """
    requested, before = [], {}

    def request(number, frame):
        requested.append(number)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, request) for number in STOPPING}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker=None):
    """For processes that prepare batches: Ctrl-C reaches them too, and training still needs them."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class Clock:
    """The pace of the loop, and how much of it goes into waiting for batches."""

    def __init__(self):
        self.began, self.waited = time.perf_counter(), 0.0

    def waiting(self, batches):
        """The same batches; the time that each takes to come is noted."""
        asked = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    @contextmanager
    def stopped(self):
        """Within it no time passes."""
        since = time.perf_counter()
        yield
        self.began += time.perf_counter() - since

    def lap(self, n_windows):
        """Figures since the last lap, in which n_windows were trained on: samples_per_second, and data_wait,
        the share of the time in which nothing was done but wait for a batch."""
        taken = time.perf_counter() - self.began
        figures = {"samples_per_second": n_windows / taken, "data_wait": self.waited / taken}
        self.began, self.waited = self.began + taken, 0.0
        return figures


def compile_model(model):
    """torch.compile of the encoder and the decoder, in place. The keys of the state dict stay, and sampling,
    which takes the decoder step by step, goes without. Dropout draws as it does uncompiled."""
    for part in (model.encoder, model.decoder):
        part.compile(options={"fallback_random": True})


def keep_freed_memory():
    """Lets glibc keep what tensors on the CPU free, or a step asks the system for the same hundreds of
    megabytes again and again, page by page. Elsewhere nothing happens."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        return
    set_option(MALLOC_MMAP_THRESHOLD, 2**30)
    set_option(MALLOC_TRIM_THRESHOLD, 2**31 - 1)
