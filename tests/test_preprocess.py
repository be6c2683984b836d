"""From a photo to the array: geometry against a slow reference, and everything that is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convlens.cards import Card
from convlens.errors import CardError, ImageError
from convlens.graph.source import Source
from convlens.preprocess import Preprocess, complete
from graph.nets import refused

UNIT = {"mean": 0, "std": 1}


def source(
    *shape: int | str | None, layout: str = "NCHW", dtype: str = "float32", image: bool = True
) -> Source:
    channel, spatial = (1, (2, 3)) if layout == "NCHW" else (3, (1, 2))
    return Source("x", layout, channel, spatial, shape, dtype, "photo" if image else "image")


def prepared(src: Source, **settings: Any) -> Preprocess:
    return complete(Card.parse({"input": settings}), src)


RGB = source("N", 3, 8, 8)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [({}, "mean and std"), ({"mean": 0.5}, "no card says std;"), ({"std": 1}, "no card says mean;")],
)
def test_normalisation_is_never_guessed(settings: dict[str, Any], missing: str) -> None:
    with refused(
        CardError, missing, "card.toml", "[input]", "mean = [", "std = [", "--mean and --std", "--range 0,1"
    ):
        prepared(RGB, **settings)


def test_a_range_is_enough() -> None:
    found = prepared(RGB, range=[-1, 1])
    views = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(found.array(views)[0, :, 0], [[-1, 1]] * 3)


@pytest.mark.parametrize("mean", [127, [0.5, 0.5, 1.01], -0.1])
def test_mean_outside_the_range(mean: Any) -> None:
    number = mean[-1] if isinstance(mean, list) else mean
    with refused(CardError, f"mean {number}", "range 0 to 1", "range = [0, 255]", "--range 0,255"):
        prepared(RGB, mean=mean, std=1)
    assert prepared(RGB, mean=127, std=1, range=[0, 255]).high == 255


@pytest.mark.parametrize("std", [0, [0.2, -0.2, 0.2]])
def test_std_must_be_positive(std: Any) -> None:
    with refused(CardError, "std is", "expected positive numbers"):
        prepared(RGB, mean=0, std=std)


def test_range_the_wrong_way_round() -> None:
    with refused(CardError, "range is 255 to 0", "smaller number first"):
        prepared(RGB, range=[255, 0])


@pytest.mark.parametrize(
    ("src", "settings", "words"),
    [
        (RGB, {"mean": [0, 0], "std": 1}, ["mean has 2 numbers", "expected 1 or 3"]),
        (RGB, {"mean": 0, "std": [1] * 4}, ["std has 4 numbers", "expected 1 or 3"]),
        (RGB, {**UNIT, "channels": "GRAY"}, ["channels = 'GRAY'", "'x'", "has 3", "RGB or BGR for 3"]),
        (source(1, 1, 8, 8), {**UNIT, "channels": "BGR"}, ["channels = 'BGR'", "has 1", "GRAY for 1"]),
        (source(1, 4, 8, 8), UNIT, ["has 4 channels", "1 or 3", "arrays"]),
        (RGB, {**UNIT, "size": [16, 16]}, ["size 16 x 16", "fixed at 8 x 8"]),
        (source(1, 3, 8, "W"), {**UNIT, "size": [9, 20]}, ["size 9 x 20", "fixed at 8 x 20"]),
        (source("N", 3, "H", "W"), UNIT, ["any picture size", "size = [224, 224]", "--size 224"]),
    ],
)
def test_what_contradicts_the_model(src: Source, settings: dict[str, Any], words: list[str]) -> None:
    with refused(CardError, *words):
        prepared(src, **settings)


def test_no_photo() -> None:
    words = "'x'", "1 x 64 x 7 x 7", "takes no photo but an image of planes", ".npy", "arrays"
    with refused(ImageError, *words):
        prepared(source(1, 64, 7, 7, image=False), **UNIT)


def test_open_size_comes_from_the_card() -> None:
    assert prepared(source("N", 3, "H", "W"), **UNIT, size=[8, 12]).size == (8, 12)
    assert prepared(source("N", 3, 8, "W"), **UNIT, size=[8, 12]).size == (8, 12)


def test_channels_follow_the_model() -> None:
    assert prepared(RGB, **UNIT).channels == "RGB"
    assert prepared(source(1, 1, 8, 8), **UNIT).channels == "GRAY"
    assert prepared(source(1, "C", 8, 8), **UNIT).channels == "RGB"
    assert prepared(source(1, "C", 8, 8), **UNIT, channels="GRAY").channels == "GRAY"


def pixels(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_values_one_by_one(channels: str, layout: str) -> None:
    mean, std, low, high = (0.1, 0.0, -0.2), (0.5, 2.0, 1.0), -1.0, 2.0
    shape = ("N", 3, 8, 8) if layout == "NCHW" else ("N", 8, 8, 3)
    found = prepared(source(*shape, layout=layout), mean=mean, std=std, range=[low, high], channels=channels)
    views = np.stack([pixels(8, 8), 255 - pixels(8, 8)])
    array = found.array(views)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    for n in range(2):
        for y in range(8):
            for x in range(8):
                for c in range(3):
                    pixel = int(views[n, y, x, 2 - c if channels == "BGR" else c])
                    expected = (low + pixel / 255 * (high - low) - mean[c]) / std[c]
                    got = array[n, c, y, x] if layout == "NCHW" else array[n, y, x, c]
                    assert got == pytest.approx(expected, abs=1e-6)  # float32 near 1


def test_byte_input() -> None:
    found = prepared(source(1, 8, 8, 3, layout="NHWC", dtype="uint8"), range=[0, 255])
    views = pixels(8, 8)[None]
    assert found.array(views).dtype == np.uint8
    np.testing.assert_array_equal(found.array(views), views)


def test_bytes_cannot_be_normalised() -> None:
    src = source(1, 8, 8, 3, layout="NHWC", dtype="uint8")
    for settings in (
        {"mean": 0.5, "std": 0.5},
        {"range": [0, 1]},
        {"range": [0, 255], "mean": 127, "std": 1},
    ):
        with refused(CardError, "'x'", "takes bytes", "range = [0, 255]"):
            prepared(src, **settings)


def test_bytes_need_no_card() -> None:
    """A model that takes bytes leaves nothing to say: what it is given is the photo's pixels."""
    found = prepared(source(1, 8, 8, 3, layout="NHWC", dtype="uint8"))
    photo = pixels(8, 8)[None]
    np.testing.assert_array_equal(found.array(photo), photo)


def test_half_precision_input() -> None:
    found = prepared(source(1, 3, 8, 8, dtype="float16"), **UNIT)
    assert found.array(pixels(8, 8)[None]).dtype == np.float16


def test_grey() -> None:
    found = prepared(source(1, 1, 8, 8), **UNIT)
    photo = pixels(8, 8)
    view = found.view(Image.fromarray(photo))
    assert view.shape == (8, 8, 1)
    luma = photo @ np.array([299, 587, 114]) / 1000  # ITU-R 601
    assert np.abs(view[:, :, 0] - luma).max() <= 1  # rounded to a whole number
    assert found.array(view[None]).shape == (1, 1, 8, 8)


def sampled(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The photo resized to height x width: the pixel under the centre of each new one."""
    out = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            row = int(Fraction(2 * y + 1, 2) * photo.shape[0] / height)
            column = int(Fraction(2 * x + 1, 2) * photo.shape[1] / width)
            out[y, x] = photo[row, column]
    return out


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (17, 19), (5, 7), (8, 12)])
def test_stretch(shape: tuple[int, int]) -> None:
    photo = pixels(*shape)
    found = prepared(source(1, 3, 8, 12), **UNIT, resize="stretch", interpolation="nearest")
    np.testing.assert_array_equal(found.view(Image.fromarray(photo)), sampled(photo, 8, 12))


@pytest.mark.parametrize(
    ("shape", "crop", "resized", "corner"),
    [
        ((20, 30), 1.0, (8, 12), (0, 2)),  # shorter side to 8, the centre 8 of 12
        ((30, 20), 1.0, (12, 8), (2, 0)),
        ((40, 40), 0.8, (10, 10), (1, 1)),  # shorter side to 8 / 0.8
        ((40, 80), 0.5, (16, 32), (4, 12)),
        ((4, 6), 1.0, (8, 12), (0, 2)),  # a small photo grows
        ((8, 8), 1.0, (8, 8), (0, 0)),
    ],
)
def test_crop(shape: tuple[int, int], crop: float, resized: tuple[int, int], corner: tuple[int, int]) -> None:
    photo = pixels(*shape)
    found = prepared(RGB, **UNIT, crop=crop, interpolation="nearest")
    top, left = corner
    expected = sampled(photo, *resized)[top : top + 8, left : left + 8]
    np.testing.assert_array_equal(found.view(Image.fromarray(photo)), expected)


@pytest.mark.parametrize(
    ("shape", "resized", "corner"),
    [
        ((16, 16), (8, 8), (0, 2)),
        ((20, 20), (8, 8), (0, 2)),
        ((8, 24), (4, 12), (2, 0)),
        ((4, 6), (8, 12), (0, 0)),
    ],
)
def test_pad(shape: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]) -> None:
    photo = pixels(*shape)
    found = prepared(source(1, 3, 8, 12), **UNIT, resize="pad", interpolation="nearest")
    expected = np.zeros((8, 12, 3), np.uint8)
    top, left = corner
    expected[top : top + resized[0], left : left + resized[1]] = sampled(photo, *resized)
    np.testing.assert_array_equal(found.view(Image.fromarray(photo)), expected)


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 3)])
def test_any_shape_fits(resize: str, shape: tuple[int, int]) -> None:
    found = prepared(source(1, 3, 8, 12), **UNIT, resize=resize, crop=0.9)
    assert found.view(Image.fromarray(pixels(*shape))).shape == (8, 12, 3)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_filters_leave_a_plain_photo_plain(interpolation: str) -> None:
    found = prepared(RGB, **UNIT, interpolation=interpolation)
    view = found.view(Image.new("RGB", (50, 20), (10, 20, 30)))
    np.testing.assert_array_equal(view, np.broadcast_to([10, 20, 30], (8, 8, 3)))


def test_a_card_in_words() -> None:
    text = prepared(
        source("N", 3, 224, 224), mean=[127, 127, 127], std=[128, 128, 128], range=[0, 255], crop=0.875
    ).words()
    for part in ("256 pixels", "centre 224 x 224", "red, green, blue", "0 to 255", "127, 127, 127", "NCHW"):
        assert part in text
    assert text[0].isupper()
    assert text.endswith(".")
    stretched = prepared(source(1, 3, 8, 12), **UNIT, resize="stretch", channels="BGR").words()
    assert "stretched to 12 x 8" in stretched
    assert "blue, green, red" in stretched
    assert "black borders" in prepared(source(1, 1, 8, 12), **UNIT, resize="pad").words()
