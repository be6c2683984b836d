"""Cards: what they say, where they are looked for, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

import convlens
from convlens.cards import Card, read_labels
from convlens.errors import CardError
from graph.nets import classifier, opened, put, refused

CARD = """
[model]
name = "Five things"
colour = "blue"
[input]
size = 32
mean = 0.5
std = [0.1, 0.2, 0.3]
[output]
labels = ["tench", ["tabby", "tabby cat"]]
"""


def card(folder: Path, text: str, name: str = "card.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    empty = Card()
    assert (empty.input.resize, empty.input.crop, empty.input.interpolation) == ("crop", 1.0, "bilinear")
    given = empty.input.model_dump(exclude={"resize", "crop", "interpolation"})
    assert set(given.values()) == {None}
    assert set(empty.output.model_dump().values()) == {None}


def test_one_number_stands_for_several(tmp_path: Path) -> None:
    found = Card.load(card(tmp_path, CARD))
    assert found.input.size == (32, 32)
    assert found.input.mean == (0.5,)
    assert found.input.std == (0.1, 0.2, 0.3)
    assert found.output.labels == (("tench",), ("tabby", "tabby cat"))


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_bytes(b"\xef\xbb\xbf" + CARD.encode())
    assert Card.load(path).model.name == "Five things"


def test_override(tmp_path: Path) -> None:
    base = Card.load(card(tmp_path, CARD))
    found = base.override({"mean": (1.0,), "resize": "pad", "scores": "sigmoid", "std": None})
    assert found.input.mean == (1.0,)
    assert found.input.resize == "pad"
    assert found.output.scores == "sigmoid"
    assert found.input.std == base.input.std
    assert found.model == base.model
    assert base.input.mean == (0.5,)


def test_override_labels_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n\n dog \n", encoding="utf-8")
    found = Card().override({"labels": tmp_path / "names.txt"})
    assert found.output.labels == (("cat",), ("dog",))
    assert Card().override({"labels": ["a", "b"]}).output.labels == (("a",), ("b",))


def test_unknown_override() -> None:
    with refused(CardError, "settings", "no setting 'input.interpolaton'", "'interpolation'"):
        Card().override({"interpolaton": "nearest"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[input]\nmeen = 1", ["no setting 'input.meen'", "nearest", "'mean'"]),
        ("[output]\nlabel = []", ["no setting 'output.label'", "'labels'"]),
        ("[inputs]\nmean = 1", ["no setting 'inputs'", "'input'"]),
        ("[input]\nmean = 'grey'", ["input.mean is 'grey'", "valid tuple"]),
        ("[input]\nstd = [1, 'x', 1]", ["input.std.1 is 'x'", "valid number"]),
        ("[input]\nresize = 'squeeze'", ["input.resize is 'squeeze'", "'crop', 'stretch' or 'pad'"]),
        ("[input]\nlayout = 'CHW'", ["input.layout is 'CHW'", "'NCHW', 'NHWC'"]),
        ("[input]\ncrop = 1.5", ["input.crop is 1.5", "less than or equal to 1"]),
        ("[input]\nsize = [1, 2, 3, 4]", ["input.size", "at most 3"]),
        ("input = 3", ["input is 3"]),
        ("[output]\nlabels = [1, 2]", ["output.labels.0 is 1"]),
        ("[output]\nlabels = [[], ['a']]", ["output.labels", "each class needs a name"]),
        ("[output]\nlabels = 3", ["output.labels is 3"]),
        ("[input\nmean = 1", ["not valid TOML", "line 1"]),
        ("mean = [0.5", ["not valid TOML"]),
    ],
)
def test_wrong_cards(tmp_path: Path, text: str, words: list[str]) -> None:
    path = card(tmp_path, text)
    with refused(CardError, path, *words):
        Card.load(path)


def test_missing_card(tmp_path: Path) -> None:
    with refused(CardError, tmp_path / "no.toml", "cannot be read", "No such file"):
        Card.load(tmp_path / "no.toml")


def test_card_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_bytes('[model]\nname = "Bäume"'.encode("latin-1"))
    with refused(CardError, path, "not valid TOML"):
        Card.load(path)


def test_card_beside_the_model(tmp_path: Path) -> None:
    path = put(classifier(), tmp_path, "net.onnx")
    assert Card.beside(path) is None
    card(tmp_path, "[model]\nname = 'shared'")
    assert convlens.load(path).name == "shared"
    card(tmp_path, "[model]\nname = 'shared'\nfile = 'net.onnx'")
    assert convlens.load(path).name == "shared"
    card(tmp_path, "[model]\nname = 'of another'\nfile = 'other.onnx'")
    assert convlens.load(path).name == "net"
    card(tmp_path, "[model]\nname = 'own'", "net.card.toml")
    card(tmp_path, "[model]\nname = 'shared'")
    assert convlens.load(path).name == "own"
    assert convlens.load(path, card=tmp_path / "card.toml").name == "shared"


def test_labels_lie_beside_the_card(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('["a", "b", "c", "d", "e"]', encoding="utf-8")
    card(tmp_path, "[output]\nlabels = 'names.json'")
    found = convlens.load(put(classifier(), tmp_path)).classes
    assert found is not None
    assert [found.label(i) for i in range(5)] == list("abcde")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["a", "b"], (("a",), ("b",))),
        ([["tabby", "tabby cat"], "tench"], (("tabby", "tabby cat"), ("tench",))),
        ({"1": "b", "0": "a"}, (("a",), ("b",))),
        ({str(i): f"c{i}" for i in (10, 9, 2, 0, 1, 3, 4, 5, 6, 7, 8)}, tuple((f"c{i}",) for i in range(11))),
        ({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}, (("tench",), ("goldfish",))),
        ([["n01440764"]], (("n01440764",),)),
    ],
)
def test_labels_in_json(tmp_path: Path, content: Any, expected: Any) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_labels(path) == expected


def test_labels_in_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufefftench\r\nhammerhead, shark\r\nÉpagneul\r\n\r\n".encode())
    assert read_labels(path) == (("tench",), ("hammerhead, shark",), ("Épagneul",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('["a", "b"', ["not valid JSON", "list of class names"]),
        ("[]", ["expected a list of class names"]),
        ("7", ["expected a list of class names"]),
        ('[["a"], 7]', ["expected a name or a list of names", "7"]),
        ('["a", []]', ["expected a name or a list of names", "[]"]),
        ('{"cat": 0, "dog": 1}', ["class indices", "no 0"]),
        ('{"1": "a", "2": "b"}', ["class indices from 0", "2 keys", "no 0"]),
        ('{"0": "a", "5": "b"}', ["class indices from 0", "2 keys", "no 1"]),
    ],
)
def test_wrong_labels(tmp_path: Path, content: str, words: list[str]) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content, encoding="utf-8")
    with refused(CardError, path, *words):
        read_labels(path)


def test_empty_text_of_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n\n")
    with refused(CardError, tmp_path / "labels.txt", "expected a list of class names"):
        read_labels(tmp_path / "labels.txt")


def test_labels_that_cannot_be_read(tmp_path: Path) -> None:
    with refused(CardError, tmp_path / "no.txt", "labels cannot be read"):
        read_labels(tmp_path / "no.txt")
    (tmp_path / "latin.txt").write_bytes("Épagneul".encode("latin-1"))
    with refused(CardError, tmp_path / "latin.txt", "labels cannot be read", "utf-8"):
        read_labels(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'person', 1: 'car', 2: 'dog', 3: 'cat', 4: 'it\\'s'}"),
        ("labels", '["person", "car", "dog", "cat", "it\'s"]'),
        ("classes", "person, car, dog, cat, it's"),
        ("names", '{"0": "person", "1": "car", "2": "dog", "3": "cat", "4": "it\'s"}'),
    ],
)
def test_labels_from_metadata(tmp_path: Path, key: str, text: str) -> None:
    proto = classifier()
    helper.set_model_props(proto, {key: text, "stride": "32"})
    found = opened(proto, tmp_path).classes
    assert found is not None
    assert found.labels == (("person",), ("car",), ("dog",), ("cat",), ("it's",))


@pytest.mark.parametrize("text", ["80", "{'person': 0}", "{0: 'a', 7: 'b'}", "[1, 2]", "import os", ""])
def test_metadata_that_holds_no_labels(tmp_path: Path, text: str) -> None:
    proto = classifier()
    helper.set_model_props(proto, {"names": text})
    found = opened(proto, tmp_path).classes
    assert found is not None
    assert found.labels is None
    assert found.label(3) == "class 3"


def test_the_cards_labels_come_before_the_files(tmp_path: Path) -> None:
    proto = classifier()
    helper.set_model_props(proto, {"names": "['v', 'w', 'x', 'y', 'z']"})
    found = opened(proto, tmp_path, labels=list("abcde")).classes
    assert found is not None
    assert found.label(0) == "a"
