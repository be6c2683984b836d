"""Attacks on linear models with a softmax, written plainly in numpy and float64, from the papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from reference import nets

Floats = NDArray[np.float64]


class Linear:
    """``weight`` x + ``bias``: rows of ``weight`` are classes."""

    def __init__(self, seed: int, classes: int = 5, inputs: int = 12, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.weight: Floats = rng.normal(0, scale, (classes, inputs)).astype(np.float32).astype(np.float64)
        self.bias: Floats = rng.normal(0, scale, classes).astype(np.float32).astype(np.float64)

    def onnx(self, end: str = "") -> onnx.ModelProto:
        stored: dict[str, Any] = {
            "w": self.weight.astype(np.float32),
            "b": self.bias.astype(np.float32),
        }
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["scores"], transB=1)]
        if end:
            nodes.append(helper.make_node(end, ["scores"], ["out"]))
        dims = {"x": ["N", self.weight.shape[1]]}
        return nets.model_of(nodes, dims, ["out" if end else "scores"], stored)

    def scores(self, x: Floats) -> Floats:
        return np.asarray(self.weight @ x + self.bias)

    def seen(self, x: Floats) -> int:
        return int(self.scores(x).argmax())

    def loss(self, x: Floats, own: int, toward: int | None) -> float:
        """What is driven up: -log p of the class to leave, or log p of the class to reach."""
        z = self.scores(x)
        logs = z - z.max() - np.log(np.exp(z - z.max()).sum())
        return float(-logs[own] if toward is None else logs[toward])

    def slope(self, x: Floats, own: int, toward: int | None) -> Floats:
        z = self.scores(x)
        p = np.exp(z - z.max())
        p /= p.sum()
        mean = sum(p[k] * self.weight[k] for k in range(len(p)))
        return np.asarray(mean - self.weight[own] if toward is None else self.weight[toward] - mean)

    def nearest_border(self, x: Floats, order: str, toward: int | None = None) -> tuple[float, int]:
        """Length of the smallest change onto a border, and the class behind it.

        Moosavi-Dezfooli et al. 2016, equations 7 and 8; towards one class it must beat every other one, and
        for two rivals the larger of the two distances is a bound from below that is met where one rules.
        """
        z, own = self.scores(x), self.seen(x)
        found = []
        for k in range(len(z)) if toward is None else [toward]:
            if k == own:
                continue
            w = self.weight[k] - self.weight[own]
            size = float(np.sqrt((w * w).sum())) if order == "l2" else float(np.abs(w).sum())
            found.append((float(z[own] - z[k]) / size, k))
        return min(found)


def pgd(
    model: Linear, x: Floats, norm: str, epsilon: float, steps: int, size: float, toward: int | None
) -> list[Floats]:
    """Every point on the way, the start first (Madry et al. 2018, section 2.1)."""
    own, at = model.seen(x), x.copy()
    points = [at.copy()]
    for _ in range(steps):
        slope = model.slope(at, own, toward)
        if norm == "linf":
            at = at + size * np.sign(slope)
            at = np.array([min(max(at[i], x[i] - epsilon), x[i] + epsilon) for i in range(len(x))])
        else:
            at = at + size * slope / np.sqrt((slope**2).sum())
            length = float(np.sqrt(((at - x) ** 2).sum()))
            at = x + (at - x) * min(1.0, epsilon / length)
        points.append(at.copy())
    return points
