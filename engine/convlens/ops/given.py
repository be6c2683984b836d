"""Parameters that are an attribute in one opset and an input in the next, read in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convlens.graph.graph import Graph, Node
from convlens.ops.table import TorchNode

if TYPE_CHECKING:
    from torch import Tensor

Inputs: TypeAlias = "Sequence[Tensor | None]"


def numbers(node: TorchNode, index: int, name: str = "") -> Callable[[Inputs], list[Any] | None]:
    """What reads a list of numbers from attribute ``name`` or else from input ``index``.

    It is called with all inputs of the node; a constant is read beforehand. It gives None where
    the node has neither.
    """
    fixed = node.attr(name) if name else None
    if fixed is None and node.has(index):
        fixed = node.constant(index)
    if fixed is not None:
        values: list[Any] = np.asarray(fixed).reshape(-1).tolist()
        return lambda _inputs: values
    if not node.has(index):
        return lambda _inputs: None

    def read(inputs: Inputs) -> list[Any]:
        given = inputs[index]
        assert given is not None
        values: list[Any] = given.reshape(-1).tolist()
        return values

    return read


def up_to(count: int, given: Inputs) -> list[Tensor | None]:
    """The optional inputs of a node, with None for those that it does not give at its end."""
    return [*given, *[None] * (count - len(given))]


def wide(x: Tensor) -> Tensor:
    """Half precision as single precision: onnxruntime computes sums and spectra in that."""
    import torch

    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def together(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors on one device: shapes are computed on the CPU and may meet constants elsewhere."""
    away = next((t.device for t in tensors if t.device.type != "cpu"), None)
    return tensors if away is None else tuple(t.to(away) for t in tensors)


def computed(node: Node, graph: Graph, *indices: int) -> bool:
    """Whether one of these inputs is given and its numbers are not the same for every image."""
    names = [node.input(i) for i in indices]
    return any(name and graph.known(name) is None for name in names)


def fixed(node: Node, graph: Graph, index: int, name: str = "") -> list[Any] | None:
    """The numbers in attribute ``name`` or input ``index``, None where they are not given or not known."""
    found = node.attr(name) if name else None
    if found is None:
        found = graph.known(node.input(index))
    return None if found is None else np.asarray(found).reshape(-1).tolist()


def sizes(graph: Graph, name: str) -> list[int | None] | None:
    """The shape of a value with None for what is not a number, None where the rank is unknown."""
    shape = graph.value(name).shape
    if shape is None:
        return None
    return [dim if isinstance(dim, int) else None for dim in shape]
