"""Gelu and its kin, with and without a bias in front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sqrt
from typing import TypeAlias

import onnx_ir as ir

from convlens.graph.passes.writer import Writer

Rule: TypeAlias = "Callable[[Writer], None]"

_CUBIC = 0.044715  # of the tanh approximation (Hendrycks and Gimpel 2016)


def _biased(write: Writer) -> ir.Value:
    """Input 0, input 1 added where there is one."""
    value, bias = write.input(0), write.input(1)
    assert value is not None
    return value if bias is None else write.op("Add", [value, bias])


def _gelu(write: Writer) -> None:
    """``x Phi(x)`` by the error function."""
    if write.version < 9:
        return
    like = write.dtype(*write.node.inputs)
    x = _biased(write)
    inner = write.op("Erf", [write.op("Mul", [x, write.scalar(sqrt(0.5), like, "root")])])
    share = write.op("Add", [inner, write.scalar(1.0, like, "one")])
    half = write.op("Mul", [x, write.scalar(0.5, like, "half")])
    write.finish(write.op("Mul", [half, share]))


def _fast_gelu(write: Writer) -> None:
    """The tanh approximation."""
    like = write.dtype(*write.node.inputs)
    x = _biased(write)
    square = write.op("Mul", [x, x])
    cubic = write.op("Add", [write.op("Mul", [square, write.scalar(_CUBIC, like, "cubic")]),
                             write.scalar(1.0, like, "one")])  # fmt: skip
    scaled = write.op("Mul", [write.op("Mul", [x, write.scalar(sqrt(2 / pi), like, "root")]), cubic])
    share = write.op("Add", [write.op("Tanh", [scaled]), write.scalar(1.0, like, "one")])
    half = write.op("Mul", [x, write.scalar(0.5, like, "half")])
    write.finish(write.op("Mul", [half, share]))


def _quick_gelu(write: Writer) -> None:
    """``x sigmoid(alpha x)``."""
    x = write.input(0)
    if x is None:
        return
    scaled = write.op("Mul", [x, write.scalar(write.attr("alpha", 1.702), write.dtype(x), "alpha")])
    write.finish(write.op("Mul", [x, write.op("Sigmoid", [scaled])]))


RULES: Mapping[tuple[str, str], Rule] = {
    ("com.microsoft", "Gelu"): _gelu,
    ("com.microsoft", "BiasGelu"): _gelu,
    ("com.microsoft", "FastGelu"): _fast_gelu,
    ("com.microsoft", "QuickGelu"): _quick_gelu,
}
