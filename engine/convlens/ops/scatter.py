"""Writing into a tensor by position, and positions written out."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Permute, Rule
from convlens.ops.indexing import positive
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_REDUCTIONS = {"none": "", "add": "sum", "mul": "prod", "min": "amin", "max": "amax"}


def _reduction(node: TorchNode) -> str:
    name = node.attr("reduction", "none")
    if name not in _REDUCTIONS:
        raise node.refuse(f"reduction {name!r}")
    return _REDUCTIONS[name]


def _write(x: Tensor, axis: int, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    updates = updates.to(x.device)
    if not reduction:
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, reduction, include_self=True)


@operator("ScatterElements", "Scatter", kind="index")
def scatter_elements(node: TorchNode) -> Forward:
    """The input with some numbers along an axis replaced, or combined with others."""
    import torch

    axis, reduction = int(node.attr("axis", 0)), _reduction(node)

    def forward(x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
        at = positive(places.to(x.device, torch.int64), x.shape[axis])
        return _write(x, axis, at, updates, reduction)

    return forward


@operator("ScatterND", kind="index")
def scatter_nd(node: TorchNode) -> Forward:
    """The input with numbers or slices replaced at positions on its first axes."""
    import torch

    reduction = _reduction(node)

    def forward(x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
        places = places.to(x.device)
        depth = places.shape[-1]
        flat = torch.zeros(places.shape[:-1], dtype=torch.int64, device=x.device)
        for axis in range(depth):
            flat = flat * x.shape[axis] + positive(places[..., axis], x.shape[axis])
        width = prod(x.shape[depth:])
        data = x.reshape(prod(x.shape[:depth]), width)
        rows = flat.reshape(-1, 1).expand(-1, width)
        out = _write(data, 0, rows, updates.reshape(rows.shape), reduction)
        return out.reshape(x.shape)

    return forward


def _one_hot_window(node: Node, graph: Graph) -> Rule:
    """Each position becomes a row of its own along a new axis."""
    rank = graph.value(node.input(0)).rank
    if rank is None:
        return Everything()
    order = list(range(rank))
    order.insert(int(node.attr("axis", -1)) % (rank + 1), -1)
    return Permute(tuple(order))


@operator("OneHot", kind="index", window=_one_hot_window)
def one_hot(node: TorchNode) -> Forward:
    """One value at each position along a new axis, another value elsewhere."""
    import torch

    axis = int(node.attr("axis", -1))

    def forward(places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth.reshape(()).item())
        at = axis % (places.dim() + 1)
        wanted = positive(places, count).unsqueeze(at)
        steps = torch.arange(count, device=places.device).to(places.dtype)
        hit = wanted == steps.view(-1, *[1] * (places.dim() - at))
        off, on = values.to(places.device).unbind()
        return torch.where(hit, on, off)

    return forward
