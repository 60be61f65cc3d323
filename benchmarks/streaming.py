"""Whether a jam is ever late: python benchmarks/streaming.py [--bars 500] [--checkpoint PT]

Plays bar after bar to a bass line, changing a control before every bar and the rhythm before every eighth,
and prints how long the bars took to make and the worst of them as a share of the time that the bar lasts at
200 beats per minute. Below 1 it is never late.
"""

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from inference_bar_control import STYLES, Jam, process_midi
from utils.device import pick_device
from utils.get_model import load_model

TEMPO = 200  # beats per minute
BAR_SECONDS = 4 * 60 / TEMPO
RHYTHM_BARS = 8  # from one change of the rhythm to the next


def changes():
    """What is changed before each bar, without end."""
    rhythms = [process_midi(REPOSITORY / "examples" / name) for name in ("bass_line.mid", "clave_taps.mid")]
    for bar in itertools.count():
        change = {"density": (-1, 0.5, 2)[bar % 3], "style": STYLES[bar % len(STYLES)]}
        if bar % RHYTHM_BARS == 0:
            change["rhythm"] = rhythms[bar // RHYTHM_BARS % len(rhythms)]
        yield change


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=500)
    parser.add_argument("--checkpoint", default=REPOSITORY / "checkpoints/drummer.pt")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    model = load_model(args.checkpoint, pick_device(args.device))
    begin = time.perf_counter()
    jam = Jam(model=model, seed=0)
    taken = []
    for change in itertools.islice(changes(), args.bars):
        jam.change(**change)
        next(jam)[0].cpu()  # where the device works on by itself: until it has done
        taken.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    first, rest = taken[0], taken[1:]
    print(
        f"{args.bars} bars on {next(model.parameters()).device}: {first * 1000:.0f} ms the first, "
        f"then median {statistics.median(rest) * 1000:.0f} ms, worst {max(rest) * 1000:.0f} ms; "
        f"a bar at {TEMPO} BPM lasts "
        f"{BAR_SECONDS * 1000:.0f} ms: worst ratio {max(taken) / BAR_SECONDS:.3f}, median "
        f"{statistics.median(taken) / BAR_SECONDS:.3f}"
    )


if __name__ == "__main__":
    main()
