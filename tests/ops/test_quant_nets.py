"""Whole networks, quantised by onnxruntime's own tool in every format: certified, and explained as before."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import convlens
from convlens.model import Model
from convlens.trust.certificate import certify
from convlens.trust.checks import TOLERANCE
from graph.nets import model, op, opened

QUANTISED = [
    "QDQ-QUInt8-QUInt8", "QDQ-QUInt8-QInt8-per-channel", "QDQ-QInt8-QInt8-per-channel", "QDQ-QInt16-QInt8",
    "QDQ-QUInt8-QInt4", "QDQ-symmetric", "QOperator-QUInt8-QUInt8", "QOperator-QUInt8-QInt8-per-channel",
    "QOperator-QInt8-QInt8-per-channel", "dynamic-QUInt8", "dynamic-QInt8",
]  # fmt: skip


def _weights(*shape: int, seed: int) -> NDArray[np.float32]:
    scale = 1.4 / np.sqrt(np.prod(shape[1:]))
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def network() -> onnx.ModelProto:
    """Residual, depthwise and pointwise convolutions, pooling, joining, gates and a dense head."""
    shapes = {
        "w1": (8, 3, 3, 3),
        "w2": (8, 8, 3, 3),
        "wd": (8, 1, 3, 3),
        "wp": (8, 8, 1, 1),
        "w3": (12, 16, 3, 3),
    }
    stored: dict[str, NDArray[Any]] = {
        name: _weights(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())
    }
    stored |= {f"b{name[1:]}": _weights(shape[0], 1, seed=9)[:, 0] for name, shape in shapes.items()}
    stored |= {"wg": _weights(10, 12, seed=7), "bg": _weights(10, 1, seed=8)[:, 0]}
    stored |= {"low": np.float32(0), "high": np.float32(6)}
    nodes = [
        op("Conv", "x w1 b1", "c1", pads=[1] * 4),
        op("Relu", "c1", "r1"),
        op("Conv", "r1 w2 b2", "c2", pads=[1] * 4),
        op("Add", "c2 r1", "a1"),
        op("Relu", "a1", "r2"),
        op("MaxPool", "r2", "m", kernel_shape=[2, 2], strides=[2, 2]),
        op("Conv", "m wd bd", "d", pads=[1] * 4, group=8),
        op("Clip", "d low high", "d6"),
        op("Conv", "d6 wp bp", "p"),
        op("Concat", "p m", "cat", axis=1),
        op("AveragePool", "cat", "ap", kernel_shape=[2, 2], strides=[2, 2]),
        op("Conv", "ap w3 b3", "c3", pads=[1] * 4),
        op("LeakyRelu", "c3", "l", alpha=0.1),
        op("Sigmoid", "c3", "sg"),
        op("Mul", "l sg", "mu"),
        op("GlobalAveragePool", "mu", "g"),
        op("Flatten", "g", "f"),
        op("Gemm", "f wg bg", "y", transB=1),
    ]
    return model(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 10]}, stored)


def images(count: int, seed: int) -> NDArray[np.float32]:
    """Inputs for the network."""
    return np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in float32, and in every quantised form."""
    from onnxruntime import quantization as q

    class Readings(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, Any]] = iter([{"x": images(2, seed)} for seed in range(6)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._rows, None)

    place = tmp_path_factory.mktemp("quantised")
    source = place / "float.onnx"
    source.write_bytes(network().SerializeToString())
    level = logging.root.level
    logging.disable(logging.WARNING)  # the tool's advice on preprocessing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations
        for name in QUANTISED:
            made = place / f"{name}.onnx"
            kind, *types = name.split("-")
            if kind == "dynamic":
                q.quantize_dynamic(source, made, weight_type=q.QuantType[types[0]])
                continue
            how: dict[str, Any] = {"quant_format": q.QuantFormat[kind], "per_channel": "channel" in types}
            if types[0] == "symmetric":
                extra = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "DedicatedQDQPair": True}
                how |= {"activation_type": q.QuantType.QInt8, "weight_type": q.QuantType.QInt8}
                how |= {"extra_options": extra}
            else:
                how |= {"activation_type": q.QuantType[types[0]], "weight_type": q.QuantType[types[1]]}
                if "16" in name:
                    how |= {"extra_options": {"UseQDQContribOps": True}}
            q.quantize_static(source, made, Readings(), **how)
    logging.disable(level if level < logging.WARNING else logging.NOTSET)
    return place


def loaded(folder: Path, name: str) -> Model:
    """One of the forms."""
    return convlens.load(folder / f"{name}.onnx", device="cpu", threads=1)


@pytest.mark.parametrize("name", QUANTISED)
def test_every_form_is_certified_with_three_images(folder: Path, name: str) -> None:
    one = loaded(folder, name)
    certificate = certify(
        one.torch, one.runner, {"images": {"x": images(3, 40)}}, exact=lambda: one.instrument("float64")
    )
    assert certificate.passed, certificate.words()
    assert {check.value for check in certificate.checks} == set(one.graph.producers)
    assert all(check.note for check in certificate.checks if check.relative > TOLERANCE)
    if not name.startswith("QDQ"):  # no sum of real numbers between the codes: nothing may differ
        assert not any("codes differ" in check.note for check in certificate.checks)
        assert certificate.worst.relative < TOLERANCE


def explained(one: Model, x: NDArray[np.float32], rule: str = "plain") -> NDArray[Any]:
    """The gradient of a mixture of the scores."""
    mixture = torch.from_numpy(np.random.default_rng(6).standard_normal((1, 10)).astype(np.float32))
    with one.session(rule) as session:
        scores = session(x)
        assert isinstance(scores, torch.Tensor)
        (scores * mixture).sum().backward()
        assert session.input is not None
        found = session.input.grad
    assert found is not None
    return found.numpy()


@pytest.mark.parametrize("name", [name for name in QUANTISED if "4" not in name])
def test_the_gradient_is_that_of_the_float_network(folder: Path, name: str) -> None:
    """Images one by one, since dynamic quantising takes a scale from all of a batch."""
    for seed in (50, 51):
        x = images(1, seed)
        found, expected = explained(loaded(folder, name), x), explained(loaded(folder, "float"), x)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
        assert 0.8 < np.linalg.norm(found) / np.linalg.norm(expected) < 1.25


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_rules_see_the_rectifiers_that_a_quantiser_took_over(folder: Path, rule: str) -> None:
    """The tool removes Relu and Clip in front of codes that begin at 0."""
    one, plain = loaded(folder, "QDQ-QUInt8-QUInt8"), loaded(folder, "float")
    assert not any(node.op in ("Relu", "Clip") for node in one.graph.nodes)
    names = {"r1_DequantizeLinear_Output", "r2_DequantizeLinear_Output", "d6_DequantizeLinear_Output"}
    assert {out for out, r in one.torch.rectifiers.items() if r.name == "Quantise from 0"} == names
    x = images(1, 52)
    found, expected = explained(one, x, rule), explained(plain, x, rule)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


def test_the_result_says_how_its_gradient_was_made(folder: Path) -> None:
    how = loaded(folder, "QDQ-QUInt8-QUInt8").run("saliency", images(1, 53), target="y:3").how
    count = sum(node.op == "QuantizeLinear" for node in loaded(folder, "QDQ-QUInt8-QUInt8").graph.nodes)
    assert how["gradients"] == f"straight-through estimator at {count} quantisers"
    how = loaded(folder, "QOperator-QUInt8-QUInt8").run("saliency", images(1, 53), target="y:3").how
    assert "3 of them clip at 0 inside an operator, where no rule applies" in how["gradients"]
    assert "gradients" not in loaded(folder, "float").run("saliency", images(1, 53), target="y:3").how


def spoiled(one: Model, value: str, change: Callable[[Any], Any]) -> None:
    """Make the step that computes ``value`` wrong."""
    step = one.torch._step_of[value]
    sound = step.call
    object.__setattr__(step, "call", lambda *given: change(sound(*given)))


def one_code(codes: torch.Tensor) -> torch.Tensor:
    """One code of many is off by one step."""
    wrong = codes.clone()
    flat = wrong.view(-1)
    flat[7] += 1 if flat[7] < 100 else -1
    return wrong


@pytest.mark.parametrize(
    ("name", "value", "change"),
    [
        ("QDQ-QUInt8-QUInt8", "c2", lambda v: v * 1.001),
        ("QDQ-QUInt8-QUInt8", "c2_QuantizeLinear_Output", one_code),
        ("QDQ-QUInt8-QUInt8", "cat_DequantizeLinear_Output", lambda v: v * 1.01),
        ("QOperator-QUInt8-QUInt8", "c2_quantized", one_code),
        ("QOperator-QUInt8-QUInt8", "m_quantized", one_code),
        ("dynamic-QUInt8", "c2_output_quantized", lambda v: v + 1),
    ],
)
def test_a_wrong_operator_is_caught_where_it_stands(
    folder: Path, name: str, value: str, change: Callable[[Any], Any]
) -> None:
    one = loaded(folder, name)
    spoiled(one, value, change)
    certificate = certify(
        one.torch, one.runner, {"images": {"x": images(2, 41)}}, exact=lambda: one.instrument("float64")
    )
    assert not certificate.passed
    assert certificate.failures[0].value == value


def test_a_quantiser_that_rounds_down_is_caught(tmp_path: Path) -> None:
    """Its codes are within a step, and yet no rounding of what it was given."""
    stored = {"s": np.float32(0.1), "z": np.uint8(99)}
    nodes = [op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q s z", "y")]
    one = opened(model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], stored), tmp_path)
    step = one.torch._step_of["q"]
    sound = step.call
    object.__setattr__(step, "call", lambda x, scale, zero: sound(x - 0.5 * scale, scale, zero))
    feeds = {"x": images(1, 1)[:, :, :8, :8]}
    certificate = certify(one.torch, one.runner, {"images": feeds}, exact=lambda: one.instrument("float64"))
    assert certificate.failures[0].value == "q"
    assert "by 1 at most" in certificate.failures[0].note


def test_codes_half_way_between_two_are_excused(tmp_path: Path) -> None:
    """Numbers half a step off: PyTorch is made to round some up where onnxruntime rounds to even."""
    stored = {"s": np.float32(0.1), "z": np.uint8(99)}
    nodes = [op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q s z", "d"), op("Relu", "d", "y")]
    one = opened(model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], stored), tmp_path)
    step = one.torch._step_of["q"]
    sound = step.call
    object.__setattr__(step, "call", lambda x, scale, zero: sound(x + 0.01 * scale, scale, zero))
    x = (np.random.default_rng(0).integers(-60, 60, (1, 3, 8, 8)) + 0.5).astype(np.float32) * np.float32(0.1)
    certificate = certify(
        one.torch, one.runner, {"halves": {"x": x}}, exact=lambda: one.instrument("float64")
    )
    assert certificate.passed, certificate.words()
    notes = {check.value: check.note for check in certificate.checks if check.note}
    assert "here numbers lie half way between two codes" in notes["q"]
    assert "at 'q' numbers lie half way between two codes" in notes["d"]


def test_stored_codes_of_four_bits_are_held_against_the_nodes_as_written(tmp_path: Path) -> None:
    """Onnxruntime fuses such a product into one that rounds the other factor too; that is its own affair."""
    nodes = [op("DequantizeLinear", "wq ws wz", "w", axis=0, block_size=32), op("MatMul", "x w", "y")]
    scales = np.full((2, 16), 0.1, np.float32)
    proto = model(nodes, {"x": ["N", 64]}, ["y"], {"ws": scales}, opset=21, ir_version=10)
    codes = np.random.default_rng(0).integers(-8, 8, 64 * 16).tolist()
    proto.graph.initializer.append(onnx.helper.make_tensor("wq", onnx.TensorProto.INT4, [64, 16], codes))
    proto.graph.initializer.append(onnx.helper.make_tensor("wz", onnx.TensorProto.INT4, [2, 16], [0] * 32))
    one = opened(proto, tmp_path)
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)}
    certificate = certify(one.torch, one.runner, {"given": feeds}, exact=lambda: one.instrument("float64"))
    assert certificate.passed
    assert certificate.worst.relative < 1e-6
    expected = feeds["x"] @ (np.float32(codes).reshape(64, 16) * np.float32(0.1))
    with torch.no_grad():
        found = one.torch(torch.from_numpy(feeds["x"]))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
