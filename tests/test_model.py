"""The face of it all: loading, batches from photos and arrays, running methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convlens
from convlens import catalogue
from convlens.cards import Card
from convlens.errors import CardError, ImageError, LayerError, ModelFileError, ParameterError, UsageError
from convlens.model import Model
from convlens.registry import Images
from graph.nets import LABELS, classifier, numbers, opened, put, refused

PHOTOS = catalogue.root() / "photos"


@pytest.fixture
def loaded(tmp_path: Path) -> Model:
    return opened(classifier(), tmp_path, mean=0.5, std=0.5, labels=LABELS)


def photo(folder: Path, name: str, colour: str = "red") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), colour).save(path)
    return path


def test_a_bundled_model_knows_the_cat_and_the_coffee() -> None:
    model = convlens.load("efficientnet-lite0", device="cpu")
    rows = model.run("predict", [PHOTOS / "chelsea.png", PHOTOS / "coffee.png"], top=3).rows
    said = {
        name: [row["label"] for row in rows if row["image"] == name] for name in ("chelsea.png", "coffee.png")
    }
    assert set(said["chelsea.png"]) <= {"tiger cat", "Egyptian cat", "tabby", "lynx"}
    assert {"tiger cat", "Egyptian cat", "tabby"} & set(said["chelsea.png"][:1])
    assert said["coffee.png"][0] == "espresso"


def test_name_and_hash(tmp_path: Path, loaded: Model) -> None:
    assert loaded.name == "net"
    assert len(loaded.sha256) == 64
    named = convlens.load(put(classifier(), tmp_path), card=Card.parse({"model": {"name": "Five"}}))
    assert named.name == "Five"
    assert repr(named) == "<Model Five: 5 layers>"


def test_missing_file(tmp_path: Path) -> None:
    with refused(ModelFileError, tmp_path / "no.onnx", "no such file"):
        convlens.load(tmp_path / "no.onnx")


def test_unknown_setting(tmp_path: Path) -> None:
    with refused(CardError, "no setting 'input.meen'", "'mean'"):
        opened(classifier(), tmp_path, meen=0.5)


def test_layers_by_name(loaded: Model) -> None:
    assert loaded["conv1"].kind == "conv"
    assert loaded.value_name("CONV1") == "conv1"
    assert loaded.value_name("image") == "image"
    with refused(LayerError, "no layer 'conv7'", "'conv1'"):
        _ = loaded["conv7"]


def test_arrays_go_in_as_they_are(loaded: Model) -> None:
    x = numbers(3, 3, 8, 8)
    for given in (x, torch.from_numpy(x)):
        images = loaded.images(given)
        np.testing.assert_array_equal(images.array, x)
        assert images.names == ("input 0", "input 1", "input 2")
        assert images.views is None
        assert loaded.images(images) is images


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (1, 3, 8, 9), (1, 1, 8, 8), (0, 3, 8, 8), (1, 3, 8, 8, 1)], ids=str
)
def test_arrays_of_another_shape(loaded: Model, shape: tuple[int, ...]) -> None:
    with refused(UsageError, f"shape {list(shape)}", "'image'", "['N', 3, 8, 8]"):
        loaded.images(np.zeros(shape, np.float32))


def test_photos(tmp_path: Path, loaded: Model) -> None:
    red, lime = photo(tmp_path, "a/x.png"), photo(tmp_path, "b/x.png", "lime")
    images = loaded.images([red, str(lime), Image.new("L", (9, 9), 255)])
    assert images.names == ("x.png", "x.png (2)", "image 2")
    assert len(images) == 3
    assert images.views is not None
    assert images.views.shape == (3, 8, 8, 3)
    # 0 becomes -1 and 255 becomes 1
    np.testing.assert_array_equal(images.array[0, :, 0, 0], [1, -1, -1])
    np.testing.assert_array_equal(images.array[1, :, 0, 0], [-1, 1, -1])
    np.testing.assert_array_equal(images.array[2], np.ones((3, 8, 8)))


def test_one_photo_or_a_folder(tmp_path: Path, loaded: Model) -> None:
    path = photo(tmp_path / "album", "one.png")
    assert loaded.images(path).names == ("one.png",)
    assert loaded.images(Image.new("RGB", (9, 9))).names == ("image 0",)
    photo(tmp_path / "album", "deep/two.jpg")
    assert loaded.images(tmp_path / "album").names == ("two.jpg", "one.png")


def test_no_photos(tmp_path: Path, loaded: Model) -> None:
    with refused(UsageError, "no images given", "at least one"):
        loaded.images([])
    with refused(UsageError, "no.png", "no such file"):
        loaded.images(tmp_path / "no.png")


def test_photos_need_a_card(tmp_path: Path) -> None:
    bare = opened(classifier(), tmp_path)
    with refused(CardError, "mean and std", "card.toml"):
        bare.images(photo(tmp_path, "x.png"))
    assert len(bare.images(numbers(1, 3, 8, 8))) == 1


def test_readable_photos_go_on_without_the_others(tmp_path: Path, loaded: Model) -> None:
    good = [photo(tmp_path, "a.png"), photo(tmp_path, "b.png", "blue")]
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    images, skipped = loaded.readable([good[0], bad, good[1]])
    assert images is not None
    assert images.names == ("a.png", "b.png")
    ((path, reason),) = skipped
    assert path == bad
    assert "not a picture" in reason
    assert loaded.readable([bad]) == (None, skipped)
    with refused(ImageError, bad, "not a picture"):
        loaded.images([good[0], bad])


def test_probabilities_sum_to_one(loaded: Model) -> None:
    images = loaded.images(numbers(5, 3, 8, 8))
    found = loaded.probabilities(images, batch_size=2)
    assert found.shape == (5, 5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)  # float64


def test_pytorch_gives_what_onnxruntime_gives(loaded: Model) -> None:
    x = numbers(3, 3, 8, 8)
    expected = loaded.runner.run({"image": x}, ["logits"])["logits"]
    found = loaded.torch(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32
    assert loaded.torch is loaded.torch


def test_how_it_was_made_is_recorded(loaded: Model) -> None:
    how = loaded.run("predict", numbers(2, 3, 8, 8), top=2, seed=7).how
    assert how["model"] == {"name": "net", "file": "net.onnx", "sha256": loaded.sha256}
    assert how["parameters"]["top"] == 2
    assert how["seed"] == 7
    assert how["certificate"]["passed"] is True
    assert how["allow_uncertified"] is False
    assert how["versions"]["convlens"] == convlens.__version__


@pytest.mark.parametrize(
    ("method", "options", "kind", "words"),
    [
        ("predct", {}, UsageError, ["no method 'predct'", "'predict'"]),
        ("predict", {"topp": 3}, ParameterError, ["no parameter 'topp'", "'top'"]),
        ("predict", {"top": "many"}, ParameterError, ["top is 'many'"]),
        ("predict", {"batch_size": 0}, UsageError, ["batch size is 0", "1 or more"]),
        ("predict", {"target": 3}, UsageError, ["predict takes no target"]),
    ],
)
def test_requests_that_cannot_be_met(
    loaded: Model, method: str, options: dict[str, Any], kind: type[UsageError], words: list[str]
) -> None:
    with refused(kind, *words):
        loaded.run(method, numbers(1, 3, 8, 8), **options)


def test_methods_that_need_images(loaded: Model) -> None:
    with refused(UsageError, "predict needs images", "at least one"):
        loaded.run("predict")


def test_batches_of_one_and_of_many_agree(loaded: Model) -> None:
    images = Images(numbers(5, 3, 8, 8), tuple("abcde"))
    one = loaded.run("predict", images, batch_size=1).arrays["probability"]
    many = loaded.run("predict", images, batch_size=5).arrays["probability"]
    np.testing.assert_allclose(one, many, rtol=1e-6)  # float32
