"""Bytes that are nearly MIDI: no hang, no memory hog, no note that moves, no error without a name."""

import os
import random
import struct
import zipfile
from fractions import Fraction
from math import ceil

import mido
import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_bar_control import process_midi
from preprocessing import preprocess
from tests.helpers.midi_files import beat, meter, midi_bytes, note, small_corpus, strictly_read, tempo
from utils.corpus.cache import CACHE_FILE, decode
from utils.midi.drums import inverse_mapping
from utils.midi.read import MidiError, read_events, read_midi
from utils.midi.timeline import Timeline
from utils.midi.write import roll_to_midi
from utils.playing.play import meters_in_words

ODD_BYTES = [0, 1, 2, 3, 8, 36, 100, 127, 128, 129, 0x90, 0x99, 0xB9, 0xC9, 0xF0, 0xF7, 0xF8, 254, 255]
ODD_NUMBERS = [0, 1, 5, 6, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]

fuzzed = settings(derandomize=True, database=None)
TIMES = int(os.environ.get("FUZZ", "1"))  # how many times as many examples


def number(value):
    """A MIDI number of variable length."""
    parts = [value & 127]
    while value := value >> 7:
        parts.append(value & 127 | 128)
    return bytes(parts[::-1])


def chunk(name, data, length=None):
    return name + struct.pack(">I", len(data) if length is None else length) + data


def header(n_tracks=1, division=480, kind=1):
    return chunk(b"MThd", struct.pack(">HHH", kind, n_tracks, division))


def track(*events, length=None):
    return chunk(b"MTrk", b"".join(events), length)


HIT = b"\0\x99\x24\x64" + b"\x3c\x89\x24\0"  # a kick, and its end 60 ticks later
END = b"\0\xff\x2f\0"
FAR = number(0xFFFFFFF)  # the longest time from one event to the next


def meta(kind, data, length=None):
    return b"\0\xff" + bytes([kind]) + number(len(data) if length is None else length) + data


# ---- what is generated

times = st.sampled_from(
    [b"\0", b"\0", b"\0", b"\x3c", b"\x83\x60", FAR, b"\xff\xff\xff\xff\x7f", b"\x80\x80\0"]
)
bodies = st.one_of(
    st.just(HIT[1:]),
    st.tuples(st.integers(0x80, 0xEF), st.integers(0, 127), st.integers(0, 127)).map(bytes),
    st.tuples(
        st.sampled_from([0x51, 0x58, 0x59, 0x2F, 0, 3, 5, 6, 8, 0x21, 0x54, 0x60, 0x7F, 0x80]),
        st.lists(st.sampled_from(ODD_BYTES), max_size=6).map(bytes),
        st.sampled_from([None, None, None, 0, 200, 0xFFFFFFF]),
    ).map(lambda of: meta(*of)[1:]),
    st.sampled_from(
        [
            b"\xf0\3abc",
            b"\xf0" + FAR + b"abc\xf7",
            b"\xf7\0",
            b"\xf4",
            b"\xf8",
            b"\xf1\0",
            b"\xf2\0\0",
            b"\xb0\7\xff",
            b"\x24\x64",
            b"\x99\xc8\x64",
            b"",
        ]
    ),
)
events = st.tuples(times, bodies).map(b"".join)
tracks = st.builds(
    lambda events, end, length: track(*events, end, length=length),
    st.lists(events, max_size=20),
    st.sampled_from([END, END, b""]),
    st.sampled_from([None] * 9 + ODD_NUMBERS),
)
built = st.builds(
    lambda tracks, n_tracks, division, kind: header(n_tracks, division, kind) + b"".join(tracks),
    st.lists(tracks, max_size=4),
    st.sampled_from([1, 2, 0, 65535]),
    st.sampled_from([480, 480, 480, 1, 2, 32767, 0, 0x8000, 0xE728]),
    st.sampled_from([0, 1, 1, 2, 9]),
)


def mutate(data, seed):
    rng = random.Random(seed)
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(min(len(data), 60)) if rng.random() < 0.4 else rng.randrange(len(data))
        change = rng.choice(["byte", "bit", "number", "resolution", "cut", "insert", "repeat", "end"])
        if change == "byte":
            data[place] = rng.choice(ODD_BYTES)
        elif change == "bit":
            data[place] ^= 1 << rng.randrange(8)
        elif change == "number":
            data[place : place + 4] = struct.pack(">I", rng.choice(ODD_NUMBERS))
        elif change == "resolution":
            data[12:14] = struct.pack(">H", rng.choice([0, 1, 32767, 0x8000, 0xE728]))
        elif change == "cut":
            del data[place : place + rng.choice([1, 2, 3, 100])]
        elif change == "insert":
            data[place:place] = rng.choice(
                [FAR, b"\xff\x51\3\0\0\0", b"\xff\x58\4\0\xff\0\0", bytes([rng.choice(ODD_BYTES)])]
            )
        elif change == "repeat":
            data[place:place] = data[rng.randrange(len(data)) :][: rng.choice([4, 20, 500])]
        else:
            del data[max(place, 14) :]
        if not data:
            break
    return bytes(data)


@pytest.fixture(scope="module")
def real_files():
    """Small performances of the Groove MIDI Dataset where it is at hand, and files written here."""
    files = [
        midi_bytes(meter(0, 4, 4) + tempo(0, 97) + beat(bars=3)),
        midi_bytes(beat(bars=2), note(0, 40, channel=0) + note(960, 43, channel=3), tpq=96),
        header()
        + track(HIT, b"\x82\x68" + meta(8, b"Piano")[1:], b"\x3c\x90\x28\x50", b"\x3c\x80\x28\0", END),
        header()
        + track(*8 * [b"\x81\x70\x99\x24\x64"], b"\0\xb0\7\xff", b"\0\xf2\0\0", meta(0x59, b"\x0c\0"), END),
        b"RIFF\0\0\0\0RMIDdata\0\0\0\0"
        + header(2, 0xE728)
        + track(HIT, END)
        + track(meta(3, b"Kit"), HIT, END),
    ]
    groove = os.environ.get("GROOVE_ZIP", "")
    if zipfile.is_zipfile(groove):
        with zipfile.ZipFile(groove) as archive:
            infos = sorted(
                (info.file_size, info.filename)
                for info in archive.infolist()
                if info.filename.endswith(".mid")
            )
            files += [archive.read(name) for _, name in infos[:200:10]]
    return files


# ---- the rule


def check_process_midi(path, data):
    path.write_bytes(data)
    try:
        rolls = process_midi(path)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 500 and "\n" not in str(error)
    else:
        onset, vel, timeoffset = (roll.numpy() for roll in rolls)
        assert onset.shape == vel.shape == timeoffset.shape == (1, onset.shape[1], 9)
        assert onset.shape[1] == Timeline.of(read_midi(path)).grid(onset.shape[1]).n_steps  # whole bars
        assert onset.any() and set(np.unique(onset)) <= {0, 1}
        assert 0 <= vel.min() and vel.max() <= 1 and -0.5 <= timeoffset.min() and timeoffset.max() < 0.5


@settings(fuzzed, max_examples=200 * TIMES)
@given(built)
def test_process_midi_reads_or_names_what_is_built_of_odd_parts(tmp_path_factory, data):
    check_process_midi(tmp_path_factory.getbasetemp() / "built.mid", data)


@settings(fuzzed, max_examples=400 * TIMES)
@given(st.integers(0, 10**6))
def test_process_midi_reads_or_names_a_mutated_file(tmp_path_factory, real_files, seed):
    path = tmp_path_factory.getbasetemp() / "mutated.mid"
    check_process_midi(path, mutate(real_files[seed % len(real_files)], seed))


def notes_of(tracks):
    """(track, tick, status, pitch, velocity) of all that begins or ends a note."""
    for number, events in enumerate(tracks):
        yield from ((number, tick, *raw) for tick, raw in events if raw[0] < 0xA0)


def own_notes_of(file, factor, later):
    """The same of the library's own reader, at so many times its ticks, so much later."""
    for number, track in enumerate(file.tracks):
        columns = (track.tick * factor + later, track.status, track.byte(0), track.byte(1))
        for tick, status, pitch, velocity in zip(*(column.tolist() for column in columns)):
            if 0x80 <= status < 0xA0:
                yield number, tick, status, pitch, velocity


@settings(fuzzed, max_examples=300 * TIMES)
@given(st.one_of(built, st.integers(0, 10**6)), st.booleans())
def test_drums_beside_any_file_are_written_whole_or_the_file_is_named(
    tmp_path_factory, real_files, data, lead_in
):
    path, target = tmp_path_factory.getbasetemp() / "source.mid", tmp_path_factory.getbasetemp() / "both.mid"
    path.write_bytes(mutate(real_files[data % len(real_files)], data) if isinstance(data, int) else data)
    onset = np.ones((16, 9))
    try:
        how = dict(source=path, keep_tracks=True, lead_in=lead_in)
        table = roll_to_midi(onset, onset, -0.1 * onset, inverse_mapping, target, **how)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 500 and "\n" not in str(error)
        return
    assert len(table) == 144 and np.isfinite(table["time"]).all()
    assert (np.diff(table["time"]) >= 0).all() and table["time"][0] >= 0
    source, written = read_events(path), target.read_bytes()
    tpq = int.from_bytes(written[12:14], "big")
    later = ceil(Fraction(*bar_of(read_midi(path))) * tpq) if lead_in else 0
    kept = own_notes_of(source, tpq // source.tpq, later)
    assert list(notes_of(strictly_read(written)[:-1])) == list(kept)
    mido.MidiFile(target), symusic.Score(str(target))  # others can read it, too


def bar_of(midi):
    """The first meter's quarter notes to a bar, as numerator and denominator."""
    meters = {0: (4, 4)} | {tick: meter for tick, *meter in midi.meters}
    return 4 * meters[0][0], meters[0][1]


@settings(fuzzed, max_examples=12)
@given(st.lists(built, min_size=10, max_size=10), st.integers(0, 10**6))
def test_a_batch_counts_what_is_bad_and_goes_on(tmp_path_factory, config, real_files, made, seed):
    place = tmp_path_factory.mktemp("batch")
    mutated = [mutate(real_files[(seed + i) % len(real_files)], seed + i) for i in range(20)]
    bad = {f"bad{i}": data for i, data in enumerate(made + mutated)}
    cfg = config.model_copy(deep=True)
    cfg.Data.cache_dir = str(place / "cache")
    cache = preprocess(cfg, small_corpus(place / "corpus", **bad))
    skipped = [why for reason in cache.report["skipped"].values() for why in reason]
    assert {"a.mid", "b.mid"} <= {file["name"] for file in cache.files}
    assert len(cache.files) + len(skipped) == 32 and all("bad" in why for why in skipped)
    assert all(np.isfinite(file["bpm"]) for file in cache.files)
    onset, vel, timeoffset = decode(cache.vel, cache.offset)
    assert (
        vel.max() <= 1
        and np.abs(timeoffset).max() <= 0.5
        and np.isfinite(sum(cache.normalize_factor.values(), [])).all()
    )
    before = (place / "cache" / CACHE_FILE).read_bytes()
    preprocess(cfg, place / "corpus", force=True)
    assert (place / "cache" / CACHE_FILE).read_bytes() == before


# ---- what must come out of some odd files, and what was found


ALL_PROGRAMS = [
    bytes([0, 0xC0 | channel, program, 0, 0x90 | channel, 36, 9, 1, 36, 0])
    for program in range(128)
    for channel in range(16)
]
REFUSED = {
    "a chunk of 4 GiB": (header() + track(HIT, END, length=0xFFFFFFFF), "not a readable MIDI file"),
    "a name of 256 MiB": (header() + track(HIT, meta(3, b"abc", 0xFFFFFFF), END), "not a readable MIDI file"),
    "a sysex of 256 MiB": (
        header() + track(HIT, b"\0\xf0" + FAR + b"abc\xf7", END),
        "not a readable MIDI file",
    ),
    "running status of nothing": (header() + track(b"\0\x24\x64", END), "not a readable MIDI file"),
    "RIFF of sound": (b"RIFF" + struct.pack("<I", 42) + b"WAVEfmt ", "it seems to be a WAV"),
    "frames without ticks": (
        header(division=0xE700) + track(HIT, END),
        "0 ticks per frame, 25 frames per second",
    ),
    "a note far out": (
        header() + track(HIT, FAR, HIT[1:], END),
        "the last note is in bar 139811; at most 4096 bars are read",
    ),
    "notes before the beginning": (header() + track(HIT, (FAR + HIT[1:]) * 9, END), "its times run past 2"),
    "tempos before it": (header() + track(HIT, (FAR + b"\xff\x51\3\7\7\7") * 9, END), "its times run past 2"),
    "all before it": (header() + track((FAR + b"\xff\1\0") * 9, HIT, END), "its times run past 2"),
    "more tracks than are read": (header(65535) + 65536 * track(END), "more than 65535 tracks"),
    "no tracks": (header(3), "none of the 3 tracks that it announces"),
    "too large": (bytes(8 * 2**20 + 1), "larger than 8 MiB"),
}
READ = {
    "one tick per quarter": (header(division=1) + track(HIT, END), 240),
    "32767 ticks per quarter": (header(division=32767) + track(HIT, END), 16),
    "fewer tracks than announced": (header(n_tracks=65535) + track(HIT, END), 16),
    "5000 tracks": (header(5000) + 5000 * track(HIT, END), 16),
    "tempo 0, meters 255/2^255 and 0/4": (
        header()
        + track(HIT, meta(0x51, b"\0\0\0"), meta(0x58, b"\xff\xff\0\0"), meta(0x58, b"\0\2\0\0"), END),
        16,
    ),
    "a million notes": (
        header() + track(HIT, b"\0\x99\x24\x64" + 1_300_000 * b"\1\x24\0\1\x24\x64", END),
        21680,
    ),
    "a tempo without bytes": (header() + track(HIT, meta(0x51, b"")), 16),
    "half a meter": (header() + track(HIT, meta(0x58, b"\4")), 16),
    "a million programs": (header(65535) + 400 * track(*ALL_PROGRAMS), 32),
    "a text of megabytes": (header() + track(meta(3, b"\xff\xfe"), HIT, meta(1, b"x" * 7_000_000), END), 16),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_odd_file_is_an_error_that_names_the_file_and_the_reason(tmp_path, case):
    data, reason = REFUSED[case]
    path = tmp_path / "odd.mid"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"odd.mid: .*{reason}"):
        process_midi(path)


@pytest.mark.parametrize("case", READ)
def test_an_odd_file_that_can_be_read_is(tmp_path, case):
    data, steps = READ[case]
    path = tmp_path / "odd.mid"
    path.write_bytes(data)
    assert process_midi(path)[0].shape == (1, steps, 9)


def test_a_clock_that_no_file_may_have_is_not_kept(tmp_path):
    silence = np.zeros((16, 9))
    source = header() + track(b"\x3c\xf8", HIT, b"\0\xf8", END)
    roll_to_midi(
        silence, silence, silence, inverse_mapping, tmp_path / "both.mid", source=source, keep_tracks=True
    )
    assert read_midi(tmp_path / "both.mid").tick.tolist() == [60]


@pytest.mark.parametrize(
    "clock, kept",
    [
        (b"\x60\0\0\0\0", True),
        (b"\x77\x3b\x3b\x1d\x63", True),
        (b"\x78\0\0\0\0", False),
        (b"\x80\0\0\0\0", False),
        (b"\0\x3c\0\0\0", False),
        (b"\0\0\x3c\0\0", False),
        (b"\0\0\0\x1e\0", False),
        (b"\0\0\0\0\x64", False),
        (b"\0\0\0\0", False),
    ],
)
def test_a_film_time_that_no_clock_shows_is_dropped(clock, kept):
    """Other readers refuse all of such a file."""
    file = read_events(header() + track(meta(0x54, clock), HIT, END))
    assert [raw for _, raw in file.tracks[0].metas(0x54)] == [clock] * kept and bool(file.dropped) != kept


def test_a_tempo_of_zero_is_none():
    assert read_midi(header() + track(HIT, meta(0x51, b"\0\0\0"), meta(0x51, b"\7\xa1\x20"))).tempos == [
        (60, 120.0)
    ]


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    for place in (tmp_path / "pipe.mid", "/dev/zero", tmp_path):
        with pytest.raises(MidiError, match=f"{place}: .*no file, but a folder, pipe or device"):
            read_midi(place)


def test_a_parser_that_runs_out_of_memory_is_an_error_that_names_the_file(monkeypatch):
    def full(*_, **__):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr("utils.midi.smf.scan", full)
    with pytest.raises(MidiError, match="big.mid: .*bad_alloc"):
        read_midi(midi_bytes(beat()), name="big.mid")


def test_messages_stay_short_whatever_the_file_holds(tmp_path):
    path = tmp_path / "many.mid"
    path.write_bytes(header(3000) + b"".join(track(meta(3, b"x" * 200), HIT, END) for _ in range(3000)))
    with pytest.raises(ValueError, match="no track 'y'; its tracks are 0 'x+' .* and 2988 more") as error:
        process_midi(path, track="y")
    assert len(str(error.value)) < 2000
    odd = Timeline(480, meters=tuple((n, n, 4) for n in range(200)))
    assert meters_in_words(odd.meters_within(10)) == "0/4, 1/4, 2/4, 3/4, 4/4, ..."
