"""Sums, means, extremes and norms over axes, and what orders or accumulates along one."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Kernel, Pointwise, Reduce, Rule
from convlens.ops.given import computed, fixed, numbers
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_Reduction: TypeAlias = "Callable[[Tensor, tuple[int, ...], bool], Tensor]"


def _reduce_window(node: Node, graph: Graph) -> Rule:
    if computed(node, graph, 1):
        return Everything()
    keep = bool(node.attr("keepdims", 1))
    axes = fixed(node, graph, 1, "axes")
    if not axes:
        return Pointwise() if node.attr("noop_with_empty_axes", 0) else Reduce(None, keep)
    rank = graph.value(node.input(0)).rank
    if rank is None:
        return Reduce(frozenset(axes), keep) if min(axes) >= 0 else Everything()
    return Reduce(frozenset(axis % rank for axis in axes), keep)


def _arg_window(node: Node, graph: Graph) -> Rule:
    axis, rank = int(node.attr("axis", 0)), graph.value(node.input(0)).rank
    if rank is None and axis < 0:
        return Everything()
    return Reduce(frozenset({axis % rank if rank else axis}), bool(node.attr("keepdims", 1)))


def _top_window(node: Node, graph: Graph) -> Rule:
    axis, rank = int(node.attr("axis", -1)), graph.value(node.input(0)).rank
    return Everything() if rank is None else Kernel({}, frozenset({axis % rank}))


def _cumulative_window(node: Node, graph: Graph) -> Rule:
    axis, rank = fixed(node, graph, 1), graph.value(node.input(0)).rank
    return Everything() if rank is None or axis is None else Kernel({}, frozenset({axis[0] % rank}))


def _sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(dims, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if x.numel() == 0:  # nothing has the mean 0 in onnxruntime
        return _sum(x, dims, keep)
    if x.dtype.is_floating_point:
        return x.mean(dims, keepdim=keep)
    total = _sum(x, dims, keep)
    return total.div(max(x.numel() // max(total.numel(), 1), 1), rounding_mode="trunc")


def _prod(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keep, dtype=x.dtype)
    return x


def _max(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if any(x.shape[dim] == 0 for dim in dims):
        return _of_nothing(x, dims, keep, largest=False)
    return x.amax(dims, keepdim=keep)


def _min(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if any(x.shape[dim] == 0 for dim in dims):
        return _of_nothing(x, dims, keep, largest=True)
    return x.amin(dims, keepdim=keep)


def _of_nothing(x: Tensor, dims: tuple[int, ...], keep: bool, largest: bool) -> Tensor:
    """The extreme of an empty set: the number at the other end of the type."""
    import torch

    if x.dtype.is_floating_point:
        value = inf if largest else -inf
    elif x.dtype == torch.bool:
        value = largest
    else:
        value = torch.iinfo(x.dtype).max if largest else torch.iinfo(x.dtype).min
    shape = [1 if axis in dims else size for axis, size in enumerate(x.shape) if keep or axis not in dims]
    return x.new_full(shape, value)


def _l1(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), dims, keep)


def _l2(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    import torch

    if x.dtype.is_floating_point:
        norm: Tensor = torch.linalg.vector_norm(x, 2, dims, keepdim=keep)
        return norm
    return _sum(x * x, dims, keep).double().sqrt().to(x.dtype)


def _log_sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    total = _sum(x, dims, keep)
    return total.log() if x.dtype.is_floating_point else total.double().log().to(x.dtype)


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if x.dtype.is_floating_point:
        return x.logsumexp(dims, keepdim=keep)
    if x.numel() == 0:
        return _of_nothing(x, dims, keep, largest=False)
    return x.double().logsumexp(dims, keepdim=keep).to(x.dtype)


def _sum_square(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, dims, keep)


_REDUCTIONS: dict[str, _Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _max,
    "ReduceMin": _min,
    "ReduceProd": _prod,
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceSumSquare": _sum_square,
}


@operator(*_REDUCTIONS, kind="reduce", window=_reduce_window)
def reduction(node: TorchNode) -> Forward:
    """Reductions over axes, over all of them where none is given; equal extremes share the gradient."""
    function = _REDUCTIONS[node.op]
    axes = numbers(node, 1, "axes")
    keep, noop = bool(node.attr("keepdims", 1)), bool(node.attr("noop_with_empty_axes", 0))

    def forward(*inputs: Tensor) -> Tensor:
        x, given = inputs[0], axes(inputs)
        if not given and noop:
            return function(x.unsqueeze(0), (0,), False)  # what it does to a single number is still done
        dims = tuple(axis % x.dim() for axis in given) if given else tuple(range(x.dim()))
        return function(x, dims, keep)

    return forward


@operator("ArgMax", "ArgMin", kind="reduce", window=_arg_window)
def arg_extremum(node: TorchNode) -> Forward:
    """Where the extreme is along an axis; of equal ones the first, or with an attribute the last."""
    import torch

    axis, keep = int(node.attr("axis", 0)), bool(node.attr("keepdims", 1))
    function = torch.argmax if node.op == "ArgMax" else torch.argmin

    def forward(x: Tensor) -> Tensor:
        if node.attr("select_last_index", 0):
            return x.shape[axis] - 1 - function(x.flip(axis), dim=axis, keepdim=keep)
        return function(x, dim=axis, keepdim=keep)

    return forward


@operator("TopK", kind="reduce", window=_top_window)
def top_k(node: TorchNode) -> Forward:
    """The k greatest or least along an axis, in order, with their positions; ties by position."""
    import torch

    axis, largest = int(node.attr("axis", -1)), bool(node.attr("largest", 1))
    count = numbers(node, 1, "k")

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        k = (count(inputs) or [1])[0]
        values, places = torch.sort(inputs[0], dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, k), places.narrow(axis, 0, k)

    return forward


@operator("CumSum", "CumProd", kind="reduce", window=_cumulative_window)
def cumulative(node: TorchNode) -> Forward:
    """Running sums or products along an axis, from either end, with or without the number itself."""
    product = node.op == "CumProd"
    exclusive, reverse = bool(node.attr("exclusive", 0)), bool(node.attr("reverse", 0))
    along = numbers(node, 1)

    def forward(*inputs: Tensor) -> Tensor:
        x, axis = inputs[0], (along(inputs) or [0])[0]
        ordered = x.flip(axis) if reverse else x
        run = ordered.cumprod if product else ordered.cumsum
        out = run(axis, dtype=x.dtype)
        if exclusive:
            out = out.roll(1, axis).index_fill(axis, out.new_zeros(1).long(), 1 if product else 0)
        return out.flip(axis) if reverse else out

    return forward
