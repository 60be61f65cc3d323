"""Piano rolls to MIDI files: the drums alone, or beside the tracks of the music that they are played to.

Legend: T steps of the grid, V voices; a roll as in utils/midi/read.py. Ticks are those of the file that is written.
"""

import io

import mido
import numpy as np

from utils.checks import as_number, check_switch
from utils.files import written_whole
from utils.midi.read import MidiError, read_bytes, read_midi
from utils.midi.timeline import Timeline

TICKS_PER_QUARTER = 480  # of the files that are written; finer where they follow a source that needs it
TEMPO_RANGE = 4, 1000  # quarter notes per minute that can be asked for
NOTES = [("time", "f8"), ("duration", "f8"), ("pitch", "i8"), ("velocity", "i8")]

_DRUM_CHANNEL = 9  # shown to people as 10
_LONGEST_WAIT = 2**28  # ticks from one event to the next, for which MIDI has 28 bits
_REWRITTEN = ("set_tempo", "time_signature", "end_of_track")  # as the timeline says
_MUSIC = (
    "note_on",
    "note_off",
    "marker",
    "cue_marker",
    "lyrics",
)  # where a track no longer only says what it is
_PARSE_ERRORS = (OSError, ValueError, EOFError, LookupError, TypeError, mido.KeySignatureError)


def roll_to_midi(
    onset,
    vel,
    timeoffset,
    inverse_mapping,
    path=None,
    tempo=None,
    down_sample_tpq=4,
    lead_in=False,
    source=None,
    keep_tracks=False,
):
    """A roll as a MIDI file of channel-10 drums, written to `path` where given.

    onset, vel, timeoffset: (T, V). inverse_mapping: voice index -> pitch. tempo: quarter notes per minute, 120 where
    there is no source. source: the MIDI file (path or bytes) that the drums are played to: tempo map and meters are
    taken from it, the last ones go on past its end, and every hit falls where the source has that step. keep_tracks:
    its tracks are written too, as they are, before that of the drums.

    The file has 480 ticks per quarter note, or the source's times the smallest whole number that makes it at least
    480; notes of at most one step that never overlap on a pitch; and the drums end on the first bar line after the
    last step. Without a source, reading it back gives the same roll, but for velocities in 127ths and offsets in ticks.

    A MIDI file can't start before 0, so a hit of the very first step that is early plays at 0, on the beat (see
    early_hits). With lead_in=True everything, the source's tracks too, is a bar later, and every hit keeps its time.

    Returns the hits in order of time: a structured array (n,) of `time` and `duration` in seconds, `pitch`, `velocity`
    (1..127). Raises ValueError for shapes that differ, values that aren't finite, pitches that aren't MIDI's or serve
    two voices, a tempo that MIDI can't hold or that stands beside a source, or a source that can't be read or kept.
    """
    onset, vel, timeoffset = (np.asarray(a, np.float64) for a in (onset, vel, timeoffset))
    _check_roll(onset, vel, timeoffset, inverse_mapping)
    check_switch(lead_in, "lead_in")
    check_switch(keep_tracks, "keep_tracks")
    timeline = _timeline(tempo, source, keep_tracks).at_least(TICKS_PER_QUARTER)
    half_step = timeline.tpq / (2 * down_sample_tpq)
    end = timeline.bar_line(max((2 * len(onset) - 1) * half_step, 0))
    lead = timeline.first_bar() if lead_in else 0
    hits = _hits(onset, vel, timeoffset, inverse_mapping, timeline.tpq, down_sample_tpq, -lead, end)
    tick, duration, pitch, velocity = hits = hits[0] + lead, *hits[1:]
    timeline = timeline.later(lead)

    kept = _kept_tracks(source, timeline, lead) if keep_tracks else []
    if path is not None:
        _write(_tracks(timeline, kept, hits, end + lead), timeline.tpq, path)
    start = timeline.seconds(tick)
    order = np.lexsort((pitch, tick))
    columns = start, timeline.seconds(tick + duration) - start, pitch, velocity
    return np.array(list(zip(*(column[order] for column in columns))), dtype=NOTES)


def early_hits(onset, timeoffset, down_sample_tpq=4):
    """How many hits of a roll (T, V) would sound before 0, which a file can't hold without a lead-in."""
    hit = np.asarray(onset)[:1] > 0.5
    return int((np.asarray(timeoffset)[:1][hit] * TICKS_PER_QUARTER / down_sample_tpq < -0.5).sum())


def _check_roll(onset, vel, timeoffset, inverse_mapping):
    if onset.ndim != 2 or not onset.shape == vel.shape == timeoffset.shape:
        shapes = ", ".join(str(a.shape) for a in (onset, vel, timeoffset))
        raise ValueError(f"onset, vel and timeoffset must be of one shape (T, V), not {shapes}")
    if not all(np.isfinite(a).all() for a in (onset, vel, timeoffset)):
        raise ValueError("onset, vel and timeoffset must be finite numbers")
    if not isinstance(inverse_mapping, dict):
        raise ValueError(
            f"inverse_mapping: {inverse_mapping!r}; it must be a dict, voice -> pitch, as that of kit_out"
        )
    missing = [v for v in range(onset.shape[1]) if v not in inverse_mapping]
    if missing:
        raise ValueError(f"inverse_mapping must give a pitch to each voice; none for {missing}")
    pitches = [inverse_mapping[v] for v in range(onset.shape[1])]
    if not all(pitch in range(128) for pitch in pitches) or len(set(pitches)) < len(pitches):
        raise ValueError(f"inverse_mapping must give each voice a pitch of its own, 0 to 127, not {pitches}")


def _timeline(tempo, source, keep_tracks):
    if source is not None:
        if tempo is not None:
            raise ValueError(f"tempo: {tempo}; it must be left out beside a source, which has its own")
        return Timeline.of(read_midi(source))
    if keep_tracks:
        raise ValueError("keep_tracks: True; it needs a source, whose tracks to keep")
    tempo = 120.0 if tempo is None else tempo
    slowest, fastest = TEMPO_RANGE
    if not slowest <= as_number(tempo) <= fastest:
        raise ValueError(
            f"tempo: {tempo!r}; it must be a number, {slowest} to {fastest} quarter notes per minute"
        )
    return Timeline.steady(tempo, TICKS_PER_QUARTER)


def _hits(onset, vel, timeoffset, inverse_mapping, tpq, down_sample_tpq, begin, end):
    """tick, duration, pitch and velocity of the hits between the ticks `begin` (below 0: early hits) and `end`,
    each int64 (n,)."""
    step, voice = np.nonzero(onset > 0.5)
    velocity = np.clip(np.floor(vel[step, voice] * 127 + 0.5), 1, 127).astype(np.int64)
    tick = np.clip(
        np.floor((step + timeoffset[step, voice]) * tpq / down_sample_tpq + 0.5).astype(np.int64),
        np.maximum(_first_tick(step, tpq, down_sample_tpq), begin),
        _first_tick(step + 1, tpq, down_sample_tpq) - 1,  # rounding must not push a hit into the next step
    )
    pitch = np.array([inverse_mapping[v] for v in voice], np.int64)
    stop = np.minimum(tick + tpq // down_sample_tpq, end)
    for v in np.unique(voice):
        mine = np.flatnonzero(voice == v)  # in order of steps, and so of time
        stop[mine[:-1]] = np.minimum(stop[mine[:-1]], tick[mine[1:]])
    return tick, stop - tick, pitch, velocity


def _first_tick(step, tpq, down_sample_tpq):
    """The first tick that belongs to a step: at half a step before it, or the next one after that."""
    return -(-(2 * step - 1) * tpq // (2 * down_sample_tpq))


# ---- the file


def _tracks(timeline, kept, hits, end):
    """The tracks of the file: tempo and meter stand in the first one, the drums are the last."""
    conductor = [(tick, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in timeline.tempos]
    conductor += [
        (tick, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))
        for tick, numerator, denominator in timeline.meters
    ]
    first, *others = kept or [([event for event in conductor if event[0] < end], end)]
    if kept:
        first = conductor + first[0], first[1]
    return [_track(*track) for track in (first, *others, (_drums(*hits, kept), end))]


def _drums(tick, duration, pitch, velocity, kept):
    events = [(0, mido.MetaMessage("track_name", name="Drums"))]
    others = (message for track, _ in kept for _, message in track if not message.is_meta)
    if all(getattr(message, "channel", None) != _DRUM_CHANNEL for message in others):  # or theirs is the kit
        events.append((0, mido.Message("program_change", program=0, channel=_DRUM_CHANNEL)))
    hits = [
        (start, length, dict(note=key, channel=_DRUM_CHANNEL), loudness)
        for start, length, key, loudness in zip(*(a.tolist() for a in (tick, duration, pitch, velocity)))
    ]
    # ends come first, so that of two notes of a pitch that touch the first ends before the second begins
    events += [(start + length, mido.Message("note_off", **key)) for start, length, key, _ in hits]
    events += [(start, mido.Message("note_on", velocity=loudness, **key)) for start, _, key, loudness in hits]
    return events


def _kept_tracks(source, timeline, lead_in):
    """The source's tracks, each its events [(tick, message)] without tempo and meter, and the tick of its end.

    What a track says at its very beginning (name, programs, controllers) stays there; all else is lead_in ticks later.
    """
    name = "MIDI data" if isinstance(source, (bytes, bytearray)) else source
    try:
        file = mido.MidiFile(file=io.BytesIO(read_bytes(source)))
    except _PARSE_ERRORS as error:
        raise MidiError(f"{name}: its tracks can't be kept ({str(error) or 'cut short'})") from None
    if file.type == 2:
        raise MidiError(f"{name}: its tracks can't be kept (a file of type 2 holds several songs, not one)")
    found = sum(
        message.type == "note_on" and message.velocity > 0 for track in file.tracks for message in track
    )
    if found < len(read_midi(source).tick):  # the header announces some 40,000 tracks, for one
        raise MidiError(f"{name}: its tracks can't be kept (readers don't agree on how many there are)")
    tracks = []
    for track in file.tracks:
        now, later, events = 0, 0, []
        for message in track:
            now += message.time * (timeline.tpq // file.ticks_per_beat)
            if now or message.type in _MUSIC:
                later = lead_in
            if message.type not in _REWRITTEN and not message.is_realtime:  # which no file may have
                events.append((now + later, message))
        if now + later >= _LONGEST_WAIT:
            raise MidiError(
                f"{name}: its tracks can't be kept (one has {now + later} ticks; MIDI holds {_LONGEST_WAIT - 1})"
            )
        tracks.append((events, now + later))
    return tracks


def _track(events, end):
    """A track of events [(tick, message)], in any order, that ends at the tick `end` or with its last event."""
    track, now = mido.MidiTrack(), 0
    events = sorted(events, key=lambda event: event[0])
    end = max([end] + [tick for tick, _ in events[-1:]])
    for tick, message in [*events, (end, mido.MetaMessage("end_of_track"))]:
        track.append(message.copy(time=tick - now))
        now = tick
    return track


def _write(tracks, tpq, path):
    """Write the file; folders are made, and a half-written one never shows."""
    file = mido.MidiFile(type=1, ticks_per_beat=tpq)
    file.tracks += tracks
    try:
        with written_whole(path) as aside:
            file.save(aside)
    except OSError as error:
        raise ValueError(f"can't write {path}: {error.strerror}") from error
