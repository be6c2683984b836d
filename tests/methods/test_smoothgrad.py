"""``smoothgrad`` and ``input-x-gradient`` against loops over the same copies, and their noise on its own."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convlens
from convlens.model import Model
from reference import averaged, nets
from reference.others import OTHERS

DRIFT = 1e-9
"""Of the largest magnitude: float64 on both sides."""


def loaded(net: nets.Net, folder: Path) -> Model:
    return convlens.load(nets.saved(net.onnx(), folder), threads=1)


def apart(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def copies(image: NDArray[Any], count: int, noise: float, seed: int) -> list[NDArray[Any]]:
    """The noisy copies as the documentation has them: from the seed, scaled by the input's range."""
    spread = noise * (image.max() - image.min())
    draws = [np.random.default_rng([seed, number]).standard_normal(image.shape) for number in range(count)]
    return [image + spread * draw for draw in draws]


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
@pytest.mark.parametrize("statistic", ["mean", "variance", "square"])
def test_each_statistic_equals_the_reference(statistic: Any, rule: Any, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    result = loaded(net, tmp_path).run(
        "smoothgrad", images, 1, statistic=statistic, rule=rule, samples=4, noise=0.2, seed=9, batch_size=3
    )
    for index, image in enumerate(images):
        noisy = copies(image, 4, 0.2, 9)
        wanted = averaged.smoothed(net, noisy, 1, statistic, rule)
        assert apart(result.array[index], wanted) < DRIFT
        assert result.arrays["score"][index] == pytest.approx(averaged.score(net, image, 1))
        mean = float(np.mean([averaged.score(net, copy, 1) for copy in noisy]))
        assert result.arrays["noisy_score"][index] == pytest.approx(mean)


def test_without_noise_it_is_the_gradient(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 2, net.shape)
    model = loaded(net, tmp_path)
    plain = model.run("saliency", images, 1).array
    np.testing.assert_allclose(
        model.run("smoothgrad", images, 1, noise=0, samples=3).array, plain, rtol=1e-12
    )
    still = model.run("smoothgrad", images, 1, noise=0, samples=3, statistic="variance")
    assert np.abs(still.array).max() < 1e-20


def test_the_seed_draws_the_noise(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 1, net.shape)
    model = loaded(net, tmp_path)
    one, same, other = (model.run("smoothgrad", images, 1, samples=3, seed=s).array for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert apart(one, other) > 0.01


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    net = nets.classifier(2, (3, 64, 64))
    images = nets.pictures(2, 1, net.shape, np.float32)
    model = loaded(net, tmp_path)
    peaks = []
    for samples in (4, 64):
        model.run("smoothgrad", images, 1, samples=2, batch_size=2)
        tracemalloc.start()
        model.run("smoothgrad", images, 1, samples=samples, batch_size=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + images.nbytes


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
def test_input_x_gradient_equals_the_reference(rule: Any, tmp_path: Path) -> None:
    net = nets.classifier(1)
    images = nets.pictures(1, 2, net.shape)
    result = loaded(net, tmp_path).run("input-x-gradient", images, 2, rule=rule)
    for index, image in enumerate(images):
        assert apart(result.array[index], image * averaged.gradient(net, image, 2, rule)) < DRIFT


def test_tokens_are_multiplied_at_their_embedding(tmp_path: Path) -> None:
    other = OTHERS["tokens"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1)
    ids = other.arrays(2)
    table = model.graph.constant("table")
    assert table is not None
    product = model.run("input-x-gradient", ids, 1)
    plain = model.run("saliency", ids, 1)
    np.testing.assert_allclose(product.array, table[ids] * plain.array, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(product.arrays["product"], product.array.sum(axis=-1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(product.arrays["product"], plain.arrays["product"], rtol=1e-5, atol=1e-7)
