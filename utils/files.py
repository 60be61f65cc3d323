"""Files that appear whole or not at all, and JSON without the tokens that JSON does not know."""

import json
import math
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".part"  # the end of the name of a file that is still being written


def file_bytes(path, most):
    """The bytes of a file, the first most + 1 of them. Raises OSError, and ValueError for what is no file,
    such as a folder, a pipe or a device."""
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError("no name of a file")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("no file, but a folder, pipe or device")  # which might never end, or never begin
    with open(path, "rb") as file:
        return file.read(most + 1)


@contextmanager
def written_whole(path):
    """Yields a path beside `path` to write to, which replaces `path` at the end; folders are made.

    The new file is on the disk before it gets its name, so a crash leaves the old file or the new one. An
    exception leaves the old file as it was. Raises ValueError, naming the file, where it can't be written.
    """
    path = Path(path)
    # two processes that write the same file at once have one each
    aside = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise ValueError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    if os.name == "posix":  # elsewhere a folder can't be opened, and the rename is all there is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_unfinished(path):
    """Deletes what processes that were killed while they wrote `path` left; none may be writing it now."""
    for aside in Path(path).parent.glob(f"{Path(path).name}.*{UNFINISHED}"):
        aside.unlink(missing_ok=True)


def write_text(path, text):
    """Writes text to `path` as written_whole does."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def json_text(value, indent=None):
    """Nested dicts, lists, text and numbers as JSON; NaN and infinity, unknown to it, become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
