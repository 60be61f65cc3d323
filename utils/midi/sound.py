"""MIDI files to sound, with a soundfont; and single hits of the kit, for a page that plays them itself."""

import io
import wave
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import midirenderer
import numpy as np

from utils.checks import ArgumentError, file_name, shorten
from utils.files import written_whole
from utils.midi import smf
from utils.midi.drums import VOICE_PITCHES, VOICES
from utils.midi.find_drums import DRUM_CHANNEL
from utils.midi.read import read_midi
from utils.midi.timeline import Timeline

SAMPLE_RATE = 48000  # the renderer's own; it begins a note up to 64 samples late, 1.3 ms
# General MIDI, 6 MB; comes with pretty_midi
SOUNDFONT = Path(find_spec("pretty_midi").origin).with_name("TimGM6mb.sf2")
RING = 2.5  # seconds in which the last notes die away
MOST_MINUTES = 30  # of sound; a minute takes 12 MB in the file and 35 MB of memory
LAYERS = 40, 80, 127  # velocities
SILENCE = 0.001  # of the peak, -60 dB


def check_soundfont(path):
    """Raise ArgumentError where path is neither a soundfont nor None."""
    if path is None:
        return
    rule = "it must be a soundfont (.sf2)"
    if not Path(file_name(path, "soundfont")).is_file():
        raise ArgumentError("soundfont", path, rule, f"{path}: no such file")
    try:
        _rendered(smf.serialize([smf.Events.of([], 0)], 480), path)
    except ValueError as error:
        raise ArgumentError("soundfont", path, rule, str(error)) from None


def render(midi, path, soundfont=None):
    """Play a MIDI file (a path, or its bytes) into a WAV file, 16 bit, stereo, RING seconds longer; whole or
    not at all. The gain is always the same, so that soft takes sound softer.

    soundfont: a .sf2 file; None: SOUNDFONT. Raises ValueError where the file can't be played or written, or
    lasts longer than MOST_MINUTES.
    """
    data = sound_of(midi, soundfont)
    with written_whole(path) as aside:
        aside.write_bytes(data)


def sound_of(midi, soundfont=None):
    """The bytes of what `render` writes."""
    data = midi if isinstance(midi, bytes) else Path(midi).read_bytes()
    timeline, file = Timeline.of(read_midi(data)), smf.parse(data)
    end = max(track.end for track in file.tracks)
    minutes = timeline.seconds(end) / 60
    if minutes > MOST_MINUTES:
        raise ValueError(f"it lasts {minutes:.0f} minutes; sound is made of {MOST_MINUTES} at most")
    end += ceil(RING * 1e6 / timeline.tempos[-1][1] * file.tpq)
    return _rendered(smf.serialize([*file.tracks, smf.Events.of([], end)], file.tpq), soundfont)


def one_shots(velocities=LAYERS, soundfont=None):
    """A hit of each voice at each velocity (1 to 127): voice name -> {velocity: the bytes of a WAV file}.

    A hit sounds from the file's first sample on, and the file ends where it has died away. Between two
    velocities the amplitude goes with the square of the velocity. Raises ValueError as `render` does.
    """
    shots = {}
    for name, pitch in zip(VOICES, VOICE_PITCHES):
        shots[name] = {velocity: _one_shot(pitch, velocity, soundfont) for velocity in velocities}
    return shots


def _one_shot(pitch, velocity, soundfont):
    tpq, second = 480, 960  # ticks, at 120 bpm
    hit = [(0, bytes([0x90 | DRUM_CHANNEL, pitch, velocity])), (120, bytes([0x80 | DRUM_CHANNEL, pitch, 64]))]
    data = _rendered(smf.serialize([smf.Events.of(hit, ceil(RING * second))], tpq), soundfont)
    with wave.open(io.BytesIO(data)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    loud = np.abs(sound.astype(int)).max(1)
    end = np.flatnonzero(loud > SILENCE * loud.max()).max(initial=0) + 1
    with wave.open(shot := io.BytesIO(), "wb") as file:
        file.setparams((2, 2, SAMPLE_RATE, 0, "NONE", None))
        file.writeframes(sound[:end].tobytes())
    return shot.getvalue()


def _rendered(midi, soundfont):
    """The bytes of a WAV file. Raises ValueError."""
    path = SOUNDFONT if soundfont is None else Path(soundfont)
    try:
        return midirenderer.render_wave_from(path.read_bytes(), midi)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # of a damaged soundfont the renderer panics, which is no Exception
        raise ValueError(f"{path}: can't be played ({shorten(str(error))})") from None
