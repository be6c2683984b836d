"""Batches of photos: what is kept of each beside what the model sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convlens
from convlens.errors import ImageError, UsageError
from convlens.model import Model
from graph.nets import refused
from reference import nets


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = nets.saved(nets.classifier(0, (3, 12, 10)).onnx(), tmp_path)
    return convlens.load(path, threads=1, mean=[0.5], std=[0.25])


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_photo_is_there_at_its_own_size_and_upright(model: Model, tmp_path: Path) -> None:
    own = pixels(30, 41)
    Image.fromarray(own).save(tmp_path / "plain.png")
    turned = Image.fromarray(np.rot90(own))
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=tags)
    Image.fromarray(own).convert("L").save(tmp_path / "grey.png")
    files = [tmp_path / f"{name}.png" for name in ("plain", "turned", "grey")]
    images = model.images(files)
    assert images.array.shape == (3, 3, 12, 10)
    assert images.origins == tuple(files)
    np.testing.assert_array_equal(images.photo(0), own)
    np.testing.assert_array_equal(images.photo(1), own)
    grey = images.photo(2)
    assert grey.shape == (30, 41, 3)
    assert (grey == grey[:, :, :1]).all()
    again, unread = model.readable(files)
    assert again is not None
    assert not unread
    np.testing.assert_array_equal(again.photo(1), own)


def test_a_picture_from_memory_keeps_its_size(model: Model) -> None:
    own = pixels(17, 23)
    images = model.images([Image.fromarray(own), Image.new("RGBA", (5, 6), (10, 20, 30, 0))])
    np.testing.assert_array_equal(images.photo(0), own)
    np.testing.assert_array_equal(images.photo(1), np.full((6, 5, 3), 255))  # transparent: over white


def test_an_array_is_no_photo(model: Model) -> None:
    images = model.images(np.zeros((1, 3, 12, 10), np.float32))
    assert images.origins is None
    with refused(UsageError, "input 0 is an array", "expected a photo"):
        images.photo(0)


def test_a_photo_that_went_away(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    Image.fromarray(pixels(8, 9)).save(path)
    images = model.images(path)
    path.unlink()
    with refused(ImageError, path, "cannot be decoded"):
        images.photo(0)
