"""A model file in pieces: its large weights as arrays of their own, and what is left as a small protobuf.

Parsed as a whole, a file lies in memory three times: as bytes, as a protobuf, and as arrays. Here the
bytes are walked, following only what leads to weights, and the numbers of each large one are read from
the file straight into the array that is used from then on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

LEAST = 1 << 12
"""Bytes from which on a weight is taken out of the protobuf."""

_HELD = "\0held:"  # no file has a name with a zero in it
_LEADS = {"model": {7: "graph"}, "graph": {1: "node", 5: "tensor"}, "node": {5: "attribute"}}
_LEADS["attribute"] = {5: "tensor"}
_NUMBERS = frozenset({4, 5, 6, 7, 9, 10, 11})  # the fields of a tensor that hold numbers
_PLAIN: dict[int, str] = {
    onnx.TensorProto.FLOAT: "<f4",
    onnx.TensorProto.UINT8: "u1",
    onnx.TensorProto.INT8: "i1",
    onnx.TensorProto.UINT16: "<u2",
    onnx.TensorProto.INT16: "<i2",
    onnx.TensorProto.INT32: "<i4",
    onnx.TensorProto.INT64: "<i8",
    onnx.TensorProto.FLOAT16: "<f2",
    onnx.TensorProto.DOUBLE: "<f8",
    onnx.TensorProto.UINT32: "<u4",
    onnx.TensorProto.UINT64: "<u8",
    onnx.TensorProto.BFLOAT16: "<u2",
}

Buffer: TypeAlias = "bytes | mmap"


@dataclass(frozen=True)
class Pieces:
    """A file whose large weights were taken out.

    Attributes:
        rest: the protobuf without their numbers; each says with which of ``weights`` it goes.
        weights: the numbers, one array a weight, read-only, in the order of the file.
        between: the file's bytes before, between and after them.
    """

    rest: bytes
    weights: tuple[NDArray[Any], ...]
    between: tuple[bytes, ...]

    def sha256(self) -> Any:
        """The hash of the file as it was read, as an object of :mod:`hashlib`."""
        digest = hashlib.sha256(self.between[0])
        for weight, after in zip(self.weights, self.between[1:], strict=True):
            digest.update(weight.reshape(-1).view(np.uint8).data)
            digest.update(after)
        return digest

    def attach(self, model: ir.Model) -> None:
        """Give the weights of ``model``, which was made of :attr:`rest`, their numbers."""
        for value in model.graph.initializers.values():
            found = self._find(value.const_value)
            if found is not None:
                value.const_value = found
        for node in model.graph:
            for name, attr in list(node.attributes.items()):
                if attr.type == ir.AttributeType.TENSOR:
                    found = self._find(attr.value)
                    if found is not None:
                        node.attributes[name] = ir.AttrTensor(name, found, attr.doc_string)

    def _find(self, tensor: Any) -> ir.TensorProtocol | None:
        if not isinstance(tensor, ir.ExternalTensor) or not str(tensor.location).startswith(_HELD):
            return None
        array = self.weights[int(str(tensor.location).removeprefix(_HELD))]
        if tensor.dtype == ir.DataType.BFLOAT16:
            array = array.view(tensor.dtype.numpy())
        return ir.Tensor(array, tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)


def is_held(tensor: onnx.TensorProto) -> bool:
    """Whether the numbers of ``tensor`` were taken out of the protobuf."""
    return any(entry.value.startswith(_HELD) for entry in tensor.external_data)


def cut(path: Path, least: int = LEAST) -> Pieces | None:
    """The file at ``path`` in pieces; None where it is built in another way, or damaged.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as raw:
        walk = _Walk(raw, least)
        try:
            parts = walk.message("model", 0, len(raw))
        except (_OddError, IndexError):
            return None
        if parts is None:
            return None
        between, weights, kept = [], [], 0
        for start, dtype, dims in walk.found:
            between.append(raw[kept:start])
            weights.append(_read(file, start, dtype, dims))
            kept = start + weights[-1].nbytes
        between.append(raw[kept:])
    if any(weight.shape != dims for weight, (_, _, dims) in zip(weights, walk.found, strict=True)):
        return None
    return Pieces(b"".join(parts), tuple(weights), tuple(between))


def _read(file: BinaryIO, start: int, dtype: str, dims: tuple[int, ...]) -> NDArray[Any]:
    array = np.empty(dims, dtype)
    file.seek(start)
    if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
        raise OSError(0, "it became shorter while it was read")
    array.flags.writeable = False
    return array


class _OddError(Exception):
    """The bytes are not what an exporter writes."""


class _Walk:
    """Walks through the bytes of a model; ``found`` are start, type and shape of every weight cut out."""

    def __init__(self, raw: Buffer, least: int) -> None:
        self.raw, self.least = raw, least
        self.found: list[tuple[int, str, tuple[int, ...]]] = []

    def message(self, kind: str, start: int, end: int) -> list[bytes] | None:
        """The message between two places as it is without its large weights; None where it has none."""
        if kind == "tensor":
            return self._tensor(start, end)
        out: list[bytes] = []
        kept = start
        leads = _LEADS[kind]
        for field, wire, tag, body, after in self._fields(start, end):
            if wire != 2 or field not in leads or after - body < self.least:
                continue
            inner = self.message(leads[field], body, after)
            if inner is not None:
                out += [self.raw[kept:tag], _number(field << 3 | 2), _number(sum(map(len, inner))), *inner]
                kept = after
        return [*out, self.raw[kept:end]] if out else None

    def _tensor(self, start: int, end: int) -> list[bytes] | None:
        dims: list[int] = []
        kind, where, plain = 0, [], True
        for field, wire, tag, body, after in self._fields(start, end):
            if field == 1 and wire == 0:
                dims.append(self._varint(body)[0])
            elif field == 1 and wire == 2:
                while body < after:
                    dim, body = self._varint(body)
                    dims.append(dim)
            elif field == 2:
                kind = self._varint(body)[0]
            elif field in _NUMBERS and wire == 2:
                where.append((field, tag, body, after))
            elif field in _NUMBERS or field in (3, 13, 14):  # in parts, in a file of its own, one by one
                plain = False
        if not plain or len(where) != 1 or kind not in _PLAIN:
            return None
        [(field, tag, body, after)] = where
        typed = (field, kind) in ((4, onnx.TensorProto.FLOAT), (10, onnx.TensorProto.DOUBLE))
        size = math.prod(dims) * np.dtype(_PLAIN[kind]).itemsize
        if not (field == 9 or typed) or size != after - body or size < self.least:
            return None
        said = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
        said.external_data.add(key="location", value=f"{_HELD}{len(self.found)}")
        self.found.append((body, _PLAIN[kind], tuple(dims)))
        return [self.raw[start:tag], self.raw[after:end], said.SerializeToString()]

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Every field of a message: number, wire type, where its tag is, where its body starts and ends."""
        place = start
        while place < end:
            tag = place
            number, place = self._varint(place)
            wire = number & 7
            if wire == 2:
                length, place = self._varint(place)
                after = place + length
            elif wire == 0:
                after = self._varint(place)[1]
            elif wire in (1, 5):
                after = place + (8 if wire == 1 else 4)
            else:
                raise _OddError
            if after > end:
                raise _OddError
            yield number >> 3, wire, tag, place, after
            place = after

    def _varint(self, place: int) -> tuple[int, int]:
        raw = self.raw
        byte = raw[place]
        if byte < 0x80:
            return byte, place + 1
        value, shift = byte & 0x7F, 7
        while True:
            place += 1
            byte = raw[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place + 1
            shift += 7
            if shift > 63:
                raise _OddError


def _number(value: int) -> bytes:
    """A whole number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
