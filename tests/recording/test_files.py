"""What the files of a data set are called: short, different, and the same from every folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import convlens
from convlens.model import Model
from convlens.recording.source import open_source
from reference import nets


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return convlens.load(nets.saved(nets.classifier(0, (3, 8, 8)).onnx(), tmp_path), mean=[0.5], std=[0.5])


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)


@pytest.mark.parametrize(
    ("given", "expected", "labels"),
    [
        (["a"], ["x/1.png", "y/1.png"], ["x", "y"]),
        (["a", "b"], ["a/x/1.png", "a/y/1.png", "b/2.png"], [None] * 3),
        (["a/x", "b"], ["x/1.png", "b/2.png"], [None] * 2),
        (["a/x", "c/x"], ["a/x/1.png", "c/x/1.png"], [None] * 2),
        (["b/2.png"], ["2.png"], [None]),
        (["a/x/1.png", "a/y/1.png"], ["x/1.png", "y/1.png"], [None] * 2),
        (["a/*/1.png"], ["x/1.png", "y/1.png"], [None] * 2),
        (["b", "a/x/1.png"], ["b/2.png", "1.png"], [None] * 2),
    ],
)
def test_names_and_labels(
    given: list[str],
    expected: list[str],
    labels: list[str | None],
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(tmp_path, "a/x/1.png", "a/y/1.png", "b/2.png", "c/x/1.png")
    monkeypatch.chdir(tmp_path)
    source = open_source(given, model.source, model.card)
    items = source.items(0, len(source))
    assert [item.name for item in items] == expected
    assert [item.label for item in items] == labels
    told = source.fingerprint()
    again = open_source(source.given, model.source, model.card)
    monkeypatch.chdir("/")
    assert [item.name for item in again.items(0, len(again))] == expected
    assert again.fingerprint() == told
