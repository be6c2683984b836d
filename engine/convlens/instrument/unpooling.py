"""Unpooling in which the last window stands, where a gradient would add up what windows share."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convlens.instrument.session import Session
from convlens.ops.pool import switches

if TYPE_CHECKING:
    from convlens.instrument.session import Tap


def last_stands(session: Session) -> None:
    """Make every max pooling of the session's graph write its signals to their switches one by one.

    Windows are visited in reading order; of several that share a maximum the last one's signal stands,
    and the others' are lost (Zeiler & Fergus 2014, section 2.1: each signal is placed, none is added).
    """
    for node in session.graph.graph.nodes:
        if node.full_op == "MaxPool":
            before, after = session.tap(node.inputs[0]), session.tap(node.outputs[0])
            after.replace(partial(_placed, node, before))


def _placed(node: Any, before: Tap, value: Tensor) -> Tensor:
    source = before.value
    if source is None or not source.requires_grad:
        return value
    placed: Tensor = _Placed.apply(source, value.detach(), switches(node, source.detach()))  # type: ignore[no-untyped-call]
    return placed


class _Placed(torch.autograd.Function):
    """Forward: the pooled value. Backward: each signal to its switch, the last one of each place."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor, places: Tensor) -> Tensor:
        ctx.size = source.shape
        ctx.save_for_backward(places)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        planes = prod(ctx.size[:2])
        flat, signal = places.reshape(planes, -1), grads[0].reshape(planes, -1)
        order = torch.arange(flat.shape[1], device=flat.device).expand_as(flat)
        last = torch.full((planes, prod(ctx.size[2:])), -1, dtype=order.dtype, device=flat.device)
        last = last.scatter_reduce(1, flat, order, "amax")
        found = signal.new_zeros(last.shape)
        stands = last.gather(1, flat) == order
        found = found.scatter_add(1, flat, torch.where(stands, signal, 0.0))
        return found.reshape(ctx.size), None, None
