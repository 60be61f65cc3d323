"""Writes the example rhythms of this folder. They were composed for this project and are free to use like it.

    python examples/make_examples.py            into this folder
    python examples/make_examples.py FOLDER     into another

Every run writes the same bytes: the human unevenness of timing and velocity comes from a fixed seed.
"""

import argparse
import random
from pathlib import Path

import pretty_midi

STEPS_PER_BAR = 16


def play(bars, tempo, name, program, is_drum, length, looseness, seed):
    """Turn bars of (step, pitch, velocity) into MIDI. length and looseness (of timing): in steps."""
    chance = random.Random(seed)
    midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=tempo)
    midi.time_signature_changes.append(pretty_midi.TimeSignature(4, 4, 0))
    instrument = pretty_midi.Instrument(program, is_drum, name)
    seconds_per_step = 60 / tempo / 4
    for bar, notes in enumerate(bars):
        for step, pitch, velocity in notes:
            start = max(0, bar * STEPS_PER_BAR + step + chance.gauss(0, looseness))
            loudness = min(127, max(1, round(velocity + chance.gauss(0, 4))))
            instrument.notes.append(
                pretty_midi.Note(
                    loudness, pitch, start * seconds_per_step, (start + length) * seconds_per_step
                )
            )
    midi.instruments.append(instrument)
    return midi


def clave_taps():
    """Fingers on a table: the 3-2 son clave, accents on its long notes, a small variation in the last bar."""
    three = [(0, 75, 104), (6, 75, 82), (12, 75, 96)]
    two = [(4, 75, 84), (8, 75, 100)]
    turn = [(4, 75, 84), (8, 75, 100), (11, 75, 64), (14, 75, 90)]
    return play([three, two, three, turn], 104, "taps", 0, True, 0.5, 0.06, seed=1)


def bass_line():
    """A bass line in E minor that leans on the one and answers off the beat."""
    groove = [(0, 28, 112), (3, 28, 70), (6, 31, 92), (8, 28, 60), (10, 33, 96), (11, 34, 84), (14, 35, 90)]
    answer = [(0, 28, 110), (3, 28, 74), (6, 38, 96), (10, 35, 88), (12, 33, 84), (13, 31, 66), (14, 28, 92)]
    climb = [(0, 24, 110), (3, 24, 72), (6, 31, 90), (8, 26, 108), (11, 26, 70), (14, 33, 94)]
    return play([groove, answer, groove, climb], 96, "bass", 33, False, 1.2, 0.05, seed=2)


def guitar_strum():
    """Strummed quavers with a push: chords of several notes, up-strokes lighter, strings a little apart."""
    chords = [(52, 59, 64, 67), (48, 55, 60, 64), (55, 59, 62, 67), (50, 57, 62, 66)]
    strokes = [(0, 100), (4, 84), (6, 62), (8, 94), (10, 58), (12, 86), (14, 66)]
    push = strokes[:-1] + [(15, 92)]
    bars = []
    for bar, chord in enumerate(chords):
        pattern = push if bar % 2 else strokes
        bars.append(
            [
                (step + 0.05 * string, pitch, velocity)
                for step, velocity in pattern
                for string, pitch in enumerate(chord)
            ]
        )
    return play(bars, 120, "guitar", 25, False, 1.5, 0.03, seed=3)


EXAMPLES = {"clave_taps.mid": clave_taps, "bass_line.mid": bass_line, "guitar_strum.mid": guitar_strum}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().folder
    for name, compose in EXAMPLES.items():
        compose().write(str(folder / name))


if __name__ == "__main__":
    main()
