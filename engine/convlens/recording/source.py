"""Where a data set comes from: numbered items, each with a name and perhaps a label.

A source is opened from what a person types. Those that come along take files and folders of what the model
takes; others join as entry points of the group ``convlens.sources``.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePath
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
        values: what else is known of it, such as a reward: a number or a text by name.
    """

    name: str
    label: str | None
    read: Callable[[], Image.Image | NDArray[Any]]
    values: Mapping[str, float | str] = field(default_factory=dict)


class Source(Protocol):
    """A data set in a fixed order.

    One whose items have values says their names beforehand, see :func:`columns_of`.

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


def columns_of(source: Source) -> dict[str, str]:
    """The values that each item has, name to ``number`` or ``text``; of sources that have ``columns``."""
    return dict(getattr(source, "columns", {}))


Open = Callable[[str, "Input", "Card"], "Source | None"]
"""From what was typed to a source, None where it is of another kind."""


def open_source(given: Sequence[str], source: Input, card: Card) -> Source:
    """The data set that a person means.

    Args:
        given: files, folders, patterns, and data sets of the kinds that entry points know; what comes
            one after the other is one data set.
        source: the input of the model.
        card: what else is known of it.

    Raises:
        UsageError: there is nothing of that name, or nothing in it.
    """
    if not given:
        raise UsageError("no images given; expected a folder, files or a data set")
    kinds: list[Open] = [entry.load() for entry in sorted(entry_points(group=ENTRY_POINTS), key=_name)]
    opened: list[Source] = []
    files: list[str] = []  # that are no data set of their own, one after the other

    def close() -> None:
        if files:
            opened.append(_from(files, Files.of(files, source, card)))
            files.clear()

    for text in given:
        known = _first(kind(text, source, card) for kind in kinds)
        if known is None:
            files.append(text)
        else:
            close()
            opened.append(_from([text], known))
    close()
    if len(opened) == 1:
        return opened[0]
    from convlens.recording.joined import Joined  # which opens data sets by this module

    return Joined(opened)


def _first(found: Iterable[Source | None]) -> Source | None:
    return next((source for source in found if source is not None), None)


def _name(entry: EntryPoint) -> str:
    return entry.name


def _from(given: Sequence[str], found: Source) -> Source:
    found.given = tuple(map(_anywhere, given))
    return found


def _anywhere(text: str) -> str:
    """A path or pattern that means the same from every folder; what is none stays as it is."""
    if os.path.exists(text) or glob.has_magic(text):
        return os.path.abspath(text)
    return text


class Files:
    """Files on disk, those of a folder with the name of their subfolder as label."""

    def __init__(
        self,
        paths: Sequence[Path],
        names: Sequence[PurePath],
        root: Path | None,
        source: Input,
        card: Card,
    ) -> None:
        """``root`` is the folder that was given, None where more than one was, or single files."""
        self.given: tuple[str, ...] = ()
        self._paths = list(paths)
        self._root = root
        self._names = names
        self._source = source
        self._card = card
        inside = [name.parent for name in names]
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
        every = [(path, file) for path in paths for file in expand([path], taken(source))]
        files = [file for _, file in every]
        return cls(files, _names(every, root), root, source, card)

    @property
    def text(self) -> str:
        """The folder, or how many files."""
        return str(self._root) if self._root is not None else f"{len(self._paths)} files"

    def __len__(self) -> int:
        return len(self._paths)

    def fingerprint(self) -> str:
        """Of the names and sizes of all files."""
        digest = hashlib.sha256()
        for path, name in zip(self._paths, self._names, strict=True):
            digest.update(f"{name.as_posix()}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Files ``first`` to ``stop``."""
        rows = zip(self._paths[first:stop], self._names[first:stop], strict=True)
        return [self._item(path, name) for path, name in rows]

    def _item(self, path: Path, name: PurePath) -> Item:
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


def _names(every: Sequence[tuple[Path, Path]], root: Path | None) -> list[PurePath]:
    """What files are called, each with the path that it was found below, the same from every folder.

    Below one folder, their paths in it; of several, with the folder's own name before; where that leaves two
    alike, their paths below what they have in common.
    """
    if root is not None:
        return [file.relative_to(root) for _, file in every]
    names = [file.absolute().relative_to(given.absolute().parent) for given, file in every]
    if len(set(names)) == len(names):
        return list(names)
    common = os.path.commonpath([file.absolute().parent for _, file in every])
    return [file.absolute().relative_to(common) for _, file in every]
