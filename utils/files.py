"""Text files that appear whole or not at all."""

import os
from pathlib import Path


def write_text(path, text):
    """Write text to `path`, through a file beside it; folders are made. Raises OSError, the old file untouched."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.part")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
