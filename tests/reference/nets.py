"""Small sequential networks: one description, written out as ONNX or walked through by the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution: ``weight`` outputs x inputs x height x width, and zeros around the input."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int = 1
    pad: int = 0


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class MaxPool:
    """The largest number of each window."""

    kernel: int
    stride: int


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix on the flattened input: ``weight`` outputs x inputs."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


Layer: TypeAlias = Conv | Relu | MaxPool | Dense


@dataclass(frozen=True, eq=False)
class Net:
    """Layers in a row, with a name each, on inputs of ``shape`` (channels, height, width)."""

    shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """``conv1``, ``relu1``, ``conv2`` ... : the kind, and its number among its kind."""
        counts: dict[str, int] = {}
        found = []
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            found.append(f"{kind}{counts[kind]}")
        return tuple(found)

    def until(self, name: str) -> Net:
        """The net up to and with the layer of that name."""
        return Net(self.shape, self.layers[: self.names.index(name) + 1])

    def onnx(
        self,
        batch: int | str = "N",
        nhwc: bool = False,
        size: Sequence[int | str] | None = None,
        end: str = "",
    ) -> onnx.ModelProto:
        """The net as a model: every value under its layer's name.

        Args:
            batch: the input's first dimension.
            nhwc: the input has its channels last, and a Transpose stands in front.
            size: height and width as the file declares them; the net's own by default.
            end: an operator without attributes after the last layer, its value called ``out``.
        """
        nodes, stored = [], {}
        value = "input"
        if nhwc:
            nodes.append(helper.make_node("Transpose", [value], ["turned"], perm=[0, 3, 1, 2]))
            value = "turned"
        for name, layer in zip(self.names, self.layers, strict=True):
            if isinstance(layer, Conv):
                stored |= {f"{name}_w": layer.weight, f"{name}_b": layer.bias}
                kernel = list(layer.weight.shape[2:])
                attributes: dict[str, Any] = {
                    "kernel_shape": kernel,
                    "strides": [layer.stride] * 2,
                    "pads": [layer.pad] * 4,
                }
                nodes.append(
                    helper.make_node("Conv", [value, f"{name}_w", f"{name}_b"], [name], **attributes)
                )
            elif isinstance(layer, Relu):
                nodes.append(helper.make_node("Relu", [value], [name]))
            elif isinstance(layer, MaxPool):
                window = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2}
                nodes.append(helper.make_node("MaxPool", [value], [name], **window))
            else:
                stored |= {f"{name}_w": layer.weight, f"{name}_b": layer.bias}
                nodes.append(helper.make_node("Flatten", [value], [f"{name}_flat"]))
                flat = [f"{name}_flat", f"{name}_w", f"{name}_b"]
                nodes.append(helper.make_node("Gemm", flat, [name], transB=1))
            value = name
        if end:
            nodes.append(helper.make_node(end, [value], ["out"]))
            value = "out"
        height, width = self.shape[1:] if size is None else size
        dims = [batch, height, width, self.shape[0]] if nhwc else [batch, self.shape[0], height, width]
        return model_of(nodes, {"input": dims}, [value], stored)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    stored: Mapping[str, NDArray[Any]] | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A float32 model from nodes, input shapes, output names and stored arrays."""
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(dims)) for n, dims in inputs.items()]
    arrays = [numpy_helper.from_array(array, name) for name, array in (stored or {}).items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "net", infos, ends, arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def saved(model: onnx.ModelProto, folder: Path, name: str = "net") -> Path:
    """The model's file in ``folder``."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def conv(
    rng: np.random.Generator, inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 0
) -> Conv:
    """A convolution with random weights that keep the scale of the numbers."""
    spread = (inputs * kernel * kernel) ** -0.5
    weight = rng.normal(0, 1.4 * spread, (outputs, inputs, kernel, kernel)).astype(np.float32)
    return Conv(weight, rng.normal(0, 0.2, outputs).astype(np.float32), stride, pad)


def dense(rng: np.random.Generator, inputs: int, outputs: int) -> Dense:
    """A dense layer with random weights that keep the scale of the numbers."""
    weight = rng.normal(0, 1.4 * inputs**-0.5, (outputs, inputs)).astype(np.float32)
    return Dense(weight, rng.normal(0, 0.2, outputs).astype(np.float32))


def classifier(seed: int, shape: tuple[int, int, int] = (3, 11, 9), classes: int = 4) -> Net:
    """conv - relu - maxpool 2 - conv stride 2 - relu - dense, on small pictures that are not square."""
    rng = np.random.default_rng(seed)
    first, second = conv(rng, shape[0], 5, 3, pad=1), conv(rng, 5, 6, 3, stride=2, pad=1)
    height, width = (-(-(side // 2) // 2) for side in shape[1:])
    last = dense(rng, 6 * height * width, classes)
    return Net(shape, (first, Relu(), MaxPool(2, 2), second, Relu(), last))


def pictures(seed: int, count: int, shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    """Random inputs, images first."""
    return np.random.default_rng(1000 + seed).normal(0, 1, (count, *shape)).astype(dtype)


def convolutions(
    count: int, channels: int, inputs: int, after: str | None = None
) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """``c0``, ``c1``, ... in a row from ``x``, each of a 3 x 3 kernel, and their weights.

    ``after`` is an operator behind each, which the next one reads; its values are called ``a0``, ``a1``, ...
    """
    rng, nodes, weights, last = np.random.default_rng(0), [], [], "x"
    for number in range(count):
        kernel = rng.normal(0, 0.3, (channels, inputs, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1] * 4))
        inputs, last = channels, f"c{number}"
        if after is not None:
            nodes.append(helper.make_node(after, [last], [f"a{number}"]))
            last = f"a{number}"
    return nodes, weights
