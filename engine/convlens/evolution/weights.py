"""The filters of a network and how far they are from those of another checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from convlens.graph.kernels import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph, Node
    from convlens.model import Model

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "QLinearConv", "ConvInteger"})
_DENSE = frozenset({"Gemm", "MatMul"})


def filters(model: Model) -> dict[str, NDArray[np.float32]]:
    """The constant weights of each convolution and dense layer by alias, filters x numbers."""
    found = {}
    for node in model.graph.nodes:
        layer = model.layers.get(node.outputs[0])
        weights = _weights(node, model.graph)
        if layer is not None and weights is not None and weights.size:
            found[layer.alias] = weights.reshape(len(weights), -1).astype(np.float32)
    return found


def _weights(node: Node, graph: Graph) -> NDArray[np.float64] | None:
    if node.op in _CONVOLUTIONS:
        return kernels(node, graph)
    if node.op not in _DENSE:
        return None
    constant = graph.constant(node.input(1))
    if constant is None or constant.ndim != 2 or constant.dtype.kind != "f":
        return None
    turned = node.op == "Gemm" and bool(node.attr("transB", 0))
    return (constant if turned else constant.T).astype(np.float64)


def change(weights: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The length of the difference over that of ``other``, Frobenius norms; NaN where ``other`` is zero."""
    size = float(np.linalg.norm(other.astype(np.float64)))
    away = float(np.linalg.norm(weights.astype(np.float64) - other))
    return away / size if size else float("nan")


def cosine(weights: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The cosine between each filter and its counterpart, the mean over filters of which neither is zero."""
    one, two = weights.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    known = norms > 0
    if not known.any():
        return float("nan")
    return float((np.einsum("ij,ij->i", one, two)[known] / norms[known]).mean())


def compared(
    own: Mapping[str, NDArray[np.float32]], other: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """:func:`change` and :func:`cosine` of every layer, in the order of ``own``."""
    pairs = [(weights, other[name]) for name, weights in own.items()]
    return np.array([change(*pair) for pair in pairs]), np.array([cosine(*pair) for pair in pairs])
