"""Which channels tell classes apart: held against the images themselves, and against shuffled labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

import convlens
from convlens import registry
from convlens.attribution.sets.moderated import prior_of
from convlens.errors import UsageError
from convlens.model import Model
from convlens.recording.byclass import ByClass
from convlens.recording.channels.selectivity import selectivity_of
from reference import nets
from reference.recorded import recorded

CLASSES, EACH, SIDE = 4, 25, 5


def told(value: NDArray[np.float64], labels: NDArray[np.int64]) -> ByClass:
    """Means and variances of each class from images x channels."""
    known = np.unique(labels)
    groups = [value[labels == label] for label in known]
    return ByClass(
        tuple(map(str, known)),
        np.array([len(group) for group in groups]),
        np.stack([group.mean(axis=0) for group in groups]),
        np.stack([group.var(axis=0) for group in groups]),
        False,
    )


def sparse(rng: np.random.Generator, images: int, channels: int) -> NDArray[np.float64]:
    """Values as rectified channels have them: from nearly always on to once in a hundred, with long tails."""
    rarity = np.geomspace(1.0, 0.01, channels)
    on = rng.uniform(size=(images, channels)) < rarity
    return np.where(on, rng.lognormal(0, 1, (images, channels)), 0.0)


def test_separation_is_d_prime_from_the_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    value = rng.normal(2, 1, (60, 30)) + (labels == 1)[:, None] * np.linspace(0, 3, 30)
    found = selectivity_of(told(value, labels), value.max(axis=0), 0.05)
    prior, usual = prior_of(value.var(axis=0, ddof=1), 59.0)
    for row, label in enumerate(range(3)):
        own, rest = value[labels == label], value[labels != label]
        within = ((own - own.mean(0)) ** 2).sum(0) + ((rest - rest.mean(0)) ** 2).sum(0)
        variance = np.full(30, usual) if np.isinf(prior) else (prior * usual + within) / (prior + 58)
        expected = (own.mean(axis=0) - rest.mean(axis=0)) / np.sqrt(variance)
        np.testing.assert_allclose(found.separation[row], expected, rtol=1e-9)
    assert found.best.tolist() == [
        int(np.argmax([value[labels == k, c].mean() for k in range(3)])) for c in range(30)
    ]


def test_the_index_by_hand() -> None:
    """Class means 4, 1 and 1: (4 - 1) / (4 + 1). A channel of one class alone has 1, of none no index."""
    mean = np.array([[4.0, 2, 0, -1, 1], [1.0, 0, 0, 3, 1], [1.0, 0, 0, 2, 1]])
    given = ByClass(("a", "b", "c"), np.array([5, 5, 5]), mean, np.ones((3, 5)), False)
    found = selectivity_of(given, np.full(5, 9.0), 0.05)
    np.testing.assert_allclose(found.index, [0.6, 1.0, np.nan, np.nan, 0.0])
    assert found.best.tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("each", [3, 10, 200])
def test_noise_is_not_sold_as_selectivity(each: int) -> None:
    """Labels that have nothing to do with the values: at most one layer of twenty may show anything."""
    rng = np.random.default_rng(each)
    shown = 0
    for _ in range(60):
        value = sparse(rng, 10 * each, 64)
        found = selectivity_of(told(value, np.repeat(np.arange(10), each)), value.max(axis=0), 0.05)
        shown += bool((found.separation > found.noise).any())
    assert shown <= 3


def test_what_is_there_is_found() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 100)
    value = sparse(rng, 1000, 64)
    for channel in range(10):
        value[labels == channel, channel] += 6.0
    found = selectivity_of(told(value, labels), value.max(axis=0), 0.05)
    tells = found.separation > found.noise
    assert tells[np.arange(10), np.arange(10)].all()
    assert not tells[:, 10:].any()


def test_bernstein_s_bound_holds_for_draws_without_replacement() -> None:
    """The mean of n of a skewed population exceeds the bound less often than it says."""
    rng = np.random.default_rng(2)
    values = np.where(rng.uniform(size=400) < 0.02, rng.lognormal(1, 1, 400), 0.0)
    n, chance = 20, 0.05
    rarity = np.log(1 / chance)
    reach, variance = values.max() - values.mean(), values.var()
    bound = (reach * rarity / 3 + np.sqrt((reach * rarity / 3) ** 2 + 2 * n * variance * rarity)) / n
    drawn = np.array([rng.permutation(values)[:n].mean() for _ in range(4000)]) - values.mean()
    assert (drawn > bound).mean() <= chance
    given = told(values[:, None], np.arange(400) < n)
    found = selectivity_of(given, np.array([values.max()]), 2 * chance)  # two classes, one channel
    (rest, own) = given.mean[:, 0]
    deviation = (own - rest) / found.separation[1, 0]
    assert found.noise[1, 0] * deviation == pytest.approx(bound * 400 / 380)


def test_channels_without_numbers_or_without_change_say_nothing() -> None:
    mean = np.array([[1.0, np.nan, 2.0], [3.0, 1.0, 2.0]])
    variance = np.array([[1.0, np.nan, 0.0], [1.0, 1.0, 0.0]])
    given = ByClass(("a", "b"), np.array([30, 30]), mean, variance, False)
    found = selectivity_of(given, np.array([5.0, 5.0, 2.0]), 0.05)
    assert np.isfinite(found.separation).all()
    assert np.isinf(found.noise[:, 1]).all()
    assert not (found.separation > found.noise)[:, 1:].any()
    assert np.isnan(found.index[1])


# The method


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classes")


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    """A Relu of each of four planes, then their sum in one dead and one shared channel."""
    weight = np.zeros((6, CLASSES, 1, 1), np.float32)
    weight[:CLASSES, :, 0, 0] = np.eye(CLASSES)
    weight[CLASSES] = -1
    weight[CLASSES + 1] = 1
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["before"]),
        helper.make_node("Relu", ["before"], ["planes"]),
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["code"]),
        helper.make_node("MatMul", ["code", "head"], ["y"]),
    ]
    proto = nets.model_of(
        nodes,
        {"x": ["N", CLASSES, SIDE, SIDE]},
        ["y"],
        {"w": weight, "head": np.eye(6, CLASSES, dtype=np.float32)},
    )
    return convlens.load(nets.saved(proto, root, "planes"), threads=1)


def inputs() -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Noise, and of class c a bright spot in plane c."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, (CLASSES * EACH, CLASSES, SIDE, SIDE)).astype(np.float32)
    labels = np.arange(len(x)) % CLASSES
    x[np.arange(len(x)), labels, 2, 2] += 2
    return x, np.array(["ant", "bee", "cat", "dog"])[labels]


def test_each_class_finds_its_planted_channel(model: Model, root: Path) -> None:
    x, labels = inputs()
    found = recorded(model, x, root / "recordings", labels)
    result = model.run("classes", recording=found, top=2)
    assert result.hints["labels"] == ["ant", "bee", "cat", "dog"]
    assert [row["channel"] for row in result.rows][::2] == [f"planes:{c}" for c in range(CLASSES)]
    assert [row["tells"] for row in result.rows] == [True, False] * CLASSES
    np.testing.assert_array_equal(result.arrays["tells"], np.eye(CLASSES, 6))
    most = np.maximum(np.einsum("oc,nchw->nohw", _weight(), x), 0).max(axis=(2, 3))
    means = np.stack([most[labels == label].mean(axis=0) for label in result.hints["labels"]])
    np.testing.assert_allclose(result.arrays["mean"], means, rtol=1e-5)
    rest = (means.sum(axis=0) - means.max(axis=0)) / (CLASSES - 1)
    index = (means.max(axis=0) - rest)[[0, 1, 2, 3, 5]] / (means.max(axis=0) + rest)[[0, 1, 2, 3, 5]]
    np.testing.assert_allclose(result.arrays["index"][[0, 1, 2, 3, 5]], index, rtol=1e-5)
    assert result.arrays["index"][4] == -1, "a channel that never fires has no selectivity"
    said = [finding.text for finding in registry.method("classes").findings(result)]
    assert said[0] == "4 of 6 channels tell a class apart."
    (picture,) = result.pictures
    assert "ant: planes:0" in picture.alt


def _weight() -> NDArray[np.float32]:
    return np.concatenate([np.eye(4), -np.ones((1, 4)), np.ones((1, 4))]).astype(np.float32)


def test_labels_that_say_nothing_show_nothing(model: Model, root: Path) -> None:
    x, labels = inputs()
    dealt = np.random.default_rng(4).permutation(labels)
    result = model.run("classes", recording=recorded(model, x, root / "recordings", dealt))
    assert not result.arrays["tells"].any()
    (finding,) = registry.method("classes").findings(result)
    assert finding.text == "No channel tells a class apart for sure."
    assert "25 images each; more images may show some" in finding.evidence


def test_predicted_classes_are_called_so_and_one_class_is_refused(model: Model, root: Path) -> None:
    x, _ = inputs()
    result = model.run("classes", recording=recorded(model, x, root / "recordings"))
    assert result.hints["predicted"]
    assert "classes that the model predicts" in registry.method("classes").findings(result)[0].evidence
    same = recorded(model, x, root / "recordings", np.full(len(x), "ant"))
    with pytest.raises(UsageError, match="all images are of class 'ant'; expected images of two classes"):
        model.run("classes", recording=same)
