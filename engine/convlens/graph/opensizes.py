"""Windows of operators whose paddings, cuts or scales follow from sizes that the file leaves open.

Such a window moves with the size of the image: TensorFlow's SAME padding puts one pixel more in front of
an odd number of pixels than of an even one. Here the operator is asked at two sizes that the usual
strides divide and at two that leave one pixel over, where such a padding is smallest and largest. A
window that comes out the same at both of the first, and nearly there at the others, is taken, wide enough
for all four. It is said to be loose, because other sizes were not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import TypeAlias

from convlens.graph.graph import Dim, Graph, Node
from convlens.graph.shapes import walked
from convlens.graph.windows import Everything, Kernel, Rule, Window

RuleOf: TypeAlias = Callable[[Node, Graph], Rule]

_EVEN, _ODD = (1024, 16384), (1025, 16385)
_SLIDES = frozenset(
    {
        "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "FusedConv", "LpPool", "MaxPool", "Pad",
        "QLinearAveragePool", "QLinearConv", "Resize", "Slice", "Upsample",
    }
)  # fmt: skip
_STILL = Window(Fraction(1), Fraction(0), Fraction(0))


class Rules:
    """The rule of each node of a graph, also where it hangs on how long the input's open axes are."""

    def __init__(self, graph: Graph, source: str, spatial: Sequence[int], rule_of: RuleOf) -> None:
        """Take the graph, its input, the axes of that which run over the image, and the operators' rules."""
        self._graph = graph
        self._source = source
        self._rule_of = rule_of
        shape = graph.value(source).shape or ()
        self._open = [axis for axis in spatial if axis < len(shape) and not isinstance(shape[axis], int)]

    def __call__(self, node: Node, graph: Graph) -> Rule:
        """The rule of ``node``: sure where it can be, else loose where it can be, else everything."""
        rule = self._rule_of(node, graph)
        if not self._open or node.op not in _SLIDES:
            return rule
        if not isinstance(rule, Everything) and all(
            not name or graph.known(name) is not None or graph.value(name).floating
            for name in node.inputs[1:]
        ):
            return rule
        found = [self._rule_of(node, sized) for sized in self._sized]
        kernels = [one for one in found if isinstance(one, Kernel)]
        if len(kernels) < len(found) or len({one.mixed for one in kernels}) > 1:
            return rule
        windows: dict[int, Window] = {}
        for axis in sorted({axis for one in kernels for axis in one.windows}):
            window = _around([one.windows.get(axis, _STILL) for one in kernels])
            if window is None:
                return rule
            windows[axis] = window
        return Kernel(windows, kernels[0].mixed, loose=True)

    @cached_property
    def _sized(self) -> list[Graph]:
        return [self._at(size) for size in (*_EVEN, *_ODD)]

    def _at(self, size: int) -> Graph:
        """The graph as it is where the open axes have ``size`` pixels."""
        graph = self._graph
        dims: list[Dim] = list(graph.value(self._source).shape or ())
        for axis in self._open:
            dims[axis] = size
        given: Mapping[str, tuple[Dim, ...]] = {self._source: tuple(dims)}
        walk = walked(graph.ir, given)
        values = {**graph.values, **walk.values()}
        return replace(graph, values=values, measures=walk.measures(), settled=walk.settled())


def _around(windows: Sequence[Window]) -> Window | None:
    """The window that holds all of them, None where they do not belong together.

    Args:
        windows: at the two even sizes, then at the two odd ones.
    """
    small, large, *odd = windows
    if small != large:
        return None
    reach = large.last - large.first + large.stride + 1
    for window, size in zip(odd, _ODD, strict=True):
        drift = abs(window.stride - large.stride) * size / max(large.stride, Fraction(1))
        apart = max(abs(window.first - large.first), abs(window.last - large.last))
        if drift > large.stride + 1 or apart > reach:
            return None
    spare = 1 if any(window.stride != large.stride for window in odd) else 0
    return Window(
        large.stride,
        min(window.first for window in windows) - spare,
        max(window.last for window in windows) + spare,
    )
