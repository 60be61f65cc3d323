"""Drums for a rhythm, under control bar by bar.

As a library:  from inference_bar_control import *     (process_midi, generate_control_params, generate, ...)
As a command:  python inference_bar_control.py --rhythm examples/clave_taps.mid --style funk

Shapes: T steps of a sixteenth, 16 to a bar of 4/4; nine voices in the order of utils/midi/drums.py. A roll is
three tensors (1, T, 9): onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, the latter two 0 where
nothing is hit.
"""

import sys
import warnings

from utils.playing.arguments import parse_arguments

# The command line is read before the imports below, which take seconds: --help and a typo answer at once.
arguments = parse_arguments() if __name__ == "__main__" else None

import numpy as np
import torch

from utils.get_model import get_model
from utils.midi.drums import STYLES, VOICES, inverse_mapping, mapping, mapping_table
from utils.midi.hearing import drums_from_midi, list_tracks, process_midi
from utils.playing.command import run
from utils.playing.controls import generate_control_params
from utils.playing.generate import generate
from utils.playing.jam import Jam
from utils.playing.jobs import add_voices, continue_drums, humanise, infill, interpolate, vary
from utils.playing.play import play
from utils.playing.song import read_song
from utils.playing.takes import Take, convert_to_midi

__all__ = [
    "torch",
    "np",
    "STYLES",
    "VOICES",
    "mapping",
    "mapping_table",
    "inverse_mapping",
    "get_model",
    "process_midi",
    "drums_from_midi",
    "list_tracks",
    "generate_control_params",
    "generate",
    "Jam",
    "read_song",
    "convert_to_midi",
    "play",
    "Take",
    "humanise",
    "add_voices",
    "infill",
    "continue_drums",
    "vary",
    "interpolate",
]


def main(arguments):
    """The command line. Returns the exit status: 0, or 2 after one line on stderr."""

    def say(text):
        print(f"inference_bar_control.py: {' '.join(str(text).split())}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(message)
            run(arguments)
    except (OSError, ValueError) as error:
        say(f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(arguments))
