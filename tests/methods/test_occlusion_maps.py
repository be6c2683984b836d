"""The three maps of figure 7 from one pass: what they show, and that they cost no more than one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from numpy.typing import NDArray
from torch import nn

import convlens
from convlens import registry
from convlens.attribution.masking.labels import label_areas
from convlens.cards import Card
from convlens.classes import Classes
from convlens.errors import LayerError
from convlens.model import Model
from convlens.pictures.colour import LABELS
from convlens.runtime.runner import Runner
from reference import deconvnet, nets, occlusion, plainly
from reference.others import OTHERS

CLOSE = 1e-6
"""Of a probability, and of an activity's largest: float32, whose rounding is some 1e-7."""

DRIFT = 1e-5
"""Of the largest magnitude: both run in float32, with sums in another order."""

CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}


def loaded(net: nets.Net, folder: Path, **card: Any) -> Model:
    return convlens.load(nets.saved(net.onnx(), folder), **{**CARD, **card})


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward of onnxruntime takes, from now on."""
    counted: list[int] = []
    forward = Runner._forward

    def counting(self: Runner, feeds: Any, names: Any, exact: bool) -> Any:
        counted.append(len(next(iter(feeds.values()))))
        return forward(self, feeds, names, exact)

    monkeypatch.setattr(Runner, "_forward", counting)
    return counted


@pytest.mark.parametrize(("seed", "layer"), [(0, None), (1, "relu1"), (2, "conv2")])
def test_each_map_against_loops(seed: int, layer: str | None, tmp_path: Path) -> None:
    net = nets.classifier(seed)
    images = nets.pictures(seed, 2, net.shape)
    result = loaded(net, tmp_path).run("occlusion", images, 1, patch=4, stride=3, fill="mean", layer=layer)
    upto = net.until(layer or "relu2")
    assert result.how["layer"] == (layer or "relu2")
    for index, image in enumerate(images):
        found, channel, total = occlusion.three_maps(
            image,
            occlusion.colour_mean(image),
            4,
            3,
            lambda x: plainly.softmax(deconvnet.forward(net, x).top)[1],
            lambda x: deconvnet.forward(upto, x).top,
            lambda x: deconvnet.forward(net, x).top,
        )
        assert result.arrays["channel"][index] == channel
        rounding = CLOSE * float(np.abs(deconvnet.forward(upto, image).top[channel]).sum())
        assert result.arrays["activity_baseline"][index] == pytest.approx(total, abs=rounding)
        wanted = np.array(found)
        close = {"rtol": 0, "atol": rounding}
        np.testing.assert_allclose(result.arrays["activity"][index], wanted[..., 0], **close)
        np.testing.assert_allclose(result.array[index], wanted[..., 1], rtol=0, atol=CLOSE)
        np.testing.assert_array_equal(result.arrays["label"][index], wanted[..., 2])
        whole = deconvnet.forward(net, image).top
        assert result.arrays["label_baseline"][index] == int(whole.argmax())
        drop = result.arrays["activity_drop"][index]
        alone = total - wanted[0, 0, 0]  # the corner pixel is covered by the first patch only
        assert drop[0, 0] == pytest.approx(alone, abs=2 * rounding)
    assert np.ptp(result.arrays["activity"][0]) > 0


def test_three_maps_cost_no_more_forwards_than_one(tmp_path: Path, forwards: list[int]) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape, np.float32)
    options: dict[str, Any] = {"patch": 4, "stride": 2, "batch_size": 8}
    three = loaded(net, tmp_path)
    three.certificate(), three.batching(), three.images(images)
    forwards.clear()
    result = three.run("occlusion", images, "dense1[1]", **options)
    assert {"map", "activity", "label"} <= result.arrays.keys()
    counted = list(forwards)
    card = Card().override({k: v for k, v in CARD.items() if k != "threads"})
    task = card.model_copy(update={"model": card.model.model_copy(update={"task": "features"})})
    one = convlens.load(three.path, task, threads=1)
    one.certificate(), one.batching()
    one.layers.placed = list  # type: ignore[method-assign]
    forwards.clear()
    alone = one.run("occlusion", images, "dense1[1]", **options)
    assert not {"activity", "label"} & alone.arrays.keys()
    np.testing.assert_allclose(alone.array, result.array, rtol=0, atol=CLOSE)
    assert counted == forwards
    places = result.array[0].size
    assert counted == 2 * [1, *[8] * (places // 8), *([places % 8] if places % 8 else [])]
    assert 2 * result.how["forwards_an_image"] == sum(counted)


def test_what_the_model_has_not_is_left_out_and_said(tmp_path: Path) -> None:
    def run(which: str, target: Any) -> convlens.Result:
        other = OTHERS[which]
        path = nets.saved(other.make(), tmp_path, which)
        return convlens.load(path, threads=1, **other.settings).run("occlusion", other.arrays(1), target)

    vector = run("vector", 0)
    assert "activity" not in vector.arrays
    assert vector.arrays["label"].shape == (1, 10)
    assert vector.how["left_out"] == "no feature map is followed, as no layer's units have a place"
    texts = [finding.text for finding in registry.method("occlusion").findings(vector)]
    assert "No feature map is followed, as no layer's units have a place." in texts
    segmenter = run("segmenter", "masks[0,1].max")
    assert "label" not in segmenter.arrays
    assert "activity" in segmenter.arrays
    assert segmenter.how["left_out"] == "no labels are shown, as the model has no class scores"


def test_a_layer_without_maps_is_refused(tmp_path: Path) -> None:
    model = loaded(nets.classifier(0), tmp_path)
    with pytest.raises(LayerError, match=r"'dense1' has no feature maps .* such as 'relu2'"):
        model.run("occlusion", nets.pictures(0, 1, (3, 11, 9)), 0, layer="dense1")


def test_the_key_of_the_labels_is_short() -> None:
    classes = Classes("out", "out", 20, "logits", None)
    labels = np.repeat(np.arange(12), np.arange(12, 0, -1))
    areas = label_areas(labels, 15, classes)
    assert [area["class"] for area in areas] == [15, 0, 1, 2, 3, 4, 5, 6]
    assert areas[0]["share"] == 0
    assert areas[1] == {"class": 0, "name": "class 0", "share": pytest.approx(12 / 78)}
    assert len(areas) + 1 == len(LABELS)


def test_labels_are_drawn_where_the_patch_was(tmp_path: Path) -> None:
    """A net that reads its left half for one class and its right half for the other."""
    weight = np.zeros((2, 1, 8, 8), np.float32)
    weight[0, :, :, :4], weight[1, :, :, 4:] = 1.0, 0.5
    net = nets.Net((1, 8, 8), (nets.Relu(), nets.Dense(weight.reshape(2, -1), np.zeros(2, np.float32))))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), kind="image", labels=["left", "right"], threads=1)
    result = model.run("occlusion", np.ones((1, 1, 8, 8), np.float32), patch=(8, 4), stride=(1, 4), fill="0")
    assert result.arrays["label_baseline"].tolist() == [0]
    assert result.arrays["label"].tolist() == [[[1, 0]]]
    picture = next(each for each in result.pictures if each.key)
    assert picture.key == ((LABELS[0], "left, as for the whole: 50%"), (LABELS[1], "right: 50%"))
    pixels = np.asarray(picture.image).astype(int)
    left, right = pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]
    assert (left[..., 2] - left[..., 0]).min() > 50, "the left half is blue"
    assert (right[..., 2] == right[..., 0]).all(), "the right half has no colour"
    assert picture.composed().height > picture.image.height + 34


class Small(nn.Module):
    """conv - relu - maxpool - conv - relu - dense."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 4 * 3, 5),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(x)
        return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("patch", "stride"), [((4, 4), (2, 2)), ((3, 5), (3, 5)), ((2, 4), (1, 3))])
def test_equal_to_captums(patch: tuple[int, int], stride: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Small().eval()
    path = tmp_path / "small.onnx"
    x: NDArray[np.float32] = np.random.default_rng(1).normal(size=(2, 3, 12, 10)).astype(np.float32)
    torch.onnx.export(module, (torch.from_numpy(x),), path, dynamo=False, input_names=["input"])
    model = convlens.load(path, threads=1, mean=0.5, std=0.5)
    found = model.run("occlusion", x, f"{model.graph.outputs[0]}[3]", patch=patch, stride=stride, fill="mean")
    wanted = Occlusion(module).attribute(
        torch.from_numpy(x),
        sliding_window_shapes=(3, *patch),
        strides=(3, *stride),
        baselines=torch.from_numpy(np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape).copy()),
        target=3,
    )
    assert all((size - side) % step == 0 for size, side, step in zip((12, 10), patch, stride, strict=True))
    expected = wanted.numpy()[:, 0]
    assert np.abs(found.arrays["drop"] - expected).max() < DRIFT * np.abs(expected).max()


def test_more_labels_than_colours_are_drawn_as_others(tmp_path: Path) -> None:
    net = nets.classifier(0, (3, 40, 40))
    result = loaded(net, tmp_path).run("occlusion", nets.pictures(0, 1, net.shape), 0, patch=8, stride=8)
    labels = np.arange(25).reshape(1, 5, 5) % 14
    areas = label_areas(labels, 0, Classes("out", "out", 14, "logits", None))
    each = [{**result.hints["each"][0], "areas": areas}]
    many = replace(result, arrays={**result.arrays, "label": labels}, hints={**result.hints, "each": each})
    picture = next(each for each in many.pictures if each.key)
    assert [colour for colour, _ in picture.key] == list(LABELS)
    assert picture.key[-1] == (LABELS[-1], "other classes: 36%")
    shares = [float(text.rsplit(" ", 1)[1].rstrip("%")) for _, text in picture.key]
    assert sum(shares) == pytest.approx(100, abs=1)
    found = {tuple(colour) for colour in np.asarray(picture.image).reshape(-1, 3).tolist()}
    assert found == set(LABELS)
    assert "other classes" in picture.alt
