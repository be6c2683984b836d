"""What a rectifier does to the signal on its way back.

Let y = f(x) be the rectifier, f'(x) its slope and g the signal that arrives from above.

=========== ============================= ===========================================================
rule        sends back                    source
=========== ============================= ===========================================================
plain       g f'(x)                       the gradient (Simonyan, Vedaldi & Zisserman 2014)
deconvnet   max(g, 0)                     Zeiler & Fergus 2014, section 2.1: rectify the signal itself
guided      max(g, 0) max(f'(x), 0)       Springenberg et al. 2015, section 3.4: both
redirected  g f'(x), max(g, 0) where      Olah et al. 2017, appendix: opens closed units for the search of
            |f'(x)| < 1e-6                a picture, never for an explanation
=========== ============================= ===========================================================

What that means for each kind of rectifier:

- **Relu**: f' is 1 where x > 0 and 0 elsewhere, which gives the rules as published.
- **Clip from 0 (ReLU6)**: f' is 0 above the upper bound too, so plain and guided stop where the unit
  is saturated; deconvnet knows no bound and passes, as the paper's rectifier would.
- **LeakyRelu, PRelu**: f' is the slope where x < 0. guided keeps that leak as long as it is positive,
  and stops it where a learnt slope is negative.
- **Elu, Selu, Celu, Softplus**: f' falls smoothly to 0; guided weights the positive signal by it.
- **Gelu, SiLU (also written as Sigmoid x Mul), HardSwish, Mish**: f' is negative on a stretch below
  zero, where the unit falls as its input rises. plain passes the sign change on, guided cuts it off
  (otherwise a negative signal could arise between two rectifiers), deconvnet ignores it. A gate that
  exporters write in several operators is one rectifier: the signal enters at the product and leaves
  at the gate's input, and nothing flows through the gate's own branch.
- **QuantizeLinear with DequantizeLinear, from 0** (quantised models, whose tools remove a Relu in front
  of codes that begin at 0): f' is 1 where the codes are not saturated. Where an operator works on
  codes throughout (QLinearConv and its kin), the clip at 0 is a part of it: rules do not see it, plain
  gradients stop there all the same, and the Result says how many there are.

A positive constant factor right behind a gate counts as a part of it (GELU's 1/2 is one), so
deconvnet does not multiply by it.

Between the rectifiers nothing changes: convolutions send the signal through their transposed
filters, max pooling through its switches (to the position of each maximum).

Where ``deconvnet`` is exactly Zeiler and Fergus's reconstruction and where it is not:

- Filters and rectifiers agree exactly, and so do switches where pooling windows do not overlap.
- With **overlapping pooling** one position can be the maximum of several windows. The gradient adds
  their signals; unpooling as in the paper's figure 1 writes each to the same place, and the last
  one stands. The two differ there, and only there; :mod:`convlens.instrument.unpooling` does the latter.
- **Biases** play no part on the way back, here as in the paper's transposed filters. They do
  decide the switches, since those are recorded on the way forward.
- The signal starts as 1 at the chosen unit, where the paper starts with the unit's own activation:
  the picture is the same up to that factor. (``deconvnet`` starts with the activation.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convlens.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

_SHUT = 1e-6  # slopes below it pass nothing that counts


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its name, one line for people, and what it sends back for signal g and slope f'(x).

    ``ramp`` is the same for a Relu, from the signal and the Relu's value, where that takes fewer steps.
    """

    name: str
    summary: str
    backward: Callable[[Tensor, Tensor], Tensor]
    ramp: Callable[[Tensor, Tensor], Tensor] | None = None


def _plain(signal: Tensor, slope: Tensor) -> Tensor:
    return signal * slope


def _deconvnet(signal: Tensor, _slope: Tensor) -> Tensor:
    return signal.clamp(min=0)


def _guided(signal: Tensor, slope: Tensor) -> Tensor:
    return signal.clamp(min=0) * slope.clamp(min=0)


def _guided_ramp(signal: Tensor, value: Tensor) -> Tensor:
    import torch

    found: Tensor = torch.ops.aten.threshold_backward(signal.clamp(min=0), value, 0)
    return found


def _redirected(signal: Tensor, slope: Tensor) -> Tensor:
    return signal * slope + signal.clamp(min=0) * (slope.abs() < _SHUT)


RULES = {
    rule.name: rule
    for rule in (
        Rule("plain", "the gradient itself", _plain),
        Rule("deconvnet", "only positive signal, wherever the unit was", _deconvnet, _deconvnet),
        Rule("guided", "only positive signal, only through units that fired", _guided, _guided_ramp),
        Rule("redirected", "the gradient, and positive signal through closed units", _redirected),
    )
}


def redirected(rows: Tensor) -> Rule:
    """``redirected`` for the images where ``rows`` is true, N, and the gradient itself for the others."""

    def backward(signal: Tensor, slope: Tensor) -> Tensor:
        own = rows.to(signal.device).repeat_interleave(max(1, len(signal) // len(rows)))
        shape = (-1, *(1 for _ in signal.shape[1:]))
        return _plain(signal, slope) + signal.clamp(min=0) * (slope.abs() < _SHUT) * own.view(shape)

    return Rule("redirected", RULES["redirected"].summary, backward)


def rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        ParameterError: there is none.
    """
    if name not in RULES:
        raise ParameterError(f"no rule {name!r}; known: {', '.join(RULES)}")
    return RULES[name]
