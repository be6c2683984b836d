"""What is known of a graph when it is cut into parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from convlens import ops
from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Rule


@dataclass(frozen=True)
class Seen:
    """What is known of a graph.

    Attributes:
        graph: the normalised graph.
        values: every value for one image, the constants apart.
        sized: values that do not change, and are computed from the sizes of what does.
    """

    graph: Graph
    values: Mapping[str, NDArray[Any]]
    sized: frozenset[str]

    def array(self, name: str) -> NDArray[Any] | None:
        """A value that does not change."""
        found = self.graph.constants.get(name)
        return self.values.get(name) if found is None else found

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value for one image."""
        return tuple(self.values[name].shape)

    def rule(self, node: Node) -> Rule:
        """Its window rule."""
        return ops.rule_of(node, self.graph)

    def settled(self, names: Collection[str]) -> bool:
        """Whether none of some values hangs on how many images there are."""
        return all(name not in self.sized or name in self.graph.settled for name in names)
