"""Places where paddings, cuts and scales are computed from sizes: held against what onnxruntime moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convlens.graph.layers import ReceptiveField
from graph.nets import model, numbers, op, opened

Nodes = list[onnx.NodeProto]


def same_pad(x: str, kernel: int, stride: int, mark: str) -> tuple[Nodes, str]:
    """SAME padding as exporters write it: (ceil(n / s) - 1) s + k - n, at least 0, in halves."""
    nodes = [op("Shape", x, f"shape{mark}")]
    for axis in (2, 3):
        end = f"{mark}{axis}"
        nodes += [
            op("Gather", f"shape{mark} at{axis}", f"n{end}"),
            op("Cast", f"n{end}", f"real{end}", to=1),
            op("Div", f"real{end} real{stride}", f"parts{end}"),
            op("Ceil", f"parts{end}", f"up{end}"),
            op("Mul", f"up{end} real{stride}", f"span{end}"),
            op("Add", f"span{end} over{kernel}{stride}", f"reach{end}"),
            op("Sub", f"reach{end} real{end}", f"short{end}"),
            op("Relu", f"short{end}", f"total{end}"),
            op("Cast", f"total{end}", f"whole{end}", to=7),
            op("Div", f"whole{end} two", f"front{end}"),
            op("Sub", f"whole{end} front{end}", f"back{end}"),
        ]
    ends = f"front{mark}2 front{mark}3 none back{mark}2 back{mark}3"
    nodes.append(op("Concat", f"none {ends}", f"pads{mark}", axis=0))
    return [*nodes, op("Pad", f"{x} pads{mark}", f"padded{mark}")], f"padded{mark}"


def padded_net(steps: list[tuple[int, int]]) -> tuple[Nodes, dict[str, Any]]:
    """Convolutions of (kernel, stride), each behind a SAME padding of its own."""
    nodes: Nodes = []
    stored: dict[str, Any] = {
        "two": np.array([2]),
        "none": np.array([0, 0]),
        "at2": np.array([2]),
        "at3": np.array([3]),
    }
    x = "image"
    for i, (kernel, stride) in enumerate(steps):
        made, padded = same_pad(x, kernel, stride, f"_{i}_")
        x = f"v{i}" if i < len(steps) - 1 else "y"
        nodes += [*made, op("Conv", f"{padded} w{i}", x, strides=[stride] * 2)]
        stored[f"w{i}"] = numbers(1, 1, kernel, kernel, seed=i, low=0.5, high=1.5)
        stored[f"real{stride}"] = np.array([stride], np.float32)
        stored[f"over{kernel}{stride}"] = np.array([kernel - stride], np.float32)
    return nodes, stored


def moved_rows(proto: onnx.ModelProto, size: int, batch: int = 1) -> Any:
    """For each unit along the first axis of y the first and the last row of the image that moves it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    still = np.random.default_rng(0).random((batch, 1, size, size)).astype(np.float32)
    before = session.run(["y"], {"image": still})[0]
    hit = []
    for row in range(size):
        other = still.copy()
        other[:, :, row] += 1
        hit.append((session.run(["y"], {"image": other})[0] != before).any(axis=(0, 1, 3)))
    return [(int(np.flatnonzero(unit)[0]), int(np.flatnonzero(unit)[-1])) for unit in np.array(hit).T]


def first_and_last(field: ReceptiveField | None, unit: int, size: int) -> tuple[int, int]:
    assert field is not None
    (first, after), _ = field.box((unit, unit), (size, size))
    return first, after - 1


STEPS = [[(3, 2)], [(3, 2), (5, 2)], [(5, 2), (3, 1), (3, 2)], [(4, 4), (3, 2)]]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("size", [24, 25, 30, 31])
def test_computed_padding_of_a_given_size_is_exact(
    steps: list[tuple[int, int]], size: int, tmp_path: Path
) -> None:
    nodes, stored = padded_net(steps)
    proto = model(nodes, {"image": ["N", 1, size, size]}, ["y"], stored)
    layer = opened(proto, tmp_path)["y"]
    assert layer.spatial_axes == (2, 3)
    assert layer.field is not None
    assert layer.field.exact
    for unit, rows in enumerate(moved_rows(proto, size)):
        assert first_and_last(layer.field, unit, size) == rows


@pytest.mark.parametrize("steps", STEPS)
def test_computed_padding_of_an_open_size_is_near_and_said_to_be(
    steps: list[tuple[int, int]], tmp_path: Path
) -> None:
    nodes, stored = padded_net(steps)
    proto = model(nodes, {"image": ["N", 1, "H", "W"]}, ["y"], stored)
    layer = opened(proto, tmp_path)["y"]
    assert layer.spatial_axes == (2, 3)
    assert layer.field is not None
    assert not layer.field.exact
    stride = int(np.prod([step for _, step in steps]))
    for size in (24, 25, 26, 27, 30, 31, 32, 33):
        for unit, rows in enumerate(moved_rows(proto, size)):
            first, last = first_and_last(layer.field, unit, size)
            assert first <= rows[0]
            assert last >= rows[1]
            assert (last - first) - (rows[1] - rows[0]) <= stride  # not much wider than it must be


@pytest.mark.parametrize(
    ("auto", "sees"),
    [
        ("SAME_UPPER", 10),  # no padding in front of an even size, one pixel of an odd one: 4 + 2 (4 - 1)
        ("SAME_LOWER", 7),  # one pixel in front of both: 3 + 2 (3 - 1)
    ],
)
def test_padding_by_auto_pad_of_an_open_size(auto: str, sees: int, tmp_path: Path) -> None:
    nodes = [
        op("Conv", "image w", "a", auto_pad=auto, strides=[2, 2]),
        op("MaxPool", "a", "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad=auto),
    ]
    stored = {"w": numbers(1, 1, 3, 3, low=0.5, high=1.5)}
    proto = model(nodes, {"image": ["N", 1, "H", "W"]}, ["y"], stored)
    field = opened(proto, tmp_path)["y"].field
    assert field is not None
    assert not field.exact
    for size in (16, 17, 18, 19):
        for unit, rows in enumerate(moved_rows(proto, size)):
            first, last = first_and_last(field, unit, size)
            assert first <= rows[0]
            assert last >= rows[1]
    assert field.size == (sees, sees)


def test_padding_that_no_size_moves_keeps_the_same_window_with_stride_one(tmp_path: Path) -> None:
    nodes = [op("Conv", "image w", "y", auto_pad="SAME_UPPER")]
    proto = model(nodes, {"image": ["N", 1, "H", "W"]}, ["y"], {"w": numbers(1, 1, 3, 3)})
    field = opened(proto, tmp_path)["y"].field
    assert field is not None
    assert (field.size, field.stride, field.offset) == ((3, 3), (1.0, 1.0), (-1.0, -1.0))


def test_a_map_resized_to_the_size_of_an_earlier_one(tmp_path: Path) -> None:
    nodes = [
        op("Conv", "image w", "a", pads=[1] * 4),
        op("Conv", "a w", "b", pads=[1] * 4, strides=[2, 2]),
        op("Shape", "a", "wanted"),
        op("Resize", "b - - wanted", "up", mode="nearest", coordinate_transformation_mode="asymmetric",
           nearest_mode="floor"),
        op("Add", "a up", "y"),
    ]  # fmt: skip
    stored = {"w": numbers(1, 1, 3, 3, low=0.5, high=1.5)}
    proto = model(nodes, {"image": ["N", 1, "H", "W"]}, ["y"], stored)
    layer = opened(proto, tmp_path)["y"]
    assert layer.spatial_axes == (2, 3)
    assert layer.field is not None
    assert not layer.field.exact
    for size in (16, 17, 40, 41):
        for unit, rows in enumerate(moved_rows(proto, size)):
            first, last = first_and_last(layer.field, unit, size)
            assert first <= rows[0]
            assert last >= rows[1]


def test_what_moves_with_the_size_of_the_image_has_no_place(tmp_path: Path) -> None:
    """A cut from the middle starts further back in a larger image."""
    nodes = [
        op("Shape", "image", "shape"),
        op("Slice", "shape two four", "sizes"),
        op("Div", "sizes half", "middle"),
        op("Slice", "image middle sizes two3", "y"),
    ]
    stored = {"two": np.array([2]), "four": np.array([4]), "half": np.array([2]), "two3": np.array([2, 3])}
    layer = opened(model(nodes, {"image": ["N", 1, "H", "W"]}, ["y"], stored), tmp_path)["y"]
    assert layer.field == ReceptiveField((None, None), (0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize("how", [{"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"},
                                 {"output_shape": [23, 23]}])  # fmt: skip
def test_what_a_transposed_convolution_crops(how: dict[str, Any], tmp_path: Path) -> None:
    nodes = [op("ConvTranspose", "image w", "y", strides=[2, 2], **how)]
    stored = {"w": numbers(1, 1, 5, 5, low=0.5, high=1.5)}
    proto = model(nodes, {"image": ["N", 1, 12, 12]}, ["y"], stored)
    field = opened(proto, tmp_path)["y"].field
    assert field is not None
    assert field.exact
    assert field.stride == (0.5, 0.5)
    spread = 0
    for unit, rows in enumerate(moved_rows(proto, 12)):
        first, last = first_and_last(field, unit, 12)
        assert first <= rows[0]
        assert last >= rows[1]
        spread = max(spread, (last - first) - (rows[1] - rows[0]))
    assert spread <= 2  # units that fall between two pixels see fewer than others
