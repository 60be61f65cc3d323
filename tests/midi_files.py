"""Small MIDI files, written event by event, so that a test says exactly what is in them."""

import io

import mido


def midi_bytes(*tracks, tpq=480):
    """A MIDI file of these tracks, each a list of (tick, message), in any order of time."""
    file = mido.MidiFile(type=1, ticks_per_beat=tpq)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def note(tick, pitch, velocity=100, length=60, channel=9):
    """The two events of a note; channel 9 is the drums' (shown to people as 10)."""
    on = mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)
    off = mido.Message("note_off", note=pitch, channel=channel)
    return [(tick, on), (tick + length, off)]


def meter(tick, numerator, denominator):
    return [(tick, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))]


def tempo(tick, bpm):
    return [(tick, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm)))]


def beat(bars=1, tpq=480, velocity=100, channel=9):
    """Kick on one and three, snare on two and four, a closed hat on every quarter."""
    events = []
    for quarter in range(4 * bars):
        events += note(quarter * tpq, 38 if quarter % 2 else 36, velocity, tpq // 8, channel)
        events += note(quarter * tpq, 42, velocity - 20, tpq // 8, channel)
    return events
