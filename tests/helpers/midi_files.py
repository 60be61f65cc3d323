"""Small MIDI files, written event by event, so that a test says what is in them; and corpora of them."""

import io
import zipfile

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


def strictly_read(data):
    """The tracks of a MIDI file, each [(tick, bytes)]; anything in it that the standard forbids fails."""

    def number(at):
        value = 0
        for length in range(1, 5):
            value, more, at = value << 7 | data[at] & 127, data[at] > 127, at + 1
            if not more:
                return value, at
        raise AssertionError("a number of more than four bytes")

    assert data[:8] == b"MThd\0\0\0\6"
    tracks, at = [], 14
    for _ in range(int.from_bytes(data[10:12], "big")):
        assert data[at : at + 4] == b"MTrk"
        at, stop = at + 8, at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        tick, status, events = 0, 0, []
        while at < stop:
            wait, at = number(at)
            tick += wait
            running = data[at] < 128
            assert not (running and (status < 128 or status >= 0xF0))
            status, first = (status, at) if running else (data[at], at + 1)
            if status < 0xF0:
                at = first + (1 if 0xC0 <= status < 0xE0 else 2)
                assert max(data[first:at]) < 128
            else:
                assert status in (0xF0, 0xF7) or (status == 0xFF and data[first] < 128)
                length, payload = number(first + (status == 0xFF))
                at = payload + length
                assert status != 0xF0 or max(data[payload : at - 1], default=0) < 128
            events.append((tick, bytes([status]) + data[first:at]))
        assert (
            at == stop and events[-1][1] == b"\xff\x2f\0" and b"\xff\x2f\0" not in dict(events[:-1]).values()
        )
        tracks.append(events)
    assert at == len(data)
    return tracks


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


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def table(**rows):
    """info.csv of these: file name without suffix -> (style, split)."""
    lines = [f"{name}.mid,{style},{split}" for name, (style, split) in rows.items()]
    return "\n".join(["midi_filename,style,split", *lines, ""])


def small_corpus(folder, **more):
    """Two performances that are fine, and more."""
    info = table(
        a=("funk/groove1", "train"), b=("rock", "validation"), **{name: ("rock", "train") for name in more}
    )
    files = {
        "a.mid": midi_bytes(beat(bars=5)),
        "b.mid": midi_bytes(beat(bars=2, velocity=60)),
        "info.csv": info,
    }
    return write(folder, files | {f"{name}.mid": data for name, data in more.items()})


def zipped(folder, path, top=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, top + file.relative_to(folder).as_posix())
    return path
