"""``occlusion`` against one patch, one image, one forward at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

import convlens
from convlens.errors import CardError, ParameterError
from convlens.model import Model
from reference import deconvnet, nets, occlusion, plainly

CLOSE = 1e-6
"""Of a probability: the method reads float32 scores, whose rounding is some 1e-7."""

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CARD: dict[str, Any] = {"mean": MEAN, "std": STD, "threads": 1}


def loaded(net: nets.Net, folder: Path, **how: Any) -> Model:
    return convlens.load(nets.saved(net.onnx(**how), folder), **CARD)


def probability(net: nets.Net, index: int) -> occlusion.Read:
    return lambda image: plainly.softmax(deconvnet.forward(net, image).top)[index]


def same(result: convlens.Result, index: int, wanted: tuple[Any, Any, float]) -> None:
    grid, drop, base = wanted
    assert result.array[index].shape == grid.shape
    assert np.abs(grid - base).max() > 100 * CLOSE, "the case is empty: hiding changes nothing"
    np.testing.assert_allclose(result.array[index], grid, atol=CLOSE)
    np.testing.assert_allclose(result.arrays["drop"][index], drop, atol=CLOSE)
    assert result.arrays["baseline"][index] == pytest.approx(base, abs=CLOSE)


FILLS = {
    "grey": lambda image, _patch: occlusion.pixel(127.5, image.shape, MEAN, STD),
    "0": lambda image, _patch: occlusion.pixel(0, image.shape, MEAN, STD),
    "255": lambda image, _patch: occlusion.pixel(255, image.shape, MEAN, STD),
    "mean": lambda image, _patch: occlusion.colour_mean(image),
    "blur": lambda image, patch: occlusion.blurred(image, patch / 2),
}


@pytest.mark.parametrize("fill", FILLS)
def test_every_fill(fill: str, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    result = loaded(net, tmp_path).run("occlusion", images, 2, fill=fill, patch=4, stride=3)
    for index, image in enumerate(images):
        hidden = FILLS[fill](image, 4)
        same(result, index, occlusion.occlude(image, hidden, 4, 3, probability(net, 2)))


@pytest.mark.parametrize(
    ("patch", "stride"), [(1, 4), (3, 2), (4, 4), (5, 1), (9, 2), (2, 5)], ids=lambda n: str(n)
)
def test_patches_and_strides(patch: int, stride: int, tmp_path: Path) -> None:
    net = nets.classifier(1)
    images = nets.pictures(1, 1, net.shape)
    result = loaded(net, tmp_path).run("occlusion", images, 1, patch=patch, stride=stride, batch_size=7)
    fill = occlusion.pixel(127.5, net.shape, MEAN, STD)
    same(result, 0, occlusion.occlude(images[0], fill, patch, stride, probability(net, 1)))
    assert result.arrays["rows_at"].tolist() == occlusion.starts(11, patch, stride)
    assert result.arrays["columns_at"].tolist() == occlusion.starts(9, patch, stride)
    assert result.how["positions"] == result.array[0].size


def test_the_last_position_is_moved_in(tmp_path: Path) -> None:
    """Sides of 11 and 9, patches of 4 every 3: the rows would start at 0, 3, 6, 9 and so start at 7."""
    result = loaded(nets.classifier(1), tmp_path).run(
        "occlusion", nets.pictures(1, 1, (3, 11, 9)), 1, patch=4, stride=3
    )
    assert result.arrays["rows_at"].tolist() == [0, 3, 6, 7]
    assert result.arrays["columns_at"].tolist() == [0, 3, 5]


def test_the_defaults_are_a_seventh_and_half_of_it(tmp_path: Path) -> None:
    net = nets.classifier(1, (3, 35, 28))
    result = loaded(net, tmp_path).run("occlusion", nets.pictures(1, 1, net.shape), 1)
    assert (result.how["patch"], result.how["stride"]) == (4, 2)
    small = loaded(nets.classifier(1, (3, 6, 6)), tmp_path)
    result = small.run("occlusion", nets.pictures(1, 1, (3, 6, 6)), 1)
    assert (result.how["patch"], result.how["stride"]) == (1, 1)


def test_without_a_target_each_image_has_its_own(tmp_path: Path) -> None:
    net = nets.classifier(6)
    images = nets.pictures(6, 4, net.shape)
    result = loaded(net, tmp_path).run("occlusion", images, patch=5, stride=4)
    fill = occlusion.pixel(127.5, net.shape, MEAN, STD)
    best = [plainly.ranking(plainly.softmax(deconvnet.forward(net, image).top), 1)[0] for image in images]
    assert len(set(best)) > 1
    for index, image in enumerate(images):
        same(result, index, occlusion.occlude(image, fill, 5, 4, probability(net, best[index])))


@pytest.mark.parametrize("target", ["conv2:3", "relu1:2@5,4", "dense1[1]"])
def test_targets_inside_the_network(target: str, tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 2, net.shape)

    def read(image: NDArray[Any]) -> float:
        if target == "dense1[1]":
            return float(deconvnet.forward(net, image).top[1])
        if target == "conv2:3":
            return float(deconvnet.forward(net.until("conv2"), image).top[3].mean())
        return float(deconvnet.forward(net.until("relu1"), image).top[2, 5, 4])

    result = loaded(net, tmp_path).run("occlusion", images, target, patch=3, stride=3)
    fill = occlusion.pixel(127.5, net.shape, MEAN, STD)
    for index, image in enumerate(images):
        same(result, index, occlusion.occlude(image, fill, 3, 3, read))
    assert result.units["map"] == "score"


def test_a_neuron_is_changed_only_from_within_its_field(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 1, net.shape)
    result = loaded(net, tmp_path).run("occlusion", images, "conv1:2@5,4", patch=1, stride=1)
    changed = np.abs(result.array[0] - result.arrays["baseline"][0]) > 0
    inside = np.zeros((11, 9), bool)
    inside[4:7, 3:6] = True
    assert not changed[~inside].any()
    assert changed[inside].any()


@pytest.mark.parametrize("fill", ["grey", "mean", "blur"])
def test_channels_last(fill: str, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape)
    model = loaded(net, tmp_path, nhwc=True)
    result = model.run("occlusion", np.moveaxis(images, 1, -1), 0, fill=fill, patch=4, stride=2)
    for index, image in enumerate(images):
        same(result, index, occlusion.occlude(image, FILLS[fill](image, 4), 4, 2, probability(net, 0)))


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_fixed_batch(fixed: int, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape)
    result = loaded(net, tmp_path, batch=fixed).run("occlusion", images, 0, patch=4, stride=3)
    fill = occlusion.pixel(127.5, net.shape, MEAN, STD)
    for index, image in enumerate(images):
        same(result, index, occlusion.occlude(image, fill, 4, 3, probability(net, 0)))


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_probabilities_that_the_model_computes_itself(end: str, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 1, net.shape)
    squash = plainly.softmax if end == "Softmax" else plainly.sigmoid
    result = loaded(net, tmp_path, end=end).run("occlusion", images, 0, patch=4, stride=3)
    fill = occlusion.pixel(127.5, net.shape, MEAN, STD)
    wanted = occlusion.occlude(
        images[0], fill, 4, 3, lambda image: squash(deconvnet.forward(net, image).top)[0]
    )
    same(result, 0, wanted)


@pytest.mark.parametrize("seed", range(3))
def test_rows_list_the_strongest_places_apart(seed: int, tmp_path: Path) -> None:
    net = nets.classifier(seed)
    images = nets.pictures(seed, 2, net.shape)
    result = loaded(net, tmp_path).run("occlusion", images, 1, patch=3, stride=1)
    fill = occlusion.pixel(127.5, net.shape, MEAN, STD)
    for index, image in enumerate(images):
        grid, _, base = occlusion.occlude(image, fill, 3, 1, probability(net, 1))
        wanted = occlusion.extremes(grid, base, 3, 1, (11, 9))
        rows = [row for row in result.rows if row["image"] == f"input {index}"]
        assert [(r["effect"], r["from"]) for r in rows] == [(w["effect"], w["from"]) for w in wanted]
        for row, own in zip(rows, wanted, strict=True):
            assert row["change"] == pytest.approx(own["change"], abs=CLOSE)
            assert row["value"] == pytest.approx(base + own["change"], abs=CLOSE)
            assert [b - a for a, b in zip(row["from"], row["to"], strict=True)] == [3, 3]
            assert (row["change"] < 0) == (row["effect"] == "falls")
        for effect in ("falls", "rises"):
            places = [row["from"] for row in rows if row["effect"] == effect]
            for one in range(len(places)):
                for other in range(one):
                    assert max(abs(a - b) for a, b in zip(places[one], places[other], strict=True)) >= 3


def test_a_planted_spot_is_where_it_falls_most(tmp_path: Path) -> None:
    """The class reads one pixel; only the patches over it can change the score."""
    weight = np.zeros((2, 10 * 10), np.float32)
    weight[1, 6 * 10 + 3] = 4.0
    net = nets.Net((1, 10, 10), (nets.Relu(), nets.Dense(weight, np.zeros(2, np.float32))))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), mean=0.5, std=0.5, threads=1)
    image = np.full((1, 1, 10, 10), 1.0, np.float32)
    result = model.run("occlusion", image, 1, patch=2, stride=2, fill="0")
    before, after = 1 / (1 + np.exp(-4.0)), 0.5
    assert result.arrays["baseline"][0] == pytest.approx(before, abs=CLOSE)
    wanted = np.full((5, 5), before)
    wanted[3, 1] = after
    np.testing.assert_allclose(result.array[0], wanted, atol=CLOSE)
    (row,) = result.rows
    assert (row["effect"], row["from"], row["to"]) == ("falls", [6, 2], [8, 4])


def test_whole_number_inputs_are_filled_to_the_nearest(tmp_path: Path) -> None:
    """A model that takes bytes: mean and blur are rounded, not cut off."""
    from onnx.helper import make_node

    weight = np.ones((2, 1, 3, 3), np.float32) * np.array([1, -1], np.float32)[:, None, None, None] / 500
    nodes = [
        make_node("Cast", ["input"], ["real"], to=TensorProto.FLOAT),
        make_node("Conv", ["real", "w"], ["conv"]),
        make_node("GlobalAveragePool", ["conv"], ["pooled"]),
        make_node("Flatten", ["pooled"], ["out"]),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 1, 6, 6]}, ["out"], {"w": weight})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model = convlens.load(nets.saved(proto, tmp_path), range=(0, 255), threads=1)
    image = np.full((1, 1, 6, 6), 10, np.uint8)
    image[0, 0, 0, :5] = 11  # the mean is 10.139; leave it, and take one that is past half way
    image[0, 0, 2:, :] = 11  # now 10.8
    wanted = {
        "mean": np.rint(occlusion.colour_mean(image[0].astype(np.float64))),
        "blur": np.rint(occlusion.blurred(image[0].astype(np.float64), 1.0)),
        "grey": np.full((1, 6, 6), 128.0),
    }
    assert wanted["mean"].max() == 11

    def read(values: NDArray[Any]) -> float:
        plain = nets.Net((1, 6, 6), (nets.Conv(weight, np.zeros(2, np.float32)),))
        return plainly.softmax(deconvnet.forward(plain, values).top.mean(axis=(1, 2)))[0]

    for fill, hidden in wanted.items():
        result = model.run("occlusion", image, 0, patch=2, stride=2, fill=fill)
        grid, _, _ = occlusion.occlude(image[0].astype(np.float64), hidden, 2, 2, read)
        np.testing.assert_allclose(result.array[0], grid, atol=CLOSE, err_msg=fill)


def test_a_patch_larger_than_the_input_is_refused(tmp_path: Path) -> None:
    model = loaded(nets.classifier(0), tmp_path)
    with pytest.raises(ParameterError, match="patch is 10; expected at most 9"):
        model.run("occlusion", nets.pictures(0, 1, (3, 11, 9)), 0, patch=10)


def test_a_pixel_fill_needs_a_card(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1)
    images = nets.pictures(0, 1, (3, 11, 9))
    with pytest.raises(CardError, match="mean"):
        model.run("occlusion", images, 0)
    assert model.run("occlusion", images, 0, fill="mean").array.shape[0] == 1


@pytest.mark.parametrize("size", [(9,), (5, 6, 7)], ids=["signal", "volume"])
def test_other_numbers_of_axes(size: tuple[int, ...], tmp_path: Path) -> None:
    """Signals and volumes: a position along each axis, and a unit for each array."""
    from onnx.helper import make_node

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 2, *[3] * len(size))).astype(np.float32)
    nodes = [
        make_node("Conv", ["input", "w"], ["conv"]),
        make_node("GlobalAveragePool", ["conv"], ["pooled"]),
        make_node("Flatten", ["pooled"], ["out"]),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 2, *size]}, ["out"], {"w": weight})
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    images = rng.normal(size=(2, 2, *size))
    result = model.run("occlusion", images, 0, patch=2, stride=2, fill="mean")
    assert result.array.shape == (2, *(len(occlusion.starts(side, 2, 2)) for side in size))
    assert result.arrays["drop"].shape == (2, *size)
    assert result.arrays.keys() == result.units.keys()
