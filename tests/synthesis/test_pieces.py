"""The pieces of the search for a picture, each against what its source says, written plainly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import convlens
from convlens.synthesis import canvas, parametrise, regularise, starts
from convlens.synthesis.canvas import Canvas, canvas_for
from convlens.synthesis.robust import Robustness
from reference import nets
from reference.others import OTHERS

EXACT = 1e-10
"""Of the largest number, where float64 does the same sums in another order."""

SINGLE = 1e-6


def photo_canvas(size: tuple[int, ...] = (9, 12), channels: int = 3) -> Canvas:
    ones, zeros = (1.0,) * channels, (0.0,) * channels
    return Canvas(channels, size, (None, None), True, ones, zeros, False, (0, 1, 2, 3), "float64")


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 0.9, shape))


CARDS: dict[str, dict[str, Any]] = {
    "mean and std": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
    "blue first": {"mean": [104, 117, 123], "std": [1, 1, 1], "range": [0, 255], "channels": "BGR"},
    "bare range": {"range": [-1, 1]},
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
@pytest.mark.parametrize("nhwc", [False, True], ids=["channels first", "channels last"])
def test_a_picture_goes_in_as_the_photo_would(card: dict[str, Any], nhwc: bool, tmp_path: Path) -> None:
    path = nets.saved(nets.classifier(0, (3, 11, 9)).onnx(nhwc=nhwc), tmp_path)
    model = convlens.load(path, threads=1, **card)
    views = np.random.default_rng(0).integers(0, 256, (2, 11, 9, 3), np.uint8)
    expected = model.preprocess.array(views)
    own = canvas_for(model, dtype="float64")
    pixels = torch.from_numpy(np.moveaxis(views, -1, 1) / 255.0)
    np.testing.assert_allclose(own.feed(pixels).numpy(), expected, rtol=0, atol=SINGLE * abs(expected).max())
    back = own.picture(expected.astype(np.float64))
    np.testing.assert_allclose(back.numpy(), pixels.numpy(), rtol=0, atol=SINGLE)
    np.testing.assert_array_equal(own.views(pixels), views)


@pytest.mark.parametrize("which", [n for n, o in OTHERS.items() if o.integers is None and o.kind != "photo"])
def test_inputs_that_are_no_photos_go_in_as_they_are(which: str, tmp_path: Path) -> None:
    other = OTHERS[which]
    model = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1, **other.settings)
    array = other.arrays(2)
    own = canvas_for(model, tuple(array.shape[axis] for axis in model.source.axes))
    made = own.picture(array)
    assert made.shape == (2, own.channels, *own.size)
    np.testing.assert_array_equal(own.feed(made).numpy(), array)


def test_integers_are_refused(tmp_path: Path) -> None:
    other = next(o for o in OTHERS.values() if o.kind == "tokens")
    model = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1, **other.settings)
    with pytest.raises(convlens.ConvLensError, match="integers"):
        canvas_for(model)


@pytest.mark.parametrize("kind", parametrise.KINDS)
@pytest.mark.parametrize("size", [(9, 12), (16, 16), (31, 8)])
def test_a_parametrisation_can_stand_for_a_picture(kind: str, size: tuple[int, int]) -> None:
    start = pictures(2, 3, *size)
    made = parametrise.KINDS[kind](photo_canvas(size), start)
    np.testing.assert_allclose(made.pictures().detach().numpy(), start.numpy(), rtol=0, atol=EXACT * 100)
    other = pictures(2, 3, *size, seed=1)
    made.put(other)
    np.testing.assert_allclose(made.pictures().detach().numpy(), other.numpy(), rtol=0, atol=EXACT * 100)
    assert all(leaf.requires_grad and leaf.is_leaf for leaf in made.leaves)


def test_fourier_divides_each_frequency_by_its_height() -> None:
    own = Canvas(1, (8, 6), (None, None), False, (1.0,), (0.0,), False, (0, 1, 2, 3), "float64")
    made = parametrise.Fourier.of(own, torch.zeros(1, 1, 8, 6, dtype=torch.float64))
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((1, 1, 8, 4, 2))
    with torch.no_grad():
        made.leaf.copy_(torch.from_numpy(numbers))
    spectrum = numbers[..., 0] + 1j * numbers[..., 1]
    for row in range(8):
        for column in range(4):
            frequency = math.hypot(min(row, 8 - row) / 8, column / 6)
            spectrum[0, 0, row, column] *= 0.25 / max(frequency, 1 / 8)
    expected = np.fft.irfftn(spectrum[0, 0], s=(8, 6), axes=(0, 1), norm="ortho")
    np.testing.assert_allclose(made.pictures()[0, 0].detach().numpy(), expected, rtol=0, atol=EXACT)


def test_penalties_are_what_their_papers_say() -> None:
    offset = pictures(2, 3, 5, 4).numpy() - 0.5
    for row in range(2):
        one = offset[row]
        count = one.size
        total = {"l2": 0.0, "l1": 0.0, "p6": 0.0, "tv": 0.0}
        for c in range(3):
            for y in range(5):
                for x in range(4):
                    value = one[c, y, x]
                    down = one[c, y + 1, x] - value if y < 4 else 0.0
                    right = one[c, y, x + 1] - value if x < 3 else 0.0
                    total["l2"] += value**2 / count
                    total["l1"] += abs(value) / count
                    total["p6"] += value**6 / count
                    total["tv"] += math.sqrt(down**2 + right**2) / count
        for name, expected in total.items():
            found = float(regularise.PENALTIES[name](torch.from_numpy(offset))[row])
            assert found == pytest.approx(expected, rel=1e-6), name


def slow_blur(picture: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    radius = max(1, round(3 * sigma))
    weights = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-radius, radius + 1)]
    found = picture
    for axis in (0, 1):
        padded = np.pad(found, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        length = found.shape[axis]
        found = sum(
            w / sum(weights) * np.take(padded, range(d, d + length), axis=axis) for d, w in enumerate(weights)
        )
    return found


@pytest.mark.parametrize("sigma", [0.5, 1.3])
def test_the_blur_is_a_gaussian(sigma: float) -> None:
    given = pictures(2, 3, 9, 12)
    found = parametrise.smoothed(given, sigma).numpy()
    for row, channel in np.ndindex(2, 3):
        expected = slow_blur(given[row, channel].numpy(), sigma)
        np.testing.assert_allclose(found[row, channel], expected, rtol=0, atol=EXACT)


def test_repairs_empty_what_matters_least() -> None:
    given = pictures(1, 3, 4, 5)
    offset = given - 0.5
    repairs = regularise.Repairs(decay=0.1, small=0.4)
    found = repairs.mended(given, None, 0, 0.5).numpy()[0] - 0.5
    norms = np.sqrt((offset.numpy()[0] ** 2).sum(axis=0))
    weakest = norms <= np.sort(norms.ravel())[int(0.4 * 20) - 1]
    assert weakest.sum() == 8
    assert np.all(found[:, weakest] == 0)
    np.testing.assert_allclose(found[:, ~weakest], 0.9 * offset.numpy()[0][:, ~weakest], atol=EXACT)
    gradient = pictures(1, 3, 4, 5, seed=2) - 0.5
    worth = np.abs((offset.numpy() * gradient.numpy()).sum(axis=1))[0]
    found = regularise.Repairs(idle=0.25).mended(given, gradient, 0, 0.5).numpy()[0] - 0.5
    assert np.all(found[:, worth <= np.sort(worth.ravel())[4]] == 0)


def test_a_blur_comes_every_few_steps() -> None:
    given = pictures(1, 3, 9, 12)
    repairs = regularise.Repairs(blur=1.0, blur_every=3)
    changed = [bool((repairs.mended(given, None, step, 0.5) - given).abs().max() > 1e-6) for step in range(6)]
    assert changed == [False, False, True, False, False, True]


def test_jitter_moves_by_whole_pixels_and_shows_grey_behind() -> None:
    given = pictures(2, 3, 9, 12)
    seen = set()
    for step in range(40):
        moved = Robustness(jitter=2).moved(given, 7, step, 0.5).numpy()
        matches = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                expected = np.full(given.shape, 0.5)
                ys, xs = slice(max(0, dy), 9 + min(0, dy)), slice(max(0, dx), 12 + min(0, dx))
                yf, xf = slice(max(0, -dy), 9 + min(0, -dy)), slice(max(0, -dx), 12 + min(0, -dx))
                expected[:, :, ys, xs] = given.numpy()[:, :, yf, xf]
                if np.array_equal(expected, moved):
                    matches.append((dy, dx))
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 12


def test_turning_and_scaling_keep_the_middle_and_the_shape() -> None:
    length = 65
    at = np.linspace(-1, 1, length)
    rows, columns = np.meshgrid(at, at, indexing="ij")
    blob = np.exp(-(((rows + 0.3) ** 2) + (columns - 0.4) ** 2) / 0.02)
    given = torch.from_numpy(np.stack([blob] * 3))[None]
    for step in range(5):
        found = Robustness(scale=0.2, rotate=30).moved(given, 3, step, 0.0)[0, 0].numpy()
        rng = np.random.default_rng((3, step, 1))
        rng.integers(0, 1, 2)
        size, angle = rng.uniform(0.8, 1.2), np.radians(rng.uniform(-30, 30))
        mass = found.sum()
        centre = np.array([(rows * found).sum(), (columns * found).sum()]) / mass
        # a point p of the picture lies at size * R(angle) p afterwards
        y, x = -0.3, 0.4
        expected = size * np.array(
            [y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)]
        )
        np.testing.assert_allclose(centre, expected, atol=0.02)
        assert mass == pytest.approx(blob.sum() * size**2, rel=0.02)


def test_steps_differ_and_repeat() -> None:
    given = pictures(1, 3, 9, 12)
    robust = Robustness(jitter=3, scale=0.1, rotate=10)
    one, two = robust.moved(given, 0, 0, 0.5), robust.moved(given, 0, 1, 0.5)
    assert not torch.equal(one, two)
    assert torch.equal(one, robust.moved(given, 0, 0, 0.5))


def test_starts() -> None:
    own = photo_canvas()
    first, second = starts.noise(own, 2, 0), starts.noise(own, 2, 1)
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert float((first - 0.5).std()) == pytest.approx(0.01, rel=0.2)
    assert bool((starts.grey(own, 2, 0) == 0.5).all())
    normed = Canvas(3, (4, 4), (None, None), True, (5.0, 4.0, 2.0), (-2.0, -2.0, -1.2), False, (0, 1, 2, 3))
    mean = starts.mean(normed, 1, 0)[0, :, 0, 0]
    np.testing.assert_allclose(mean.numpy(), [0.4, 0.5, 0.6], rtol=1e-6)


def test_resampling_keeps_a_flat_picture() -> None:
    given = torch.full((1, 3, 9, 12), 0.3)
    for size in ((4, 4), (20, 31)):
        np.testing.assert_allclose(canvas.resample(given, size).numpy(), 0.3, rtol=1e-6)
