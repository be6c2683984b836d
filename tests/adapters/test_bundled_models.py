"""The models and photos that lie in the repository are complete, clean and work."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

MODELS = Path(__file__).parents[2] / "models"
OPERATORS = {
    "efficientnet-lite0": "Add Cast Clip Conv Flatten Gemm GlobalAveragePool",
    "vgg16-conv4_1": "Cast Conv MaxPool Relu",
}
each_model = pytest.mark.parametrize("name", OPERATORS)


@each_model
def test_the_graph_is_clean(name: str) -> None:
    path = MODELS / name / f"{name}.onnx"
    content = path.read_bytes()
    assert len(content) < 12_000_000
    for trace in (b"/tmp", b"/home", b"site-packages", b"torch"):
        assert trace not in content
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert sorted({node.op_type for node in model.graph.node}) == OPERATORS[name].split()
    assert all(node.name == node.output[0] for node in model.graph.node)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 13)]


@each_model
def test_the_card_fits(name: str) -> None:
    card = tomllib.loads((MODELS / name / "card.toml").read_text())
    assert (MODELS / name / card["model"]["file"]).is_file()
    assert len(card["input"]["mean"]) == len(card["input"]["std"]) == 3
    assert "licence" in card["model"]
    assert (MODELS / name / "LICENCE.md").is_file()
    if card["model"]["task"] == "classification":
        labels = json.loads((MODELS / name / card["output"]["labels"]).read_text())
        assert len(labels) == 1000
    else:
        assert "output" not in card


def scores(photo: str) -> np.ndarray:
    image = Image.open(MODELS / "photos" / photo).convert("RGB")
    scale = 256 / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    x = ((pixels - 127) / 128).transpose(2, 0, 1)[None].copy()
    path = MODELS / "efficientnet-lite0" / "efficientnet-lite0.onnx"
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"input": x})[0][0]
    return result


def test_the_cat_is_a_cat() -> None:
    tabby, tiger, egyptian = 281, 282, 285
    assert set(np.argsort(scores("chelsea.png"))[-3:]) == {tabby, tiger, egyptian}


def test_the_coffee_is_an_espresso() -> None:
    assert scores("coffee.png").argmax() == 967


def test_the_trunk_takes_any_size() -> None:
    path = MODELS / "vgg16-conv4_1" / "vgg16-conv4_1.onnx"
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.zeros((2, 3, 40, 64), np.float32)
    assert session.run(None, {"input": x})[0].shape == (2, 512, 5, 8)


def test_every_photo_is_named_in_the_licence_note() -> None:
    note = (MODELS / "photos" / "LICENCE.md").read_text()
    photos = [path for path in (MODELS / "photos").iterdir() if path.suffix in {".png", ".jpg"}]
    assert len(photos) == 4
    for path in photos:
        assert f"`{path.name}`" in note
        Image.open(path).verify()
