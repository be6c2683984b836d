"""The cache folder: chosen, off, unwritable, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from convlens import cache


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVLENS_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_there_and_back(home: Path) -> None:
    assert cache.get("kind", "key") is None
    cache.put("kind", "key", {"a": [1, 2.5, None, "ü"]})
    assert cache.get("kind", "key") == {"a": [1, 2.5, None, "ü"]}
    assert cache.get("other", "key") is None
    assert cache.get("kind", "other") is None
    assert [path.name for path in (home / "kind").iterdir()] == ["key.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{'a': 1}"])
def test_damage_counts_as_absence(home: Path, content: bytes) -> None:
    cache.put("kind", "key", 1)
    (home / "kind" / "key.json").write_bytes(content)
    assert cache.get("kind", "key") is None
    cache.put("kind", "key", 2)
    assert cache.get("kind", "key") == 2


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_off(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("CONVLENS_CACHE", word)
    assert cache.folder() is None
    cache.put("kind", "key", 1)
    assert cache.get("kind", "key") is None


def test_the_users_own_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVLENS_CACHE")
    found = cache.folder()
    assert found is not None
    assert found.name == "convlens"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVLENS_CACHE", str(tmp_path / "file"))
    cache.put("kind", "key", 1)
    assert cache.get("kind", "key") is None


def test_keys() -> None:
    assert cache.key_of("a", {"x": 1, "y": 2}) == cache.key_of("a", {"y": 2, "x": 1})
    different = [("a",), ("b",), ("a", None), ("a", 0), ("a", (0,)), ("a", {"x": 1}), ("a", {"x": 1.5})]
    assert len({cache.key_of(*parts) for parts in different}) == len(different)


def test_versions_and_sources() -> None:
    assert {"convlens", "numpy", "onnx", "torch"} <= cache.versions().keys()
    assert cache.sources() == cache.sources()
    assert int(cache.sources(), 16) > 0
