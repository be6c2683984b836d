"""Layer normalisations that add a skip connection first, and the one by the root mean square."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx_ir as ir

from convlens.graph.passes.writer import Writer

Rule: TypeAlias = "Callable[[Writer], None]"


def _skip(write: Writer) -> None:
    """``SkipLayerNormalization``: input, skip, scale, shift, bias; the sum is the fourth output."""
    if any(value.uses() or value.is_graph_output() for value in write.node.outputs[1:3]):
        return
    scale = write.input(2)
    total = _summed(write, write.input(4))
    inputs = [total, scale] if write.input(3) is None else [total, scale, write.input(3)]
    attributes = {"axis": -1, "epsilon": write.attr("epsilon", 1e-12)}
    write.finish(write.op("LayerNormalization", inputs, attributes), None, None, _fourth(write, total))


def _skip_rms(write: Writer) -> None:
    """``SkipSimplifiedLayerNormalization``: input, skip, scale, bias; the sum is the fourth output."""
    if any(value.uses() or value.is_graph_output() for value in write.node.outputs[1:3]):
        return
    scale = write.input(2)
    total = _summed(write, write.input(3))
    found = _root_mean_square(write, total, scale, [-1], write.attr("epsilon", 1e-12))
    write.finish(found, None, None, _fourth(write, total))


def _rms(write: Writer) -> None:
    """``SimplifiedLayerNormalization``: divided by the root of the mean square from ``axis`` on."""
    if any(value.uses() or value.is_graph_output() for value in write.node.outputs[1:]):
        return
    x, scale, axis, rank = write.input(0), write.input(1), write.attr("axis", -1), write.rank(0)
    if x is None or scale is None or (axis != -1 and rank is None):
        return
    axes = [-1] if axis == -1 or rank is None else list(range(axis % rank, rank))
    write.finish(_root_mean_square(write, x, scale, axes, write.attr("epsilon", 1e-5)))


def _summed(write: Writer, bias: ir.Value | None) -> ir.Value:
    total = write.op("Add", [write.input(0), write.input(1)])
    return total if bias is None else write.op("Add", [total, bias])


def _fourth(write: Writer, total: ir.Value) -> ir.Value | None:
    return total if len(write.node.outputs) > 3 else None


def _root_mean_square(
    write: Writer, x: ir.Value, scale: ir.Value | None, axes: list[int], epsilon: float
) -> ir.Value:
    """In float32 also where the values are halves, as onnxruntime computes it."""
    kind = write.dtype(*write.node.inputs, *write.node.outputs)
    half = kind in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    wide = write.op("Cast", [x], {"to": int(ir.DataType.FLOAT)}) if half else x
    mean = write.axes("ReduceMean", write.op("Mul", [wide, wide]), axes, since=18)
    like = ir.DataType.FLOAT if half else kind
    root = write.op("Sqrt", [write.op("Add", [mean, write.scalar(epsilon, like, "epsilon")])])
    found = write.op("Div", [wide, root])
    if half:
        found = write.op("Cast", [found], {"to": int(kind)})
    return write.op("Mul", [found, scale])


RULES: Mapping[tuple[str, str], Rule] = {
    ("com.microsoft", "SkipLayerNormalization"): _skip,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _skip_rms,
    ("", "SimplifiedLayerNormalization"): _rms,
    ("com.microsoft", "SimplifiedLayerNormalization"): _rms,
}
