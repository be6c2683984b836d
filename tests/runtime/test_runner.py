"""onnxruntime over a graph: any value, batches, fixed batches, devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from convlens.errors import LayerError, ModelFileError, ParameterError, UnsupportedError
from convlens.graph.load import load_graph
from convlens.runtime import providers
from convlens.runtime.runner import Runner
from convlens.runtime.sessions import check_file
from graph.nets import classifier, model, numbers, op, put, refused

IMAGES = numbers(7, 3, 8, 8)


def runner(proto: onnx.ModelProto, folder: Path) -> Runner:
    return Runner(load_graph(put(proto, folder))[0], "cpu", threads=1)


def by_hand(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The classifier in numpy, one pixel after the other."""
    w, b, padded = numbers(4, 3, 3, 3), numbers(4), np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    conv = np.zeros((len(images), 4, 8, 8))
    for row in range(8):
        for column in range(8):
            patch = padded[:, None, :, row : row + 3, column : column + 3]
            conv[:, :, row, column] = (patch * w[None]).sum(axis=(2, 3, 4)) + b
    relu = np.maximum(conv, 0)
    pool = relu.mean(axis=(2, 3), keepdims=True)
    flat = pool[:, :, 0, 0]
    logits = flat @ numbers(5, 4).T + numbers(5)
    return {"conv1": conv, "relu1": relu, "pool": pool, "flat": flat, "logits": logits}


@pytest.mark.parametrize("exact", [False, True])
def test_every_value_can_be_read(tmp_path: Path, exact: bool) -> None:
    expected = by_hand(IMAGES)
    found = runner(classifier(), tmp_path).run({"image": IMAGES}, list(expected), exact=exact)
    assert list(found) == list(expected)
    for name, array in expected.items():  # float32 against float64, values near 1
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_inputs_and_constants_are_values_too(tmp_path: Path) -> None:
    found = runner(classifier(), tmp_path).run({"image": IMAGES}, ["image", "w1", "pool"], batch_size=7)
    np.testing.assert_array_equal(found["image"], IMAGES)
    np.testing.assert_array_equal(found["w1"], numbers(4, 3, 3, 3))
    assert found["pool"].shape == (7, 4, 1, 1)


@pytest.mark.parametrize("batch", ["N", 1, 2, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_batch_size_changes_nothing(tmp_path: Path, batch: int | str, size: int) -> None:
    found = runner(classifier(batch), tmp_path).run({"image": IMAGES}, ["logits", "relu1"], size)
    expected = by_hand(IMAGES)
    assert found["logits"].shape == (7, 5)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["relu1"], expected["relu1"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch", "allowed"), [("N", {3, 1}), (1, {3, 1}), (2, {2})])
def test_batches_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | str, allowed: set[int]
) -> None:
    seen: list[int] = []
    forward = Runner._forward

    def spy(self: Runner, feeds: Any, names: Any, exact: bool) -> Any:
        seen.append(len(feeds["image"]))
        return forward(self, feeds, names, exact)

    monkeypatch.setattr(Runner, "_forward", spy)
    runner(classifier(batch), tmp_path).run({"image": IMAGES}, ["logits"], batch_size=3)
    assert set(seen) == allowed
    assert sum(seen) >= 7


def test_fixed_batch_is_told(tmp_path: Path) -> None:
    assert runner(classifier(2), tmp_path).fixed_batch == 2
    assert runner(classifier(), tmp_path).fixed_batch is None


def test_streams_hold_one_batch_at_a_time(tmp_path: Path) -> None:
    taken: list[int] = []

    def batches() -> Any:
        for i in range(3):
            taken.append(i)
            yield {"image": IMAGES[i : i + 1]}

    stream = runner(classifier(), tmp_path).stream(batches(), ["logits"])
    assert taken == []
    next(stream)
    assert taken == [0]


def test_unknown_value(tmp_path: Path) -> None:
    with refused(LayerError, "no value 'logit'", "nearest", "'logits'"):
        runner(classifier(), tmp_path).run({"image": IMAGES}, ["logit"])


def test_double_precision_input_is_cast(tmp_path: Path) -> None:
    run = runner(classifier(), tmp_path).run
    found = run({"image": IMAGES.astype(np.float64)}, ["logits"])["logits"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, run({"image": IMAGES}, ["logits"])["logits"])


def test_strided_input(tmp_path: Path) -> None:
    run = runner(classifier(), tmp_path).run
    turned = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(
        run({"image": turned}, ["logits"])["logits"], run({"image": IMAGES}, ["logits"])["logits"]
    )


def test_wrong_shape(tmp_path: Path) -> None:
    with refused(UnsupportedError, "image [1, 3, 9, 9]", "onnxruntime cannot run the model"):
        runner(classifier(), tmp_path).run({"image": numbers(1, 3, 9, 9)}, ["logits"])


def test_model_that_onnxruntime_refuses(tmp_path: Path) -> None:
    proto = model([op("Conjure", "x", "y", domain="no.such")], {"x": [1, 3]}, ["y"])
    proto.opset_import.add(domain="no.such", version=1)
    with refused(UnsupportedError, "onnxruntime refuses the model", "Conjure"):
        runner(proto, tmp_path).run({"x": numbers(1, 3)}, ["y"])


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(classifier(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    found = Runner(load_graph(path)[0], "cpu", 1).run({"image": IMAGES}, ["relu1", "logits"])
    expected = by_hand(IMAGES)
    np.testing.assert_allclose(found["relu1"], expected["relu1"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)


def test_integer_and_boolean_values(tmp_path: Path) -> None:
    nodes = [
        op("ArgMax", "x", "best", axis=1, keepdims=0),
        op("Greater", "x zero", "above"),
        op("Cast", "above", "y", to=TensorProto.FLOAT),
    ]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], {"zero": np.float32(0)})
    x = numbers(3, 4)
    found = runner(proto, tmp_path).run({"x": x}, ["best", "above", "y"], batch_size=2)
    np.testing.assert_array_equal(found["best"], x.argmax(axis=1))
    np.testing.assert_array_equal(found["above"], x > 0)


def test_unknown_device() -> None:
    with refused(ParameterError, "'tpu'", "auto, cpu, cuda"):
        providers.resolve("tpu")


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "has_cuda", lambda: False)
    with refused(ParameterError, "'cuda'", "--device cpu"):
        providers.resolve("cuda")
    assert providers.resolve("auto") == "cpu"


def test_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "has_cuda", lambda: True)
    assert [providers.resolve(device) for device in providers.DEVICES] == ["cuda", "cpu", "cuda"]


def test_no_cuda_without_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert providers.has_cuda.__wrapped__() is False


def test_check_file(tmp_path: Path) -> None:
    path = put(classifier(), tmp_path)
    check_file(path)
    path.write_bytes(b"\x08\x08 nothing")
    with refused(ModelFileError, path, "onnxruntime refuses"):
        check_file(path)


def test_values_that_numpy_does_not_hold_are_left_out(tmp_path: Path) -> None:
    nodes = [
        op("Cast", "x", "brief", to=TensorProto.BFLOAT16),
        op("Cast", "brief", "a", to=TensorProto.FLOAT),
        op("SequenceConstruct", "a x", "both"),
        op("ConcatFromSequence", "both", "b", axis=0),
        op("Relu", "b", "y"),
    ]
    runs = runner(model(nodes, {"x": ["N", 4]}, ["y"], opset=17), tmp_path)
    x = numbers(2, 4)
    names, refusals = runs.readable({"x": x}, ["brief", "a", "both", "b", "y"])
    assert names == ["a", "b", "y"]
    assert "bfloat16" in refusals["brief"]
    assert "no numbers" in refusals["both"]
    found = runs.run({"x": x}, names)
    np.testing.assert_array_equal(found["y"][2:], np.maximum(x, 0))


def test_a_value_that_cannot_be_handed_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = runner(classifier(), tmp_path)
    session = Runner._session

    def picky(self: Runner, names: frozenset[str], exact: bool) -> Any:
        if "pool" in names:
            raise UnsupportedError("onnxruntime refuses pool")
        return session(self, names, exact)

    monkeypatch.setattr(Runner, "_session", picky)
    names, refusals = runs.readable({"image": IMAGES}, ["conv1", "relu1", "pool", "flat", "logits"])
    assert names == ["conv1", "relu1", "flat", "logits"]
    assert refusals == {"pool": "onnxruntime refuses pool"}


def test_fixed_batch_is_the_images(tmp_path: Path) -> None:
    nodes = [op("Mul", "x scale", "y")]
    graph, _ = load_graph(put(model(nodes, {"scale": [1, 1], "x": [2, 4]}, ["y"]), tmp_path))
    assert Runner(graph, "cpu", source="x").fixed_batch == 2
    assert Runner(graph, "cpu").fixed_batch == 1
