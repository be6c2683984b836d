"""Pictures as networks of coordinates, against the same networks written plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from convlens.synthesis.canvas import Canvas
from convlens.synthesis.cppn import LAYERS, Cppn


def canvas(size: tuple[int, ...], photo: bool = True) -> Canvas:
    space = len(size)
    axes = tuple(range(2 + space))
    return Canvas(3, size, (None,) * space, photo, (1.0,) * 3, (0.0,) * 3, False, axes, "float64")


def shaken(made: Cppn, seed: int) -> Cppn:
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in made.weights:
            weight += torch.from_numpy(0.3 * rng.standard_normal(weight.shape))
    return made


@pytest.mark.parametrize("photo", [True, False])
def test_a_pixel_is_what_the_network_makes_of_its_place(photo: bool) -> None:
    size = (5, 8)
    made = shaken(Cppn.of(canvas(size, photo), [0, 1]), 0)
    found = made.pictures().detach().numpy()
    arrays = [weight.detach().numpy() for weight in made.weights]
    for row in range(2):
        for y in range(5):
            for x in range(8):
                # pixels are squares; the longer side runs from -sqrt(3) to sqrt(3)
                step = 2 * math.sqrt(3) / 8
                values = [(y + 0.5 - 2.5) * step, (x + 0.5 - 4) * step]
                for layer in range(LAYERS + 1):
                    matrix, shift = arrays[2 * layer][row], arrays[2 * layer + 1][row]
                    values = [
                        sum(m * v for m, v in zip(line, values, strict=True)) + float(offset[0])
                        for line, offset in zip(matrix, shift, strict=True)
                    ]
                    if layer < LAYERS:
                        bent = [math.atan(v) for v in values]
                        values = [v / 0.67 for v in bent] + [v * v / 0.6 for v in bent]
                expected = [1 / (1 + math.exp(-v)) for v in values] if photo else values
                np.testing.assert_allclose(found[row, :, y, x], expected, rtol=0, atol=1e-9)


def test_activations_keep_the_scale_of_normal_numbers() -> None:
    x = np.arctan(np.random.default_rng(0).standard_normal(200000))
    assert np.sqrt((x**2).mean()) == pytest.approx(0.67, abs=0.01)
    assert np.sqrt((x**4).mean()) == pytest.approx(0.60, abs=0.01)


def test_the_first_picture_is_grey_and_each_seed_another_network() -> None:
    one, two = Cppn.of(canvas((6, 6)), [0, 0]), Cppn.of(canvas((6, 6)), [0, 1])
    assert torch.equal(one.pictures(), torch.full((2, 3, 6, 6), 0.5, dtype=torch.float64))
    assert torch.equal(one.weights[0][0], one.weights[0][1])
    assert not torch.equal(two.weights[0][0], two.weights[0][1])
    assert torch.equal(one.weights[0][0], two.weights[0][0])


@pytest.mark.parametrize("size", [(7,), (4, 5, 6)])
def test_it_draws_along_any_number_of_axes(size: tuple[int, ...]) -> None:
    made = shaken(Cppn.of(canvas(size, False), [0]), 1)
    large = made.drawn(tuple(3 * length for length in size)).detach()
    middles = large[(slice(None), slice(None), *[slice(1, None, 3)] * len(size))]
    np.testing.assert_allclose(middles, made.pictures().detach(), rtol=0, atol=1e-9)
