"""Operators of detectors, segmenters and spatial transformers against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from ops.models import (
    ABSENT,
    Case,
    case,
    check_gradient,
    compare,
    feed,
    floats,
    ints,
    model_of,
    numbers,
    spread,
    torch_graph,
    x,
)

W = numbers
PADDINGS = ("zeros", "border", "reflection")

GRIDS = [
    *(
        case("GridSample", x(2, 3, 5, 6), x(2, 4, 3, 2), opsets=o, mode=m, padding_mode=p, align_corners=c)
        for o, modes in ((16, ("bilinear", "nearest", "bicubic")), ((20, 22), ("linear", "nearest", "cubic")))
        for m in modes
        for p in PADDINGS
        for c in (0, 1)
    ),
    *(
        case(
            "GridSample",
            x(1, 2, 4, 5, 3),
            x(1, 2, 3, 4, 3),
            opsets=20,
            mode=m,
            padding_mode=p,
            align_corners=c,
        )
        for m in ("linear", "nearest")
        for p in PADDINGS
        for c in (0, 1)
    ),
    case("GridSample", x(2, 3, 5, 6), x(2, 4, 3, 2), opsets=(16, 20)),
    case("GridSample", x(2, 3, 5, 6), x(2, 4, 3, 2), domain="com.microsoft"),
    case("GridSample", x(2, 3, 5, 6), x(2, 4, 3, 2), domain="com.microsoft", mode="nearest", align_corners=1),
    *(case("AffineGrid", x(2, 2, 3), ints(2, 3, 4, 5), opsets=20, align_corners=c) for c in (0, 1)),
    *(case("AffineGrid", x(2, 3, 4), ints(2, 3, 4, 5, 6), opsets=20, align_corners=c) for c in (0, 1)),
    case("AffineGrid", x(2, 2, 3), feed([2, 1, 1, 5], np.int64), opsets=20),
]

BOXES = np.array(
    [[0.5, 1, 6.3, 7.2], [2.1, 0.2, 3.4, 9.1], [-3, -2, 4, 5], [5, 5, 14, 12], [3, 3, 3.2, 3.1]], np.float32
)
OF = np.array([0, 1, 1, 0, 1], np.int64)
ALIGNED = [
    *(
        case(
            "RoiAlign",
            x(2, 3, 8, 9),
            BOXES,
            OF,
            opsets=16,
            output_height=3,
            output_width=2,
            spatial_scale=scale,
            sampling_ratio=ratio,
            mode=mode,
            coordinate_transformation_mode=where,
        )
        for scale in (1.0, 0.6)
        for ratio in (0, 1, 2)
        for mode in ("avg", "max")
        for where in ("half_pixel", "output_half_pixel")
    ),
    *(
        case(
            "RoiAlign", x(2, 3, 8, 9), BOXES, OF, opsets=10, output_height=2, output_width=2, sampling_ratio=r
        )
        for r in (0, 3)
    ),
    case("RoiAlign", x(2, 3, 8, 9), BOXES, OF, opsets=(10, 16)),
    case("RoiAlign", x(2, 3, 1, 1), BOXES, OF, opsets=16, output_height=2, output_width=2),
    case("RoiAlign", x(2, 3, 8, 9), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), opsets=16),
    case(
        "RoiAlign",
        x(2, 3, 8, 9),
        feed(BOXES[[0, 1, 3]]),
        OF[:3],
        opsets=16,
        output_height=2,
        sampling_ratio=2,
    ),
]
POOLED = np.concatenate([OF[:, None].astype(np.float32), np.round(BOXES)], axis=1)
ROIS = [
    case("MaxRoiPool", x(2, 3, 8, 9), POOLED[:3], opsets=(7, 17), pooled_shape=[2, 3]),
    case("MaxRoiPool", x(2, 3, 8, 9), POOLED, pooled_shape=[3, 2], spatial_scale=0.7),
    case("MaxRoiPool", x(2, 3, 8, 9), POOLED * floats(1, 2, 2, 2, 2), pooled_shape=[2, 2], spatial_scale=0.5),
]


def deformed(
    size: tuple[int, int],
    kernel: tuple[int, int],
    out: tuple[int, int],
    *,
    channels: int = 4,
    group: int = 1,
    shifts: int = 1,
    bias: bool = False,
    mask: bool = False,
    opsets: Any = (19, 22),
    **attributes: Any,
) -> Case:
    taps = kernel[0] * kernel[1] * shifts
    extra = [x(6, seed=3) if bias else ABSENT, x(2, taps, *out, seed=4)] if mask else [x(6)] if bias else []
    return case(
        "DeformConv",
        x(2, channels, *size),
        x(6, channels // group, *kernel),
        x(2, 2 * taps, *out, seed=2),
        *extra,
        opsets=opsets,
        group=group,
        offset_group=shifts,
        **attributes,
    )


DEFORMED = [
    deformed((5, 6), (3, 3), (3, 4)),
    deformed((5, 6), (3, 3), (5, 6), bias=True, pads=[1, 1, 1, 1]),
    deformed((5, 6), (3, 2), (3, 3), mask=True, pads=[1, 0, 1, 1], strides=[2, 2]),
    deformed((5, 6), (2, 2), (3, 4), bias=True, mask=True, dilations=[2, 2], kernel_shape=[2, 2]),
    deformed((5, 6), (3, 3), (3, 4), shifts=2, group=2),
    deformed((5, 6), (3, 3), (3, 4), shifts=2, mask=True),
    deformed((5, 6), (3, 3), (3, 4), shifts=1, group=2, bias=True),
    deformed((5, 6), (1, 1), (5, 6), shifts=4, group=1),
]

CASES = [*GRIDS, *ALIGNED, *ROIS, *DEFORMED]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if c.smooth], latest=True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)


def boxes(count: int, images: int, seed: int) -> np.ndarray[Any, Any]:
    """Random boxes, some with their corners the other way round, some without an area."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 10, (images, count, 4)).astype(np.float32)
    found[:, ::7, 2:] = found[:, ::7, :2]
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize(
    "limits",
    [
        (),
        (ints(3),),
        (ints(20), floats(0.3)),
        (ints(20), floats(0.1), floats(0.5)),
        (ints(20), floats(0.0)),
        (ints(20), floats(1.0)),
        (ints(20), ABSENT, floats(0.4)),
        (np.int64(4), np.float32(0.5), np.float32(0.2)),
    ],
)
def test_keeps_the_boxes_that_onnxruntime_keeps(seed: int, centred: int, limits: Any, tmp_path: Path) -> None:
    scores = np.round(np.random.default_rng(seed).uniform(0, 1, (2, 3, 20)), 1).astype(np.float32)
    one = case(
        "NonMaxSuppression",
        feed(boxes(20, 2, seed)),
        feed(scores),
        *limits,
        opsets=11,
        center_point_box=centred,
    )
    compare(one.model(11), one.feeds, tmp_path)


def test_gradient_passes_behind_the_suppression(tmp_path: Path) -> None:
    """What is gathered by the kept positions still depends on boxes and scores."""
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "limit"], ["kept"]),
        helper.make_node("Gather", ["kept", "last"], ["where"], axis=1),
        helper.make_node("Squeeze", ["scores", "zero"], ["flat"]),
        helper.make_node("Gather", ["flat", "where"], ["best"], axis=1),
    ]
    rng = np.random.default_rng(0)
    feeds = {"boxes": boxes(9, 1, 0), "scores": rng.uniform(0, 1, (1, 1, 9)).astype(np.float32)}
    stored = {"most": ints(3), "limit": floats(0.2), "last": ints(2), "zero": ints(0)}
    model = model_of(nodes, feeds, ["best"], stored)
    compare(model, feeds, tmp_path)
    check_gradient(model, feeds, tmp_path)
    scores = torch.from_numpy(feeds["scores"]).requires_grad_()
    graph = torch_graph(model, tmp_path)
    best = graph.values({"boxes": torch.from_numpy(feeds["boxes"]), "scores": scores}, ["best"])["best"]
    (gradient,) = torch.autograd.grad(best.sum(), scores)
    assert gradient.sum() == best.numel()
