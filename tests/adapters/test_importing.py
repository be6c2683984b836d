"""``convlens import``: cards from what libraries say, random weights, and what is refused."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convlens
from convlens.cards import Card
from convlens.cli.app import run
from convlens.errors import FINE, USAGE, UsageError
from convlens_adapters.exporters import exporting, hf, keras, timm, torchvision
from convlens_adapters.exporters.pip import RecipeError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def network() -> Any:
    import torch

    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4),
    )  # fmt: skip


def export(name: str, folder: Path, settings: Mapping[str, Any]) -> Path:
    """An exporter as a package would bring it."""
    ask = exporting.Ask(name, folder, **settings)
    module = network()
    if ask.weights is not None:
        exporting.load_weights(module, ask.weights)
    else:
        exporting.randomise(module, ask.seed)
    size = ask.size or (16, 16)
    given = {"layout": "NCHW", "size": list(size), "mean": list(IMAGENET[0]), "std": list(IMAGENET[1])}
    model = exporting.to_onnx(module.eval(), size)
    return exporting.finish(ask, model, {"source": "here"}, given, ["a", "b", ["c", "d"], "ü"], "logits")


@pytest.fixture
def _announced(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(name="mine", load=lambda: export)
    real = importlib.metadata.entry_points

    def points(**given: Any) -> Any:
        return [entry] if given.get("group") == "convlens.exporters" else real(**given)

    monkeypatch.setattr(importlib.metadata, "entry_points", points)


@pytest.mark.usefixtures("_announced")
def test_import_writes_a_certified_model_with_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", "mine:net", "--random", "-o", str(tmp_path / "o"), "--size", "20,24", "--seed", "3"]
    assert run([*words, "--json"]) == FINE
    found = json.loads(capsys.readouterr().out)
    assert found["certificate"]["passed"]
    model = convlens.load(found["model"])
    assert model.source.size == (20, 24)
    assert model.card.model.source == "here, random weights (seed 3)"
    assert model.classes is not None
    assert model.classes.labels == (("a",), ("b",), ("c", "d"), ("ü",))
    assert model.preprocess.mean == IMAGENET[0]
    first = Path(found["model"]).read_bytes()
    assert run(words) == USAGE
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == FINE
    assert Path(found["model"]).read_bytes() == first  # the same seed, the same file
    assert "agree" in capsys.readouterr().out


@pytest.mark.usefixtures("_announced")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["net"], "expected LIBRARY:NAME"),
        (["mime:net"], "nearest: 'mine'"),
        (["mine:net", "--weights", "nowhere.pth"], "no such file"),
        (["mine:net", "--random", "--weights", "x"], "expected one of them"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", *words, "-o", str(tmp_path)]) == USAGE
    printed = capsys.readouterr()
    assert why in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_local_weights_are_those_of_the_file(tmp_path: Path) -> None:
    import torch

    module = network().eval()
    exporting.randomise(module, 9)
    torch.save({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, tmp_path / "w.pth")
    path = export("net", tmp_path, {"weights": tmp_path / "w.pth"})
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    model = convlens.load(path)
    with torch.no_grad():
        truth = module(torch.from_numpy(x)).numpy()
    found = model.runner.run({"input": x}, ["output"])["output"]
    assert np.abs(found - truth).max() <= 1e-5 * np.abs(truth).max()
    assert (model.card.model.source or "").endswith("weights of w.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(UsageError, match="does not fit the model"):
        exporting.load_weights(network(), tmp_path / "bad.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UsageError, match="cannot be read"):
        exporting.load_weights(network(), tmp_path / "text.pth")


def test_a_library_that_is_missing_is_named_with_pip() -> None:
    with pytest.raises(
        UsageError, match=r"no_such_library is not installed; `pip install 'convlens\[zoo\]'`"
    ):
        exporting.library("no_such_library", "'convlens[zoo]'")


def test_another_answer_of_onnxruntime_is_noticed(tmp_path: Path) -> None:
    path = export("net", tmp_path, {})
    x = np.ones((1, 3, 16, 16), np.float32)
    good = convlens.load(path).runner.run({"input": x}, ["output"])["output"]
    exporting.check(path.read_bytes(), x, good)
    with pytest.raises(RecipeError, match="differ"):
        exporting.check(path.read_bytes(), x, good * 1.01)
    with pytest.raises(RecipeError, match="shape"):
        exporting.check(path.read_bytes(), x, good[:, :2])


def test_a_card_is_toml_that_the_engine_reads() -> None:
    text = exporting.as_card(
        {
            "model": {"name": 'a "b"', "licence": None},
            "input": {"mean": [0.5], "range": [0, 255]},
            "output": {},
        }
    )
    assert tomllib.loads(text) == {"model": {"name": 'a "b"'}, "input": {"mean": [0.5], "range": [0, 255]}}
    assert Card.parse(tomllib.loads(text)).input.range == (0, 255)


# What libraries say


def test_torchvision_presets() -> None:
    way = SimpleNamespace(value="bilinear")
    resnet = SimpleNamespace(
        resize_size=[232], crop_size=[224], mean=list(IMAGENET[0]), std=list(IMAGENET[1]), interpolation=way
    )
    given, size = torchvision.input_of(resnet, "resnet50", None)
    assert size == (224, 224)
    assert given["crop"] == pytest.approx(224 / 232)
    assert Card.parse({"input": given}).input.mean == IMAGENET[0]
    fcn = SimpleNamespace(resize_size=[520], mean=IMAGENET[0], std=IMAGENET[1], interpolation=way)
    given, size = torchvision.input_of(fcn, "fcn_resnet50", (64, 96))
    assert size == (64, 96)
    assert "crop" not in given
    for other in (SimpleNamespace(), SimpleNamespace(resize_size=[128, 171], crop_size=[112, 112], mean=1)):
        with pytest.raises(UsageError, match="single photos"):
            torchvision.input_of(other, "r3d_18", None)


def test_timm_configurations() -> None:
    config = {
        "input_size": (3, 224, 224), "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5), "crop_pct": 0.9, "crop_mode": "center",
    }  # fmt: skip
    given, size = timm.input_of(config, None)
    assert size == (224, 224)
    assert (given["crop"], given["resize"], given["interpolation"]) == (0.9, "crop", "bicubic")
    given, _ = timm.input_of({**config, "crop_mode": "squash", "input_size": (1, 28, 28)}, None)
    assert (given["resize"], given["channels"]) == ("stretch", "GRAY")
    assert "crop" not in given


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda x: x,
        lambda x: x / 127.5 - 1,
        lambda x: (x / 255 - IMAGENET[0]) / IMAGENET[1],
        lambda x: x[..., ::-1] - [103.939, 116.779, 123.68],
    ],
    ids=["identity", "tf", "torch", "caffe"],
)
def test_keras_preprocessing_is_measured(preprocess: Any) -> None:
    given = keras.input_of(preprocess, (8, 8))
    way = Card.parse({"input": given}).input
    x = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float64)
    assert way.range is not None
    ordered = x[..., ::-1] if way.channels == "BGR" else x
    mine = way.range[0] + ordered * (way.range[1] - way.range[0]) / 255
    mine = (mine - np.array(way.mean or 0)) / np.array(way.std or 1)
    truth = np.asarray(preprocess(x))
    assert np.abs(mine - truth).max() <= 1e-5 * np.abs(truth).max()
    with pytest.raises(RecipeError, match="no card can say"):
        keras.input_of(lambda pixels: pixels**2, (8, 8))


def test_hugging_face_preprocessors() -> None:
    vit = {
        "do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "resample": 2, "size": 224,
    }  # fmt: skip
    given, size = hf.input_of(vit, None)
    assert (size, given["mean"], given["range"]) == ((224, 224), [0.5] * 3, [0.0, 1.0])
    convnext = {**vit, "crop_pct": 0.875, "size": {"shortest_edge": 224}, "resample": 3}
    given, _ = hf.input_of(convnext, None)
    assert (given["crop"], given["interpolation"]) == (0.875, "bicubic")
    mobilevit = {
        "crop_size": {"height": 256, "width": 256}, "do_center_crop": True, "do_flip_channel_order": True,
        "size": {"shortest_edge": 288}, "do_rescale": True, "rescale_factor": 1 / 255,
    }  # fmt: skip
    given, size = hf.input_of(mobilevit, None)
    assert (size, given["channels"], given["crop"]) == ((256, 256), "BGR", pytest.approx(256 / 288))
    assert "mean" not in given
    efficientnet = {**vit, "include_top": True, "size": {"height": 224, "width": 224}}
    given, _ = hf.input_of(efficientnet, None)
    assert (given["std"], given["resize"]) == ([0.25] * 3, "stretch")
    with pytest.raises(UsageError, match="says no size"):
        hf.input_of({}, None)
    assert hf.labels_of({"1": "b", "0": "a"}) == ["a", "b"]
    assert hf.labels_of({0: "LABEL_0", 1: "LABEL_1"}) is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras and torch warn about each other
@pytest.mark.parametrize(
    ("exporter", "package", "name"),
    [(torchvision, "torchvision", "resnet18"), (timm, "timm", "resnet10t"), (keras, "keras", "MobileNetV2")],
)
def test_the_library_itself(
    exporter: Any, package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'convlens[zoo]'")
    path = exporter.export(name, tmp_path, {"random": True, "size": (64, 64)})
    model = convlens.load(path)
    assert model.preprocess.size == (64, 64)
    assert model.certificate().passed
