"""Nodes as they are computed on a cut of their input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from convlens.graph.windows import Crop

CUT = "convlens.cut."
"""Prefix of the input of a node that slides; the value itself may be read beside it."""

WEIGHED = "convlens.weighed."
"""Prefix of the inputs by which border windows of a pooling are weighed."""

STILL = "convlens.still."
"""Prefix of the inputs that hold cuts of what differs from place to place and does not change."""

_ADDED = "convlens.added."
_SLICE_INPUTS = 10
_REGION, _OPTIONAL_REGION = 11, 13  # opsets from which Resize reads a region, and may leave it out
_LAST = np.iinfo(np.int64).max


def cropped(node: NodeProto, crop: Crop, opset: int) -> list[NodeProto]:
    """A node that slides, on a cut that holds its padding; ``opset`` is that of ONNX's own operators."""
    node.input[0] = CUT + node.input[0]
    output = node.output[0]
    if crop.moves:
        steps = {axis: step for axis, step in crop.steps.items() if step != 1}
        if not steps:
            return [helper.make_node("Identity", [node.input[0]], [output])]
        whole = {axis: (0, _LAST, step) for axis, step in steps.items()}
        return _sliced(node.input[0], output, whole, opset)
    kept = [attribute for attribute in node.attribute if attribute.name not in crop.settings]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in crop.settings.items())
    before = []
    if crop.scales:
        name, region = f"{_ADDED}scales.{output}", f"{_ADDED}region.{output}"
        before = [_constant(name, np.array(crop.scales, np.float32))]
        del node.input[1:]
        if node.op_type == "Resize" and opset >= _OPTIONAL_REGION:
            node.input.extend(["", name])
        elif node.op_type == "Resize" and opset >= _REGION:
            before.append(_constant(region, np.empty(0, np.float32)))
            node.input.extend([region, name])
        else:
            node.input.append(name)
    plain = f"{_ADDED}{output}"
    trims = {axis: spread.trim for axis, spread in crop.spread.items() if any(spread.trim)}
    if trims:
        node.output[0] = plain
        ends = {axis: (front, -back if back else _LAST, 1) for axis, (front, back) in trims.items()}
        return [*before, node, *_sliced(plain, output, ends, opset)]
    if crop.uneven:
        node.output[0] = plain
        return [*before, node, helper.make_node("Mul", [plain, WEIGHED + output], [output])]
    return [*before, node]


def reshaped(node: NodeProto, lengths: Sequence[int]) -> list[NodeProto]:
    """A Reshape to ``lengths``, where ``-1 - a`` stands for the length of axis ``a`` of what is reshaped."""
    output = node.output[0]
    size, pool, shape = (f"{_ADDED}{what}.{output}" for what in ("size", "pool", "shape"))
    fixed = [n for n in lengths if n >= 0]
    rank = max((-n for n in lengths if n < 0), default=0)
    numbers, places = f"{_ADDED}numbers.{output}", f"{_ADDED}places.{output}"
    seen, at = 0, []
    for n in lengths:
        at.append(-1 - n if n < 0 else rank + seen)
        seen += n >= 0
    some, first = f"{_ADDED}some.{output}", f"{_ADDED}first.{output}"
    made = [
        helper.make_node("Shape", [node.input[0]], [size]),
        _constant(first, np.arange(rank)),
        helper.make_node("Gather", [size, first], [some]),
        _constant(numbers, np.array(fixed, np.int64)),
        helper.make_node("Concat", [some, numbers], [pool], axis=0),
        _constant(places, np.array(at, np.int64)),
        helper.make_node("Gather", [pool, places], [shape]),
    ]
    return [*made, helper.make_node("Reshape", [node.input[0], shape], [output])]


def read_still(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """The node with some inputs under other names."""
    inputs = [names.get(name, name) for name in node.input]
    del node.input[:]
    node.input.extend(inputs)
    return node


def _sliced(name: str, output: str, cuts: Mapping[int, tuple[int, int, int]], opset: int) -> list[NodeProto]:
    """A Slice from, to and in steps of some numbers along some axes."""
    axes = sorted(cuts)
    starts, ends, steps = ([cuts[axis][i] for axis in axes] for i in range(3))
    if opset < _SLICE_INPUTS:  # which knows no steps; whoever asks for some has a file that does
        return [helper.make_node("Slice", [name], [output], axes=axes, starts=starts, ends=ends)]
    names = [f"{_ADDED}{what}.{output}" for what in ("starts", "ends", "axes", "steps")]
    numbers = (starts, ends, axes, steps)
    made = [_constant(own, np.array(n, np.int64)) for own, n in zip(names, numbers, strict=True)]
    return [*made, helper.make_node("Slice", [name, *names], [output])]


def _constant(name: str, array: NDArray[Any]) -> NodeProto:
    tensor: onnx.TensorProto = numpy_helper.from_array(array, name)
    return helper.make_node("Constant", [], [name], value=tensor)
