"""Files that appear whole or not at all, and JSON without the tokens that JSON does not know."""

import json
import math
import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path):
    """A path beside `path` to write to, which takes its place in the end; folders are made.

    What goes wrong on the way leaves the old file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")  # of two processes at once, each has its own
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path, text):
    """Write text to `path`, whole or not at all; folders are made. Raises OSError, the old file untouched."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def json_text(value, indent=None):
    """Nested dicts, lists, text and numbers as JSON. NaN and infinity, which JSON does not know, become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
