"""``dream``: against the slow reference, at any size, guided, stopped, and short of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.errors import ConvLensError, ImageError, ParameterError, TargetError, UsageError
from convlens.model import Model
from convlens.results import Result
from convlens.synthesis.dreams import search as dreams
from convlens.synthesis.dreams.goals import handed_on, octaves
from convlens.synthesis.loop import Stage
from convlens.watch import FRAMES, Watch
from reference import nets
from reference.deconvnet import backward, forward
from reference.impatient import Impatient

Array = NDArray[np.float64]
SIZE = (14, 12)
NET = nets.classifier(0, (3, *SIZE))
CARD: dict[str, Any] = {"threads": 1, "mean": [0.5], "std": [0.25]}
STILL: dict[str, Any] = {"octaves": 1, "jitter": 0, "steps": 3, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A classifier that takes one size alone."""
    return convlens.load(nets.saved(NET.onnx(), tmp_path_factory.mktemp("fixed")), **CARD)


@pytest.fixture(scope="module")
def open_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Its convolutions, on any size."""
    net = NET.until("relu2")
    path = nets.saved(net.onnx(size=("H", "W")), tmp_path_factory.mktemp("open"))
    return convlens.load(path, size=list(SIZE), **CARD)


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 216, (5, 6, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def step(net: nets.Net, picture: Array, slope: Any, rate: float = 0.02) -> tuple[Array, Array]:
    """The layer on top, and the picture after one step of the given root mean square up ``slope``."""
    trace = forward(net, (picture - 0.5) / 0.25)
    gradient = backward(net, trace, slope(trace.top), "plain")
    gradient = gradient / np.sqrt((gradient**2).mean())
    return trace.top, np.clip(picture + rate * gradient, 0, 1)


@pytest.mark.parametrize("layer", ["conv1", "relu1", "maxpool1", "relu2"])
def test_a_layer_is_its_own_gradient(layer: str, model: Model) -> None:
    images = np.random.default_rng(1).normal(0, 0.6, (2, 3, *SIZE)).astype(np.float32)
    found = model.run("dream", images, layer, **STILL)
    for row in range(2):
        picture = np.clip(images[row].astype(np.float64) * 0.25 + 0.5, 0, 1)
        tops = []
        for _ in range(3):
            top, picture = step(NET.until(layer), picture, lambda top: top)
            tops.append(top)
        np.testing.assert_allclose(found.array[row], picture, rtol=0, atol=2e-5)
        assert found.arrays["start"][row] == pytest.approx((tops[0] ** 2).mean() / 2, rel=1e-5)
        after = forward(NET.until(layer), (picture - 0.5) / 0.25).top
        assert found.arrays["score"][row] == pytest.approx((after**2).mean() / 2, rel=1e-4)
        assert found.arrays["score"][row] > found.arrays["start"][row]


def test_a_weighted_sum_is_the_sum_of_its_gradients(model: Model) -> None:
    images = np.random.default_rng(1).normal(0, 0.6, (1, 3, *SIZE)).astype(np.float32)
    found = model.run("dream", images, "0.25*relu1 + 2*conv2:3", **{**STILL, "steps": 1})
    picture = np.clip(images[0].astype(np.float64) * 0.25 + 0.5, 0, 1)
    low, high = NET.until("relu1"), NET.until("conv2")
    below, above = (forward(net, (picture - 0.5) / 0.25) for net in (low, high))
    signal_below = 0.25 * below.top / below.top.size
    signal_above = np.zeros_like(above.top)
    signal_above[3] = 2.0 / above.top[3].size
    gradient = backward(low, below, signal_below, "plain") + backward(high, above, signal_above, "plain")
    expected = np.clip(picture + 0.02 * gradient / np.sqrt((gradient**2).mean()), 0, 1)
    np.testing.assert_allclose(found.array[0], expected, rtol=0, atol=2e-5)


def test_a_guide_gives_each_place_what_fits_it_best(model: Model, tmp_path: Path) -> None:
    guide = tmp_path / "guide.png"
    photo(*SIZE, seed=5).save(guide)
    images = np.random.default_rng(1).normal(0, 0.6, (1, 3, *SIZE)).astype(np.float32)
    net = NET.until("relu2")
    wanted = forward(net, np.asarray(photo(*SIZE, seed=5), np.float64).transpose(2, 0, 1) / 255 / 0.25 - 2)
    features = wanted.top.reshape(len(wanted.top), -1)

    def best(top: Array) -> Array:
        signal = np.zeros_like(top)
        for r, c in np.ndindex(top.shape[1:]):
            fits = [float(top[:, r, c] @ features[:, j]) for j in range(features.shape[1])]
            signal[:, r, c] = features[:, int(np.argmax(fits))]
        return signal

    found = model.run("dream", images, "relu2", guide=str(guide), **STILL)
    picture = np.clip(images[0].astype(np.float64) * 0.25 + 0.5, 0, 1)
    for _ in range(3):
        _, picture = step(net, picture, best)
    np.testing.assert_allclose(found.array[0], picture, rtol=0, atol=2e-5)
    plain = model.run("dream", images, "relu2", **STILL)
    assert np.abs(plain.array - found.array).max() > 0.01


def test_what_a_guide_cannot_be(model: Model, tmp_path: Path) -> None:
    image = photo(20, 20)
    with pytest.raises(UsageError, match="no such file"):
        model.run("dream", [image], "relu1", guide=str(tmp_path / "none.png"))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"bad\.png"):
        model.run("dream", [image], "relu1", guide=str(tmp_path / "bad.png"))
    (tmp_path / "bad.png").unlink()
    image.save(tmp_path / "one.png")
    with pytest.raises(TargetError, match="place by place to the channels of a layer, and class 2 is none"):
        model.run("dream", [image], 2, guide=str(tmp_path / "one.png"))
    image.save(tmp_path / "two.png")
    with pytest.raises(ParameterError, match="holds 2 images; expected one"):
        model.run("dream", [image], "relu1", guide=str(tmp_path))


@pytest.mark.parametrize("size", [(61, 45), (40, 90), (9, 33)], ids=str)
@pytest.mark.parametrize("layer", ["relu1", "dense1[1]"])
def test_a_photo_of_any_size_on_a_model_of_one_size(layer: str, size: tuple[int, int], model: Model) -> None:
    found = model.run("dream", [photo(*size)], layer, steps=6, learning_rate=0.02)
    assert found.array.shape == (1, 3, *size)
    assert found.arrays["photo"].shape == (1, *size, 3)
    np.testing.assert_array_equal(found.arrays["photo"][0], np.asarray(photo(*size)))
    if layer == "relu1":  # untrained scores do not hold when the picture is rolled
        assert found.rows[0]["score"] > found.rows[0]["start"]
    assert 0 <= found.array.min() <= found.array.max() <= 1
    alone = [text for text in found.how["warnings"] if "each tile of 14 x 12 is judged by itself" in text]
    assert len(alone) == (1 if layer == "dense1[1]" else 0)


def test_the_detail_of_the_photo_survives_all_octaves(open_model: Model) -> None:
    """A dream that changes next to nothing is the photo itself, and not one that was made small and large."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8))
    found = open_model.run("dream", [image], "relu1", steps=1, learning_rate=1e-7, octaves=3)
    expected = np.asarray(image, np.float64).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found.array[0], expected, rtol=0, atol=1e-5)


def test_detail_is_handed_on_to_a_fresh_copy_of_the_photo() -> None:
    """A constant that was added to a small copy is added to the next, whatever the photo holds."""
    full = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (1, 3, 40, 30)))
    enlarge = handed_on(full)
    small = torch.nn.functional.interpolate(full, (20, 15), mode="bilinear", antialias=True)
    found = enlarge(small + 0.25, Stage((40, 30), 1))
    torch.testing.assert_close(found, full + 0.25, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "count", "sizes"),
    [
        ((400, 600), 4, [(146, 219), (204, 306), (286, 429), (400, 600)]),
        ((60, 90), 4, [(43, 64), (60, 90)]),
        ((20, 20), 4, [(20, 20)]),
        ((98,), 3, [(50,), (70,), (98,)]),
    ],
)
def test_sizes_from_small_to_full(size: tuple[int, ...], count: int, sizes: list[tuple[int, ...]]) -> None:
    stages = octaves(size, count, 1.4, 7, least=32)
    assert [stage.size for stage in stages] == sizes
    assert {stage.steps for stage in stages} == {7}


def test_photos_of_different_sizes_go_together(open_model: Model, tmp_path: Path) -> None:
    pictures = [photo(50, 40), photo(33, 60, seed=1), photo(50, 40, seed=2)]
    how: dict[str, Any] = {"steps": 2, "octaves": 2, "tile": 32, "seed": 4}
    found = open_model.run("dream", pictures, "relu2", **how)
    assert {"dream 1", "photo 1", "dream 2", "photo 2", "dream 3", "photo 3"} == set(found.shared)
    for index, picture in enumerate(pictures):
        alone = open_model.run("dream", [picture], "relu2", **how)
        np.testing.assert_allclose(found.arrays[f"dream {index + 1}"], alone.array[0], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found.arrays[f"photo {index + 1}"], np.asarray(picture))
    written = {path.name for path in found.save(tmp_path)}
    for index, picture in enumerate(pictures):
        with Image.open(tmp_path / f"image-{index}-dream.png") as back:
            assert back.size == picture.size
            made = found.arrays[f"dream {index + 1}"].transpose(1, 2, 0) * 255
            assert np.abs(np.asarray(back) - made).max() <= 0.51
        assert f"dream-image-{index}.png" in written
    assert len(Result.load(tmp_path, "dream").pictures) == 3


def test_the_longest_side_is_limited(open_model: Model) -> None:
    found = open_model.run("dream", [photo(50, 200)], "relu1", steps=1, side=100)
    assert found.array.shape == (1, 3, 25, 100)
    assert open_model.run("dream", [photo(50, 80)], "relu1", steps=1, side=100).array.shape == (1, 3, 50, 80)


def test_grey_models_dream_in_grey(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = nets.Net((1, 16, 16), (nets.conv(rng, 1, 4, 3, pad=1), nets.Relu()))
    grey = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    found = grey.run("dream", [photo(30, 40)], "relu1", steps=2)
    assert found.array.shape == (1, 1, 30, 40)
    np.testing.assert_array_equal(found.arrays["photo"][0, :, :, 0], np.asarray(photo(30, 40).convert("L")))


def test_a_strip_that_is_too_thin_for_the_model_is_continued(tmp_path: Path) -> None:
    """Four pixels are nothing after three poolings; the strip beside itself again and again is something."""
    rng = np.random.default_rng(0)
    layers: list[nets.Layer] = []
    for inputs in (3, 4, 4):
        layers += [nets.conv(rng, inputs, 4, 3, pad=1), nets.Relu(), nets.MaxPool(2, 2)]
    net = nets.Net((3, 32, 32), tuple(layers))
    path = nets.saved(net.onnx(size=("H", "W")), tmp_path)
    deep = convlens.load(path, size=[32, 32], **CARD)
    found = deep.run("dream", [photo(4, 60)], "maxpool3", steps=5)
    assert found.array.shape == (1, 3, 4, 60)
    assert found.rows[0]["score"] > found.rows[0]["start"]


def test_another_tile_than_the_model_takes_is_refused(model: Model) -> None:
    with pytest.raises(ParameterError, match="tile is 32, and the model takes 14 x 12"):
        model.run("dream", [photo(40, 40)], "relu1", tile=32)


@pytest.mark.parametrize(("spread", "expected"), [(1.0, 0.02), (1000.0, 20.0)])
def test_the_steps_on_numbers_are_as_large_as_the_numbers_are_far_apart(
    spread: float, expected: float, tmp_path: Path
) -> None:
    net = nets.Net((5, 9, 9), (nets.conv(np.random.default_rng(0), 5, 4, 3), nets.Relu()))
    planes = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    x = np.random.default_rng(1).normal(0, 1, (1, 5, 9, 9))
    x = ((x - x.mean()) / x.std() * spread).astype(np.float32)
    found = planes.run("dream", x, "relu1", **{**STILL, "steps": 1})
    change = found.array.astype(np.float64) - x
    assert np.sqrt((change**2).mean()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("patience", [1, 3, 7, 9])
def test_a_stopped_dream_goes_on_to_the_same_picture(
    patience: int, open_model: Model, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"steps": 2, "octaves": 3, "tile": 32, "seed": 1}
    pictures = [photo(90, 70), photo(90, 70, seed=1)]
    whole = open_model.run("dream", pictures, "relu2", **how)
    watch = Impatient(tmp_path, frames=4)
    watch.patience = patience
    partly = open_model.run("dream", pictures, "relu2", watch=watch, **how)
    made = 1 if patience < 6 else 2
    assert partly.array.shape == (made, 3, 90, 70)
    assert partly.images == whole.images[:made]
    if patience == 1:  # detail of the photo is there although only its smallest copy was dreamt on
        expected = np.asarray(photo(90, 70), np.float64).transpose(2, 0, 1) / 255
        assert np.abs(partly.array[0] - expected).mean() < 0.05
    found = open_model.run("dream", pictures, "relu2", watch=Watch(tmp_path, frames=4, resume=True), **how)
    np.testing.assert_array_equal(found.array, whole.array)
    assert found.rows == whole.rows
    assert len(list((tmp_path / FRAMES).iterdir())) == 8


def test_less_goes_in_at_once_where_the_memory_is_full(
    open_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"steps": 1, "octaves": 1, "tile": 256, "batch_size": 8}
    monkeypatch.setattr(dreams, "_SMALLEST", 16)
    expected = open_model.run("dream", [photo(100, 80)], "relu1", **{**how, "tile": 64})
    honest = dreams.optimise

    def tight(*given: Any, **named: Any) -> Any:
        tiles = given[5].tiles
        if tiles.size[0] > 64:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return honest(*given, **named)

    monkeypatch.setattr(dreams, "optimise", tight)
    found = open_model.run("dream", [photo(100, 80)], "relu1", **how)
    np.testing.assert_allclose(found.array, expected.array, rtol=0, atol=1e-6)
    assert [text for text in found.how["warnings"] if "went on with tiles of 64 x 64" in text]
    monkeypatch.setattr(dreams, "_SMALLEST", 128)
    with pytest.raises(ConvLensError, match="one tile of 128 x 128 alone does not fit in memory"):
        open_model.run("dream", [photo(100, 80)], "relu1", **how)


def test_a_layer_that_is_silent_is_said(tmp_path: Path) -> None:
    """Rectified and then taken away: there is no way to make it answer."""
    from onnx import helper

    nodes = [
        helper.make_node("Relu", ["x"], ["on"]),
        helper.make_node("Mul", ["on", "zero"], ["nothing"]),
    ]
    proto = nets.model_of(nodes, {"x": ["N", 3, 8, 8]}, ["nothing"], {"zero": np.zeros(1, np.float32)})
    mute = convlens.load(nets.saved(proto, tmp_path), **CARD)
    found = mute.run("dream", [photo(20, 20)], "nothing", steps=2, allow_uncertified=True)
    method = convlens.registry.method("dream")
    assert [finding.level for finding in method.findings(found)] == ["attention"]
    np.testing.assert_allclose(found.array[0].transpose(1, 2, 0) * 255, found.arrays["photo"][0], atol=1e-3)


@pytest.mark.parametrize(
    ("strides", "layer"), [((2, 2, 2, 2, 2), "relu4"), ((1, 2), "relu2"), ((32, 1), "relu2")], ids=str
)
def test_the_deepest_layer_at_16_pixels_is_dreamt_of(
    strides: tuple[int, ...], layer: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    layers: list[nets.Layer] = []
    for number, stride in enumerate(strides):
        layers += [nets.conv(rng, 4 if number else 3, 4, 3, stride, pad=1), nets.Relu()]
    net = nets.Net((3, 64, 64), tuple(layers))
    found = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD).run("dream", [photo(64, 64)], steps=1)
    assert found.rows[0]["target"] == f"layer {layer}"
