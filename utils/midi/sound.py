"""MIDI files to sound, through the program FluidSynth."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from utils.files import written_whole

SAMPLE_RATE = 44100
# General MIDI, 6 MB; comes with pretty_midi
SOUNDFONT = Path(find_spec("pretty_midi").origin).with_name("TimGM6mb.sf2")
GAIN = 0.2  # always the same, so that soft takes sound softer; a full band beside the drums doesn't clip yet


def find_fluidsynth():
    """The path of the program. Raises ValueError that says how to install it."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise ValueError(
            "sound (--wav) needs the program FluidSynth, which isn't installed: "
            "'sudo apt install fluidsynth' on Debian and Ubuntu, 'brew install fluid-synth' on macOS, "
            "'choco install fluidsynth' on Windows"
        )
    return program


def render(midi_path, wav_path):
    """Play a MIDI file with a General MIDI soundfont into a WAV file, 16 bit, stereo; whole or not at all.

    Raises ValueError where FluidSynth isn't installed, fails, or the file can't be written.
    """
    program = find_fluidsynth()
    with written_whole(wav_path) as aside:
        words = [
            program,
            *f"-n -i -q -g {GAIN} -r {SAMPLE_RATE} -T wav -F".split(),
            aside,
            SOUNDFONT,
            midi_path,
        ]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        if done.returncode or not aside.is_file():
            said = " ".join((done.stderr or done.stdout).split())[-300:] or f"exit status {done.returncode}"
            raise ValueError(f"{midi_path}: FluidSynth can't play it ({said})")
