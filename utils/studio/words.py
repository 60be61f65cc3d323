"""The fields of a request as the page gives them, and the command line that makes the same take."""

import shlex

from utils.checks import ArgumentError, check_keys, whole
from utils.midi.kits import KITS
from utils.playing.arguments import FLAGS, KINDS, READ_WORDS
from utils.studio.notes import MOST_BARS

OTHERS = "rhythm", "second", "soundfont"  # which come as notes, or with the server
FIELDS = {flag.dest: flag for flag in FLAGS if flag.dest not in OTHERS}
MOST_TAKES = 64  # that are played for one message


def read_fields(given):
    """The fields of a Request by name, checked where a page may say less than the command line; text is read
    as the flag's. Raises ArgumentError."""
    if not isinstance(given, dict):
        raise ArgumentError("fields", None, "they must be a dict, name -> value", "")
    check_keys(given, [*FIELDS, "tempo"], "field")
    fields = {name: _read(name, value) for name, value in given.items() if value not in (None, "")}
    for name in ("kit_in", "kit_out"):
        if fields.get(name) not in (None, *KITS):
            raise ArgumentError(name, fields[name], f"it must be one of {', '.join(KITS)}")
    if not isinstance(fields.get("song", {}), dict):
        raise ArgumentError("song", None, "it must be a dict, as a song file holds it", "")
    for name, most in (("bars", MOST_BARS), ("num_samples", MOST_TAKES), ("best_of", MOST_TAKES)):
        if name in fields:
            whole(fields[name], name, most=most)
    return fields


def _read(name, value):
    if not isinstance(value, str) or name not in FIELDS:
        return value
    flag = FIELDS[name]
    try:
        if flag.kind in READ_WORDS:
            return flag.read(value.split())
        return KINDS[flag.kind].get("type", str)(value)
    except ArgumentError:
        raise
    except ValueError:
        raise ArgumentError(name, value, "it must be a number") from None


def command_of(fields, rhythm=None, drums=None, second=None, checkpoint=None):
    """The command line that makes the takes of fields. rhythm, drums, second: the names of files that hold
    them, or None. checkpoint: None: the shipped one. What flags can't say, Python says in a line."""
    fields = {name: value for name, value in fields.items() if value not in (None, False, [], {}, ())}
    file = rhythm or drums
    if file and not (rhythm and drums):  # the flags of a job have no rhythm beside its drums
        words = ["python", "inference_bar_control.py", "--rhythm", file]
        words += ["--second", second] if second else []
        try:
            for name, value in fields.items():
                if name != "tempo" or rhythm:  # the file of drums has it
                    words += _words(FIELDS[name], value)
            return shlex.join(words + (["--checkpoint", str(checkpoint)] if checkpoint else []))
        except (KeyError, TypeError):
            pass
    given = [repr(rhythm)] if rhythm else []
    given += [f"drums=drums_from_midi({drums!r})"] if drums else []
    given += [f"second={second!r}"] if second else []
    many = fields.get("num_samples", 1) > 1
    given += [f"{name}={value!r}" for name, value in fields.items() if many or name != "num_samples"]
    given += [f"model=load_model({str(checkpoint)!r})"] if checkpoint else []
    played = f"play({', '.join(given)})"
    save = f"[take.save(f'{{take.name}}.mid') for take in {played}]" if many else f"{played}.save('take.mid')"
    loads = "from utils.get_model import load_model; " if checkpoint else ""
    code = f"from inference_bar_control import *; {loads}{save}"
    return f"python -c {shlex.quote(code)}" if set(code) & set('"$`\\!') else f'python -c "{code}"'


def _words(flag, value):
    """The words of a flag. Raises TypeError for what it can't say."""
    if value is True:
        return [flag.name]
    if flag.kind == "names":
        return [flag.name, *map(str, value)]
    if flag.kind in READ_WORDS and isinstance(value, dict):
        return [flag.name, *(f"{name}={_text(part)}" for name, part in value.items())]
    text = _text(value)
    return [f"{flag.name}={text}"] if text.startswith("-") else [flag.name, text]


def _text(value):
    if isinstance(value, dict):
        raise TypeError
    if isinstance(value, (list, tuple)):
        return ",".join("-" if part is None else _text(part) for part in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)
