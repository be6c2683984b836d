"""Where inputs without a derivative are explained, against slow sums in numpy and finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from convlens.errors import TargetError, UnsupportedError
from convlens.graph.explained import explained_at
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
