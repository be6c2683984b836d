"""The normalised graph: nodes in topological order, and what is known of every value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the graph. An input that is left out is an empty string, as in ONNX.

    ``scope`` is the module that it came from, where the exporter left that in the file. ``captures``
    are values of the graph that the node's own subgraphs (branches, loop bodies) read.
    """

    op: str
    domain: str
    version: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""
    captures: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value that the node depends on: its inputs, and what its subgraphs capture."""
        return self.inputs + self.captures

    @property
    def full_op(self) -> str:
        """Operator with its domain, e.g. ``Conv`` or ``com.microsoft.FusedConv``."""
        return f"{self.domain}.{self.op}" if self.domain else self.op

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute ``name``, or ``default`` where the node does not carry it."""
        return self.attributes.get(name, default)

    def input(self, index: int) -> str:
        """Name of input ``index``, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of one value before it is computed: dtype (numpy's name) and shape.

    A dimension is an int, the symbol that the file gives it, or None where inference found nothing.
    """

    name: str
    dtype: str | None
    shape: Shape

    @property
    def floating(self) -> bool:
        """Whether the value holds real numbers, so that a gradient can mean something."""
        return self.dtype is not None and "float" in self.dtype

    @property
    def rank(self) -> int | None:
        """Number of dimensions, None where unknown."""
        return None if self.shape is None else len(self.shape)


@dataclass(frozen=True)
class Graph:
    """A normalised model. Value names are those of the file; nothing is renamed.

    ``changes`` says in words what was done to the file's graph to get here, in order; ``bound`` holds
    the inputs of the file that were bound to constants; ``measures`` is what :meth:`measure` gives;
    ``settled`` holds small values that follow from constants and from sizes that are known.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    constants: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]
    opsets: Mapping[str, int]
    producer: str
    ir: ir.Model
    changes: tuple[str, ...] = ()
    bound: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    measures: Mapping[str, Shape] = field(default_factory=dict)
    settled: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that computes each value."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """At which place among the nodes each value is computed."""
        return {output: place for place, node in enumerate(self.nodes) for output in node.outputs if output}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, in topological order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.reads):
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def measure(self, name: str) -> Shape:
        """The shape of value ``name`` in which sizes that are computed are texts; equal ones are equal."""
        known = self.measures.get(name)
        return self.value(name).shape if known is None else known

    def value(self, name: str) -> Value:
        """What is known of value ``name``; an unknown value is one with no dtype and no shape."""
        return self.values.get(name, Value(name, None, None))

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The constant of that name, None where the value is computed."""
        return self.constants.get(name)

    def known(self, name: str) -> np.ndarray[Any, Any] | None:
        """The numbers of value ``name``: a constant's, or those that follow from sizes; else None."""
        found = self.constants.get(name)
        return self.settled.get(name) if found is None else found

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """Every value that ``names`` depend on, ``names`` included."""
        seen: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name and name not in seen:
                seen.add(name)
                if name in self.producers:
                    stack.extend(self.producers[name].reads)
        return seen
