"""A Standard MIDI File, event by event: each with its tick and its bytes, as they stand in the file.

It takes files as programs write them: an event that no file may hold is dropped and counted, and its time
stays; wrappers around the file are passed over. A track that ends within an event, or has data where an event
should begin, makes the file unreadable.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numba import njit

MOST_TRACKS = 65535  # that a file can announce; damage can make one out of eight bytes
LONGEST_WAIT = 2**28 - 1  # ticks from one event to the next, for which MIDI has 28 bits
LAST_TICK = 2**31
STEADY = 500_000  # microseconds per quarter note of a file without a tempo: 120 bpm

SYSEX, ESCAPE, META = 0xF0, 0xF7, 0xFF
NAME, END, TEMPO, CLOCK, METER, KEY = 0x03, 0x2F, 0x51, 0x54, 0x58, 0x59  # types of meta events

_DROPPED = ("messages with data above 127", "system messages", "meta events of no known form")
_BROKEN = (
    "",
    "ends within an event",
    "has data where an event should begin",
    "its times run past 2**31 ticks",
)
_FRAMES = {24: 24.0, 25: 25.0, 29: 30000 / 1001, 30: 30.0}  # per second
_LOOKS_LIKE = {
    b"RIFF": "a WAV, not MIDI",
    b"PK": "a zip",
    b"\x1f\x8b": "a gzip file",
    b"ID3": "an MP3",
    b"\xff\xfb": "an MP3",
    b"OggS": "an Ogg sound",
    b"fLaC": "a FLAC sound",
    b"FORM": "an AIFF sound",
    b"%PDF": "a PDF",
    b"<": "XML or HTML",
    b"MTrk": "a track without the file's header",
}


def compiled(function):
    """The function, compiled by numba when it is first called, and kept where there is a place to write."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's own cache
        return njit(nogil=True)(function)


@dataclass
class Events:
    """Events of a track in order of time, one entry per event, and the tick at which the track ends.

    tick: int64 (n,); status, first, size: int32 (n,). status: the first byte, also where the file leaves it
    out. The other bytes of an event are data[first : first + size]; data, uint8, has two more at its end.
    """

    data: np.ndarray
    tick: np.ndarray
    status: np.ndarray
    first: np.ndarray
    size: np.ndarray
    end: int

    @classmethod
    def of(cls, events, end):
        """Those of a list of (tick, bytes), in any order of time; the track ends with the last at least."""
        events = sorted(events, key=lambda event: event[0])
        tick = np.array([tick for tick, _ in events], np.int64)
        size = np.array([len(raw) for _, raw in events], np.int32)
        data = np.frombuffer(b"".join(raw for _, raw in events) + b"\0\0", np.uint8)
        start = np.cumsum(size, dtype=np.int32) - size
        status, end = data[start].astype(np.int32), max(end, tick.max(initial=0))
        return cls(data, tick, status, start + 1, size - 1, end)

    def columns(self):
        return self.tick, self.status, self.first, self.size

    def select(self, which):
        """Those that an index or a mask picks."""
        return Events(self.data, *(column[which] for column in self.columns()), self.end)

    def merged(self, other):
        """These and others in order of time, these first at one tick."""
        moved = other.tick, other.status, other.first + len(self.data), other.size
        both = [np.concatenate(columns) for columns in zip(self.columns(), moved)]
        data, end = np.concatenate([self.data, other.data]), max(self.end, other.end)
        return Events(data, *both, end).select(np.argsort(both[0], kind="stable"))

    def byte(self, place):
        """Byte number 0 or 1 after the status, of each event, uint8 (n,); 0 where it has none."""
        return np.where(place < self.size, self.data[self.first + place], np.uint8(0))

    def metas(self, kind):
        """(tick, payload) of the meta events of one type."""
        for i in np.flatnonzero(self.status == META):
            if self.data[self.first[i]] == kind:
                raw = self.data[self.first[i] + 1 : self.first[i] + self.size[i]].tobytes()
                length = next(
                    at for at, byte in enumerate(raw, 1) if byte < 128
                )  # bytes that say how many follow
                yield int(self.tick[i]), raw[length:]


@dataclass
class SmfFile:
    """kind: 0, 1 or 2, the format that the header names. tpq: ticks per quarter note. tracks: Events of each;
    events: theirs, one track after the other.

    tempo: microseconds per quarter note throughout, of a file that counts its time in frames; None: its tempo
    events hold. dropped: what was dropped -> how often.
    """

    kind: int
    tpq: int
    tracks: list
    events: Events
    tempo: int | None
    dropped: dict


def parse(data):
    """The bytes of a file as SmfFile. Raises ValueError with the reason why they can't be read."""
    data = bytes(data[_start(data) :])
    if len(data) < 14:
        raise ValueError("ends within its header")
    length, kind, announced, division = struct.unpack(">IHHH", data[4:14])
    chunks = _track_chunks(data, 8 + length, announced)
    padded = np.frombuffer(data + b"\0\0", np.uint8)
    room = sum(stop - start for start, stop in chunks) // 2 + 1  # an event has two bytes at least
    ticks, columns = np.empty(room, np.int64), np.empty((3, room), np.int32)
    tracks, begin, dropped = [], 0, np.zeros(len(_DROPPED), np.int64)
    for number, (start, stop) in enumerate(chunks):
        n, end, broken = scan(padded, start, stop, ticks[begin:], columns[:, begin:], dropped)
        if broken:
            raise ValueError(f"track {number}: {_BROKEN[broken]}")
        tracks.append(Events(padded, ticks[begin : begin + n], *columns[:, begin : begin + n], end))
        begin += n
    tpq, tempo = (division, None) if division < 0x8000 else _of_frames(division, tracks)
    if not tpq:
        raise ValueError("0 ticks per quarter note")
    events = Events(padded, ticks[:begin], *columns[:, :begin], 0)
    dropped = {what: int(n) for what, n in zip(_DROPPED, dropped) if n}
    return SmfFile(kind, tpq, tracks, events, tempo, dropped)


def _start(data):
    """Where the header begins: at 0, or past a wrapper."""
    head = bytes(data[:12])
    places = [0, 128]  # MacBinary puts 128 bytes before the file
    if head[:4] == b"RIFF" and head[8:] == b"RMID":
        places.append(data.find(b"MThd", 12))
    for at in places:
        if data[at : at + 4] == b"MThd":
            return at
    if not data:
        raise ValueError("is empty")
    seems = next(
        (f"; it seems to be {what}" for begin, what in _LOOKS_LIKE.items() if head.startswith(begin)), ""
    )
    raise ValueError(f"no MThd at its beginning{seems}")


def _track_chunks(data, place, announced):
    """(start, stop) of each track. Other chunks are passed over, and so is what follows the last track."""
    chunks = []
    while place + 8 <= len(data):
        name, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "big")
        start, place = place + 8, place + 8 + length
        if name == b"MTrk":
            if place > len(data):
                raise ValueError(f"track {len(chunks)} ends within an event, {place - len(data)} bytes short")
            chunks.append((start, place))
            if len(chunks) > MOST_TRACKS:
                raise ValueError(f"more than {MOST_TRACKS} tracks, the most that are read")
        elif not name.isalnum() and len(chunks) < announced:
            raise ValueError(f"{len(chunks)} of {announced} tracks, and then none")
    if announced and not chunks:
        raise ValueError(f"none of the {announced} tracks that it announces")
    return chunks


def _of_frames(division, tracks):
    """Ticks per quarter note and tempo of a file whose ticks are parts of a frame of film: its first tempo
    holds throughout, changed so little that a quarter note has a whole number of ticks."""
    frames, ticks = 256 - (division >> 8), division & 255
    if frames not in _FRAMES or not ticks:
        raise ValueError(f"{ticks} ticks per frame, {frames} frames per second")
    tempos = sorted(tempo for track in tracks for tempo in list(track.metas(TEMPO))[:1])
    tempo = int.from_bytes(tempos[0][1], "big") if tempos else STEADY
    rate = _FRAMES[frames] * ticks / 1e6  # ticks per microsecond
    tpq = min(max(round(tempo * rate), 1), 32767)
    return tpq, min(round(tpq / rate), 2**24 - 1)


@compiled
def scan(data, place, stop, ticks, columns, dropped):
    """The events of a track in data[place:stop]: into ticks (n,) and columns (3, n), status, first and size.

    dropped: counts, to which what is dropped is added. Returns how many events, the tick of the track's end,
    and what is broken: an index of _BROKEN, 0 for nothing.
    """
    n, tick, status = 0, 0, 0
    while place < stop:
        wait, more = 0, True
        while more and place < stop:
            wait, more, place = wait << 7 | data[place] & 127, data[place] > 127, place + 1
            if tick + wait >= LAST_TICK:
                return n, tick, 3
        tick += wait
        if more or place >= stop:
            return n, tick, 1
        event = status
        if data[place] > 127:
            event, place = int(data[place]), place + 1
        if event == 0:
            return n, tick, 2
        first, wrong = place, -1
        if event < SYSEX:
            status = event  # the running one
            place += 1 if 0xC0 <= event < 0xE0 else 2
            if place <= stop and (data[first] > 127 or data[place - 1] > 127):
                wrong = 0
        elif event == SYSEX or event == ESCAPE or event == META:
            place += event == META
            length, more = 0, True
            while more and place < stop:
                length, more, place = length << 7 | data[place] & 127, data[place] > 127, place + 1
                if length > stop:
                    return n, tick, 1
            payload, place = place, place + length
            if more or place > stop:
                return n, tick, 1
            if event == SYSEX:
                for at in range(payload, place):
                    if data[at] > 127 and not (data[at] == ESCAPE and at == place - 1):
                        wrong = 0
            elif event == META:
                if data[first] == END:
                    return n, tick, 0
                if not _is_sound(data, data[first], payload, length):
                    wrong = 2
        else:
            place += 2 if event == 0xF2 else 1 if event == 0xF1 or event == 0xF3 else 0
            wrong = 1
        if place > stop:
            return n, tick, 1
        if wrong >= 0:
            dropped[wrong] += 1
        else:
            ticks[n], columns[0, n], columns[1, n], columns[2, n] = tick, event, first, place - first
            n += 1
    return n, tick, 0


@compiled
def _is_sound(data, kind, payload, length):
    """Whether a meta event of this type has the form that it must have."""
    if kind > 127:
        return False
    if kind == TEMPO:
        return length == 3 and (data[payload] > 0 or data[payload + 1] > 0 or data[payload + 2] > 0)
    if kind == METER:
        return length == 4 and data[payload] > 0 and data[payload + 1] < 16
    if kind == KEY:  # from seven flats, as a byte below zero, to seven sharps
        return length == 2 and (data[payload] < 8 or data[payload] > 248) and data[payload + 1] < 2
    if kind == 0:
        return length == 0 or length == 2
    if kind == 0x20 or kind == 0x21:
        return length == 1
    if kind == CLOCK:  # hours, with the frames per second before them, minutes, seconds, frames, hundredths
        clock = data[payload : payload + 5]
        sound = length == 5 and clock[0] < 128 and clock[0] & 31 < 24 and clock[1] < 60
        return sound and clock[2] < 60 and clock[3] < 30 and clock[4] < 100
    return True


# ---- the way back


def serialize(tracks, tpq):
    """The bytes of a file of format 1; of equal status bytes in a row only the first is written.

    Raises ValueError where a track waits longer from one event to the next than MIDI can say.
    """
    parts = [b"MThd", struct.pack(">IHHH", 6, 1, len(tracks), tpq)]
    for track in tracks:
        if np.diff(track.tick, prepend=0, append=track.end).max() > LONGEST_WAIT:
            raise ValueError(f"a track rests for more than {LONGEST_WAIT} ticks, the most that MIDI holds")
        room = 9 * len(track.tick) + int(track.size.sum()) + 9
        out = np.empty(room, np.uint8)
        n = _encode(track.data, *track.columns(), track.end, out)
        parts += [b"MTrk", struct.pack(">I", n), out[:n].tobytes()]
    return b"".join(parts)


@compiled
def _encode(data, tick, status, first, size, end, out):
    n, now, running = 0, 0, 0
    for i in range(len(tick) + 1):
        last = i == len(tick)
        wait = (end if last else tick[i]) - now
        now += wait
        for shift in (21, 14, 7):
            if wait >> shift:
                out[n] = wait >> shift & 127 | 128
                n += 1
        out[n] = wait & 127
        n += 1
        if last:
            break
        if status[i] != running or status[i] >= SYSEX:
            out[n] = status[i]
            n += 1
        running = status[i]
        for at in range(first[i], first[i] + size[i]):
            out[n] = data[at]
            n += 1
    out[n], out[n + 1], out[n + 2] = META, END, 0
    return n + 3


def meta(kind, payload):
    """The bytes of a meta event, of at most 127 bytes."""
    return bytes([META, kind, len(payload)]) + payload
