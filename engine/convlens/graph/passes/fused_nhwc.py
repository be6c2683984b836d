"""Operators on channels-last data, which onnxruntime writes for quantised models on some processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import onnx_ir as ir

from convlens.graph.passes.writer import Writer

Rule: TypeAlias = "Callable[[Writer], None]"


def _pool(write: Writer) -> None:
    """``NhwcMaxPool``: one image axis more in front of MaxPool's order."""
    x, kernel = write.input(0), write.attr("kernel_shape")
    if x is None or kernel is None or write.version < 12:
        return
    write.finish(
        _last(write, write.op("MaxPool", [_first(write, x, len(kernel))], _plain(write)), len(kernel))
    )


def _conv(write: Writer) -> None:
    """``QLinearConv`` of com.microsoft: ONNX's own, with ``channels_last``."""
    x, rank = write.input(0), write.rank(3)
    inputs = list(write.node.inputs)
    if x is None or rank is None:
        return
    if not write.attr("channels_last", 0):
        write.finish(write.op("QLinearConv", inputs, _plain(write)))
        return
    found = write.op("QLinearConv", [_first(write, x, rank - 2), *inputs[1:]], _plain(write))
    write.finish(_last(write, found, rank - 2))


def _quantised_pool(write: Writer) -> None:
    """``QLinearAveragePool`` and its global kin: the same operator on channels-first data."""
    x = write.input(0)
    kernel = write.attr("kernel_shape")
    spatial = len(kernel) if kernel is not None else (write.rank(0) or 0) - 2
    if x is None or not write.attr("channels_last", 0) or spatial < 1:
        return
    inputs = [_first(write, x, spatial), *write.node.inputs[1:]]
    found = write.op(write.node.op_type, inputs, _plain(write), domain=write.node.domain)
    write.finish(_last(write, found, spatial))


def _plain(write: Writer) -> dict[str, Any]:
    return {name: attr for name, attr in write.node.attributes.items() if name != "channels_last"}


def _first(write: Writer, value: ir.Value, spatial: int) -> ir.Value:
    """Channels from the last axis to the second."""
    return write.op("Transpose", [value], {"perm": [0, spatial + 1, *range(1, spatial + 1)]})


def _last(write: Writer, value: ir.Value, spatial: int) -> ir.Value:
    """Channels from the second axis to the last."""
    return write.op("Transpose", [value], {"perm": [0, *range(2, spatial + 2), 1]})


RULES: Mapping[tuple[str, str], Rule] = {
    ("com.microsoft", "NhwcMaxPool"): _pool,
    ("com.microsoft", "QLinearConv"): _conv,
    ("com.microsoft", "QLinearAveragePool"): _quantised_pool,
    ("com.microsoft", "QLinearGlobalAveragePool"): _quantised_pool,
}
