"""A graph in parts that can be computed window by window, as far as there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from convlens.graph.dependence import dependent
from convlens.graph.graph import Graph, Node
from convlens.runtime.incremental.placing import Placed, Still, placed
from convlens.runtime.incremental.seen import Seen
from convlens.runtime.incremental.sliding import Slide, slide_of

SOURCE = -1
"""The part that the input itself belongs to."""


@dataclass
class Part:
    """Nodes whose values all have the same window.

    Attributes:
        nodes: in the order in which they are computed; the first one slides, where ``slide`` is given.
        slide: of the first node.
        main: the value that it reads, empty without ``slide``.
        beside: values of other parts that are read place by place.
        still: values that never change and differ from place to place.
        given: values that never change and are read as they are.
        lengths: of each Reshape by its output, as in :class:`Placed`.
    """

    nodes: list[Node] = field(default_factory=list)
    slide: Slide | None = None
    main: str = ""
    beside: list[str] = field(default_factory=list)
    still: list[Still] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    lengths: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def plain(self) -> list[str]:
        """Values that it reads without padding."""
        return [*self.beside, *self.given, *(still.name for still in self.still)]

    def feeds(self, node: Node) -> dict[str, str]:
        """Under which name a node reads what is cut along with the window."""
        return {still.name: still.feed for still in self.still if still.output == node.outputs[0]}


@dataclass(frozen=True)
class Parts:
    """What can be computed in windows.

    Attributes:
        parts: in an order in which each has what it reads.
        home: the part of each value, :data:`SOURCE` for the input.
        axes: for each of these values, which of its axes are the picture's, in the order of the input's.
        reached: every value that hangs on the input.
        sized: every other value that hangs on the sizes of the input, or of how many images there are.
    """

    parts: Sequence[Part]
    home: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    reached: frozenset[str]
    sized: frozenset[str]


def split(
    graph: Graph,
    nodes: Sequence[Node],
    source: str,
    axes: Sequence[int],
    values: Mapping[str, NDArray[Any]],
) -> Parts:
    """Cut a graph into parts.

    Args:
        graph: the normalised graph.
        nodes: those of its nodes that are needed, in their order.
        source: the input that is changed.
        axes: its spatial axes, counted with the batch axis.
        values: every value that is needed, for one image.
    """
    home, where = {source: SOURCE}, {source: tuple(axes)}
    parts: list[Part] = []
    reached = frozenset(dependent(graph, (source,)))
    extents = {name: tuple(value.shape) for name, value in values.items()}
    seen = Seen(graph, values, sized(graph, reached))
    for node in nodes:
        reads = [name for name in dict.fromkeys(node.reads) if name in reached]
        outputs = [name for name in node.outputs if name in extents]
        if not reads or node.captures or not outputs or any(name not in home for name in reads):
            continue
        slide = None
        if outputs == [node.outputs[0]]:
            slide = slide_of(node, seen.rule(node), reads, where[reads[0]], seen)
        if slide is not None:
            home[outputs[0]], where[outputs[0]] = len(parts), where[reads[0]]
            parts.append(Part([node], slide, reads[0]))
            continue
        found = placed(node, seen, reads, where, outputs)
        if found is None:
            continue
        number = max(home[name] for name in reads)
        if number == SOURCE:
            if outputs[0] != node.outputs[0]:  # by which a part is known
                continue
            parts.append(Part())
            number = len(parts) - 1
        _join(parts[number], number, node, found, home, reads)
        home.update(dict.fromkeys(outputs, number))
        where.update(dict.fromkeys(outputs, found.axes))
    return Parts(parts, home, where, reached, seen.sized)


def _join(
    part: Part, number: int, node: Node, found: Placed, home: Mapping[str, int], reads: Sequence[str]
) -> None:
    part.nodes.append(node)
    part.beside += [name for name in reads if home[name] != number and name not in part.beside]
    part.still += found.still
    part.given += [name for name in found.given if name not in part.given]
    if found.lengths:
        part.lengths[node.outputs[0]] = found.lengths


def sized(graph: Graph, reached: frozenset[str]) -> frozenset[str]:
    """What is computed from the sizes of inputs and not from their numbers."""
    hangs = {value.name for value in graph.inputs}
    for node in graph.nodes:
        if not hangs.isdisjoint(node.reads):
            hangs.update(name for name in node.outputs if name)
    return frozenset(hangs - reached - {value.name for value in graph.inputs})
