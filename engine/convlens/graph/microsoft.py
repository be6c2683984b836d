"""What is known of operators of ``com.microsoft``, which have no schema: types, and shapes of a twin."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import onnx

PLAIN = {"FusedConv": ("Conv", 3), "QLinearAveragePool": ("AveragePool", 1)}
"""Operators whose shapes are those of a standard one, and how many of the inputs it takes."""


def microsoft_dtype(node: onnx.NodeProto, dtypes: Mapping[str, int]) -> int:
    """Element type of the first output; 0 where it is not known."""
    op = node.op_type
    attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if op == "DequantizeLinear":
        return dtypes.get(node.input[1], 0)
    if op == "QuantizeLinear":
        return dtypes.get(node.input[2], 0) if len(node.input) > 2 else int(onnx.TensorProto.UINT8)
    if op == "QLinearConcat":
        return dtypes.get(node.input[1], 0)
    if op in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        return int(onnx.TensorProto.FLOAT)
    if op == "QGemm":
        quantised = len(node.input) > 7 and node.input[7]
        return (
            dtypes.get(node.input[8], 0) if quantised and len(node.input) > 8 else int(onnx.TensorProto.FLOAT)
        )
    if op.startswith("QLinear") or op in _SAME_TYPE:
        return dtypes.get(node.input[0], 0)
    with suppress(KeyError):
        return int(attributes["to"])
    return 0


_SAME_TYPE = {
    "FusedConv",
    "FusedMatMul",
    "TransposeMatMul",
    "FusedGemm",
    "Gelu",
    "FastGelu",
    "QuickGelu",
    "BiasGelu",
    "BiasAdd",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "GroupNorm",
    "BiasSoftmax",
}
