"""Photos of every mode, depth and orientation, and files that are none."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convlens import catalogue
from convlens.errors import ImageError, UsageError
from convlens.images import expand, flatten, read_image
from graph.nets import refused

RAMP = np.array([[0, 256, 1000, 32768], [40000, 65000, 65535, 128]], np.uint16)


def saved(image: Image.Image, path: Path, **how: object) -> Image.Image:
    image.save(path, **how)
    return read_image(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(path: Path, values: NDArray[np.uint16], colour: int) -> None:
    """A PNG with 16 bits a sample, written by hand: colour type 0 is grey, 2 is red, green, blue."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_deep_grey_is_scaled(tmp_path: Path) -> None:
    deep_png(tmp_path / "deep.png", RAMP, 0)
    found = read_image(tmp_path / "deep.png")
    assert found.mode == "L"
    np.testing.assert_array_equal(np.asarray(found), np.rint(RAMP / 65535 * 255))


def test_deep_colour_is_scaled(tmp_path: Path) -> None:
    colour = np.stack([RAMP, RAMP[:, ::-1], 65535 - RAMP], axis=2)
    deep_png(tmp_path / "deep.png", colour, 2)
    found = read_image(tmp_path / "deep.png")
    assert found.mode == "RGB"
    # a decoder may keep the upper byte instead of rounding, which is one step at most
    assert np.abs(np.asarray(found) - colour / 65535 * 255).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_deep_grey_as_pillow_writes_it(tmp_path: Path, suffix: str) -> None:
    found = saved(Image.fromarray(RAMP), tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(np.asarray(found), np.rint(RAMP / 65535 * 255))


def test_palette(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    found = saved(image, tmp_path / "p.png")
    assert found.mode == "RGB"
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    np.testing.assert_array_equal(np.asarray(found), colours[indices])


def test_palette_with_transparency(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    found = saved(image, tmp_path / "p.png", transparency=1)
    colours = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 255]])
    np.testing.assert_array_equal(np.asarray(found), colours[indices])


def over_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = alpha[..., None] / 255
    mixed: NDArray[np.float64] = colour * share + 255 * (1 - share)
    return mixed


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4)).astype(np.uint8)
    found = saved(Image.fromarray(pixels), tmp_path / "a.png")
    assert found.mode == "RGB"
    expected = over_white(pixels[..., :3], pixels[..., 3])
    assert np.abs(np.asarray(found) - expected).max() <= 1  # rounded to a whole number


def test_grey_with_transparency(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 2)).astype(np.uint8)
    found = saved(la(pixels), tmp_path / "la.png")
    assert found.mode == "L"
    expected = over_white(pixels[..., :1], pixels[..., 1])[..., 0]
    assert np.abs(np.asarray(found) - expected).max() <= 1  # rounded to a whole number


def la(pixels: NDArray[np.uint8]) -> Image.Image:
    grey, alpha = (Image.fromarray(np.ascontiguousarray(pixels[..., i])) for i in range(2))
    return Image.merge("LA", (grey, alpha))


def test_one_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).random((5, 9)) < 0.5
    found = saved(Image.fromarray(bits), tmp_path / "b.png")
    assert found.mode == "L"
    np.testing.assert_array_equal(np.asarray(found), bits * 255)


def test_four_inks(tmp_path: Path) -> None:
    found = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / "c.jpg", quality=95)
    assert found.mode == "RGB"
    # no cyan, all magenta and yellow: red, up to what JPEG loses
    assert np.abs(np.asarray(found).astype(int) - [255, 0, 0]).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path: Path, orientation: int) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    height, width = upright.shape[:2]
    # the EXIF standard: which side of the scene the stored first row and first column show
    sides = ["top left", "top right", "bottom right", "bottom left"]
    sides += ["left top", "right top", "right bottom", "left bottom"]
    row_side, column_side = sides[orientation - 1].split()
    turned = row_side in ("left", "right")
    stored = np.zeros((width, height, 3) if turned else (height, width, 3), np.uint8)
    for i in range(stored.shape[0]):
        for j in range(stored.shape[1]):
            a = i if row_side in ("top", "left") else stored.shape[0] - 1 - i
            b = j if column_side in ("top", "left") else stored.shape[1] - 1 - j
            stored[i, j] = upright[b, a] if turned else upright[a, b]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = saved(Image.fromarray(stored), tmp_path / "o.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(found), upright)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "lime", "blue")]
    found = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(found), np.broadcast_to([255, 0, 0], (5, 6, 3)))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif", "ppm"])
def test_lossless_formats(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (9, 7, 3)).astype(np.uint8) * 255
    how = {"lossless": True} if suffix == "webp" else {}
    found = saved(Image.fromarray(pixels), tmp_path / f"x.{suffix}", **how)
    np.testing.assert_array_equal(np.asarray(found), pixels)


def test_real_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.tiff"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with refused(ImageError, path, "real-valued", "8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("value", [70000, -1])
def test_32_bits_are_refused(tmp_path: Path, value: int) -> None:
    path = tmp_path / "i.tiff"
    Image.fromarray(np.full((4, 4), value, np.int32)).save(path)
    with refused(ImageError, path, "32-bit", "8 or 16 bits"):
        read_image(path)


def test_truncated_photo(tmp_path: Path) -> None:
    raw = (catalogue.root() / "photos" / "rocket.jpg").read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(raw[: len(raw) // 2])
    with refused(ImageError, path, "cannot be decoded", "truncated"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp", "ppm"])
def test_no_truncation_escapes_the_error_tree(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    raw = path.read_bytes()
    for length in range(0, len(raw) // 2, 7):
        path.write_bytes(raw[:length])
        with refused(ImageError, path, "decoded"):
            read_image(path)


def test_text_called_png(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no picture at all")
    with refused(ImageError, path, "not a picture that can be decoded"):
        read_image(path)


def test_missing_photo(tmp_path: Path) -> None:
    with refused(ImageError, tmp_path / "no.png", "cannot be decoded", "No such file"):
        read_image(tmp_path / "no.png")


def test_a_picture_from_memory() -> None:
    assert flatten(Image.new("HSV", (3, 3))).mode == "RGB"
    assert flatten(Image.new("L", (3, 3))).mode == "L"


def test_expand(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt", "sub/deep/d.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    inside = [tmp_path / name for name in ("a.JPG", "b.png", "sub/c.webp", "sub/deep/d.tif")]
    assert expand([tmp_path]) == inside
    assert expand([str(tmp_path / "notes.txt"), tmp_path / "sub"]) == [tmp_path / "notes.txt", *inside[2:]]
    assert expand([]) == []


def test_expand_what_is_not_there(tmp_path: Path) -> None:
    with refused(UsageError, tmp_path / "no.png", "no such file", "expected a picture or a folder"):
        expand([tmp_path / "no.png"])


def test_expand_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with refused(UsageError, tmp_path, "without pictures", ".jpg", ".png"):
        expand([tmp_path])
