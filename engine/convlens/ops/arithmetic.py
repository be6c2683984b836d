"""Arithmetic, comparison and logic, number by number under numpy's broadcasting."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from convlens.ops.activations import pointwise
from convlens.ops.given import together
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_UNARY = {
    "Neg": "neg",
    "Abs": "abs",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Exp": "exp",
    "Log": "log",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Asinh": "asinh",
    "Acosh": "acosh",
    "Atanh": "atanh",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Erf": "erf",
    "Not": "logical_not",
    "IsNaN": "isnan",
}

_BINARY = {
    "Equal": "eq",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "Less": "lt",
    "LessOrEqual": "le",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
}


@operator(*_UNARY, kind="math", window=pointwise)
def unary(node: TorchNode) -> Forward:
    """Functions of one number. Round goes to the even neighbour from half way, as in ONNX."""
    import torch

    if node.op == "Sign":  # torch's has no NaN
        return lambda x: torch.where(x != x, x, torch.sign(x))
    function: Forward = getattr(torch, _UNARY[node.op])
    return function


@operator(*_BINARY, kind="math", window=pointwise)
def comparison(node: TorchNode) -> Forward:
    """Comparisons and logic of two tensors."""
    import torch

    function = getattr(torch, _BINARY[node.op])
    return lambda a, b: function(*together(a, b))


@operator("Add", "Sum", kind="add", window=pointwise)
def add(_node: TorchNode) -> Forward:
    """The sum of two tensors, or of any number of them."""
    import torch

    return lambda *xs: reduce(torch.add, together(*xs))


@operator("Sub", kind="add", window=pointwise)
def sub(_node: TorchNode) -> Forward:
    """a - b."""
    import torch

    return lambda a, b: torch.sub(*together(a, b))


@operator("Mul", kind="mul", window=pointwise)
def mul(_node: TorchNode) -> Forward:
    """a b."""
    import torch

    return lambda a, b: torch.mul(*together(a, b))


@operator("Div", kind="mul", window=pointwise)
def div(_node: TorchNode) -> Forward:
    """a / b; integers are divided towards zero."""
    import torch

    def forward(a: Tensor, b: Tensor) -> Tensor:
        a, b = together(a, b)
        return torch.div(a, b, rounding_mode=None if a.dtype.is_floating_point else "trunc")

    return forward


@operator("Pow", kind="math", window=pointwise)
def power(_node: TorchNode) -> Forward:
    """a to the power of b, in the type of a; a power of integers is taken in double precision."""
    import torch

    def forward(a: Tensor, b: Tensor) -> Tensor:
        a, b = together(a, b)
        if not a.dtype.is_floating_point:
            return torch.pow(a.double(), b.double()).to(a.dtype)
        return torch.pow(a, b).to(a.dtype)

    return forward


@operator("Mod", kind="math", window=pointwise)
def modulo(node: TorchNode) -> Forward:
    """The remainder with the sign of the divisor, or with ``fmod`` that of the dividend."""
    import torch

    function = torch.fmod if node.attr("fmod", 0) else torch.remainder
    return lambda a, b: function(*together(a, b))


@operator("Min", "Max", kind="math", window=pointwise)
def extremum(node: TorchNode) -> Forward:
    """The least or the greatest of any number of tensors; equal ones share the gradient evenly."""
    import torch

    function = torch.minimum if node.op == "Min" else torch.maximum
    return lambda *xs: reduce(function, together(*xs))


@operator("Mean", kind="math", window=pointwise)
def mean(_node: TorchNode) -> Forward:
    """The mean of any number of tensors."""
    import torch

    return lambda *xs: reduce(torch.add, together(*xs)) / len(xs)


@operator("Where", kind="math", window=pointwise)
def where(_node: TorchNode) -> Forward:
    """a where the condition holds, b elsewhere."""
    import torch

    return lambda condition, a, b: torch.where(*together(condition, a, b))


@operator("IsInf", kind="math", window=pointwise)
def is_inf(node: TorchNode) -> Forward:
    """Whether a number is infinite, with the signs that the node asks for."""
    import torch

    negative, positive = node.attr("detect_negative", 1), node.attr("detect_positive", 1)

    def forward(x: Tensor) -> Tensor:
        low = torch.isneginf(x) if negative else torch.zeros_like(x, dtype=torch.bool)
        return low | torch.isposinf(x) if positive else low

    return forward
