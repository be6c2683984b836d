"""What files are called that are made of photos: no two alike, whatever the photos are called."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convlens.pictures.picture import stems


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["chelsea.png"], ["chelsea"]),
        (["a/cat.png", "b/cat.jpg"], ["cat", "cat-2"]),
        (["Cat.png", "cat.png"], ["Cat", "cat-2"]),
        (["cat.png", "cat.jpg", "cat-2.png"], ["cat", "cat-2", "cat-2-2"]),
        (["my photo (1).png"], ["my-photo-1"]),
        (["???.png"], ["x"]),
    ],
)
def test_they_say_which_photo_and_differ(names: list[str], expected: list[str]) -> None:
    assert stems(names) == expected


def test_long_names_leave_room_for_more(tmp_path: Path) -> None:
    first, second = stems(["n" * 400 + "1.png", "n" * 400 + "2.png"])
    assert first != second
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / f"{first}-something-longer-behind.png")


@given(st.lists(st.text(max_size=8).filter(lambda text: "\0" not in text), max_size=12))
def test_no_two_are_alike_even_where_capitals_do_not_count(names: list[str]) -> None:
    found = stems(names)
    assert len(found) == len(names)
    assert len({stem.lower() for stem in found}) == len(names)
