"""Weights in files of their own: where they lie, and whether they are all there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from convlens.errors import ModelFileError
from convlens.graph.pieces import is_held


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in ``graph``: weights, constants of nodes, and those of subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for inner in attribute.graphs:
                    yield from tensors(inner)


def external_files(path: Path, proto: onnx.ModelProto) -> list[Path]:
    """The files beside ``path`` that hold weights of ``proto``, each found to be long enough.

    Raises:
        ModelFileError: one is missing, too short, outside the model's folder, or the entry is malformed.
    """
    found: dict[str, tuple[int, str]] = {}
    for tensor in tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL or is_held(tensor):
            continue
        file, end = _entry(path, tensor)
        if end > found.get(file, (-1, ""))[0]:
            found[file] = end, tensor.name
    files = []
    for file, (size, name) in sorted(found.items()):
        data = path.parent / file
        if not data.is_file():
            raise ModelFileError(
                f"{path}: its weights are in {file!r}, which is not beside it; put the two together"
            )
        length = data.stat().st_size
        if length < size:
            raise ModelFileError(
                f"{path}: its weights need {size:,} bytes of {file!r} (weight {name!r} ends there), which "
                f"has {length:,}; the file is truncated or belongs to another model, fetch it again"
            )
        files.append(data)
    return files


def _entry(path: Path, tensor: onnx.TensorProto) -> tuple[str, int]:
    """The file that a tensor lies in, and the byte at which it ends there."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    file = said.get("location", "")
    posix, windows = PurePosixPath(file), PureWindowsPath(file)
    if not file or posix.is_absolute() or windows.drive or ".." in (*posix.parts, *windows.parts):
        raise ModelFileError(
            f"{path}: weight {tensor.name!r} says that it lies in {file!r}; expected a file in the model's "
            "folder - save the model again with its data beside it"
        )
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or 0)
    except ValueError:
        offset, length = -1, 0
    if offset < 0 or length < 0:
        raise ModelFileError(
            f"{path}: weight {tensor.name!r} has the offset {said.get('offset')!r} and the length "
            f"{said.get('length')!r} in {file!r}; expected numbers from 0 on - save the model again"
        )
    needed = _bytes(tensor)
    if length and needed is not None and length != needed:
        raise ModelFileError(
            f"{path}: weight {tensor.name!r} has {length:,} bytes in {file!r} where its shape "
            f"{list(tensor.dims)} needs {needed:,}; save the model again"
        )
    return file, offset + (length or needed or 0)


def _bytes(tensor: onnx.TensorProto) -> int | None:
    """How many bytes the numbers of a tensor take; None for types that are packed or unknown."""
    try:
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError):
        return None
    packed = tensor.data_type >= onnx.TensorProto.UINT4 and size == 1
    if packed or tensor.data_type == onnx.TensorProto.STRING:
        return None
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count * size
