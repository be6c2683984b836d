"""Whether images may share a forward: what is found, and that results are right either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convlens.errors import UnsupportedError
from convlens.model import Model
from convlens.runtime import runner as runtime
from graph.nets import classifier, model, numbers, op, opened, put, refused


def net(*nodes: onnx.NodeProto, batch: int | str = "N", out: Any = ("y",), **weights: Any) -> onnx.ModelProto:
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    return model(nodes, {"image": [batch, 3, 4, 4]}, list(out), arrays)


IMAGES = numbers(5, 3, 4, 4)
CENTRED = [op("ReduceMean", "image", "m", axes=[0], keepdims=1), op("Sub", "image m", "y")]


def test_free_and_freed(tmp_path: Path) -> None:
    for batch in ("N", 1):
        found = opened(classifier(batch), tmp_path).batching()
        assert (found.free, found.together, found.fixed, found.reason) == (True, True, None, "")
        assert found.words() == "Batches of any size give what each image gives alone."


def test_prescribed_batch(tmp_path: Path) -> None:
    found = opened(classifier(2), tmp_path).batching()
    assert (found.free, found.together, found.fixed) == (False, True, 2)
    assert found.words() == "Images run in batches of 2: the file prescribes a batch of 2."


def test_images_that_influence_each_other_run_one_by_one(tmp_path: Path) -> None:
    loaded = opened(net(*CENTRED), tmp_path)
    found = loaded.batching()
    assert not found.free
    assert not found.together
    assert "influence each other (output 'y'" in found.reason
    # an image minus the mean of itself alone
    values = loaded.runner.run({"image": IMAGES}, ["y"], batch_size=4)["y"]
    np.testing.assert_array_equal(values, np.zeros_like(IMAGES))


def test_images_that_influence_each_other_in_a_prescribed_batch(tmp_path: Path) -> None:
    loaded = opened(net(*CENTRED, batch=2), tmp_path)
    found = loaded.batching()
    assert (found.together, found.fixed) == (False, 2)
    values = loaded.runner.run({"image": IMAGES}, ["y"], batch_size=4)["y"]
    np.testing.assert_array_equal(values, np.zeros_like(IMAGES))  # beside copies of itself


def test_a_batch_of_one_that_cannot_be_freed(tmp_path: Path) -> None:
    nodes = [op("Squeeze", "image z", "a"), op("Unsqueeze", "a z", "b"), op("Relu", "b", "y")]
    loaded = opened(net(*nodes, batch=1, z=np.array([0])), tmp_path)
    found = loaded.batching()
    assert (found.free, found.together, found.fixed) == (False, False, 1)
    assert "Squeeze node 'a'" in found.words()
    assert "drops the axis of the images" in found.words()
    values = loaded.runner.run({"image": IMAGES}, ["y"], batch_size=4)["y"]
    np.testing.assert_array_equal(values, np.maximum(IMAGES, 0))


def test_outputs_without_an_axis_for_images_are_not_joined(tmp_path: Path) -> None:
    # as many rows as there are positive numbers, all images together
    nodes = [op("Relu", "image", "a"), op("NonZero", "a", "b"), op("Transpose", "b", "y")]
    loaded = opened(net(*nodes), tmp_path)
    found = loaded.batching()
    assert not found.together
    assert "output 'y' does not count images along its first axis" in found.reason
    one = loaded.runner.run({"image": IMAGES[:1]}, ["y"])["y"]
    np.testing.assert_array_equal(one, np.argwhere(IMAGES[:1] > 0))
    with refused(UnsupportedError, "'y'", "does not count images", "one image at a time"):
        loaded.runner.run({"image": IMAGES}, ["y"])


def test_lengths_that_differ_are_not_joined(tmp_path: Path) -> None:
    nodes = [
        op("Relu", "image", "a"),
        op("NonZero", "a", "b"),
        op("Unsqueeze", "b z", "y"),
    ]
    loaded = opened(net(*nodes, z=np.array([0])), tmp_path)
    with refused(UnsupportedError, "'y'", "differs in shape from image to image"):
        loaded.runner.run({"image": IMAGES}, ["y"])


def test_gradients_run_one_by_one_as_well(tmp_path: Path) -> None:
    nodes = [*CENTRED[:1], op("Sub", "image m", "a"), op("Mul", "a a", "b"), op("Add", "b image", "c")]
    nodes += [op("Flatten", "c", "d"), op("Gemm", "d w", "y")]
    loaded = opened(net(*nodes, w=numbers(48, 3)), tmp_path)
    assert not loaded.batching().together
    together = loaded.run("saliency", IMAGES, target=1, batch_size=4)
    assert together.how["batches"].startswith("Images run one by one: images influence each other")
    for i in range(len(IMAGES)):
        alone = loaded.run("saliency", IMAGES[i : i + 1], target=1, batch_size=1)
        np.testing.assert_array_equal(together.array[i : i + 1], alone.array)


def test_a_graph_that_is_not_the_files_is_refused(tmp_path: Path) -> None:
    loaded = opened(classifier(), tmp_path)
    other = classifier()
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(numbers(4, 3, 3, 3, seed=7), "w1"))
    put(other, tmp_path)  # in place of the file that was read
    with refused(UnsupportedError, "'logits'", "not what the file gives"):
        loaded.batching()


@pytest.mark.parametrize("kind", ["NHWC", "half"])
def test_other_inputs(tmp_path: Path, kind: str) -> None:
    if kind == "NHWC":
        nodes = [op("Transpose", "image", "a", perm=[0, 3, 1, 2]), op("Conv", "a w", "y")]
        proto = model(nodes, {"image": [1, 6, 6, 3]}, ["y"], {"w": numbers(2, 3, 3, 3)})
    else:
        nodes = [op("Conv", "image w", "y")]
        weights = {"w": numbers(2, 3, 3, 3).astype(np.float16)}
        proto = model(nodes, {"image": [1, 3, 6, 6]}, ["y"], weights, dtype=onnx.TensorProto.FLOAT16)
    assert opened(proto, tmp_path).batching().free


def test_the_verdict_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_CACHE", str(tmp_path / "cache"))
    first = opened(net(*CENTRED), tmp_path).batching()

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(runtime.Runner, "_forward", never)
    again: Model = opened(net(*CENTRED), tmp_path)
    assert again.batching() == first
