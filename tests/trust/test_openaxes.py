"""Which lengths are tried where a file leaves axes open: those that onnxruntime takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from convlens.errors import UnsupportedError
from convlens.trust.openaxes import first_size, sizes
from graph.nets import model, numbers, op, opened, refused

WEIGHT3, TABLE = {"w": numbers(2, 3, 3, 3, 3)}, {"w": numbers(9, 4)}


def image(places: int) -> onnx.ModelProto:
    """A net whose dense layer holds the picture at one size only."""
    nodes = [op("Conv", "x w", "c", strides=[2, 2]), op("Flatten", "c", "f"), op("MatMul", "f v", "y")]
    return model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], {"w": numbers(2, 3, 2, 2), "v": numbers(places, 4)})


@pytest.mark.parametrize(
    ("proto", "shape"),
    [
        (image(2 * 112 * 112), "2x3x224x224"),
        (image(2 * 48 * 48), "2x3x96x96"),
        (image(2 * 24 * 160), "2x3x48x320"),
        (
            model([op("Conv", "x w", "y")], {"x": ["N", 3, "T", "H", "W"]}, ["y"], WEIGHT3),
            "2x3x8x64x64",
        ),
        (model([op("Conv", "x w", "y")], {"x": ["N", 1, "T"]}, ["y"], {"w": numbers(2, 1, 9)}), "2x1x16000"),
        (model([op("Conv", "x w", "y")], {"x": ["N", 40, "T"]}, ["y"], {"w": numbers(2, 40, 3)}), "2x40x128"),
        (
            model([op("Gather", "w x", "y")], {"x": ["N", "T"]}, ["y"], TABLE, TensorProto.INT64),
            "2x16",
        ),
    ],
    ids=["224", "96", "line of text", "video", "sound", "features", "tokens"],
)  # fmt: skip
def test_the_certificate_says_the_size_that_the_file_takes(
    proto: onnx.ModelProto, shape: str, tmp_path: Path
) -> None:
    found = opened(proto, tmp_path)
    certificate = found.certificate()
    assert certificate.passed
    assert certificate.inputs == (f"random input {shape} (seed 0)",)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    given = [int(n) for n in shape.split("x")]
    whole = found.source.dtype == "int64"
    session.run(None, {"x": np.zeros(given, np.int64 if whole else np.float32)})
    assert found.batching().free


def test_a_size_that_is_given_is_the_only_one(tmp_path: Path) -> None:
    found = opened(image(2 * 48 * 48), tmp_path, size=(96, 96))
    assert found.certificate().inputs == ("random input 2x3x96x96 (seed 0)",)
    other = opened(image(2 * 48 * 48), tmp_path, size=(64, 64))
    with refused(UnsupportedError, "[2, 3, 64, 64]", "cannot run the model"):
        other.certificate()


def test_a_file_that_takes_none_of_them_is_refused(tmp_path: Path) -> None:
    found = opened(image(2 * 7 * 5), tmp_path)
    with refused(UnsupportedError, "[2, 3, 224, 224]", "leaves the input's size open", "give --size"):
        found.certificate()


def test_one_image_at_a_time_is_tried_too(tmp_path: Path) -> None:
    nodes = [op("Reshape", "x long", "f"), op("MatMul", "f v", "y")]
    stored = {"long": np.array([1, 64 * 64]), "v": numbers(64 * 64, 3)}
    found = opened(model(nodes, {"x": ["N", 1, "H", "W"]}, ["y"], stored), tmp_path)
    assert found.certificate().passed
    (said,) = found.certificate().inputs
    count, _, rows, columns = (int(n) for n in said.split()[2].split("x"))
    assert count * rows * columns == 64 * 64


def test_lengths_of_the_file_stay(tmp_path: Path) -> None:
    found = opened(model([op("Relu", "x", "y")], {"x": ["N", 3, "H", 20]}, ["y"]), tmp_path)
    assert first_size(found.source) == (224, 20)
    assert sizes(3, "volume")[0] == (32, 32, 32)
    assert all(len(size) == axes for axes in (1, 2, 3) for size in sizes(axes))
