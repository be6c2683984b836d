"""Passes in 16 bits: which values stay in float32 on the way forward, and how a gradient keeps its range.

A float16 ends at 65504 and loses bits below 6e-5, where gradients often lie. The score of each row is
multiplied by a power of two before the backward and its gradient divided by the same after it, so that
nothing is rounded by that (the idea of loss scaling: Micikevicius et al. 2018, "Mixed precision training",
section 3.2). The power is one for each row, found from that row's gradient alone, so that a result depends on
no other row and no earlier batch. bfloat16 has the range of float32 and needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convlens.errors import ParameterError
from convlens.graph.graph import Graph
from convlens.precision import FULL

SENSITIVE = frozenset(
    {
        *("Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Reciprocal", "Softplus", "CumSum", "Mean"),
        *("ReduceSum", "ReduceSumSquare", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd"),
        *("ReduceLogSum", "ReduceLogSumExp", "LayerNormalization", "GroupNormalization"),
        *("InstanceNormalization", "MeanVarianceNormalization", "LpNormalization", "LRN", "Resize"),
        *("RMSNormalization", "GlobalAveragePool", "GlobalLpPool", "Loop", "Scan", "If"),
    }
)
"""Operators that read float32 on every device: exponentials, long sums and what divides by them. Autocast
does so for most of them on CUDA, and for few on a CPU; branches and loops may hold any of them."""

_FIRST = 2.0**8
_LEAST, _MOST, _MIDDLE = 2.0**-8, 2.0**13, 0
"""Between which the largest number of a row's scaled gradient is to lie, and the power of two to aim at."""
_TURNS = 5


def autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    """The context of a forward in ``precision``; that of float32 does nothing.

    Raises:
        ParameterError: PyTorch cannot do it on this device.
    """
    if precision == FULL:
        return nullcontext()
    if device == "cuda" and precision == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise ParameterError("precision is 'bfloat16', which this GPU does not have; use float16 or float32")
    return torch.autocast(device, getattr(torch, precision))


def widened(
    graph: Graph, wanted: Collection[str], edits: Mapping[str, Callable[[Tensor], Tensor]]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """``edits``, and after them float32 for what is ``wanted`` and for what a sensitive operator reads."""
    found = {**edits, **dict.fromkeys(_read(graph).union(wanted), wide)}
    for name in found.keys() & edits.keys():
        if found[name] is wide:
            found[name] = partial(_both, edits[name])
    return found


def _both(edit: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    return wide(edit(value))


def _read(graph: Graph) -> frozenset[str]:
    names = {name for node in graph.nodes if node.op in SENSITIVE for name in node.reads if name}
    last = [graph.producers[name] for name in graph.outputs if name in graph.producers]
    names |= {name for node in last if node.op == "Sigmoid" for name in node.inputs if name}
    return frozenset(names)


def wide(value: Tensor) -> Tensor:
    """``value``, in float32 where it is a tensor of 16 bits."""
    halved = getattr(value, "dtype", None) in (torch.float16, torch.bfloat16)  # a list has no type
    return value.float() if halved else value


def scaled(found: Tensor, x: Tensor, places: Sequence[int]) -> tuple[Tensor | None, NDArray[np.bool_]]:
    """The gradient at ``x`` of scores computed in float16, and which rows' left the range all the same.

    Nothing is read back before a backward is through.

    Args:
        found: scores, one a row.
        x: where the gradient is taken.
        places: the row of ``x`` that each score is of; images do not mix.
    """
    at = torch.as_tensor(list(places), device=x.device)
    scale = found.new_full(found.shape, _FIRST)
    for turn in range(_TURNS):
        gradients: tuple[Any, ...] = torch.autograd.grad(
            found, x, scale, allow_unused=True, retain_graph=True
        )
        signal = gradients[0]
        if signal is None:
            return None, np.zeros(len(found), bool)
        peak = signal[at].flatten(1).abs().amax(dim=1).float()
        good = (peak >= _LEAST) & (peak <= _MOST)  # neither for what is no number
        if turn == _TURNS - 1 or bool(good.all()):
            break
        moved = torch.exp2(_MIDDLE - peak.clamp(min=2.0**-24).log2().round())
        moved = torch.where(peak.isfinite(), moved, 2.0**-6)
        scale = torch.where(good, scale, scale * moved)
    lost = ~good | ~found.isfinite()  # what overflowed on the way forward
    signal = signal.float()
    own = scale.view(-1, *[1] * (signal.ndim - 1))
    return signal.index_copy(0, at, signal[at] / own), lost.cpu().numpy()
