"""The command line: flags and a control file -> Request -> takes -> files."""

import itertools
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from utils.checks import ArgumentError, within
from utils.device import pick_device
from utils.get_model import SHIPPED, load_model
from utils.midi.hearing import list_tracks
from utils.playing.arguments import FLAGS, OWN_FLAGS
from utils.playing.play import perform
from utils.playing.request import Request
from utils.playing.wishes import WISHES, check_voices, items_of, read_mapping

CONTROL_KEYS = (*WISHES, "beat")


def run(arguments):
    """Do what the command line says. Raises ArgumentError under the names of its flags and files."""
    if arguments.list:
        print(list_tracks(arguments.rhythm))
        return
    given = {flag.dest: flag for flag in FLAGS if getattr(arguments, flag.dest) is not None}
    try:
        request = request_of(arguments, given)
        check_folder(Path(arguments.out).parent if is_midi(arguments.out) else arguments.out)
        if request.soundfont is not None and not arguments.wav:
            raise ArgumentError("soundfont", None, "it goes with --wav", "")
        model = load_model(arguments.checkpoint or SHIPPED, pick_device(arguments.device))
        takes = perform(request, model, say=print)
    except ArgumentError as error:
        raise named_as_given(error, arguments, given) from None
    for take in takes:
        write(take, path_of(take, arguments, alone=len(takes) == 1), arguments)


def request_of(arguments, given):
    """The Request of the flags that are given, dest -> Flag, and of the control file, over which they win."""
    asked = read_controls(arguments.controls) if arguments.controls else {}
    for name, flag in given.items():
        value = flag.read(getattr(arguments, name))
        if name in asked and name == "voices":
            value = asked[name] | value
        if name in asked and name == "forbid":
            value = [*items_of(asked[name]), *value]
        asked[name] = value
    return Request(**asked)


def named_as_given(error, arguments, given):
    """The error of an argument under the name of the flag or the control file that gives it."""
    first, *rest = error.argument
    if arguments.controls and first in CONTROL_KEYS and first not in given:
        return error.named(arguments.controls, first, *rest)
    flag = next((flag.name for flag in (*FLAGS, *OWN_FLAGS) if flag.dest == first), first)
    return error.named(flag, *rest)


def read_controls(path):
    """Read a control file: YAML with wishes as read_wishes takes them, or a beat. Returns them, those that
    are empty left out. Raises ArgumentError naming the file, the key and the rule."""
    controls = read_mapping(path, CONTROL_KEYS)
    with within(path):
        check_voices(controls.get("voices"))
    return {key: value for key, value in controls.items() if value is not None}


def check_folder(out):
    """ArgumentError, before anything is played, where files can't be written into this folder."""
    path = Path(out).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        rule = f"it must be a folder that can be written to, and {there} is none"
        raise ArgumentError("out", out, rule, out)


def is_midi(out):
    """Whether --out names a MIDI file, and not a folder."""
    return Path(out).suffix.lower() in (".mid", ".midi") and not Path(out).is_dir()


def path_of(take, arguments, alone):
    """Where the MIDI file of a take goes: the file that is named, with a number in its name unless it is
    alone, or a new one in the folder, with the seed in its name where nobody gave one."""
    out, (name, _, number) = Path(arguments.out), take.name.rpartition("_")
    if is_midi(out):
        return out if alone else out.with_stem(f"{out.stem}_{number}")
    name += f"_{take.receipt.seed}" * (arguments.seed is None)
    return beside_others(out / f"{name}_{number}.mid", take)


def beside_others(path, take):
    """The path or, where another file lies there, NAME-2, NAME-3 ...: the first where none does."""
    with TemporaryDirectory() as folder:
        take.save(file := Path(folder) / "take.mid")
        same = file.read_bytes()
    names = itertools.chain([path.stem], (f"{path.stem}-{count}" for count in itertools.count(2)))
    paths = map(path.with_stem, names)
    return next(path for path in paths if not path.exists() or path.read_bytes() == same)


def write(take, path, arguments):
    """The files of one take, the MIDI file at the path, and its table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ways = {path.suffix: take.save, ".json": take.receipt.save}
    ways |= {".png": take.plot} if arguments.plot else {}
    ways |= {".wav": take.wav} if arguments.wav else {}
    for suffix, way in ways.items():
        way(path.with_suffix(suffix))
    print(f"\n{', '.join(str(path.with_suffix(suffix)) for suffix in ways)}\n{take.receipt.table()}")
    if early := take.early_hits():
        print(f"hits before the first beat, moved onto it: {early} (--lead-in keeps them early)")
