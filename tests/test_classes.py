"""Which output holds class scores, and what the scores are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import convlens
from convlens.cards import Card
from convlens.classes import Classes, find_classes
from convlens.errors import CardError, TargetError
from convlens.graph.load import load_graph
from graph.held import text
from graph.nets import classifier, model, numbers, op, put, refused


def classes(proto: onnx.ModelProto, folder: Path, **card: Any) -> Classes | None:
    graph, _ = load_graph(put(proto, folder))
    return find_classes(graph, Card.parse(card))


def ends(folder: Path, *nodes: onnx.NodeProto, shape: Any = ("N", 4), **card: Any) -> Classes | None:
    return classes(model([op("Neg", "x", "a"), *nodes], {"x": shape}, ["y"]), folder, **card)


def test_plain_scores_are_logits(tmp_path: Path) -> None:
    found = classes(classifier(), tmp_path)
    assert found == Classes("logits", "logits", 5, "logits", None)


@pytest.mark.parametrize(
    ("op_name", "scores"), [("Softmax", "probabilities"), ("Sigmoid", "sigmoid"), ("Relu", "logits")]
)
def test_the_last_operator_says_what_they_are(tmp_path: Path, op_name: str, scores: str) -> None:
    found = ends(tmp_path, op(op_name, "a", "y"))
    assert found is not None
    assert found.name == "y"
    assert found.scores == scores
    assert found.logits == ("y" if scores == "logits" else "a")


def test_softmax_behind_a_flattening(tmp_path: Path) -> None:
    nodes = [op("Softmax", "a", "b", axis=1), op("Flatten", "b", "c"), op("Identity", "c", "y")]
    found = ends(tmp_path, *nodes, shape=("N", 4, 1, 1))
    assert found is not None
    assert (found.logits, found.scores, found.count) == ("a", "probabilities", 4)


def test_scores_with_axes_of_one(tmp_path: Path) -> None:
    found = ends(tmp_path, op("Relu", "a", "y"), shape=("N", 4, 1, 1))
    assert found is not None
    assert found.count == 4


@pytest.mark.parametrize("shape", [("N", 4, 7, 7), ("N", 1), ("N", "C"), (4,)])
def test_other_shapes_are_no_scores(tmp_path: Path, shape: Any) -> None:
    assert ends(tmp_path, op("Relu", "a", "y"), shape=shape) is None


def test_one_sigmoid_is_a_score(tmp_path: Path) -> None:
    found = ends(tmp_path, op("Sigmoid", "a", "y"), shape=("N", 1))
    assert found is not None
    assert found.count == 1


@pytest.mark.parametrize("task", ["features", "embedding", "detection", "segmentation"])
def test_the_card_may_say_that_there_are_none(tmp_path: Path, task: str) -> None:
    assert classes(classifier(), tmp_path, model={"task": task}) is None


def test_the_only_softmax_among_outputs(tmp_path: Path) -> None:
    nodes = [op("Neg", "x", "box"), op("Abs", "x", "a"), op("Softmax", "a", "prob")]
    proto = model(nodes, {"x": ["N", 4]}, ["box", "prob"])
    found = classes(proto, tmp_path)
    assert found is not None
    assert found.name == "prob"
    named = classes(proto, tmp_path, output={"name": "box"})
    assert named is not None
    assert named.name == "box"


def test_output_that_is_not_there(tmp_path: Path) -> None:
    with refused(CardError, "no output 'probs'", "logits"):
        classes(classifier(), tmp_path, output={"name": "probs"})


def test_labels_must_match(tmp_path: Path) -> None:
    with refused(CardError, "the card", "3 labels", "'logits'", "5 scores", "--labels"):
        classes(classifier(), tmp_path, output={"labels": ["a", "b", "c"]})
    proto = classifier()
    helper.set_model_props(proto, {"names": "['a', 'b']"})
    with refused(CardError, "the file's metadata", "2 labels", "5 scores"):
        classes(proto, tmp_path)


def test_probabilities() -> None:
    scores = np.array([[[[0.0]], [[np.log(3.0)]]], [[[1000.0]], [[1000.0]]]], np.float32)
    logits = Classes("y", "y", 2, "logits", None).probabilities(scores)
    # float32 keeps log 3 to 1e-7
    np.testing.assert_allclose(logits, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)
    ready = Classes("y", "x", 2, "probabilities", None).probabilities(scores)
    np.testing.assert_array_equal(ready, scores.reshape(2, 2))


@pytest.mark.parametrize(
    ("taken", "given", "counted"),
    [
        (("N", 4), "N", True),
        (("N", 4), "M", True),
        ((1, 4), 1, True),
        ((2, 4), 2, True),
        ((1, 4), 20, False),
        ((2, 4), 20, False),
        ((1, 4), "M", True),  # what shapes could not tell
        ((1, 3, 32, "W"), "M", False),  # a row for each column of a line
        (("N", 3, 32, "W"), "M", True),
    ],
)
def test_rows_are_scores_only_where_they_count_inputs(
    taken: tuple[int | str, ...], given: int | str, counted: bool, tmp_path: Path
) -> None:
    proto = model([op("Relu", "x", "y")], {"x": (given, 4)}, ["y"])
    graph, _ = load_graph(put(proto, tmp_path))
    assert (find_classes(graph, Card(), taken) is not None) is counted


def test_boxes_that_were_kept_are_no_scores(tmp_path: Path) -> None:
    proto = text(
        "(float[1,8,4] x) => (float[M,4] y) { s = ReduceSum <keepdims = 1> (x, axis)"
        "t = Transpose <perm = [0, 2, 1]> (s)  k = NonMaxSuppression(x, t, most)"
        "i = Gather <axis = 1> (k, last)  f = Squeeze(x, first)  y = Gather(f, i) }",
        {"axis": np.array([2]), "most": np.array([3]), "last": np.array(2), "first": np.array([0])},
    )
    loaded = convlens.load(put(proto, tmp_path), device="cpu")
    assert loaded.classes is None
    with refused(TargetError, "no class scores"):
        loaded.run("predict", np.ones((1, 8, 4), np.float32))


def test_what_is_offered_in_place_of_boxes_works(tmp_path: Path) -> None:
    proto = text(
        "(float[1,3,8,8] x) => (float[M,4] y) { c = Conv(x, w)  b = Reshape(c, shape)"
        "s = ReduceSum <keepdims = 1> (b, axis)  t = Transpose <perm = [0, 2, 1]> (s)"
        "k = NonMaxSuppression(b, t, most)  i = Gather <axis = 1> (k, last)  f = Squeeze(b, first)"
        "y = Gather(f, i) }",
        {
            "w": numbers(4, 3, 1, 1),
            "shape": np.array([1, 64, 4]),
            "axis": np.array([2]),
            "most": np.array([3]),
            "last": np.array(2),
            "first": np.array([0]),
        },
    )
    loaded = convlens.load(put(proto, tmp_path), device="cpu")
    x = numbers(1, 3, 8, 8)
    with refused(TargetError, "e.g. --target c:0"):
        loaded.run("saliency", x)
    assert loaded.run("saliency", x, "c:0").array.shape == x.shape
