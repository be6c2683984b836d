"""The branches of an ``If`` held against onnxruntime: each as a model of its own, on what it captures.

A forward takes one branch, and a certificate that looked at no other would say nothing of what another
input does. So both are run on the values that they capture, the one that was not taken too, where
onnxruntime can: what a condition guards may not be able to run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convlens.errors import UnsupportedError
from convlens.graph.nested import BRANCHES
from convlens.runtime.runner import Runner
from convlens.trust.checks import Check
from convlens.trust.expected import Expected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.instrument.branching import Branching
    from convlens.instrument.build import TorchGraph

UNTRIED = "the branch that was not taken could not be tried"


@dataclass(frozen=True)
class Inner:
    """One branch to be held against onnxruntime.

    Attributes:
        graph: the branch in PyTorch.
        exact: gives the same in float64; None where nothing does.
        expected: what onnxruntime computes inside of it.
        label: on which input, and where.
    """

    graph: TorchGraph
    exact: Callable[[], TorchGraph] | None
    expected: Expected
    label: str


def inner(
    graph: TorchGraph,
    exact: Callable[[], TorchGraph] | None,
    expected: Expected,
    label: str,
    taken: bool = True,
) -> Iterator[Inner | Check]:
    """Every branch inside of ``graph``, those inside of branches too.

    Args:
        graph: in PyTorch.
        exact: gives the same graph in float64; None where nothing does.
        expected: onnxruntime's values of ``graph``.
        label: which input these are for.
        taken: whether ``graph`` is run for this input.

    Returns:
        What is to be held, and a check with a note for a branch that cannot be run: it passes where the
        branch is not taken.
    """
    for place, branching in enumerate(graph.branchings()):
        output, condition = branching.node.outputs[0], branching.node.inputs[0]
        values = expected.runs(list(dict.fromkeys([condition, *branching.captures])))
        chosen = bool(values[condition].reshape(-1)[0]) if condition in values else None
        for side, name in enumerate(BRANCHES):
            run = taken and chosen == (side == 0)
            where = f"{label}, {name} of {output}"
            branch = branching.branches[side]
            try:
                held = _expected(branching, branch.graph, values, expected, run)
            except UnsupportedError as error:
                if not run:
                    yield Check(output, "If", where, 0.0, 0.0, True, f"{UNTRIED}: {error}")
                continue  # what the branch that is taken gives is compared where the If stands
            found = None if exact is None else _exact(exact, place, side)
            yield Inner(branch, found, held, where)
            yield from inner(branch, found, held, where, run)


def _expected(
    branching: Branching, graph: Graph, values: dict[str, NDArray[Any]], outer: Expected, run: bool
) -> Expected:
    """onnxruntime on the branch; it is tried once.

    Raises:
        UnsupportedError: it does not run.
    """
    missing = [name for name in branching.captures if name not in values]
    if missing:
        raise UnsupportedError(f"{missing[0]!r}, which goes in, is no array that onnxruntime hands out")
    if not run and (name := _division(graph)):
        raise UnsupportedError(f"it divides integers ({name!r}), which may be by 0 there")
    runner = Runner(graph, outer.runner.device, outer.runner.threads)
    found = Expected(runner, {name: values[name] for name in branching.captures}, outer.exact, once=True)
    found.runs([name for name in graph.outputs if name in graph.producers])
    return found


def _division(graph: Graph) -> str:
    """A division of integers in ``graph``, by what it computes: one by 0 ends the process."""
    for node in graph.ir.graph.all_nodes():
        if node.op_type in ("Div", "Mod"):
            value = node.outputs[0]
            known = graph.value(value.name or "")
            if not known.floating and not (value.dtype is not None and value.dtype.is_floating_point()):
                return value.name or node.op_type
    return ""


def _exact(exact: Callable[[], TorchGraph], place: int, side: int) -> Callable[[], TorchGraph]:
    return lambda: exact().branchings()[place].branches[side]
