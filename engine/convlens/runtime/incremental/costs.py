"""What windows and the dense rest cost, from sizes alone.

The constants were fitted to onnxruntime's time for 172 parts and 38 rests of seven nets (VGG16, ResNets,
GoogLeNet, Inception, MobileNet, SqueezeNet) on one core; half of the parts are met within 4 %. On another
machine all of them shift, the choice between cuts hardly does: it needs ratios only. A clock would give
another cut, and with it other last digits, from run to run.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convlens import ops
from convlens.graph.windows import Kernel
from convlens.runtime.incremental.spans import clusters

if TYPE_CHECKING:
    from convlens.graph.graph import Node
    from convlens.runtime.incremental.parts import Part
    from convlens.runtime.incremental.probing import Probing

_MAC = 0.018
"""Nanoseconds of a multiplication where channels are mixed."""

_ALONE = 0.10
"""The same where every channel has a filter of its own."""

_ROW = 0.05
"""The same where weights are read for a few images only, as in dense layers."""

_MADE = 0.6
"""Of a number that a convolution makes."""

_POOLED = 1.2
"""Of a number that a pooling makes."""

_OTHER = 0.2
"""Of a number that another operator makes; behind a convolution many cost nothing."""

_LAID = 1.15
"""Of a number that is cut out of a clean value or laid over it."""

_HANDED = 1.3
"""Of a number that leaves a part."""

_CROSSED = 0.5
"""Of a number of a whole value that windows are laid over."""

_CALL = 170e3
"""Of a part for one group of probes."""

_SESSION = 12e6
"""Of getting a part ready."""

_WEIGHT = 0.75
"""Of a weight that is brought into the order that a session computes in."""


def dense_cost(probing: Probing, nodes: Iterable[Node]) -> float:
    """Nodes on a whole image, in nanoseconds."""
    return float(sum(_cost(probing, node) for node in nodes))


def estimates(probing: Probing) -> NDArray[np.float64]:
    """What one probe costs for each cut, in nanoseconds: that many parts in windows, the rest dense.

    What is done once for all probes is shared among them; the first number is all dense.
    """
    parts = probing.parts.parts
    groups = clusters(probing.starts, probing.together)
    windows = np.cumsum([0.0, *(_windowed(probing, n, part, groups) for n, part in enumerate(parts))])
    rest = np.array([dense_cost(probing, probing.dense(until)) for until in range(len(parts) + 1)])
    crossing = np.array(
        [
            _CROSSED * sum(prod(probing.extents[name]) for name in probing.crossing(until))
            for until in range(len(parts) + 1)
        ]
    )
    crossing[0] = 0.0
    weights = sum(array.size for array in probing.graph.constants.values() if array.dtype.kind == "f")
    once = 2 * rest[0] + _WEIGHT * weights + _SESSION * np.arange(len(parts) + 1)
    once[0] = 0.0
    total: NDArray[np.float64] = windows + rest + crossing + once / len(probing.starts)
    return total


def _windowed(probing: Probing, number: int, part: Part, groups: Iterable[NDArray[np.int64]]) -> float:
    """A part in windows, for one probe."""
    extent, span, share, cut = np.asarray(probing.extent(number)), probing.spans[number], 0.0, 0.0
    for rows in groups:
        size = (span.stop[rows] - span.start[rows]).max(axis=0)
        share += len(rows) * float(prod(size / extent))
        if part.slide is not None:
            cut += len(rows) * prod(part.slide.length(size.tolist()))
    share, cut = share / len(probing.starts), cut / len(probing.starts)
    found = dense_cost(probing, part.nodes) * share + _CALL / probing.together
    if part.slide is not None:
        whole = prod(probing.extent(probing.parts.home[part.main]))
        found += _LAID * cut / whole * prod(probing.extents[part.main])
    beside = [*part.beside, *(still.output for still in part.still)]
    found += _LAID * share * sum(prod(probing.extents[name]) for name in beside)
    return found + _HANDED * share * sum(prod(probing.extents[name]) for name in probing.leaving(number))


def _cost(probing: Probing, node: Node) -> float:
    output = next((name for name in node.outputs if name in probing.extents), None)
    if output is None:
        return 0.0
    entry, numbers = ops.find(node), float(prod(probing.extents[output]))
    rule = ops.rule_of(node, probing.graph)
    if entry is None or entry.macs is None:
        return (_POOLED if isinstance(rule, Kernel) and rule.windows else _OTHER) * numbers
    inputs = [_shape(probing, name) for name in node.inputs]
    try:
        macs = float(entry.macs(node, inputs, probing.extents[output]))
    except (IndexError, TypeError, ZeroDivisionError):
        return _OTHER * numbers
    if not isinstance(rule, Kernel):
        return _ROW * macs + _OTHER * numbers
    groups = int(node.attr("group", 1))
    alone = groups > 1 and groups == probing.extents[output][1]
    return (_ALONE if alone else _MAC) * macs + _MADE * numbers


def _shape(probing: Probing, name: str) -> tuple[int, ...]:
    if name in probing.extents:
        return probing.extents[name]
    constant = probing.graph.constants.get(name)
    return () if constant is None else tuple(constant.shape)
