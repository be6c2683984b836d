"""Where the images of a batch lie in a value, and what a rule is told of a node to say it.

A value holds one row an image where its axis ``axis`` counts ``outer x N x inner`` positions and the
rows of different images are computed from those images alone. Most axes of images count N; a Reshape may
merge them with neighbours (windows, heads, boxes), and another one take them apart again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from convlens.graph.evaluate import Data, listed
from convlens.graph.sizes import Extent, Extents, Size


class Stuck(Exception):  # noqa: N818
    """Why the rows of the images cannot be followed through a node; the message is for people."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The images lie along ``axis``, which counts ``outer * N * inner``."""

    axis: int
    outer: Extent = 1
    inner: Extent = 1


@dataclass(frozen=True)
class Reads:
    """One node and what is known where it reads and writes.

    Attributes:
        op: its operator, with the domain where that is not ONNX's own.
        version: its opset.
        attributes: its attributes, plain.
        rows: the rows of each input; None for what no image goes into.
        shapes: the shape of each input; None where it is left out.
        data: the numbers of each input where they are known.
        out: the shape of each output.
        batch: the symbol that counts the images.
    """

    op: str
    version: int
    attributes: Mapping[str, Any]
    rows: Sequence[Rows | None]
    shapes: Sequence[Extents | None]
    data: Sequence[Data | None]
    out: Sequence[Extents | None]
    batch: Size

    def only(self, *allowed: int) -> None:
        """Refuse images in any other input than ``allowed``."""
        for index, rows in enumerate(self.rows):
            if rows is not None and index not in allowed:
                raise Stuck(f"the images go into its input {index}")

    def at(self, index: int) -> Rows:
        """The rows of input ``index``."""
        rows = self.rows[index] if index < len(self.rows) else None
        if rows is None:
            raise Stuck(f"input {index} holds no images")
        return rows

    def shape(self, index: int) -> Extents:
        """The shape of input ``index``."""
        shape = self.shapes[index] if index < len(self.shapes) else None
        if shape is None:
            raise Stuck(f"the shape of input {index} is not known")
        return shape

    def result(self, index: int = 0) -> Extents:
        """The shape of output ``index``."""
        shape = self.out[index]
        if shape is None:
            raise Stuck("the shape of its output is not known")
        return shape

    def numbers(self, index: int, name: str = "") -> list[int] | None:
        """Whole numbers from attribute ``name`` or input ``index``; None where the node has neither."""
        if name and name in self.attributes:
            return [int(n) for n in self.attributes[name]]
        if index >= len(self.shapes) or self.shapes[index] is None:
            return None
        found = listed(self.data[index])
        if found is None or any(isinstance(n, Size) for n in found):
            raise Stuck(f"the numbers of input {index} are not constant")
        return [int(n) for n in found]

    def counts(self, value: object) -> bool:
        """Whether ``value`` is a size that the number of images goes into."""
        return isinstance(value, Size) and not value.symbols().isdisjoint(self.batch.symbols())


Rule: TypeAlias = "Callable[[Reads], list[Rows]]"
