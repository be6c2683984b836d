"""A model file as it lies on disk: told from what is no model, read in pieces, and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from convlens.errors import ModelFileError
from convlens.graph.external import external_files
from convlens.graph.pieces import Pieces, cut
from convlens.graph.sparse import densify

_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a zip archive (PyTorch's .pt and Keras' .keras look like this)",
    b"\x89HDF": "an HDF5 file (Keras' .h5 looks like this)",
    b"\x1f\x8b": "a gzip archive",
    b"ORTM": "onnxruntime's own format",
}
_LARGE = 1 << 20  # bytes from which on a file is taken apart before it is parsed
_SMALL_REST = 1 << 24  # bytes beside the weights that may be kept until someone asks for the hash
_PROTOBUF_LIMIT = 1 << 31


class Digest:
    """The SHA-256 of a file and of its external data, computed when it is asked for."""

    def __init__(self, path: Path, read: bytes | Pieces, data: Sequence[Path]) -> None:
        """``read`` is what the file holds; ``data`` are the files of external data, in order."""
        self._path = path
        self._pieces: Pieces | None = None
        self._digest: Any = None
        if isinstance(read, Pieces) and len(read.rest) <= _SMALL_REST:
            self._pieces = read
        else:
            self._digest = read.sha256() if isinstance(read, Pieces) else hashlib.sha256(read)
        self._data = [(file, _stamp(file)) for file in data]

    @cached_property
    def hex(self) -> str:
        """The hash, in hex.

        Raises:
            ModelFileError: a file of external data was written to since the model was loaded.
        """
        digest = self._digest.copy() if self._pieces is None else self._pieces.sha256()
        for file, stamp in self._data:
            if not file.is_file() or _stamp(file) != stamp:
                raise ModelFileError(
                    f"{self._path}: its weights in {file.name!r} were written to after it was loaded; "
                    "load it again"
                )
            with file.open("rb") as handle:
                while block := handle.read(1 << 20):
                    digest.update(block)
        return str(digest.hexdigest())


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def read(path: Path) -> tuple[ir.Model, Digest, bool]:
    """The file as an ``onnx_ir`` model, its hash, and whether it held sparse weights, now written out.

    Raises:
        ModelFileError: not there, not ONNX, truncated, or its external data is missing.
    """
    if path.is_dir():
        raise ModelFileError(f"{path}: this is a folder; expected an ONNX file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(32)
        _refuse_others(path, start)
        whole = cut(path) if size >= _LARGE else None
        if whole is None and size >= _PROTOBUF_LIMIT:
            raise ModelFileError(
                f"{path}: has {size:,} bytes, and an ONNX file ends at {_PROTOBUF_LIMIT:,}; save the model "
                "with external data (onnx.save_model has save_as_external_data=True)"
            )
        raw: bytes | Pieces = path.read_bytes() if whole is None else whole
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file; expected an ONNX model") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); expected an ONNX model") from error
    proto = _parse(path, raw.rest if isinstance(raw, Pieces) else raw, size)
    digest = Digest(path, raw, external_files(path, proto))
    sparse = densify(proto.graph)
    model = ir.serde.deserialize_model(proto)
    if isinstance(raw, Pieces):
        raw.attach(model)
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model, digest, sparse


def _refuse_others(path: Path, start: bytes) -> None:
    """Name files of formats that are often taken for models."""
    for magic, what in _MAGIC.items():
        if start.startswith(magic) or start[4:8] == magic:
            raise ModelFileError(
                f"{path}: this is {what}; expected an ONNX model - export the model to ONNX first"
            )


def _parse(path: Path, raw: bytes, size: int) -> onnx.ModelProto:
    """The bytes as a protobuf that holds a graph and whole weights; the file has ``size`` bytes."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except DecodeError as error:
        looks_onnx = raw[:1] == b"\x08" and len(raw) > 16
        what = "is a truncated or damaged ONNX file" if looks_onnx else "is not an ONNX file"
        raise ModelFileError(f"{path}: {what} ({size:,} bytes); fetch or export it again") from error
    if not proto.graph.node or not proto.ir_version:
        raise ModelFileError(
            f"{path}: is not an ONNX file, or one without a graph ({size:,} bytes); "
            "expected a model with at least one node"
        )
    if not proto.opset_import:
        raise ModelFileError(
            f"{path}: is a truncated ONNX file, it does not say its opset ({size:,} bytes); "
            "fetch or export it again"
        )
    for tensor in proto.graph.initializer:
        _check_tensor(path, tensor)
    return proto


def _check_tensor(path: Path, tensor: onnx.TensorProto) -> None:
    """A file cut inside its last tensor can still parse; its data is then shorter than its shape says."""
    if not tensor.HasField("raw_data"):
        return
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError) as error:
        raise ModelFileError(
            f"{path}: weight {tensor.name!r} has the unknown type {tensor.data_type}"
        ) from error
    if dtype.itemsize == 1:
        return  # 4-bit types are packed, and their length is the runtime's to check
    expected = int(np.prod(tensor.dims, dtype=np.int64)) * dtype.itemsize
    if len(tensor.raw_data) != expected:
        raise ModelFileError(
            f"{path}: weight {tensor.name!r} holds {len(tensor.raw_data):,} bytes where its shape "
            f"{list(tensor.dims)} needs {expected:,}; the file is damaged, fetch it again"
        )
