"""Colours of numbers: where zero is, what the ends say, and that everyone can tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cmcrameri import cm
from numpy.typing import NDArray

from convlens.pictures.colour import MAPS, Scale, as_colour, css, number, paint, positive, symmetric, table

ROUNDING = 0.5
"""Of CIELAB's lightness (0 to 100): what rounding a colour to 8 bits can move it by."""

LOPSIDED = 10.0
"""Of CIELAB's lightness: numbers of one size and both signs look alike strong within a tenth of the range."""

APART = 30.0
"""CIELAB distance: some ten times what the eye just tells apart."""

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colours: NDArray[Any], sight: str = "none") -> NDArray[np.float64]:
    """CIELAB under D65 from sRGB in 8 bits, as seen with one of the kinds of ``BLINDNESS``."""
    share = colours / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ BLINDNESS[sight].T, 0, 1)
    relative = seen @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    root = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_the_formula_knows_white_black_and_red() -> None:
    found = lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]]))
    expected = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
    ]  # red as tables of sRGB print it
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize("sight", BLINDNESS)
@pytest.mark.parametrize("use", ["strength", "activation"])
def test_stronger_is_lighter(use: str, sight: str) -> None:
    lightness = lab(table(MAPS[use]), sight)[:, 0]
    assert np.diff(lightness).min() > -ROUNDING
    assert lightness[-1] - lightness[0] > 80
    steps = lightness.reshape(16, 16).mean(axis=1)
    assert (np.diff(steps) > 0).all()


def test_signs_look_alike_strong() -> None:
    lightness = lab(table(MAPS["signed"]))[:, 0]
    assert np.abs(lightness - lightness[::-1]).max() < LOPSIDED
    assert np.diff(lightness[:128]).min() > -ROUNDING
    assert np.diff(lightness[128:]).max() < ROUNDING
    assert int(lightness.argmax()) in range(120, 136)


@pytest.mark.parametrize("sight", BLINDNESS)
def test_signs_can_be_told_apart(sight: str) -> None:
    colours = lab(table(MAPS["signed"]), sight)
    for distance in (40, 80, 120):
        below, above = colours[127 - distance], colours[128 + distance]
        assert np.linalg.norm(below - above) > APART


@pytest.mark.parametrize("bound", [1e-30, 0.3, 1.0, 7e8])
def test_zero_has_the_colour_of_the_middle(bound: float) -> None:
    scale = Scale(-bound, bound, "", "signed")
    zero = paint(np.zeros(()), scale)
    middle = np.rint(np.array(cm.vik(0.5)[:3]) * 255)
    np.testing.assert_array_equal(zero, middle)
    # it is what a white ground is to a picture: the lightest there is, hardly coloured
    lightness, a, b = lab(zero[None])[0]
    assert lightness > 90
    assert np.hypot(a, b) < 5


def test_red_is_above_and_blue_below() -> None:
    low, high = paint(np.array([-1.0, 1.0]), Scale(-1, 1, "", "signed"))
    assert int(low[2]) - int(low[0]) > 50
    assert int(high[0]) - int(high[2]) > 50


@pytest.mark.parametrize("values", [[-3.0, 1.0], [0.5, 2.0], [-4.0, -1.0]])
def test_signed_scales_are_symmetric(values: list[float]) -> None:
    scale = symmetric(np.array(values), "score", 100)
    assert scale.low == -scale.high
    assert scale.high == max(map(abs, values))
    assert scale.label == "score"
    assert scale.colours == "signed"


@pytest.mark.parametrize(
    ("values", "high"),
    [([0.0, 1.0, 4.0], 4.0), ([2.0, 3.0], 3.0), ([0.0, 0.0], 1.0), ([-2.0, -1.0], 1.0), ([], 1.0)],
)
def test_unsigned_scales_start_at_zero(values: list[float], high: float) -> None:
    scale = positive(np.array(values), "activation", 100)
    assert (scale.low, scale.high) == (0.0, high)


def test_a_few_outliers_may_saturate() -> None:
    values = np.ones(10000)
    values[:10] = 1000.0
    assert symmetric(values, "").high == 1.0
    assert positive(values, "").high == 1.0
    alone = np.zeros(10000)
    alone[7] = -5.0
    assert symmetric(alone, "").high == 5.0, "the only number there is does not vanish"
    assert positive(np.abs(alone), "").high == 5.0


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_grey_and_moves_nothing(odd: float) -> None:
    values = np.array([0.0, 0.25, 1.0, odd])
    for scale in (symmetric(values, "", 100), positive(values, "", 100)):
        assert scale.high == 1.0
        painted = paint(values, scale)
        np.testing.assert_array_equal(painted[3], [128, 128, 128])
        np.testing.assert_array_equal(painted[:3], paint(values[:3], scale))
    signal = np.array([[[1.0, -1.0, 0.0]], [[odd, odd, odd]]])
    colours = as_colour(signal, 100)
    assert colours[0, 0, 0] == 255
    assert colours[0, 0, 1] == 0
    assert set(colours[1, 0].tolist()) == {int(colours[0, 0, 2])}
    for make in (symmetric, positive):
        assert make(np.full(3, odd), "").high == 1.0


def test_out_of_range_is_the_end() -> None:
    scale = Scale(0.0, 1.0, "")
    ends = paint(np.array([-5.0, 0.0, 1.0, 1e300]), scale)
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[2], ends[3])


def test_grey_is_zero_and_colours_keep_their_sign() -> None:
    signal = np.zeros((4, 4, 3))
    assert set(np.unique(as_colour(signal))) <= {127, 128}
    signal[0, 0] = [2.0, -2.0, 1.0]
    red, green, blue = as_colour(signal, 100)[0, 0]
    assert (red, green) == (255, 0)
    assert abs(int(blue) - 191) <= 1  # half way from grey to the end, rounded


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.12345, "0.123"),
        (-2.5, "-2.5"),
        (999.4, "999"),
        (999.7, "1,000"),
        (1234.5, "1,234"),
        (54321.0, "54,321"),
        (2e6, "2e+06"),
        (1.5e-7, "1.5e-07"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_ends_as_text() -> None:
    assert Scale(-0.25, 0.25, "").ends() == ("-0.25", "0.25")
    assert Scale(0.0, 12345.0, "").ends() == ("0", "12,345")


def test_the_legend_on_the_page_goes_from_end_to_end() -> None:
    scale = Scale(0.0, 3.0, "")
    text = css(scale, 5)
    first, last = table(MAPS["strength"])[[0, 255]].tolist()
    assert text.startswith(f"linear-gradient(to right, rgb({first[0]},{first[1]},{first[2]}), ")
    assert text.endswith(f"rgb({last[0]},{last[1]},{last[2]}))")
    assert text.count("rgb(") == 5
