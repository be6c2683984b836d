"""Which values hang on the numbers of an input, not merely on how many they are."""

from __future__ import annotations

from collections.abc import Iterable

from convlens.graph.graph import Graph, Node

_COUNTS = frozenset({"Shape", "Size"})
_FINDS = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress", "Loop", "Scan", "If", "Range"})
"""Operators whose output is as long as the numbers say."""
_LOOKS_UP = frozenset({"Gather", "GatherElements", "GatherND"})  # as long as their indices
_LENGTHS = frozenset({"int32", "int64", None})


def dependent(graph: Graph, names: Iterable[str]) -> set[str]:
    """The values whose numbers hang on the numbers of ``names``, those included.

    Sizes (``Shape``, ``Size``) and what is computed of them hang on no number, unless an operator on the
    way makes something as long as the numbers say.
    """
    reached = set(names)
    measured: set[str] = set()  # how long they are hangs on the numbers
    for node in graph.nodes:
        outputs = [output for output in node.outputs if output]
        longer = not measured.isdisjoint(node.reads)
        hangs = not reached.isdisjoint(node.reads)
        if node.op in _COUNTS and not node.domain:
            hangs = longer
        elif hangs and (longer or _measures(node, graph, reached)):
            measured.update(outputs)
        if hangs or longer:
            reached.update(outputs)
    return reached


def _measures(node: Node, graph: Graph, reached: set[str]) -> bool:
    """Whether how much ``node`` gives may follow from numbers in ``reached``; yes in doubt."""
    if node.op in _FINDS or node.captures:
        return True
    if node.op in ("ConstantOfShape", "Expand", "Resize", "Upsample"):
        return any(name in reached for name in node.inputs[node.op != "ConstantOfShape" :])
    if node.op in _LOOKS_UP:
        return False
    return any(name in reached and graph.value(name).dtype in _LENGTHS for name in node.inputs[1:])
