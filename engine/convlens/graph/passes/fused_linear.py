"""Convolutions and matrix products that carry an activation, a sum or transpositions in themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import onnx_ir as ir

from convlens.graph.passes.writer import Writer

Rule: TypeAlias = "Callable[[Writer], None]"

_SIMPLE = {
    "Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Selu", "Softplus", "Softsign",
    "ThresholdedRelu", "HardSwish", "Clip",
}  # fmt: skip
_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}


def _conv(write: Writer) -> None:
    """``FusedConv``: a convolution, then the fourth input is added, then the activation."""
    activation = _text(write.attr("activation"))
    if activation and (activation not in _SIMPLE or (activation == "HardSwish" and write.version < 14)):
        return
    numbers = list(write.attr("activation_params") or ())
    names = _PARAMETERS.get(activation, ())
    if len(numbers) not in (0, len(names)):
        return
    found = write.op("Conv", _given(write, 3), _without(write, "activation", "activation_params"))
    extra = write.input(3)
    if extra is not None:
        found = write.op("Add", [found, extra])
    write.finish(_activated(write, found, activation, dict(zip(names, numbers, strict=False))))


def _gemm(write: Writer) -> None:
    """``FusedGemm``: a Gemm, then the activation, whose numbers are attributes of the node."""
    activation = _text(write.attr("activation"))
    if activation and activation not in _SIMPLE:
        return
    prefix = "activation_"
    numbers = {
        name.removeprefix(prefix): attribute.value
        for name, attribute in write.node.attributes.items()
        if name.startswith(prefix)
    }
    carried = [name for name in write.node.attributes if name.startswith("activation")]
    found = write.op("Gemm", _given(write, 3), _without(write, *carried))
    allowed = {"Selu": {"alpha", "gamma"}, "Elu": {"alpha"}, "ThresholdedRelu": {"alpha"}}
    wanted = allowed.get(activation, set(_PARAMETERS.get(activation, ())))
    write.finish(_activated(write, found, activation, {n: v for n, v in numbers.items() if n in wanted}))


def _matmul(write: Writer) -> None:
    """``FusedMatMul``: ``alpha`` times the product, either factor transposed in two ways."""
    sides = [(bool(write.attr(f"trans{s}", 0)), bool(write.attr(f"transBatch{s}", 0))) for s in "AB"]
    if any((last or batch) and write.rank(index) is None for index, (last, batch) in enumerate(sides)):
        return
    factors = []
    for index, (last, batch) in enumerate(sides):
        value, rank = write.input(index), write.rank(index)
        if rank is not None and rank > 1 and (last or batch):
            order = list(range(rank))
            if batch and rank > 2:  # the first axis goes in front of the last one
                order = [*order[1:-1], 0, order[-1]]
            if last:
                order[-2:] = order[:-3:-1]
            value = write.op("Transpose", [value], {"perm": order})
        factors.append(value)
    found = write.op("MatMul", factors)
    alpha = write.attr("alpha", 1.0)
    if alpha != 1.0:
        like = write.dtype(*write.node.inputs, *write.node.outputs)
        found = write.op("Mul", [found, write.scalar(alpha, like, "alpha")])
    write.finish(found)


def _activated(write: Writer, value: ir.Value, op: str, numbers: Mapping[str, Any]) -> ir.Value:
    if not op:
        return value
    if op == "Clip" and write.version >= 11:
        like = write.dtype(*write.node.inputs, *write.node.outputs)
        bounds = [write.scalar(numbers[n], like, n) if n in numbers else None for n in ("min", "max")]
        return write.op("Clip", [value, *bounds])
    return write.op(op, [value], {name: float(number) for name, number in numbers.items()})


def _given(write: Writer, count: int) -> list[ir.Value | None]:
    found = [write.input(index) for index in range(count)]
    while found and found[-1] is None:
        found.pop()
    return found


def _without(write: Writer, *names: str) -> dict[str, Any]:
    return {name: attr for name, attr in write.node.attributes.items() if name not in names}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


RULES: Mapping[tuple[str, str], Rule] = {
    ("com.microsoft", "FusedConv"): _conv,
    ("com.microsoft", "FusedGemm"): _gemm,
    ("com.microsoft", "FusedMatMul"): _matmul,
    ("com.microsoft", "TransposeMatMul"): _matmul,
}
