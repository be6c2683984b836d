"""``invariance`` against loops over single pixels, Pillow, and transforms whose outcome is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from PIL import Image

import convlens
from convlens.attribution.moving.geometry import stretched, stretching, turned
from convlens.errors import LayerError, ParameterError, UsageError
from convlens.model import Model
from reference import deconvnet, invariance, nets, occlusion, plainly
from reference.others import OTHERS

CLOSE = 1e-5
"""Of the largest distance, or of a probability: the model computes in float32."""

EXACT = 1e-12
"""Of numbers around one: both sides compute in float64."""

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CARD: dict[str, Any] = {"mean": MEAN, "std": STD, "threads": 1}
NET = nets.classifier(0)
FILL = np.asarray(occlusion.pixel(127.5, NET.shape, MEAN, STD))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(nets.saved(NET.onnx(), tmp_path_factory.mktemp("models")), **CARD)


def features(name: str) -> Any:
    return lambda image: deconvnet.forward(NET.until(name), image).top


@pytest.mark.parametrize("edge", [False, True], ids=["grey", "edge"])
def test_every_number_is_that_of_the_loops(edge: bool, model: Model) -> None:
    images = nets.pictures(0, 2, NET.shape)
    result = model.run(
        "invariance",
        images,
        2,
        steps=3,
        shrink=0.6,
        layers="conv1,relu2",
        shift=4,
        fill="edge" if edge else None,
    )
    moves = {
        "translation": lambda image, amount: invariance.shifted(image, FILL, int(amount), edge),
        "scale": lambda image, amount: invariance.scaled(image, FILL, amount, edge),
        "rotation": lambda image, amount: invariance.turned(image, FILL, amount, edge),
    }
    assert result.arrays["translation"].tolist() == [-4, -2, 0, 2, 4]
    np.testing.assert_allclose(result.arrays["scale"], [0.6, 1.0, 1.4, 1.8])
    np.testing.assert_allclose(result.arrays["rotation"], np.arange(0, 360, 60))
    for index, image in enumerate(images):
        for name, move in moves.items():
            for place, amount in enumerate(result.arrays[name]):
                moved = move(image, float(amount))
                score = plainly.softmax(deconvnet.forward(NET, moved).top)[2]
                assert result.arrays[f"{name}_target"][index, place] == pytest.approx(score, abs=CLOSE)
                for row, layer in enumerate(("conv1", "relu2")):
                    wanted = invariance.distance(features(layer), image, moved)
                    scale = result.arrays[f"{name}_distance"][index, row].max()
                    found = result.arrays[f"{name}_distance"][index, row, place]
                    assert found == pytest.approx(wanted, abs=CLOSE * scale)
    length = [np.linalg.norm(features("conv1")(image)) for image in images]
    np.testing.assert_allclose(result.arrays["norm"][:, 0], length, rtol=CLOSE)
    share = result.arrays["scale_distance"][:, 0] / np.array(length)[:, None]
    np.testing.assert_allclose(result.arrays["scale_relative"][:, 0], share, rtol=CLOSE)


def picture(height: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng(3).uniform(0, 1, (height, width))


@pytest.mark.parametrize("size", [(12, 17), (9, 9)])
@pytest.mark.parametrize("degrees", [0, 7.5, 45, 90, 123, 180, 270])
def test_turning_is_that_of_pillow(size: tuple[int, int], degrees: float) -> None:
    given = picture(*size)
    found = turned(given, np.zeros(size), (0, 1), degrees)
    image = Image.fromarray(given.astype(np.float32))
    wanted = np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR), np.float64)
    whole = np.asarray(Image.fromarray(np.ones(size, np.float32)).rotate(degrees, Image.Resampling.BILINEAR))
    inner = (
        turned(np.ones(size), np.zeros(size), (0, 1), degrees) > 1 - 1e-9
    )  # the borders are blended otherwise
    assert inner.sum() > 20
    assert (whole[inner] == 1).all()
    np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-5)


def test_quarter_turns_and_whole_shifts_are_exact() -> None:
    square = picture(8, 8)
    for quarter in range(4):
        np.testing.assert_array_equal(
            turned(square, square * 0, (0, 1), 90 * quarter), np.rot90(square, quarter)
        )
    for far in (-5, -1, 3):
        moved = stretched(square, square * 0, {0: stretching(8, shift=far)})
        rows = slice(max(0, far), 8 + min(0, far))
        before = slice(max(0, -far), 8 - max(0, far))
        np.testing.assert_array_equal(moved[rows], square[before])
        assert np.count_nonzero(moved) == square[before].size


@pytest.mark.parametrize("zoom", [0.5, 0.25])
def test_shrinking_counts_every_number(zoom: float) -> None:
    given = np.zeros((1, 64))
    places = range(20, 44)
    sums = []
    for place in places:
        given[:] = 0
        given[0, place] = 1
        sums.append(stretched(given, given * 0, {1: stretching(64, zoom=zoom)}).sum())
    np.testing.assert_allclose(sums, zoom, atol=EXACT)


@pytest.mark.parametrize("zoom", [0.3, 0.7, 1.0, 1.3, 4.0])
@pytest.mark.parametrize("shift", [0, 2, -1.25])
def test_a_plain_picture_stays_plain(zoom: float, shift: float) -> None:
    for edge, fill in ((False, 3.0), (True, 0.0)):
        taps = {axis: stretching(9 + axis, shift, zoom, edge) for axis in (0, 1)}
        moved = stretched(np.full((9, 10), 3.0), np.full((9, 10), fill), taps)
        np.testing.assert_allclose(moved, 3.0, atol=EXACT)


def test_what_grows_is_linear_between_the_pixels() -> None:
    ramp = np.arange(11.0)[None]
    moved = stretched(ramp, ramp * 0, {1: stretching(11, zoom=2)})
    np.testing.assert_allclose(moved[0], (np.arange(11) - 5) / 2 + 5, atol=EXACT)


def test_photos_are_moved_as_the_model_sees_them(model: Model) -> None:
    """Moving after normalising is moving before it."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (11, 9, 3), np.uint8))
    result = model.run("invariance", [photo], 1, transforms="scale", zoom=1.5, steps=2)
    assert result.views is not None
    view = np.moveaxis(result.views[0].astype(np.float64), -1, 0)
    grey = np.full(view.shape, 127.5)
    mean, std = (np.array(numbers)[:, None, None] for numbers in (MEAN, STD))
    for place, zoom in enumerate((1.0, 1.25, 1.5)):
        moved = (invariance.scaled(view, grey, zoom) / 255 - mean) / std
        wanted = plainly.softmax(deconvnet.forward(NET, moved).top)[1]
        assert result.array[0, place] == pytest.approx(wanted, abs=CLOSE)


def test_a_layer_that_only_looks_at_the_mean_does_not_move(tmp_path: Path) -> None:
    """A global mean is blind for quarter turns, and for nothing else."""
    proto = nets.model_of(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["out"]),
        ],
        {"input": ["N", 3, 8, 8]},
        ["out"],
    )
    mean = convlens.load(nets.saved(proto, tmp_path), **CARD)
    result = mean.run("invariance", nets.pictures(0, 2, (3, 8, 8)), "out[0,1]", steps=6, layers="pool")
    quarter = np.isin(result.arrays["rotation"], [0, 90, 180, 270])
    far = result.arrays["rotation_distance"][:, 0]
    assert far[:, quarter].max() < 1e-6 < 1e-3 < far[:, ~quarter].min()
    assert result.units["rotation_target"] == "score"


def test_layers_from_the_first_to_the_top(model: Model) -> None:
    assert model.run("invariance", nets.pictures(0, 1, NET.shape), steps=2).hints["layers"] == [
        "relu1",
        "relu2",
    ]
    one = model.run("invariance", nets.pictures(0, 1, NET.shape), steps=2, depths=1)
    assert one.hints["layers"] == ["relu2"]
    assert one.pictures


def test_signals_in_time(tmp_path: Path) -> None:
    other = OTHERS["waveform"]
    path = nets.saved(other.make(), tmp_path)
    loaded = convlens.load(path, threads=1)
    given = other.arrays(1)
    result = loaded.run("invariance", given, steps=2, shift=10)
    assert result.hints["transforms"] == ["translation", "scale"]
    later = np.zeros_like(given)
    later[..., 10:] = given[..., :-10]
    assert result.arrays["translation"].tolist() == [-10, 0, 10]
    index = result.how["target"]["index"][0]
    images = loaded.images(later)
    assert result.array[0, 2] == pytest.approx(loaded.probabilities(images)[0, index], abs=CLOSE)


def test_boards_move_by_whole_points_and_quarter_turns(tmp_path: Path) -> None:
    loaded = convlens.load(nets.saved(OTHERS["board"].make(), tmp_path), threads=1)
    given = OTHERS["board"].arrays(1)
    result = loaded.run("invariance", given, 5)
    assert result.arrays["rotation"].tolist() == [0, 90, 180, 270]
    turned_once = loaded.probabilities(loaded.images(np.rot90(given, axes=(2, 3)).copy()))[0, 5]
    assert result.arrays["rotation_target"][0, 1] == pytest.approx(turned_once, abs=CLOSE)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an unknown transform": ({"transforms": "shear"}, ParameterError, "translation, scale, rotation"),
    "no transform": ({"transforms": ","}, ParameterError, "translation, scale, rotation"),
    "too far": ({"shift": 11}, ParameterError, "expected less than 11"),
    "no such layer": ({"layers": "conv9"}, LayerError, "conv9"),
    "no layer at all": ({"layers": " ,"}, ParameterError, "names of layers"),
    "an unknown border": ({"fill": "purple"}, ParameterError, "grey, mean, edge or a number"),
}


@pytest.mark.parametrize("which", BAD)
def test_what_cannot_be_done_is_refused(which: str, model: Model) -> None:
    settings, kind, text = BAD[which]
    with pytest.raises(kind, match=text) as caught:
        model.run("invariance", nets.pictures(0, 1, NET.shape), **settings)
    assert "\n" not in str(caught.value)


def test_inputs_without_places_are_refused(tmp_path: Path) -> None:
    for which in ("tokens", "vector"):
        loaded = convlens.load(nets.saved(OTHERS[which].make(), tmp_path, which), threads=1)
        with pytest.raises(UsageError, match="invariance shifts, scales and turns inputs"):
            loaded.run("invariance", OTHERS[which].arrays(1))
    loaded = convlens.load(nets.saved(OTHERS["waveform"].make(), tmp_path, "wave"), threads=1)
    with pytest.raises(ParameterError, match="'rotation', which makes no sense for a signal"):
        loaded.run("invariance", OTHERS["waveform"].arrays(1), transforms="rotation")
