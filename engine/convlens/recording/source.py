"""Where a data set comes from: numbered items, each with a name and perhaps a label.

A source is opened from what a person types. Those that come along take files and folders of what the model
takes; others join as entry points of the group ``convlens.sources``.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convlens.errors import UsageError
from convlens.files import RAW, read_arrays, taken
from convlens.images import expand, read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from convlens.cards import Card
    from convlens.graph.source import Source as Input

ENTRY_POINTS = "convlens.sources"


@dataclass(frozen=True)
class Item:
    """One input of a data set.

    Attributes:
        name: unique in the data set, such as a path below its folder.
        label: the class that it belongs to, None where the data set does not say.
        read: gives a picture, 8 bits and upright, or an array as the model takes it, without the batch axis.
            Raises ImageError where it cannot be read.
    """

    name: str
    label: str | None
    read: Callable[[], Image.Image | NDArray[Any]]


class Source(Protocol):
    """A data set in a fixed order.

    Attributes:
        given: what it was opened from, so that it can be opened again, from any folder; set by
            :func:`open_source`.
    """

    given: tuple[str, ...]

    @property
    def text(self) -> str:
        """What it is, for people."""

    def __len__(self) -> int:
        """How many items."""

    def fingerprint(self) -> str:
        """Changes where an item changes, as far as that can be told without reading them all."""

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Items ``first`` to ``stop``."""


Open = Callable[[str, "Input", "Card"], "Source | None"]
"""From what was typed to a source, None where it is of another kind."""


def open_source(given: Sequence[str], source: Input, card: Card) -> Source:
    """The data set that a person means.

    Args:
        given: files, folders, patterns, or one data set of a kind that an entry point knows.
        source: the input of the model.
        card: what else is known of it.

    Raises:
        UsageError: there is nothing of that name, or nothing in it.
    """
    if not given:
        raise UsageError("no images given; expected a folder, files or a data set")
    if len(given) == 1:
        for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
            known: Open = entry.load()
            found = known(given[0], source, card)
            if found is not None:
                break
        else:
            found = None
    else:
        found = None
    found = Files.of(given, source, card) if found is None else found
    found.given = tuple(map(_anywhere, given))
    return found


def _anywhere(text: str) -> str:
    """A path or pattern that means the same from every folder; what is none stays as it is."""
    if os.path.exists(text) or glob.has_magic(text):
        return os.path.abspath(text)
    return text


class Files:
    """Files on disk, those of a folder with the name of their subfolder as label."""

    def __init__(self, paths: Sequence[Path], root: Path | None, source: Input, card: Card) -> None:
        """``root`` is the folder that was given, None where files were named one by one."""
        self.given: tuple[str, ...] = ()
        self._paths = list(paths)
        self._root = root
        self._from = root or Path(os.path.commonpath([path.absolute().parent for path in paths]))
        self._source = source
        self._card = card
        inside = [self._relative(path).parent for path in self._paths]
        self._labelled = root is not None and len(set(inside)) > 1 and all(part.parts for part in inside)

    @classmethod
    def of(cls, given: Sequence[str], source: Input, card: Card) -> Files:
        """Files, folders, and patterns with ``*``.

        Raises:
            UsageError: a path that does not exist, a pattern that nothing fits, or an empty folder.
        """
        paths: list[Path] = []
        for text in given:
            if any(mark in text for mark in "*?[") and not Path(text).exists():
                anchor = Path(Path(text).anchor or ".")
                matching = sorted(anchor.glob(text.removeprefix(str(anchor)) if Path(text).anchor else text))
                if not matching:
                    raise UsageError(f"{text}: no file fits this pattern")
                paths += matching
            else:
                paths.append(Path(text))
        root = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
        return cls(expand(paths, taken(source)), root, source, card)

    @property
    def text(self) -> str:
        """The folder, or how many files."""
        return str(self._root) if self._root is not None else f"{len(self._paths)} files"

    def __len__(self) -> int:
        return len(self._paths)

    def fingerprint(self) -> str:
        """Of the names and sizes of all files."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(f"{self._relative(path).as_posix()}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Files ``first`` to ``stop``."""
        return [self._item(path) for path in self._paths[first:stop]]

    def _item(self, path: Path) -> Item:
        name = self._relative(path)
        label = name.parts[0] if self._labelled else None
        return Item(name.as_posix(), label, lambda: self._read(path))

    def _read(self, path: Path) -> Image.Image | NDArray[Any]:
        if path.suffix.lower() not in RAW:
            return read_image(path)
        pad = self._card.input.pad or 0
        found = read_arrays(path, self._source, self._card.input.rate, pad)
        if len(found) != 1:
            raise UsageError(
                f"{path}: holds {len(found)} inputs; in a folder one file is one input - give this file alone"
            )
        return found[0][1]

    def _relative(self, path: Path) -> Path:
        return (
            path.relative_to(self._from)
            if self._root is not None
            else path.absolute().relative_to(self._from)
        )
