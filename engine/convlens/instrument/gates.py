"""The one place where a rule enters the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convlens.instrument.rules import Rule


class _Gate(torch.autograd.Function):
    """Forward: the rectifier's own value. Backward: what the rule makes of signal and slope."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor, slope: Tensor, rule: Rule) -> Tensor:
        del source
        ctx.rule = rule
        ctx.save_for_backward(slope)
        return value.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return ctx.rule.backward(grads[0], slope), None, None, None


class _Ramp(torch.autograd.Function):
    """A Relu, whose slope its own value tells: nothing is kept that the next layer does not keep too."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor, rule: Rule) -> Tensor:
        del source
        ctx.rule = rule
        found = value.detach()
        ctx.save_for_backward(found)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (value,) = ctx.saved_tensors
        rule: Rule = ctx.rule
        if rule.ramp is not None:
            return rule.ramp(grads[0], value), None, None
        return rule.backward(grads[0], (value > 0).to(grads[0].dtype)), None, None


def opened(source: Tensor, value: Tensor, rule: Rule) -> Tensor:
    """``value``, the Relu of ``source``, with ``rule`` in place of the derivative on the way back."""
    if not source.requires_grad:
        return value
    gate: Tensor = _Ramp.apply(source, value, rule)  # type: ignore[no-untyped-call]
    return gate


def gated(source: Tensor, value: Tensor, rule: Rule, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``value`` = ``function(source)``, with ``rule`` in place of the derivative on the way back."""
    if not source.requires_grad:
        return value
    with torch.enable_grad():
        point = source.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(point).sum(), point)
    gate: Tensor = _Gate.apply(source, value.detach(), slope, rule)  # type: ignore[no-untyped-call]
    return gate
