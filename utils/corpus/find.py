"""A corpus of MIDI files: a folder or a zip of them, found in place or downloaded."""

import csv
import hashlib
import http.client
import io
import itertools
import os
import urllib.request
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from utils.files import written_whole
from utils.midi.drums import STYLE_NONE, style_id
from utils.midi.kits import parse_kit
from utils.midi.read import MAX_BYTES, MidiError

GMD_URL = "https://storage.googleapis.com/magentadata/datasets/groove/groove-v1.0.0-midionly.zip"
GMD_SHA256 = "651cbc524ffb891be1a3e46d89dc82a1cecb09a57c748c7b45b844c4841dcc1e"

KIT_FILE = "kit.yaml"
_MIDI_SUFFIXES = (".mid", ".midi")
# damaged, encrypted, packed in an unknown way, cut short, without the member: zipfile has one for each
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, KeyError)


@dataclass(frozen=True)
class Corpus:
    """The MIDI files in a folder or a zip, and what a table among them says of each.

    members: sorted paths inside the folder or zip. table: member -> its row (a dict) of the CSV table_name.
    kit: the keys of the drum kit that the files are played on, voice index -> pitches, from the member
    kit_name. Both are empty, and their names "", where there is none. top: the one folder that all lie in,
    with its slash, or "".
    """

    path: Path
    members: tuple
    table: dict
    table_name: str
    kit: dict
    kit_name: str
    top: str

    def name(self, member):
        """The member's name in the cache, the same whether the corpus is zipped or unpacked."""
        return _printable(member[len(self.top) :])

    def identity(self, checksums=None):
        """A digest of the names and contents of all files, the same whether zipped or unpacked.

        checksums: of the members of a folder, in their order, where they have been read before.
        """
        if self.path.is_file():
            with zipfile.ZipFile(self.path) as archive:  # which lists them, so nothing has to be read
                infos = [archive.getinfo(member) for member in self.members]
            checksums = [_checksum_text(info.file_size, info.CRC) for info in infos]
        of_file = dict(zip(self.members, checksums or self._checksums()))
        for name in filter(None, (self.table_name, self.kit_name)):
            of_file[name] = checksum(read_member(self.path, name))
        digest = hashlib.sha256()
        for member in sorted(of_file):
            digest.update(f"{self.name(member)} {of_file[member]}\n".encode())
        return digest.hexdigest()

    def _checksums(self):
        for member in tqdm(self.members, desc="checking the cache", unit="file", delay=2, disable=None):
            try:
                yield checksum(read_member(self.path, member, MAX_BYTES + 1))
            except MidiError:
                yield None

    def style_of_folder(self, member):
        """The style id that a folder around the member is named after, the innermost first; else 18."""
        return _first_style((*PurePosixPath(member).parent.parts[::-1], self.path.stem))

    def style_of_top(self):
        """The style id that the folder or zip as a whole is named after; else 18."""
        return self.style_of_folder(self.top + "any")


@lru_cache(maxsize=1024)  # a folder has many files, and a name that is no style takes long to be told
def _first_style(names):
    for name in names:
        with suppress(ValueError):
            return style_id(name)
    return STYLE_NONE


def open_corpus(path):
    """List a folder or zip of MIDI files, at any depth, and read its table where it has one.

    The table is a CSV with the column midi_filename (relative to the CSV), and any of style, split,
    bpm, beat_type, time_signature. The kit is a file kit.yaml, see utils/midi/kits.py. Of several tables or
    kits the one nearest to the top counts. Raises ValueError where there is nothing to read, or the table or
    kit is wrong.
    """
    path = Path(path)
    names = _list(path)
    visible = [n for n in names if not any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(n).parts)]
    members = tuple(n for n in visible if n.lower().endswith(_MIDI_SUFFIXES))
    if not members:
        raise ValueError(f"no MIDI files (.mid, .midi) in {path}")
    visible.sort(key=lambda name: (name.count("/"), name))  # from the top
    tables = ((_read_table(path, name), name) for name in visible if name.lower().endswith(".csv"))
    table, table_name = next(((rows, name) for rows, name in tables if rows is not None), ({}, ""))
    kit_name = next((n for n in visible if PurePosixPath(n).name.lower() == KIT_FILE), "")
    kit = parse_kit(read_member(path, kit_name), f"{kit_name} in {path}") if kit_name else {}
    top = _common_folder([name for name in (*members, table_name, kit_name) if name])
    return Corpus(path, members, table, table_name, kit, kit_name, top)


def read_member(path, member, at_most=None):
    """The bytes of a member of the folder or zip at `path`, or the first at_most of them. Raises MidiError
    where it can't be read."""
    try:
        if path.is_dir():
            with open(path / member, "rb") as file:
                return file.read(at_most)
        with _open_zip(path, path.stat().st_mtime_ns, os.getpid()).open(member) as file:
            # in small pieces, because how large a member becomes may be a lie: a piece is at most a
            # thousandfold of it
            pieces = iter(partial(file.read, 4096), b"")
            return b"".join(itertools.islice(pieces, at_most and at_most // 4096 + 1))[:at_most]
    except (OSError, *_ZIP_ERRORS) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise MidiError(f"{_printable(member)} in {path}: can't be read ({reason})") from None


def checksum(data):
    """What identifies the contents of a file, as text. Those that are too large to be read are all alike."""
    return _checksum_text(len(data), zlib.crc32(data))


def _checksum_text(size, crc):
    return f"{size} {crc}" if size <= MAX_BYTES else "too large"


def _printable(name):
    """The name of a file as text that can be written, also where its bytes are no text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@lru_cache(maxsize=1)
def _open_zip(path, modified, process):
    # each process reads through a file of its own, and a changed zip is opened anew
    return zipfile.ZipFile(path)


def _list(path):
    if path.is_dir():
        return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if os.path.isfile(file))
    if not path.exists():
        raise ValueError(f"no folder or zip of MIDI files at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted({info.filename for info in archive.infolist() if not info.is_dir()})
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


def find_corpus(place):
    """The folder or zip at `place`, or the zip that a download left beside it, or what $GROOVE_ZIP names.
    None where there is none of them."""
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
    """Download the Groove MIDI Dataset (3 MB) to `target`. Raises ValueError, and writes nothing, where that
    fails or its SHA-256 is another."""
    print(f"downloading {url}", flush=True)
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            data = response.read()
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ValueError(
                f"the download from {url} has SHA-256 {found}, not {sha256}; try again, or name a copy in "
                "GROOVE_ZIP"
            )
        with written_whole(target) as aside:
            aside.write_bytes(data)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(
            f"can't download {url} to {target} ({error}); name a copy in GROOVE_ZIP, "
            "or a MIDI folder with --midi-dir"
        ) from None
    return target
