"""``kernel-shap`` and ``lime`` against their definitions, and against Captum."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LimeBase, ShapleyValues
from numpy.typing import NDArray

import convlens
from convlens import registry
from convlens.attribution.masking.coalitions import BLOCK, Coalitions
from convlens.errors import ParameterError
from convlens.model import Model
from graph.nets import refused
from instrument.test_captum import twin
from reference import coalitions, deconvnet, nets, plainly
from reference.others import OTHERS, Other

CLOSE = 1e-5
"""Of a probability: scores are float32, and coefficients are sums of a few of them."""

CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}
BOTH = pytest.mark.parametrize("name", ["kernel-shap", "lime"])


def given(which: str, folder: Path) -> tuple[Model, Other]:
    other = OTHERS[which]
    return convlens.load(nets.saved(other.make(), folder), threads=1, **other.settings), other


def quadratic(folder: Path, weight: NDArray[Any], between: NDArray[Any]) -> Model:
    """w x + x B x on a vector: the parts' values are known, and depend on each other."""
    from onnx.helper import make_node

    stored = {"w": weight.astype(np.float32)[:, None], "b": between.astype(np.float32)}
    stored["axes"] = np.array([1], np.int64)  # type: ignore[assignment]
    nodes = [
        make_node("MatMul", ["x", "w"], ["linear"]),
        make_node("MatMul", ["x", "b"], ["bx"]),
        make_node("Mul", ["x", "bx"], ["xbx"]),
        make_node("ReduceSum", ["xbx", "axes"], ["square"], keepdims=1),
        make_node("Add", ["linear", "square"], ["out"]),
    ]
    proto = nets.model_of(nodes, {"x": ["N", len(weight)]}, ["out"], stored)
    return convlens.load(nets.saved(proto, folder), threads=1)


def halves(model: Model, x: NDArray[Any], **options: Any) -> convlens.Result:
    return model.run("kernel-shap", x, "out[0]", batch_size=64, **options)


def random_quadratic(folder: Path, size: int, seed: int) -> tuple[Model, NDArray[Any], NDArray[Any]]:
    """A model, an input, and its exact Shapley values with 0 as the fill."""
    rng = np.random.default_rng(seed)
    weight, between = rng.normal(size=size), rng.normal(size=(size, size))
    x = rng.normal(size=(1, size)).astype(np.float32)
    pairs = (between + between.T) / 2 * np.outer(x[0], x[0])
    return quadratic(folder, weight, between), x, weight * x[0] + pairs.sum(axis=1)


def value(
    net: nets.Net, image: NDArray[Any], fill: NDArray[Any], part: NDArray[Any], coalition: frozenset[int]
) -> float:
    """The probability of class 2 where the parts of the coalition are shown."""
    seen = coalitions.kept(image, fill, part, coalition)
    return plainly.softmax(deconvnet.forward(net, seen).top)[2]


@pytest.mark.parametrize(("parts", "count"), [((2, 3), 6), ((4, 2), 8), (1, 1), ((1, 2), 2)])
def test_exact_values_are_those_of_the_definition(parts: Any, count: int, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    result = model.run("kernel-shap", images, 2, parts=parts, fill="mean")
    assert [row["forwards"] for row in result.rows] == [2**count] * 2
    for index, image in enumerate(images):
        part = result.arrays["part"][index]
        assert sorted(np.unique(part)) == list(range(count))
        fill = np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)

        wanted = coalitions.shapley(count, partial(value, net, image, fill, part))
        assert max(map(abs, wanted)) > 100 * CLOSE
        np.testing.assert_allclose(result.array[index], np.array(wanted)[part], rtol=0, atol=CLOSE)
        row = result.rows[index]
        assert row["exact"] is True
        assert (row["error"], row["agreement"]) == (0, 1)
        assert sum(wanted) == pytest.approx(row["score"] - row["empty"], abs=CLOSE)
    assert not (result.arrays["error"]).any()
    assert registry.method("kernel-shap").findings(result) == []


def test_parts_are_blocks_of_a_grid(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), **CARD)
    result = model.run("kernel-shap", nets.pictures(0, 1, (3, 11, 9)), 2, parts=(2, 3))
    typed = model.run("kernel-shap", nets.pictures(0, 1, (3, 11, 9)), 2, parts="2,3")
    np.testing.assert_array_equal(typed.array, result.array)
    rows, columns = [0] * 6 + [1] * 5, [0] * 3 + [1] * 3 + [2] * 3
    wanted = [[3 * row + column for column in columns] for row in rows]
    assert result.arrays["part"][0].tolist() == wanted


@pytest.mark.parametrize("size", [5, 9])
def test_efficiency_symmetry_and_a_part_that_does_nothing(size: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight, between = rng.normal(size=size), rng.normal(size=(size, size))
    weight[1], between[1], between[:, 1] = weight[0], between[0], between[:, 0]  # 0 and 1 are alike
    between[1, 0] = between[0, 1] = 0.3
    between[1, 1] = between[0, 0]
    weight[2], between[2], between[:, 2] = 0, 0, 0  # 2 does nothing
    x = rng.normal(size=(1, size)).astype(np.float32)
    x[0, 1] = x[0, 0]
    result = halves(quadratic(tmp_path, weight, between), x)
    values = result.array[0]
    assert values.sum() == pytest.approx(result.arrays["score"][0] - result.arrays["empty"][0], abs=1e-9)
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert values[2] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("samples", [256, 1024])
def test_drawn_values_are_near_the_exact_ones_and_add_up(samples: int, tmp_path: Path) -> None:
    """On a cubic part of the model, where pairs of complements alone would not be exact."""
    model, other = given("tokens", tmp_path)
    x = other.arrays(1)
    options: dict[str, Any] = {"fill": "0", "batch_size": 64}
    exact = model.run("kernel-shap", x, "scores[0,1]", samples=4096, **options)
    assert exact.rows[0]["exact"] is True
    result = model.run("kernel-shap", x, "scores[0,1]", samples=samples, **options)
    (row,) = result.rows
    assert row["exact"] is False
    assert row["forwards"] <= samples + 2
    assert result.array.sum() == pytest.approx(row["score"] - row["empty"], abs=1e-9)
    away = np.abs(result.array - exact.array)
    assert (away <= 5 * result.arrays["error"] + 1e-6).all()
    assert away.max() < 0.1 * np.ptp(exact.array)


def test_pairs_of_complements_make_a_quadratic_exact(tmp_path: Path) -> None:
    """Interactions of two parts cancel within a pair (Covert & Lee 2021)."""
    model, x, wanted = random_quadratic(tmp_path, 16, 2)
    result = halves(model, x, samples=200)
    np.testing.assert_allclose(result.array[0], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_the_error_is_honest_with_the_fewest_samples(tmp_path: Path) -> None:
    """With fewer than four coalitions a part the drawn ones would not span the parts."""
    model, other = given("planes", tmp_path)
    x, size = other.arrays(1), Coalitions(49, 1000, 0).fewest
    near = model.run("kernel-shap", x, None, samples=4000, seed=9, batch_size=64)
    rough = model.run("kernel-shap", x, None, samples=size, batch_size=64)
    away = np.sqrt(np.mean((rough.array - near.array) ** 2))
    assert away < 1.5 * np.sqrt(np.mean(rough.arrays["error"] ** 2))


@BOTH
def test_the_error_is_what_other_seeds_show(name: str, tmp_path: Path) -> None:
    model, other = given("tokens", tmp_path)
    x = other.arrays(1)
    runs = [
        model.run(name, x, "scores[0,1]", samples=200, seed=seed, batch_size=64, fill="0")
        for seed in range(30)
    ]
    shown = np.stack([run.array[0] for run in runs]).std(axis=0, ddof=1)
    said = np.sqrt(np.square([run.arrays["error"][0] for run in runs]).mean(axis=0))
    # a jackknife over ten groups is biased upwards, and the spread of 30 numbers is known to 13% a sigma
    assert np.median(said / shown) == pytest.approx(1.1, abs=0.35)


@BOTH
@pytest.mark.parametrize("size", [1, 7, 100])
def test_until_stops_at_the_same_sample_whatever_the_batch(name: str, size: int, tmp_path: Path) -> None:
    model, other = given("tokens", tmp_path)
    options: dict[str, Any] = {"samples": 3000, "until": 0.08, "fill": "0"}
    shares: list[float] = []
    result = model.run(
        name, other.arrays(1), "scores[0,1]", batch_size=size, progress=shares.append, **options
    )
    (row,) = result.rows
    assert row["error"] < 0.08
    assert row["forwards"] < 3000
    assert shares == sorted(shares)
    assert shares[-1] == 1
    again = model.run(name, other.arrays(1), "scores[0,1]", batch_size=64, **options)
    assert again.rows[0]["forwards"] == row["forwards"]


@pytest.mark.parametrize(
    ("parts", "budget"), [(12, 100), (12, 1500), (30, 500), (361, 1600), (5, 30), (2, 2)]
)
def test_every_size_has_its_weight(parts: int, budget: int) -> None:
    """Weights of the coalitions of each size come to the kernel's, those drawn within chance."""
    plan = Coalitions(parts, budget, 3)
    blocks = list(plan.blocks())
    keep = np.concatenate([block.keep for block in blocks])
    assert len(keep) <= budget
    assert max(len(block.keep) for block in blocks) <= BLOCK
    assert (keep.sum(axis=1) > 0).all()
    assert (keep.sum(axis=1) < parts).all()
    fixed = [block for block in blocks if block.groups is None]
    counted = np.zeros(parts)
    for block in fixed:
        np.add.at(counted, block.keep.sum(axis=1), block.weights)
    np.testing.assert_allclose(keep.mean(axis=0), 0.5, atol=1e-12)  # complements
    sizes = np.arange(1, parts)
    wanted = (parts - 1) / (sizes * (parts - sizes))
    wanted /= wanted.sum()
    whole = counted[1:] > 0
    np.testing.assert_allclose(counted[1:][whole], wanted[whole], rtol=1e-12)
    assert plan.drawn_mass == pytest.approx(wanted[~whole].sum(), abs=1e-12)
    assert whole[0], "all coalitions of one part are taken, or the fit could be singular"
    rows = {tuple(row) for block in fixed for row in block.keep.tolist()}
    assert len(rows) == sum(len(block.keep) for block in fixed)
    drawn = [block for block in blocks if block.groups is not None]
    assert plan.exact == (not drawn) == (budget >= 2**parts - 2)
    for block in drawn:
        half = len(block.keep) // 2
        np.testing.assert_array_equal(block.keep[:half], ~block.keep[half:])
        np.testing.assert_array_equal(block.groups[:half], block.groups[half:])  # type: ignore[index]


def test_equal_to_captums_shapley_values(tmp_path: Path) -> None:
    net = nets.classifier(1)
    images = nets.pictures(1, 2, net.shape, np.float32)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    result = model.run("kernel-shap", images, "dense1[3]", parts=(2, 2), fill="mean")
    fill = np.broadcast_to(images.mean(axis=(2, 3), keepdims=True), images.shape).copy()
    mask = torch.from_numpy(result.arrays["part"][0])[None, None]
    with torch.no_grad():
        wanted = ShapleyValues(twin(net)).attribute(
            torch.from_numpy(images), baselines=torch.from_numpy(fill), feature_mask=mask, target=3
        )
    expected = wanted.numpy()[:, 0]
    assert np.abs(result.array - expected).max() < CLOSE * np.abs(expected).max()


def drawn(count: int, samples: int, seed: int = 0) -> NDArray[Any]:
    """Samples as ``lime`` says that it draws them: block by block, the first with all parts."""
    blocks = range(-(-samples // BLOCK))
    keep = np.concatenate([np.random.default_rng([seed, b]).random((BLOCK, count)) < 0.5 for b in blocks])
    keep[0] = True
    return keep[:samples]


@pytest.mark.parametrize(("width", "ridge"), [(0.25, 1.0), (0.5, 0.0), (0.1, 20.0)])
def test_lime_against_its_closed_form(width: float, ridge: float, tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    options: dict[str, Any] = {"samples": 150, "width": width, "ridge": ridge, "fill": "mean", "seed": 5}
    result = model.run("lime", images, 2, parts=(3, 4), **options)
    keep = drawn(12, 150, 5)
    for index, image in enumerate(images):
        part = result.arrays["part"][index]
        fill = np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
        seen = [coalitions.kept(image, fill, part, frozenset(np.flatnonzero(row).tolist())) for row in keep]
        scores = [plainly.softmax(deconvnet.forward(net, x).top)[2] for x in seen]
        wanted, intercept = coalitions.lime(keep.tolist(), scores, width, ridge)
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(result.array[index], np.array(wanted)[part], rtol=0, atol=1e-4 * scale)
        assert result.arrays["intercept"][index] == pytest.approx(intercept, abs=1e-4)
        weights = np.exp(-((1 - np.sqrt(keep.mean(axis=1))) ** 2) / width**2)
        y = np.array(scores)
        left = weights @ (y - intercept - keep @ np.array(wanted)) ** 2
        around = weights @ (y - weights @ y / weights.sum()) ** 2
        assert result.arrays["fit"][index] == pytest.approx(1 - left / around, abs=1e-3)
        assert result.rows[index]["forwards"] == 151


class Closed:
    """The stand-in that Captum is given: ridge regression in closed form."""

    def __init__(self) -> None:
        self.found = torch.zeros(0)

    def fit(self, data: Any, **_: Any) -> dict[str, Any]:
        z, y, weights = (torch.cat(parts).double().numpy() for parts in zip(*data, strict=True))
        centred, right = z - weights @ z / weights.sum(), y - weights @ y / weights.sum()
        matrix = centred.T @ (weights[:, None] * centred) + np.eye(z.shape[1])
        self.found = torch.from_numpy(np.linalg.solve(matrix, centred.T @ (weights * right)))
        return {}

    def representation(self) -> torch.Tensor:
        return self.found

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return z @ self.found


def test_equal_to_captums_lime_with_the_same_samples(tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 1, net.shape, np.float32)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    result = model.run("lime", images, "dense1[1]", parts=(2, 3), samples=80, fill="mean")
    mask = torch.from_numpy(result.arrays["part"][0])
    fill = torch.from_numpy(np.broadcast_to(images.mean(axis=(2, 3), keepdims=True), images.shape).copy())
    rows = iter(torch.from_numpy(drawn(6, 80)).float())

    def similar(_given: Any, _altered: Any, z: torch.Tensor, **_: Any) -> torch.Tensor:
        away = 1 - torch.nn.functional.cosine_similarity(z.double(), torch.ones(1, 6).double())
        return torch.exp(-(away**2) / 0.25**2)

    lime = LimeBase(
        twin(net),
        Closed(),  # type: ignore[arg-type]
        similar,
        lambda _given, **_: next(rows)[None],
        True,
        lambda z, original, **_: torch.where(z[0].bool()[mask], original, fill),
        None,
    )
    with torch.no_grad():
        wanted = lime.attribute(torch.from_numpy(images), target=1, n_samples=80).numpy().reshape(-1)
    expected = wanted[result.arrays["part"][0]]
    assert np.abs(result.array[0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_stand_in_that_stands_for_little_is_said(tmp_path: Path) -> None:
    """Two parts whose product is all there is, 1 where both or none are kept, else -1: no line fits it."""
    between = np.zeros((2, 2))
    between[0, 1] = 1
    model = quadratic(tmp_path, np.zeros(2), between)
    x = np.ones((1, 2), np.float32)
    result = model.run("lime", x, "out[0]", samples=300, width=100, fill="-1")
    poor = [each for each in registry.method("lime").findings(result) if "stands for" in each.text]
    assert result.rows[0]["fit"] < 0.1
    assert [each.level for each in poor] == ["attention"]


def test_samples_that_are_too_few_are_said(tmp_path: Path) -> None:
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    image = nets.pictures(0, 1, net.shape)
    result = model.run("lime", image, 1, samples=40, ridge=0.01)
    texts = [finding.text for finding in registry.method("lime").findings(result)]
    assert any("has not settled" in text for text in texts)
    with refused(ParameterError, "samples is 200 for 49 parts", "at least 216"):
        model.run("kernel-shap", image, 1, samples=200)
    with refused(ParameterError, "samples is 60 for 49 parts without a penalty", "at least 200"):
        model.run("lime", image, 1, samples=60, ridge=0)


@BOTH
@pytest.mark.parametrize("which", ["waveform", "tokens", "vector", "volume", "board", "twelve leads"])
def test_default_parts(name: str, which: str, tmp_path: Path) -> None:
    model, other = given(which, tmp_path)
    samples = {"board": 1470, "volume": 280}.get(which, 200)
    result = model.run(name, other.arrays(1), None, samples=samples, batch_size=64)
    count = {"tokens": 12, "vector": 10, "volume": 64, "board": 361}.get(which, 14)
    assert result.rows[0]["parts"] == count
    part = result.arrays["part"][0]
    extent = [other.arrays(1).shape[axis] for axis in model.source.axes]
    assert part.shape == tuple(extent)
    assert sorted(np.unique(part)) == list(range(count))


@BOTH
@pytest.mark.parametrize(
    ("which", "options", "words"),
    [
        ("planes", {"parts": (2, 3, 4)}, ["parts has 3 numbers", "1 or 2 (rows, columns)"]),
        ("planes", {"parts": 20}, ["parts is 20", "at most 18 x 26"]),
        ("photo, channels last", {"parts": "slic:9999"}, ["parts is 'slic:9999'", "2 to 1024"]),
        ("photo, channels last", {"parts": "slick"}, ["parts is 'slick'"]),
        ("waveform", {"parts": "slic"}, ["parts is 'slic'", "a signal input has none"]),
        ("planes", {"parts": 2.5}, ["parts is 2.5"]),
        ("planes", {"parts": "3,"}, ["parts is '3,'"]),
        ("planes", {"parts": "0"}, ["parts is '0'"]),
        (
            "planes",
            {"parts": object()},
            ["parts is", "expected a whole number, one an axis like 4,8, or slic"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, which: str, options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    model, other = given(which, tmp_path)
    with refused(ParameterError, *words):
        model.run(name, other.arrays(1), 0, **options)


@BOTH
def test_more_parts_than_can_be_fitted_are_refused(name: str, tmp_path: Path) -> None:
    model = convlens.load(nets.saved(nets.classifier(0, (3, 40, 40)).onnx(), tmp_path), **CARD)
    with refused(ParameterError, "parts is 33, 1089 in all", "1024"):
        model.run(name, nets.pictures(0, 1, (3, 40, 40)), 0, parts=33)


def test_superpixels_without_the_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), **CARD)
    with refused(ParameterError, "needs scikit-image", "convlens[superpixels]", "--parts 7"):
        model.run("lime", nets.pictures(0, 1, (3, 11, 9)), 0, parts="slic")


def test_superpixels_are_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that finds two regions: each is a part of its own shape."""
    asked: list[Any] = []

    def slic(picture: NDArray[Any], **options: Any) -> NDArray[Any]:
        asked.append((picture.shape, float(picture.min()), float(picture.max()), options["n_segments"]))
        found = np.full(picture.shape[:2], 7)
        found[2:5, 3:] = 9
        return found

    package, segmentation = ModuleType("skimage"), ModuleType("skimage.segmentation")
    segmentation.slic = slic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "skimage", package)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", segmentation)
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    images = nets.pictures(0, 1, net.shape)
    result = model.run("kernel-shap", images, 1, parts="slic:30")
    assert asked == [((11, 9, 3), 0.0, 1.0, 30)]
    wanted = np.zeros((11, 9), int)
    wanted[2:5, 3:] = 1
    np.testing.assert_array_equal(result.arrays["part"][0], wanted)
    assert result.rows[0]["forwards"] == 4
