"""Pictures in zip and tar files; of a tar also what WebDataset puts beside each picture."""

from __future__ import annotations

import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from convlens.errors import ImageError, UsageError
from convlens.images import SUFFIXES, read_image
from convlens.recording.source import Item
from convlens_adapters.sources.numbered import Numbered

if TYPE_CHECKING:
    from convlens.cards import Card
    from convlens.graph.source import Source as Input


@dataclass
class _Entry:
    """One picture: its name, how its bytes are read, and those of what lies beside it."""

    name: str
    read: Callable[[], bytes]
    beside: dict[str, Callable[[], bytes]] = field(default_factory=dict)

    def label(self) -> str | None:
        """What ``.cls``, ``.txt`` or the ``label`` of ``.json`` says, else the name of its folder."""
        for suffix in ("cls", "txt"):
            if suffix in self.beside:
                return self.beside[suffix]().decode(errors="replace").strip()
        if "json" in self.beside:
            try:
                told = json.loads(self.beside["json"]())
            except ValueError:
                return None
            found = next((told[key] for key in ("label", "class", "cls") if key in told), None)
            return None if found is None else str(found)
        folders = PurePosixPath(self.name).parts[:-1]
        return folders[0] if folders else None


def open_source(text: str, source: Input, card: Card) -> Numbered | None:
    """``.zip``, ``.tar``, or several of them as a pattern (``train-*.tar``), in the order of their names.

    Raises:
        UsageError: there is no picture in it, or it is a compressed tar, which cannot be read by number.
    """
    del source, card
    paths = [Path(name) for name in sorted(glob(text))] if any(m in text for m in "*?[") else [Path(text)]
    if not paths or not all(path.is_file() and _known(path) for path in paths):
        return None
    entries = [entry for path in paths for entry in (_zip(path) if _zipped(path) else _tar(path))]
    if not entries:
        raise UsageError(f"{text}: no picture in it; expected {', '.join(sorted(SUFFIXES))}")

    def item(number: int) -> Item:
        entry = entries[number]
        return Item(entry.name, entry.label(), lambda: read_image(entry.read(), entry.name))

    return Numbered(text, len(entries), item, paths)


def _known(path: Path) -> bool:
    compressed = path.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))
    if compressed:
        raise UsageError(f"{path}: a compressed tar cannot be read by number; unpack it to .tar")
    return path.suffix.lower() in (".zip", ".tar")


def _zipped(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _zip(path: Path) -> list[_Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path}: not a zip file that can be read ({error})") from error
    lock = threading.Lock()

    def reader(name: str) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                with lock:
                    return archive.read(name)
            except (OSError, zipfile.BadZipFile, RuntimeError) as error:
                raise ImageError(f"{path}:{name}: cannot be read ({error})") from error

        return read

    names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    return [_Entry(name, reader(name)) for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]


def _tar(path: Path) -> list[_Entry]:
    """The pictures of a tar in its own order; members with the same stem lie beside each other."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if member.isfile()]
    except (OSError, tarfile.TarError) as error:
        raise ImageError(f"{path}: not a tar file that can be read ({error})") from error
    handle = os.open(path, os.O_RDONLY)

    def reader(member: tarfile.TarInfo) -> Callable[[], bytes]:
        return lambda: os.pread(handle, member.size, member.offset_data)

    entries: list[_Entry] = []
    by_stem: dict[str, dict[str, Callable[[], bytes]]] = {}
    for member in members:
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        beside = by_stem.setdefault(f"{folder}/{stem}", {})
        if f".{suffix.lower().rpartition('.')[2]}" in SUFFIXES:
            entries.append(_Entry(member.name, reader(member), beside))
        else:
            beside[suffix.lower()] = reader(member)
    return entries
