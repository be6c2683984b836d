"""Recurrent layers: LSTM, GRU and RNN, in one direction or both.

Layers with the default functions and whole sequences run in torch's own kernels. Everything else
(peepholes, clipping, other functions, sequences of different lengths) runs step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from convlens.graph.graph import Node
from convlens.ops.given import up_to
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_Function: TypeAlias = "Callable[[Tensor], Tensor]"
State: TypeAlias = "tuple[Tensor, ...]"

_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
# alpha and beta of each function, in onnxruntime where the specification names none; a function takes
# from the node's lists only as many as it has
_PARAMETERS: dict[str, tuple[float, ...]] = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01,),
    "thresholdedrelu": (1.0,),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0,),
}
# torch lays the gates of an LSTM out as input, forget, cell, output and those of a GRU as reset,
# update, new; ONNX as input, output, forget, cell and as update, reset, hidden
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


def _macs(_node: Node, inputs: Sequence[tuple[int, ...]], _output: tuple[int, ...]) -> int:
    """Both matrices of every direction, once for every step of every sequence."""
    steps = prod(inputs[0]) // inputs[1][2]
    return steps * (prod(inputs[1]) + prod(inputs[2]))


def _function(name: str, parameters: Sequence[float]) -> _Function | None:
    import torch
    from torch.nn import functional as F

    a, b = (*parameters, 0.0, 0.0)[:2]
    functions: dict[str, _Function] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softsign": F.softsign,
        "softplus": F.softplus,
        "affine": lambda x: a * x + b,
        "leakyrelu": lambda x: torch.where(x >= 0, x, a * x),
        "thresholdedrelu": lambda x: torch.where(x >= a, x, torch.zeros_like(x)),
        "scaledtanh": lambda x: a * torch.tanh(b * x),
        "hardsigmoid": lambda x: (a * x + b).clamp(0, 1),
        "elu": lambda x: torch.where(x >= 0, x, a * torch.expm1(x.clamp(max=0))),
    }
    return functions.get(name)


@dataclass(frozen=True)
class Layer:
    """What the attributes of a recurrent node say; ``kind`` is LSTM, GRU or RNN."""

    kind: str
    directions: int
    backwards: tuple[bool, ...]
    hidden: int
    functions: tuple[tuple[_Function, ...], ...]
    clip: float | None
    batch_first: bool
    reset_after: bool
    coupled: bool
    plain: str | None  # the function of torch's own kernel, None where there is no such kernel

    @classmethod
    def of(cls, node: TorchNode, kind: str) -> Layer:
        """Read from ``node``, or refused."""
        direction = node.attr("direction", "forward")
        backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(direction)
        if backwards is None:
            raise node.refuse(f"direction {direction!r}", "forward, reverse, bidirectional")
        count = len(_DEFAULTS[kind])
        names = [name.lower() for name in node.attr("activations") or _DEFAULTS[kind] * len(backwards)]
        if len(names) != count * len(backwards):
            raise node.refuse(f"{len(names)} activations for {len(backwards)} directions")
        alphas, betas = list(node.attr("activation_alpha") or ()), list(node.attr("activation_beta") or ())
        found = []
        for name in names:
            usual = _PARAMETERS.get(name, ())
            given = [stock.pop(0) if stock else u for stock, u in zip((alphas, betas), usual, strict=False)]
            function = _function(name, given)
            if function is None:
                raise node.refuse(f"activation {name!r}")
            found.append(function)
        clip = node.attr("clip")
        reset_after, coupled = bool(node.attr("linear_before_reset", 0)), bool(node.attr("input_forget", 0))
        usual_names = [name.lower() for name in _DEFAULTS[kind]] * len(backwards)
        plain = "tanh" if names == usual_names else None
        if kind == "RNN" and set(names) == {"relu"}:
            plain = "relu"
        if clip or coupled or (kind == "GRU" and not reset_after):
            plain = None
        return cls(
            kind=kind,
            directions=len(backwards),
            backwards=backwards,
            hidden=int(node.attr("hidden_size", 0)),
            functions=tuple(tuple(found[i : i + count]) for i in range(0, len(found), count)),
            clip=float(clip) if clip else None,
            batch_first=bool(node.attr("layout", 0)),
            reset_after=reset_after,
            coupled=coupled,
            plain=plain,
        )

    def limited(self, x: Tensor) -> Tensor:
        """What goes into a function, inside the bounds that the node gives."""
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


@operator("LSTM", "GRU", "RNN", kind="recurrent", macs=_macs)
def recurrent(node: TorchNode) -> Forward:
    """ONNX LSTM, GRU and RNN: the values of every step, and the last states."""
    import torch

    layer = Layer.of(node, node.op)
    states = 2 if node.op == "LSTM" else 1

    def forward(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        b, lengths, *first, peepholes = up_to(5, rest)
        if layer.batch_first:
            x = x.transpose(0, 1)
            first = [None if s is None else s.transpose(0, 1) for s in first]
        shape = (layer.directions, x.shape[1], r.shape[2])
        start = tuple(x.new_zeros(shape) if s is None else s for s in first[:states])
        if b is None:
            b = x.new_zeros(layer.directions, 2 * w.shape[1])
        if lengths is not None and bool((lengths == len(x)).all()):
            lengths = None
        if layer.plain and lengths is None and peepholes is None and layer.backwards != (True,):
            y, last = _native(layer, x, w, r, b, start)
        else:
            ends: list[State] = []
            ys = []
            for d, back in enumerate(layer.backwards):
                p = None if peepholes is None else peepholes[d]
                step = _steps[layer.kind](layer, layer.functions[d], w[d], r[d], b[d], p)
                one, end = run_steps(x, tuple(s[d] for s in start), step, lengths, back)
                ys.append(one)
                ends.append(end)
            y = torch.stack(ys, dim=1)
            last = tuple(torch.stack(part) for part in zip(*ends, strict=True))
        if layer.batch_first:
            y = y.permute(2, 0, 1, 3)
            last = tuple(s.transpose(0, 1) for s in last)
        return y, *last

    return forward


def _native(
    layer: Layer, x: Tensor, w: Tensor, r: Tensor, b: Tensor, start: State
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """By torch's kernel: the steps (steps, directions, batch, hidden) and the last states."""
    import torch

    def ordered(stacked: Tensor) -> Tensor:
        gates = stacked.chunk(len(_ORDER[layer.kind]))
        return torch.cat([gates[i] for i in _ORDER[layer.kind]])

    weights = []
    for d in range(layer.directions):
        weights += [ordered(part) for part in (w[d], r[d], *b[d].chunk(2))]
    functions = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": getattr(torch, f"rnn_{layer.plain}")}
    state = list(start) if layer.kind == "LSTM" else start[0]
    # training mode without dropout: the same numbers, and CUDA's kernel can then go back as well
    y, *last = functions[layer.kind](x, state, weights, True, 1, 0.0, True, layer.directions == 2, False)
    return y.unflatten(2, (layer.directions, -1)).transpose(1, 2), tuple(last)


def run_steps(
    x: Tensor, state: State, step: Callable[[Tensor, State], State], lengths: Tensor | None, back: bool
) -> tuple[Tensor, State]:
    """One direction, step by step: its values (steps, batch, hidden) and its last state.

    A sequence that has ended keeps its state and gives zeros; backwards it starts at its own end.
    """
    import torch

    steps = torch.arange(len(x), device=x.device)
    running = turned = None
    if lengths is not None:
        lengths = lengths.to(x.device, torch.int64)
        running = (steps[:, None] < lengths).unsqueeze(-1)
        turned = torch.where(running[..., 0], lengths - 1 - steps[:, None], steps[:, None]).unsqueeze(-1)

    def reversed_in_time(values: Tensor) -> Tensor:
        return values.flip(0) if turned is None else values.gather(0, turned.expand(values.shape))

    rows = []
    for at, row in enumerate(reversed_in_time(x) if back else x):
        new = step(row, state)
        if running is not None:
            new = tuple(torch.where(running[at], n, old) for n, old in zip(new, state, strict=True))
            rows.append(torch.where(running[at], new[0], torch.zeros_like(new[0])))
        else:
            rows.append(new[0])
        state = new
    y = torch.stack(rows)
    return reversed_in_time(y) if back else y, state


Step: TypeAlias = "Callable[[Tensor, State], State]"


def _lstm(
    layer: Layer, functions: tuple[_Function, ...], w: Tensor, r: Tensor, b: Tensor, p: Tensor | None
) -> Step:
    return lstm_step(layer, functions, lambda row, hidden: row @ w.t() + hidden @ r.t(), b, p)


def lstm_step(
    layer: Layer,
    functions: tuple[_Function, ...],
    products: Callable[[Tensor, Tensor], Tensor],
    b: Tensor,
    p: Tensor | None,
) -> Step:
    """One step of an LSTM.

    Args:
        layer: the node.
        functions: of the gates, of the cell, of the result.
        products: from a row and the hidden state the sums for all gates, without biases.
        b: the biases of both products, one after the other.
        p: the peepholes.
    """
    f, g, h = functions
    bias = sum(b.chunk(2))
    pi, po, pf = p.chunk(3) if p is not None else (0.0, 0.0, 0.0)

    def step(row: Tensor, state: State) -> State:
        hidden, cell = state
        i, o, forget, c = (products(row, hidden) + bias).chunk(4, dim=-1)
        i = f(layer.limited(i + pi * cell))
        forget = 1 - i if layer.coupled else f(layer.limited(forget + pf * cell))
        cell = forget * cell + i * g(layer.limited(c))
        o = f(layer.limited(o + po * cell))
        return o * h(cell), cell

    return step


def _gru(
    layer: Layer, functions: tuple[_Function, ...], w: Tensor, r: Tensor, b: Tensor, _p: Tensor | None
) -> Step:
    import torch

    f, g = functions
    wb, rb = b.chunk(2)

    def step(row: Tensor, state: State) -> State:
        (hidden,) = state
        z, reset, new = (row @ w.t() + wb).chunk(3, dim=-1)
        rz, rr, rn = r.chunk(3)
        bz, br, bn = rb.chunk(3)
        z = f(layer.limited(z + hidden @ rz.t() + bz))
        reset = f(layer.limited(reset + hidden @ rr.t() + br))
        if layer.reset_after:
            new = new + reset * (hidden @ rn.t() + bn)
        else:
            new = new + (reset * hidden) @ rn.t() + bn
        new = g(layer.limited(new))
        return (torch.lerp(new, hidden, z),)

    return step


def _rnn(
    layer: Layer, functions: tuple[_Function, ...], w: Tensor, r: Tensor, b: Tensor, _p: Tensor | None
) -> Step:
    bias = sum(b.chunk(2))

    def step(row: Tensor, state: State) -> State:
        return (functions[0](layer.limited(row @ w.t() + state[0] @ r.t() + bias)),)

    return step


_steps = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
