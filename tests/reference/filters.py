"""The numbers that tell a healthy filter, by summing over a dense Fourier transform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rms(kernel: NDArray[np.floating]) -> float:
    """Root mean square of one filter's weights."""
    total, count = 0.0, 0
    for weight in kernel.reshape(-1):
        total += float(weight) ** 2
        count += 1
    return (total / count) ** 0.5


def high_share(kernel: NDArray[np.floating], cutoff: float, points: int) -> float:
    """Share of one filter's energy at frequencies with any coordinate above ``cutoff`` cycles per pixel.

    The kernel (inputs x its spatial axes) is padded with zeros to ``points`` along every spatial axis,
    and the squares of its transform are summed. A point stands for the cell around it, and the cell that
    the cutoff cuts counts in part, so that the error falls with the square of the cells' width.
    """
    axes = tuple(range(1, kernel.ndim))
    transform = np.fft.fftn(kernel.astype(np.float64), s=(points,) * len(axes), axes=axes)
    energy = (np.abs(transform) ** 2).sum(axis=0)
    inside = np.array([_inside(abs(f), 0.5 / points, cutoff) for f in np.fft.fftfreq(points)])
    low = energy.copy()
    for axis in range(energy.ndim):
        shape = [1] * energy.ndim
        shape[axis] = points
        low = low * inside.reshape(shape)
    total = float(energy.sum())
    return 1.0 - float(low.sum()) / total if total > 0 else 0.0


def _inside(frequency: float, half: float, cutoff: float) -> float:
    """How much of the cell around ``frequency`` lies below the cutoff."""
    return min(1.0, max(0.0, (cutoff - (frequency - half)) / (2 * half)))
