"""Normalisation layers with their deviation held still, which makes them linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from convlens.instrument.relevance.nodes import Call

_SKIP = "com.microsoft.SkipLayerNormalization"
_SKIP_SIMPLE = "com.microsoft.SkipSimplifiedLayerNormalization"

CENTRING = frozenset(
    {
        "LayerNormalization", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization",
        _SKIP, _SKIP_SIMPLE,
    }
)  # fmt: skip


def frozen(call: Call) -> Callable[..., Tensor]:
    """The node as a function of what receives relevance: the mean moves with it, the deviation does not.

    The deviation is the one that the node itself divided by.
    """
    node = call.node
    op, rest = node.full_op, list(call.arguments)

    def function(*given: Tensor) -> Tensor:
        x = given[0]
        for other in given[1:]:
            x = x + other
        scale, bias = rest[1] if len(rest) > 1 else None, rest[2] if len(rest) > 2 else None
        if op in (_SKIP, _SKIP_SIMPLE):
            for place in (0, 1, 4 if op == _SKIP else 3):  # what is added and receives nothing
                fixed = rest[place] if place < len(rest) and place not in call.receives else None
                x = x if fixed is None else x + fixed
            scale, bias = rest[2], rest[3] if op == _SKIP and len(rest) > 3 else None
            return _scaled(_divided(x, (-1,), 1e-12, node.attr("epsilon"), op == _SKIP), scale, bias)
        if op == "LayerNormalization":
            axes = tuple(range(int(node.attr("axis", -1)) % x.dim(), x.dim()))
            return _scaled(_divided(x, axes, 1e-5, node.attr("epsilon")), scale, bias)
        if op == "MeanVarianceNormalization":
            axes = tuple(node.attr("axes") or (0, 2, 3))
            centred = x - x.mean(axes, keepdim=True)
            return centred / (centred.detach().square().mean(axes, keepdim=True).sqrt() + 1e-9)
        groups = x.shape[1] if op == "InstanceNormalization" else int(node.attr("num_groups"))
        rows = x.reshape(x.shape[0], groups, -1)
        normal = _divided(rows, (2,), 1e-5, node.attr("epsilon")).reshape(x.shape)
        return _scaled(normal, _by_channel(scale, x), _by_channel(bias, x))

    return function


def _divided(
    x: Tensor, axes: tuple[int, ...], default: float, epsilon: float | None, centre: bool = True
) -> Tensor:
    centred = x - x.mean(axes, keepdim=True) if centre else x
    variance = centred.detach().square().mean(axes, keepdim=True)
    return centred * (variance + (default if epsilon is None else float(epsilon))).rsqrt()


def _by_channel(numbers: Tensor | None, x: Tensor) -> Tensor | None:
    if numbers is None:
        return None
    each = numbers.repeat_interleave(x.shape[1] // numbers.numel())
    return each.reshape(-1, *[1] * (x.dim() - 2))


def _scaled(normal: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    out = normal if scale is None else normal * scale
    return out if bias is None else out + bias
