"""Why onnxruntime makes no session of a graph, for people."""

from __future__ import annotations

from convlens.graph.graph import Graph

REFUSES = "onnxruntime refuses the model"
"""How the message begins: another size or batch would not help."""

_UNKNOWN = "is not a registered function/op"
_NO_KERNEL = "Could not find an implementation"


def refusal(graph: Graph, reason: str) -> str:
    """What is wrong, with the node where an operator is nobody's.

    Args:
        graph: the graph that was refused.
        reason: onnxruntime's own words.
    """
    if _UNKNOWN in reason:
        for node in graph.nodes:
            if f"{node.domain}:{node.op}(" in reason:
                where = node.name or node.outputs[0]
                return (
                    f"{REFUSES}: it does not know operator {node.full_op} (node {where!r}), so there is "
                    "nothing to hold PyTorch against; export it as standard operators or as a function of "
                    "the file - a converter of your own (entry point 'convlens.ops', docs/operators.md) "
                    "serves operators that onnxruntime knows"
                )
    advice = ""
    if _NO_KERNEL in reason and any(value.dtype == "float64" for value in graph.inputs):
        advice = "; it computes few operators in double precision - export the model in float32"
    return f"{REFUSES}: {reason}{advice}"
