"""One-shots of the nine voices for the page, some velocities each, rendered from the soundfont."""

import io
import wave

import numpy as np
from midirenderer import render_wave_from

from utils.midi import smf
from utils.midi.drums import VOICE_PITCHES, VOICES
from utils.midi.sound import SOUNDFONT

VELOCITIES = 40, 80, 120
SECONDS = {"crash": 2.4, "ride": 2.4, "open_hat": 1.6}  # how long a voice rings; others a second
TICKS = 480  # of a quarter, which lasts half a second


def one_shots():
    """All of them in one WAV, 16 bit, mono, one after the other, as bytes; and where each is: a list of voice,
    velocity, start and seconds."""
    table, events, start = [], [], 0.0
    for voice, pitch in zip(VOICES, VOICE_PITCHES):
        for velocity in VELOCITIES:
            seconds, tick = SECONDS.get(voice, 1.0), round(start * 2 * TICKS)
            table.append({"voice": voice, "velocity": velocity, "start": start, "seconds": seconds})
            events.append((tick, bytes([0x99, pitch, velocity])))
            events.append((tick + TICKS // 4, bytes([0x89, pitch, 64])))
            start += seconds
    midi = smf.serialize([smf.Events.of(events, round(start * 2 * TICKS))], TICKS)
    with wave.open(io.BytesIO(render_wave_from(SOUNDFONT.read_bytes(), midi))) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    wanted = round(start * rate)
    mono = np.zeros(wanted, np.int16)
    heard = samples[:wanted].mean(1)
    mono[: len(heard)] = heard
    with wave.open(data := io.BytesIO(), "wb") as file:
        file.setparams((1, 2, rate, wanted, "NONE", None))
        file.writeframes(mono.tobytes())
    return data.getvalue(), table
