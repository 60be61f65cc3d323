"""What a training run leaves behind to look at: metrics.jsonl and TensorBoard events, side by side."""

import json
from pathlib import Path

from utils.files import write_text


class RunLog:
    def __init__(self, folder, from_step, enabled=True):
        """Figures after `from_step` that an earlier, interrupted run wrote are cut off: they come again."""
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.path = Path(folder) / "metrics.jsonl"
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _step_of(line) <= from_step]
            write_text(self.path, "".join(line + "\n" for line in kept))
        self.file = open(self.path, "a")
        self.events = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=from_step + 1)

    def write(self, step, figures, kind):
        """One line of figures, a dict of floats; `kind` is "train" or "validation"."""
        if not self.enabled:
            return
        self.file.write(json.dumps({"step": step, "kind": kind, **figures}) + "\n")
        self.file.flush()
        for name, value in figures.items():
            self.events.add_scalar(f"{kind}/{name}", value, step)

    def flush(self):
        pass

    def close(self):
        if not self.enabled:
            return
        self.file.close()
        self.events.close()


def _step_of(line):
    """The step of a line; a line that a crash cut in two belongs nowhere."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
