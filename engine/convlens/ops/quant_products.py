"""Convolutions and matrix products of codes.

Sums are taken in double precision, which holds them exactly, whatever their order; what follows is
done in float32 as onnxruntime does it. So the codes come out the same, number by number.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Kernel, Rule
from convlens.ops.geometry import Geometry, spatial, unpadded
from convlens.ops.quant import along, centred, code_type, dynamic, rounded
from convlens.ops.table import Forward, MacsFacet, TorchNode, WindowFacet, operator

if TYPE_CHECKING:
    from torch import Tensor

_FLOAT = 1


def _conv_window(weight: int) -> WindowFacet:
    def window(node: Node, graph: Graph) -> Rule:
        kernel = node.attr("kernel_shape")
        shape = graph.value(node.input(weight)).shape
        if kernel is None and shape is not None and all(isinstance(dim, int) for dim in shape):
            kernel = shape[2:]
        if kernel is None or node.attr("channels_last", 0):
            return Everything()
        return Geometry.of(node, kernel).rule(spatial(graph, node.input(0)) or [None] * len(kernel))

    return window


def _conv_macs(weight: int) -> MacsFacet:
    return lambda _node, inputs, output: prod(output) * prod(inputs[weight][1:])


def _product_window(other: int) -> WindowFacet:
    """A product with a constant matrix mixes the last axis and nothing else."""

    def window(node: Node, graph: Graph) -> Rule:
        rank = graph.value(node.input(0)).rank
        matrix = graph.constant(node.input(other))
        if rank is None or matrix is None or matrix.ndim != 2:
            return Everything()
        return Kernel({}, frozenset({rank - 1}))

    return window


def _product_macs(node: Node, inputs: Any, output: tuple[int, ...]) -> int:
    inner = inputs[0][0 if node.attr("transA", 0) else -1]
    return prod(output) * int(inner)


def _convolved(node: TorchNode, x: Tensor, w: Tensor) -> Tensor:
    """The sum of products of centred codes, exact in double precision."""
    import torch
    from torch.nn import functional as F

    functions: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
    if w.dim() not in functions:
        raise node.refuse(f"a convolution over {w.dim() - 2} axes")
    g = Geometry.of(node, w.shape[2:])
    groups = int(node.attr("group", 1))
    out: Tensor = functions[w.dim()](
        g.pad(x.to(torch.float64)), w, None, stride=g.strides, dilation=g.dilations, groups=groups
    )
    return out


def _weight(w: Tensor, zero: Tensor | None) -> Tensor:
    """Centred codes of filters, whose zero point is one number or one a filter."""
    import torch

    return centred(w, None if zero is None else along(zero, w.dim(), 0), torch.float64)


@operator("ConvInteger", kind="conv", window=_conv_window(1), macs=_conv_macs(1))
def conv_integer(node: TorchNode) -> Forward:
    """The convolution of codes less their zero points: whole numbers of 32 bits."""
    import torch

    def forward(x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
        return _convolved(node, centred(x, x_zero, torch.float64), _weight(w, w_zero))

    return forward


def _codes_crop(node: Node, graph: Graph) -> Crop | None:
    """Padding is the code of zero."""
    zero = graph.constant(node.input(2)) if node.input(2) else np.zeros(1)
    if zero is None or zero.size != 1:
        return None
    return unpadded(float(zero.reshape(())))(node, graph)


@operator(
    "QLinearConv",
    "com.microsoft.QLinearConv",
    kind="conv",
    window=_conv_window(3),
    macs=_conv_macs(3),
    crop=_codes_crop,
)
def qlinear_conv(node: TorchNode) -> Forward:
    """A convolution from codes to codes; the bias is whole numbers of 32 bits."""
    import torch

    limits = code_type(node)
    real = node.dtype(_FLOAT)
    last = bool(node.attr("channels_last", 0))

    def forward(
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        w: Tensor,
        w_scale: Tensor,
        w_zero: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        codes = centred(x, x_zero.reshape(()), torch.float64)
        total = _convolved(node, codes.movedim(-1, 1) if last else codes, _weight(w, w_zero))
        if bias is not None:
            total = total + along(bias, total.dim(), 1).to(total.dtype)
        factor = x_scale.reshape(()) * w_scale / y_scale.reshape(())
        out = rounded(total.to(real) * along(factor, total.dim(), 1), y_zero.reshape(()), limits)
        return out.movedim(1, -1) if last else out

    return forward


def _rows(given: Tensor | None, codes: Tensor) -> Tensor | None:
    """A parameter of the left factor: one number, one a row, or as many axes as the factor."""
    if given is None or given.numel() == 1:
        return None if given is None else given.reshape(())
    return given.unsqueeze(-1) if given.dim() == 1 and codes.dim() > 1 else given


def _columns(given: Tensor | None) -> Tensor | None:
    """A parameter of the right factor: one number, one a column, or as many axes as the factor."""
    return given.reshape(()) if given is not None and given.numel() == 1 else given


def _product(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> Tensor:
    import torch

    left = centred(a, _rows(a_zero, a), torch.float64)
    right = centred(b, _columns(b_zero), torch.float64)
    return left @ right


@operator("MatMulInteger", kind="dense", window=_product_window(1), macs=_product_macs)
def matmul_integer(_node: TorchNode) -> Forward:
    """The matrix product of codes less their zero points: whole numbers of 32 bits."""

    def forward(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        return _product(a, a_zero, b, b_zero)

    return forward


@operator("QLinearMatMul", kind="dense", window=_product_window(3), macs=_product_macs)
def qlinear_matmul(node: TorchNode) -> Forward:
    """A matrix product from codes to codes."""
    limits = code_type(node)
    real = node.dtype(_FLOAT)

    def forward(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
    ) -> Tensor:
        total = _product(a, a_zero, b, b_zero)
        rows, columns, wanted = _rows(a_scale, a), _columns(b_scale), _rows(y_scale, a)
        assert rows is not None
        assert columns is not None
        assert wanted is not None
        zero = _rows(y_zero, a)
        factor = (rows * columns).to(real) / wanted.to(real)
        return rounded(total.to(real) * factor, 0.0 if zero is None else zero, limits)

    return forward


@operator("com.microsoft.QGemm", kind="dense", window=_product_window(3), macs=_product_macs)
def qgemm(node: TorchNode) -> Forward:
    """alpha A B + C of codes; to codes where the node has an output scale, else to real numbers."""
    limits = code_type(node) if node.has(7) else None
    real = node.dtype(_FLOAT)
    alpha = float(np.float32(node.attr("alpha", 1.0)))
    trans_a, trans_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))

    def forward(
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        c: Tensor | None = None,
        y_scale: Tensor | None = None,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        total = _product(a.t() if trans_a else a, a_zero, b.t() if trans_b else b, b_zero)
        if c is not None:
            total = total + c.to(total.dtype)
        factor = alpha * a_scale.reshape(()) * b_scale.reshape(-1)
        if limits is None or y_scale is None:
            return total.to(real) * factor.to(real)
        return rounded(
            total.to(real) * (factor / y_scale.reshape(())).to(real),
            0.0 if y_zero is None else y_zero.reshape(()),
            limits,
        )

    return forward


@operator("com.microsoft.MatMulIntegerToFloat", kind="dense", window=_product_window(1), macs=_product_macs)
def matmul_integer_to_float(node: TorchNode) -> Forward:
    """The matrix product of codes as real numbers, with a bias."""
    real = node.dtype(_FLOAT)

    def forward(
        a: Tensor,
        b: Tensor,
        a_scale: Tensor,
        b_scale: Tensor,
        a_zero: Tensor | None = None,
        b_zero: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        rows, columns = _rows(a_scale, a), _columns(b_scale)
        assert rows is not None
        assert columns is not None
        out = _product(a, a_zero, b, b_zero).to(real) * (rows * columns).to(real)
        return (out if bias is None else out + bias).to(b_scale.dtype)

    return forward


@operator("com.microsoft.DynamicQuantizeMatMul", kind="dense", macs=_product_macs)
def dynamic_quantize_matmul(node: TorchNode) -> Forward:
    """The left factor quantised by its own range, then a matrix product of codes, as real numbers."""
    real = node.dtype(_FLOAT)

    def forward(
        a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        codes, scale, zero = dynamic(a)
        columns = _columns(b_scale)
        assert columns is not None
        out = _product(codes, zero, b, b_zero).to(real) * (scale * columns).to(real)
        return out if bias is None else out + bias

    return forward


@operator("com.microsoft.MatMulNBits", kind="dense", window=_product_window(1))
def matmul_nbits(node: TorchNode) -> Forward:
    """A matrix product with stored weights of 2, 4 or 8 bits, in blocks along the inner axis."""
    import torch
    from torch import nn

    bits, block = int(node.attr("bits", 4)), int(node.attr("block_size", 32))
    inner, outer = int(node.attr("K")), int(node.attr("N"))
    packed, scales = node.constant(1), node.weight(2)
    if bits not in (2, 4, 8) or node.attr("weight_prepacked", 0):
        raise node.refuse(f"weights of {bits} bits{', packed beforehand' if bits in (2, 4, 8) else ''}")
    if int(node.attr("accuracy_level", 0)) == 4:
        raise node.refuse("accuracy level 4, for which onnxruntime rounds the other factor to 8 bits")
    if node.has(4):
        raise node.refuse("an order of groups (g_idx)")
    if packed is None or scales is None or (node.has(3) and node.constant(3) is None):
        raise node.refuse("a weight that is not constant")
    blocks = -(-inner // block)
    codes = _unpacked(packed.reshape(outer, -1), bits)[:, : blocks * block].reshape(outer, blocks, block)
    zeros: Any = 1 << (bits - 1)
    given = node.constant(3) if node.has(3) else None
    if given is not None:
        rows = _unpacked(given.reshape(outer, -1), bits) if given.dtype == np.uint8 else given
        zeros = torch.from_numpy(rows.reshape(outer, -1)[:, :blocks].astype(np.float32)).unsqueeze(-1)
        node.weight(3)
    real = scales.dtype
    matrix = (torch.from_numpy(codes.astype(np.float32)) - zeros).to(real) * scales.reshape(outer, blocks, 1)
    node.weight(1)
    bias = node.weight(5) if node.has(5) else None
    with torch.device("meta"):
        module = nn.Linear(inner, outer, bias=bias is not None)
    weight = matrix.reshape(outer, -1)[:, :inner].contiguous()
    module.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias, requires_grad=False)
    return module


def _unpacked(rows: Any, bits: int) -> Any:
    """Codes of ``bits`` bits out of bytes, the lowest bits first; rows x bytes to rows x codes."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((rows[:, :, None] >> shifts) & ((1 << bits) - 1)).reshape(len(rows), -1)
