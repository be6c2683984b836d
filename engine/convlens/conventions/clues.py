"""What the file tells without being run: a normalisation that it begins with, and whether it has learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.conventions.candidates import Convention
    from convlens.graph.graph import Graph

_PASSED_ON = frozenset({"Transpose", "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Pad"})
#: Standard deviations from chance above which there is order in the weights.
LEARNT = 4.0
_SMALLEST, _ROWS, _COLUMNS, _MATRICES, _ORDERS = 64, 256, 1024, 16, 8
_MOST = 10.0  # few orders are tried, so larger distances are not known well


def leading(graph: Graph, source: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The scale and offset (one a channel, or one) that the graph applies to its input first.

    None where the first operator that computes is not an addition, a multiplication and the like with
    constants. The order of channels is the model's.
    """
    scale, offset = np.ones(1), np.zeros(1)
    found = False
    value = source
    while len(nodes := graph.consumers.get(value, ())) == 1:
        node = nodes[0]
        if node.op in ("Sub", "Add", "Mul", "Div"):
            other = [name for name in node.inputs if name != value]
            number = graph.constant(other[0]) if len(other) == 1 else None
            if number is None or number.size > 4 or (node.op == "Div" and node.inputs[0] != value):
                break
            a = number.astype(np.float64).reshape(-1)
            if node.op == "Sub" and node.inputs[0] != value:
                scale, offset = -scale, a - offset
            elif node.op in ("Add", "Sub"):
                offset = offset + (a if node.op == "Add" else -a)
            else:
                factor = a if node.op == "Mul" else 1.0 / a
                scale, offset = scale * factor, offset * factor
            found = True
        elif node.op == "BatchNormalization":
            given = [graph.constant(name) for name in node.inputs[1:5]]
            if any(g is None or g.size > 4 for g in given):
                break
            gamma, beta, mean, var = (np.asarray(g, np.float64) for g in given)
            factor = gamma / np.sqrt(var + float(node.attr("epsilon", 1e-5)))
            scale, offset = scale * factor, (offset - mean) * factor + beta
            found = True
        elif node.op not in _PASSED_ON:
            break
        value = node.outputs[0]
    return (scale, offset) if found else None


def fits(convention: Convention, affine: tuple[NDArray[Any], NDArray[Any]]) -> float:
    """1 where black to white, after the graph's own normalisation, spans what networks are fed with, else 0.

    That is 0 to 1, -1 to 1, about -2 to 2, or 0 to 255 less its mean where the graph does not scale.
    """
    black, white = np.zeros((1, 1, 1, 3), np.uint8), np.full((1, 1, 1, 3), 255, np.uint8)
    if convention.channels == "GRAY":
        black, white = black[..., :1], white[..., :1]
    scale, offset = affine
    low, high = (convention.array(view).reshape(-1) * scale + offset for view in (black, white))
    span, centre = float(np.abs(high - low).mean()), float(np.abs((low + high) / 2).mean())
    if np.allclose(scale, 1.0):
        return float(span > 100 and centre < 0.2 * span)
    return float(0.9 <= span <= 8.0 and centre <= 0.55 * span)


def order_in_weights(graph: Graph, seed: int = 0) -> float | None:
    """How far the weights are from chance, in standard deviations: about 0 where they are random.

    A layer's largest singular value is held against those of the same weights with each row in another
    order; rows have length 1, since a folded BatchNormalization scales them. The layers together count as
    one test (Stouffer's). None where the file holds no layer that is large enough to tell.
    """
    rng = np.random.default_rng(seed)
    found = []
    for node in graph.nodes:
        if node.op not in ("Conv", "FusedConv", "Gemm", "MatMul", "ConvTranspose") or len(node.inputs) < 2:
            continue
        weight = graph.constant(node.inputs[1])
        if weight is None or weight.ndim < 2 or weight.dtype.kind != "f":
            continue
        matrix = weight.reshape(len(weight), -1)[:_ROWS, :_COLUMNS].astype(np.float64)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        if min(matrix.shape) >= 4 and matrix.size >= _SMALLEST and np.isfinite(lengths).all():
            found.append(matrix / np.maximum(lengths, 1e-12))
    if not found:
        return None
    step = max(1, -(-len(found) // _MATRICES))
    distances = []
    for matrix in found[::step]:
        chance = [_largest(rng.permuted(matrix, axis=1)) for _ in range(_ORDERS)]
        spread = max(float(np.std(chance, ddof=1)), 1e-9)
        distances.append((_largest(matrix) - float(np.mean(chance))) / spread)
    return float(np.sum(np.clip(distances, -_MOST, _MOST)) / np.sqrt(len(distances)))


def _largest(matrix: NDArray[np.float64]) -> float:
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return float(np.sqrt(max(np.linalg.eigvalsh(small)[-1], 0.0)))
