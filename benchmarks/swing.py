"""Does what answers no tap swing as the tap does? Drums to taps and bass lines made by hand, of four bars.

    python benchmarks/swing.py [--checkpoint PT] [--takes 16]

Of the off-beats that the drums have where the rhythm is silent: how many a bar, their ratio (.5 straight,
.667 in triplets, see utils/playing/swing.py), the shares nearer to triplets and straight, their spread. As
drawn, as `play` hears the rhythm by itself, and with swing="rhythm". A model that is told what a rhythm is
hears hands, or a part.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np
import torch

from model.bars import BarGrid
from utils.get_model import SHIPPED, load_model
from utils.midi.drums import N_VOICES, RHYTHM_CHANNEL
from utils.playing.play import play
from utils.playing.swing import off_beat_places, weighted_median

BARS, TRIPLET = 4, 2 / 3
WAYS = {"as drawn": "-", "as heard": None, "--swing rhythm": "rhythm"}
GRID = BarGrid.four_four_bars(BARS, 4)
BEATS = {  # name -> what it is, and at each beat of the bar where notes are
    "quarters, the last off-beat": ("hands", [[0], [0], [0], [0, TRIPLET]]),
    "shuffle, beats 2 and 4 alone": ("hands", [[0, TRIPLET], [0], [0, TRIPLET], [0]]),
    "shuffle bass, with rests": ("part", [[0, TRIPLET], [0], [TRIPLET], [0]]),
    "triplet bass": ("part", [[0, 1 / 3, TRIPLET]] * 3 + [[0]]),
}


def rolls_of(beats):
    """The rhythm as three rolls (1, T, 9); the beat is louder."""
    rolls = torch.zeros(3, 1, GRID.n_steps, N_VOICES)
    for beat in range(4 * BARS):
        for u in beats[beat % 4]:
            place = 4 * (beat + u)
            step = round(place)
            note = torch.tensor([1, 0.5 if u else 0.8, place - step])
            rolls[:, 0, step, RHYTHM_CHANNEL] = note
    return rolls


def figures_of(rhythm, takes):
    """A line of figures of takes, three rolls (N, T, 9)."""
    silent = ~(rhythm[0][0] > 0).any(-1, keepdim=True).numpy()
    u, weight = off_beat_places(*(roll.numpy() for roll in takes), GRID, silent)
    hits = f"{len(u) / len(takes[0]) / BARS:5.2f} a bar"
    if not len(u):
        return hits
    thirds, straight = ((low < u) & (u < high) for low, high in ((7 / 12, 17 / 24), (0.42, 13 / 24)))
    figures = {"ratio": weighted_median(u, weight), "triplets": thirds.mean(), "straight": straight.mean()}
    return ", ".join([hits, *(f"{of} {x:.2f}" for of, x in figures.items()), f"spread {np.std(u):.3f}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=SHIPPED)
    parser.add_argument("--takes", type=int, default=16, help="of each (default: %(default)s)")
    args = parser.parse_args()
    model = load_model(args.checkpoint, torch.device("cpu"))
    for name, (kind, beats) in BEATS.items():
        rhythm = rolls_of(beats)
        told = {"rhythm_is": kind} if model.told_kind else {}
        for style in (None, "rock", "jazz", "blues"):
            for title, swing in WAYS.items():
                how = {"model": model, "num_samples": args.takes, "seed": 0, "swing": swing}
                takes = play(rhythm, style=style, **how, **told)
                rolls = [torch.cat(parts) for parts in zip(*takes)]
                title = f"{name}, {style or 'no style'}, {title}"
                print(f"{title:58}{figures_of(rhythm, rolls)}", flush=True)


if __name__ == "__main__":
    main()
