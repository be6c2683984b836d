"""Variants that the PyTorch converters do not cover are refused, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convlens.errors import UnsupportedError
from ops.models import Case, case, feed, floats, ints, numbers, torch_graph, x

CROP = {"coordinate_transformation_mode": "tf_crop_and_resize"}
STATISTICS = (numbers(3), numbers(3), numbers(3), numbers(3, low=0.5))

REFUSED = [
    (case("Resize", x(1, 1, 4, 4), floats(), floats(1, 1, 0.5, 2), antialias=1), 18, "antialias"),
    (
        case("Resize", feed(np.ones((1, 1, 4, 4)), np.int32), floats(), floats(1, 1, 2, 2), mode="linear"),
        13,
        "interpolation",
    ),
    (
        case("Resize", x(1, 1, 4, 4), floats(0, 0, 0, 0, 1, 1, 1, 0.5), floats(), ints(1, 1, 8, 4), **CROP),
        13,
        "crop",
    ),
    (case("Conv", x(1, 2, 3, 3, 3, 3), numbers(1, 2, 1, 1, 1, 1)), 13, "4 axes"),
    (case("MaxPool", x(1, 2, 4, 4), outputs=2, kernel_shape=[2, 2], storage_order=1), 13, "column"),
    (case("BatchNormalization", x(2, 3, 4), *STATISTICS, spatial=0), 7, "every position"),
    (case("BatchNormalization", x(2, 3, 4), *STATISTICS, training_mode=1), 14, "training"),
    (case("Dropout", x(2, 3), np.float32(0.5), np.array(True)), 13, "training"),
    (case("LayerNormalization", x(2, 3), numbers(3), outputs=2), 17, "deviation"),
    (case("ReduceL1", x(2, 3), noop_with_empty_axes=1), 18, "noop"),
    (case("Squeeze", x(2, 1), ints(0)), 13, "squeezing"),
]


@pytest.mark.parametrize(
    ("one", "opset", "why"), [pytest.param(*row, id=f"{row[0].op}-{row[2]}") for row in REFUSED]
)
def test_is_refused(one: Case, opset: int, why: str, tmp_path: Path) -> None:
    feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
    with pytest.raises(UnsupportedError, match=why):
        torch_graph(one.model(opset), tmp_path).values(feeds, ["y0"])
