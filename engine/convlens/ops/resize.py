"""Resizing: each output position is a weighted sum of a few input positions, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Kernel, Rule, Window
from convlens.ops.given import computed, fixed, numbers, sizes
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 16  # denominators of scales whose window is worked out without the size of the input
_F = np.float32


class _Described(Protocol):
    @property
    def op(self) -> str: ...

    @property
    def version(self) -> int: ...

    def attr(self, name: str, default: Any = None) -> Any: ...


def _old(node: _Described) -> bool:
    """Whether the node has scales as its second input or attribute and no choice of coordinates."""
    return node.op == "Upsample" or node.version < 11


@dataclass(frozen=True)
class Taps:
    """Along one axis: what each output position reads, with what weight, and where it lies outside."""

    places: NDArray[np.int64]
    weights: NDArray[np.float32]
    outside: NDArray[np.bool_]


@dataclass(frozen=True)
class Sampling:
    """How a node samples, read from its attributes. Computed in float32, as onnxruntime does."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude: bool

    @classmethod
    def of(cls, node: _Described) -> Sampling:
        """Read from a Resize or an Upsample; both are asymmetric and round down before opset 11."""
        old = _old(node)
        mode = node.attr("mode", "nearest")
        return cls(
            mode="linear" if mode == "bilinear" else mode,
            coordinates="asymmetric" if old else node.attr("coordinate_transformation_mode", "half_pixel"),
            rounding="simple" if old else node.attr("nearest_mode", "round_prefer_floor"),
            cubic=float(node.attr("cubic_coeff_a", -0.75)),
            exclude=bool(node.attr("exclude_outside", 0)),
        )

    def origin(self, size: int, out: int, scale: np.float32, roi: tuple[float, float]) -> NDArray[np.float32]:
        """Where each output position lies in the input."""
        x = np.arange(out, dtype=_F)
        half = _F(0.5)
        if self.coordinates == "asymmetric":
            return x / scale
        if self.coordinates == "align_corners":
            return x * _F(size - 1) / _F(out - 1) if out > 1 else x * 0
        if self.coordinates == "tf_half_pixel_for_nn":
            return (x + half) / scale
        if self.coordinates == "tf_crop_and_resize":
            start, end, last = _F(roi[0]), _F(roi[1]), _F(size - 1)
            if out == 1:
                return x + half * (start + end) * last
            return start * last + x * (end - start) * last / _F(out - 1)
        if self.coordinates == "pytorch_half_pixel" and out == 1:
            return x
        found = (x + half) / scale - half
        if self.coordinates == "half_pixel_symmetric":
            found += _F(size / 2) * (1 - _F(out) / (scale * _F(size)))
        return found

    def taps(self, size: int, out: int, scale: np.float32, roi: tuple[float, float] = (0.0, 1.0)) -> Taps:
        """What each of ``out`` positions reads of ``size`` positions."""
        x = self.origin(size, out, scale, roi)
        outside = (x < 0) | (x > size - 1)
        if self.mode == "nearest":
            places = self._round(x, bool(scale < 1))[:, None]
            weights = np.ones(places.shape, _F)
        elif self.mode == "linear":
            inside = x.clip(0, size - 1)
            low = np.floor(inside)
            places = np.stack([low, low + 1], axis=1)
            weights = np.stack([1 - (inside - low), inside - low], axis=1)
        else:
            low, a = np.floor(x), _F(self.cubic)
            places = low[:, None] + np.arange(-1, 3, dtype=_F)
            d = np.abs(x[:, None] - places)
            near = ((a + 2) * d - (a + 3)) * d * d + 1
            far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
            weights = np.where(d <= 1, near, far)
            if self.exclude:
                weights = np.where((places < 0) | (places > size - 1), _F(0), weights)
                weights /= weights.sum(axis=1, keepdims=True)
        return Taps(places.astype(np.int64).clip(0, size - 1), weights.astype(_F), outside)

    def _round(self, x: NDArray[np.float32], shrinking: bool) -> NDArray[np.float32]:
        low = np.floor(x)
        up = {
            "round_prefer_floor": x - low > _F(0.5),
            "round_prefer_ceil": x - low >= _F(0.5),
            "ceil": x > low,
            "simple": (x > low) & shrinking,
        }.get(self.rounding, np.False_)
        return low + up

    def window(self, size: int | None, out: int | None, scale: float | None) -> Window | None:
        """What any output position reads; None where it cannot be told without the sizes."""
        if size is not None and out is not None:
            step = Fraction(size, out)
            reach = self._reach(size, out, scale if scale is not None else out / size, step)
            return Window(step, *reach)
        if scale is None or self.coordinates in ("align_corners", "half_pixel_symmetric"):
            return None
        step = 1 / Fraction(scale).limit_denominator(_LARGEST)
        if abs(float(1 / step) - scale) > 1e-6 * scale:
            return None
        spans = [
            self._reach(n, int(_F(n) * _F(scale)), scale, step)
            for n in range(1, 4 * max(step.numerator, step.denominator) + 8)
            if int(_F(n) * _F(scale)) > 0
        ]
        return Window(step, min(first for first, _ in spans), max(last for _, last in spans))

    def _reach(self, size: int, out: int, scale: float, step: Fraction) -> tuple[Fraction, Fraction]:
        taps = self.taps(size, out, _F(scale))
        first = np.argmax(taps.weights != 0, axis=1)[:, None]
        spare = np.take_along_axis(taps.places, first, axis=1)
        read = np.where(taps.weights != 0, taps.places, spare)
        rows = list(enumerate(zip(read.min(axis=1).tolist(), read.max(axis=1).tolist(), strict=True)))
        return (
            min(low - i * step for i, (low, _) in rows),
            max(high - i * step for i, (_, high) in rows),
        )


def _window(node: Node, graph: Graph) -> Rule:
    before, after = sizes(graph, node.input(0)), sizes(graph, node.outputs[0])
    sampling = Sampling.of(node)
    position = 1 if _old(node) else 2
    if before is None or computed(node, graph, position):
        return Everything()
    stretched = node.attr("keep_aspect_ratio_policy", "stretch") == "stretch"
    if sampling.coordinates == "tf_crop_and_resize" or not stretched:
        return Everything()
    rank = len(before)
    after = after if after is not None and len(after) == rank else [None] * rank
    given = fixed(node, graph, position, "scales") or []
    axes = [axis % rank for axis in node.attr("axes") or range(rank)]
    scales = dict(zip(axes, given, strict=True)) if given else {}
    windows = {}
    for axis in axes:
        size, out, scale = before[axis], after[axis], scales.get(axis)
        if scale == 1 or (scale is None and size is not None and size == out):
            continue
        window = sampling.window(size, out, scale)
        if window is None:
            return Everything()
        windows[axis] = window
    return Kernel(windows, frozenset())


@operator("Upsample", "Resize", kind="resize", window=_window)
def resize(node: TorchNode) -> Forward:
    """ONNX Resize and Upsample: nearest, linear and cubic, with every choice of coordinates."""
    import torch

    sampling = Sampling.of(node)
    _check(node, sampling)
    factors = numbers(node, 1 if _old(node) else 2, "scales")
    regions = numbers(node, 1)
    targets = numbers(node, 3)
    outer = float(node.attr("extrapolation_value", 0.0))
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    crop = sampling.coordinates == "tf_crop_and_resize"

    def forward(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        axes = [axis % x.dim() for axis in node.attr("axes") or range(x.dim())]
        before = [x.shape[axis] for axis in axes]
        scales, after = _plan(before, factors(inputs), targets(inputs), policy)
        roi = (regions(inputs) if crop else None) or [0.0] * len(axes) + [1.0] * len(axes)
        if sampling.mode != "nearest" and not x.dtype.is_floating_point:
            raise node.refuse(f"resize of {x.dtype} with interpolation")
        far = None
        for i, axis in enumerate(axes):
            span = (roi[i], roi[len(axes) + i])
            if scales[i] == 1 and before[i] == after[i]:
                if crop and span != (0.0, 1.0):  # the standard crops here, onnxruntime does not
                    raise node.refuse("resize with a crop of an axis that keeps its size")
                continue
            taps = sampling.taps(before[i], after[i], scales[i], span)
            x = _sample(x, axis, taps, sampling.mode == "nearest")
            if crop:
                here = torch.as_tensor(taps.outside, device=x.device)
                here = here.view(-1, *[1] * (x.dim() - 1 - axis))
                far = here if far is None else far | here
        return x if far is None else x.masked_fill(far, outer)

    return forward


def _check(node: TorchNode, sampling: Sampling) -> None:
    known = {
        "asymmetric",
        "align_corners",
        "tf_half_pixel_for_nn",
        "tf_crop_and_resize",
        "half_pixel",
        "pytorch_half_pixel",
        "half_pixel_symmetric",
    }
    roundings = {"simple", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"}
    if sampling.mode not in ("nearest", "linear", "cubic"):
        raise node.refuse(f"resize with mode {sampling.mode!r}")
    if sampling.coordinates not in known:
        raise node.refuse(f"resize with coordinates {sampling.coordinates!r}")
    if sampling.rounding not in roundings:
        raise node.refuse(f"resize with nearest mode {sampling.rounding!r}")
    if node.attr("antialias", 0):
        raise node.refuse("resize with antialiasing")


def _plan(
    before: Sequence[int],
    factors: Sequence[float] | None,
    targets: Sequence[int] | None,
    policy: str,
) -> tuple[list[np.float32], list[int]]:
    """Scale and size of each axis, from the scales or from the sizes that the node asks for."""
    if factors:
        scales = [_F(factor) for factor in factors]
        return scales, [int(_F(size) * scale) for size, scale in zip(before, scales, strict=True)]
    assert targets is not None
    after = list(targets)
    scales = [_F(out) / _F(size) for size, out in zip(before, after, strict=True)]
    if policy != "stretch":
        scale = min(scales) if policy == "not_larger" else max(scales)
        scales = [scale] * len(scales)
        after = [int(np.floor(scale * _F(size) + _F(0.5))) for size in before]
    return scales, after


def _sample(x: Tensor, axis: int, taps: Taps, nearest: bool) -> Tensor:
    import torch

    if nearest:
        return x.index_select(axis, torch.as_tensor(taps.places[:, 0], device=x.device))
    matrix = np.zeros((x.shape[axis], len(taps.places)), np.float32)
    np.add.at(matrix, (taps.places, np.arange(len(taps.places))[:, None]), taps.weights)
    weight = torch.as_tensor(matrix, device=x.device).to(x.dtype)
    return (x.movedim(axis, -1) @ weight).movedim(-1, axis)
