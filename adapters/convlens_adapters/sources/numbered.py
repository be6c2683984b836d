"""A data set that is held in memory or read by number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.images import flatten
from convlens.recording.source import Item

if TYPE_CHECKING:
    from PIL import Image


@dataclass
class Numbered:
    """So many items, each made from its number.

    Attributes:
        text: what it is, for people.
        count: how many items.
        item: makes one; reading it from several threads at once is safe.
        files: the files that it lies in, for the fingerprint.
        given: what it was opened from.
        columns: the values of each item, name to ``number`` or ``text``.
    """

    text: str
    count: int
    item: Callable[[int], Item]
    files: Sequence[Path]
    given: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """Of the names, sizes and first and last bytes of the files."""
        return fingerprint(self.files)

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Items ``first`` to ``stop``."""
        return [self.item(number) for number in range(first, min(stop, self.count))]


def fingerprint(files: Sequence[Path], ends: int = 1 << 16) -> str:
    """A hash of files that does not read large ones whole: name, size, first and last bytes."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(ends))
            if size > ends:
                file.seek(max(ends, size - ends))
                digest.update(file.read(ends))
    return digest.hexdigest()


def from_pixels(array: Any) -> Image.Image:
    """Height x width (x colours) of 8 bits as a picture."""
    from PIL import Image

    return flatten(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))
