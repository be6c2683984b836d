"""Pictures in tables: Parquet files with a column of encoded bytes, and data sets of Hugging Face on disk."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from glob import glob
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from convlens.errors import ImageError, UsageError
from convlens.images import read_image
from convlens.recording.source import Item
from convlens_adapters.sources.numbered import fingerprint

if TYPE_CHECKING:
    from convlens.cards import Card
    from convlens.graph.source import Source as Input

_PICTURES = ("image", "img", "jpg", "png", "picture", "photo", "bytes")
_LABELS = ("label", "labels", "fine_label", "class", "cls", "target")


def open_source(text: str, source: Input, card: Card) -> Table | None:
    """``.parquet``, a pattern of them, or a folder with ``.parquet`` or ``.arrow`` files in it.

    Raises:
        UsageError: no column holds encoded pictures.
    """
    del source, card
    files = _files(text)
    return Table(text, files) if files else None


def _files(text: str) -> list[Path]:
    if any(mark in text for mark in "*?["):
        return [Path(name) for name in sorted(glob(text)) if name.endswith(".parquet")]
    path = Path(text)
    if path.is_dir():
        return sorted(path.rglob("*.parquet")) or sorted(path.rglob("*.arrow"))
    return [path] if path.is_file() and path.suffix.lower() in (".parquet", ".arrow") else []


class Table:
    """Rows of one or several files, each with an encoded picture."""

    def __init__(self, text: str, files: Sequence[Path]) -> None:
        """Read what the files say of themselves, not their rows."""
        self._text = text
        self._files = list(files)
        self._blocks = [block for path in files for block in _blocks(path)]
        self._ends = list(accumulate(block[2] for block in self._blocks))
        schema = _schema(self._files[0])
        self._picture = _picture_column(schema, text)
        self._label = next((name for name in _LABELS if name in schema.names), None)
        self._names = _class_names(schema, self._label)

    @property
    def text(self) -> str:
        """The file or folder."""
        return self._text

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def fingerprint(self) -> str:
        """Of the names, sizes and first and last bytes of the files."""
        return fingerprint(self._files)

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Rows ``first`` to ``stop``; only the blocks that hold them are read."""
        return [self._item(number) for number in range(first, min(stop, len(self)))]

    def _item(self, number: int) -> Item:
        block = bisect_right(self._ends, number)
        row = number - (self._ends[block - 1] if block else 0)
        path, index, _ = self._blocks[block]
        columns = [self._picture] + ([self._label] if self._label else [])
        table = _block(path, index, tuple(columns))
        held = table[self._picture][row].as_py()
        name = f"{path.name}:{row}" if index == 0 else f"{path.name}:{index}:{row}"
        if isinstance(held, dict):
            name, held = held.get("path") or name, held.get("bytes")
        label = self._told(table[self._label][row].as_py()) if self._label else None

        def read() -> Any:
            if held is None:
                raise ImageError(f"{name}: the table holds no bytes of it")
            return read_image(held, name)

        return Item(name, label, read)

    def _told(self, value: Any) -> str | None:
        if value is None:
            return None
        known = isinstance(value, int) and self._names and 0 <= value < len(self._names)
        return self._names[value] if known else str(value)


def _blocks(path: Path) -> list[tuple[Path, int, int]]:
    """File, number and rows of each piece that is read at once."""
    try:
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as file:
                return [(path, i, batch.num_rows) for i, batch in enumerate(_batches(file))]
        with pq.ParquetFile(path) as file:
            told = file.metadata
            return [(path, i, told.row_group(i).num_rows) for i in range(told.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{path}: not a table that can be read ({error})") from error


def _batches(file: Any) -> Any:
    try:
        return list(pa.ipc.open_stream(file))
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]


@lru_cache(maxsize=4)
def _block(path: Path, index: int, columns: tuple[str, ...]) -> Any:
    if path.suffix == ".arrow":
        file = pa.memory_map(str(path))  # the batch points into it, so it stays open with it
        batch = _batches(file)[index]
        return pa.table({name: batch[name] for name in columns})
    with pq.ParquetFile(path) as file:
        return file.read_row_group(index, columns=list(columns))


def _schema(path: Path) -> Any:
    if path.suffix == ".arrow":
        with pa.memory_map(str(path)) as file:
            try:
                return pa.ipc.open_stream(file).schema
            except pa.ArrowInvalid:
                file.seek(0)
                return pa.ipc.open_file(file).schema
    return pq.read_schema(path)


def _picture_column(schema: Any, text: str) -> str:
    def holds(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if holds(field.type)]
    named = [name for name in _PICTURES if name in fitting]
    if not fitting:
        raise UsageError(
            f"{text}: no column holds encoded pictures; the columns are {', '.join(schema.names)}"
        )
    if len(fitting) > 1 and not named:
        raise UsageError(
            f"{text}: columns {' and '.join(fitting)} could hold the pictures; call the right one image"
        )
    return named[0] if named else fitting[0]


def _class_names(schema: Any, label: str | None) -> list[str]:
    """The names of classes that Hugging Face keeps in a schema's metadata."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names]
