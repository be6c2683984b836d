"""Resize and Upsample against onnxruntime, old forms and new, and their gradients.

Every choice with every other is tried in test_resize_matrix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.models import (
    ABSENT,
    Case,
    case,
    check_gradient,
    compare,
    feed,
    floats,
    ints,
    spread,
    x,
)

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
IMAGE = x(1, 2, 5, 6)
FACTORS = (floats(1, 1, 2, 3), floats(1, 1, 1.7, 2.5), floats(1, 1, 0.6, 0.5), floats(1, 1, 0.2, 1))
TARGETS = (ints(1, 2, 10, 4), ints(1, 2, 7, 13), ints(1, 2, 1, 6), ints(1, 2, 3, 9))

OLD = [
    *(
        case("Upsample", IMAGE, opsets=7, mode=mode, scales=scales)
        for mode in ("nearest", "linear")
        for scales in ([1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.5, 2.3])
    ),
    *(
        case("Upsample", IMAGE, scales, opsets=9, mode=mode)
        for mode in ("nearest", "linear")
        for scales in FACTORS[:2]
    ),
    *(
        case("Resize", IMAGE, scales, opsets=10, mode=mode)
        for mode in ("nearest", "linear")
        for scales in FACTORS
    ),
    case("Resize", IMAGE, feed([1, 1, 2, 2]), opsets=10),
]

SMOOTH = [
    *(
        case(
            "Resize",
            IMAGE,
            floats(),
            *size,
            opsets=19,
            mode=mode,
            coordinate_transformation_mode=how,
        )
        for mode in ("linear", "cubic")
        for size in (*((f,) for f in FACTORS), *((floats(), t) for t in TARGETS))
        for how in COORDINATES
    ),
    *(
        case("Resize", IMAGE, floats(), f, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=exclude)
        for f in FACTORS
        for exclude in (0, 1)
    ),
    case("Resize", x(1, 2, 3, 4, 5), floats(), floats(1, 1, 2, 1.5, 2), mode="linear"),
    case("Resize", x(4, 5), floats(), floats(2, 1.5), mode="linear"),
]

CROPS = [
    case(
        "Resize",
        IMAGE,
        floats(0, 0, *roi[:2], 1, 1, *roi[2:]),
        floats(),
        target,
        opsets=(11, 13),
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
    )
    for mode in ("nearest", "linear", "cubic")
    for roi in ((0.2, 0.3, 0.7, 0.9), (-0.3, 0.0, 0.8, 1.4))
    for target in (*TARGETS[:2], ints(1, 2, 1, 8))
]

NEW = [
    *(
        case(
            "Resize",
            IMAGE,
            ABSENT,
            *size,
            opsets=19,
            mode=mode,
            coordinate_transformation_mode="half_pixel_symmetric",
        )
        for mode in ("nearest", "linear", "cubic")
        for size in (*((f,) for f in FACTORS[:3]), *((ABSENT, t) for t in TARGETS[:2]))
    ),
    *(
        case("Resize", IMAGE, ABSENT, ABSENT, ints(7, 13), opsets=18, axes=[2, 3], **policy)
        for policy in (
            {},
            {"keep_aspect_ratio_policy": "not_larger"},
            {"keep_aspect_ratio_policy": "not_smaller"},
        )
    ),
    case("Resize", IMAGE, ABSENT, floats(2, 1.5), opsets=18, axes=[3, 2], mode="linear"),
    case("Resize", IMAGE, ABSENT, feed([1, 1, 2, 1.5]), mode="linear"),
    case("Resize", IMAGE, ABSENT, ABSENT, feed([1, 2, 9, 7], np.int64), mode="linear"),
    case("Resize", feed(np.arange(16).reshape(1, 1, 4, 4), np.uint8), ABSENT, floats(1, 1, 2, 2)),
]

CASES = [*OLD, *SMOOTH, *CROPS, *NEW]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if c.smooth][::7], latest=True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)
