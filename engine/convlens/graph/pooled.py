"""Sizes that pooling and transposed convolution leave, as onnxruntime counts them.

ONNX's own inference adds a window that would start behind the input (where sizes are rounded up), pads
for SAME as if onnxruntime's pooling minded dilations, and takes SAME of a transposed convolution for a
stretching where it only crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convlens.graph.sizes import Extents

_SAME = (b"SAME_UPPER", b"SAME_LOWER")


def pooled(attributes: Mapping[str, Any], shapes: Sequence[Extents | None], _given: Any) -> Extents | None:
    """The shape that a pooling gives; None where a size is no number yet."""
    shape, kernel = shapes[0], attributes.get("kernel_shape")
    if shape is None or kernel is None:
        return None
    auto, strides, dilations, pads = _attributes(attributes, len(kernel))
    ceil, out = bool(attributes.get("ceil_mode", 0)), []
    for axis, (size, k, s, d) in enumerate(zip(shape[2:], kernel, strides, dilations, strict=True)):
        if not isinstance(size, int):
            return None
        front, total = pads[axis], pads[axis] + pads[axis + len(kernel)]
        if auto in _SAME:
            total = (-(-size // s) - 1) * s + k - size
            front = int((total if auto == b"SAME_UPPER" else total + 1) / 2)
        room = size + total - (k - 1) * d - 1
        steps = -(-room // s) if ceil else room // s
        out.append(steps + (not (ceil and steps * s >= size + front)))
    return (*shape[:2], *out)


def transposed(
    attributes: Mapping[str, Any], shapes: Sequence[Extents | None], _given: Any
) -> Extents | None:
    """The shape that a transposed convolution gives; None where a size is no number yet."""
    shape, weight = shapes[0], shapes[1]
    if shape is None or weight is None or not all(isinstance(n, int) for n in (*shape[2:], *weight[2:])):
        return None
    n = len(shape) - 2
    auto, strides, dilations, pads = _attributes(attributes, n)
    extra, wanted = attributes.get("output_padding") or [0] * n, attributes.get("output_shape")
    rows = zip(shape[2:], weight[2:], strides, dilations, extra, strict=True)
    full = [(size - 1) * s + (k - 1) * d + 1 + e for size, k, s, d, e in rows]
    if wanted:
        out = list(wanted[-n:])
    elif auto in _SAME:
        out = [min(f, size * s) for f, size, s in zip(full, shape[2:], strides, strict=True)]
    else:
        out = [f - pads[axis] - pads[axis + n] for axis, f in enumerate(full)]
    return (shape[0], weight[1] * attributes.get("group", 1), *out)


def _attributes(attributes: Mapping[str, Any], n: int) -> tuple[bytes, list[int], list[int], list[int]]:
    """How it pads by itself, strides, dilations and pads."""
    auto = attributes.get("auto_pad") or b"NOTSET"
    pads = attributes.get("pads") if auto == b"NOTSET" else None
    strides, dilations = (attributes.get(name) or [1] * n for name in ("strides", "dilations"))
    return auto, strides, dilations, pads or [0] * (2 * n)
