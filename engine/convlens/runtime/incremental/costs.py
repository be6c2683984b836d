"""What parts cost, from sizes alone, so that only a few cuts need to be timed."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convlens import ops

if TYPE_CHECKING:
    from convlens.graph.graph import Node
    from convlens.runtime.incremental.probing import Probing

_NUMBER = 10.0
"""Multiplications for which one number is written to memory or copied."""

_ALONE = 6.0
"""How much dearer a multiplication is where every channel has a filter of its own."""

_PIECE = 5e5
"""Multiplications for which a session is called."""


def dense_cost(probing: Probing, nodes: Iterable[Node]) -> float:
    """Nodes on a whole image, in multiplications."""
    return float(sum(_cost(probing, node) for node in nodes))


def estimates(probing: Probing) -> NDArray[np.float64]:
    """What one probe costs for each cut: that many parts in windows, the rest dense."""
    parts = probing.parts.parts
    rest = [dense_cost(probing, probing.dense(until)) for until in range(len(parts) + 1)]
    windows = [0.0]
    for number, part in enumerate(parts):
        span = probing.spans[number]
        size = (span.stop - span.start).max(axis=0)
        share = float(prod(size / np.asarray(probing.extent(number))))
        own = dense_cost(probing, part.nodes) * share
        if part.slide is not None:
            stride, width = np.asarray(part.slide.stride), np.asarray(part.slide.span)
            cut = prod(((size - 1) * stride + width).tolist()) / prod(
                probing.extent(probing.parts.home[part.main])
            )
            own += _NUMBER * cut * prod(probing.extents[part.main])
        own += sum(_NUMBER * share * prod(probing.extents[name]) for name in part.beside)
        windows.append(windows[-1] + own + _PIECE / probing.together)
    crossing = [
        _NUMBER * sum(prod(probing.extents[name]) for name in probing.crossing(until))
        for until in range(len(parts) + 1)
    ]
    total: NDArray[np.float64] = np.array(windows) + np.array(rest) + np.array(crossing)
    return total


def _cost(probing: Probing, node: Node) -> float:
    output = next((name for name in node.outputs if name in probing.extents), None)
    if output is None:
        return 0.0
    entry = ops.find(node)
    numbers = _NUMBER * float(prod(probing.extents[output]))
    if entry is None or entry.macs is None:
        return numbers
    inputs = [_shape(probing, name) for name in node.inputs]
    try:
        macs = float(entry.macs(node, inputs, probing.extents[output]))
    except (IndexError, TypeError, ZeroDivisionError):
        return numbers
    groups = int(node.attr("group", 1))
    return macs * (_ALONE if groups > 1 and groups == probing.extents[output][1] else 1.0) + numbers


def _shape(probing: Probing, name: str) -> tuple[int, ...]:
    if name in probing.extents:
        return probing.extents[name]
    constant = probing.graph.constants.get(name)
    return () if constant is None else tuple(constant.shape)
