"""A painter written as an ONNX model: any number of photos, any height and width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convlens.synthesis.painters.painter import EPSILON, Form, Piece

OPSET = 17
INPUT, OUTPUT = "photo", "picture"


def written(form: Form, weights: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> bytes:
    """The network as the bytes of an ONNX file.

    The input ``photo`` and the output ``picture`` are N x colours x height x width, 0 black to 1 white.

    Args:
        form: how large it is.
        weights: of each piece, named as :class:`convlens.synthesis.painters.painter.Painter` names them.
        about: metadata of the file.
    """
    writer = _Writer(weights)
    x = inside = INPUT
    sizes = [writer.size(INPUT)]
    for piece in form.pieces:
        if piece.begins:
            inside = x
        if piece.grows:
            x = writer.grown(x, sizes[piece.halves], piece)
        x = writer.computed(x, piece)
        if piece.ends:
            x = writer.add("Add", [x, inside], f"{piece.name}_sum")
        if piece.stride > 1:
            sizes.append(writer.size(x))
    writer.add("Sigmoid", [x], OUTPUT)
    dims: list[str | int | None] = ["N", form.channels, "H", "W"]
    graph = helper.make_graph(
        writer.nodes,
        "painter",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, dims)],
        [numpy_helper.from_array(array, name) for name, array in writer.stored.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="convlens"
    )
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class _Writer:
    """Nodes and constants as they are added."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, NDArray[Any]] = {}
        self.weights = weights

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def size(self, x: str) -> str:
        """Height and width of a value."""
        return self.add("Shape", [x], f"{x}_size", start=2, end=4)

    def grown(self, x: str, size: str, piece: Piece) -> str:
        """Every pixel doubled along both axes, then cut to a size."""
        scales = self._constant("twice", np.array([1, 1, 2, 2], np.float32))
        doubled = self.add(
            "Resize",
            [x, "", scales],
            f"{piece.name}_doubled",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        first = self._constant("corner", np.array([0, 0], np.int64))
        axes = self._constant("height_and_width", np.array([2, 3], np.int64))
        return self.add("Slice", [doubled, first, size, axes], f"{piece.name}_cut")

    def computed(self, x: str, piece: Piece) -> str:
        """A convolution with its edges before it and its normalisation after it."""
        edge = piece.kernel // 2
        pads = self._constant(f"edge{edge}", np.array([0, 0, edge, edge] * 2, np.int64))
        x = self.add("Pad", [x, pads], f"{piece.name}_padded", mode="reflect")
        weight, bias = self._weight(f"{piece.name}_weight"), self._weight(f"{piece.name}_bias")
        window = {"kernel_shape": [piece.kernel] * 2, "strides": [piece.stride] * 2}
        if not piece.normed:
            return self.add("Conv", [x, weight, bias], piece.name, **window)
        x = self.add("Conv", [x, weight], piece.name, **window)
        scale = self._weight(f"{piece.name}_scale")
        x = self.add("InstanceNormalization", [x, scale, bias], f"{piece.name}_normed", epsilon=EPSILON)
        return self.add("Relu", [x], f"{piece.name}_relu") if piece.rectified else x

    def _weight(self, name: str) -> str:
        return self._constant(name, np.ascontiguousarray(self.weights[name], np.float32))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self.stored[name] = array
        return name
