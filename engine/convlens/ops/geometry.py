"""Kernels, strides and paddings as ONNX writes them, read in one place by every operator that slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Kernel, Rule, Window

if TYPE_CHECKING:
    from torch import Tensor


class _HasAttr(Protocol):
    def attr(self, name: str, default: Any = None) -> Any: ...


@dataclass(frozen=True)
class Geometry:
    """Kernel size, strides, dilations and padding in front and behind, one number an axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    auto: str
    pools: bool = False

    @classmethod
    def pooling(cls, node: _HasAttr) -> Geometry:
        """Read from a node that pools: there onnxruntime pads for SAME as if nothing were dilated.

        A stride beyond the kernel makes that padding negative: what it cuts off is not seen.
        """
        return replace(cls.of(node, node.attr("kernel_shape")), pools=True)

    @classmethod
    def of(cls, node: _HasAttr, kernel: Sequence[int]) -> Geometry:
        """Read from a node whose kernel has the given size."""
        n = len(kernel)
        auto = node.attr("auto_pad", "NOTSET") or "NOTSET"
        pads = tuple(node.attr("pads") or (0,) * (2 * n)) if auto == "NOTSET" else (0,) * (2 * n)
        return cls(
            kernel=tuple(kernel),
            strides=tuple(node.attr("strides") or (1,) * n),
            dilations=tuple(node.attr("dilations") or (1,) * n),
            before=pads[:n],
            after=pads[n:],
            auto=auto,
        )

    @property
    def symmetric(self) -> bool:
        """Whether torch's own padding, the same on both sides, says it all."""
        return self.before == self.after and not self.same

    @property
    def same(self) -> bool:
        """Whether the padding follows from the size of the input."""
        return self.auto in ("SAME_UPPER", "SAME_LOWER")

    def padding(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Padding in front and behind, axis by axis, for an input of ``size``."""
        if not self.same:
            return list(zip(self.before, self.after, strict=True))
        found = []
        for n, k, s, d in zip(size, self.kernel, self.strides, self.dilations, strict=True):
            if self.pools:
                total = (-(-n // s) - 1) * s + k - n
                front = int((total if self.auto == "SAME_UPPER" else total + 1) / 2)  # towards zero
                found.append((front, total - front))
                continue
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            small, large = total // 2, total - total // 2
            found.append((small, large) if self.auto == "SAME_UPPER" else (large, small))
        return found

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """``x`` with this padding written out along its last axes."""
        from torch.nn import functional as F

        pads = self.padding(x.shape[-len(self.kernel) :])
        flat = [amount for pair in reversed(pads) for amount in pair]
        return F.pad(x, flat, value=value) if any(flat) else x

    def rule(self, size: Sequence[int | None]) -> Rule:
        """The window rule for an input with spatial ``size`` (None where unknown)."""
        if self.same and any(n is None for n in size):
            return Everything()
        pads = self.padding([n or 0 for n in size])
        rows = zip(self.kernel, self.strides, pads, self.dilations, strict=True)
        return Kernel({axis: Window.kernel(k, s, p[0], d) for axis, (k, s, p, d) in enumerate(rows, start=2)})


def unpadded(padding: float, uneven: bool = False) -> Callable[[Node, Graph], Crop]:
    """The crop facet of an operator that slides: the same with padding written out as ``padding``."""

    def crop(node: Node, graph: Graph) -> Crop:
        del graph
        kept = len(node.attr("pads") or ())
        own: dict[str, int | str | tuple[int, ...]]
        own = {"auto_pad": "NOTSET", "pads": (0,) * kept, "ceil_mode": 0, "count_include_pad": 0}
        return Crop(padding, {name: own[name] for name in own if node.attr(name)}, uneven)

    return crop


def spatial(graph: Graph, name: str) -> list[int | None]:
    """Sizes of the axes after batch and channel, None where they are not numbers."""
    shape = graph.value(name).shape or ()
    return [dim if isinstance(dim, int) else None for dim in shape[2:]]


def weight_kernel(node: Node, graph: Graph) -> tuple[int, ...] | None:
    """Kernel size of a convolution, from its attribute or its weight."""
    kernel = node.attr("kernel_shape")
    shape = graph.value(node.input(1)).shape
    if kernel is None and shape is not None and all(isinstance(dim, int) for dim in shape[2:]):
        kernel = shape[2:]
    return tuple(kernel) if kernel is not None else None
