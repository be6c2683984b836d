"""Photos to learn from: read when they are needed, and cut at random."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convlens.errors import ImageError
from convlens.images import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HELD = 256 << 20  # bytes of photos that are kept
_ROOM = 2  # a photo's shorter side is at most so many sides of a crop


class Crops:
    """Square crops of photos, each of a random photo, place and scale, mirrored every other time.

    A photo is first brought to a shorter side of twice that of a crop, where it is larger; then a square
    between once and twice the side is cut from it. What is drawn at a step depends on the seed and on the
    step alone.
    """

    def __init__(self, paths: Sequence[Path], side: int, channels: int = 3, seed: int = 0) -> None:
        """Read nothing yet.

        Args:
            paths: the photos.
            side: of a crop, in pixels.
            channels: colours, 3 or 1 (grey).
            seed: of what is drawn.
        """
        self.paths = tuple(paths)
        self.side = side
        self.channels = channels
        self.seed = seed
        self.unread: dict[Path, str] = {}
        self.enlarged: set[Path] = set()
        self._held: OrderedDict[Path, Image.Image] = OrderedDict()
        self._bytes = 0

    def batch(self, step: int, count: int) -> NDArray[np.float32]:
        """The crops of one step, count x colours x side x side from 0 to 1.

        Raises:
            ImageError: not one photo can be read.
        """
        rng = np.random.default_rng((self.seed % 2**32, step))
        found: list[NDArray[np.float32]] = []
        while len(found) < count:
            path = self.paths[int(rng.integers(len(self.paths)))]
            share, across, down, mirrored = rng.random(4)
            image = self._photo(path)
            if image is None:
                continue
            shorter = min(image.size)
            side = self.side + share * (shorter - self.side) if shorter > self.side else shorter
            left, top = across * (image.width - side), down * (image.height - side)
            cut = image.resize(
                (self.side, self.side), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
            )
            if mirrored < 0.5:
                cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            found.append(as_array(cut))
        return np.stack(found)

    def middles(self, count: int, side: int) -> tuple[NDArray[np.float32], list[str]]:
        """The middle of the first photos that can be read, count x colours x side x side, and their names.

        Raises:
            ImageError: not one can be read.
        """
        found, names = [], []
        for path in self.paths:
            try:
                image = self._read(path)
            except ImageError as error:
                self._refuse(path, error)
                continue
            found.append(as_array(squared(image, side)))
            names.append(path.name)
            if len(found) == count:
                break
        return np.stack(found), names

    def key(self) -> str:
        """Tells one set of photos from another: names and sizes of the files."""
        told = [f"{path.name} {path.stat().st_size}" for path in self.paths]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def _photo(self, path: Path) -> Image.Image | None:
        """A photo, no larger than it has to be; None where it cannot be read."""
        if path in self.unread:
            return None
        if path in self._held:
            self._held.move_to_end(path)
            return self._held[path]
        try:
            image = self._read(path)
        except ImageError as error:
            self._refuse(path, error)
            return None
        if min(image.size) < self.side:
            self.enlarged.add(path)
        image = limited(image, _ROOM * self.side)
        self._held[path] = image
        self._bytes += image.width * image.height * len(image.getbands())
        while self._bytes > _HELD and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= dropped.width * dropped.height * len(dropped.getbands())
        return image

    def _read(self, path: Path) -> Image.Image:
        return coloured(read_image(path), self.channels)

    def _refuse(self, path: Path, error: ImageError) -> None:
        self.unread[path] = str(error)
        if len(self.unread) == len(self.paths):
            first = next(iter(self.unread.values()))
            raise ImageError(
                f"none of the {len(self.paths)} photos to learn from can be read; the first: {first}"
            ) from error


def coloured(image: Image.Image, channels: int) -> Image.Image:
    """In RGB, or in grey for one channel."""
    return image.convert("L" if channels == 1 else "RGB")


def limited(image: Image.Image, shorter: int) -> Image.Image:
    """The picture with a shorter side of at most so many pixels."""
    return image if min(image.size) <= shorter else resized(image, shorter)


def resized(image: Image.Image, shorter: int) -> Image.Image:
    """The picture with a shorter side of so many pixels."""
    share = shorter / min(image.size)
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return image.resize(size, Image.Resampling.BICUBIC)


def squared(image: Image.Image, side: int) -> Image.Image:
    """The square in the middle, in that size."""
    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    box = (left, top, left + shorter, top + shorter)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def as_array(image: Image.Image) -> NDArray[np.float32]:
    """A picture as colours x height x width from 0 to 1."""
    pixels = np.asarray(image, np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))
