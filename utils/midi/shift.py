"""A file whose notes lie beside the bar lines: how that is told, and how it is moved."""

from dataclasses import replace

import numpy as np

from utils.midi import smf
from utils.midi.read import MidiError, name_of, read_events
from utils.midi.timeline import nearest_step

_MOST = 0.7  # of the onsets lie on one of four sixteenths that no music prefers
_FEWEST = 8  # onsets


def lateness(midi, down_sample_tpq=4):
    """How many steps notes (utils.midi.read.MidiNotes) seem to lie late: 1, or -1 where they are early, if by
    far the most onsets are on the second, or the fourth, of the sixteenths of a beat; else 0."""
    step = np.unique(nearest_step(midi.tick, midi.tpq, down_sample_tpq))
    place = np.bincount(step % 4, minlength=4) / max(len(step), 1)
    if len(step) < _FEWEST or place[[1, 3]].max() < _MOST:
        return 0
    return 1 if place[1] > place[3] else -1


def moved(source, sixteenths):
    """A MIDI file (path or bytes) as bytes with all that sounds so many sixteenths later, earlier if below 0.

    Tempo and meters stay, as do the ends of tracks where nothing is moved beyond them, and what a track says
    at its very beginning. Nothing goes before the beginning. Raises MidiError as read_midi does, and for a
    file that counts in frames or holds several songs.
    """
    file = read_events(source)
    if file.tempo is not None or file.kind == 2:
        raise MidiError(
            f"{name_of(source)}: a file without a tempo of its own, or of type 2, can't be shifted"
        )
    ticks = round(sixteenths * file.tpq / 4)
    tracks = []
    for track in file.tracks:
        stays = (track.status == smf.META) & np.isin(track.byte(0), (smf.TEMPO, smf.METER))
        sounds = np.logical_or.accumulate(track.status & 0xE0 == 0x80)
        tick = np.where(stays | ~(sounds | (track.tick > 0)), track.tick, np.maximum(track.tick + ticks, 0))
        order = np.argsort(tick, kind="stable")
        end = max(track.end, int(tick.max(initial=0)))
        tracks.append(replace(replace(track, tick=tick).select(order), end=end))
    return smf.serialize(tracks, file.tpq)
