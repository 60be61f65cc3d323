"""The command line: flags and a control file -> Request -> takes -> files."""

import os
from pathlib import Path

from utils.checks import ArgumentError, within
from utils.device import pick_device
from utils.get_model import SHIPPED, load_model
from utils.playing.arguments import FLAGS, OWN_FLAGS
from utils.playing.play import perform
from utils.playing.request import Request
from utils.playing.wishes import WISHES, check_voices, items_of, read_mapping


def run(arguments):
    """Do what the command line says. Raises ArgumentError under the names of its flags and files."""
    given = {flag.dest: flag for flag in FLAGS if getattr(arguments, flag.dest) is not None}
    try:
        request = request_of(arguments, given)
        check_folder(arguments.out)
        if request.soundfont is not None and not arguments.wav:
            raise ArgumentError("soundfont", None, "it goes with --wav", "")
        model = load_model(arguments.checkpoint or SHIPPED, pick_device(arguments.device))
        takes = perform(request, model, say=print)
    except ArgumentError as error:
        raise named_as_given(error, arguments, given) from None
    for take in takes:
        write(take, Path(arguments.out), arguments)


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
    if arguments.controls and first in WISHES and first not in given:
        return error.named(arguments.controls, first, *rest)
    flag = next((flag.name for flag in (*FLAGS, *OWN_FLAGS) if flag.dest == first), first)
    return error.named(flag, *rest)


def read_controls(path):
    """Read a control file: YAML with wishes as read_wishes takes them. Returns them, those that are empty
    left out. Raises ArgumentError naming the file, the key and the rule."""
    controls = read_mapping(path, WISHES)
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


def write(take, folder, arguments):
    """The files of one take, and its table."""
    folder.mkdir(parents=True, exist_ok=True)
    ways = {"mid": take.save, "json": take.receipt.save}
    ways |= {"png": take.plot} if arguments.plot else {}
    ways |= {"wav": take.wav} if arguments.wav else {}
    for kind, way in ways.items():
        way(folder / f"{take.name}.{kind}")
    print(f"\n{', '.join(str(folder / f'{take.name}.{kind}') for kind in ways)}\n{take.receipt.table()}")
    if early := take.early_hits():
        print(f"hits ahead of the very first beat, put on it: {early} (--lead-in keeps them ahead)")
