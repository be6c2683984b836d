"""Quantising and dequantising, and the rounding that every quantised operator ends in.

Codes are real numbers that are whole (see :mod:`convlens.ops.quantcodes`). Rounding goes to the even
neighbour from half way and is done in float32, as onnxruntime does it; on the way back rounding
passes the gradient on as it is, and saturation stops it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Each, Kernel, Rule, Scalar
from convlens.ops.activations import pointwise
from convlens.ops.quantcodes import LIMITS
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor, dtype

_UNROUNDED: ContextVar[bool] = ContextVar("convlens_unrounded", default=False)
_FLOAT = 1  # ONNX's number for float32


@contextmanager
def unrounded() -> Iterator[None]:
    """Inside the block quantised operators leave their result as it is before rounding."""
    token = _UNROUNDED.set(True)
    try:
        yield
    finally:
        _UNROUNDED.reset(token)


def code_type(node: TorchNode, output: int = 0) -> tuple[int, int]:
    """Smallest and largest code of what the node writes.

    Raises:
        UnsupportedError: not an integer type, or one that is not known.
    """
    kind = node.written(output)
    if kind not in LIMITS:
        raise node.refuse(f"quantising to {kind or 'a type that the file does not say'}")
    return LIMITS[kind]


def rounded(steps: Tensor, zero: Tensor | float, limits: tuple[int, int], late: bool = False) -> Tensor:
    """Codes from numbers in steps: rounded, moved by the zero point, saturated.

    Args:
        steps: the numbers, in quantisation steps.
        zero: the zero point, in any type.
        limits: smallest and largest code.
        late: add the zero point before rounding; half way cases then go to the even code.
    """
    import torch

    low, high = limits
    zero = zero.to(steps.dtype) if isinstance(zero, torch.Tensor) else zero
    inside = _clamped(steps, low - zero, high - zero)
    exact = inside + zero
    if _UNROUNDED.get():
        return exact
    if late:
        return exact + (exact.round() - exact).detach()
    return inside + (inside.round() - inside).detach() + zero


def _clamped(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """``x`` between two numbers, or two tensors that broadcast; the gradient passes at the bounds."""
    import torch

    if not isinstance(low, torch.Tensor) or not isinstance(high, torch.Tensor):
        return x.clamp(low, high)  # type: ignore[arg-type]  # two numbers
    inside = ((x >= low) & (x <= high)).detach()
    bound = torch.where(x < low, low.expand_as(x), high.expand_as(x))
    return torch.where(inside | x.isnan(), x, bound)


def centred(codes: Tensor, zero: Tensor | None, real: dtype) -> Tensor:
    """Codes less their zero point, exactly, in the precision ``real`` (sums of 32 bits in double)."""
    import torch

    wide = torch.float64 if codes.dtype in (torch.int32, torch.int64, torch.float64) else real
    codes = codes.to(wide)
    return codes if zero is None else codes - zero.detach().to(wide)


def along(given: Tensor, rank: int, axis: int) -> Tensor:
    """A parameter that is one number, or a list along ``axis``, made to broadcast."""
    if given.numel() == 1:
        return given.reshape(())
    shape = [1] * rank
    shape[axis] = given.numel()
    return given.reshape(shape)


def _spread(given: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point for every number of ``x``: one for all, one an index, or one a block."""
    if block and given.dim() == x.dim():
        return given.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    return along(given, x.dim(), axis)


def _axis(node: TorchNode, x: Tensor) -> int:
    return int(node.attr("axis", 1)) % max(x.dim(), 1)


@operator("QuantizeLinear", "com.microsoft.QuantizeLinear", kind="quantise", window=pointwise)
def quantize_linear(node: TorchNode) -> Forward:
    """saturate(round(x / scale) + zero point): per tensor, along an axis, or in blocks along one."""
    limits = code_type(node)
    real = node.dtype(_FLOAT)
    block = int(node.attr("block_size", 0))
    if node.attr("precision", 0) not in (0, _FLOAT):
        raise node.refuse("a division in a precision other than float32")

    def forward(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        axis = _axis(node, x)
        steps = x.to(real) / _spread(scale, x, axis, block).to(real)
        return rounded(steps, 0.0 if zero is None else _spread(zero, x, axis, block), limits)

    return forward


@operator("DequantizeLinear", "com.microsoft.DequantizeLinear", kind="dequantise", window=pointwise)
def dequantize_linear(node: TorchNode) -> Forward:
    """(x - zero point) scale: per tensor, along an axis, or in blocks along one."""
    real = node.dtype(_FLOAT)
    block = int(node.attr("block_size", 0))
    wanted = node.dtype(node.attr("output_dtype")) if node.attr("output_dtype", 0) else None
    kind = node.read(0)
    if kind is not None and kind not in (*LIMITS, "int32"):
        raise node.refuse(f"codes of type {kind}")

    def forward(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        axis = _axis(node, x)
        steps = centred(x, None if zero is None else _spread(zero, x, axis, block), real)
        values = steps.to(real) * _spread(scale, x, axis, block).to(real)
        return values.to(scale.dtype if wanted is None else wanted)

    return forward


def dynamic(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of 8 bits, their scale and zero point, chosen so that all of ``x`` and 0 fit.

    Scale and zero point are taken as they are: no gradient goes through them. The numbers' own gradient
    passes everywhere: the largest and the smallest are cut by half a step at most, where the zero point
    was rounded, which is no saturation.
    """
    import torch

    with torch.no_grad():
        low, high = x.min().clamp(max=0), x.max().clamp(min=0)
        scale = torch.where(high == low, torch.ones_like(high), (high - low) / 255)
        exact = (-low / scale).clamp(0, 255)
        zero = exact.round()
    steps = x / scale + zero
    codes = rounded(x.detach() / scale, zero, (0, 255))
    return steps + (codes - steps).detach(), scale, exact if _UNROUNDED.get() else zero


def _dynamic_window(_node: Node, _graph: Graph) -> Rule:
    """Codes keep their places; their step and zero point come from all numbers together."""
    return Each((Kernel({}, frozenset(), loose=True), Scalar(), Scalar()))


@operator("DynamicQuantizeLinear", kind="quantise", window=_dynamic_window)
def dynamic_quantize_linear(node: TorchNode) -> Forward:
    """Codes with a scale that the numbers themselves give, all images of a batch together."""
    outputs = node.outputs

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        return dynamic(x)[:outputs]

    return forward
