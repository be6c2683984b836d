"""Files whose input has no axis for images: opened, certified, explained, and free where the axis cancels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from convlens.coverage import Settings
from convlens.coverage.examine import examine
from convlens.errors import TargetError
from graph.nets import model, numbers, op, opened, put, refused

W1 = numbers(4, 1, 5)
W2 = numbers(4, 3, 3, 3)
HEAD = [
    op("GlobalAveragePool", "c", "g"),
    op("Flatten", "g", "f"),
    op("MatMul", "f wd", "y"),
]
STORED = {"w1": W1, "w2": W2, "wd": numbers(4, 5), "both": np.array([0, 1]), "first": np.array([0]),
          "long": np.array([1, 1, -1]), "flat": np.array([5])}  # fmt: skip


def waveform(opset: int = 17) -> onnx.ModelProto:
    nodes = [op("Unsqueeze", "x both", "u"), op("Conv", "u w1", "c"), *HEAD]
    if opset < 13:
        nodes[0] = op("Unsqueeze", "x", "u", axes=[0, 1])
    return model(nodes, {"x": [64]}, ["y"], STORED, opset=opset)


def reshaped() -> onnx.ModelProto:
    nodes = [op("Reshape", "x long", "u"), op("Conv", "u w1", "c"), *HEAD]
    return model(nodes, {"x": ["samples"]}, ["y"], STORED)


def planes() -> onnx.ModelProto:
    nodes = [op("Unsqueeze", "x first", "u"), op("Conv", "u w2", "c"), *HEAD]
    return model(nodes, {"x": [3, 12, 10]}, ["y"], STORED)


def pixels() -> onnx.ModelProto:
    nodes = [
        op("Transpose", "x", "t", perm=[2, 0, 1]),
        op("Unsqueeze", "t first", "u"),
        op("Conv", "u w2", "c"),
        *HEAD,
    ]
    return model(nodes, {"x": [12, 10, 3]}, ["y"], STORED)


def detector(size: list[Any]) -> onnx.ModelProto:
    """As torchvision's detectors begin: normalised, resized and padded one by one, then put together."""
    nodes = [
        op("Sub", "x mean", "shifted"),
        op("Div", "shifted std", "scaled"),
        op("Unsqueeze", "scaled first", "u"),
        op("Resize", "u - twice", "resized", mode="linear"),
        op("Gather", "resized zero", "alone", axis=0),
        op("Pad", "alone margin", "padded"),
        op("Unsqueeze", "padded first", "again"),
        op("Concat", "again", "together", axis=0),
        op("Conv", "together w2", "c"),
        *HEAD,
    ]
    stored = {
        **STORED,
        "mean": numbers(3, 1, 1),
        "std": np.full((3, 1, 1), 0.5, np.float32),
        "twice": np.array([1, 1, 2, 2], np.float32),
        "zero": np.array(0),
        "margin": np.array([0, 0, 0, 0, 1, 2]),
    }
    return model(nodes, {"x": size}, ["y"], stored)


FILES: dict[str, tuple[onnx.ModelProto, tuple[int, ...], str, bool]] = {
    "waveform": (waveform(), (64,), "NT", True),
    "waveform, axes as an attribute": (waveform(11), (64,), "NT", True),
    "waveform by Reshape": (reshaped(), (100,), "NT", True),
    "planes": (planes(), (3, 12, 10), "NCHW", True),
    "pixels": (pixels(), (12, 10, 3), "NHWC", False),
    "detector": (detector([3, 12, 10]), (3, 12, 10), "NCHW", False),
    "detector of any size": (detector([3, "H", "W"]), (3, 12, 10), "NCHW", False),
}


def by_onnxruntime(path: Path, x: NDArray[Any]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(["y"], {"x": x})[0]
    return found


@pytest.mark.parametrize("name", FILES)
def test_an_input_without_a_batch_is_opened_certified_and_explained(name: str, tmp_path: Path) -> None:
    proto, shape, layout, free = FILES[name]
    path = put(proto, tmp_path)
    found = opened(proto, tmp_path)
    assert found.source.layout == layout
    assert "the input given an axis for images" in found.graph.changes
    certificate = found.certificate()
    assert certificate.passed
    against_the_file = [check for check in certificate.checks if "file against" in check.input]
    assert against_the_file
    assert not any(check.note for check in against_the_file)
    assert found.batching().free == free
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    expected = np.concatenate([by_onnxruntime(path, row) for row in x])
    np.testing.assert_allclose(found.runner.run({"x": x}, ["y"])["y"], expected, rtol=1e-4, atol=1e-5)
    with found.session() as session:
        assert session(x[:1]).shape == (1, 5)
    gradient = found.run("saliency", x, "y[0,2]").array
    assert gradient.shape == x.shape
    moved = x[1].copy()
    at = (0,) * len(shape)
    moved[at] += 0.5  # the net is linear, so that a step of any length will do
    slope = (by_onnxruntime(path, moved) - by_onnxruntime(path, x[1]))[0, 2] / 0.5
    np.testing.assert_allclose(gradient[(1, *at)], slope, rtol=1e-2, atol=1e-5)
    row = examine(path, Settings())
    assert (row.opened, row.certified, row.differentiable) == (True, True, True)
    assert not row.why
    assert row.batch == ("free" if free else "one by one")


def test_an_output_without_a_batch_leaves_all_but_methods(tmp_path: Path) -> None:
    nodes = [op("Unsqueeze", "x both", "u"), op("Conv", "u w1", "c"), *HEAD, op("Reshape", "y flat", "z")]
    found = opened(model(nodes, {"x": [64]}, ["z"], STORED), tmp_path)
    assert found.certificate().passed
    assert [layer.name for layer in found.layers][-1] == "z"
    x = numbers(1, 64)
    with found.session() as session:
        assert session(x).shape == (5,)
    with refused(TargetError, "'z'", "first axis is not the batch"):
        found.run("saliency", x, "z")


def test_what_counts_images_stays_as_it_is(tmp_path: Path) -> None:
    """A waveform of one channel beside the axis for images, and rows of features."""
    one = model([op("Unsqueeze", "x one", "u"), op("Conv", "u w1", "c"), *HEAD], {"x": ["N", 64]}, ["y"],
                {**STORED, "one": np.array([1])})  # fmt: skip
    found = opened(one, tmp_path)
    assert found.source.shape == ("N", 64)
    assert not found.graph.changes


@pytest.mark.parametrize("size", [[3, 24, 20], [3, "H", "W"]])
def test_a_picture_without_a_batch_is_a_photo(size: list[Any], tmp_path: Path) -> None:
    found = opened(detector(size), tmp_path)
    assert found.source.kind == "photo"
    assert found.runner.fixed_batch == 1
    layer = found["c"]
    assert (layer.channel_axis, layer.spatial_axes) == (1, (2, 3))
    assert layer.field is not None
    assert layer.field.stride == (0.5, 0.5)


@pytest.mark.parametrize(
    "shape",
    [[3, 12, 60], [1, 3, 60], [3, 3, 60], ["N", 3, 60], [1, 60, 3]],
)
def test_signals_stay_signals(shape: list[Any], tmp_path: Path) -> None:
    """Three images of twelve channels are no photo, whatever stands before the convolution along time."""
    last = shape[-1] == 3
    channels = shape[2] if last else shape[1]
    nodes = [
        op("Div", "x std", "scaled"),
        op("Transpose", "scaled", "t", perm=[0, 2, 1]) if last else op("Identity", "scaled", "t"),
        op("Conv", "t w", "c"),
        *HEAD,
    ]
    stored = {**STORED, "std": np.array(0.5, np.float32), "w": numbers(4, channels, 5)}
    found = opened(model(nodes, {"x": shape}, ["y"], stored), tmp_path)
    assert found.source.kind == "signal"
    assert found.source.layout == ("NTC" if last else "NCT")
    assert found.source.shape is not None
    assert len(found.source.shape) == 3
