"""``predict`` against a loop over the reference's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import convlens
from convlens import registry
from convlens.errors import CardError, ParameterError, TargetError
from reference import deconvnet, nets, plainly

SINGLE = 1e-5
"""onnxruntime computes in float32, the reference in float64; probabilities lie between 0 and 1."""


def scores(net: nets.Net, images: np.ndarray) -> list[np.ndarray]:
    return [deconvnet.forward(net, image).top for image in images]


@pytest.mark.parametrize("top", [1, 3, 4])
@pytest.mark.parametrize("end", ["", "Softmax", "Sigmoid"])
def test_probabilities_and_order(end: str, top: int, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 5, net.shape)
    model = convlens.load(nets.saved(net.onnx(end=end), tmp_path), threads=1, labels=list("abcd"))
    result = model.run("predict", images, top=top, batch_size=2)
    squash = plainly.sigmoid if end == "Sigmoid" else plainly.softmax
    rows = iter(result.rows)
    for index, own in enumerate(scores(net, images)):
        probabilities = squash(own)
        for rank, wanted in enumerate(plainly.ranking(probabilities, top)):
            assert result.arrays["index"][index, rank] == wanted
            assert abs(result.array[index, rank] - probabilities[wanted]) < SINGLE
            reported = probabilities[wanted] if end else own[wanted]  # the output's own number
            assert abs(result.arrays["score"][index, rank] - reported) < SINGLE * 10
            row = next(rows)
            assert (row["image"], row["rank"], row["class"]) == (f"input {index}", rank + 1, wanted)
            assert row["label"] == "abcd"[wanted]
            assert row["probability"] == result.array[index, rank]
    assert next(rows, None) is None


def test_a_softmax_output_is_not_squashed_again(tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 3, net.shape)
    bare = convlens.load(nets.saved(net.onnx(), tmp_path, "bare"), threads=1)
    soft = convlens.load(nets.saved(net.onnx(end="Softmax"), tmp_path, "soft"), threads=1)
    one, other = bare.run("predict", images).array, soft.run("predict", images).array
    np.testing.assert_allclose(one, other, atol=SINGLE)
    np.testing.assert_allclose(other.sum(axis=1), 1, atol=SINGLE)


def test_sigmoids_stand_each_for_itself(tmp_path: Path) -> None:
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(end="Sigmoid"), tmp_path), threads=1)
    result = model.run("predict", nets.pictures(0, 3, net.shape))
    assert np.abs(result.array.sum(axis=1) - 1).min() > 0.01
    assert result.units["score"] == "model's sigmoid"


def test_of_equal_classes_the_lower_index_comes_first(tmp_path: Path) -> None:
    """Whole numbers everywhere, so that equal scores are equal to the bit."""
    last = nets.Dense(np.array([[1, 0], [2, 0], [2, 0], [1, 0], [2, 0]], np.float32), np.zeros(5, np.float32))
    net = nets.Net((2, 1, 1), (nets.Relu(), last))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    images = np.array([[3, 1], [-2, 1]], np.float32).reshape(2, 2, 1, 1)
    result = model.run("predict", images, top=5)
    assert result.arrays["index"].tolist() == [[1, 2, 4, 0, 3], [0, 1, 2, 3, 4]]


def test_more_asked_for_than_there_are(tmp_path: Path) -> None:
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    assert model.run("predict", nets.pictures(0, 2, net.shape), top=1000).array.shape == (2, 4)
    with pytest.raises(ParameterError, match="top"):
        model.run("predict", nets.pictures(0, 2, net.shape), top=0)


def test_channels_last_and_a_fixed_batch(tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 3, net.shape, np.float32)
    proto = net.onnx(batch=1, nhwc=True)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    result = model.run("predict", np.moveaxis(images, 1, -1))
    for index, own in enumerate(scores(net, images)):
        assert result.arrays["index"][index].tolist() == plainly.ranking(plainly.softmax(own), 5)


def test_a_model_without_classes_is_refused(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(nets.classifier(0).until("relu2").onnx(), tmp_path), threads=1)
    with pytest.raises(TargetError, match="no class scores"):
        model.run("predict", nets.pictures(0, 2, (3, 11, 9)))


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = nets.saved(nets.classifier(0).onnx(), tmp_path)
    with pytest.raises(CardError, match="3 labels"):
        convlens.load(path, labels=list("abc")).run("predict", nets.pictures(0, 1, (3, 11, 9)))


def test_findings_tell_sure_from_torn(tmp_path: Path) -> None:
    """Scores set by hand: e^5 against 3 others is 98%, four equal ones are 25% each."""
    last = nets.Dense(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    model = convlens.load(nets.saved(nets.Net((4, 1, 1), (last,)).onnx(), tmp_path), threads=1)
    images = np.array([[0, 5, 0, 0], [1, 1, 1, 1]], np.float32).reshape(2, 4, 1, 1)
    result = model.run("predict", images)
    found = registry.methods()["predict"].findings(result)
    assert [(f.image, f.level) for f in found] == [(0, "note"), (1, "attention")]
    assert "class 1 98%" in found[0].evidence
