"""Shapes that ONNX's own inference leaves open: where sizes are symbols, or the operator has no schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor
from typing import Any, TypeAlias

import numpy as np
import onnx

from convlens.graph.evaluate import Data, listed
from convlens.graph.pooled import pooled, transposed
from convlens.graph.sizes import Extent, Extents, Size, divide, fresh, product

Shapes: TypeAlias = "Sequence[Extents | None]"
Given: TypeAlias = "Sequence[Data | None]"
Rule: TypeAlias = Callable[[Mapping[str, Any], Shapes, Given], "Extents | None"]


def extents(node: onnx.NodeProto, shapes: Shapes, given: Given) -> Extents | None:
    """The shape of the first output where one of the rules here can tell it.

    Args:
        node: the node.
        shapes: shapes of its inputs, None where the rank is not known.
        given: the numbers of its inputs where they are known.
    """
    full = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    rule = _RULES.get(full)
    if rule is None:
        return None
    try:
        return rule({a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}, shapes, given)
    except (IndexError, TypeError, ValueError, ZeroDivisionError):
        return None  # malformed; the runtime says so


def broadcast(*shapes: Extents) -> Extents:
    """numpy's rule; sizes that are not known to be equal give a fresh one."""
    rank = max(len(shape) for shape in shapes)
    out: list[Extent] = []
    for back in range(rank, 0, -1):
        sizes = [shape[-back] for shape in shapes if len(shape) >= back]
        found: Extent = 1
        for size in sizes:
            if size == 1 or size == found:
                continue
            if found == 1:
                found = size
            elif isinstance(size, int):
                found = size  # the other one can only be equal or 1
            elif isinstance(found, Size):
                found = fresh()
        out.append(found)
    return tuple(out)


def reshaped(shape: Extents, wanted: Sequence[Extent], allowzero: bool = False) -> Extents:
    """What a Reshape of ``shape`` to ``wanted`` gives; 0 keeps the size of that axis, -1 takes the rest."""
    out = [shape[i] if n == 0 and isinstance(n, int) and not allowzero else n for i, n in enumerate(wanted)]
    if -1 in out:
        place = out.index(-1)
        rest = divide(product(shape), product(out[:place] + out[place + 1 :]))
        out[place] = fresh() if rest is None else rest
    return tuple(out)


def _reshape(attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    wanted = list(attributes["shape"]) if "shape" in attributes else listed(given[1])
    if wanted is None:
        return None
    if shapes[0] is not None:
        return reshaped(shapes[0], wanted, bool(attributes.get("allowzero", 0)))
    if any(isinstance(n, int) and n <= 0 for n in wanted):
        return tuple(fresh() if isinstance(n, int) and n <= 0 else n for n in wanted)
    return tuple(wanted)


def _flatten(attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
    shape, axis = shapes[0], attributes.get("axis", 1)
    if shape is None:
        return (fresh(), fresh())
    at = axis if axis >= 0 else axis + len(shape)
    return product(shape[:at]), product(shape[at:])


def _expand(_attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    wanted = listed(given[1])
    return None if wanted is None or shapes[0] is None else broadcast(shapes[0], tuple(wanted))


def _filled(_attributes: Mapping[str, Any], _shapes: Shapes, given: Given) -> Extents | None:
    wanted = listed(given[0])
    return None if wanted is None else tuple(wanted)


def _tile(_attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    repeats = listed(given[1])
    if repeats is None or shapes[0] is None:
        return None
    return tuple(size * n for size, n in zip(shapes[0], repeats, strict=True))


def _concat(attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes):
        return None
    axis = attributes["axis"] % len(known[0])
    total: Extent = 0
    for shape in known:
        total = total + shape[axis]
    merged = [next((s[i] for s in known if isinstance(s[i], int)), known[0][i]) for i in range(len(known[0]))]
    return (*merged[:axis], total, *merged[axis + 1 :])


def _pad(attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    shape = shapes[0]
    pads = list(attributes["pads"]) if "pads" in attributes else listed(given[1])
    axes = listed(given[3]) if len(given) > 3 and shapes[3] is not None else None
    if shape is None or pads is None or (axes is None and len(pads) != 2 * len(shape)):
        return None
    axes = list(range(len(shape))) if axes is None else axes
    out = list(shape)
    for axis, front, back in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        out[axis] = out[axis] + front + back
    return tuple(out)


def _slice(attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    shape = shapes[0]
    if shape is None:
        return None
    if "starts" in attributes:
        inputs: list[list[Any] | None] = [attributes[name] for name in ("starts", "ends")]
        inputs += [attributes.get("axes"), None]
    else:
        inputs = [listed(data) for data in (*given[1:], None, None)][:4]
        if len(given) > 3 and inputs[2] is None and shapes[3] is not None:
            return tuple(fresh() for _ in shape)
    starts, ends, axes, steps = inputs
    count = next((len(found) for found in (starts, ends, axes) if found is not None), len(shape))
    axes = list(range(count)) if axes is None else list(axes)
    steps = [1 if len(given) <= 4 else None] * count if steps is None else steps
    out = list(shape)
    for i, axis in enumerate(axes):
        start, end = (None if found is None else found[i] for found in (starts, ends))
        out[axis] = _cut(shape[axis], start, end, steps[i])
    return tuple(out)


def _cut(size: Extent, start: Any, end: Any, step: Any) -> Extent:
    if isinstance(size, int) and all(isinstance(n, int) for n in (start, end, step)):
        low = end if step > 0 or end >= -size else None
        return len(range(*slice(start, low, step).indices(size)))
    whole = isinstance(end, int) and end >= 1 << 30
    if start == 0 and step == 1:
        if whole or end == size:
            return size
        if isinstance(end, int) and end == -1:
            return size - 1
    if start == -1 and step == -1 and isinstance(end, int) and end <= -(1 << 30):
        return size
    return fresh()


def _resize(attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    shape = shapes[0]
    if shape is None:
        return None
    axes = list(attributes.get("axes", range(len(shape))))
    by_scales = 1 if len(given) <= 2 else 2
    scales = list(attributes["scales"]) if "scales" in attributes else listed(given[by_scales])
    out = list(shape)
    if len(given) > 3 and shapes[3] is not None:
        sizes = listed(given[3])
        policy = attributes.get("keep_aspect_ratio_policy", b"stretch")
        for i, axis in enumerate(axes):
            out[axis] = fresh() if sizes is None or policy != b"stretch" else sizes[i]
        return tuple(out)
    for i, axis in enumerate(axes):
        if scales is None:
            out[axis] = fresh()
        elif isinstance(shape[axis], int):
            out[axis] = floor(np.float32(shape[axis]) * np.float32(scales[i]))  # as the runtime does
        else:
            out[axis] = shape[axis] * int(scales[i]) if scales[i] == int(scales[i]) else fresh()
    return tuple(out)


def _kept(_attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
    return shapes[0]


def _joined(first: int, step: int, count: int | None = None) -> Rule:
    """Broadcast of the inputs ``first``, ``first + step``, ...."""

    def rule(_attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
        chosen = shapes[first::step][:count]
        known = [shape for shape in chosen if shape is not None]
        return broadcast(*known) if known and len(known) == len(chosen) else None

    return rule


def _quantised_concat(attributes: Mapping[str, Any], shapes: Shapes, given: Given) -> Extents | None:
    return _concat(attributes, shapes[2::3], given[2::3])


def _global_pool(attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
    shape = shapes[0]
    if shape is None:
        return None
    if attributes.get("channels_last", 0):
        return (shape[0], *[1] * (len(shape) - 2), shape[-1])
    return (*shape[:2], *[1] * (len(shape) - 2))


def _matrices(attributes: Mapping[str, Any], a: Extents | None, b: Extents | None) -> Extents | None:
    if (
        a is None
        or b is None
        or len(a) < 2
        or len(b) < 2
        or attributes.get("transBatchA")
        or attributes.get("transBatchB")
    ):
        return None
    rows = a[-1] if attributes.get("transA") else a[-2]
    columns = b[-2] if attributes.get("transB") else b[-1]
    return (*(broadcast(a[:-2], b[:-2]) if len(a) > 2 or len(b) > 2 else ()), rows, columns)


def _fused_matmul(attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
    return _matrices(attributes, shapes[0], shapes[1])


def _quantised_gemm(attributes: Mapping[str, Any], shapes: Shapes, _given: Given) -> Extents | None:
    return _matrices(attributes, shapes[0], shapes[3])


_RULES: dict[str, Rule] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Expand": _expand,
    "ConstantOfShape": _filled,
    "Tile": _tile,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Resize": _resize,
    "Upsample": _resize,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pooled),
    "ConvTranspose": transposed,
    "MeanVarianceNormalization": _kept,  # a function, which inference does not look into
}
_M = "com.microsoft."
_RULES |= {
    _M + name: _kept
    for name in (
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "QLinearSoftmax",
        "QuantizeLinear",
        "DequantizeLinear",
        "Gelu",
        "FastGelu",
        "QuickGelu",
        "BiasGelu",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "GroupNorm",
        "BiasSoftmax",
    )
}
_RULES |= {
    _M + "QLinearAdd": _joined(0, 3, 2),
    _M + "QLinearMul": _joined(0, 3, 2),
    _M + "BiasAdd": _joined(0, 1),
    _M + "QLinearConcat": _quantised_concat,
    _M + "QLinearGlobalAveragePool": _global_pool,
    _M + "FusedMatMul": _fused_matmul,
    _M + "TransposeMatMul": _fused_matmul,
    _M + "MatMulInteger": _fused_matmul,
    _M + "MatMulIntegerToFloat": _fused_matmul,
    _M + "DynamicQuantizeMatMul": _fused_matmul,
    _M + "QGemm": _quantised_gemm,
    _M + "FusedGemm": _fused_matmul,
}
