"""What a pass is, and the runner that holds each one to what it declares.

A pass names the aspects of a model that it may change. The runner takes a snapshot before and after it
and compares: names and order of inputs and outputs, the nodes with their order, the weights by identity,
types and shapes at the borders, opsets, IR version and local functions. No pass can declare the names of
the outputs or of a value that stays: those are what a person, a card and the other executors go by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import onnx_ir as ir

from convlens.graph.passes.names import subgraphs

Aspect: TypeAlias = Literal[
    "nodes", "order", "weights", "inputs", "shapes", "opsets", "ir_version", "functions"
]
Step: TypeAlias = "Callable[[ir.Model], None]"
Kinds: TypeAlias = frozenset[tuple[str, str]]
"""Domain and operator of every node, those in subgraphs too."""

Need: TypeAlias = "Callable[[ir.Model, Kinds], bool]"


@dataclass(frozen=True)
class Pass:
    """One change of a model, in place.

    Attributes:
        name: the function's.
        done: what was done where it changed something, in words for people.
        may: the aspects that it may change. ``nodes`` is which nodes there are, in subgraphs too, and
            what each one reads, writes and carries; ``order`` is their order; ``weights`` the
            initializers; ``inputs`` the names and the order of the graph's inputs; ``shapes`` types and
            shapes of its inputs and outputs.
        apply: the change itself.
        when: whether a model gives the pass anything to do; where not, it is not run.
    """

    name: str
    done: str
    may: frozenset[Aspect]
    apply: Step
    when: Need

    def __call__(self, model: ir.Model) -> None:
        """Change ``model``, unchecked."""
        self.apply(model)


def changes(done: str, *may: Aspect, when: Need = lambda _model, _kinds: True) -> Callable[[Step], Pass]:
    """Make a pass of a function. ``done``, ``may`` and ``when`` as :class:`Pass` has them."""

    def enter(step: Step) -> Pass:
        return Pass(step.__name__, done, frozenset(may), step, when)

    return enter


class PassError(Exception):
    """A pass changed what it did not declare: an error in this package, not in the file."""


def run(model: ir.Model, steps: Iterable[Pass]) -> tuple[str, ...]:
    """Apply ``steps`` in order; returns in words what those that changed something did.

    Raises:
        PassError: a pass changed something that it does not declare, or the outputs.
    """
    changed = []
    before: Snapshot | None = None
    kinds = kinds_of(model)
    for step in steps:
        if not step.when(model, kinds):
            continue
        before = Snapshot.of(model) if before is None else before
        step.apply(model)
        after = Snapshot.of(model)
        found = before.differences(after)
        undeclared = sorted(found - step.may)
        if undeclared:
            raise PassError(f"pass {step.name} changed {', '.join(undeclared)}, which it does not declare")
        if found & {"nodes", "order", "weights"}:
            _check_values(step.name, before, after)
        if found:
            changed.append(step.done)
            kinds = kinds_of(model)
        before = after
    return tuple(changed)


def kinds_of(model: ir.Model) -> Kinds:
    """Domain and operator of every node, those in subgraphs too."""
    found: set[tuple[str, str]] = set()
    _kinds(model.graph, found)
    return frozenset(found)


def _kinds(graph: ir.Graph, found: set[tuple[str, str]]) -> None:
    for node in graph:
        found.add((node.domain, node.op_type))
        for inner in subgraphs(node):
            _kinds(inner, found)


@dataclass(frozen=True)
class Snapshot:
    """What a model is made of, cheap to take: names and identities, no numbers."""

    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    nodes: dict[ir.Node, tuple[Any, ...]]
    order: tuple[ir.Node, ...]
    weights: dict[tuple[int, str], ir.TensorProtocol | None]
    shapes: dict[str | None, tuple[Any, ...]]
    opsets: dict[str, int]
    ir_version: int | None
    functions: tuple[Any, ...]
    main: dict[ir.Node, tuple[str | None, ...]]

    @classmethod
    def of(cls, model: ir.Model) -> Snapshot:
        """The snapshot of ``model`` as it is now."""
        graph = model.graph
        nodes: dict[ir.Node, tuple[Any, ...]] = {}
        weights: dict[tuple[int, str], ir.TensorProtocol | None] = {}
        _collect(graph, 0, nodes, weights)
        borders = [*graph.inputs, *graph.outputs]
        return cls(
            inputs=tuple(value.name for value in graph.inputs),
            outputs=tuple(value.name for value in graph.outputs),
            nodes=nodes,
            order=tuple(nodes),
            weights=weights,
            shapes={value.name: (value.type, _shape(value)) for value in borders},
            opsets=dict(model.opset_imports),
            ir_version=model.ir_version,
            functions=tuple(model.functions),
            main={node: tuple(value.name for value in node.outputs) for node in graph},
        )

    def differences(self, other: Snapshot) -> set[str]:
        """The aspects in which the two differ; ``outputs`` among them, which no pass can declare."""
        names = [field.name for field in fields(self) if field.name not in ("main", "order", "shapes")]
        found = {name for name in names if getattr(self, name) != getattr(other, name)}
        if "nodes" not in found and self.order != other.order:
            found.add("order")
        both = self.shapes.keys() & other.shapes.keys()
        if any(self.shapes[name] != other.shapes[name] for name in both):
            found.add("shapes")
        return found


def _shape(value: ir.Value) -> tuple[Any, ...] | None:
    return None if value.shape is None else tuple(value.shape)


def _collect(
    graph: ir.Graph,
    depth: int,
    nodes: dict[ir.Node, tuple[Any, ...]],
    weights: dict[tuple[int, str], ir.TensorProtocol | None],
) -> None:
    """Every node and weight of ``graph`` and of the graphs inside its nodes."""
    key = id(graph) if depth else 0
    for name, value in graph.initializers.items():
        weights[key, name] = value.const_value
    for node in graph:
        attributes = node.attributes
        nodes[node] = (
            node.op_type,
            node.domain,
            node.version,
            tuple([None if value is None else value.name for value in node.inputs]),
            tuple([value.name for value in node.outputs]),
            tuple(attributes.data.values()) if attributes.data else (),
        )
        for inner in subgraphs(node):
            _collect(inner, depth + 1, nodes, weights)


def _check_values(name: str, before: Snapshot, after: Snapshot) -> None:
    """No node that stays writes under another name, and every output comes from somewhere."""
    for node, outputs in before.main.items():
        if node in after.main and after.main[node] != outputs:
            raise PassError(f"pass {name} renamed {outputs} to {after.main[node]}")
    there = {output for outputs in after.main.values() for output in outputs}
    there.update(after.inputs, (weight for graph, weight in after.weights if not graph))
    lost = [output for output in after.outputs if output not in there]
    if lost:
        raise PassError(f"pass {name} removed the values of the outputs {lost}")
