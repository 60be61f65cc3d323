"""What each beat plays to real songs: python benchmarks/beats.py [--beats rock jazz] [--bars 8] [--takes 2]

Prints a row for each beat of utils/playing/beats.yaml, "-" for none: what is played to the bass part of each
song of the set that RHYTHMS_ZIP names. Beside them stand the songs' own drummers, who play what they like.
hits: in a bar; 2 and 4, 3: share of those beats with a snare; timekeeper: bars with a hat or the ride on four
steps or more; likeness: F1 of a bar and the one before; F1: of the hits and the real drums'.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from utils.evaluation import brought
from utils.evaluation.bootstrap import f1
from utils.get_model import load_model
from utils.midi.hearing import process_midi
from utils.playing.beats import all_beats
from utils.playing.play import play

HEADING = "hits", "2 and 4", "3", "timekeeper", "likeness", "F1"
NONE = "-"


def figures(takes, rhythm):
    """The figures of HEADING of takes (N, n, 16, 9)."""
    two_and_four, on_three = brought.backbeat(takes, rhythm), takes[:, :, 8, brought.SNARE].mean()
    keeps, likeness = brought.timekeeper(takes, rhythm), brought.likeness(takes, rhythm)
    alike = f1(brought.cells_of(takes, rhythm.real)).mean()
    return [takes.sum((2, 3)).mean(), two_and_four, on_three, keeps, likeness, alike]


def takes_of(song, model, beat, n_takes):
    """What is played to the scored bars of a song, and those between them, (N, n, 16, 9)."""
    first, last = song.bars[0], song.bars[-1] + 1
    rhythm = [
        roll[:, first * brought.STEPS : last * brought.STEPS] for roll in process_midi(song.path, song.track)
    ]
    kind = "part" if model.told_kind else None
    played = play(rhythm, model=model, beat=beat, rhythm_is=kind, num_samples=n_takes, seed=1)
    onsets = [brought.in_bars(take.onset[0].numpy() > 0) for take in played]
    return np.stack([onset[song.bars - first] for onset in onsets])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beats", nargs="+", default=[NONE, *all_beats()])
    parser.add_argument("--bars", type=int, default=8, help="of a song, the first in which all play")
    parser.add_argument("--takes", type=int, default=2)
    parser.add_argument("--checkpoint", default=REPOSITORY / "checkpoints/drummer.pt")
    args = parser.parse_args()
    model = load_model(args.checkpoint)
    with brought.rhythm_folder() as folder:
        songs = [
            replace(song, **{name: getattr(song, name)[: args.bars] for name in ("bars", "real", "struck")})
            for song in brought.read_rhythms(folder)[brought.SONGS]
        ]
        print(f"| beat | {' | '.join(HEADING)} |\n|{'---|' * (len(HEADING) + 1)}")
        show("songs' own", [figures(song.real[None], song) for song in songs])
        for beat in args.beats:
            given = None if beat == NONE else beat
            show(beat, [figures(takes_of(song, model, given, args.takes), song) for song in songs])


def show(name, rows):
    hits, *shares = np.mean(rows, 0)
    print(f"| {name} | {hits:.1f} | {' | '.join(f'{share:.2f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
