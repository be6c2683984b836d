"""Targets without a gradient are refused with what to type instead; a warning where it all but vanishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from convlens.cli.app import run
from convlens.errors import TargetError
from convlens.model import Model
from convlens.results import merge
from graph.nets import opened, refused
from reference.others import Maker

DIMS: list[Any] = ["N", 3, 6, 6]
X = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)


def ending(*nodes: tuple[Any, ...], whole: int = TensorProto.INT64) -> onnx.ModelProto:
    """A convolution of 4 channels and its scores, then ``nodes``; what the last gives is the output."""
    m = Maker()
    m.conv("x", "conv1", 4, 3, 3, 3)
    m.scores("conv1_relu", 4, 5, "logits")
    for op, inputs, outputs, attributes in nodes:
        m.add(op, inputs, outputs, **attributes)
    m.stored["two"], m.stored["half"] = np.array([2], np.int64), np.float32([0.5])
    end = m.nodes[-1].output[-1]
    proto = m.model(DIMS, end)
    kind = proto.graph.output[0].type.tensor_type
    if kind.elem_type == TensorProto.FLOAT and whole != TensorProto.FLOAT:
        kind.elem_type = whole
    return proto


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> tuple[Any, ...]:
    return op, inputs, outputs, attributes


CUT: dict[str, tuple[onnx.ModelProto, str, str, str]] = {
    # model, target, what it says, what it offers
    "index": (ending(node("ArgMax", "logits", "best", axis=1)), "best[0]", "ArgMax", "logits[0,2]"),
    "index as it is": (ending(node("ArgMax", "logits", "best", axis=1)), "best", "ArgMax", "logits[0,2]"),
    "index of maps": (
        ending(node("ArgMax", "conv1_relu", "best", axis=1, keepdims=0)),
        "best[0,2,2]",
        "ArgMax gives the index of the largest number",
        "conv1_relu=1@segment",
    ),
    "smallest": (ending(node("ArgMin", "logits", "least", axis=1)), "least[0]", "ArgMin", "logits[0,2]"),
    "places": (ending(node("TopK", "logits two", "top at", axis=1)), "at[0]", "TopK", "logits[0,2]"),
    "comparison": (
        ending(node("Greater", "logits half", "above"), whole=TensorProto.BOOL),
        "above[1]",
        "Greater gives a comparison",
        "logits[0,2]",
    ),
    "comparison as a number": (
        ending(
            node("Greater", "logits half", "above"),
            node("Cast", "above", "yes", to=TensorProto.FLOAT),
            whole=TensorProto.FLOAT,
        ),
        "yes[1]",
        "Greater gives a comparison",
        "logits[0,2]",
    ),
    "whole numbers": (
        ending(node("Cast", "logits", "rounded", to=TensorProto.INT64)),
        "rounded[1]",
        "Cast gives whole numbers",
        "logits[0,2]",
    ),
    "other than zero": (
        ending(node("NonZero", "conv1_relu", "where")),
        "where[1]",
        "NonZero gives the places of numbers other than zero",
        "conv1_relu[0,1].max",
    ),
    "rounded twice": (
        ending(
            node("Round", "logits", "once"),
            node("Greater", "once half", "above"),
            node("Cast", "above", "yes", to=TensorProto.FLOAT),
            whole=TensorProto.FLOAT,
        ),
        "yes[1]",
        "Round gives whole numbers",
        "logits[0,2]",
    ),
    "sign": (
        ending(node("Sign", "logits", "sign"), whole=TensorProto.FLOAT),
        "sign[1]",
        "Sign gives a sign",
        "logits[0,2]",
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_a_target_without_a_gradient(tmp_path: Path, name: str) -> None:
    proto, text, said, offered = CUT[name]
    model = opened(proto, tmp_path)
    alias = model["conv1_relu"].alias if "conv1" in offered else "logits"
    typed = offered.replace("conv1_relu", alias).replace("logits", model[alias].alias)
    with refused(TargetError, "has no gradient", said, typed):
        model.run("saliency", X, text)
    model.run("saliency", X, typed)  # what is offered can be explained


def test_what_is_cut_off_from_the_start_is_offered_nothing(tmp_path: Path) -> None:
    """The numbers before the index are comparisons themselves, and nothing comes before those."""
    m = Maker()
    m.stored["half"] = np.float32([0.5])
    m.add("Greater", "x half", "above")
    m.add("Cast", "above", "yes", to=TensorProto.FLOAT)
    m.add("ArgMax", "yes", "best", axis=1, keepdims=0)
    m.add("Cast", "best", "index", to=TensorProto.FLOAT)
    model = opened(m.model(DIMS, "index"), tmp_path)
    with refused(TargetError, "index[0,2,2] has no gradient: ArgMax gives the index") as caught:
        model.run("saliency", X, "index[0,2,2]")
    assert "--target" not in str(caught.value)


def test_tokens_that_are_compared_before_they_are_looked_up(tmp_path: Path) -> None:
    """Negative numbers count from the end, so that tokens are compared as real numbers first."""
    m = Maker()
    m.stored["zero"], m.stored["rows"] = np.float32(0), np.array(30, np.int64)
    m.stored["table"] = m.rng.normal(0, 1, (30, 8)).astype(np.float32)
    m.add("Cast", "x", "real", to=TensorProto.FLOAT)
    m.add("Less", "real zero", "below")
    m.add("Cast", "below", "one", to=TensorProto.INT64)
    m.add("Mul", "one rows", "added")
    m.add("Add", "x added", "ids")
    m.add("Gather", "table ids", "embedded")
    m.add("Transpose", "embedded", "turned", perm=[0, 2, 1])
    m.conv("turned", "text1", 6, 8, 3)
    model = opened(m.model(["N", 12], "text1_relu", dtype=TensorProto.INT64), tmp_path)
    found = model.run("saliency", np.arange(12)[None], "text1_relu[0,1,4]").arrays["gradient"]
    assert found.shape == (1, 12, 8)
    assert np.flatnonzero(np.abs(found[0]).max(axis=1)).tolist() == [3, 4, 5]


def test_what_needs_no_gradient_takes_it(tmp_path: Path) -> None:
    proto = ending(node("ArgMax", "logits", "best", axis=1))
    model = opened(proto, tmp_path, mean=[0.0], std=[1.0])
    result = model.run("occlusion", X[:1], "best[0]", patch=3, fill="0")
    assert set(np.unique(result.array)) <= set(range(5))


def test_a_way_around_the_cut(tmp_path: Path) -> None:
    """Sign and size apart, as signed roots are written: the size has a gradient."""
    proto = ending(
        node("Sign", "logits", "sign"),
        node("Abs", "logits", "size"),
        node("Mul", "sign size", "both"),
        whole=TensorProto.FLOAT,
    )
    model = opened(proto, tmp_path)
    both, plain = (model.run("saliency", X, text).array for text in ("both[1]", "logits[1]"))
    np.testing.assert_allclose(both, plain, rtol=1e-5, atol=1e-8)


def test_codes_are_no_cut(tmp_path: Path) -> None:
    """Integers that are calculated with pass gradients straight through."""
    m = Maker()
    m.stored["scale"], m.stored["zero"] = np.float32(0.02), np.array(128, np.uint8)
    m.stored["w"] = np.random.default_rng(0).integers(-50, 50, (4, 3, 3, 3)).astype(np.int8)
    m.add("QuantizeLinear", "x scale zero", "codes")
    m.add("ConvInteger", "codes w zero", "sums")
    m.add("Cast", "sums", "real", to=TensorProto.FLOAT)
    model = opened(m.model(DIMS, "real"), tmp_path)
    assert np.abs(model.run("saliency", X, "real[0,1].max").array).max() > 0


@pytest.mark.parametrize("text", ["top[0]", "top"])
def test_what_is_chosen_has_a_gradient(tmp_path: Path, text: str) -> None:
    """The largest numbers pass it on, their places do not."""
    proto = ending(node("TopK", "logits two", "top at", axis=1))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("top", TensorProto.FLOAT, ["N", 2]))
    assert np.abs(opened(proto, tmp_path).run("saliency", X, text).array).max() > 0


def saturated(end: str, tmp_path: Path) -> tuple[Model, np.ndarray[Any, Any]]:
    """A softmax or sigmoid over means of the colours, and images of which the first is far out."""
    m = Maker()
    m.add("GlobalAveragePool", "x", "means")
    m.add("Flatten", "means", "flat")
    m.stored["w"] = 20 * np.eye(3, dtype=np.float32)
    m.add("Gemm", "flat w", "scores")
    m.add(end, "scores", "shares", **({"axis": 1} if end == "Softmax" else {}))
    images = np.zeros((2, 3, 6, 6), np.float32)
    images[0, 0] = 1
    return opened(m.model(DIMS, "shares"), tmp_path, mean=[0.0], std=[1.0]), images


@pytest.mark.parametrize(("text", "typed"), [("shares[0,0]", "'scores[0,0]'"), ("shares:0", "scores:0")])
def test_a_saturated_softmax(tmp_path: Path, text: str, typed: str) -> None:
    model, images = saturated("Softmax", tmp_path)
    (warning,) = model.run("saliency", images, text).how["warnings"]
    assert "is 1.0000 after a softmax on 1 of 2 images" in warning
    assert warning.endswith(f"--target {typed}")
    assert model.run("saliency", images[1:], text).how["warnings"] == []
    for fine in (typed.strip("'"), "0"):  # a class is explained before the softmax anyway
        assert model.run("saliency", images, fine).how["warnings"] == []
    assert model.run("occlusion", images, text, patch=3, fill="0").how["warnings"] == []


def test_a_sigmoid_that_is_far_down(tmp_path: Path) -> None:
    model, images = saturated("Sigmoid", tmp_path)
    (warning,) = model.run("saliency", -images, "shares[0,0]").how["warnings"]
    assert "is 0.0000 after a sigmoid on 1 of 2 images" in warning


def test_warnings_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, images = saturated("Softmax", tmp_path)
    np.save(tmp_path / "a.npy", images[0])
    arguments = ["saliency", str(model.path), str(tmp_path / "a.npy"), "--target", "shares:0", "--json"]
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert "convlens: warning: channel 0 of shares is 1.0000 after a softmax" in said.err
    (warning,) = json.loads(said.out)["how"]["warnings"]
    assert warning.endswith("--target scores:0")


def test_warnings_of_groups_are_kept(tmp_path: Path) -> None:
    model, images = saturated("Softmax", tmp_path)
    parts = [model.run("saliency", images[i : i + 1], "shares:0") for i in (1, 0, 0)]
    assert merge(parts).how["warnings"] == parts[1].how["warnings"]
