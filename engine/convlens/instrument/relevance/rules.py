"""How the relevance of a linear layer's outputs is shared among its inputs, and which layer gets which rule.

Let z_j = sum_i x_i w_ij + b_j, and R_j the relevance of output j. Each rule gives R_i = sum_j s_ij R_j with
shares s_ij; x+ = max(x, 0), x- = min(x, 0), and likewise for w and b.

=========== =================================================== =========================================
rule        share s_ij                                          source
=========== =================================================== =========================================
epsilon     x w / (z + epsilon sign z)                          Bach et al. 2015, eq. 58
alpha-beta  alpha p / (sum p + b+) - beta n / (sum n + b-),     Bach et al. 2015, eq. 60; alpha - beta = 1
            p = x+ w+ + x- w-, n = x+ w- + x- w+
gamma       where z > 0: (x w + gamma p) / (z + gamma sum ..),  Montavon et al. 2019, section 10.2.1; for
            where z < 0: the same with n in the place of p      inputs of both signs Andéol et al. 2021
box         (x w - l w+ - h w-) / sum                           z-B rule: Montavon et al. 2017, section 4.2,
                                                                for inputs from l to h
flat        1 / number of inputs                                Lapuschkin et al. 2019, methods
w-square    w^2 / sum w^2                                       Montavon et al. 2017, section 4.1
=========== =================================================== =========================================

The bias takes its share, which nobody gets. Nothing is added to a denominator but the epsilon rule's own
epsilon; where a denominator is 0 its relevance is lost.

The composites are those of Montavon et al. 2019 and Kohlbrenner et al. 2020, named as zennit names them
(Anders et al. 2021): one rule for dense layers, another for convolutions, a third for the first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from convlens.instrument.relevance.linear import Linear

_NOTHING = 1e-30
"""A denominator below it counts as 0: float32 cannot divide by much less."""


@dataclass(frozen=True)
class Settings:
    """The numbers that rules take: ``beta`` is ``alpha`` - 1.

    ``bias`` says whether biases take a share in the alpha-beta rule, as published; without it their share
    goes to the inputs, and what the layer got arrives.
    """

    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    bias: bool = True


@dataclass(frozen=True)
class Box:
    """The least and the largest number that could stand at each place of a layer's input."""

    low: Tensor
    high: Tensor


Rule: TypeAlias = Callable[["Linear", Tensor, Tensor, Settings, "Box | None"], Tensor]
"""(layer, its input, the relevance of its output, numbers, box) -> the relevance of its input."""


def quotient(relevance: Tensor, total: Tensor) -> Tensor:
    """``relevance / total``, and 0 where ``total`` is nothing."""
    found: Tensor = (relevance / total).masked_fill_(total.abs() <= _NOTHING, 0.0)
    return found


def spread(
    layer: Linear,
    terms: Sequence[tuple[Tensor, Tensor]],
    bias: Tensor | None,
    relevance: Tensor,
    epsilon: float = 0.0,
) -> Tensor:
    """Relevance shared in proportion to the products of ``terms`` (inputs, weights), which are added up."""
    with torch.enable_grad():
        given = [x.detach().requires_grad_() for x, _ in terms]
        parts = [layer.apply(x, weight) for x, (_, weight) in zip(given, terms, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
    z = total.detach() if bias is None else total.detach() + bias
    if epsilon:
        z = torch.where(z < 0, z - epsilon, z + epsilon)
    slopes = torch.autograd.grad(total, given, quotient(relevance, z))
    shares = [x.detach() * slope for x, slope in zip(given, slopes, strict=True)]
    for other in shares[1:]:
        shares[0] += other
    return shares[0]


def _up(value: Tensor) -> Tensor:
    return value.clamp(min=0)


def _down(value: Tensor) -> Tensor:
    return value.clamp(max=0)


def _signed(x: Tensor, rising: Tensor, falling: Tensor) -> list[tuple[Tensor, Tensor]]:
    """``rising`` weights for the positive inputs, ``falling`` ones for the negative, if there are any."""
    if not bool((x < 0).any()):
        return [(x, rising)]
    return [(_up(x), rising), (_down(x), falling)]


def _epsilon(layer: Linear, x: Tensor, relevance: Tensor, numbers: Settings, _box: Box | None) -> Tensor:
    return spread(layer, [(x, layer.weight)], layer.bias, relevance, numbers.epsilon)


def _alpha_beta(alpha: float | None = None) -> Rule:
    def rule(layer: Linear, x: Tensor, relevance: Tensor, numbers: Settings, _box: Box | None) -> Tensor:
        share = numbers.alpha if alpha is None else alpha
        up, down, bias = _up(layer.weight), _down(layer.weight), layer.bias if numbers.bias else None
        found = spread(layer, _signed(x, up, down), None if bias is None else _up(bias), relevance)
        if share == 1:
            return found
        against = spread(layer, _signed(x, down, up), None if bias is None else _down(bias), relevance)
        return share * found - (share - 1) * against

    return rule


def _gamma(layer: Linear, x: Tensor, relevance: Tensor, numbers: Settings, _box: Box | None) -> Tensor:
    weight, bias, gamma = layer.weight, layer.bias, numbers.gamma
    z = layer.apply(x, weight) if bias is None else layer.apply(x, weight) + bias
    up, down = weight + gamma * _up(weight), weight + gamma * _down(weight)
    rising = torch.where(z > 0, relevance, 0.0)
    falling = torch.where(z < 0, relevance, 0.0)
    found = spread(layer, _signed(x, up, down), None if bias is None else bias + gamma * _up(bias), rising)
    if not bool(falling.any()):
        return found
    against = None if bias is None else bias + gamma * _down(bias)
    return found + spread(layer, _signed(x, down, up), against, falling)


def _box(layer: Linear, x: Tensor, relevance: Tensor, _numbers: Settings, box: Box | None) -> Tensor:
    assert box is not None
    weight = layer.weight
    terms = [(x, weight), (box.low.expand_as(x), -_up(weight)), (box.high.expand_as(x), -_down(weight))]
    return spread(layer, terms, None, relevance)


def _flat(layer: Linear, x: Tensor, relevance: Tensor, _numbers: Settings, _box: Box | None) -> Tensor:
    return spread(layer, [(torch.ones_like(x), torch.ones_like(layer.weight))], None, relevance)


def _w_square(layer: Linear, x: Tensor, relevance: Tensor, _numbers: Settings, _box: Box | None) -> Tensor:
    return spread(layer, [(torch.ones_like(x), layer.weight.square())], None, relevance)


RULES: dict[str, Rule] = {
    "epsilon": _epsilon,
    "plus": _alpha_beta(1.0),
    "alpha2-beta1": _alpha_beta(2.0),
    "alpha-beta": _alpha_beta(),
    "gamma": _gamma,
    "box": _box,
    "flat": _flat,
    "w-square": _w_square,
}

CompositeName: TypeAlias = Literal[
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-gamma-box",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "epsilon",
    "gamma",
    "alpha-beta",
]
InputRule: TypeAlias = Literal["composite", "none", "box", "flat", "w-square"]


@dataclass(frozen=True)
class Composite:
    """Names of the rules for dense layers, convolutions and the first layer (None: as the others)."""

    dense: str
    conv: str
    first: str | None = None

    def at_input(self, rule: InputRule) -> Composite:
        """The same with another rule for the first layer, unless ``rule`` is ``composite``."""
        if rule == "composite":
            return self
        return Composite(self.dense, self.conv, None if rule == "none" else rule)


COMPOSITES: dict[CompositeName, Composite] = {
    "epsilon-plus": Composite("epsilon", "plus"),
    "epsilon-plus-flat": Composite("epsilon", "plus", "flat"),
    "epsilon-gamma-box": Composite("epsilon", "gamma", "box"),
    "epsilon-alpha2-beta1": Composite("epsilon", "alpha2-beta1"),
    "epsilon-alpha2-beta1-flat": Composite("epsilon", "alpha2-beta1", "flat"),
    "epsilon": Composite("epsilon", "epsilon"),
    "gamma": Composite("gamma", "gamma"),
    "alpha-beta": Composite("alpha-beta", "alpha-beta"),
}
