"""A corpus of MIDI files: a folder or a zip of them, found in place or downloaded."""

import contextlib
import csv
import hashlib
import io
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from utils.drums import STYLE_NONE, style_id
from utils.midi import MidiError

GMD_URL = "https://storage.googleapis.com/magentadata/datasets/groove/groove-v1.0.0-midionly.zip"
GMD_SHA256 = "651cbc524ffb891be1a3e46d89dc82a1cecb09a57c748c7b45b844c4841dcc1e"

_MIDI_SUFFIXES = (".mid", ".midi")
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


@dataclass(frozen=True)
class Corpus:
    """The MIDI files in a folder or a zip, and what a table among them says of each.

    members: sorted paths inside the folder or zip. table: member -> its row (a dict) of the CSV, which
    is the member table_name ("" where there is none). top: the one folder that all lie in, with its
    slash, or "".
    """

    path: Path
    members: tuple
    table: dict
    table_name: str
    top: str

    def name(self, member):
        """The member's name in the cache, the same whether the corpus is zipped or unpacked."""
        return member[len(self.top) :]

    def identity(self):
        """A digest of the names and contents of all files, the same whether zipped or unpacked."""
        members = [*self.members, self.table_name] if self.table_name else self.members
        digest = hashlib.sha256()
        for member, size, crc in _checksums(self.path, members):
            digest.update(f"{self.name(member)} {size} {crc}\n".encode())
        return digest.hexdigest()

    def style_of_folder(self, member):
        """The style id that a folder around the member is named after, the innermost first; else 18."""
        for folder in [*PurePosixPath(member).parent.parts[::-1], self.path.stem]:
            try:
                return style_id(folder)
            except ValueError:
                continue
        return STYLE_NONE

    def style_of_top(self):
        """The style id that the folder or zip as a whole is named after; else 18."""
        return self.style_of_folder(self.top + "any")


def open_corpus(path):
    """List a folder or zip of MIDI files, at any depth, and read its table where it has one.

    The table is a CSV with the column midi_filename (relative to the CSV), and any of style, split,
    bpm, beat_type, time_signature. Raises ValueError where there is nothing to read.
    """
    path = Path(path)
    names = _list(path)
    visible = [n for n in names if not any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(n).parts)]
    members = tuple(n for n in visible if n.lower().endswith(_MIDI_SUFFIXES))
    if not members:
        raise ValueError(f"no MIDI files (.mid, .midi) in {path}")
    table, table_name = _find_table(path, visible)
    return Corpus(path, members, table, table_name, _common_folder(members + (table_name,) * bool(table_name)))


def _find_table(path, names):
    """The table nearest to the top, and its name; ({}, "") where there is none."""
    for name in sorted((n for n in names if n.lower().endswith(".csv")), key=lambda n: (n.count("/"), n)):
        rows = _read_table(path, name)
        if rows is not None:
            return rows, name
    return {}, ""


def read_member(path, member):
    """The bytes of a member of the folder or zip at `path`. Raises MidiError where it can't be read."""
    try:
        if path.is_dir():
            return (path / member).read_bytes()
        return _open_zip(path, path.stat().st_mtime_ns, os.getpid()).read(member)
    except (OSError, *_ZIP_ERRORS) as error:
        raise MidiError(f"{member} in {path}: can't be read ({error})") from None


@lru_cache(maxsize=1)
def _open_zip(path, modified, process):
    # each process reads through a file of its own, and a changed zip is opened anew
    return zipfile.ZipFile(path)


def _list(path):
    if path.is_dir():
        return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    if not path.exists():
        raise ValueError(f"no folder or zip of MIDI files at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (OSError, *_ZIP_ERRORS) as error:
        raise ValueError(f"{path} is neither a folder nor a readable zip ({error})") from None


def _read_table(path, name):
    """member -> row, or None where the CSV isn't a table of MIDI files."""
    try:
        text = read_member(path, name).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} in {path}: not a readable CSV ({error})") from None
    if not rows or "midi_filename" not in rows[0]:
        return None
    folder = PurePosixPath(name).parent
    files = [(row["midi_filename"] or "").strip().replace("\\", "/") for row in rows]
    return {(folder / file).as_posix(): row for file, row in zip(files, rows)}


def _common_folder(names):
    tops = {name.partition("/")[0] for name in names if "/" in name}
    return tops.pop() + "/" if len(tops) == 1 and all("/" in name for name in names) else ""


def _checksums(path, names):
    if path.is_dir():
        for name in sorted(names):
            data = (path / name).read_bytes()
            yield name, len(data), zlib.crc32(data)
    else:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(names):
                yield name, archive.getinfo(name).file_size, archive.getinfo(name).CRC


def find_corpus(place):
    """The corpus at hand: the folder or zip at `place`, the zip beside it that a download left, or the
    zip that $GROOVE_ZIP names. None where there is none of them."""
    named = os.environ.get("GROOVE_ZIP")
    for path in (Path(place), download_place(place)):
        if path.exists():
            return path
    if named and not Path(named).exists():
        raise ValueError(f"GROOVE_ZIP names {named}, which doesn't exist")
    return Path(named) if named else None


def download_place(place):
    """Where the download for the corpus `place` goes: beside it, as a zip."""
    place = Path(place)
    return place if place.suffix == ".zip" else place.with_name(place.name + ".zip")


def download_groove(target, url=GMD_URL, sha256=GMD_SHA256):
    """Download the Groove MIDI Dataset (3 MB) to `target`, which appears only when it is complete and
    its SHA-256 is right. Raises ValueError otherwise."""
    target = Path(target)
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=30) as response, open(aside, "wb") as file:
            size = int(response.headers.get("Content-Length") or 0) or None
            with tqdm(total=size, unit="B", unit_scale=True, desc=f"downloading {target.name}") as bar:
                while chunk := response.read(1 << 16):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"the download from {url} has SHA-256 {digest.hexdigest()}, not {sha256}; try again, "
                "or name a copy in GROOVE_ZIP"
            )
        os.replace(aside, target)
    except (OSError, urllib.error.URLError) as error:
        raise ValueError(
            f"can't download {url} to {target} ({error}); name a copy in GROOVE_ZIP, "
            "or a MIDI folder with --midi-dir"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return target
