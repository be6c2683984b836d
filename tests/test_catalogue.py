"""The models that come along, those that were made, and names that mean neither."""

from __future__ import annotations

from pathlib import Path

import pytest

import convlens
from convlens import catalogue
from convlens.errors import ModelFileError, UsageError
from graph.nets import classifier, put, refused


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for models that were made."""
    folder = tmp_path / "made"
    folder.mkdir()
    monkeypatch.setattr(catalogue, "made", lambda: folder)
    return folder


def test_bundled_models() -> None:
    found = {entry.name: entry for entry in catalogue.entries()}
    for name, licence in (("efficientnet-lite0", "Apache-2.0"), ("vgg16-conv4_1", "CC-BY-4.0")):
        assert found[name].bundled
        assert found[name].licence == licence
        assert found[name].path == catalogue.locate(name)
        assert catalogue.locate(name).is_file()
    assert list(found) == sorted(found)


def test_bundled_photos() -> None:
    names = [path.name for path in catalogue.photos()]
    assert {"chelsea.png", "coffee.png", "rocket.jpg"} <= set(names)
    assert names == sorted(names)


def test_paths_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(classifier(), tmp_path, "mine")
    assert catalogue.locate(str(path)) == path
    assert catalogue.locate("no/such.onnx") == Path("no/such.onnx")
    monkeypatch.chdir(tmp_path)
    assert catalogue.locate("mine") == Path("mine")


def test_a_folder_of_the_same_name_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "efficientnet-lite0").mkdir()
    (tmp_path / "holiday").mkdir()
    monkeypatch.chdir(tmp_path)
    assert catalogue.locate("efficientnet-lite0").is_file()
    with refused(ModelFileError, "holiday", "folder", "expected an ONNX file"):
        convlens.load("holiday")


def test_unknown_name() -> None:
    with refused(
        UsageError, "eficientnet-lite", "no bundled model", "nearest", "'efficientnet-lite0'", "ready:"
    ):
        catalogue.locate("eficientnet-lite")


def test_recipe_that_was_not_made_yet() -> None:
    name = next(entry.name for entry in catalogue.entries() if entry.path is None)
    with refused(UsageError, name, "not made yet", f"convlens models fetch {name}"):
        catalogue.locate(name)


def test_fetch_unknown_name() -> None:
    assert "vgg16" in catalogue.recipes()
    with refused(UsageError, "no recipe for 'vgg61'", "nearest", "'vgg16'", "known:"):
        catalogue.fetch("vgg61")


def test_fetch_runs_the_recipe(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(folder: Path) -> Path:
        (folder / "card.toml").write_text("[model]\nname = 'Five'\nfile = 'net.onnx'\nlicence = 'MIT'\n")
        return put(classifier(), folder)

    monkeypatch.setattr(catalogue, "recipes", lambda: {"five": make})
    assert catalogue.fetch("five") == mine / "five" / "net.onnx"
    assert catalogue.locate("five") == mine / "five" / "net.onnx"
    (entry,) = [entry for entry in catalogue.entries() if entry.name == "five"]
    assert (entry.title, entry.licence, entry.bundled) == ("Five", "MIT", False)
    assert convlens.load("five").name == "Five"


def test_a_broken_card_of_one_model_does_not_hide_the_others(mine: Path) -> None:
    (mine / "broken").mkdir()
    (mine / "broken" / "card.toml").write_text("[model\n")
    names = [entry.name for entry in catalogue.entries()]
    assert "efficientnet-lite0" in names
    assert "broken" not in names
