"""Piano rolls to MIDI files: the drums alone, or beside the tracks of the music that they are played to.

Legend: T steps of the grid, V voices; a roll as in utils/midi/read.py. Ticks are the written file's.
"""

from dataclasses import replace

import numpy as np

from utils.checks import as_number, check_switch, within
from utils.files import written_whole
from utils.midi import smf
from utils.midi.drums import voice_index
from utils.midi.find_drums import DRUM_CHANNEL, drum_notes
from utils.midi.read import MidiError, name_of, read_events, read_midi
from utils.midi.timeline import Timeline
from utils.midi.tracks import choose

TICKS_PER_QUARTER = 480  # of the files that are written; finer where they follow a source that needs it
TEMPO_RANGE = 4, 1000  # quarter notes per minute that can be asked for
NOTES = [("time", "f8"), ("duration", "f8"), ("pitch", "i8"), ("velocity", "i8")]

_CLICK, _CLICK_VELOCITY = voice_index("closed_hat"), 100  # of a count-in

_CLOCKS = bytes([24, 8])  # the rest of a meter event: clocks of a metronome's click, 32nds of a quarter note
_MUSIC = 5, 6, 7  # meta events that belong to the music, as notes do: lyrics, markers, cues


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
    replace_drums=False,
    count_in=False,
    meters=None,
):
    """Write a roll as a MIDI file of channel-10 drums, to `path` where one is given.

    onset, vel, timeoffset: (T, V). inverse_mapping: voice index -> pitch. tempo: quarter notes per minute,
    120 where there is no source. source: the MIDI file (path or bytes) that the drums are played to; its
    tempo map and meters are used, the last of them past its end, and every hit falls where the source has
    that step. keep_tracks: the source's tracks stand before that of the drums, each event as it is.
    replace_drums: so they do, but without the source's own drums (see utils.midi.find_drums), or without
    those of the track that it names; a track of drums alone goes, and its kit is that of the new ones.
    meters: a Timeline, whose meters stand in place of the source's, or of 4/4.

    The file has 480 ticks per quarter note, or the source's times the smallest whole number that makes it at
    least 480. Notes last at most one step and never overlap on a pitch. The drums end on the first bar line
    after the last step. Without a source, reading the file gives the same roll, but for velocities in 127ths
    and offsets in ticks.

    A MIDI file can't start before 0, so a hit of the very first step that is early plays at 0, on the beat
    (see early_hits). With lead_in=True everything, the source's tracks too, is a bar later, and every hit
    keeps its time.

    count_in: the closed hat clicks on the beats of the bar before that in which the drums begin. Where they
    begin in the first bar, everything is a bar later, as with a lead-in, and that bar is the count.

    Returns the hits, those of the count too, in order of time: a structured array (n,) of `time` and
    `duration` in seconds, `pitch`, `velocity` (1..127). Raises ValueError for shapes that differ, values that
    aren't finite, pitches that aren't MIDI's or serve two voices, a tempo that MIDI can't hold or that stands
    beside a source, or a source that can't be read or kept.
    """
    onset, vel, timeoffset = (np.asarray(a, np.float64) for a in (onset, vel, timeoffset))
    _check_roll(onset, vel, timeoffset, inverse_mapping)
    check_switch(lead_in, "lead_in")
    check_switch(keep_tracks, "keep_tracks")
    check_switch(count_in, "count_in")
    keep_tracks = keep_tracks or replace_drums is not False
    timeline = _timeline(tempo, source, keep_tracks).at_least(TICKS_PER_QUARTER)
    timeline = timeline if meters is None else timeline.with_meters_of(meters)
    half_step = timeline.tpq / (2 * down_sample_tpq)
    end = timeline.bar_line(max((2 * len(onset) - 1) * half_step, 0))
    begun = np.flatnonzero((onset > 0.5).any(1)) * timeline.tpq // down_sample_tpq
    counts = count_in and len(begun) > 0
    lead = timeline.first_bar() if lead_in or (counts and begun[0] < timeline.bar_line(1)) else 0
    hits = _hits(onset, vel, timeoffset, inverse_mapping, timeline.tpq, down_sample_tpq, -lead, end)
    hits = np.array([hits[0] + lead, *hits[1:]])
    timeline = timeline.later(lead)
    if counts:  # clicks of half a step, which touch no early hit of the bar that follows
        click = timeline.tpq // (2 * down_sample_tpq), inverse_mapping[_CLICK], _CLICK_VELOCITY
        count = [(tick, *click) for tick in timeline.beats_before(begun[0] + lead)]
        hits = np.concatenate((np.transpose(count), hits), 1)
    tick, duration, pitch, velocity = hits

    kept = _kept_tracks(source, timeline.tpq, lead) if keep_tracks else []
    kept, kit = _without_drums(kept, source, replace_drums) if replace_drums is not False else (kept, [])
    if keep_tracks or path is not None:
        data = smf.serialize(_tracks(timeline, kept, kit, hits, end + lead), timeline.tpq)
        _check_kept(data, kept, source)
        if path is not None:
            with written_whole(path) as aside:
                aside.write_bytes(data)
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
    pitches = [inverse_mapping.get(v) for v in range(onset.shape[1])]
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
    """tick, duration, pitch and velocity, each int64 (n,), of the hits between the ticks begin and end.
    begin: below 0 where hits may be early for the first step."""
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


def _tracks(timeline, kept, kit, hits, end):
    """The tracks of the file, smf.Events: tempo and meter stand in the first, the drums are the last, with
    the events of kit."""
    conductor = [(tick, smf.meta(smf.TEMPO, tempo.to_bytes(3, "big"))) for tick, tempo in timeline.tempos]
    for tick, numerator, denominator in timeline.meters:
        power = denominator.bit_length() - 1
        conductor.append((tick, smf.meta(smf.METER, bytes([numerator, power]) + _CLOCKS)))
    drums = smf.Events.of(_drums(*hits, kept + kit), end)
    for events in kit:
        drums = events.merged(drums)
    if not kept:
        return [smf.Events.of([event for event in conductor if event[0] < end], end), drums]
    return [smf.Events.of(conductor, kept[0].end).merged(kept[0]), *kept[1:], drums]


def _drums(tick, duration, pitch, velocity, kept):
    events = [(0, smf.meta(smf.NAME, b"Drums"))]
    if not any(_of_channel(track, DRUM_CHANNEL).any() for track in kept):
        events.append((0, bytes([0xC0 | DRUM_CHANNEL, 0])))  # a kit, unless the source has chosen one
    hits = np.stack([tick, duration, pitch, velocity], 1).tolist()
    # ends come first, so that of two notes of a pitch that touch the first ends before the second begins
    events += [(start + length, bytes([0x80 | DRUM_CHANNEL, key, 64])) for start, length, key, _ in hits]
    events += [(start, bytes([0x90 | DRUM_CHANNEL, key, loudness])) for start, _, key, loudness in hits]
    return events


def _kept_tracks(source, tpq, lead_in):
    """The source's tracks as smf.Events in ticks of `tpq`, without tempo and meter, which the timeline gives;
    lead_in ticks later, but for what a track says at its very beginning (name, programs, controllers)."""
    file = read_events(source)
    if file.kind == 2:
        raise _not_kept(source, "a file of type 2 holds several songs, not one")
    if len(file.tracks) >= smf.MOST_TRACKS:
        raise _not_kept(source, f"MIDI holds {smf.MOST_TRACKS}, and one is the drums'")
    tracks = []
    for track in file.tracks:
        is_meta, kind, tick = track.status == smf.META, track.byte(0), track.tick * (tpq // file.tpq)
        music = _is_note(track) | is_meta & np.isin(kind, _MUSIC)
        later = np.logical_or.accumulate(music | (tick > 0))
        end = track.end * (tpq // file.tpq)
        end += lead_in if later.any() or end else 0
        if end > smf.LONGEST_WAIT:
            raise _not_kept(source, f"one has {end} ticks; MIDI holds {smf.LONGEST_WAIT}")
        kept = replace(track, tick=tick + lead_in * later, end=end)
        tracks.append(kept.select(~(is_meta & np.isin(kind, (smf.TEMPO, smf.METER)))))
    return tracks


def _without_drums(kept, source, track):
    """The kept tracks without the source's drums, or without the notes of a track of it; and what else stands
    on the drums' channel, programs and controllers, in those that are gone, as they had nothing but drums."""
    midi = read_midi(source)
    with within(name_of(source)):
        gone = drum_notes(midi) if track is True else choose(midi, track)[0]
    parts, stay, kit = set(zip(midi.track[gone].tolist(), midi.channel[gone].tolist())), [], []
    for number, events in enumerate(kept):
        channels = [channel for track, channel in parts if track == number]
        mine = np.isin(events.status & 15, channels) & (events.status < smf.SYSEX)
        rest = events.select(~(mine & _is_note(events)))
        if number and channels and not _is_note(rest).any():
            kit.append(replace(rest.select(_of_channel(rest, DRUM_CHANNEL)), end=0))
        else:
            stay.append(rest)
    return stay, kit


def _of_channel(track, channel):
    return (track.status < smf.SYSEX) & (track.status & 15 == channel)


def _not_kept(source, reason):
    return MidiError(f"{name_of(source)}: its tracks can't be kept ({reason})")


def _is_note(track):
    return track.status & 0xE0 == 0x80  # 0x80 to 0x9F


def _check_kept(data, kept, source):
    """Raises MidiError where the notes of the kept tracks would not be written tick by tick as they are."""
    for ours, theirs in zip(kept, smf.parse(data).tracks if kept else []):
        if not np.array_equal(_notes(ours), _notes(theirs)):
            raise _not_kept(source, "a note would move")


def _notes(track):
    """The tick and the bytes of each note's beginning and end, (4, n)."""
    notes = track.select(_is_note(track))
    return np.stack([notes.tick, notes.status, notes.byte(0), notes.byte(1)])
