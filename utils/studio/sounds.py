"""One-shots of the nine voices for the page, some velocities each, rendered from the soundfont."""

import midirenderer

from utils.midi import smf
from utils.midi.drums import VOICE_PITCHES, VOICES
from utils.midi.sound import SOUNDFONT

LAYERS = 40, 80, 127


def one_shots():
    """Voice -> {velocity: the bytes of a WAV file}."""
    font = SOUNDFONT.read_bytes()
    return {
        voice: {velocity: midirenderer.render_wave_from(font, _hit(pitch, velocity)) for velocity in LAYERS}
        for voice, pitch in zip(VOICES, VOICE_PITCHES)
    }


def _hit(pitch, velocity):
    hit = [(0, bytes([0x99, pitch, velocity])), (120, bytes([0x89, pitch, 64]))]
    return smf.serialize([smf.Events.of(hit, 1920)], 480)
