"""The pace of a training loop, and how much of it goes into waiting for batches."""

import time
from contextlib import contextmanager


class Clock:
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
        """Figures since the last lap, in which n_windows were trained on: samples_per_second, and data_wait, the
        share of the time in which nothing was done but wait for a batch."""
        now = time.perf_counter()
        taken, waited = now - self.began, self.waited
        self.began, self.waited = now, 0.0
        return {"samples_per_second": n_windows / taken, "data_wait": waited / taken}
