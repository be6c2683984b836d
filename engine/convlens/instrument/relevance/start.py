"""Where relevance starts: the values that a target's score is computed from, and how much each has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.instrument.relevance.rules import quotient

if TYPE_CHECKING:
    from convlens.instrument.build import TorchGraph
    from convlens.targets import Target


def used(
    graph: TorchGraph, feeds: Mapping[str, Any], target: Target, names: Sequence[str], count: int
) -> list[str]:
    """The values that the target's score is computed from; a function may look at some outputs only."""
    if len(names) == 1:
        return list(names)
    with torch.no_grad():
        given = {name: graph.working(value, name) for name, value in feeds.items()}
        values = graph.values(given, names)
    return list(begin(target, own(target, values, count))[1])


def own(target: Target, values: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """What belongs to the images, without the copies that fill a batch."""
    return {name: value if target.alone else value[:count] for name, value in values.items()}


def totals(top: Mapping[str, Tensor], count: int) -> Tensor:
    """The relevance of each image."""
    return torch.stack([value.reshape(count, -1).sum(dim=1) for value in top.values()]).sum(dim=0)


def begin(target: Target, values: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The score of each image, and the relevance of what it is computed from: value times slope.

    Of a product that is each factor's share counted once for every factor, which is set right. The
    relevance of a weighted sum is that of its terms, weighted.
    """
    if target.terms:
        return _added(target, values)
    with torch.enable_grad():
        leaves = {name: value.detach() for name, value in values.items()}
        for leaf in leaves.values():
            if leaf.dtype.is_floating_point:
                leaf.requires_grad_()
        score = target.score(leaves)
        if not score.requires_grad:
            raise TargetError(f"{target.text} has no gradient; choose a value before the step that cuts it")
        able = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        slopes: Sequence[Tensor | None]
        slopes = torch.autograd.grad(score.sum(), list(able.values()), allow_unused=True)
    found = {}
    for (name, leaf), slope in zip(able.items(), slopes, strict=True):
        if slope is not None:
            found[name] = leaf.detach() * slope
    if target.look is not None:
        share = quotient(score.detach(), totals(found, len(score)))
        found = {
            name: (value.reshape(len(score), -1) * share[:, None]).reshape(value.shape)
            for name, value in found.items()
        }
    return score.detach(), found


def _added(target: Target, values: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The terms of a sum, each by itself, weighted."""
    with torch.no_grad():
        score = target.score(values)
    found: dict[str, Tensor] = {}
    for weight, term in target.terms:
        for name, value in begin(term, {name: values[name] for name in term.needs(())})[1].items():
            found[name] = found[name] + weight * value if name in found else weight * value
    return score, found
