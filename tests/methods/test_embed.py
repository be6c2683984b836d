"""``embed`` on handwritten digits, and against loops on a small recording."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convlens
from convlens import registry
from convlens.errors import ParameterError, UsageError
from convlens.model import Model
from convlens.recording.plan import plan_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.source import open_source
from reference import nets

COUNT = 360


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embed")


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """1,797 pictures of 8 x 8 pixels and which digit each is: those of scikit-learn, each lit from a side.

    The light is of no use to tell digits apart, and much of what pixels differ in.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    rng = np.random.default_rng(0)
    across, down, even = rng.uniform(-1, 1, (3, len(found.images), 1, 1))
    place = np.linspace(-1, 1, 8)
    light = (across * place + down * place[:, None] + even + 3) / 6
    return (255 * (0.55 * found.images / 16 + 0.45 * light)).astype(np.uint8), found.target


@pytest.fixture(scope="module")
def model(root: Path, digits: tuple[NDArray[Any], NDArray[Any]]) -> Model:
    """One hidden layer, trained on the digits that are not recorded."""
    from sklearn.neural_network import MLPClassifier

    pictures, labels = digits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it has converged
        net = MLPClassifier((32,), max_iter=80, learning_rate_init=0.01, random_state=0)
        net.fit(pictures[COUNT:].reshape(-1, 64) / 255, labels[COUNT:])
    (w1, w2), (b1, b2) = net.coefs_, net.intercepts_
    stored = {"w1": w1.T.reshape(32, 1, 8, 8), "b1": b1, "w2": w2.T, "b2": b2}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Flatten", ["active"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    labels_ = [str(digit) for digit in range(10)]
    return convlens.load(nets.saved(proto, root, "digits"), mean=[0], std=[1], labels=labels_, threads=1)


def made(model: Model, folder: Path, **arrays: NDArray[Any]) -> Recording:
    data = folder.with_suffix(".npz")
    np.savez(data, **arrays)
    source = open_source([str(data)], model.source, model.card)
    record(model, source, folder, plan_of(model, k=2, shard=100, batch_size=50))
    return Recording.open(folder)


@pytest.fixture(scope="module")
def recording(model: Model, root: Path, digits: tuple[NDArray[Any], NDArray[Any]]) -> Recording:
    return made(model, root / "rec", inputs=digits[0][:COUNT], labels=digits[1][:COUNT])


def slow_purity(vectors: NDArray[Any], classes: NDArray[Any], k: int = 10) -> float:
    """From its definition."""
    shares = []
    for index, vector in enumerate(vectors.astype(np.float64)):
        distance = ((vectors - vector) ** 2).sum(axis=1)
        distance[index] = np.inf
        shares.append(np.mean(classes[np.argsort(distance, kind="stable")[:k]] == classes[index]))
    return float(np.mean(shares))


def test_features_hold_the_ten_digits_apart_better_than_pixels_do(
    model: Model, recording: Recording, digits: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    result = model.run("embed", recording=recording, seed=1)
    purity = dict(zip(result.hints["spaces"], result.arrays["purity"].tolist(), strict=True))
    assert list(purity) == ["features", "map of features", "pixels", "map of pixels"]
    assert purity["map of features"] > 0.95
    assert purity["features"] > purity["pixels"] + 0.02
    assert result.units["purity"] == "share of the 10 nearest other images that are of the same class"
    labels = digits[1][:COUNT]
    numbers, vectors = recording.features()
    assert result.arrays["number"].tolist() == numbers.tolist() == list(range(COUNT))
    pixels = digits[0][:COUNT].reshape(COUNT, -1) / 255.0
    for name, space in {
        "features": vectors,
        "map of features": result.array,
        "pixels": pixels,
        "map of pixels": result.arrays["pixel_place"],
    }.items():
        assert purity[name] == pytest.approx(slow_purity(space, labels), abs=2e-3), name  # ties
    np.testing.assert_array_equal(result.arrays["thumbnails"], np.repeat(digits[0][:COUNT, ..., None], 3, 3))
    assert [point["label"] for point in result.hints["points"]] == [str(label) for label in labels]
    assert len({tuple(cell) for cell in result.arrays["cell"].tolist()}) == COUNT
    assert [picture.name for picture in result.pictures] == ["map", "pictures", "grid"]
    (finding,) = registry.method("embed").findings(result)
    assert finding.level == "good"


def test_a_limit_draws_evenly_and_the_seed_says_which(model: Model, recording: Recording) -> None:
    one = model.run("embed", recording=recording, way="pca", limit=36, seed=1)
    other = model.run("embed", recording=recording, way="pca", limit=36, seed=2)
    np.testing.assert_array_equal(one.arrays["number"] // 10, np.arange(36))
    assert not np.array_equal(one.arrays["number"], other.arrays["number"])
    _, vectors = recording.features()
    chosen = vectors[one.arrays["number"]].astype(np.float64)
    left, sizes, _ = np.linalg.svd(chosen - chosen.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    np.testing.assert_allclose(np.abs(one.array), np.abs(expected), rtol=0, atol=1e-5 * expected.max())


def test_colours(model: Model, recording: Recording, digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    def coloured(by: str) -> Any:
        return model.run("embed", recording=recording, way="pca", pixels="no", thumbnail=0, colour=by)

    labels, (_, vectors) = digits[1][:COUNT], recording.features()
    np.testing.assert_array_equal(coloured("label").arrays["colour"], labels)
    told = model.probabilities(model.images(digits[0][:COUNT, None] / np.float32(255)))
    np.testing.assert_array_equal(coloured("prediction").arrays["colour"], told.argmax(axis=1))
    np.testing.assert_array_equal(coloured("right").arrays["colour"], told.argmax(axis=1) == labels)
    np.testing.assert_allclose(coloured("probability").arrays["colour"], told.max(axis=1), rtol=1e-5)
    by_channel = coloured("channel:3")
    np.testing.assert_array_equal(by_channel.arrays["colour"], vectors[:, 3])
    assert by_channel.pictures[0].scale is not None
    for bad in ("channel:32", "channel:x", "lable", ""):
        if bad:
            with pytest.raises(ParameterError, match="expected label, prediction, probability, channel:0 to"):
                coloured(bad)


def test_values_of_the_data_set_and_no_labels(
    model: Model, root: Path, digits: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    reward = np.linspace(-1, 1, 30)
    opened = made(model, root / "values", inputs=digits[0][:30], reward=reward)
    result = model.run("embed", recording=opened, way="pca", colour="reward")
    np.testing.assert_allclose(result.arrays["colour"], reward)
    assert result.hints["by"] == "prediction"
    with pytest.raises(ParameterError, match="the data set has no labels"):
        model.run("embed", recording=opened, way="pca", colour="label")


def test_a_data_set_that_is_gone_costs_the_pictures_only(
    model: Model, root: Path, digits: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    opened = made(model, root / "gone", inputs=digits[0][:20], labels=digits[1][:20])
    (root / "gone.npz").unlink()
    result = model.run("embed", recording=Recording.open(opened.folder), way="pca")
    assert "thumbnails" not in result.arrays
    assert "no pixels and no small pictures: the data set" in result.how["warnings"][0]
    assert [picture.name for picture in result.pictures] == ["map", "grid"]
    with pytest.raises(UsageError, match="cannot be opened"):
        model.run("embed", recording=Recording.open(opened.folder), way="pca", pixels="yes")


def test_two_images_are_no_map(model: Model, root: Path, digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    opened = made(model, root / "two", inputs=digits[0][:2])
    with pytest.raises(UsageError, match="2 images; a map needs 3 or more"):
        model.run("embed", recording=opened)


def test_classes_of_one_image_each_have_no_purity(
    model: Model, root: Path, digits: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    opened = made(model, root / "single", inputs=digits[0][:12], labels=np.arange(12))
    result = model.run("embed", recording=opened, way="pca")
    assert "purity" not in result.arrays
    assert not registry.method("embed").findings(result)
