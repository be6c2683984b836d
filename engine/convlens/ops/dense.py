"""Fully connected layers and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Kernel, Rule
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _matmul_window(node: Node, graph: Graph) -> Rule:
    """A product with a constant matrix mixes the last axis and nothing else."""
    rank = graph.value(node.input(0)).rank
    matrix = graph.value(node.input(1)).rank
    if rank is None or matrix != 2 or graph.constant(node.input(1)) is None:
        return Everything()
    return Kernel({}, frozenset({rank - 1}))


def _gemm_macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    inner = prod(inputs[1]) // output[-1]
    return prod(output) * inner


def _matmul_macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    return prod(output) * inputs[0][-1]


@operator("Gemm", kind="dense", macs=_gemm_macs)
def gemm(node: TorchNode) -> Forward:
    """alpha A B + beta C; with constant B it is an ``nn.Linear``."""
    import torch
    from torch import nn

    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    trans_a, trans_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    bias = node.constant(2) if node.has(2) else None
    fits = bias is None or (bias.ndim == 1) or (bias.ndim == 2 and bias.shape[0] == 1)
    stored = node.constant(1)
    real = stored is not None and stored.dtype.kind == "f"
    if real and not trans_a and (not node.has(2) or bias is not None) and fits:
        b = node.weight(1)
        assert b is not None
        matrix = b if trans_b else b.t()
        if alpha != 1.0:
            matrix = alpha * matrix
        with torch.device("meta"):
            module = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bias is not None)
        module.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)
        if bias is not None:
            c = node.weight(2)
            assert c is not None
            full = (beta * c.reshape(-1)).expand(matrix.shape[0]).contiguous()
            module.bias = nn.Parameter(full, requires_grad=False)
        return module

    def forward(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        out = alpha * ((a.t() if trans_a else a) @ (b.t() if trans_b else b))
        return out if c is None else out + beta * c

    return forward


@operator("MatMul", kind="dense", window=_matmul_window, macs=_matmul_macs)
def matmul(node: TorchNode) -> Forward:
    """numpy's matmul; with a constant matrix on the right it is an ``nn.Linear``."""
    import torch
    from torch import nn

    array = node.constant(1)
    if array is not None and array.ndim == 2 and array.dtype.kind == "f":
        matrix = node.weight(1)
        assert matrix is not None
        with torch.device("meta"):
            module = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False)
        module.weight = nn.Parameter(matrix.t().contiguous(), requires_grad=False)
        return module
    return torch.matmul


@operator("Einsum", kind="dense")
def einsum(node: TorchNode) -> Forward:
    """Einstein summation."""
    import torch

    equation = node.attr("equation")
    return lambda *xs: torch.einsum(equation, *xs)
