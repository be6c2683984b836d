"""What an operator is made of, and how the family files enter theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Rule

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, dtype

Forward: TypeAlias = "Callable[..., Tensor | tuple[Tensor, ...]]"


class TorchNode(Protocol):
    """What a torch facet is given to build one node from."""

    op: str
    version: int

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute ``name`` of the node, or ``default``."""

    def constant(self, index: int) -> NDArray[Any] | None:
        """Input ``index`` as an array where it is constant, else None. Leaves the inputs as they are."""

    def weight(self, index: int) -> Tensor | None:
        """Input ``index`` as a tensor where it is constant, else None.

        A weight that was handed out belongs to what the facet returns: it is not fed at run time.
        """

    def has(self, index: int) -> bool:
        """Whether input ``index`` is given at all."""

    def rank(self, index: int) -> int | None:
        """Number of dimensions of input ``index``, None where it is not known beforehand."""

    def read(self, index: int) -> str | None:
        """Element type of input ``index`` in the file (numpy's name), None where it is not known."""

    def written(self, index: int = 0) -> str | None:
        """Element type of the codes that output ``index`` holds, None where it holds none."""

    def dtype(self, onnx_type: int) -> dtype:
        """The torch dtype for an ONNX element type; float32 follows the working precision."""

    def branching(self) -> Forward:
        """The two branches of an ``If`` as one function of its condition and what they capture."""

    @property
    def outputs(self) -> int:
        """How many outputs the node has."""

    def refuse(self, why: str, covered: str = "") -> Exception:
        """The error to raise where a variant of the operator is not covered; ``covered``: what is instead."""


TorchFacet: TypeAlias = Callable[[TorchNode], Forward]
WindowFacet: TypeAlias = Callable[[Node, Graph], Rule]
CropFacet: TypeAlias = Callable[[Node, Graph], Crop | None]
MacsFacet: TypeAlias = Callable[[Node, Sequence[tuple[int, ...]], tuple[int, ...]], int]


@dataclass(frozen=True)
class Operator:
    """One ONNX operator and its facets.

    ``kind`` groups operators for people (conv, rectifier, pool, ...). ``window`` says which part of
    the input one output position reads. ``macs`` gives the multiply-accumulates from the shapes of
    the inputs and the output. ``crop`` says how the node is computed on a part of its input, None where that
    is not known. ``torch`` builds what computes the node, called with those inputs
    that were not taken as weights, in order; an input that the node leaves out is passed as None.
    """

    name: str
    kind: str
    window: WindowFacet
    macs: MacsFacet | None
    torch: TorchFacet
    crop: CropFacet | None = None


ENTRY_POINTS = "convlens.ops"
"""Group of the entry points under which packages announce modules with converters."""

_TABLE: dict[str, Operator] = {}


def everything(_node: Node, _graph: Graph) -> Rule:
    """The window rule of an operator of which nothing is known: it may read all of its image."""
    return Everything()


def operator(
    *names: str,
    kind: str,
    window: WindowFacet = everything,
    macs: MacsFacet | None = None,
    crop: CropFacet | None = None,
) -> Callable[[TorchFacet], TorchFacet]:
    """Enter a torch facet and its companions under one or more names (``domain.Op`` outside ONNX)."""

    def enter(facet: TorchFacet) -> TorchFacet:
        for name in names:
            if name in _TABLE:
                raise ValueError(f"operator {name} is in the table already")
            _TABLE[name] = Operator(name, kind, window, macs, facet, crop)
        return facet

    return enter


@cache
def _load() -> None:
    package = import_module("convlens.ops")
    for module in iter_modules(package.__path__):
        import_module(f"convlens.ops.{module.name}")
    for entry in entry_points(group=ENTRY_POINTS):
        _plug_in(entry)


def _plug_in(entry: EntryPoint) -> None:
    """Load converters of another package; one that breaks leaves nothing of itself in the table."""
    before = dict(_TABLE)
    try:
        entry.load()
    except Exception as error:
        _TABLE.clear()
        _TABLE.update(before)
        where = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
        raise UnsupportedError(
            f"the converters {entry.name!r} ({entry.value}) of {where} could not be loaded: {error}; "
            "repair or uninstall that package"
        ) from error


def find(node: Node) -> Operator | None:
    """The table's entry for a node, None where it has none."""
    _load()
    return _TABLE.get(node.full_op)


def known() -> tuple[Operator, ...]:
    """Every operator of the table, by name."""
    _load()
    return tuple(_TABLE[name] for name in sorted(_TABLE))


def rule_of(node: Node, graph: Graph) -> Rule:
    """The window rule of a node; an unknown operator may read everything."""
    entry = find(node)
    return entry.window(node, graph) if entry else Everything()
