"""Receptive fields against Araujo's recursion, against hand-worked cases and against perturbation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convlens.graph.layers import ReceptiveField
from graph.nets import model, numbers, op, opened

WHOLE = ReceptiveField((None, None), (0.0, 0.0), (0.0, 0.0))


def field(proto: onnx.ModelProto, folder: Path, name: str = "y", **settings: Any) -> ReceptiveField | None:
    found: ReceptiveField | None = opened(proto, folder, **settings)[name].field
    return found


def square(size: int, stride: float, offset: float) -> ReceptiveField:
    return ReceptiveField((size, size), (float(stride),) * 2, (float(offset),) * 2)


def araujo(steps: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Size, stride and first pixel of a chain of (kernel, stride, padding), from the last step back.

    One unit sees one unit of its own layer; through a step with kernel k and stride s, r units need
    s (r - 1) + k units of the layer below, and the first of them moves to s u - p (Araujo, Norris and
    Sim, Computing Receptive Fields of Convolutional Neural Networks, 2019).
    """
    size, stride, first = 1, 1, 0
    for kernel, step, pad in reversed(steps):
        size = step * (size - 1) + kernel
        stride *= step
        first = step * first - pad
    return size, stride, first


VGG16 = [step for count in (2, 2, 3, 3, 3) for step in [(3, 1, 1)] * count + [(2, 2, 0)]]


def test_vgg16(tmp_path: Path) -> None:
    nodes, weights, name = [], {"w": numbers(1, 1, 3, 3)}, "image"
    for i, (kernel, stride, _pad) in enumerate(VGG16):
        if kernel == 3:
            nodes.append(op("Conv", f"{name} w", f"v{i}x", pads=[1, 1, 1, 1]))
        else:
            nodes.append(op("MaxPool", name, f"v{i}x", kernel_shape=[2, 2], strides=[stride] * 2))
        name = f"v{i}x"
    layers = opened(model(nodes, {"image": ["N", 1, 224, 224]}, [name], weights), tmp_path).layers
    for i, layer in enumerate(layers):
        assert layer.field == square(*araujo(VGG16[: i + 1]))
    # published with the paper: VGG-16 has a receptive field of 212, an effective stride of 32, padding 90
    assert layers[-1].field == square(212, 32, -90)


CASES = {
    # kernel k, stride s, dilation d, padding p: size (k - 1) d + 1, stride s, first -p
    "stride": (op("Conv", "image w", "y", strides=[2, 3]), ((3, 3), (2.0, 3.0), (0.0, 0.0))),
    "dilation": (op("Conv", "image w", "y", dilations=[2, 4]), ((5, 9), (1.0, 1.0), (0.0, 0.0))),
    "padding": (op("Conv", "image w", "y", pads=[1, 0, 2, 3]), ((3, 3), (1.0, 1.0), (-1.0, 0.0))),
    "pool": (
        op("MaxPool", "image", "y", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
        ((3, 2), (2.0, 2.0), (-1.0, 0.0)),
    ),
    "mean": (
        op("AveragePool", "image", "y", kernel_shape=[5, 5], strides=[5, 5]),
        ((5, 5), (5.0, 5.0), (0.0, 0.0)),
    ),
    # 16 rows, kernel 3, stride 2: SAME needs one row of padding, UPPER puts it behind, LOWER in front
    "same_upper": (
        op("Conv", "image w", "y", auto_pad="SAME_UPPER", strides=[2, 2]),
        ((3, 3), (2.0, 2.0), (0.0, 0.0)),
    ),
    "same_lower": (
        op("Conv", "image w", "y", auto_pad="SAME_LOWER", strides=[2, 2]),
        ((3, 3), (2.0, 2.0), (-1.0, -1.0)),
    ),
    "rectifier": (op("Relu", "image", "y"), ((1, 1), (1.0, 1.0), (0.0, 0.0))),
    "shift": (op("Pad", "image pads", "y"), ((1, 1), (1.0, 1.0), (-2.0, -1.0))),
}


@pytest.mark.parametrize("case", CASES)
def test_single_operators(tmp_path: Path, case: str) -> None:
    node, expected = CASES[case]
    weights = {"w": numbers(1, 1, 3, 3), "pads": np.array([0, 0, 2, 1, 0, 0, 2, 1])}
    weights = {name: array for name, array in weights.items() if name in node.input}
    proto = model([node], {"image": ["N", 1, 16, 16]}, ["y"], weights)
    assert field(proto, tmp_path) == ReceptiveField(*expected)


@pytest.mark.parametrize("join", ["Add", "Concat"])
def test_branches_see_what_both_see(tmp_path: Path, join: str) -> None:
    nodes = [
        op("Conv", "image w5", "a", pads=[2, 2, 2, 2]),
        op("Conv", "image w3", "b", pads=[1, 1, 1, 1]),
        op("Conv", "b w3", "c", pads=[1, 1, 1, 1]),
        op("Conv", "c w3", "d", pads=[1, 1, 1, 1]),
        op(join, "a d", "y", **({"axis": 1} if join == "Concat" else {})),
    ]
    weights = {"w5": numbers(2, 2, 5, 5), "w3": numbers(2, 2, 3, 3)}
    # rows -2 to 2 on one way, -3 to 3 on the other
    assert field(model(nodes, {"image": ["N", 2, 9, 9]}, ["y"], weights), tmp_path) == square(7, 1, -3)


def test_branches_that_lie_beside_each_other(tmp_path: Path) -> None:
    nodes = [
        op("Conv", "image w", "a", pads=[2, 2, 0, 0]),
        op("Conv", "image w", "b", pads=[0, 0, 2, 2]),
        op("Add", "a b", "y"),
    ]
    # rows -2 to 0 and 0 to 2
    proto = model(nodes, {"image": ["N", 1, 9, 9]}, ["y"], {"w": numbers(1, 1, 3, 3)})
    assert field(proto, tmp_path) == square(5, 1, -2)


def test_beside_a_value_of_unknown_rank_nothing_is_claimed(tmp_path: Path) -> None:
    """What one branch sees says nothing where the other one may have read everything."""
    nodes = [op("Squeeze", "image", "a"), op("MatMul", "a w", "b"), op("Add", "image b", "y")]
    proto = model(nodes, {"image": ["N", 1, 9, 9]}, ["y"], {"w": numbers(9, 9)}, opset=13)
    loaded = opened(proto, tmp_path)
    assert loaded.graph.value("b").shape is None  # one image and several differ in their rank
    assert loaded["y"].field is None


def test_every_pair_of_columns_sees_both(tmp_path: Path) -> None:
    nodes = [op("Unsqueeze", "image last", "a"), op("Unsqueeze", "image third", "b"), op("Sub", "a b", "y")]
    weights = {"last": np.array([4]), "third": np.array([3])}
    found = field(model(nodes, {"image": ["N", 1, 9, 9]}, ["y"], weights, opset=13), tmp_path)
    assert found is not None
    assert found.size == (1, None)


def test_joined_along_space_is_whole(tmp_path: Path) -> None:
    proto = model([op("Concat", "image image", "y", axis=3)], {"image": ["N", 1, 9, 9]}, ["y"])
    found = field(proto, tmp_path)
    assert found is not None
    assert found.size == (1, None)


def test_joined_with_a_constant_along_space_is_whole(tmp_path: Path) -> None:
    proto = model(
        [op("Concat", "edge image", "y", axis=2)],
        {"image": ["N", 1, 9, 9]},
        ["y"],
        {"edge": numbers(1, 1, 2, 9)},
    )
    found = field(proto, tmp_path)
    assert found is not None
    assert found.size == (None, 1)  # rows are moved by two


def test_upsampling_halves_the_stride(tmp_path: Path) -> None:
    nodes = [
        op("MaxPool", "image", "a", kernel_shape=[2, 2], strides=[2, 2]),
        op("Resize", "a - scales", "y", mode="nearest"),
    ]
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    found = field(model(nodes, {"image": ["N", 1, 8, 8]}, ["y"], weights), tmp_path)
    assert found is not None
    assert found.stride == (1.0, 1.0)
    for row in range(8):  # pixel i lies in the pair that starts at i - i % 2
        (first, after), _ = found.box((row, row), (8, 8))
        assert first <= row - row % 2
        assert after >= row - row % 2 + 2
        assert after - first <= 4  # the pair, and at most one pixel more at either end


def test_transposed_convolution(tmp_path: Path) -> None:
    proto = model(
        [op("ConvTranspose", "image w", "y", strides=[2, 2])],
        {"image": ["N", 1, 6, 6]},
        ["y"],
        {"w": numbers(1, 1, 4, 4)},
    )
    found = field(proto, tmp_path)
    assert found is not None
    assert found.stride == (0.5, 0.5)
    for out in range(14):  # input i is spread over outputs 2 i to 2 i + 3
        read = [i for i in range(6) if 2 * i <= out <= 2 * i + 3]
        (first, after), _ = found.box((out, out), (6, 6))
        assert first <= min(read)
        assert after > max(read)
        assert after - first <= len(read) + 2


def test_global_pooling_sees_everything(tmp_path: Path) -> None:
    proto = model([op("GlobalAveragePool", "image", "y")], {"image": ["N", 3, 8, 8]}, ["y"])
    assert field(proto, tmp_path) == WHOLE


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_mean_over_space_sees_everything(tmp_path: Path, axes: list[int]) -> None:
    proto = model([op("ReduceMean", "image", "y", axes=axes, keepdims=0)], {"image": ["N", 3, 8, 8]}, ["y"])
    assert field(proto, tmp_path) == WHOLE


def test_squeeze_and_excitation_sees_everything(tmp_path: Path) -> None:
    nodes = [
        op("Conv", "image w", "a", pads=[1, 1, 1, 1]),
        op("GlobalAveragePool", "a", "b"),
        op("Conv", "b v", "c"),
        op("Sigmoid", "c", "d"),
        op("Mul", "a d", "y"),
    ]
    weights = {"w": numbers(2, 1, 3, 3), "v": numbers(2, 2, 1, 1)}
    loaded = opened(model(nodes, {"image": ["N", 1, 8, 8]}, ["y"], weights), tmp_path)
    assert loaded["a"].field == square(3, 1, -1)
    assert loaded["y"].field == WHOLE
    assert loaded["y"].channel_axis == 1
    assert loaded["y"].spatial_axes == (2, 3)


def test_a_stretched_map_of_one_pixel_is_seen_everywhere(tmp_path: Path) -> None:
    nodes = [op("Conv", "image w", "a"), op("Mul", "image a", "y")]
    proto = model(nodes, {"image": ["N", 1, 8, 8]}, ["y"], {"w": numbers(1, 1, 8, 8)})
    assert field(proto, tmp_path) == WHOLE


def test_dense_layer_sees_everything(tmp_path: Path) -> None:
    nodes = [op("Flatten", "image", "a"), op("Gemm", "a w", "y")]
    proto = model(nodes, {"image": ["N", 1, 4, 4]}, ["y"], {"w": numbers(16, 3)})
    assert field(proto, tmp_path) == WHOLE


def test_channels_last(tmp_path: Path) -> None:
    nodes = [
        op("Transpose", "image", "a", perm=[0, 3, 1, 2]),
        op("Conv", "a w", "b", strides=[2, 1], pads=[1, 0, 1, 0]),
        op("Transpose", "b", "y", perm=[0, 2, 3, 1]),
    ]
    loaded = opened(model(nodes, {"image": ["N", 12, 10, 3]}, ["y"], {"w": numbers(4, 3, 3, 5)}), tmp_path)
    expected = ReceptiveField((3, 5), (2.0, 1.0), (-1.0, 0.0))
    assert loaded["b"].field == expected
    assert (loaded["b"].channel_axis, loaded["b"].spatial_axes) == (1, (2, 3))
    assert loaded["y"].field == expected
    assert (loaded["y"].channel_axis, loaded["y"].spatial_axes) == (3, (1, 2))


def test_boxes_are_cut_to_the_image() -> None:
    found = ReceptiveField((7, None), (4.0, 0.0), (-3.0, 0.0))
    assert found.box((0, 5), (10, 20)) == ((0, 4), (0, 20))
    assert found.box((1, 5), (10, 20)) == ((1, 8), (0, 20))
    assert found.box((2, 5), (10, 20)) == ((5, 10), (0, 20))


@dataclass(frozen=True)
class Step:
    """A sliding window along rows and columns alike."""

    kind: str
    kernel: int
    stride: int
    dilation: int
    pad: int

    def gaps(self, size: int) -> bool:
        """Whether some of ``size`` positions are read by nobody, or not by all whose window holds them."""
        return self.dilation > 1 or self.stride > self.kernel or self.room(size) % self.stride != 0

    def room(self, size: int) -> int:
        return size + 2 * self.pad - (self.kernel - 1) * self.dilation - 1

    def out(self, size: int) -> int:
        return self.room(size) // self.stride + 1 if self.room(size) >= 0 else 0


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Step], int]:
    size = draw(st.integers(9, 15))
    steps: list[Step] = []
    left = size
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool"]))
        kernel = draw(st.integers(1, 4))
        dilation = draw(st.integers(1, 3)) if kind == "Conv" else 1
        pad = draw(st.integers(0, kernel // 2))
        step = Step(kind, kernel, draw(st.integers(1, 3)), dilation, pad)
        if step.out(left) < 1:
            continue
        left = step.out(left)
        steps.append(step)
    return steps or [Step("Conv", 1, 1, 1, 0)], size


@settings(max_examples=100, deadline=None)
@given(chains())
def test_fields_hold_exactly_what_moves_a_unit(given_chain: tuple[list[Step], int]) -> None:
    """All weights are positive and a row is raised by a million, so that whoever sees it must grow.

    A path through four steps weighs at least (1/2 / 16)^4 = 1e-6 of that, some 1 against values near
    1, whose rounding errors are below 1e-5.
    """
    steps, size = given_chain
    nodes, weights, name = [], {}, "image"
    for i, s in enumerate(steps):
        out = f"v{i}x"
        both = {"strides": [s.stride] * 2, "pads": [s.pad] * 4}
        if s.kind == "Conv":
            weights[f"w{i}x"] = numbers(1, 1, s.kernel, s.kernel, seed=i, low=0.5, high=1.5) / s.kernel**2
            nodes.append(op("Conv", f"{name} w{i}x", out, dilations=[s.dilation] * 2, **both))
        else:
            nodes.append(op(s.kind, name, out, kernel_shape=[s.kernel] * 2, **both))
        name = out
    proto = model(nodes, {"image": ["N", 1, size, size]}, [name], weights)
    with tempfile.TemporaryDirectory() as folder:
        layer = opened(proto, Path(folder)).layers[-1]
    assert layer.field is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    still = np.random.default_rng(0).random((1, 1, size, size)).astype(np.float32)
    batch = np.repeat(still, size + 1, axis=0)
    for row in range(size):
        batch[row, 0, row] += 1e6
    out = session.run(None, {"image": batch})[0]
    moved = (out[:size] - out[size:] > 1e-3).any(axis=(1, 3))  # which row moves which unit
    gaps, left = False, size
    for s in steps:
        gaps, left = gaps or s.gaps(left), s.out(left)
    for unit in range(out.shape[2]):
        seen = np.flatnonzero(moved[:, unit])
        start = int(layer.field.offset[0] + unit * layer.field.stride[0])
        assert layer.field.size[0] is not None
        end = start + layer.field.size[0]
        inside = [row for row in range(start, end) if 0 <= row < size]
        assert set(seen) <= set(inside)
        if inside and (not gaps or (start >= 0 and end <= size)):
            assert seen[[0, -1]].tolist() == [inside[0], inside[-1]]
        if inside and not gaps:
            assert seen.tolist() == inside
            assert layer.field.box((unit, unit), (size, size))[0] == (inside[0], inside[-1] + 1)


def moved(proto: onnx.ModelProto, shape: tuple[int, ...], row: int) -> Any:
    """Which units of y a change of every number in row ``row`` of the image moves."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    still = np.random.default_rng(0).random(shape).astype(np.float32)
    other = still.copy()
    other[:, :, row] += 1
    before, after = (session.run(["y"], {"image": x})[0] for x in (still, other))
    return before != after


SHUFFLE = [
    op("Conv", "image w", "a", pads=[1, 1, 1, 1]),
    op("Reshape", "a split", "b"),
    op("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]),
    op("Reshape", "c merge", "y"),
]


@pytest.mark.parametrize("case", ["shuffle", "residual", "tokens", "attended", "line"])
def test_reshaped_axes_against_perturbation(tmp_path: Path, case: str) -> None:
    size, spatial = 9, True
    weights: dict[str, Any] = {"w": numbers(4, 4, 3, 3)}
    image = [1, 4, size, 5]
    split, merge = np.array([1, 2, 2, size, 5]), np.array([1, 4, size, 5])
    if case == "shuffle":
        nodes, weights = SHUFFLE, {**weights, "split": split, "merge": merge}
    elif case == "residual":
        nodes = [*SHUFFLE[:3], op("Reshape", "c merge", "d"), op("Add", "d image", "y")]
        weights |= {"split": split, "merge": merge}
    elif case == "line":
        image, weights = [1, 4, size], {"w": numbers(4, 4, 3), "split": np.array([1, 2, 2, size])}
        weights["merge"] = np.array([1, 4, size])
        nodes = [op("Conv", "image w", "a", pads=[1, 1]), op("Reshape", "a split", "b")]
        nodes += [op("Transpose", "b", "c", perm=[0, 2, 1, 3]), op("Reshape", "c merge", "y")]
    else:  # pixels become tokens that are mixed: everything is seen, also beside a path that sees little
        weights = {"flat": np.array([1, 4, size * 5]), "mix": numbers(size * 5, size * 5), "merge": merge}
        nodes = [op("Reshape", "image flat", "a"), op("MatMul", "a mix", "b"), op("Reshape", "b merge", "c")]
        nodes += [op("Add", "c image", "y") if case == "attended" else op("Relu", "c", "y")]
        spatial = False
    proto = model(nodes, {"image": image}, ["y"], weights)
    found = field(proto, tmp_path)
    assert found is not None
    if not spatial:
        assert found == WHOLE
    for row in range(size):
        touched = np.flatnonzero(moved(proto, tuple(image), row).any(axis=(0, 1, *range(3, len(image)))))
        sees = [
            unit
            for unit in range(size)
            if found.size[0] is None or found.offset[0] + unit <= row < found.offset[0] + unit + found.size[0]
        ]
        assert touched.tolist() == sees


def test_a_channel_shuffle_keeps_space_where_sizes_are_computed(tmp_path: Path) -> None:
    """As exporters write it: sizes by Shape and Gather, and halves of the channels by a computed end."""
    nodes = [
        op("Conv", "x w1", "a", pads=[1] * 4, strides=[2, 2]),
        op("Shape", "a", "shape"),
        *(op("Gather", f"shape at{i}", f"size{i}") for i in (0, 2, 3)),
        op("Concat", "size0 two three size2 size3", "apart", axis=0),
        op("Reshape", "a apart", "groups"),
        op("Transpose", "groups", "swapped", perm=[0, 2, 1, 3, 4]),
        op("Concat", "size0 six size2 size3", "whole", axis=0),
        op("Reshape", "swapped whole", "shuffled"),
        op("Shape", "shuffled", "again"),
        op("Gather", "again at1", "count"),
        op("Div", "count two", "half"),
        op("Slice", "shuffled zero half one", "first"),
        op("Slice", "shuffled half count one", "second"),
        op("Conv", "first w2", "b"),
        op("Add", "b second", "sum"),
        op("Conv", "sum w3", "y"),
    ]
    stored: dict[str, Any] = {f"at{i}": np.array([i]) for i in range(4)}
    stored |= {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "three": np.array([3])}
    stored |= {"six": np.array([6]), "w1": numbers(6, 3, 3, 3), "w2": numbers(3, 3, 1, 1)}
    stored |= {"w3": numbers(2, 3, 3, 3)}
    proto = model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], stored)
    assert field(proto, tmp_path, "shuffled") == square(3, 2, -1)
    assert field(proto, tmp_path) == square(7, 2, -1)  # 3 + 2 x (3 - 1)
    assert opened(proto, tmp_path)["y"].shape == ("N", 2, None, None)
