"""What the page asks for, done: a file is heard, drums are played, takes become files. Messages are dicts, as
JSON holds them; what they get wrong is a ValueError of one sentence."""

import base64
import binascii
import inspect
import os
import re
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

import numpy as np

from model.controls import CONTROLS
from utils.checks import ArgumentError, check_keys
from utils.get_model import checkpoint_of
from utils.midi.drums import STYLES, VOICES
from utils.midi.hearing import drums_of, hear, rhythm_of
from utils.midi.kits import KITS
from utils.midi.read import MAX_BYTES, read_midi
from utils.midi.timeline import Timeline
from utils.playing.arguments import FLAGS, JOBS
from utils.playing.controls import NUMBERS
from utils.playing.play import perform
from utils.playing.request import Request
from utils.playing.takes import Take
from utils.studio.notes import MOST_BARS, hits_of, rolls_of
from utils.studio.words import FIELDS, command_of, read_fields

# fields that say how a take is written
WRITTEN = [name for name in inspect.signature(Take).parameters if name in FIELDS and name != "seed"]
BAR = 16  # steps, by which hits per bar are counted
PARTS = {"rhythm", "drums", "second", "fields"}  # of a message to play


def warm(model):
    """Play what a first click may ask for, so that all that is compiled, loaded or derived once is there:
    four bars to taps, as a file; without a wish and with one."""
    taps = {"hits": [[step, 0, 100, 0] for step in range(0, 64, 4)], "steps": 64, "tempo": 100}
    for wishes in ({}, {"hits_per_bar": 12}):
        fields = {"bars": 4, "seed": 1, **wishes} | ({"rhythm_is": "hands"} if model.told_kind else {})
        play_message(model, {"rhythm": taps, "fields": fields})


def about(model):
    """What the page builds itself from: names, flags, limits, and what the model knows."""
    unknown = {control.wish for name, control in CONTROLS.items() if name not in model.controls}
    defaults = {name: field.default for name, field in Request.__dataclass_fields__.items()}
    flags = [
        {"field": flag.dest, "name": flag.name, "kind": flag.kind, "help": flag.help}
        | {"default": defaults.get(flag.dest)}
        for flag in FLAGS
        if flag.dest in FIELDS and flag.dest not in unknown
    ]
    wishes = [
        {"wish": control.wish, "unit": control.unit, "least": control.fewest}
        | {"most": control.units(BAR) * control.highest}
        for name, control in NUMBERS.items()
        if name in model.controls and control.width is None
    ]
    return {
        "voices": VOICES,
        "styles": STYLES,
        "kits": [*KITS],
        "jobs": {name: job.does for name, job in JOBS.items()},
        "flags": flags,
        "wishes": wishes,
        "written": WRITTEN,
        "checkpoint": checkpoint_of(model),
        "most_bars": MOST_BARS,
        "most_bytes": MAX_BYTES,
    }


def hear_file(data, name, track=None, as_drums=False):
    """What a MIDI file, as bytes, holds: its tracks, and the hits of one or all of them, as a rhythm or as
    drums. Raises ValueError."""
    with a_folder() as folder:
        path = put(folder, data, name)
        file = hear(path, track, as_drums)
        rolls = drums_of(file) if as_drums else rhythm_of(file)
    midi = file.midi
    tracks = [
        {"number": int(number), "name": midi.track_names[number], "notes": int((midi.track == number).sum())}
        for number in np.unique(midi.track)
    ]
    steps = max(rolls[0].shape[1], file.steps())
    return {
        "name": path.name,
        "tracks": tracks,
        "hits": hits_of(rolls),
        "steps": steps,
        "bars": file.timeline.grid(steps).lengths,
        "tempo": round(60e6 / file.timeline.tempos[0][1], 3),
        "bpm": file.timeline.bpm(),
        "is": file.kind(),
        "remarks": file.remarks,
    }


def play_message(model, message, checkpoint=None):
    """Play what a message asks for: {"rhythm", "drums", "second", "fields"}. The first is a file, {"data":
    base64, "name"}, or hits with a tempo; the next two are hits, with the name of their file, too; fields are
    those of a Request. checkpoint: the file of the model, for the command line; None: the shipped one.
    Returns {"takes": [...], "remarks": [...]}. Raises ValueError."""
    check_parts(message)
    fields = read_fields(message.get("fields", {}))
    with a_folder() as folder:
        rhythm = rhythm_file(folder, message.get("rhythm"), model)
        given = [name for name in ("drums", "second") if message.get(name) is not None]
        notes = {name: rolls_of(message[name], name) for name in given}
        request = Request(rhythm=rhythm, **notes, **fields)
        check_length(request)
        remarks = []
        takes = perform(request, model, say=remarks.append)
    files = {name: safe_name(message[name].get("name", name)) for name in notes}
    files |= {"rhythm": rhythm.name} if rhythm else {}
    command = command_of(fields | {"seed": request.seed}, **files, checkpoint=checkpoint)
    remarks = [str(line).replace(f"{folder}{os.sep}", "").strip() for line in remarks]
    return {"takes": [take_in_json(take) | {"command": command} for take in takes], "remarks": remarks}


def take_in_json(take):
    receipt = take.receipt
    return {
        "file": take.name,
        "hits": hits_of(take),
        "steps": take.onset.shape[1],
        "bars": receipt.grid.lengths,
        "seed": receipt.seed,
        "receipt": receipt.data(),
        "table": receipt.table(),
        "figures": receipt.figures(),
    }


def file_of(model, message, kind, soundfont=None):
    """A take as a file, "mid" or "wav", in bytes: {"drums": hits, "rhythm": as for play_message, "fields":
    kit_out, tempo and those of WRITTEN}. With a tempo it has that, and of the rhythm the meters alone. kind
    "rhythm": the rhythm itself. soundfont: of the sound. Raises ValueError."""
    check_parts(message)
    fields = read_fields(message.get("fields", {}))
    kit = fields.pop("kit_out", None)
    with a_folder() as folder:
        rhythm = rhythm_file(folder, message.get("rhythm"), model)
        if kind == "rhythm":
            if rhythm is None:
                raise ArgumentError("rhythm", None, "there is none", "")
            return rhythm.read_bytes()
        check_keys(fields, [*WRITTEN, "tempo"], "field of a file")
        written = fields | {"source": rhythm if fields.get("tempo") is None else None}
        if rhythm and written["source"] is None and fields.get("meter") is None:
            written["meter"] = Timeline.of(read_midi(rhythm))
        drums = rolls_of(message.get("drums"), "drums")
        take = Take(drums, model=model, kit=kit, soundfont=soundfont, **written)
        path = folder / f"take.{kind}"
        {"mid": take.save, "wav": take.wav}[kind](path)
        return path.read_bytes()


# ---- parts of a message


def check_parts(message):
    if not isinstance(message, dict) or not message.keys() <= PARTS:
        raise ArgumentError("message", None, f"it must be a dict of some of {', '.join(sorted(PARTS))}", "")


def check_length(request):
    """ArgumentError for more bars than the page has."""
    song = request.laid_song
    bars = request.bars if song is None else len(song)
    if request.job == "tap" and bars is None:
        raise ArgumentError("bars", None, "it must say how many bars are played", "")
    if bars is not None and bars > MOST_BARS:
        raise ArgumentError("song", None, f"it has {bars} bars; on this page {MOST_BARS} is the most", "")


def rhythm_file(folder, rhythm, model):
    """The path of the MIDI file of a rhythm, which is written into the folder; None without one."""
    if rhythm is None:
        return None
    if not isinstance(rhythm, dict):
        raise ArgumentError("rhythm", None, "it must be a file or hits", "")
    name = rhythm.get("name", "taps.mid")
    if "data" in rhythm:
        try:
            data = base64.b64decode(rhythm["data"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ArgumentError("rhythm", None, "its data must be base64", "") from None
        return put(folder, data, name)
    tempo = rhythm.get("tempo")
    taps = Take(rolls_of(rhythm, "rhythm"), model=model, tempo=tempo)
    taps.save(path := folder / safe_name(name))
    return path


def put(folder, data, name):
    path = folder / safe_name(name)
    path.write_bytes(data)
    return path


def safe_name(name):
    """A name that is harmless on every system and in a shell: letters, digits, -, _ and .mid."""
    stem = re.sub(r"[^\w-]+", "_", PurePath(str(name)).stem, flags=re.ASCII).strip("_-")[:60]
    return f"{stem or 'rhythm'}.mid"


@contextmanager
def a_folder():
    """A folder for the files of one message; it stands in no error."""
    with TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}{os.sep}", "")) from None
