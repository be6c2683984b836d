"""Small ONNX models written by hand, and how an error of ConvLens is checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convlens
from convlens import errors
from convlens.model import Model

EXIT_CODES = {
    errors.ConvLensError: 4,
    errors.UsageError: 2,
    errors.TargetError: 2,
    errors.LayerError: 2,
    errors.ParameterError: 2,
    errors.CardError: 2,
    errors.OutputError: 2,
    errors.ModelFileError: 3,
    errors.UnsupportedError: 3,
    errors.UncertifiedError: 3,
    errors.ImageError: 4,
}
LABELS = (("tench",), ("tabby", "tabby cat"), ("tiger cat",), ("jeep", "landrover"), ("crane", "tabby"))


@contextmanager
def refused(
    kind: type[errors.ConvLensError], *words: object
) -> Iterator[pytest.ExceptionInfo[errors.ConvLensError]]:
    """The block raises exactly ``kind``, in one line that holds every one of ``words``."""
    with pytest.raises(errors.ConvLensError) as caught:
        yield caught
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert caught.value.exit_code == EXIT_CODES[kind]
    assert "\n" not in message
    for word in words:
        assert str(word) in message


def numbers(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> NDArray[np.float32]:
    """Random float32 numbers, the same each time."""
    return np.random.default_rng(seed + sum(shape)).uniform(low, high, shape).astype(np.float32)


def op(kind: str, reads: str, writes: str, **attributes: Any) -> onnx.NodeProto:
    """A node from names parted by spaces; ``-`` is an input that is left out."""
    names = ["" if name == "-" else name for name in reads.split()]
    return helper.make_node(kind, names, writes.split(), **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None] | None],
    outputs: Sequence[str] | Mapping[str, Sequence[int | str]],
    weights: Mapping[str, NDArray[Any]] | None = None,
    dtype: int = TensorProto.FLOAT,
    **how: Any,
) -> onnx.ModelProto:
    """A model; the shapes of outputs that are only named are left to inference."""
    shaped = outputs if isinstance(outputs, Mapping) else {}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, dtype, shaped[name])
            if name in shaped
            else helper.make_empty_tensor_value_info(name)
            for name in outputs
        ],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opset = how.pop("opset", 17)
    imports = [helper.make_opsetid("", opset), *how.pop("imports", ())]
    return helper.make_model(graph, opset_imports=imports, ir_version=how.pop("ir_version", 8), **how)


def put(proto: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def opened(proto: onnx.ModelProto, folder: Path, **settings: Any) -> Model:
    """The model written to a file and loaded."""
    return convlens.load(put(proto, folder), device="cpu", threads=1, **settings)


def classifier(batch: int | str = "N", names: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Five class scores from 3 x 8 x 8: a convolution, a rectifier, a pooling, a dense layer.

    ``names`` gives values other names than conv1, relu1, pool, flat and logits.
    """
    n = {name: name for name in ("conv1", "relu1", "pool", "flat", "logits")} | dict(names or {})
    return model(
        [
            op("Conv", "image w1 b1", n["conv1"], pads=[1, 1, 1, 1]),
            op("Relu", n["conv1"], n["relu1"]),
            op("GlobalAveragePool", n["relu1"], n["pool"]),
            op("Flatten", n["pool"], n["flat"]),
            op("Gemm", f"{n['flat']} w2 b2", n["logits"], transB=1),
        ],
        {"image": [batch, 3, 8, 8]},
        [n["logits"]],
        {"w1": numbers(4, 3, 3, 3), "b1": numbers(4), "w2": numbers(5, 4), "b2": numbers(5)},
    )
