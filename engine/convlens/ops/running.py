"""What runs along a sequence: causal convolution and linear attention. And determinants."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Reduce, Rule
from convlens.ops.given import wide
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _matrix_window(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank
    return Everything() if rank is None else Reduce(frozenset({rank - 2, rank - 1}), False)


@operator("com.microsoft.Inverse", kind="math")
def inverse(_node: TorchNode) -> Forward:
    """The inverse of each matrix on the last two axes."""
    import torch

    def forward(x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.inv(wide(x))
        return found.to(x.dtype)

    return forward


@operator("Det", kind="reduce", window=_matrix_window)
def determinant(_node: TorchNode) -> Forward:
    """The determinant of each matrix on the last two axes."""
    import torch

    def forward(x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.det(wide(x))
        return found.to(x.dtype)

    return forward


def _causal_macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    return prod(output) * inputs[1][-1]


@operator("CausalConvWithState", kind="conv", macs=_causal_macs)
def causal_conv(node: TorchNode) -> Forward:
    """A depthwise convolution that looks back only; what it has seen last is kept as a state."""
    import torch
    from torch.nn import functional as F

    activation = node.attr("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise node.refuse(f"activation {activation!r}", "none, silu, swish")

    def forward(
        x: Tensor, w: Tensor, bias: Tensor | None = None, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        back = w.shape[-1] - 1
        before = x.new_zeros(*x.shape[:2], back) if past is None else past
        joined = torch.cat([before, x], dim=2)
        out = F.conv1d(joined, w, bias, groups=x.shape[1])
        return F.silu(out) if activation != "none" else out, joined[:, :, joined.shape[2] - back :]

    return forward


@operator("LinearAttention", kind="attention")
def linear_attention(node: TorchNode) -> Forward:
    """Attention through a matrix that is updated at every step (Yang et al. 2024)."""
    import torch

    queries, shared = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
    rule, given = node.attr("update_rule", "gated_delta"), float(node.attr("scale", 0.0))
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise node.refuse(f"update rule {rule!r}")

    def split(x: Tensor, heads: int) -> Tensor:
        return x.reshape(*x.shape[:2], heads, -1)

    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        past: Tensor | None = None,
        decay: Tensor | None = None,
        beta: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        q, k, v = split(q, queries), split(k, shared), split(v, shared)
        scale = given or 1 / sqrt(q.shape[-1])
        state = q.new_zeros(len(q), shared, k.shape[-1], v.shape[-1]) if past is None else past
        gates = None if decay is None or "gated" not in rule else split(decay, shared).exp()
        rates = None
        if beta is not None and "delta" in rule:
            rates = beta.unsqueeze(-1)
        rows = []
        for t in range(q.shape[1]):
            key, value = k[:, t].unsqueeze(-1), v[:, t].unsqueeze(-2)
            if gates is not None:
                state = state * gates[:, t].unsqueeze(-1)
            if rates is not None:
                value = rates[:, t].unsqueeze(-1) * (value - key.transpose(-1, -2) @ state)
            state = state + key * value
            read = state.repeat_interleave(queries // shared, dim=1)
            rows.append((scale * q[:, t].unsqueeze(-2) @ read).flatten(1))
        return torch.stack(rows, dim=1), state

    return forward
