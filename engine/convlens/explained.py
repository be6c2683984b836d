"""Where an input is explained: at itself where it holds real numbers, else at what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Node
from convlens.graph.layers import shape_text
from convlens.graph.source import Source
from convlens.ops.quantcodes import SMALL, find_codes, takes_codes

_KEEPS = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Concat", "Expand", "Flatten", "Identity", "Max", "Min", "Mod", "Mul",
        "Pad", "Reshape", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators through which integers stay what they are, in other places or another type.

What is compared (a mask) or counted (a shape) tells of the input too, but is no number that a small
change could change.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The value at which the gradient is taken.

    Attributes:
        value: ONNX value name; the input's own where it holds real numbers.
        how: ``input``, ``cast`` (the same numbers as real ones) or ``embedding`` (one vector a token).
        op: the operator that computes it, empty for the input.
        others: further values of the same sort, at which nothing is taken.
    """

    value: str
    how: str
    op: str = ""
    others: tuple[str, ...] = ()

    def words(self) -> str:
        """For people."""
        what = "the embedding" if self.how == "embedding" else "the input as real numbers"
        more = f"; {', '.join(self.others)} also read the input and are left out" if self.others else ""
        return f"the input{more}" if self.how == "input" else f"{what}, {self.value} ({self.op}){more}"


def explained_at(graph: Graph, source: Source) -> Place:
    """The first real-valued value that the input becomes, by a cast or by a look-up.

    Codes of 8 and 16 bits that are calculated with are real numbers in the PyTorch graph, so that the
    input itself has a gradient.

    Raises:
        UnsupportedError: integers go in and never become real numbers.
    """
    if source.dtype is None or "float" in source.dtype:
        return Place(source.name, "input")
    embedded: dict[str, bool] = {source.name: False}  # integers that come from the input; looked up already?
    found: list[Place] = []
    for node in graph.nodes:
        if node.op in ("Shape", "Size"):
            continue
        read = next((name for name in node.inputs if name in embedded), None)
        if read is None or not node.outputs[0]:
            continue
        step = _step(graph, node, read, embedded)
        if step is None:
            continue
        looked_up, real = step
        if not real:
            embedded[node.outputs[0]] = looked_up
            continue
        value, op = node.outputs[0], node.op
        before = graph.producers.get(read)
        if node.op == "OneHot" or (node.op == "Cast" and before is not None and before.op == "Equal"):
            value, op = _multiplied(graph, value)
        found.append(Place(value, "embedding" if looked_up else "cast", op))
    lookups = [place for place in found if place.how == "embedding"]
    chosen = lookups if source.kind == "tokens" and lookups else found
    direct = _calculated(graph, source) if not lookups else []
    apart = [place.value for place in chosen if place.value not in direct]
    if direct and (len(direct) > 1 or not chosen or apart):
        return Place(source.name, "input", others=tuple(apart))
    if not chosen:
        raise UnsupportedError(
            f"input {source.name!r} ({source.dtype}, {shape_text(source.shape)}) holds "
            f"{'truth values' if source.dtype == 'bool' else 'integers'} that are neither looked up in an "
            "embedding nor cast to real numbers, so nothing has a gradient; occlusion needs none"
        )
    first = chosen[0]
    return Place(first.value, first.how, first.op, tuple(place.value for place in chosen[1:]))


def _calculated(graph: Graph, source: Source) -> list[str]:
    """The values that operators compute from the input's codes as real numbers; outputs that hold codes."""
    if source.dtype not in SMALL:
        return []
    codes = find_codes(graph)
    same, found = {source.name}, []
    for node in graph.nodes:
        if same.isdisjoint(node.inputs) or not takes_codes(node, codes):
            continue
        moved = [out for out in node.outputs if codes.get(out) == source.dtype]
        if moved and not node.op.startswith("QLinear"):
            same.update(moved)
        elif node.outputs[0]:
            found.append(node.outputs[0])
    return found + [name for name in graph.outputs if name in same]


def _step(graph: Graph, node: Node, read: str, embedded: dict[str, bool]) -> tuple[bool, bool] | None:
    """Whether a node's output has been looked up and is real; None where the chain ends."""
    value = graph.value(node.outputs[0])
    if node.op in ("Gather", "OneHot"):
        at = 1 if node.op == "Gather" else 0
        if node.input(at) == read:
            stored = graph.constant(node.input(0 if node.op == "Gather" else 2))
            real = value.floating or (stored is not None and stored.dtype.kind in "fV")
            return True, real
    if node.op == "Equal":
        return (True, False) if _numbered(graph, node, read) else None
    if node.op == "EmbedLayerNormalization":
        return True, True
    if node.op == "DequantizeLinear" or (node.op == "Cast" and value.floating):
        return embedded[read], True
    return (embedded[read], False) if node.op in _KEEPS | {"Gather"} and not value.floating else None


def _numbered(graph: Graph, node: Node, read: str) -> bool:
    """Whether it compares with the numbers of the classes, each once: a one-hot value written out."""
    stored = graph.constant(next((name for name in node.inputs if name != read), ""))
    if stored is None or stored.size < 2 or stored.shape[-1] != stored.size:
        return False
    return len(set(stored.ravel().tolist())) == stored.size


def _multiplied(graph: Graph, value: str) -> tuple[str, str]:
    """A one-hot value's product with the table of embeddings, the one-hot value where there is none."""
    consumers = graph.consumers.get(value, ())
    if len(consumers) == 1 and consumers[0].op in ("MatMul", "Gemm", "Cast"):
        node = consumers[0]
        if node.op == "Cast":
            return _multiplied(graph, node.outputs[0])
        return node.outputs[0], f"OneHot, {node.op}"
    return value, "OneHot"
