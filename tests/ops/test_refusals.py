"""Variants that the PyTorch converters do not cover are refused, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convlens.errors import UnsupportedError
from ops.models import ABSENT, Case, case, feed, floats, ints, numbers, torch_graph, x

CROP = {"coordinate_transformation_mode": "tf_crop_and_resize"}
STATISTICS = (numbers(3), numbers(3), numbers(3), numbers(3, low=0.5))

REFUSED = [
    (
        case(
            "Resize",
            feed(np.ones((1, 1, 4, 4)), np.int8),
            ABSENT,
            floats(1, 1, 0.5, 2),
            antialias=1,
            mode="linear",
        ),
        18,
        "antialiased resize of int8",
    ),
    (
        case("Resize", feed(np.ones((1, 1, 4, 4)), np.int32), floats(), floats(1, 1, 2, 2), mode="cubic"),
        13,
        "cubic",
    ),
    (
        case(
            "Resize",
            x(1, 4, 4, 1),
            floats(0, 0, 0, 0, 1, 1, 0.5, 1),
            ABSENT,
            ints(1, 8, 8, 1),
            mode="cubic",
            **CROP,
        ),
        13,
        "wrong axes",
    ),
    (case("Conv", x(1, 2, 3, 3, 3, 3), numbers(1, 2, 1, 1, 1, 1)), 13, "4 axes"),
    (case("Dropout", x(2, 3), np.float32(0.5), np.array(True)), 13, "training"),
    (case("Squeeze", x(2, 1), ints(0)), 13, "squeezing"),
]


@pytest.mark.parametrize(
    ("one", "opset", "why"), [pytest.param(*row, id=f"{row[0].op}-{row[2]}") for row in REFUSED]
)
def test_is_refused(one: Case, opset: int, why: str, tmp_path: Path) -> None:
    feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
    proto = one.model(opset)
    with pytest.raises(UnsupportedError, match=why) as caught:
        torch_graph(proto, tmp_path).values(feeds, ["y0"])
    text = str(caught.value)
    assert "\n" not in text
    assert any(f"{node.op_type} (opset" in text for node in proto.graph.node)
    assert " node '" in text
    assert "is not covered by the PyTorch converter" in text


@pytest.mark.parametrize(
    ("one", "opset", "covered"),
    [
        (case("MaxPool", x(1, 1, 2, 2, 2, 2), kernel_shape=[1] * 4), 17, "covered: one to three axes"),
        (
            case("GridSample", x(1, 1, 4, 4), x(1, 2, 2, 2), mode="none"),
            20,
            "covered: bicubic, bilinear, cubic",
        ),
        (case("Pad", x(1, 1, 4, 4), ints(*[1] * 8), mode="none"), 17, "covered: constant, "),
    ],
)
def test_a_refusal_says_what_is_covered(one: Case, opset: int, covered: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=covered):
        torch_graph(one.model(opset), tmp_path)
