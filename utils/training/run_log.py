"""What a training run leaves behind to look at: metrics.jsonl and TensorBoard events, side by side."""

import os
from pathlib import Path

from utils.files import json_text, write_text
from utils.training.runs import METRICS_FILE, read_metrics

# The figures that tell the time. All others are the same in a run that was resumed and in one that was not.
CLOCKS = ("samples_per_second", "data_wait")


class RunLog:
    def __init__(self, folder, from_step, enabled=True):
        """Figures after `from_step` that an earlier, interrupted run wrote are cut off: they come again.
        enabled: False for a log that writes nothing, as that of all processes but the main one."""
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        path = Path(folder) / METRICS_FILE
        kept = [line for line in read_metrics(path) if line["step"] <= from_step] if path.exists() else []
        write_text(path, "".join(json_text(line) + "\n" for line in kept))
        self.file = open(path, "a", encoding="utf-8")
        self.events = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=from_step + 1)

    def write(self, step, figures, kind):
        """One line of figures, a dict of numbers; `kind` is "train" or "validation"."""
        if not self.enabled:
            return
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in figures.items()}
        self.file.write(json_text({"step": step, "kind": kind, **plain}) + "\n")
        self.file.flush()
        for name, value in plain.items():
            if value is not None:
                self.events.add_scalar(f"{kind}/{name}", value, step)

    def image(self, step, name, path):
        """A picture, the PNG at `path`, under "samples" in TensorBoard."""
        if not self.enabled:
            return
        from matplotlib.image import imread

        self.events.add_image(f"samples/{name}", imread(path)[..., :3], step, dataformats="HWC")

    def flush(self):
        """Puts all on the disk, before a checkpoint is saved: none may outlive the figures of its steps."""
        if self.enabled:
            os.fsync(self.file.fileno())
            self.events.flush()

    def close(self):
        if self.enabled:
            self.flush()
            self.file.close()
            self.events.close()
