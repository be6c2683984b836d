"""Linear layers as rules need them: the weights apart from the bias, and what stands behind merged in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from convlens.graph.graph import Graph, Node
    from convlens.instrument.build import Step

BIAS = {"Conv": 2, "ConvTranspose": 2, "DeformConv": 3, "Gemm": 2, "MatMul": -1}
"""Operators with weights of their own, and which of their inputs is the bias."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "DeformConv"})


@dataclass(frozen=True, eq=False)
class Linear:
    """x -> apply(x, weight) + bias, linear in x and in the weight; the bias broadcasts against the output.

    ``per_output`` lays one number an output channel out along the weight's axes; None where it has none.
    """

    weight: Tensor
    bias: Tensor | None
    apply: Callable[[Tensor, Tensor], Tensor]
    per_output: Callable[[Tensor], Tensor] | None
    outputs: tuple[int, ...]

    def merged(self, chain: Sequence[Callable[[Tensor], Tensor]]) -> Linear:
        """This layer and the affine functions of one number a channel behind it as one layer."""
        if not chain:
            return self
        assert self.per_output is not None
        start = torch.zeros(self.outputs, dtype=self.weight.dtype, device=self.weight.device)
        start = start if self.bias is None else start + self.bias
        with torch.enable_grad():
            point = start.detach().requires_grad_()
            end = point
            for function in chain:
                end = function(end)
            (slope,) = torch.autograd.grad(end.sum(), point)
        weight = self.weight * self.per_output(slope.reshape(-1))
        return replace(self, weight=weight, bias=end.detach().reshape(self.outputs))


def linear(step: Step, arguments: Sequence[Tensor | None], at: int) -> Linear:
    """The layer that a node with constant weights is.

    Args:
        step: the node and what computes it.
        arguments: what it is called with.
        at: which of them is the input.
    """
    node = step.node
    if isinstance(step.call, nn.Module):
        return _of_module(step.call)
    other = 1 - at
    place = BIAS[node.op]
    weight = arguments[other]
    assert weight is not None
    bias = arguments[place] if 0 <= place < len(arguments) else None

    def apply(x: Tensor, w: Tensor) -> Tensor:
        given = list(arguments)
        given[at], given[other] = x, w
        if 0 <= place < len(given):
            given[place] = None
        out: Tensor = step.call(*given)
        return out

    if node.op in CONVOLUTIONS:
        ones = [1] * (weight.dim() - 2)
        count = weight.shape[1] * int(node.attr("group", 1)) if node.op == "ConvTranspose" else len(weight)
        bias = None if bias is None else bias.reshape(1, -1, *ones)
        return Linear(weight, bias, apply, _laid(node, weight), (1, count, *ones))
    if bias is not None:
        bias = float(node.attr("beta", 1.0)) * bias
    if at == 1:
        return Linear(weight, bias, apply, None, ())
    turned = bool(node.attr("transB", 0))
    count = weight.shape[0] if turned else weight.shape[-1]
    return Linear(weight, bias, apply, lambda s: s[:, None] if turned else s, (1, count))


def _of_module(module: nn.Module) -> Linear:
    """An ``nn.ConvNd`` or ``nn.Linear``, or a module that holds one and pads for it."""
    stored = dict(module.named_parameters())
    key = next(name for name in stored if name.rpartition(".")[2] == "weight")
    other = next((name for name in stored if name.rpartition(".")[2] == "bias"), None)
    weight = stored[key].detach()
    bias = None if other is None else stored[other].detach()
    none = {} if other is None else {other: torch.zeros_like(stored[other])}

    def apply(x: Tensor, w: Tensor) -> Tensor:
        out: Tensor = functional_call(module, {key: w, **none}, (x,))
        return out

    outputs = (1, len(weight), *[1] * (weight.dim() - 2))
    return Linear(
        weight,
        None if bias is None else bias.reshape(outputs if weight.dim() > 2 else (-1,)),
        apply,
        lambda s: s.reshape(-1, *[1] * (weight.dim() - 1)),
        outputs,
    )


def _laid(node: Node, weight: Tensor) -> Callable[[Tensor], Tensor]:
    if node.op != "ConvTranspose":
        return lambda s: s.reshape(-1, *[1] * (weight.dim() - 1))
    groups = int(node.attr("group", 1))
    inputs, outputs = weight.shape[:2]

    def laid(s: Tensor) -> Tensor:
        rows = s.reshape(groups, 1, outputs).expand(groups, inputs // groups, outputs)
        return rows.reshape(inputs, outputs, *[1] * (weight.dim() - 2))

    return laid


def followers(node: Node, graph: Graph, stop: frozenset[str]) -> tuple[Node, ...]:
    """The affine nodes behind a linear one that multiply and shift its channels, one number each.

    Batch normalisation, and sums and products with constants. The way ends where something else reads
    the value too, or where it is in ``stop``.
    """
    rank, axis = _rank(node, graph)
    chain: list[Node] = []
    value = node.outputs[0]
    while value not in stop and value not in graph.outputs:
        readers = graph.consumers.get(value, ())
        if len(readers) != 1 or not _is_affine(readers[0], value, graph, rank, axis):
            break
        chain.append(readers[0])
        value = readers[0].outputs[0]
    return tuple(chain)


def _rank(node: Node, graph: Graph) -> tuple[int, int]:
    """Of the output, and the axis of its channels."""
    if node.op in CONVOLUTIONS:
        array = graph.constant(node.input(1))
        return (array.ndim if array is not None else 4), 1
    return graph.value(node.outputs[0]).rank or 2, -1


def _is_affine(node: Node, value: str, graph: Graph, rank: int, axis: int) -> bool:
    if node.full_op == "BatchNormalization":
        scale = graph.constant(node.input(1))
        fits = axis == 1 or rank == 2
        return fits and not node.attr("training_mode", 0) and scale is not None and scale.ndim == 1
    if node.full_op not in ("Add", "Sub", "Mul", "Div") or node.inputs.count(value) != 1:
        return False
    if node.op == "Div" and node.input(0) != value:
        return False
    other = graph.constant(next(name for name in node.inputs if name != value))
    if other is None or other.ndim > rank:
        return False
    shape = [1] * (rank - other.ndim) + list(other.shape)
    shape[axis] = 1
    return all(size == 1 for size in shape)


def affine(step: Step, value: str, constants: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """A node of :func:`followers` as a function of the value that it follows."""

    def function(x: Tensor) -> Tensor:
        found = step.call(*(x if name == value else constants[name] for name in step.inputs))
        out: Tensor = found[0] if isinstance(found, tuple) else found
        return out

    return function
