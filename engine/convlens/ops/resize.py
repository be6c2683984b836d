"""Resizing: each output position is a weighted sum of a few input positions, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Kernel, Rule
from convlens.ops.coordinates import Sampling, Taps, old_form
from convlens.ops.given import computed, fixed, numbers, sizes
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_F = np.float32
_DENSE = 1 << 20  # entries up to which an axis is resized by a matrix, above by a sum of gathers
_FIXED_POINT = 1024
_SAMPLE = 64  # a size at which sampling is looked at where the size is not known


def _window(node: Node, graph: Graph) -> Rule:
    before, after = sizes(graph, node.input(0)), sizes(graph, node.outputs[0])
    sampling = Sampling.of(node)
    position = 1 if old_form(node) else 2
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
    wanted = None if given or old_form(node) else fixed(node, graph, 3)
    shapes = (graph.value(name).shape or () for name in (node.input(0), node.outputs[0]))
    named = zip(*shapes, strict=False)
    kept = {axis for axis, (a, b) in enumerate(named) if not given and isinstance(a, str) and a == b}
    outs = dict(zip(axes, wanted, strict=True)) if wanted else {}
    windows = {}
    for axis in axes:
        size, out, scale = before[axis], outs.get(axis, after[axis]), scales.get(axis)
        if scale == 1 or (scale is None and size is not None and size == out) or axis in kept:
            continue
        window = sampling.window(size, out, scale)
        if window is None:
            return Everything()
        windows[axis] = window
    return Kernel(windows, frozenset())


def _crop(node: Node, graph: Graph) -> Crop | None:
    """By whole factors, where each group of outputs reads its surroundings as all others do."""
    rule, sampling = _window(node, graph), Sampling.of(node)
    before = sizes(graph, node.input(0))
    near = sampling.coordinates in ("asymmetric", "half_pixel", "pytorch_half_pixel")
    near = near or (sampling.mode == "nearest" and sampling.coordinates == "tf_half_pixel_for_nn")
    if not isinstance(rule, Kernel) or before is None or not near or sampling.antialias or sampling.exclude:
        return None
    given = fixed(node, graph, 1 if old_form(node) else 2, "scales") or []
    axes = [axis % len(before) for axis in node.attr("axes") or range(len(before))]
    asked = dict(zip(axes, given, strict=True)) if given else {}
    spread, scales = {}, [1.0] * len(before)
    for axis, window in rule.windows.items():
        factor = window.stride.denominator
        if window.stride.numerator != 1 or factor == 1 or asked.get(axis, factor) != factor:
            return None
        one = sampling.spread(before[axis] or _SAMPLE, factor)
        if one is None:
            return None
        spread[axis], scales[axis] = one, float(factor)
    return Crop(
        0.0, repeats=True, spread=spread, scales=() if old_form(node) else tuple(scales[a] for a in axes)
    )


@operator("Upsample", "Resize", kind="resize", window=_window, crop=_crop)
def resize(node: TorchNode) -> Forward:
    """ONNX Resize and Upsample: nearest, linear and cubic, with every choice of coordinates.

    Where the standard and onnxruntime differ, this is onnxruntime: a crop leaves an axis whose scale
    is 1 as it is, and integers are resized in its own arithmetic.
    """
    sampling = Sampling.of(node)
    _check(node, sampling)
    factors = numbers(node, 1 if old_form(node) else 2, "scales")
    regions = numbers(node, 1)
    targets = numbers(node, 3)
    outer = float(node.attr("extrapolation_value", 0.0))
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    crop = sampling.coordinates == "tf_crop_and_resize"
    whole = node.read(0) in ("uint8", "int8", "int32", "int64")

    def forward(*inputs: Tensor) -> Tensor:
        import torch

        x = inputs[0]
        rank = x.dim()
        axes = [axis % rank for axis in node.attr("axes") or range(rank)]
        before = [x.shape[axis] for axis in axes]
        scales, after = _plan(before, factors(inputs), targets(inputs), policy)
        roi = (regions(inputs) if crop else None) or [0.0] * len(axes) + [1.0] * len(axes)
        if before == after:
            return x
        found: dict[int, Taps] = {}
        for i, axis in enumerate(axes):
            if scales[i] != 1:
                span = (float(roi[i]), float(roi[len(axes) + i]))
                found[axis] = sampling.taps(before[i], after[i], float(scales[i]), span)
            elif before[i] != after[i]:
                raise node.refuse(f"a scale of 1 between sizes {before[i]} and {after[i]}")
        if crop and rank == 4 and 1 in found and (sampling.mode == "cubic" or sampling.antialias):
            raise node.refuse("a crop with channels last, which onnxruntime takes from the wrong axes,")
        if sampling.mode == "nearest":
            for axis, taps in found.items():
                x = x.index_select(axis, torch.as_tensor(taps.places[:, 0], device=x.device))
        elif whole and sampling.antialias:
            x = _eight_bits(x, found)
        elif whole:
            packed = rank == 4 and 1 in found
            planes = {2: (0, 1), 3: (0, 1, 2), 4: (1, 2) if packed else (2, 3), 5: (2, 3, 4)}.get(rank, ())
            if not set(found) <= set(planes):
                raise node.refuse(f"linear resize of integers along axes {sorted(found)} of {rank}")
            x = _corners(x, found, planes, packed and node.read(0) != "int32")
        else:
            for axis, taps in found.items():
                x = _sample(x, axis, taps)
        for axis, taps in found.items():
            if crop and taps.outside.any():
                far = torch.as_tensor(taps.outside, device=x.device)
                x = x.masked_fill(far.view(-1, *[1] * (rank - 1 - axis)), outer)
        return x

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
        raise node.refuse(f"resize with mode {sampling.mode!r}", "nearest, linear, cubic")
    if sampling.coordinates not in known:
        raise node.refuse(f"resize with coordinates {sampling.coordinates!r}", ", ".join(sorted(known)))
    if sampling.rounding not in roundings:
        raise node.refuse(f"resize with nearest mode {sampling.rounding!r}", ", ".join(sorted(roundings)))
    kept = node.attr("keep_aspect_ratio_policy", "stretch") != "stretch"
    if kept and min(node.attr("axes") or (0,)) < 0:  # onnxruntime then resizes nothing
        raise node.refuse("an aspect ratio kept along axes counted from the end")
    kind = node.read(0) or ""
    if "int" in kind and sampling.mode == "cubic" and not sampling.antialias:
        raise node.refuse(f"cubic resize of {kind}, which onnxruntime refuses too,")
    if "int" in kind and kind != "uint8" and sampling.antialias:
        raise node.refuse(f"antialiased resize of {kind}")
    if sampling.antialias and sampling.mode == "nearest":
        raise node.refuse("antialiased nearest resize, which onnxruntime refuses too,")


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


def _sample(x: Tensor, axis: int, taps: Taps) -> Tensor:
    """One axis of real numbers; half precision is summed in float32."""
    import torch

    work = x if x.dtype == torch.float64 else x.float()
    count, taken = len(taps.places), taps.places.shape[1]
    if x.shape[axis] * count <= _DENSE:
        matrix = np.zeros((x.shape[axis], count), np.float32)
        np.add.at(matrix, (taps.places, np.arange(count)[:, None]), taps.weights)
        weight = torch.as_tensor(matrix, device=x.device).to(work.dtype)
        return (work.movedim(axis, -1) @ weight).movedim(-1, axis).to(x.dtype)
    shares = torch.as_tensor(taps.weights, device=x.device).to(work.dtype)
    places = torch.as_tensor(taps.places, device=x.device)
    shape = (-1, *[1] * (x.dim() - 1 - axis))
    parts = (work.index_select(axis, places[:, k]) * shares[:, k].view(shape) for k in range(taken))
    return reduce(torch.add, parts).to(x.dtype)


def _corners(x: Tensor, found: dict[int, Taps], axes: tuple[int, ...], packed: bool) -> Tensor:
    """Linear resize of integers as onnxruntime computes it, corner by corner, cut off towards zero.

    In float32, a border position reading its one pixel by halves; with channels last (``packed``)
    8-bit integers are weighted in fixed point of ten bits an axis.
    """
    import torch

    ends = []
    for axis in axes:
        size = x.shape[axis]
        taps = found.get(axis)
        at = np.arange(size) if taps is None else taps.places[:, 0]
        share = np.zeros(size, _F) if taps is None else taps.weights[:, 1]
        ends.append(_ends(at, share, size, packed))
    total: Tensor | None = None
    for corner in product((0, 1), repeat=len(axes)):
        part: Tensor = x.double() if packed else x.float()
        weight: Tensor | None = None
        for (places, shares), end, axis in reversed(list(zip(ends, corner, axes, strict=True))):
            part = part.index_select(axis, torch.as_tensor(places[end], device=x.device))
            one = torch.as_tensor(shares[end], device=x.device).view(-1, *[1] * (x.dim() - 1 - axis))
            weight = one if weight is None else weight * one
        assert weight is not None
        part = part * weight
        total = part if total is None else total + part
    assert total is not None
    if packed:
        total = total / _FIXED_POINT ** len(axes)
    return total.trunc().to(x.dtype)


def _ends(at: Any, share: Any, size: int, packed: bool) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The two positions along one axis and their weights, the near one first."""
    place = at + share  # float32
    after = np.minimum(at + 1, size - 1)
    edge = at == after
    if packed:
        fine = (place * _F(_FIXED_POINT)).astype(np.int64)
        far, near = np.abs(fine - at * _FIXED_POINT), np.abs(fine - after * _FIXED_POINT)
        half: Any = _FIXED_POINT // 2
    else:
        far, near, half = np.abs(place - at).astype(_F), np.abs(place - after).astype(_F), _F(0.5)
    return (at, after), (np.where(edge, half, near), np.where(edge, half, far))


def _eight_bits(x: Tensor, found: dict[int, Taps]) -> Tensor:
    """Antialiased resize of uint8 in fixed point of 22 bits, the last axis first, rounded after each."""
    import torch

    one = 1 << 22
    for axis, taps in sorted(found.items(), reverse=True):
        matrix = np.zeros((x.shape[axis], len(taps.places)), np.float32)
        np.add.at(matrix, (taps.places, np.arange(len(taps.places))[:, None]), taps.weights)
        fine = np.sign(matrix) * np.floor(np.abs(matrix.astype(np.float64)) * one + 0.5)
        weight = torch.as_tensor(fine, device=x.device)
        smooth = (x.double().movedim(axis, -1) @ weight).movedim(-1, axis)
        x = torch.floor((smooth + one / 2) / one).clamp(0, 255).to(torch.uint8)
    return x
