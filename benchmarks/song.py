"""Do the sections of a song keep their beat: python benchmarks/song.py [--rhythm MIDI] [--seeds 10]

Plays the song to the rhythm with the seeds from 1 on and prints a row for each name of a section. under half:
sections with a backbeat on less than half of the beats two and four. The other figures are means over the
sections: backbeat, timekeeper and likeness as under the table of a take; missed: distance from the wishes;
unanswered: share of the taps without a hit.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from utils.get_model import load_model
from utils.playing.groove import groove_of
from utils.playing.play import play
from utils.playing.receipt import shortcomings
from utils.playing.song import read_song

HEADING = "section", "under half", "backbeat", "timekeeper", "likeness", "missed", "unanswered"


def rows_of(take, sections):
    """(name, figures of HEADING but the first two) of each section, (name, bars), of a take."""
    receipt, first = take.receipt, 0
    for name, bars in sections:
        last = first + bars
        steps, grid = receipt.grid.steps_of(first, last), receipt.grid.cut(first, last)
        asked, rolls = receipt.asked.part(slice(first, last)), [roll[0, steps] for roll in take]
        groove = groove_of(rolls[0], grid, asked["style"])
        lacks = shortcomings(rolls, asked, take.rhythm[0][0, steps], grid)
        figures = [groove[figure] for figure in HEADING[2:5]]
        yield name, [*figures, lacks["missed"], lacks["unanswered"]]
        first = last


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rhythm", default=REPOSITORY / "examples/bass_line.mid")
    parser.add_argument("--song", default=REPOSITORY / "examples/song.yaml")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--checkpoint", default=REPOSITORY / "checkpoints/drummer.pt")
    args = parser.parse_args()
    model, sections, found = load_model(args.checkpoint), read_song(args.song).sections, {}
    for seed in range(1, args.seeds + 1):
        for name, figures in rows_of(play(args.rhythm, song=args.song, model=model, seed=seed), sections):
            found.setdefault(name, []).append(figures)
    print(f"| {' | '.join(HEADING)} |\n|{'---|' * len(HEADING)}")
    for name, figures in found.items():
        figures = np.array(figures, float)
        under = f"{(figures[:, 0] < 0.5).sum()} of {len(figures)}"
        print(f"| {name} | {under} | {' | '.join(f'{mean:.2f}' for mean in np.nanmean(figures, 0))} |")


if __name__ == "__main__":
    main()
