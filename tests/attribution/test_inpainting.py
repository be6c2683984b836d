"""Patches filled from their surroundings, against the Laplace equation solved as one dense system."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convlens
from convlens.attribution.masking.covering import Cover, cover_of
from convlens.attribution.masking.inpainting import inpainted
from convlens.errors import ParameterError
from convlens.model import Model
from graph.nets import opened, refused
from reference import deconvnet, nets, occlusion, plainly
from reference.others import OTHERS

ROUNDING = 1e-12
"""Of numbers near 1, in float64."""

CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}


@pytest.mark.parametrize(
    ("extent", "sides"),
    [
        ((9,), (3,)),
        ((9,), (1,)),
        ((7, 6), (3, 2)),
        ((5, 6), (5, 1)),
        ((6, 5), (4, 4)),
        ((4, 5, 6), (2, 3, 2)),
    ],
    ids=str,
)
def test_every_place_against_one_system_of_equations(extent: tuple[int, ...], sides: tuple[int, ...]) -> None:
    """Boxes in the middle, at every border and in every corner, all in one call."""
    image = np.random.default_rng(0).normal(size=(2, *extent))
    starts = np.array(
        list(product(*(range(size - side + 1) for size, side in zip(extent, sides, strict=True))))
    )
    found = inpainted(image, range(2, 2 + len(extent)), starts, sides)
    assert found.shape == (len(starts), 2, *sides)
    for place, own in zip(starts.tolist(), found, strict=True):
        window = tuple(slice(start, start + side) for start, side in zip(place, sides, strict=True))
        wanted = occlusion.harmonic(image, tuple(place), sides)[:, *window]
        np.testing.assert_allclose(own, wanted, rtol=0, atol=ROUNDING)


def test_a_slope_is_carried_on_exactly() -> None:
    rows, columns = np.mgrid[0:12, 0:15]
    image = np.stack([2.0 * rows - 0.5 * columns + 3, 0.25 * columns])
    (found,) = inpainted(image, (2, 3), np.array([[3, 4]]), (6, 7))
    np.testing.assert_allclose(found, image[:, 3:9, 4:11], rtol=0, atol=1e-11)
    line = np.arange(20.0)[None] * 3 - 7
    (found,) = inpainted(line, (2,), np.array([[5]]), (9,))
    np.testing.assert_allclose(found, line[:, 5:14], rtol=0, atol=1e-11)


def test_at_the_end_of_a_signal_the_last_known_number_is_repeated() -> None:
    line = np.random.default_rng(1).normal(size=(1, 10))
    first, last = inpainted(line, (2,), np.array([[0], [6]]), (4,))
    np.testing.assert_array_equal(first, np.full((1, 4), line[0, 4]))
    np.testing.assert_array_equal(last, np.full((1, 4), line[0, 5]))


def test_a_long_stretch_of_a_signal_takes_no_table() -> None:
    """A million samples: what is quadratic in the patch would not fit."""
    line = np.linspace(0, 1, 2_000_000)[None]
    (found,) = inpainted(line, (2,), np.array([[300]]), (1_000_000,))
    np.testing.assert_allclose(found, line[:, 300:1_000_300], rtol=0, atol=1e-9)


def test_only_the_ring_is_read_and_nothing_leaves_its_range() -> None:
    rng = np.random.default_rng(2)
    image = np.full((3, 14, 14), np.nan)
    image[:, 4:10, 5:11] = rng.uniform(-1, 1, (3, 6, 6))  # the ring, and the patch
    for row, column in product((4, 9), (5, 10)):
        image[:, row, column] = np.nan  # corners of the ring are neighbours of none
    image[:, 5:9, 6:10] = np.inf  # the patch itself
    (found,) = inpainted(image, (2, 3), np.array([[5, 6]]), (4, 4))
    ring = [image[:, 4, 6:10], image[:, 9, 6:10], image[:, 5:9, 5], image[:, 5:9, 10]]
    low, high = np.concatenate(ring, axis=1).min(axis=1), np.concatenate(ring, axis=1).max(axis=1)
    assert (found > low[:, None, None]).all()
    assert (found < high[:, None, None]).all()


def test_channels_last_and_whole_numbers() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (3, 9, 8)).astype(np.uint8)
    starts = np.array([[2, 3], [0, 0], [5, 4]])
    found = inpainted(np.moveaxis(image, 0, -1), (1, 2), starts, (4, 4))
    assert found.dtype == np.uint8
    for place, own in zip(starts.tolist(), found, strict=True):
        wanted = occlusion.harmonic(image.astype(np.float64), tuple(place), (4, 4))
        wanted = wanted[:, place[0] : place[0] + 4, place[1] : place[1] + 4]
        np.testing.assert_array_equal(np.moveaxis(own, -1, 0), np.rint(wanted))


def placed(cover: Cover, image: NDArray[Any], axes: Any, starts: Any, sides: Any) -> NDArray[Any]:
    changes = cover.changes(0, starts, sides)
    return changes.whole(image, axes, np.arange(len(changes)))


@pytest.mark.parametrize("fill", ["given", "inpaint"])
def test_patches_of_several_sizes_leave_the_rest_as_it_is(fill: str) -> None:
    rng = np.random.default_rng(4)
    batch = rng.normal(size=(1, 2, 11, 9))
    hidden = rng.normal(size=batch.shape)
    cover = Cover(fill, batch, (2, 3), hidden if fill == "given" else None)
    boxes = [((0, 0), (2, 5)), ((8, 7), (3, 2)), ((4, 3), (6, 1)), ((10, 0), (1, 9))]
    found = placed(cover, batch[0], (2, 3), [place for place, _ in boxes], [sides for _, sides in boxes])
    for own, (place, sides) in zip(found, boxes, strict=True):
        if fill == "inpaint":
            wanted = occlusion.harmonic(batch[0], place, sides)
        else:
            box = place[0], place[0] + sides[0], place[1], place[1] + sides[1]
            wanted = batch[0].copy()
            wanted[:, box[0] : box[1], box[2] : box[3]] = hidden[0, :, box[0] : box[1], box[2] : box[3]]
        np.testing.assert_allclose(own, wanted, rtol=0, atol=ROUNDING)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path_factory.mktemp("models")), **CARD)


def test_occlusion_with_it_against_loops(model: Model) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    results = {
        exact: model.run("occlusion", images, 2, fill="inpaint", patch=4, stride=2, exact=exact)
        for exact in ("dense", "incremental")
    }
    assert results["dense"].how["fill"] == "inpaint"
    for index, image in enumerate(images):
        grid = results["dense"].array[index]
        for i, j in np.ndindex(*grid.shape):
            place = tuple(
                int(results["dense"].arrays[f"{n}_at"][k]) for n, k in (("rows", i), ("columns", j))
            )
            changed = occlusion.harmonic(image.astype(np.float64), place, (4, 4))
            wanted = plainly.softmax(deconvnet.forward(net, changed).top)[2]
            assert grid[i, j] == pytest.approx(wanted, abs=1e-6)
    for key, array in results["dense"].arrays.items():
        np.testing.assert_allclose(
            results["incremental"].arrays[key], array, rtol=0, atol=1e-5 * np.abs(array).max(), err_msg=key
        )


@pytest.mark.parametrize("which", ["waveform", "electrodes", "spectrogram", "video, channels last", "planes"])
def test_other_inputs_are_bridged_too(which: str, tmp_path: Path) -> None:
    """Windows and whole inputs agree, and each answer is that of the input with one patch filled."""
    other = OTHERS[which]
    loaded = opened(other.make(), tmp_path, **other.settings)
    x = other.arrays(1, seed=3)
    options = {"patch": 3, "stride": 40 if x[0].size > 2000 else 5, "fill": "inpaint"}
    result = loaded.run("occlusion", x, "scores[0,0]", **options, exact="dense")
    auto = loaded.run("occlusion", x, "scores[0,0]", **options)
    np.testing.assert_allclose(auto.array, result.array, rtol=0, atol=1e-5 * np.abs(result.array).max())
    axes = loaded.source.axes
    last = [int(result.arrays[f"{name}_at"][-1]) // 2 for name in loaded.source.axis_names]
    at = [
        int(np.abs(result.arrays[f"{n}_at"] - k).argmin())
        for n, k in zip(loaded.source.axis_names, last, strict=True)
    ]
    place = tuple(int(result.arrays[f"{n}_at"][i]) for n, i in zip(loaded.source.axis_names, at, strict=True))
    forth = np.moveaxis(x[0].astype(np.float64), [axis - 1 for axis in axes], range(-len(axes), 0))
    lead = forth.shape[: forth.ndim - len(axes)]
    filled = occlusion.harmonic(forth.reshape(-1, *forth.shape[len(lead) :]), place, (3,) * len(axes))
    back = np.moveaxis(filled.reshape(forth.shape), range(-len(axes), 0), [axis - 1 for axis in axes])
    score = loaded.runner.run({loaded.source.name: back[None].astype(x.dtype)}, ["scores"])["scores"][0, 0]
    assert result.array[0][tuple(at)] == pytest.approx(float(score), abs=1e-5)


@pytest.mark.parametrize(
    ("which", "words"),
    [("tokens", "numbers of tokens cannot be mixed"), ("vector", "nothing around it"), ("board", "points")],
)
def test_inputs_without_surroundings_are_refused(which: str, words: str, tmp_path: Path) -> None:
    other = OTHERS[which]
    loaded = opened(other.make(), tmp_path, **other.settings)
    with refused(ParameterError, "fill is 'inpaint'", words, "expected a number"):
        loaded.run("occlusion", other.arrays(1), fill="inpaint")


def test_a_patch_that_is_everything_has_nothing_around_it(tmp_path: Path) -> None:
    other = OTHERS["waveform"]
    loaded = opened(other.make(), tmp_path, **other.settings)
    x = other.arrays(1)
    with refused(ParameterError, "the patch is the whole input", "smaller patch"):
        loaded.run("occlusion", x, 0, patch=x.shape[-1], fill="inpaint")


@pytest.mark.parametrize(
    ("method", "parameter"),
    [
        ("rise", "fill"),
        ("kernel-shap", "fill"),
        ("lime", "fill"),
        ("faithfulness", "fill"),
        ("integrated-gradients", "baseline"),
    ],
)
def test_where_much_is_hidden_at_once_it_is_refused(method: str, parameter: str, model: Model) -> None:
    with refused(ParameterError, f"{parameter} is 'inpaint'", "much is hidden at once", "blur or a number"):
        model.run(method, nets.pictures(0, 1, nets.classifier(0).shape), 1, **{parameter: "inpaint"})


def test_no_card_is_needed_for_it(tmp_path: Path) -> None:
    loaded = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1)
    images = nets.pictures(0, 1, nets.classifier(0).shape)
    cover = cover_of(loaded, loaded.images(images), "inpaint", (2, 2))
    assert cover.fill is None
    assert loaded.run("occlusion", images, 0, fill="inpaint").array.shape[0] == 1
