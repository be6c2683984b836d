"""Audio front ends inside the graph: Fourier transforms, window functions, the mel scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Kernel, Rule
from convlens.ops.given import fixed, numbers, wide
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_FLOAT = 1  # TensorProto.FLOAT


def _axis(node: Node, graph: Graph) -> int | None:
    if node.version < 20:
        return int(node.attr("axis", 1))
    found = fixed(node, graph, 2) if node.input(2) else [-2]
    return None if found is None else int(found[0])


def _dft_window(node: Node, graph: Graph) -> Rule:
    """The transformed axis is read whole, and real and imaginary part are mixed."""
    axis, rank = _axis(node, graph), graph.value(node.input(0)).rank
    if axis is None or rank is None:
        return Everything()
    return Kernel({}, frozenset({axis % rank, rank - 1}))


def _complex(x: Tensor) -> Tensor:
    """Without its last axis, which holds one real number or a real and an imaginary one."""
    import torch

    return x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def _parts(x: Tensor) -> Tensor:
    import torch

    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x.unsqueeze(-1)


def _spectrum(signal: Tensor, length: int, axis: int, onesided: bool) -> Tensor:
    """The transform along ``axis`` of a real or complex signal, cut or padded to ``length``."""
    import torch

    if onesided and not signal.is_complex():
        half: Tensor = torch.fft.rfft(signal, length, axis)
        return half
    found: Tensor = torch.fft.fft(signal, length, axis)
    return found.narrow(axis, 0, length // 2 + 1) if onesided else found


@operator("DFT", kind="spectrum", window=_dft_window)
def discrete_fourier_transform(node: TorchNode) -> Forward:
    """The discrete Fourier transform along an axis, or its inverse; complex numbers as pairs."""
    import torch

    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    size, along = numbers(node, 1), numbers(node, 2)
    default = int(node.attr("axis", 1)) if node.version < 20 else -2

    def forward(*inputs: Tensor) -> Tensor:
        x, wanted = inputs[0], size(inputs)
        axis = (default if node.version < 20 else (along(inputs) or [default])[0]) % x.dim()
        signal = _complex(wide(x))
        whole = 2 * (x.shape[axis] - 1) if inverse and onesided else x.shape[axis]
        length = whole if wanted is None else int(wanted[0])
        if not inverse:
            found = _spectrum(signal, length, axis, onesided)
        elif onesided:
            found = torch.fft.irfft(signal, length, axis)
        else:
            found = torch.fft.ifft(signal, length, axis)
        return _parts(found).to(x.dtype)

    return forward


@operator("STFT", kind="spectrum")
def short_time_fourier_transform(node: TorchNode) -> Forward:
    """The spectrum of every frame: (batch, frames, frequencies, real and imaginary part)."""
    onesided = bool(node.attr("onesided", 1))
    step, size = numbers(node, 1), numbers(node, 3)

    def forward(x: Tensor, _: Tensor | None, window: Tensor | None = None, *rest: Tensor | None) -> Tensor:
        inputs = (x, _, window, *rest)
        hop, wanted = step(inputs), size(inputs)
        assert hop is not None
        whole = x.shape[1] if window is None else window.shape[0]
        length = whole if wanted is None else int(wanted[0])
        if window is not None and len(window) != length:
            raise node.refuse(f"a window of {len(window)} for frames of {length}")
        signal = _complex(wide(x)) if x.dim() == 3 else wide(x)
        frames = signal.unfold(1, length, int(hop[0]))
        weighted = frames if window is None else frames * wide(window)
        return _parts(_spectrum(weighted, length, 2, onesided)).to(x.dtype)

    return forward


def _window(weights: tuple[float, ...]) -> Callable[[int, int], NDArray[np.float64]]:
    """A sum of cosines with alternating signs over ``size`` points of a period of ``period``."""

    def points(size: int, period: int) -> NDArray[np.float64]:
        phase = 2 * np.pi * np.arange(size) / period
        total: NDArray[np.float64] = sum(
            ((-1) ** k * w * np.cos(k * phase) for k, w in enumerate(weights)), np.zeros(size)
        )
        return total

    return points


_WINDOWS = {
    "HannWindow": _window((0.5, 0.5)),
    "HammingWindow": _window((25 / 46, 21 / 46)),
    "BlackmanWindow": _window((0.42, 0.5, 0.08)),
}


@operator(*_WINDOWS, kind="constant")
def window_function(node: TorchNode) -> Forward:
    """The window functions of Hann, Hamming and Blackman."""
    import torch

    dtype = node.dtype(int(node.attr("output_datatype", _FLOAT)))
    length, periodic = numbers(node, 0), bool(node.attr("periodic", 1))

    def forward(*inputs: Tensor) -> Tensor:
        size = int((length(inputs) or [0])[0])
        return torch.from_numpy(_WINDOWS[node.op](size, size if periodic else size - 1)).to(dtype)

    return forward


@operator("MelWeightMatrix", kind="constant")
def mel_weight_matrix(node: TorchNode) -> Forward:
    """Overlapping triangles, evenly spaced on the mel scale: (frequencies, bands)."""
    import torch

    dtype = node.dtype(int(node.attr("output_datatype", _FLOAT)))
    given = [numbers(node, index) for index in range(5)]

    def forward(*inputs: Tensor) -> Tensor:
        bands, length, rate, low, high = (float((read(inputs) or [0])[0]) for read in given)
        return torch.from_numpy(_triangles(int(bands), int(length), rate, low, high)).to(dtype)

    return forward


def _triangles(bands: int, length: int, rate: float, low: float, high: float) -> NDArray[Any]:
    first, last = (2595 * np.log10(1 + edge / 700) for edge in (low, high))
    mel = first + np.arange(bands + 2) * ((last - first) / (bands + 2))
    edges = np.floor((length + 1) * (700 * (10 ** (mel / 2595) - 1)) / rate).astype(int)
    matrix = np.zeros((length // 2 + 1, bands))
    for band in range(bands):
        left, centre, right = edges[band : band + 3]
        if left == centre:
            matrix[centre, band] = 1
        else:
            rising = np.arange(left, centre + 1)
            matrix[rising, band] = (rising - left) / (centre - left)
        if right > centre:
            falling = np.arange(centre, right)
            matrix[falling, band] = (right - falling) / (right - centre)
    return matrix
