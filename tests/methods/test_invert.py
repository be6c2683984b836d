"""``invert``: what it reports is what onnxruntime computes of what it made; what it cannot do, it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.helper import make_node
from PIL import Image

import convlens
from convlens.cli.app import run
from convlens.errors import FINE, ConvLensError, LayerError, ParameterError, UnsupportedError
from convlens.model import Model
from convlens.watch import STATES, Watch
from reference import nets
from reference.impatient import Impatient
from reference.others import OTHERS

SHAPE = (3, 16, 14)
PLAIN = {"tv": 0.0, "parametrisation": "pixels"}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
NET = nets.classifier(2, SHAPE)
CLOSE = 1e-5
"""Of a relative error: the same values from two sessions of onnxruntime."""

FLOAT32 = 1e-7
"""Of a value: what float32 does not tell apart."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = nets.saved(NET.onnx(), tmp_path_factory.mktemp("net"))
    return convlens.load(path, threads=1, mean=MEAN, std=STD)


def photos(count: int) -> list[Image.Image]:
    """Smooth colours, so that there is something that a layer can keep."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (count, 5, 4, 3), np.uint8)
    return [Image.fromarray(each).resize((14, 16), Image.Resampling.BICUBIC) for each in small]


def values(name: str, array: NDArray[Any], folder: Path) -> NDArray[np.float64]:
    """The layer's values in a file that ends with it."""
    path = nets.saved(NET.until(name).onnx(), folder, name)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": array.astype(np.float32)})[0], np.float64)


def entered(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Pixels from 0 to 1, N x 3 x height x width, as the model takes them."""
    shape = (1, 3, 1, 1)
    return (pixels.astype(np.float64) - np.reshape(MEAN, shape)) / np.reshape(STD, shape)


def noise() -> NDArray[np.float64]:
    """The start: normal noise of a hundredth around grey, seed 0."""
    draw = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return np.asarray(0.5 + 0.01 * draw.numpy())


def away(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    axes = tuple(range(1, wanted.ndim))
    return np.sqrt(((found - wanted) ** 2).sum(axes) / (wanted**2).sum(axes))


def test_the_errors_are_those_of_onnxruntime_on_what_was_made(model: Model, tmp_path: Path) -> None:
    given = photos(3)
    result = model.run("invert", given, layer=["relu1", "maxpool1", "relu2"], steps=12, batch_size=2)
    real = np.stack([np.asarray(photo, np.float64) / 255 for photo in given]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(result.arrays["image"], real, rtol=0, atol=1e-6)
    assert result.array.shape == (3, 3, *SHAPE)
    assert 0 <= result.array.min() <= result.array.max() <= 1
    for k, name in enumerate(["relu1", "maxpool1", "relu2"]):
        wanted = values(name, entered(real), tmp_path)
        found = values(name, entered(result.array[:, k]), tmp_path)
        grey = values(name, entered(np.full((1, *SHAPE), 0.5)), tmp_path)
        np.testing.assert_allclose(result.arrays["error"][:, k], away(found, wanted), rtol=CLOSE)
        np.testing.assert_allclose(result.arrays["grey"][:, k], away(grey, wanted), rtol=CLOSE)
        begun = values(name, entered(noise()), tmp_path)
        np.testing.assert_allclose(result.arrays["start"][:, k], away(begun, wanted), rtol=CLOSE)
        for i in range(3):
            row = result.rows[3 * i + k]
            assert (row["image"], row["layer"]) == (f"image {i}", name)
            assert row["error"] == result.arrays["error"][i, k]


def test_a_layer_that_keeps_everything_gives_the_photo_back(model: Model) -> None:
    given = photos(2)
    result = model.run("invert", given, layer=["conv1"], steps=150, tv=0.0, parametrisation="pixels")
    assert (result.arrays["error"] < 0.005).all()
    assert np.abs(result.array[:, 0] - result.arrays["image"]).mean() < 0.01


def test_without_a_layer_it_runs_over_the_stages(model: Model) -> None:
    result = model.run("invert", photos(1), steps=2)
    assert [row["layer"] for row in result.rows] == ["maxpool1", "relu2", "dense1"]
    tiles = result.hints["panels"][0]["tiles"]
    assert [tile["label"].split()[0] for tile in tiles] == ["given", "maxpool1", "relu2", "dense1"]


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("parametrisation", ["fourier", "laplacian", "pixels"])
def test_every_way_comes_nearer(optimiser: str, parametrisation: str, model: Model) -> None:
    settings = {"optimiser": optimiser, "parametrisation": parametrisation}
    result = model.run("invert", photos(1), layer=["relu1"], steps=40, **settings)
    assert result.arrays["error"][0, 0] < 0.6 * result.arrays["start"][0, 0]


def test_steps_of_lbfgs_are_never_taken_back(model: Model) -> None:
    few, more = (
        model.run("invert", photos(2), layer=["relu2"], steps=steps, tv=0.0).arrays["error"]
        for steps in (10, 40)
    )
    assert (more <= few).all()


def test_only_the_channels_asked_for_are_matched(model: Model, tmp_path: Path) -> None:
    result = model.run("invert", photos(2), layer=["conv1"], channel="0,3", steps=40, **PLAIN)
    wanted = values("conv1", entered(result.arrays["image"]), tmp_path)
    found = values("conv1", entered(result.array[:, 0]), tmp_path)
    matched = away(found[:, [0, 3]], wanted[:, [0, 3]])
    np.testing.assert_allclose(result.arrays["error"][:, 0], matched, rtol=0, atol=FLOAT32)
    assert (matched < 0.001).all()
    assert (away(found[:, [1, 2, 4]], wanted[:, [1, 2, 4]]) > 0.1).all()
    assert result.rows[0]["layer"] == "conv1:0,3"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"layer": ["relu9"]}, LayerError, "no layer 'relu9'; nearest"),
        ({"layer": ["relu1", "relu2"], "channel": "1"}, ParameterError, "channels are of one layer"),
        ({"channel": "1"}, ParameterError, "channels are of one layer"),
        ({"layer": ["relu1"], "channel": "0,5"}, LayerError, "has no channel 5; it has channels 0 to 4"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], error: type[ConvLensError], words: str, model: Model
) -> None:
    with pytest.raises(error, match=words):
        model.run("invert", photos(1), **settings)


def test_a_dead_layer_is_refused(tmp_path: Path) -> None:
    nodes = [
        make_node("Conv", ["x", "w", "b"], ["drive"]),
        make_node("Relu", ["drive"], ["closed"]),
    ]
    stored = {"w": np.ones((2, 1, 3, 3), np.float32), "b": np.full(2, -1000, np.float32)}
    proto = nets.model_of(nodes, {"x": ["N", 1, 8, 8]}, ["closed"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1, kind="image")
    with pytest.raises(LayerError, match="closed is zero everywhere for input 1, so there is nothing"):
        model.run("invert", np.array([np.full((1, 8, 8), 500), np.ones((1, 8, 8))], np.float32), steps=2)


def test_a_layer_that_does_not_count_images_first_is_refused(tmp_path: Path) -> None:
    other = OTHERS["reader"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1, **other.settings)
    with pytest.raises(LayerError, match=r"'letters'.* does not count images along its first axis"):
        model.run("invert", other.arrays(2), layer=["letters"], steps=2)


def test_where_no_signal_reaches_the_picture_it_is_said(tmp_path: Path) -> None:
    nodes = [
        make_node("Sign", ["x"], ["sign"]),
        make_node("Add", ["x", "sign"], ["y"]),
    ]
    proto = nets.model_of(nodes, {"x": ["N", 1, 8, 8]}, ["y"])
    model = convlens.load(nets.saved(proto, tmp_path), threads=1, kind="image")
    result = model.run("invert", np.ones((2, 1, 8, 8), np.float32), layer=["sign"], steps=2)
    assert [row["silent"] for row in result.rows] == [True, True]
    found = convlens.methods()["invert"].findings(result)
    assert any("no signal from sign reaches the picture" in finding.text for finding in found)


def test_tokens_are_refused(tmp_path: Path) -> None:
    other = OTHERS["tokens"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1)
    with pytest.raises(UnsupportedError, match="holds integers"):
        model.run("invert", other.arrays(1))


def test_bytes_are_judged_as_the_file_takes_them(tmp_path: Path) -> None:
    other = OTHERS["bytes"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1, **other.settings)
    given = other.arrays(2)
    result = model.run("invert", given, layer=["conv1_relu"], steps=20)
    session = onnxruntime.InferenceSession(
        nets.saved(other.make(), tmp_path), providers=["CPUExecutionProvider"]
    )
    whole = np.rint(result.array[:, 0] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    assert session.get_inputs()[0].type == "tensor(uint8)"
    values = model.runner.run({"x": np.concatenate([given, whole])}, ["conv1_relu"])["conv1_relu"]
    np.testing.assert_allclose(result.arrays["error"][:, 0], away(values[2:], values[:2]), rtol=1e-4)


def test_half_precision_is_searched_in_full(tmp_path: Path) -> None:
    proto = NET.onnx()
    for held in proto.graph.initializer:
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held).astype(np.float16), held.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    half = convlens.load(nets.saved(proto, tmp_path), threads=1, mean=MEAN, std=STD)
    given = photos(2)
    settings: dict[str, Any] = {"layer": ["relu1"], "steps": 60, **PLAIN}
    result = half.run("invert", given, **settings)
    assert result.array.dtype == np.float64
    assert (result.arrays["error"] < 0.05).all()
    feeds = {"input": entered(np.concatenate([result.arrays["image"], result.array[:, 0]]))}
    found = np.asarray(half.runner.run(feeds, ["relu1"])["relu1"], np.float64)
    np.testing.assert_allclose(result.arrays["error"][:, 0], away(found[2:], found[:2]), rtol=1e-2)


@pytest.mark.parametrize(
    ("patience", "made"), [(3, (1, 1)), (9, (1, 2)), (16, (1, 3)), (22, (1, 3)), (41, (2, 3))]
)
def test_a_stopped_search_goes_on_to_the_same_pictures(
    patience: int, made: tuple[int, int], model: Model, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"steps": 6}
    given = photos(3)
    whole = model.run("invert", given, **settings)
    watch = Impatient(tmp_path)
    watch.patience = patience
    partly = model.run("invert", given, watch=watch, **settings)
    assert (tmp_path / STATES).is_dir()
    assert partly.array.shape[:2] == made
    assert len(partly.images) == len(partly.hints["panels"]) == made[0]
    assert partly.pictures
    found = model.run("invert", given, watch=Watch(tmp_path, resume=True), **settings)
    np.testing.assert_array_equal(found.array, whole.array)
    np.testing.assert_array_equal(found.arrays["history"], whole.arrays["history"])
    assert found.rows == whole.rows


def test_the_command_takes_every_setting(model: Model, tmp_path: Path) -> None:
    photos(1)[0].save(tmp_path / "one.png")
    words = ["invert", str(model.path), str(tmp_path / "one.png"), "--size", "16,14", "--range", "0,1"]
    words += ["--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3", "--layer", "relu1", "--layer", "relu2"]
    words += ["--steps", "3", "--tv", "0.1", "--beta", "1", "--frames", "2", "-o", str(tmp_path / "out")]
    assert run(words) == FINE
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"one-relu1.png", "one-relu2.png", "invert-one.png", "invert.json", "invert.npz"} <= made
    assert len(list((tmp_path / "out" / "frames").iterdir())) == 4
