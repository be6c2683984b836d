"""Photos to learn from: what is drawn depends on seed and step alone, and bad files are passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlens.errors import ImageError
from convlens.synthesis.painters.crops import Crops


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in {"a": (40, 60), "b": (90, 33), "c": (24, 24)}.items():
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def test_a_step_gives_the_same_crops_whenever_it_is_asked_for(folder: Path) -> None:
    crops, again = Crops(paths(folder), 16, seed=3), Crops(paths(folder), 16, seed=3)
    drawn = [crops.batch(step, 4) for step in range(3)]
    assert drawn[0].shape == (4, 3, 16, 16)
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(again.batch(2, 4), drawn[2])
    np.testing.assert_array_equal(crops.batch(0, 4), drawn[0])
    np.testing.assert_array_equal(crops.batch(0, 2), drawn[0][:2])
    assert not np.array_equal(Crops(paths(folder), 16, seed=4).batch(0, 4), drawn[0])


def test_a_photo_of_the_size_of_a_crop_is_the_photo_or_its_mirror_image(folder: Path) -> None:
    path = folder / "c.png"
    whole = np.moveaxis(np.asarray(Image.open(path), np.float32) / 255, -1, 0)
    crops = Crops([path], 24)
    seen = {np.array_equal(crop, whole) for crop in crops.batch(0, 8)}
    assert seen == {True, False}
    for crop in crops.batch(0, 8):
        assert np.array_equal(crop, whole) or np.array_equal(crop[:, :, ::-1], whole)
    assert not crops.enlarged


def test_crops_lie_inside_the_photo_at_once_to_twice_its_scale(tmp_path: Path) -> None:
    """In a ramp from left to right, a crop's slope tells how many pixels it spans."""
    ramp = np.linspace(0, 255, 200).round().astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (80, 200, 3)).copy()).save(tmp_path / "ramp.png")
    spans = [
        abs(float(crop[0, 10, -1] - crop[0, 10, 0])) * 200
        for crop in Crops([tmp_path / "ramp.png"], 40).batch(0, 64)
    ]
    assert 36 <= min(spans) < 50
    assert 70 < max(spans) <= 81


def test_small_photos_are_enlarged_and_counted(folder: Path) -> None:
    crops = Crops(paths(folder), 50)
    assert crops.batch(0, 20).shape == (20, 3, 50, 50)
    assert {path.name for path in crops.enlarged} == {"a.png", "b.png", "c.png"}


def test_grey_has_one_channel(folder: Path) -> None:
    grey = Crops(paths(folder), 16, channels=1)
    assert grey.batch(0, 2).shape == (2, 1, 16, 16)
    assert grey.middles(2, 20)[0].shape == (2, 1, 20, 20)


def test_files_that_cannot_be_read_are_passed_over(folder: Path) -> None:
    (folder / "aa.png").write_bytes(b"nothing")
    crops = Crops(paths(folder), 16)
    shown, names = crops.middles(3, 32)
    assert names == ["a.png", "b.png", "c.png"]
    assert shown.shape == (3, 3, 32, 32)
    crops.batch(0, 30)
    assert [path.name for path in crops.unread] == ["aa.png"]


def test_without_one_readable_photo_it_says_so(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"nothing")
    for call in (lambda crops: crops.batch(0, 1), lambda crops: crops.middles(1, 16)):
        with pytest.raises(ImageError, match=r"none of the 2 photos .*[ab]\.png") as caught:
            call(Crops(paths(tmp_path), 16))
        assert "\n" not in str(caught.value)


def test_memory_for_photos_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, bounded = Crops(paths(folder), 16), Crops(paths(folder), 16)
    before = [free.batch(step, 4) for step in range(4)]
    assert len(free._held) == 3
    monkeypatch.setattr("convlens.synthesis.painters.crops._HELD", 1)
    for step in range(4):
        np.testing.assert_array_equal(bounded.batch(step, 4), before[step])
    assert len(bounded._held) == 1


def test_another_set_of_photos_has_another_key(folder: Path) -> None:
    before = Crops(paths(folder), 16).key()
    assert Crops(paths(folder), 16).key() == before
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    assert Crops(paths(folder), 16).key() != before
