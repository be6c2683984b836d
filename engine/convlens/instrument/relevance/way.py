"""Which nodes relevance passes from a target down to the input, and what each of them does with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convlens.errors import TargetError, UnsupportedError
from convlens.graph.graph import Graph, Node
from convlens.instrument.relevance import nodes
from convlens.instrument.relevance.gates import signals
from convlens.instrument.relevance.linear import BIAS, followers
from convlens.instrument.relevance.norms import CENTRING
from convlens.instrument.relevance.rules import Composite

if TYPE_CHECKING:
    from convlens.instrument.build import Step, TorchGraph

_AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "BatchNormalization", "Clip", "Neg"})
_EVEN = frozenset(
    {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Resize", "Upsample", "Col2Im"}
)


@dataclass(frozen=True, eq=False)
class Stop:
    """One node on the way.

    Attributes:
        receives: which of its inputs get relevance, by their place among what it is called with.
        share: how; None where it goes back through the node as a gradient would, or ``linear`` says how.
        linear: the name of the rule for a linear layer, and for one whose output has one position only.
        chain: affine nodes that are merged into the linear layer.
        first: whether nothing linear stands between it and the input.
        source: of an activation made of several nodes, the value that it is a function of.
    """

    receives: tuple[int, ...]
    share: nodes.Share | None = None
    linear: tuple[str, str] | None = None
    chain: tuple[Node, ...] = ()
    first: bool = False
    source: str = ""


def find_way(graph: TorchGraph, place: str, wanted: Collection[str], composite: Composite) -> dict[str, Stop]:
    """Every node on the way from the values ``wanted`` to the value ``place``, by its first output.

    Raises:
        UnsupportedError: a node on the way has no rule.
        TargetError: no relevance arrives.
    """
    return _Walk(graph, place, frozenset(wanted), composite).stops()


def key(node: Node) -> str:
    """The first of a node's outputs that has a name."""
    return next(name for name in node.outputs if name)


class _Walk:
    """One walk from the target to the input."""

    def __init__(self, torch: TorchGraph, place: str, wanted: frozenset[str], composite: Composite) -> None:
        self.torch, self.graph, self.place = torch, torch.graph, place
        self.wanted, self.composite = wanted, composite
        self.moving = _moving(self.graph, place, torch.codes)
        self.chains = self._chains()
        self.merged = {part.outputs[0] for chain in self.chains.values() for part in chain}
        self.relevant = set(wanted & self.moving)
        self.below: set[str] = set()  # values that relevance reaches behind a rectifier or a linear layer

    def stops(self) -> dict[str, Stop]:
        head = _head(self.graph, self.place, self.moving)
        found = {}
        for node in reversed(self.graph.nodes):
            outs = [name for name in node.outputs if name in self.relevant]
            if not outs or self.place in node.outputs:
                continue
            step = self.torch._step_of[outs[0]]
            stop = self._stop(node, step, outs, head)
            found[key(node)] = stop
            names = [stop.source] if stop.source else [step.inputs[at] for at in stop.receives]
            self.relevant.update(names)
            rectified = not self.torch.rectifiers.keys().isdisjoint(outs)
            if stop.linear or rectified or not self.below.isdisjoint(outs):
                self.below.update(names)
        if self.place not in self.relevant:
            ends = ", ".join(sorted(self.wanted))
            raise TargetError(
                f"no relevance of {ends} arrives at the input: nothing but integers, comparisons or choices "
                "connects them; choose a value before"
            )
        return found

    def _stop(self, node: Node, step: Step, outs: Sequence[str], head: Collection[str]) -> Stop:
        rectifier = self.torch.rectifiers.get(outs[0])
        if rectifier is not None and len(rectifier.nodes) > 1 and rectifier.source in self.moving:
            return Stop((), nodes.passed, source=rectifier.source)
        if node.outputs[0] in self.merged:
            return Stop(self._receives(node, step), nodes.passed)
        receives = self._receives(node, step)
        if not receives:
            raise self._refused(node, "its signal is constant and only what steers it comes from the input")
        if node.op == "BatchNormalization" and node.attr("training_mode", 0):
            raise self._refused(node, "it takes its statistics from the batch")
        before = all(step.inputs[at] in head for at in receives)
        codes = any(step.inputs[at] in self.torch.codes for at in receives)
        if codes and node.full_op not in nodes.MOVES and node.op != "DequantizeLinear":
            raise self._refused(node, "it computes on quantised codes; take the model before quantisation")
        if self._is_linear(node, step, receives):
            chain = self.chains[node.outputs[0]]
            return Stop(receives, None, self._rules(outs[0], before), chain, before)
        rectifies = node.op == "Clip" and outs[0] in self.torch.rectifiers  # from 0, so it is 0 at 0
        if len(receives) == 1 and (rectifies or (before and node.op in _AFFINE)):
            return Stop(receives, nodes.passed)
        if before and node.op in _EVEN and len(receives) == 1:
            return Stop(receives, nodes.evenly)
        if node.op == "Gemm" and node.input(2) in {step.inputs[at] for at in receives}:
            if len(receives) > 2:
                raise self._refused(node, "all three of its inputs come from the input")
            return Stop(receives, nodes.in_proportion())
        if node.op == "Pow" and not _positive_power(node, self.graph):
            raise self._refused(node, "its exponent is not a positive constant")
        if outs[0] != node.outputs[0] and node.full_op not in nodes.MOVES:
            raise self._refused(node, f"its output {outs[0]!r} has none, only its first one has")
        try:
            return Stop(receives, nodes.shares(node, len(receives)))
        except KeyError:
            raise self._refused(node) from None

    def _receives(self, node: Node, step: Step) -> tuple[int, ...]:
        """The places that get relevance, among what the node is called with."""
        able = [at for at, name in enumerate(step.inputs) if name in self.moving]
        op = node.full_op
        if op in nodes.VALUES:
            able = [at for at in able if at == nodes.VALUES[op]]
        elif op in nodes.FIRST_ONLY or (op in BIAS and node.op not in ("Gemm", "MatMul") and 0 in able):
            weights = op in BIAS and 1 in able and op != "DeformConv"
            able = [at for at in able if at == 0 or (weights and at == 1)]
        elif op == "Div" or op in nodes.PASSING | nodes.SHIFTED | CENTRING:
            able = [at for at in able if at in nodes.ADDED.get(op, (0,))]
        if op in nodes.PRODUCTS and len(able) == 2:
            kept = signals(self.graph, [step.inputs[at] for at in able], self.moving)
            able = [at for at, keep in zip(able, kept, strict=True) if keep]
        return tuple(able)

    def _is_linear(self, node: Node, step: Step, receives: Sequence[int]) -> bool:
        """Whether it has weights that do not come from the input, and nothing else that does."""
        if node.full_op not in BIAS or len(receives) != 1:
            return False
        at = receives[0]
        if node.op not in ("Gemm", "MatMul") and at != 0:
            return False
        others = [name for place, name in enumerate(step.inputs[:2]) if place != at]
        return at < 2 and not any(name in self.moving for name in others if node.op != "DeformConv")

    def _chains(self) -> dict[str, tuple[Node, ...]]:
        """What is merged into each linear layer, by the layer's output."""
        found = {}
        for node in self.graph.nodes:
            if node.full_op in BIAS and node.outputs[0] in self.moving:
                step = self.torch._step_of[node.outputs[0]]
                receives = self._receives(node, step)
                if self._is_linear(node, step, receives):
                    able = receives[0] == 0  # a matrix from the left has its outputs along another axis
                    found[node.outputs[0]] = followers(node, self.graph, self.wanted) if able else ()
        return found

    def _rules(self, output: str, first: bool) -> tuple[str, str]:
        dense, conv = self.composite.dense, self.composite.conv
        if first and self.composite.first is not None:
            return (self.composite.first,) * 2
        node = self.graph.producers[output]
        if node.op in ("Gemm", "MatMul") or output not in self.below:
            return dense, dense
        return conv, dense

    def _refused(self, node: Node, why: str = "") -> UnsupportedError | TargetError:
        where = node.name or node.outputs[0]
        advice = nodes.ADVICE.get(node.full_op)
        text = f"LRP has no rule for {node.full_op} node {where!r} on the way from the target to the input"
        if advice:
            return TargetError(f"{text}; {advice.format(before=repr(node.input(0)))}")
        return UnsupportedError(
            f"{text}{': ' + why if why else ''}; choose a target before it, or a method that needs no rules, "
            "such as integrated gradients or occlusion"
        )


def _moving(graph: Graph, place: str, codes: Collection[str]) -> set[str]:
    """The values that depend on ``place`` through numbers that a small change of it would change."""
    found = {place}
    for node in graph.nodes:
        if node.full_op in nodes.CUT or found.isdisjoint(node.reads):
            continue
        for name in node.outputs:
            value = graph.value(name)
            if name and (value.dtype is None or value.floating or name in codes):
                found.add(name)
    return found


def _head(graph: Graph, place: str, moving: Collection[str]) -> set[str]:
    """The values between the input and the first layers: scaled, shifted, moved or resized, no more."""
    found = {place}
    for node in graph.nodes:
        reads = [name for name in node.inputs if name in moving]
        moves = node.full_op in nodes.MOVES and node.op not in nodes.WINNERS
        simple = moves or (node.full_op in _AFFINE | _EVEN and len(reads) == 1)
        if reads and simple and found.issuperset(reads):
            found.update(name for name in node.outputs if name in moving)
    return found


def _positive_power(node: Node, graph: Graph) -> bool:
    exponent = graph.constant(node.input(1))
    return exponent is not None and bool((exponent > 0).all())
