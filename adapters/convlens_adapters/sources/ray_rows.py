"""Rows of a Ray Dataset: whatever Ray reads, numbered in its order.

``ray:READER:PATH`` opens what ``ray.data.read_READER`` reads, such as ``ray:parquet:s3://bucket/train/`` or
``ray:webdataset:/data/train/``; in Python any dataset will do. A row holds a picture, encoded or as numbers,
or an input as the model takes it, and perhaps a label and a name, in columns that go by the usual names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ImageError, UsageError
from convlens.images import read_image
from convlens.recording.source import Item
from convlens_adapters.runners.cluster import imported, started
from convlens_adapters.sources.numbered import from_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from convlens.cards import Card
    from convlens.graph.source import Source as Input

_FEW = 64  # rows that are looked at before all are read

Piece = tuple[Any, int, int]
"""A block of rows (or a reference to one), the first row that is meant and the first that is not."""

_MARK = "ray:"
_INPUTS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "bytes", "data", "item", "input")
_LABELS = ("label", "labels", "cls", "class", "target", "y")
_NAMES = ("name", "path", "__key__", "key", "file", "filename", "id")


@dataclass(frozen=True)
class Columns:
    """What stands in which column; None for what none holds."""

    image: str
    label: str | None
    name: str | None


def open_source(text: str, source: Input, card: Card) -> RaySource | None:
    """``ray:READER:PATH``.

    Raises:
        UsageError: Ray has no such reader, or it cannot read this; or no column holds inputs.
    """
    del card
    if not text.startswith(_MARK):
        return None
    reader, _, path = text.removeprefix(_MARK).partition(":")
    started()
    data = imported().data
    known = sorted(name.removeprefix("read_") for name in dir(data) if name.startswith("read_"))
    if reader not in known or not path:
        raise UsageError(f"{text}: expected ray:READER:PATH with a reader of Ray Data: {', '.join(known)}")
    path = str(Path(path).resolve()) if Path(path).exists() else path
    options = {"include_paths": True} if reader in ("images", "binary_files", "numpy") else {}
    try:
        dataset = getattr(data, f"read_{reader}")(path, **options)
    except Exception as error:  # whatever the reader, its file system and pyarrow say
        raise UsageError(f"{text}: Ray cannot read it ({' '.join(str(error).split())[:200]})") from error
    return RaySource(dataset, source, text=f"{_MARK}{reader}:{path}")


class RaySource:
    """A Ray Dataset as a data set to record.

    Rows are numbered in the order of the dataset, which is therefore told to keep it; that the dataset gives
    the same rows in the same order each time is for whoever made it to see to. On a cluster a row goes from
    where it was read to where the model is; the local runner reads all rows into Ray's store, in memory and
    then on disk.
    """

    def __init__(
        self,
        dataset: Any,
        source: Input,
        *,
        image: str | None = None,
        label: str | None = None,
        name: str | None = None,
        text: str = "a Ray dataset",
        fingerprint: str | None = None,
    ) -> None:
        """What a dataset holds.

        Args:
            dataset: a ``ray.data.Dataset``.
            source: the input of the model.
            image: the column of inputs: encoded pictures, N x height x width (x colours) of 8 bits, or arrays
                as the model takes them; without it that of a usual name, such as ``image``.
            label: the column of classes; likewise, such as ``label``.
            name: the column of names; likewise, such as ``path``. The row's number, without one.
            text: what it is, for people; ``ray:READER:PATH`` can be opened again.
            fingerprint: changes where the data change; from the names of columns and files, the number of
                rows and the first one, without it.

        Raises:
            UsageError: there is no such column, or none that could hold inputs.
        """
        self.text = text
        self.dataset = dataset
        context = dataset.context
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        self._input = source
        self._fingerprint = fingerprint
        self.columns_held = _columns(list(dataset.schema().names), text, Columns(image or "", label, name))

    @property
    def given(self) -> tuple[str, ...]:
        """Where it was read, nothing where it cannot be opened by a name."""
        return (self.text,) if self.text.startswith(_MARK) else ()

    @given.setter
    def given(self, value: tuple[str, ...]) -> None:
        """It knows by itself; what was typed may hold a path that means something else elsewhere."""

    @cached_property
    def _count(self) -> int:
        few = sum(stop - first for _, first, stop in self._head)
        return few if few < _FEW else int(self.dataset.count())

    def __len__(self) -> int:
        return self._count

    def fingerprint(self) -> str:
        """As it was given, else of columns, files, the number of rows and the first one."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            schema = self.dataset.schema()
            for column, kind in zip(schema.names, schema.types, strict=True):
                digest.update(f"{column}\0{kind}\n".encode())
            for path in sorted(self.dataset.input_files() or []):
                digest.update(f"{PurePosixPath(path).name}\n".encode())
            digest.update(f"{len(self)}\n".encode())
            for value in self._first():
                data = value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()
                digest.update(hashlib.sha256(data).digest())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _first(self) -> list[Any]:
        """The values of the first row, by the names of their columns."""
        for reference, start, _ in self._head:
            (row,) = _rows(imported().get(reference), start, start + 1)
            return [row[column] for column in sorted(row)]
        return []

    @cached_property
    def _head(self) -> list[Piece]:
        """The first rows, so that looking at a few does not read all."""
        return list(_blocks(self.dataset.limit(_FEW)))

    @cached_property
    def _all(self) -> list[Piece]:
        return self._head if len(self) < _FEW else list(self.blocks())

    def blocks(self) -> Iterator[Piece]:
        """References to all rows in their order, block by block, while Ray reads them."""
        return _blocks(self.dataset)

    def pieces(self, shards: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[Piece]]]:
        """Each shard, in the order of its rows, with references to them; what no shard has is passed."""
        reading, at = self.blocks(), 0
        block: Piece | None = None
        for first, stop in sorted(shards):
            found: list[Piece] = []
            while at < stop:
                block = block or next(reading, None)
                if block is None:
                    raise ImageError(
                        f"{self.text}: gave {at} rows and not {len(self)}; expected the same rows each time"
                    )
                reference, start, end = block
                passed = min(end - start, max(0, first - at))
                taken = min(end - start - passed, stop - at - passed)
                if taken:
                    found.append((reference, start + passed, start + passed + taken))
                at, start = at + passed + taken, start + passed + taken
                block = (reference, start, end) if start < end else None
            yield first, stop, found

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Rows ``first`` to ``stop``, from Ray's store; beyond the first few all rows are read into it."""
        stop = min(stop, len(self))
        found: list[Item] = []
        number, get = 0, imported().get
        for reference, start, end in self._head if stop <= _FEW else self._all:
            a, b = max(first - number, 0), min(stop - number, end - start)
            if a < b:
                piece = get(reference), start + a, start + b
                found += Rows([piece], number + a, self.columns_held, self._input).items(
                    number + a, number + b
                )
            number += end - start
        return found


def _blocks(dataset: Any) -> Iterator[Piece]:
    for bundle in dataset.iter_internal_ref_bundles():
        for reference, told, cut in zip(bundle.block_refs, bundle.metadata, bundle.slices, strict=True):
            if cut is None:
                yield reference, 0, told.num_rows
            else:
                yield reference, cut.start_offset, cut.end_offset


def _rows(block: Any, start: int, stop: int) -> Iterator[Mapping[str, Any]]:
    """Rows of a block that is at hand."""
    from ray.data.block import BlockAccessor

    cut = BlockAccessor.for_block(block).slice(start, stop, copy=False)
    found: Iterator[Mapping[str, Any]] = BlockAccessor.for_block(cut).iter_rows(public_row_format=True)
    return found


class Rows:
    """Rows at hand, as a data set of which they are the items from ``first`` on."""

    def __init__(self, pieces: Sequence[Piece], first: int, columns: Columns, source: Input) -> None:
        """``pieces`` are blocks, not references."""
        self.given: tuple[str, ...] = ()
        self.text = "rows"
        self._pieces = pieces
        self._first = first
        self._columns = columns
        self._input = source

    def __len__(self) -> int:
        return self._first + sum(stop - start for _, start, stop in self._pieces)

    def fingerprint(self) -> str:
        """They have none of their own."""
        return ""

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Items ``first`` to ``stop``, by their numbers in the whole data set."""
        found, number = [], self._first
        for block, start, end in self._pieces:
            a, b = max(first - number, 0), min(stop - number, end - start)
            if a < b:
                rows = _rows(block, start + a, start + b)
                found += [self._item(row, number + a + i) for i, row in enumerate(rows)]
            number += end - start
        return found

    def _item(self, row: Mapping[str, Any], number: int) -> Item:
        columns = self._columns
        value = row[columns.image]
        own = None if columns.name is None else row[columns.name]
        if isinstance(value, Mapping):  # as Hugging Face has it
            own = own or value.get("path")
            value = value.get("bytes")
        name = f"row:{number}" if own in (None, "") else str(own)
        label = None if columns.label is None else row[columns.label]
        return Item(name, None if label is None else str(label), lambda: self._read(value, name))

    def _read(self, value: Any, name: str) -> Image.Image | NDArray[Any]:
        if isinstance(value, bytes):
            return read_image(value, name)
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ImageError(f"{name}: lists that differ in length; expected an array") from error
        if value is None or array.dtype.kind not in "biuf":
            raise ImageError(f"{name}: the row holds no picture and no numbers")
        tall = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
        if self._input.image and array.dtype == np.uint8 and tall:
            return from_pixels(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ImageError(f"{name}: holds NaN or infinity; expected finite numbers")
        real = self._input.dtype is None or "float" in self._input.dtype
        return array.astype(np.float32) if real and array.dtype.kind != "f" else array


def _columns(known: Sequence[str], text: str, asked: Columns) -> Columns:
    """What stands in which column, as asked or by the usual names."""
    for column in (asked.image, asked.label, asked.name):
        if column and column not in known:
            raise UsageError(f"{text}: no column {column!r}; the columns are {', '.join(known)}")

    def usual(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in known), None)

    image = asked.image or usual(_INPUTS) or (known[0] if len(known) == 1 else None)
    if image is None:
        raise UsageError(
            f"{text}: no column of inputs; expected one called {', '.join(_INPUTS)}, found {', '.join(known)}"
        )
    return replace(asked, image=image, label=asked.label or usual(_LABELS), name=asked.name or usual(_NAMES))
