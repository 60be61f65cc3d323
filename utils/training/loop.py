"""What the training loop leans on: averaged weights, the guard against NaN, stop signals, the clock,
speed."""

import ctypes
import signal
import threading
import time
from contextlib import contextmanager

import torch

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
        """step: number of the optimizer step that is due; loss, norm: 0-d tensors, of its loss and
        gradient."""
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


class StopSignals:
    """Within it, SIGTERM and Ctrl-C only set `requested`: the loop finishes its step and saves.

    Without effect in a thread other than the main one, which gets no signals.
    """

    def __init__(self):
        self.requested, self.before = False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._request)
        return self

    def _request(self, number, frame):
        self.requested = True

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker=None):
    """For processes that prepare batches: Ctrl-C reaches them too, and the training process still needs
    them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class Clock:
    """The pace of the loop, and how much of it goes into waiting for batches."""

    def __init__(self):
        self.began, self.waited = time.perf_counter(), 0.0

    def waiting(self, batches):
        """The same batches; the time that each takes to come is noted."""
        batches = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    @contextmanager
    def stopped(self):
        """Within it no time passes."""
        since = time.perf_counter()
        yield
        self.began += time.perf_counter() - since

    def lap(self, n_windows):
        """Figures since the last lap, in which n_windows were trained on: samples_per_second, and data_wait,
        the share of the time in which nothing was done but wait for a batch."""
        now = time.perf_counter()
        taken, waited = now - self.began, self.waited
        self.began, self.waited = now, 0.0
        return {"samples_per_second": n_windows / taken, "data_wait": waited / taken}


def compile_model(model):
    """torch.compile of the encoder and the decoder, in place. The keys of the state dict stay, and sampling,
    which takes the decoder step by step, goes without. Dropout draws as it does uncompiled."""
    for part in (model.encoder, model.decoder):
        part.compile(options={"fallback_random": True})


def keep_freed_memory():
    """Lets glibc keep what tensors on the CPU free, for the next ones. Elsewhere nothing happens.

    Otherwise a step asks the system for the same hundreds of megabytes again and again, page by page.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        return
    set_option(MALLOC_MMAP_THRESHOLD, 2**30)
    set_option(MALLOC_TRIM_THRESHOLD, 2**31 - 1)
