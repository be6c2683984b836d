"""``If`` in the PyTorch graph: two graphs of their own, of which one is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Node
from convlens.graph.nested import BRANCHES, branch_of, captured

if TYPE_CHECKING:
    from convlens.instrument.build import TorchGraph
    from convlens.instrument.rules import Rule


class Branching(nn.Module):
    """The branches of one ``If`` as graphs of their own, called with the condition and what they capture.

    A rule applies inside of a branch as it does outside; a rectifier is one thing only where all of it
    stands in one graph. Values inside have no layer and no tap. They are held against onnxruntime by
    :mod:`convlens.trust.inside`, those of the branch that was not taken too.

    Attributes:
        node: the ``If``.
        captures: names of the values that go in after the condition, in order.
    """

    def __init__(
        self,
        node: Node,
        graph: Graph,
        dtype: torch.dtype,
        codes: Mapping[str, str],
        refuse: Callable[[str], Exception],
    ) -> None:
        """Build both branches.

        Raises:
            UnsupportedError: an operator in one of them has no converter, or an output holds codes of
                quantised numbers, whose gradient would end there.
        """
        from convlens.instrument.build import TorchGraph  # which has nodes like this one

        super().__init__()
        self.node = node
        self.captures = captured(node, graph)
        given = {name: codes[name] for name in self.captures if name in codes}
        self._graphs = nn.ModuleList(
            TorchGraph(branch_of(node, name, graph), dtype, given) for name in BRANCHES
        )
        for branch in self.branches:
            if not branch.codes.keys().isdisjoint(branch.graph.outputs):
                raise refuse("a branch whose output is quantised")

    @property
    def branches(self) -> tuple[TorchGraph, TorchGraph]:
        """The graph where the condition holds, and the other one."""
        return cast("tuple[TorchGraph, TorchGraph]", tuple(self._graphs))

    def forward(self, condition: Tensor, *captured: Any, rule: Rule | None = None) -> Any:
        """The outputs of the branch that ``condition``, one truth value, chooses.

        Raises:
            UnsupportedError: the condition is not one value.
        """
        if condition.numel() != 1:
            raise UnsupportedError(
                f"If node {self.node.name or self.node.outputs[0]!r}: its condition has shape "
                f"{list(condition.shape)}; expected one truth value"
            )
        branch = self.branches[0 if bool(condition) else 1]
        held = branch.held(dict(zip(self.captures, captured, strict=True)), branch.graph.outputs, rule)
        return tuple(held[name] for name in branch.graph.outputs)
