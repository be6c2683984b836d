"""The kernels of a convolution as real numbers, also where the file holds them as codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph, Node

_CODES = {"QLinearConv": (3, 4, 5), "ConvInteger": (1, None, 3)}
"""Where an operator reads the codes of its weights, their scale (None: applied later) and zero point."""


def kernels(node: Node, graph: Graph) -> NDArray[np.float64] | None:
    """Filters x inputs (of their group) x kernel; None where the weights are no constants.

    Codes are brought to the numbers that they stand for; those of a ConvInteger, whose scale comes
    later, to whole numbers around zero.
    """
    if node.op in _CODES:
        codes, scale, zero = _CODES[node.op]
        weights = _restored(
            graph.constant(node.input(codes)),
            None if scale is None else graph.constant(node.input(scale)),
            graph.constant(node.input(zero)),
            axis=0,
        )
    else:
        weights = _constant(node.input(1), graph)
    if weights is None or weights.ndim < 3:
        return None
    if node.op == "ConvTranspose":  # stored inputs first
        parts = np.split(weights, int(node.attr("group", 1)))
        weights = np.concatenate([part.swapaxes(0, 1) for part in parts])
    return weights.astype(np.float64)


def _constant(name: str, graph: Graph) -> NDArray[Any] | None:
    """A constant, or what onnxruntime's own DequantizeLinear makes of one; the standard one is folded."""
    found = graph.constant(name)
    if found is not None:
        return found
    node = graph.producers.get(name)
    if node is None or node.op != "DequantizeLinear":
        return None
    codes, scale, zero = (graph.constant(node.input(index)) for index in range(3))
    return _restored(codes, scale, zero, axis=int(node.attr("axis", 1)))


def _restored(
    codes: NDArray[Any] | None, scale: NDArray[Any] | None, zero: NDArray[Any] | None, axis: int
) -> NDArray[Any] | None:
    """``(codes - zero) * scale``, each one number or one for each index of ``axis``."""
    if codes is None:
        return None
    found = codes.astype(np.float64)
    shape = [-1 if index == axis % codes.ndim else 1 for index in range(codes.ndim)]
    if zero is not None:
        found = found - _spread(zero, shape)
    return found if scale is None else found * _spread(scale, shape)


def _spread(numbers: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    given = numbers.astype(np.float64)
    return given.reshape(()) if given.size == 1 else given.reshape(shape)
