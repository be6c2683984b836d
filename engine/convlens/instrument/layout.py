"""How convolutions lie in memory, and the one whose gradient PyTorch computes slowly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NARROW = 4
"""Channels up to which a gradient by matrix product and fold is the faster one on a CPU: the library pads
so few channels to the width of its registers, and computes the padding."""

_COLUMNS = 1 << 26  # bytes that the columns of one image may take


def arrange(graph: nn.Module, device: str = "cpu", halves: bool = False) -> None:
    """Lay the weights of two-dimensional convolutions out as they are computed fastest, in place.

    On a CPU with their channels last, which convolutions and everything between them then hand on; on a
    GPU the same where they run in ``halves`` (half precision), otherwise channels first. Numbers in float64
    stay channels first.

    Args:
        graph: the module whose parts are arranged.
        device: where it runs, ``cpu`` or ``cuda``.
        halves: whether it runs in half precision.
    """
    last = device == "cpu" or halves
    for module in graph.modules():
        if isinstance(module, nn.Conv2d) and module.weight.dtype != torch.float64:
            kind = torch.channels_last if last else torch.contiguous_format
            module.weight.data = module.weight.data.contiguous(memory_format=kind)


def steadied(call: Any) -> Any:
    """``call`` with its two-dimensional convolutions as :class:`SteadyConv2d`; anything else as it is."""
    if type(call) is nn.Conv2d:
        return _steady(call)
    if isinstance(call, nn.Module):
        for name, part in call.named_children():
            if type(part) is nn.Conv2d:
                setattr(call, name, _steady(part))
    return call


def _steady(module: nn.Conv2d) -> nn.Conv2d:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return module
    return NarrowConv2d(module) if NarrowConv2d.fits(module) else SteadyConv2d(module)


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    """A convolution by the same kernel for one image as for several.

    PyTorch takes another one for small or few images, with a larger rounding error: near the kink of a
    rectifier the gradient of an image would hang on what else is in its batch.
    """
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32:
        usual = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
        if usual and not _in_transform(x) and not torch.is_autocast_enabled("cpu"):
            return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def _in_transform(x: Tensor) -> bool:
    """Whether a transform of ``torch.func`` looks at ``x`` as something else."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x)) or bool(
        torch._C._functorch.is_legacy_batchedtensor(x)
    )


class SteadyConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` whose value for an image does not hang on how many are in its batch."""

    def __init__(self, module: nn.Conv2d) -> None:
        """Take over the weights of ``module``."""
        with torch.device("meta"):
            super().__init__(
                module.in_channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                module.groups,
                bias=module.bias is not None,
            )
        self.weight, self.bias = module.weight, module.bias
        self.train(module.training)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() != 4:
            usual: Tensor = super()._conv_forward(x, weight, bias)
            return usual
        return _convolved(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class NarrowConv2d(SteadyConv2d):
    """An ``nn.Conv2d`` of few input channels, such as the first of most nets, with a gradient of its own.

    The gradient with respect to the input is the product of the weights and the signal, folded back to
    where each number of a window came from. Its value is that of ``nn.Conv2d``.
    """

    @staticmethod
    def fits(module: nn.Conv2d) -> bool:
        """Whether this is a faster way for it."""
        return (
            module.in_channels <= _NARROW and module.groups == 1 and module.out_channels > module.in_channels
        )

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
        own = x.requires_grad and torch.is_grad_enabled() and frozen and x.dim() == 4
        halves = torch.is_autocast_enabled(x.device.type)  # its weights and signals would be of two types
        if not own or halves or x.device.type != "cpu" or x.dtype != weight.dtype:
            usual: Tensor = super()._conv_forward(x, weight, bias)
            return usual
        found: Tensor = _Narrow.apply(x, weight, bias, self.stride, self.padding, self.dilation)  # type: ignore[no-untyped-call]
        return found


class _Narrow(torch.autograd.Function):
    """Forward: a convolution. Backward: the signal times the weights, folded."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any
    ) -> Tensor:
        return _convolved(x, weight, bias, stride, padding, dilation, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        x, weight, _, *geometry = inputs
        ctx.size, ctx.geometry = tuple(x.shape[2:]), geometry
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (weight,) = ctx.saved_tensors
        return F.conv2d(tangents[0], weight, None, *ctx.geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        return _folded(grads[0], weight, ctx.size, stride, padding, dilation), None, None, None, None, None


def _folded(
    signal: Tensor, weight: Tensor, size: tuple[int, ...], stride: Any, padding: Any, dilation: Any
) -> Tensor:
    """The signal at the input of a convolution, N x C x ``size``."""
    window = tuple(weight.shape[2:])
    rows = weight.reshape(len(weight), -1).t()
    places = signal.shape[-1] * signal.shape[-2]
    batched = torch._C._functorch.is_batchedtensor(signal)
    if torch.is_grad_enabled() or batched:
        columns = torch.matmul(rows, signal.flatten(2))
        return F.fold(columns, size, window, dilation, padding, stride)
    large = rows.shape[0] * places * rows.element_size() > _COLUMNS
    if large or torch._C._functorch.is_legacy_batchedtensor(signal):
        n, channels = len(signal), weight.shape[1]
        like = signal.new_empty(()).expand(n, channels, *size)
        options = (list(stride), list(padding), list(dilation), False, [0, 0], 1, [True, False, False])
        found: Tensor = torch.ops.aten.convolution_backward(signal, like, weight, None, *options)[0]
        return found
    # one image at a time, so that the columns stay in the cache and in the same memory
    found = signal.new_empty(len(signal), weight.shape[1], *size)
    columns = signal.new_empty(rows.shape[0], places)
    for image, own in zip(found, signal, strict=True):
        torch.mm(rows, own.flatten(1), out=columns)
        image.copy_(F.fold(columns, size, window, dilation, padding, stride))
    return found
