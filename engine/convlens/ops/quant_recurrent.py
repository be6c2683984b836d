"""LSTM layers whose weights are codes, and whose inputs and states are quantised as they come."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from convlens.graph.graph import Node
from convlens.ops.given import up_to
from convlens.ops.quant import centred, dynamic
from convlens.ops.recurrent import Layer, State, lstm_step, run_steps
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor, dtype

_FLOAT = 1


def _macs(_node: Node, inputs: Sequence[tuple[int, ...]], _output: tuple[int, ...]) -> int:
    """Both matrices of every direction, once for every step of every sequence."""
    return prod(inputs[0]) // inputs[1][1] * (prod(inputs[1]) + prod(inputs[2]))


@operator("com.microsoft.DynamicQuantizeLSTM", kind="recurrent", macs=_macs)
def dynamic_quantize_lstm(node: TorchNode) -> Forward:
    """onnxruntime's LSTM of 8 bits: one range for the whole input, one a step for the states of all rows.

    Its matrices stand the other way round than in ONNX's LSTM: (directions, inputs, 4 hidden).
    """
    import torch

    layer = Layer.of(node, "LSTM")
    real = node.dtype(_FLOAT)
    if node.has(4):
        raise node.refuse("sequences of different lengths")

    def forward(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        b, _, h, c, peepholes, w_scale, w_zero, r_scale, r_zero = up_to(9, rest)
        assert w_scale is not None
        assert r_scale is not None
        shape = (layer.directions, x.shape[1], r.shape[1])
        start = tuple(x.new_zeros(shape) if s is None else s for s in (h, c))
        b = x.new_zeros(layer.directions, 2 * w.shape[2]) if b is None else b
        ys: list[Tensor] = []
        ends: list[State] = []
        for d, back in enumerate(layer.backwards):
            inward = _Product(w[d], w_scale[d], None if w_zero is None else w_zero[d], real)
            onward = _Product(r[d], r_scale[d], None if r_zero is None else r_zero[d], real)
            step = lstm_step(
                layer,
                layer.functions[d],
                lambda row, hidden, onward=onward: row + onward(hidden),  # type: ignore[misc]
                b[d],
                None if peepholes is None else peepholes[d],
            )
            y, end = run_steps(inward(x), tuple(s[d] for s in start), step, None, back)
            ys.append(y)
            ends.append(end)
        return torch.stack(ys, dim=1), *(torch.stack(part) for part in zip(*ends, strict=True))

    return forward


class _Product:
    """A matrix product with a factor that is quantised by its own range."""

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor | None, real: dtype) -> None:
        import torch

        self.matrix = centred(codes, zero, torch.float64)
        self.scale, self.real = scale, real

    def __call__(self, x: Tensor) -> Tensor:
        """The product, its sums exact, its scales applied in float32."""
        codes, scale, zero = dynamic(x)
        total = centred(codes, zero, self.matrix.dtype).to(self.matrix.dtype) @ self.matrix
        return total.to(self.real) * (scale * self.scale).to(self.real)
