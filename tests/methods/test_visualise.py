"""``visualise`` as it is asked for: starts, directions, variants, and what the model says of its pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens import registry
from convlens.errors import ConvLensError, LayerError, ParameterError
from convlens.model import Model
from convlens.synthesis.visual.judging import moved
from reference import nets
from reference.others import OTHERS

PHOTOS = Path(__file__).parents[2] / "models" / "photos"
EIGHT_BITS = 0.5 / 255 + 1e-6


def net(path: Path, side: int | None = 24) -> Model:
    shape = (3, side, side) if side else (3, None, None)
    return convlens.load(
        nets.saved(nets.classifier(0, shape).onnx(), path),
        threads=1,
        mean=[0.5],
        std=[0.25],
        resize="stretch",
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return net(tmp_path_factory.mktemp("net"))


def run(model: Model, target: Any, **parameters: Any) -> Any:
    return model.run("visualise", None, target, **{"steps": 3, "jitter": 1, **parameters})


def test_a_photo_to_start_from_is_cut_and_scaled_as_the_card_says(model: Model) -> None:
    photo = str(PHOTOS / "coffee.png")
    found = run(model, 0, start=photo, steps=1, learning_rate=1e-6)
    with Image.open(photo) as image:
        expected = np.asarray(image.convert("RGB").resize((24, 24), Image.Resampling.BILINEAR)) / 255
    begun = found.arrays["begun"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(begun, expected, atol=EIGHT_BITS)
    np.testing.assert_allclose(found.arrays["picture"][0].transpose(1, 2, 0), expected, atol=0.01)
    assert found.rows[0]["from"] == "coffee.png"
    labels = [tile["label"] for tile in found.hints["panels"][0]["tiles"]]
    assert labels[0] == "start"
    assert len(labels) == 2


def test_an_array_is_a_start_where_no_photos_go_in(tmp_path: Path) -> None:
    other = next(o for name, o in OTHERS.items() if o.kind == "signal" and not o.integers)
    opened = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1, **other.settings)
    np.save(tmp_path / "start.npy", other.arrays(1))
    found = run(
        opened, other.target, start=str(tmp_path / "start.npy"), steps=1, learning_rate=1e-9, jitter=0
    )
    assert found.rows[0]["from"] == "start.npy"
    np.testing.assert_allclose(found.arrays["begun"].ravel(), other.arrays(1).ravel(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("start", "message"),
    [("nois", "nearest: 'noise'"), ("lost.png", "is no file"), (str(Path(__file__)), "not a picture")],
)
def test_a_start_that_is_none_is_refused(model: Model, start: str, message: str) -> None:
    with pytest.raises(ConvLensError, match=message):
        run(model, 0, start=start)


def probability(model: Model, pictures: NDArray[Any], index: int) -> NDArray[Any]:
    """By onnxruntime, of pictures N x 3 x height x width from 0 to 1."""
    array = ((pictures - 0.5) / 0.25).astype(np.float32)
    scores = model.runner.run({model.source.name: array}, list(model.graph.outputs))[model.graph.outputs[0]]
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray((powers / powers.sum(axis=1, keepdims=True))[:, index])


def test_rows_tell_the_probability_of_the_picture_and_of_moved_copies(model: Model) -> None:
    found = run(model, 1, variants=2, seed=3)
    pictures = found.arrays["picture"]
    expected = probability(model, pictures, 1)
    np.testing.assert_allclose(found.arrays["probability"], expected, rtol=0, atol=1e-5)
    for row, picture in enumerate(pictures):
        assert found.rows[row]["probability"] == pytest.approx(expected[row], abs=1e-5)
        view = np.rint(picture.clip(0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
        copies = moved(view, 16, 3).transpose(0, 3, 1, 2) / 255
        np.testing.assert_allclose(found.arrays["robust"][row], probability(model, copies, 1), atol=1e-5)
        assert found.rows[row]["robust"] == pytest.approx(found.arrays["robust"][row].mean())
    channel = run(model, "relu1:0")
    assert "probability" not in channel.arrays
    assert "probability" not in channel.rows[0]


def test_moved_copies_are_scaled_and_shifted() -> None:
    side = 112
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    blob = np.exp(-((rows**2) + columns**2) / (2 * 6.0**2))
    view = np.rint(128 + 127 * blob).astype(np.uint8)[..., None].repeat(3, axis=2)
    copies = moved(view, 64, 0)[..., 0].astype(np.float64) - 128
    mass = copies.sum(axis=(1, 2))
    size = np.sqrt(mass / (view[..., 0].astype(np.float64) - 128).sum())
    down = (copies * rows).sum(axis=(1, 2)) / mass
    right = (copies * columns).sum(axis=(1, 2)) / mass
    for shift in (down, right):
        assert np.abs(shift).max() < 8 + 1  # a fourteenth of the side, and half a pixel of centring
        assert shift.max() > 6
        assert shift.min() < -6
    assert 0.83 < size.min() < 0.88
    assert 1.12 < size.max() < 1.17
    np.testing.assert_array_equal(moved(view, 64, 0), moved(view, 64, 0))
    assert (moved(view, 64, 0) != moved(view, 64, 1)).any()


def test_a_direction_of_one_channel_is_that_channel(model: Model, tmp_path: Path) -> None:
    layer = model["relu1"]
    assert layer.channels is not None
    one = np.eye(layer.channels)[2]
    np.save(tmp_path / "one.npy", one)
    found = run(model, "relu1", direction=str(tmp_path / "one.npy"), steps=10)
    with torch.no_grad():
        fed = (torch.from_numpy(found.arrays["picture"]) - 0.5) / 0.25
        value = model.torch.values({model.source.name: fed}, [layer.name])[layer.name].double().numpy()
    dots = value[0, 2]
    cosines = dots / np.sqrt((value[0] ** 2).sum(axis=0) + 1e-37)
    assert found.arrays["score"][0] == pytest.approx(
        float((dots * np.maximum(cosines, 0.1)).mean()), rel=1e-4
    )
    assert found.arrays["score"][0] > found.arrays["history"][0, 0]
    assert found.rows[0]["target"] == "direction one.npy in relu1"


def test_a_direction_can_come_from_a_photo(model: Model) -> None:
    found = run(model, "relu1", direction=str(PHOTOS / "coffee.png"), variants=2)
    assert [row["target"] for row in found.rows] == [
        f"direction coffee.png in relu1, variant {number}" for number in (1, 2)
    ]


def likeness(model: Model, pictures: NDArray[Any]) -> float:
    """Cosine between the Gram matrices of two pictures at relu1."""
    fed = ((pictures - 0.5) / 0.25).astype(np.float32)
    name = model["relu1"].name
    value = model.runner.run({model.source.name: fed}, [name])[name].astype(np.float64)
    first, second = (np.einsum("chw,dhw->cd", row, row).ravel() for row in value)
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.parametrize("start", ["noise", "grey"])
def test_variants_are_kept_apart(model: Model, start: str) -> None:
    alike = run(model, "relu1:0", variants=2, steps=40, start=start)
    apart = run(model, "relu1:0", variants=2, diversity=5.0, steps=40, start=start)
    assert likeness(model, apart.arrays["picture"]) < likeness(model, alike.arrays["picture"])
    assert (alike.arrays["picture"][0] != alike.arrays["picture"][1]).any()
    assert apart.rows[0]["target"].endswith("variant 1")


@pytest.mark.parametrize(
    ("target", "parameters", "error", "message"),
    [
        (0, {"channel": "0-2"}, ParameterError, "give a layer as target"),
        (0, {"direction": "a.npy"}, ParameterError, "give a layer as target"),
        ("relu1", {"channel": "0", "variants": 2}, ParameterError, "do not go together"),
        ("relu1", {"diversity": 1.0}, ParameterError, "say --variants 2"),
        ("relu1", {"variants": 9, "diversity": 1.0}, ParameterError, "say --batch-size 9"),
        ("relu1", {"channel": "999"}, LayerError, "has no channel 999"),
        ("relu1", {"enlarge": 64}, ParameterError, "--parametrisation cppn"),
        ("relu1", {"direction": "gone.npy"}, ParameterError, "could be read"),
    ],
)
def test_what_does_not_go_together_is_refused(
    model: Model, target: Any, parameters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        run(model, target, **parameters)
    assert "\n" not in str(caught.value)


def test_a_model_of_fixed_size_sees_other_sizes_resampled_and_this_is_said(model: Model) -> None:
    found = run(model, 0, side=40)
    assert found.arrays["picture"].shape == (1, 3, 40, 40)
    assert any("24 x 24 only; pictures of 40 x 40 are resampled" in text for text in found.how["warnings"])
    assert not run(model, 0).how["warnings"]
    octaves = run(model, 0, octaves=2, octave_factor=2.0)
    assert any("pictures of 12 x 12 are resampled" in text for text in octaves.how["warnings"])


def test_a_cppn_is_drawn_again_at_another_size(model: Model) -> None:
    found = run(model, 1, parametrisation="cppn", steps=5, enlarge=72)
    assert found.arrays["enlarged"].shape == (1, 3, 72, 72)
    # the middle of each three by three pixels lies where the pixel of the small picture does
    middles = found.arrays["enlarged"][:, :, 1::3, 1::3]
    np.testing.assert_allclose(middles, found.arrays["picture"], rtol=0, atol=1e-5)
    assert found.arrays["score"][0] > found.arrays["history"][0, 0]
    assert found.rows[0]["from"] == "a random network"


def test_a_picture_that_holds_at_one_place_only_is_pointed_out(model: Model) -> None:
    result = run(model, 1)
    row = {**result.rows[0], "probability": 0.9, "robust": 0.2}
    method = registry.method("visualise")
    (finding,) = method.findings(replace(result, rows=(row,)))
    assert "not when it is moved a little" in finding.text


def breaking(path: Path, limit: float) -> Model:
    """-log(limit - the mean of all pixels): not a number where the mean is above ``limit``."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["mean"]),
        helper.make_node("Sub", ["limit", "mean"], ["left"]),
        helper.make_node("Log", ["left"], ["log"]),
        helper.make_node("Neg", ["log"], ["y"]),
    ]
    arrays = {"w": np.full((108, 1), 1 / 108, np.float32), "limit": np.float32([limit])}
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 6, 6])
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", [start], [end], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return convlens.load(nets.saved(proto, path), threads=1, mean=[0.0], std=[1.0], range=[0.0, 1.0])


@pytest.mark.parametrize("limit", [0.55, 0.4], ids=["on the way", "at the first step"])
def test_a_number_that_is_not_finite_ends_the_search_and_the_last_good_picture_stays(
    limit: float, tmp_path: Path
) -> None:
    model = breaking(tmp_path, limit)
    options = {"parametrisation": "pixels", "start": "grey", "jitter": 0, "scale": 0.0, "rotate": 0.0}
    found = run(model, "y[0]", steps=20, learning_rate=0.02, **options, allow_uncertified=True)
    # from 0.5 each step adds 0.02 to every pixel
    kept = 2 if limit > 0.5 else 0
    np.testing.assert_allclose(found.array, 0.5 + 0.02 * kept, rtol=0, atol=0.005)
    (said,) = (text for text in found.how["warnings"] if "not finite" in text)
    assert f"step {kept + 2 if kept else 1} gave" in said
    assert ("the last one whose score is finite" if kept else "that of the start") in said
    assert np.isfinite(found.arrays["score"]).all() == bool(kept)
    found.save(tmp_path / "made")
