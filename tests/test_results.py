"""Results on disk: whole or not at all, and back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlens.errors import ConvLensError
from convlens.results import Result, plain, write
from graph.nets import numbers, refused


def result(**changes: Any) -> Result:
    given: dict[str, Any] = {
        "method": "dots",
        "kind": "ranking",
        "main": "a",
        "arrays": {"a": numbers(2, 3), "count": np.arange(4, dtype=np.int64)},
        "units": {"a": "score", "count": "pixels"},
        "images": ("cat.png", "Hündin.png"),
        "views": np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3),
        "rows": ({"image": "cat.png", "score": np.float32(0.5)},),
        "how": {"seed": 3, "size": (4, np.int64(4)), "nothing": None},
        "hints": {"title": "Dots"},
    }
    return Result(**(given | changes))


def test_there_and_back(tmp_path: Path) -> None:
    before = result()
    paths = before.save(tmp_path / "deep" / "folder", "stem", pictures=False)
    assert [path.name for path in paths] == ["stem.npz", "stem.json"]
    after = Result.load(tmp_path / "deep" / "folder", "stem")
    assert list(after.arrays) == ["a", "count"]
    for name, array in before.arrays.items():
        assert after.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(after.arrays[name], array)
    assert after.views is not None
    np.testing.assert_array_equal(after.views, result().views)
    np.testing.assert_array_equal(after.array, before.array)
    assert (after.method, after.kind, after.main) == ("dots", "ranking", "a")
    assert after.units == before.units
    assert after.images == before.images
    assert after.rows == ({"image": "cat.png", "score": 0.5},)
    assert after.how == {"seed": 3, "size": [4, 4], "nothing": None}
    assert after.hints == before.hints


def test_saved_again_it_is_the_same(tmp_path: Path) -> None:
    result().save(tmp_path, "one", pictures=False)
    Result.load(tmp_path, "one").save(tmp_path, "two", pictures=False)
    for suffix in ("json", "npz"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_without_views_and_images(tmp_path: Path) -> None:
    result(views=None, images=(), rows=()).save(tmp_path, pictures=False)
    after = Result.load(tmp_path, "dots")
    assert after.views is None
    assert (after.images, after.rows) == ((), ())


def test_the_record_describes_the_arrays(tmp_path: Path) -> None:
    result().save(tmp_path, pictures=False)
    record = json.loads((tmp_path / "dots.json").read_text(encoding="utf-8"))
    assert record["arrays"] == {
        "a": {"shape": [2, 3], "dtype": "float32", "unit": "score"},
        "count": {"shape": [4], "dtype": "int64", "unit": "pixels"},
    }
    assert "Hündin.png" in (tmp_path / "dots.json").read_text(encoding="utf-8")


def test_a_failing_array_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(handle: Any, **_arrays: Any) -> None:
        handle.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        result().save(tmp_path, pictures=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_record_leaves_no_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result().save(tmp_path, pictures=False)

    def broken(_self: Result) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Result, "record", broken)
    with pytest.raises(KeyboardInterrupt):
        result(arrays={"a": numbers(5, 5)}, views=None).save(tmp_path, pictures=False)
    # the arrays are new, so the description of the old ones must be gone
    assert [path.name for path in tmp_path.iterdir()] == ["dots.npz"]
    with refused(ConvLensError, tmp_path / "dots", "no complete Result"):
        Result.load(tmp_path, "dots")


def test_a_failing_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write(path, lambda file: file.write(b"old"))

    def half(file: Any) -> None:
        file.write(b"new, but")
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        write(path, half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_result(tmp_path: Path) -> None:
    with refused(ConvLensError, tmp_path / "dots", "no complete Result to load", "No such file"):
        Result.load(tmp_path, "dots")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_truncated_result(tmp_path: Path, suffix: str, share: float) -> None:
    result().save(tmp_path, pictures=False)
    path = tmp_path / f"dots.{suffix}"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with refused(ConvLensError, tmp_path / "dots", "no complete Result"):
        Result.load(tmp_path, "dots")


def test_flipped_bits(tmp_path: Path) -> None:
    result().save(tmp_path, pictures=False)
    path = tmp_path / "dots.npz"
    raw = bytearray(path.read_bytes())
    raw[60:90] = bytes(b ^ 255 for b in raw[60:90])
    path.write_bytes(raw)
    with refused(ConvLensError, tmp_path / "dots", "no complete Result"):
        Result.load(tmp_path, "dots")


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"method": "x"}'])
def test_json_of_something_else(tmp_path: Path, text: str) -> None:
    result().save(tmp_path, pictures=False)
    (tmp_path / "dots.json").write_text(text)
    with refused(ConvLensError, tmp_path / "dots", "no complete Result"):
        Result.load(tmp_path, "dots")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (True, True),
        (float("nan"), None),
        (np.float64("inf"), None),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        (np.array(2), 2),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({1: np.int8(2)}, {"1": 2}),
        (Path("a/b"), "a/b"),
        (np.str_("x"), "x"),
        (None, None),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.floats(width=32).map(np.float32)
)


NESTED = st.recursive(
    SCALARS, lambda v: st.one_of(st.lists(v), st.tuples(v), st.dictionaries(st.integers(), v)), max_leaves=12
)


@given(NESTED)
def test_plain_is_always_json(value: Any) -> None:
    text = json.dumps(plain(value), allow_nan=False)
    assert json.loads(text) == plain(value)
