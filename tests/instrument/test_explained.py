"""Where inputs without a derivative are explained, against slow sums in numpy and finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from convlens.errors import TargetError, UnsupportedError
from convlens.explained import explained_at
from graph.nets import model, numbers, op, opened, refused
from reference.others import OTHERS

CLOSE = 1e-4


def text_scores(stored: dict[str, NDArray[Any]], embedded: NDArray[Any]) -> NDArray[Any]:
    """The net of the table's ``tokens`` behind its embedding (T x D), in float64."""
    weight = stored["text1_w"].astype(np.float64)
    padded = np.pad(embedded.astype(np.float64), ((1, 1), (0, 0)))
    conv = np.stack([np.einsum("oik,ki->o", weight, padded[t : t + 3]) for t in range(len(embedded))])
    return np.asarray(np.maximum(conv, 0).max(axis=0) @ stored["scores_w"].astype(np.float64).T)


def test_tokens_are_explained_at_their_embedding(tmp_path: Path) -> None:
    other = OTHERS["tokens"]
    found = opened(other.make(), tmp_path)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.how, place.op) == ("embedded", "embedding", "Gather")
    x = other.arrays(2)
    result = found.run("saliency", x, 1)
    assert result.array.shape == (2, 12, 8)
    assert "the embedding, embedded (Gather)" in result.how["explained_at"]
    stored = dict(found.graph.constants)
    step = 1e-5
    for image in range(2):
        embedded = stored["table"][x[image]].astype(np.float64)
        slope = np.zeros_like(embedded)
        for at in np.ndindex(embedded.shape):
            ends = []
            for sign in (1, -1):
                moved = embedded.copy()
                moved[at] += sign * step
                ends.append(text_scores(stored, moved)[1])
            slope[at] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(result.array[image], slope, atol=CLOSE)
        np.testing.assert_allclose(
            result.arrays["product"][image], (slope * embedded).sum(axis=1), atol=10 * CLOSE
        )
        np.testing.assert_allclose(
            result.arrays["magnitude"][image], np.linalg.norm(slope, axis=1), atol=10 * CLOSE
        )


def test_bytes_are_explained_at_their_cast(tmp_path: Path) -> None:
    other = OTHERS["bytes"]
    found = opened(other.make(), tmp_path, **other.settings)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.how, place.op) == ("real", "cast", "Cast")
    x = other.arrays(1)
    gradient = found.run("saliency", x, "scores[0,2]").array
    assert gradient.shape == x.shape
    session = found.instrument("float64")
    import torch

    real = torch.tensor(x.astype(np.float64), requires_grad=True)
    with found.session(dtype="float64") as open_session:
        tap = open_session.tap("real").replace(real)
        open_session.run(x)["scores"][:, 2].sum().backward()
    assert tap.value is real
    assert real.grad is not None
    np.testing.assert_allclose(gradient, real.grad.numpy(), atol=1e-6)
    assert session.graph is found.graph


def test_one_hot_tokens_are_explained_behind_the_table(tmp_path: Path) -> None:
    found = opened(OTHERS["one-hot tokens"].make(), tmp_path)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.how, place.op) == ("embedded", "embedding", "OneHot, MatMul")


def test_tokens_compared_with_every_class_are_a_one_hot_value(tmp_path: Path) -> None:
    """As jax writes it: equal to 0, 1, 2, ..., cast, times the table; equal to one number is a mask."""
    nodes = [
        op("Unsqueeze", "tokens", "apart", axes=[-1]),
        op("Equal", "apart classes", "same"),
        op("Cast", "same", "one_hot", to=1),
        op("MatMul", "one_hot table", "y"),
    ]
    stored = {"classes": np.arange(5), "table": np.random.default_rng(0).normal(size=(5, 2)).astype("f4")}
    proto = model(nodes, {"tokens": ["N", 6]}, ["y"], stored, opset=12)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    found = opened(proto, tmp_path)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.how, place.op) == ("y", "embedding", "OneHot, MatMul")


def test_masks_and_positions_are_not_the_embedding(tmp_path: Path) -> None:
    """A mask from a comparison and a look-up of positions stand before and beside the embedding."""
    nodes = [
        op("Equal", "x nothing", "empty"),
        op("Cast", "empty", "mask", to=TensorProto.FLOAT),
        op("Cast", "x", "long", to=TensorProto.INT64),
        op("Gather", "table long", "embedded"),
        op("ReduceSum", "embedded axis", "sums", keepdims=0),
        op("Mul", "sums mask", "y"),
    ]
    stored = {"nothing": np.array(0, np.int32), "table": numbers(9, 4), "axis": np.array([2])}
    proto = model(nodes, {"x": ["N", 5]}, ["y"], stored, TensorProto.INT32)
    found = opened(proto, tmp_path)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.how, place.others) == ("embedded", "embedding", ())


def test_two_embeddings_are_both_named(tmp_path: Path) -> None:
    nodes = [op("Gather", "t1 x", "first"), op("Gather", "t2 x", "second"), op("Add", "first second", "y")]
    stored = {"t1": numbers(9, 4), "t2": numbers(9, 4)}
    proto = model(nodes, {"x": ["N", 5]}, ["y"], stored, TensorProto.INT64)
    found = opened(proto, tmp_path)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.others) == ("first", ("second",))
    assert "second also read the input" in place.words()


def test_integers_that_stay_integers_have_no_gradient(tmp_path: Path) -> None:
    nodes = [op("Greater", "x limit", "high"), op("Cast", "high", "y", to=TensorProto.FLOAT)]
    proto = model(nodes, {"x": ["N", 5]}, ["y"], {"limit": np.array(3)}, TensorProto.INT64)
    found = opened(proto, tmp_path)
    with refused(UnsupportedError, "'x' (int64, N x 5)", "nothing has a gradient", "occlusion needs none"):
        found.run("saliency", np.ones((1, 5), np.int64), "y[0,1]")
    result = found.run("occlusion", np.full((1, 5), 9), "y")
    assert result.arrays["drop"].shape == (1, 5)


@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_a_value_whose_rows_are_no_inputs_is_refused(tmp_path: Path, method: str) -> None:
    other = OTHERS["reader"]
    found = opened(other.make(), tmp_path, **other.settings)
    with refused(TargetError, "'letters'", "first axis is not the batch"):
        found.run(method, other.arrays(2), "letters[0,0,1]")


CODES = {
    "sx": np.float32(0.02), "zx": np.uint8(128), "sw": np.float32(0.01), "zw": np.int8(0),
    "sy": np.float32(0.05), "zy": np.uint8(100), "z8": np.int8(3),
    "w": np.random.default_rng(0).integers(-40, 40, (2, 1, 3)).astype(np.int8),
}  # fmt: skip


def _spread(scale: float) -> NDArray[Any]:
    """What each input number adds to the sum of channel 1: the kernel's taps that reach it, unpadded."""
    taps = CODES["w"][1, 0].astype(np.float64)
    return np.asarray(np.convolve(np.ones(6), taps) * scale)


def test_codes_read_by_a_quantised_convolution_are_explained_at_the_input(tmp_path: Path) -> None:
    nodes = [
        op("QLinearConv", "x sx zx w sw zw sy zy", "codes"),
        op("DequantizeLinear", "codes sy zy", "y"),
    ]
    found = opened(model(nodes, {"x": ["N", 1, 8]}, ["y"], CODES, TensorProto.UINT8), tmp_path)
    place = explained_at(found.graph, found.source)
    assert (place.value, place.how, place.words()) == ("x", "input", "the input")
    x = np.random.default_rng(1).integers(120, 136, (2, 1, 8)).astype(np.uint8)
    found_gradient = found.run("saliency", x, "y:1").array[:, 0]
    np.testing.assert_allclose(found_gradient, np.stack([_spread(0.02 * 0.01) / 6] * 2), rtol=1e-5)
    assert found.certificate().passed


def test_codes_read_by_an_integer_convolution_are_explained_at_the_input(tmp_path: Path) -> None:
    nodes = [
        op("MaxPool", "x", "pooled", kernel_shape=[1]),
        op("ConvInteger", "pooled w zx zw", "sums"),
        op("Cast", "sums", "y", to=TensorProto.FLOAT),
    ]
    found = opened(model(nodes, {"x": ["N", 1, 8]}, ["y"], CODES, TensorProto.UINT8), tmp_path)
    assert explained_at(found.graph, found.source).value == "x"
    x = np.random.default_rng(1).integers(0, 256, (2, 1, 8)).astype(np.uint8)
    np.testing.assert_allclose(
        found.run("saliency", x, "y:1").array[:, 0], np.stack([_spread(1 / 6)] * 2), rtol=1e-5
    )


def test_signed_codes_pass_the_places_where_they_are_largest(tmp_path: Path) -> None:
    nodes = [
        op("MaxPool", "x", "pooled", kernel_shape=[2], strides=[2]),
        op("DequantizeLinear", "pooled sx z8", "y"),
    ]
    found = opened(model(nodes, {"x": ["N", 1, 4]}, ["y"], CODES, TensorProto.INT8), tmp_path)
    gradient = found.run("saliency", np.array([[[1, -2, 7, 9]]], np.int8), "y:0").array
    np.testing.assert_allclose(gradient, [[[0.01, 0, 0, 0.01]]], rtol=1e-6)


def test_codes_that_go_two_ways_are_explained_at_the_input(tmp_path: Path) -> None:
    """At either cast the other way's share would be missing."""
    nodes = [
        op("Cast", "x", "real", to=TensorProto.FLOAT),
        op("DequantizeLinear", "x sx zx", "scaled"),
        op("Add", "real scaled", "y"),
    ]
    found = opened(model(nodes, {"x": ["N", 1, 4]}, ["y"], CODES, TensorProto.UINT8), tmp_path)
    assert explained_at(found.graph, found.source).value == "x"
    gradient = found.run("saliency", np.array([[[1, 2, 7, 9]]], np.uint8), "y:0").array
    np.testing.assert_allclose(gradient, np.full((1, 1, 4), 1.02 / 4), rtol=1e-6)


def test_truth_values_are_explained_at_their_cast_or_refused(tmp_path: Path) -> None:
    nodes = [op("Cast", "x", "real", to=TensorProto.FLOAT), op("MatMul", "real w", "y")]
    stored = {"w": numbers(5, 2), "a": numbers(5), "b": numbers(5, seed=1)}
    found = opened(model(nodes, {"x": ["N", 5]}, ["y"], stored, TensorProto.BOOL), tmp_path)
    assert explained_at(found.graph, found.source).how == "cast"
    x = np.array([[True, False, True, True, False]])
    np.testing.assert_allclose(found.run("saliency", x, "y[0,1]").array[0], stored["w"][:, 1], rtol=1e-6)
    assert found.run("occlusion", x, "y[0,1]").arrays["drop"].shape == (1, 5)
    only = opened(
        model([op("Where", "x a b", "y")], {"x": ["N", 5]}, ["y"], stored, TensorProto.BOOL), tmp_path
    )
    assert only.certificate().passed
    with refused(UnsupportedError, "'x' (bool, N x 5)", "truth values", "nothing has a gradient"):
        only.run("saliency", x, "y[0,1]")
