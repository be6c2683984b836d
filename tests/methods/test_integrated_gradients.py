"""``integrated-gradients``: the sum that it is, the integral that it comes near to, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convlens
from convlens import registry
from convlens.attribution.slopes import path
from convlens.model import Model
from reference import averaged, nets
from reference.others import OTHERS

DRIFT = 1e-9
"""Of the largest magnitude: float64 on both sides."""

METHOD = registry.method("integrated-gradients")


def loaded(net: nets.Net, folder: Path, **how: Any) -> Model:
    return convlens.load(nets.saved(net.onnx(**how), folder), threads=1, kind="image")


def apart(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("quadrature", ["gauss-legendre", "midpoint", "trapezoid"])
def test_even_steps_equal_the_reference(quadrature: str, tmp_path: Path) -> None:
    """Places and weights written out here once more, by hand."""
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    places, weights = {
        "gauss-legendre": (
            [0.5 - np.sqrt(0.15), 0.5, 0.5 + np.sqrt(0.15)],
            [5 / 18, 8 / 18, 5 / 18],
        ),
        "midpoint": ([1 / 6, 3 / 6, 5 / 6], [1 / 3, 1 / 3, 1 / 3]),
        "trapezoid": ([0.0, 0.5, 1.0], [0.25, 0.5, 0.25]),
    }[quadrature]
    result = loaded(net, tmp_path).run(
        "integrated-gradients", images, 2, quadrature=quadrature, steps=3, baseline="0.25", batch_size=3
    )
    for index, image in enumerate(images):
        baseline = np.full(image.shape, 0.25)
        wanted = averaged.integrated(net, image, baseline, 2, places, weights)
        assert apart(result.array[index], wanted) < DRIFT
        rise = averaged.score(net, image, 2) - averaged.score(net, baseline, 2)
        assert result.arrays["completeness"][index] == pytest.approx(wanted.sum() / rise, rel=1e-9)
        missed = abs(wanted.sum() - rise) / abs(rise)
        assert result.rows[index]["completeness error"] == pytest.approx(missed, rel=1e-6, abs=1e-9)
        assert result.arrays["start"][index] == pytest.approx(averaged.score(net, baseline, 2))
        assert result.arrays["steps"][index] == (3 if quadrature == "trapezoid" else 5)


def test_adaptive_steps_come_near_to_the_integral_itself(tmp_path: Path) -> None:
    """The integral of a net of straight pieces is known: between its bends the gradient stands still."""
    rng = np.random.default_rng(4)
    first, second = nets.dense(rng, 9, 8), nets.dense(rng, 8, 8)
    net = nets.Net((1, 3, 3), (first, nets.Relu(), second, nets.Relu(), nets.dense(rng, 8, 3)))
    images = nets.pictures(4, 2, net.shape)
    model = loaded(net, tmp_path)
    wanted = np.stack([averaged.exactly(net, image, np.zeros(image.shape), 1) for image in images])
    for image, exact in zip(images, wanted, strict=True):
        rise = averaged.score(net, image, 1) - averaged.score(net, np.zeros(image.shape), 1)
        assert exact.sum() == pytest.approx(rise, rel=1e-9)
        assert len(averaged.bent(net, image, np.zeros(image.shape))) > 4
    error, steps = {}, {}
    for until in (0.1, 0.01, 0.001):
        found = model.run("integrated-gradients", images, 1, baseline="0", until=until, steps=5000)
        assert max(row["completeness error"] for row in found.rows) <= until
        error[until], steps[until] = apart(found.array, wanted), int(found.arrays["steps"].max())
        assert error[until] < 10 * until  # what the intervals' own errors may add up to
    assert error[0.001] < error[0.01] < error[0.1]
    even = model.run("integrated-gradients", images, 1, baseline="0", quadrature="midpoint", steps=500)
    assert apart(even.array, wanted) < 0.01
    assert steps[0.001] < 250


def test_adaptive_keeps_to_the_most_steps_and_says_what_is_missing(tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 3, net.shape)
    model = loaded(net, tmp_path)
    coarse = model.run("integrated-gradients", images, 0, baseline="0", until=1e-6, steps=12)
    assert (coarse.arrays["steps"] == 12).all()
    told = METHOD.findings(coarse)
    errors = np.abs(coarse.arrays["completeness"] - 1)
    assert [finding.image for finding in told] == np.flatnonzero(errors > 0.01).tolist()
    assert f"{errors.max():.1%}" in " ".join(finding.text for finding in told)
    fine = model.run("integrated-gradients", images, 0, baseline="0")
    assert max(row["completeness error"] for row in fine.rows) <= 0.01
    assert not METHOD.findings(fine)


def test_of_a_linear_model_it_is_exact_at_once(tmp_path: Path) -> None:
    """Weight times what the input has more than the baseline, with two steps."""
    rng = np.random.default_rng(1)
    net = nets.Net((2, 4, 3), (nets.dense(rng, 24, 3),))
    images = nets.pictures(1, 2, net.shape)
    result = loaded(net, tmp_path).run("integrated-gradients", images, 2, baseline="0.5", steps=2)
    last = net.layers[-1]
    assert isinstance(last, nets.Dense)
    wanted = last.weight[2].astype(np.float64).reshape(net.shape) * (images - 0.5)
    assert apart(result.array, wanted) < DRIFT
    np.testing.assert_allclose(result.arrays["completeness"], 1, rtol=1e-9)
    assert (result.arrays["steps"] == 2).all()


def test_gradients_that_find_no_room_are_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 3, net.shape)
    model = loaded(net, tmp_path)
    held = model.run("integrated-gradients", images, 1, steps=40)
    monkeypatch.setattr(path, "_HELD", 5 * images[0].nbytes)
    again = model.run("integrated-gradients", images, 1, steps=40)
    for key, array in held.arrays.items():
        np.testing.assert_allclose(again.arrays[key], array, rtol=1e-12, atol=1e-14)


def test_rounding_does_not_choose_at_a_baseline_without_contrast(tmp_path: Path) -> None:
    """There every number under a maximum is equal, and another batch rounds another way."""
    model = loaded(nets.classifier(0, (3, 22, 17)), tmp_path, nhwc=True)
    images = np.moveaxis(nets.pictures(0, 5, (3, 22, 17), np.float32), 1, -1)
    whole = model.run("integrated-gradients", images, 1, baseline="0.3", batch_size=5)
    single = model.run("integrated-gradients", images, 1, baseline="0.3", batch_size=1)
    assert apart(single.array, whole.array) < 1e-5  # float32


def test_a_score_that_never_changes_gives_no_shares(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = np.full((1, *net.shape), 0.5)
    result = loaded(net, tmp_path).run("integrated-gradients", images, 1, baseline="0.5")
    assert not result.array.any()
    assert result.arrays["completeness"].tolist() == [1.0]
    assert result.rows[0]["completeness error"] == 0.0
    assert not METHOD.findings(result)


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_of_other_rules_nothing_is_promised(rule: Any, tmp_path: Path) -> None:
    net = nets.classifier(5)
    images = nets.pictures(5, 1, net.shape)
    result = loaded(net, tmp_path).run("integrated-gradients", images, 1, rule=rule, baseline="0", steps=3)
    wanted = sum(
        weight * averaged.gradient(net, place * images[0], 1, rule)
        for place, weight in ((1 / 6, 1 / 3), (3 / 6, 1 / 3), (5 / 6, 1 / 3))
    )
    assert apart(result.array[0], images[0] * wanted) < DRIFT
    assert not METHOD.findings(result)


def test_tokens_start_from_the_embedding_of_the_pad(tmp_path: Path) -> None:
    other = OTHERS["tokens"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1, pad=3)
    ids = other.arrays(2)
    ids[0, 4] = 3
    result = model.run("integrated-gradients", ids, 1, until=0.001, steps=2000)
    table = model.graph.constant("table")
    assert table is not None
    padded = np.full(ids.shape, 3)
    start = model.runner.run({"x": padded}, ["scores"])["scores"][:, 1]
    end = model.runner.run({"x": ids}, ["scores"])["scores"][:, 1]
    np.testing.assert_allclose(result.arrays["start"], start, rtol=1e-5)
    np.testing.assert_allclose(result.arrays["product"].sum(axis=1), end - start, rtol=2e-3)
    assert result.array.shape == (2, 12, 8)
    assert (result.arrays["product"][0, 4] == 0).all()  # a pad has nothing more than the baseline


def test_where_a_photo_is_black_it_has_no_share_under_black(tmp_path: Path) -> None:
    from PIL import Image

    net = nets.classifier(1)
    model = convlens.load(
        nets.saved(net.onnx(), tmp_path), threads=1, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (11, 9, 3), np.uint8)
    pixels[:5, :4] = 0
    result = model.run("integrated-gradients", Image.fromarray(pixels), 1, baseline="0")
    assert not result.array[0, :, :5, :4].any()
    assert result.array[0, :, 6:, 5:].any()


@pytest.mark.slow
def test_the_shares_add_up_on_the_bundled_classifier(bundled: Path) -> None:
    """Within a hundredth of the rise, on every bundled photo, with nothing set."""
    model = convlens.load("efficientnet-lite0")
    photos = sorted(each for each in (bundled / "photos").iterdir() if each.suffix in (".png", ".jpg"))
    result = model.run("integrated-gradients", photos)
    np.testing.assert_allclose(result.arrays["completeness"], 1, atol=0.01)
    total = result.array.reshape(len(photos), -1).sum(axis=1, dtype=np.float64)
    rise = result.arrays["score"] - result.arrays["start"]
    np.testing.assert_allclose(total, rise, rtol=0.01)
    assert not METHOD.findings(result)
