"""Quantised operators of onnxruntime that work number by number, pool, reduce or join."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Join, Kernel, Reduce, Rule
from convlens.ops.activations import pointwise
from convlens.ops.geometry import Geometry, spatial
from convlens.ops.pool import average_pool
from convlens.ops.quant import centred, code_type, rounded
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_FLOAT = 1
_Function: TypeAlias = "Callable[[Tensor], Tensor]"


def _value(codes: Tensor, scale: Tensor, zero: Tensor | None, like: Tensor) -> Tensor:
    """The real numbers that codes stand for, in the precision of ``like``."""
    real = like.dtype
    steps = centred(codes, None if zero is None else zero.reshape(()), real).to(real)
    return steps * scale.reshape(()).to(real)


def _zero(zero: Tensor | None) -> Tensor | float:
    return 0.0 if zero is None else zero.reshape(())


def _between(node: TorchNode, function: _Function, late: bool = False) -> Forward:
    """Codes to real numbers, ``function``, and back to codes: X, its scale and zero point, then Y's."""
    limits = code_type(node)

    def forward(
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor | None,
        y_scale: Tensor,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        value = function(_value(x, x_scale, x_zero, y_scale))
        return rounded(value / y_scale.reshape(()), _zero(y_zero), limits, late)

    return forward


@operator("com.microsoft.QLinearSigmoid", kind="activation", window=pointwise)
def qlinear_sigmoid(node: TorchNode) -> Forward:
    """1 / (1 + exp(-x)) of codes."""
    import torch

    return _between(node, torch.sigmoid)


@operator("com.microsoft.QLinearLeakyRelu", kind="activation", window=pointwise)
def qlinear_leaky_relu(node: TorchNode) -> Forward:
    """x where positive, alpha x elsewhere, of codes."""
    from torch.nn import functional as F

    alpha = float(node.attr("alpha", 0.01))
    return _between(node, lambda x: F.leaky_relu(x, alpha))


@operator("com.microsoft.QLinearAdd", kind="add", window=pointwise)
def qlinear_add(node: TorchNode) -> Forward:
    """The sum of two tensors of codes; the terms in onnxruntime's order, since half way cases are common."""
    limits = code_type(node)

    def forward(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        c_scale: Tensor,
        c_zero: Tensor | None = None,
    ) -> Tensor:
        real = c_scale.dtype
        one, other = a_scale.reshape(()) / c_scale.reshape(()), b_scale.reshape(()) / c_scale.reshape(())
        fixed = _zero(c_zero) - (one * _zero(a_zero) + other * _zero(b_zero))
        # each product is added without rounding in between, as processors do it today
        second = (fixed + b.double() * other.double()).to(real)
        return rounded((second + a.double() * one.double()).to(real), 0.0, limits)

    return forward


@operator("com.microsoft.QLinearMul", kind="mul", window=pointwise)
def qlinear_mul(node: TorchNode) -> Forward:
    """The product of two tensors of codes."""
    limits = code_type(node)

    def forward(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor | None,
        c_scale: Tensor,
        c_zero: Tensor | None = None,
    ) -> Tensor:
        real = c_scale.dtype
        left = centred(a, None if a_zero is None else a_zero.reshape(()), real).to(real)
        right = centred(b, None if b_zero is None else b_zero.reshape(()), real).to(real)
        factor = a_scale.reshape(()) * b_scale.reshape(()) / c_scale.reshape(())
        return rounded(left * right * factor, _zero(c_zero), limits, late=True)

    return forward


def _pool_window(node: Node, graph: Graph) -> Rule:
    if node.attr("channels_last", 0):
        return Everything()
    g = Geometry.pooling(node)
    rule = g.rule(spatial(graph, node.input(0)) or [None] * len(g.kernel))
    return Kernel(rule.windows, frozenset()) if isinstance(rule, Kernel) else rule


def _global_window(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank or 4
    return Reduce(frozenset(range(1, rank - 1) if node.attr("channels_last", 0) else range(2, rank)))


def _last(node: TorchNode, function: _Function) -> _Function:
    """``function`` of channels first, where the node has its channels last."""
    if not node.attr("channels_last", 0):
        return function
    return lambda x: function(x.movedim(-1, 1)).movedim(1, -1)


@operator("com.microsoft.QLinearAveragePool", kind="pool", window=_pool_window)
def qlinear_average_pool(node: TorchNode) -> Forward:
    """Average pooling of codes."""
    pool = average_pool(node)

    def function(x: Tensor) -> Tensor:
        out = pool(x)
        assert not isinstance(out, tuple)
        return out

    return _between(node, _last(node, function), late=True)


@operator("com.microsoft.QLinearGlobalAveragePool", kind="pool", window=_global_window)
def qlinear_global_average_pool(node: TorchNode) -> Forward:
    """The mean over all space, of codes, taken from their exact sum."""
    import torch

    limits = code_type(node)
    last = bool(node.attr("channels_last", 0))

    def forward(
        x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
    ) -> Tensor:
        axes = tuple(range(1, x.dim() - 1) if last else range(2, x.dim()))
        steps = centred(x, None if x_zero is None else x_zero.reshape(()), torch.float64)
        total = steps.double().sum(axes, keepdim=True).to(y_scale.dtype)
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        return rounded(total * (x_scale.reshape(()) / (y_scale.reshape(()) * count)), _zero(y_zero), limits)

    return forward


def _softmax_window(node: Node, graph: Graph) -> Rule:
    rank, opset = graph.value(node.input(0)).rank, int(node.attr("opset", 13))
    if rank is None:
        return Everything()
    axis = int(node.attr("axis", -1 if opset >= 13 else 1)) % rank
    return Reduce(frozenset({axis} if opset >= 13 else range(axis, rank)))


@operator("com.microsoft.QLinearSoftmax", kind="softmax", window=_softmax_window)
def qlinear_softmax(node: TorchNode) -> Forward:
    """Softmax of codes; onnxruntime takes a whole number of output steps for the sum of 1."""
    import torch

    limits = code_type(node)
    opset = int(node.attr("opset", 13))
    axis = int(node.attr("axis", -1 if opset >= 13 else 1))

    def forward(
        x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None
    ) -> Tensor:
        value = _value(x, x_scale, x_zero, y_scale)
        if opset >= 13:
            shares = torch.softmax(value, dim=axis)
        else:
            shares = torch.softmax(value.flatten(axis % x.dim()), dim=-1).view(x.shape)
        return rounded(shares * (1 / y_scale.reshape(())).floor(), _zero(y_zero), limits)

    return forward


@operator("com.microsoft.QLinearWhere", kind="math", window=pointwise)
def qlinear_where(node: TorchNode) -> Forward:
    """Codes of X where the condition holds, of Y elsewhere, in the steps of Z."""
    import torch

    limits = code_type(node)

    def forward(
        condition: Tensor,
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        y: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
        z_scale: Tensor,
        z_zero: Tensor,
    ) -> Tensor:
        one, other = _value(x, x_scale, x_zero, z_scale), _value(y, y_scale, y_zero, z_scale)
        return rounded(torch.where(condition, one, other) / z_scale.reshape(()), _zero(z_zero), limits)

    return forward


def _join_window(node: Node, _graph: Graph) -> Rule:
    return Join(int(node.attr("axis")))


@operator("com.microsoft.QLinearConcat", kind="concat", window=_join_window)
def qlinear_concat(node: TorchNode) -> Forward:
    """Tensors of codes, each with its scale and zero point, laid end to end in the steps of Y."""
    import torch

    limits = code_type(node)
    axis = int(node.attr("axis"))

    def forward(y_scale: Tensor, y_zero: Tensor, *parts: Tensor) -> Tensor:
        triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        values = [_value(codes, scale, zero, y_scale) for codes, scale, zero in triples]
        return rounded(torch.cat(values, dim=axis) / y_scale.reshape(()), _zero(y_zero), limits)

    return forward
