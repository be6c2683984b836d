"""Everything that can be typed as a target, on numpy and on torch, and what cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from convlens.errors import LayerError, TargetError, UsageError
from convlens.model import Model
from convlens.targets import Target
from graph.nets import LABELS, classifier, model, numbers, op, opened, refused

VALUES = {
    "conv1": numbers(3, 4, 8, 8),
    "relu1": numbers(3, 4, 8, 8, seed=1),
    "logits": numbers(3, 5),
    "grid": numbers(3, 6, 10),
}


def with_grid() -> onnx.ModelProto:
    """The classifier with a second output of 6 x 10 cells, as detectors have it."""
    proto = classifier()
    extra = model(
        [op("Reshape", "relu1 shape", "long"), op("Slice", "long first last", "grid")],
        {"relu1": ["N", 4, 8, 8]},
        {"grid": ["N", 6, 10]},
        {"shape": np.array([0, 16, 16]), "first": np.array([0, 0, 0]), "last": np.array([999, 6, 10])},
    )
    proto.graph.node.extend(extra.graph.node)
    proto.graph.output.extend(extra.graph.output)
    proto.graph.initializer.extend(extra.graph.initializer)
    return proto


@pytest.fixture
def loaded(tmp_path: Path) -> Model:
    return opened(with_grid(), tmp_path, labels=LABELS)


def score(target: Target, values: dict[str, NDArray[np.float32]] = VALUES) -> NDArray[Any]:
    """From numpy, after checking that torch gives the same."""
    needed = target.needs(["logits", "grid"])
    found = target.score({name: values[name] for name in needed})
    tensors = target.score({name: torch.from_numpy(values[name].copy()) for name in needed})
    assert isinstance(tensors, torch.Tensor)
    # sums in another order: float32 keeps 1e-7 of some ten numbers near 1
    np.testing.assert_allclose(tensors.numpy(), found, rtol=1e-5, atol=1e-6)
    assert np.shape(found) == (3,)
    return np.asarray(found)


def norm(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([sum(float(v) ** 2 for v in image.flat) ** 0.5 for image in array])


C, R, G, Y = VALUES["conv1"], VALUES["relu1"], VALUES["grid"], VALUES["logits"]

TABLE: dict[str, tuple[str, str, NDArray[Any]]] = {
    # class by index, by label, by synonym, in any case, quoted
    "3": ("class", "logits", Y[:, 3]),
    " 0 ": ("class", "logits", Y[:, 0]),
    "tiger cat": ("class", "logits", Y[:, 2]),
    "Tiger Cat": ("class", "logits", Y[:, 2]),
    "landrover": ("class", "logits", Y[:, 3]),
    "'jeep'": ("class", "logits", Y[:, 3]),
    "tabby": ("class", "logits", Y[:, 1]),  # the name of class 1 goes before a synonym of class 4
    # channel, neuron, layer
    "conv1:2": ("channel", "conv1", C[:, 2].mean(axis=(1, 2))),
    "CONV1:2": ("channel", "conv1", C[:, 2].mean(axis=(1, 2))),
    "logits:4": ("channel", "logits", Y[:, 4]),
    "conv1:2@7,0": ("neuron", "conv1", C[:, 2, 7, 0]),
    "conv1:2@ 3, 5": ("neuron", "conv1", C[:, 2, 3, 5]),
    "relu1": ("layer", "relu1", norm(R)),
    # cells
    "logits[3]": ("cells", "logits", Y[:, 3]),
    "logits[0,3]": ("cells", "logits", Y[:, 3]),
    "logits[:,3]": ("cells", "logits", Y[:, 3]),
    "logits[-1]": ("cells", "logits", Y[:, -1]),
    "grid[4,:].max": ("cells", "grid", G[:, 4].max(axis=1)),
    "grid[0,4,:].max": ("cells", "grid", G[:, 4].max(axis=1)),
    "grid[4].min": ("cells", "grid", G[:, 4].min(axis=1)),
    "grid[1:3,2:].mean": ("cells", "grid", G[:, 1:3, 2:].mean(axis=(1, 2))),
    "grid[:,-3:-1].sum": ("cells", "grid", G[:, :, -3:-1].sum(axis=(1, 2))),
    "grid[:,-3:-1]": ("cells", "grid", G[:, :, -3:-1].sum(axis=(1, 2))),
    "grid[:,:,0].norm": ("cells", "grid", norm(G[:, :, 0])),
    "conv1[1, :, 2].norm": ("cells", "conv1", norm(C[:, 1, :, 2])),
}


@pytest.mark.parametrize("text", TABLE)
def test_the_table(loaded: Model, text: str) -> None:
    kind, value, expected = TABLE[text]
    target = loaded.target(text)
    assert (target.kind, target.value) == (kind, value)
    np.testing.assert_allclose(score(target), expected, rtol=1e-5, atol=1e-6)  # float32 sums


@pytest.mark.parametrize("spec", [3, np.int64(3), Target("class", "logits", "mine", index=3)])
def test_from_python(loaded: Model, spec: Any) -> None:
    np.testing.assert_array_equal(score(loaded.target(spec)), Y[:, 3])


def test_callables(loaded: Model) -> None:
    def margin(outputs: Any) -> Any:
        logits, grid = outputs
        return logits[:, 0] - logits[:, 1] + grid[:, 0, 0]

    target = loaded.target(margin)
    assert (target.kind, target.text) == ("callable", "margin")
    np.testing.assert_allclose(score(target), Y[:, 0] - Y[:, 1] + G[:, 0, 0], rtol=1e-6)


def test_callable_on_a_single_output(tmp_path: Path) -> None:
    target = opened(classifier(), tmp_path).target(lambda logits: logits[:, :1])
    np.testing.assert_array_equal(target.score({"logits": Y}), Y[:, 0])


def test_a_silent_layer_has_a_finite_slope(loaded: Model) -> None:
    silent = torch.zeros(2, 4, 8, 8, requires_grad=True)
    loaded.target("relu1").score({"relu1": silent}).sum().backward()
    assert silent.grad is not None
    assert torch.isfinite(silent.grad).all()


def test_words(loaded: Model) -> None:
    assert loaded.target(3).text == "class 3 (jeep)"
    assert loaded.target("conv1:2").text == "channel 2 of conv1"
    assert loaded.target("conv1:2@7,0").text == "neuron 7,0 of channel 2 of conv1"
    assert loaded.target("relu1").words(1) == "layer relu1"


def test_nothing_means_the_predicted_class_of_each_image(loaded: Model) -> None:
    target = loaded.target(None)
    assert (target.kind, target.value, target.index) == ("predicted", "logits", None)
    images = loaded.images(numbers(4, 3, 8, 8, low=-20, high=20))
    logits = loaded.runner.run({"image": images.array}, ["logits"])["logits"]
    result = loaded.run("saliency", images)
    best = [int(row.argmax()) for row in logits]
    assert result.how["target"]["index"] == best
    for text, index in zip(result.how["target"]["each"], best, strict=True):
        assert LABELS[index][0] in text


def test_predicted_classes_follow_their_images() -> None:
    target = Target("predicted", "logits", "the predicted class", index=(4, 0, 2), each=("a", "b", "c"))
    np.testing.assert_array_equal(score(target), [Y[0, 4], Y[1, 0], Y[2, 2]])
    np.testing.assert_array_equal(target.rows(1, 3).score({"logits": Y[1:]}), [Y[1, 0], Y[2, 2]])
    np.testing.assert_array_equal(target.of(0).score({"logits": Y}), Y[:, 4])
    assert [target.words(i) for i in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("5", TargetError, ["no class 5", "0 to 4"]),
        ("-1", TargetError, ["no class -1", "0 to 4"]),
        ("tigre cat", TargetError, ["no class or layer called 'tigre cat'", "nearest", "'tiger cat'"]),
        ("relu2", TargetError, ["no class or layer called 'relu2'", "'relu1'"]),
        ("conf1:3", LayerError, ["no layer 'conf1'", "nearest", "'conv1'"]),
        ("conv1:4", LayerError, ["'conv1'", "no channel 4", "0 to 3"]),
        ("conv1:-1", LayerError, ["no channel -1", "0 to 3"]),
        ("conv1:0@8,0", LayerError, ["'conv1'", "N x 4 x 8 x 8", "no position 8"]),
        ("conv1:0@0,-1", LayerError, ["no position -1"]),
        ("conv1:0@3", TargetError, ["takes 2 numbers after @", "found 1"]),
        ("conv1:0@1,2,3", TargetError, ["takes 2 numbers after @", "found 3"]),
        ("conv1:0@1,,2", TargetError, ["expected row,column after @"]),
        ("logits:0@1", TargetError, ["takes 0 numbers after @", "found 1"]),
        ("gird[0]", TargetError, ["no output or layer 'gird'", "'grid'"]),
        ("grid[1,2].median", TargetError, ["no reduction .median", ".max, .min, .mean, .sum, .norm"]),
        ("grid[1,2,3,4]", TargetError, ["N x 6 x 10", "too many indices"]),
        ("grid[1,4,:]", TargetError, ["first index is the batch", "0 or :"]),
        ("grid[6]", TargetError, ["N x 6 x 10", "no index 6 on axis 1"]),
        ("grid[0,-11]", TargetError, ["no index -11 on axis 2"]),
        ("grid[a]", TargetError, ["'a' is no index", "2:5"]),
        ("grid[1:5:2]", TargetError, ["'1:5:2' is no index"]),
        ("grid[]", TargetError, ["'' is no index"]),
        ("grid[3:3].max", TargetError, ["nothing selected on axis 1"]),
        ("", TargetError, ["no class or layer called ''"]),
    ],
)
def test_what_cannot_be_meant(loaded: Model, text: str, kind: type[UsageError], words: list[str]) -> None:
    with refused(kind, *words):
        loaded.target(text)


@pytest.mark.parametrize("spec", [1.5, [1, 2], b"cat"])
def test_what_is_no_target(loaded: Model, spec: Any) -> None:
    with refused(TargetError, repr(spec), "is no target", "expected a class index"):
        loaded.target(spec)


def test_a_label_that_two_classes_have(tmp_path: Path) -> None:
    labels = [["crane", "bird"], ["crane", "machine"], ["a"], ["b", "shared"], ["c", "shared"]]
    found = opened(classifier(), tmp_path, labels=labels)
    with refused(TargetError, "'crane'", "classes 0, 1", "type the index"):
        found.target("crane")
    with refused(TargetError, "'shared'", "classes 3, 4", "type the index"):
        found.target("shared")
    assert found.target("machine").index == 1


def test_a_label_that_is_a_layer_too(tmp_path: Path) -> None:
    found = opened(classifier(names={"pool": "pool:0"}), tmp_path, labels=["pool", "b", "c", "d", "e"])
    assert found["pool"].name == "pool:0"
    with refused(TargetError, "'pool'", "both a class and a layer", "index", "'pool:0'"):
        found.target("pool")
    assert found.target("pool:0").kind == "layer"
    assert found.target("0").kind == "class"


def test_names_with_colons(tmp_path: Path) -> None:
    found = opened(classifier(names={"relu1": "Relu:0", "conv1": "stem/Conv2D:0"}), tmp_path)
    values = {"Relu:0": R, "stem/Conv2D:0": C}
    np.testing.assert_allclose(score(found.target("Relu:0"), values), norm(R), rtol=1e-5)
    assert found.target("Relu:0").kind == "layer"
    np.testing.assert_allclose(
        score(found.target("Relu:0:3"), values), R[:, 3].mean(axis=(1, 2)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(score(found.target("Relu:0:3@1,2"), values), R[:, 3, 1, 2])
    np.testing.assert_array_equal(score(found.target("stem/Conv2D:0[0,3,1,2]"), values), C[:, 3, 1, 2])


def test_channels_last(tmp_path: Path) -> None:
    proto = model([op("Relu", "x", "y")], {"x": ["N", 6, 5, 3]}, {"y": ["N", 6, 5, 3]})
    found = opened(proto, tmp_path)
    y = numbers(3, 6, 5, 3)
    np.testing.assert_allclose(
        score(found.target("y:2"), {"y": y}), y[..., 2].mean(axis=(1, 2)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(score(found.target("y:2@3,4"), {"y": y}), y[:, 3, 4, 2])


def test_a_model_without_classes(tmp_path: Path) -> None:
    proto = model([op("Relu", "x", "y")], {"x": ["N", 3, 8, 8]}, ["y"])
    found = opened(proto, tmp_path)
    for spec in (None, 3):
        with refused(TargetError, "no class scores", "'y'", "N x 3 x 8 x 8", "--target 'y[0,1].max'"):
            found.target(spec)
    with refused(TargetError, "no layer (and no labels are known) called 'cat'"):
        found.target("cat")
