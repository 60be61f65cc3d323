"""What bfloat16 costs where a GPU plays in it: nats, teacher-forced, on windows of the validation split.

    python benchmarks/precision.py --corpus data/groove-v1.0.0-midionly.zip [--windows 300] [--checkpoint PT]

In float32; with encoder, condition and their projection under autocast in bfloat16, as a GPU plays, see
model.decoding.steps.encoding_autocast; with all of the model under it. Autocast on a CPU rounds as on a GPU.
"""

import argparse
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import torch
from torch.utils._pytree import tree_map_only

from preprocessing import preprocess
from utils.config.schema import load_config
from utils.device import pick_device
from utils.evaluation.player import in_batches
from utils.evaluation.sets import windows_of
from utils.get_model import load_model
from utils.training.metrics import likelihood


def in_bfloat16(function, device):
    """function under autocast in bfloat16, what it returns in float32."""

    def run(*arguments):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            returned = function(*arguments)
        return tree_map_only(torch.Tensor, lambda x: x.float() if x.is_floating_point() else x, returned)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="the zip, or a folder, of the Groove MIDI Dataset")
    parser.add_argument("--windows", type=int, default=300, help="of four bars (default: %(default)s)")
    parser.add_argument("--checkpoint", default=REPOSITORY / "checkpoints/drummer.pt")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = pick_device(args.device)
    model = load_model(args.checkpoint, device)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"Data.corpus={args.corpus}", f"Data.cache_dir={folder}"]
        config = load_config(REPOSITORY / "config.yaml", overrides)
        cache, factor = preprocess(config), model.normalize_factor
        windows = windows_of("T4", cache, "validation", config.Data, factor, n_windows=args.windows)

    def report(name, autocast=None):
        figures = likelihood(model, in_batches(windows.batch), device, autocast=autocast)
        for setting, heads in figures.items():
            print(
                f"{name:24} {setting:8}" + "".join(f"  {head} {nats:.5f}" for head, nats in heads.items()),
                flush=True,
            )

    n = len(windows.batch["mask"])
    print(f"nats of {n} windows on {device}: onset and total per step, velocity and offset per hit")
    report("float32")
    model.encode = in_bfloat16(model.encode, device)
    for part, name in ((model.condition, "forward"), (model.decoder, "project_condition")):
        setattr(part, name, in_bfloat16(getattr(part, name), device))
    report("encoder and condition")
    report("all in bfloat16", torch.bfloat16)


if __name__ == "__main__":
    main()
