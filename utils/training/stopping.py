"""How a run ends before its last step: on a signal, whole; on a number that is not finite, at once."""

import signal
import threading

import torch


class StopSignals:
    """Within it, SIGTERM and Ctrl-C only set `requested`: the loop finishes its step and saves. What they did
    before comes back at the end. Without effect in a thread other than the main one, which gets no signals."""

    def __init__(self):
        self.requested, self.before = False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.before = {
                number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def _note(self, number, frame):
        self.requested = True

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker=None):
    """For processes that prepare batches: Ctrl-C reaches them too, and the training process still needs them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class FiniteGuard:
    """Keeps what is not finite out of the weights.

    `before_step` looks at every step. On the CPU it raises at once. On other devices reading a number makes the
    host wait for it, so there the optimizer is told on the device to skip that step and all after it, and `check`,
    called before anything is logged or saved, raises for the first of them.
    describe(step) -> text for the message: what a person wants to know of that step.
    """

    def __init__(self, optimizer, device, describe):
        self.optimizer, self.describe = optimizer, describe
        self.at_once = device.type == "cpu"
        self.bad = torch.full(
            (3,), -1.0, dtype=torch.float64 if self.at_once else torch.float32, device=device
        )

    def before_step(self, step, loss, norm):
        """step: number of the optimizer step that is due; loss, norm: 0-d tensors, of its loss and gradient."""
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
                f"step {int(step)}: loss {loss:g}, gradient norm {norm:g}; {self.describe(int(step))}; the step was not "
                "taken, and the last checkpoint holds none of it"
            )
