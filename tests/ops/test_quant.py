"""Quantised operators give onnxruntime's codes, number by number, and hand the gradient through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from convlens.errors import UnsupportedError
from ops.models import Case, Feed, case, feed, model_of, reference, spread, torch_graph, x

MS = "com.microsoft"
RNG = np.random.default_rng(3)
F = np.float32


def codes(kind: str, *shape: int) -> NDArray[Any]:
    """Random codes of all sizes."""
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max + 1, shape).astype(kind)


def zero(kind: str) -> Any:
    """A zero point that is not in the middle."""
    return np.array(13 if "u" not in kind else 101, kind)


def s(value: float) -> Any:
    """A scale."""
    return np.array(value, F)


def triple(kind: str, *shape: int, scale: float = 0.02) -> tuple[Any, ...]:
    """Codes that are fed, with scale and zero point."""
    return Feed(codes(kind, *shape)), s(scale), zero(kind)


BYTES = ("uint8", "int8")
TIES = np.concatenate([np.arange(-140, 140) * 0.25, [1e9, -1e9, 0.0, -0.0]]).astype(F)

QUANTISE = [
    *(case("QuantizeLinear", feed(TIES), s(0.5), zero(k), opsets=(10, 13, 19, 21, 23)) for k in BYTES),
    case("QuantizeLinear", feed(TIES), s(0.5), opsets=(10, 13, 21)),
    case("QuantizeLinear", feed(TIES * 900), s(0.7), np.array(7, np.int16), opsets=(21, 23)),
    case("QuantizeLinear", feed(TIES * 900), s(0.7), np.array(7, np.uint16), opsets=(21, 23)),
    case("QuantizeLinear", feed(TIES), s(0.7), opsets=(21, 23), output_dtype=TensorProto.INT8),
    case("QuantizeLinear", feed(TIES), s(0.7), opsets=(21,), output_dtype=TensorProto.UINT16),
    case("QuantizeLinear", x(2, 3, 4, 4), F([0.1, 0.02, 0.5]), np.uint8([0, 9, 255]), opsets=(13, 19, 21)),
    case(
        "QuantizeLinear", x(2, 3, 4), F([0.1, 0.02, 0.5, 1]), np.int8([0, 9, -9, 1]), opsets=(13, 21), axis=-1
    ),
    case(
        "QuantizeLinear",
        x(2, 6),
        F([[0.1, 0.2], [0.3, 0.01]]),
        np.int8([[0, 9], [-9, 1]]),
        opsets=(21, 23),
        axis=1,
        block_size=3,
    ),
    case("QuantizeLinear", x(2, 5), F([[0.1, 0.2], [0.3, 0.01]]), opsets=(21, 23), axis=-1, block_size=3),
    case(
        "QuantizeLinear",
        Feed(TIES[:-4].astype(np.float16)),
        np.array(0.3, np.float16),
        zero("int8"),
        opsets=(19, 21),
    ),
    *(case("QuantizeLinear", feed(TIES), s(0.5), zero(k), opsets=(17,), domain=MS) for k in BYTES),
    case("QuantizeLinear", feed(TIES * 99), s(0.5), np.array(7, np.uint16), opsets=(17,), domain=MS),
    case(
        "QuantizeLinear",
        x(2, 3, 4),
        F([0.1, 0.02, 0.5]),
        np.int8([0, 9, -9]),
        opsets=(17,),
        domain=MS,
        axis=1,
    ),
]

DEQUANTISE = [
    *(case("DequantizeLinear", *triple(k, 3, 9), opsets=(10, 13, 19, 21, 23)) for k in BYTES),
    *(case("DequantizeLinear", *triple(k, 3, 9), opsets=(21, 23)) for k in ("uint16", "int16")),
    case("DequantizeLinear", Feed(codes("uint8", 5)), s(0.3), opsets=(10, 13, 21)),
    case("DequantizeLinear", Feed(codes("int32", 3, 50)), s(0.003), opsets=(10, 13, 21)),
    case(
        "DequantizeLinear",
        Feed(codes("int8", 2, 3, 4)),
        F([0.1, 0.02, 0.5]),
        np.int8([0, 9, -9]),
        opsets=(13, 21),
    ),
    case(
        "DequantizeLinear",
        Feed(codes("int8", 2, 3)),
        F([0.1, 0.02]),
        np.int8([0, 9]),
        opsets=(13, 21),
        axis=0,
    ),
    case(
        "DequantizeLinear",
        Feed(codes("int8", 2, 6)),
        F([[0.1, 0.2], [0.3, 0.01]]),
        np.int8([[0, 9], [-9, 1]]),
        opsets=(21, 23),
        axis=1,
        block_size=3,
    ),
    case(
        "DequantizeLinear", Feed(codes("uint8", 9)), np.array(0.3, np.float16), zero("uint8"), opsets=(19, 21)
    ),
    *(case("DequantizeLinear", *triple(k, 3, 9), opsets=(17,), domain=MS) for k in ("uint8", "int16")),
]

DYNAMIC = [
    case("DynamicQuantizeLinear", x(2, 3, 5), opsets=(11, 17), outputs=3),
    case("DynamicQuantizeLinear", x(7, low=1, high=2), outputs=3),
    case("DynamicQuantizeLinear", x(7, low=-3, high=-1), outputs=3),
    case("DynamicQuantizeLinear", feed(np.zeros((2, 3))), outputs=3),
]


def convolution(kind: str, weights: str, **how: Any) -> Case:
    """A quantised convolution over 4 channels, per tensor."""
    groups = how.get("group", 1)
    w = codes(weights, 4, 4 // groups, 3, 3)
    return case(
        "QLinearConv",
        *triple(kind, 2, 4, 7, 6),
        w,
        s(0.01),
        np.array(3, weights),
        s(0.7),
        zero(kind),
        RNG.integers(-9999, 9999, 4).astype(np.int32),
        opsets=(10, 17),
        **how,
    )


CONVOLUTIONS = [
    convolution("uint8", "uint8"),
    convolution("uint8", "int8", pads=[1, 1, 1, 1], strides=[2, 1]),
    convolution("int8", "int8", group=2, dilations=[2, 1]),
    convolution("uint8", "int8", group=4, auto_pad="SAME_LOWER", strides=[2, 2]),
    convolution("uint8", "uint8", pads=[2, 0, 1, 1]),
    case(
        "QLinearConv",
        *triple("uint8", 1, 3, 9),
        codes("int8", 5, 3, 4),
        F([0.1, 0.2, 0.01, 0.03, 0.4]),
        np.zeros(5, np.int8),
        s(0.9),
        zero("uint8"),
        opsets=(10, 17),
    ),
    case(
        "QLinearConv",
        *triple("int8", 1, 2, 4, 5, 4),
        codes("int8", 3, 2, 2, 2, 2),
        F([0.1, 0.2, 0.01]),
        np.zeros(3, np.int8),
        s(0.9),
        zero("int8"),
        opsets=(17,),
    ),
    case(
        "QLinearConv",
        *triple("uint8", 2, 7, 6, 4),
        codes("int8", 5, 4, 3, 3),
        s(0.01),
        np.int8(0),
        s(0.7),
        zero("uint8"),
        opsets=(17,),
        domain=MS,
        channels_last=1,
        pads=[1, 1, 1, 1],
    ),
    case("ConvInteger", Feed(codes("uint8", 2, 3, 7, 6)), codes("uint8", 4, 3, 3, 3), opsets=(10, 17)),
    case(
        "ConvInteger",
        Feed(codes("uint8", 2, 3, 7, 6)),
        codes("uint8", 4, 3, 3, 3),
        zero("uint8"),
        np.uint8(9),
        opsets=(10, 17),
        pads=[1, 1, 1, 1],
        strides=[2, 2],
    ),
    case(
        "ConvInteger",
        Feed(codes("uint8", 2, 4, 7)),
        codes("int8", 4, 2, 3),
        zero("uint8"),
        np.int8(3),
        group=2,
    ),
]

PRODUCTS = [
    *(
        case(
            "MatMulInteger",
            Feed(codes(k, 5, 600)),
            codes("int8", 600, 7),
            zero(k),
            np.int8(4),
            opsets=(10, 17),
        )
        for k in BYTES
    ),
    case("MatMulInteger", Feed(codes("uint8", 2, 5, 9)), codes("uint8", 9, 7), opsets=(10, 17)),
    case(
        "MatMulInteger", Feed(codes("uint8", 5, 9)), codes("int8", 9, 3), zero("uint8"), np.int8([1, -2, 3])
    ),
    *(
        case(
            "QLinearMatMul",
            *triple(k, 5, 9),
            codes(k, 9, 7),
            s(0.01),
            zero(k),
            s(0.02),
            zero(k),
            opsets=(10, 21),
        )
        for k in BYTES
    ),
    case(
        "QLinearMatMul",
        *triple("uint8", 2, 5, 9),
        codes("int8", 9, 3),
        F([0.01, 0.02, 0.3]),
        np.int8([0, 1, 2]),
        s(0.02),
        zero("uint8"),
        opsets=(10, 21),
    ),
    case(
        "QGemm",
        *triple("uint8", 5, 9),
        codes("int8", 9, 7),
        s(0.01),
        np.int8(3),
        np.arange(7, dtype=np.int32) * 99,
        s(0.05),
        zero("uint8"),
        domain=MS,
    ),
    case(
        "QGemm",
        *triple("int8", 5, 9),
        codes("int8", 7, 9),
        F(RNG.uniform(0.01, 0.1, 7)),
        np.zeros(7, np.int8),
        np.arange(7, dtype=np.int32) * 99,
        s(0.5),
        zero("int8"),
        domain=MS,
        transB=1,
        alpha=0.7,
    ),
    case("QGemm", *triple("uint8", 9, 5), codes("uint8", 9, 7), s(0.01), zero("uint8"), domain=MS, transA=1),
    case(
        "MatMulIntegerToFloat",
        Feed(codes("uint8", 5, 9)),
        codes("int8", 9, 7),
        s(0.1),
        s(0.02),
        zero("uint8"),
        np.int8(2),
        F(RNG.uniform(-1, 1, 7)),
        domain=MS,
    ),
    case(
        "MatMulIntegerToFloat",
        Feed(codes("uint8", 2, 5, 9)),
        codes("uint8", 9, 3),
        s(0.1),
        F([0.1, 0.2, 0.3]),
        domain=MS,
    ),
    case(
        "DynamicQuantizeMatMul",
        x(5, 9),
        codes("int8", 9, 3),
        F([0.1, 0.2, 0.3]),
        np.int8([0, 1, -2]),
        F([1, 2, 3]),
        domain=MS,
    ),
    case("DynamicQuantizeMatMul", x(2, 5, 9), codes("uint8", 9, 3), s(0.2), zero("uint8"), domain=MS),
]


def nbits(bits: int, inner: int, zeros: bool, **how: Any) -> Case:
    """Stored weights of some bits in blocks of 16."""
    blocks, blob = -(-inner // 16), 16 * bits // 8
    parts: list[Any] = [codes("uint8", 6, blocks, blob), RNG.uniform(0.1, 1, (6 * blocks)).astype(F)]
    parts += [codes("uint8", 6 * -(-blocks * bits // 8))] if zeros else []
    return case(
        "MatMulNBits", x(2, 3, inner), *parts, domain=MS, K=inner, N=6, bits=bits, block_size=16, **how
    )


PRODUCTS += [nbits(4, 32, False), nbits(4, 40, True), nbits(8, 32, True), nbits(8, 48, False)]

POINTWISE = [
    *(
        case(op, *triple(k, 2, 3, 5, 4), *triple(k, 2, 3, 5, 4, scale=0.031), s(0.05), zero(k), domain=MS)
        for k in BYTES
        for op in ("QLinearAdd", "QLinearMul")
    ),
    case(
        "QLinearAdd",
        *triple("uint8", 2, 3, 4),
        codes("uint8", 3, 1),
        s(0.1),
        np.uint8(3),
        s(0.2),
        np.uint8(0),
        domain=MS,
    ),
    case(
        "QLinearMul",
        *triple("int8", 2, 3, 4),
        codes("int8", 4),
        s(0.1),
        np.int8(2),
        s(0.2),
        np.int8(-128),
        domain=MS,
    ),
    *(case("QLinearSigmoid", *triple(k, 3, 99), s(1 / 256), np.array(0, k), domain=MS) for k in BYTES),
    *(case("QLinearLeakyRelu", *triple(k, 3, 99), s(0.017), zero(k), domain=MS, alpha=0.2) for k in BYTES),
    *(
        case(
            "QLinearSoftmax",
            *triple(k, 3, 20),
            s(1 / 256),
            np.array(np.iinfo(k).min, k),
            domain=MS,
            opset=13,
            axis=-1,
        )
        for k in BYTES
    ),
    case("QLinearSoftmax", *triple("uint8", 2, 5, 4), s(1 / 200), np.uint8(0), domain=MS, opset=13, axis=1),
    case("QLinearSoftmax", *triple("uint8", 2, 5, 4), s(1 / 256), np.uint8(0), domain=MS, opset=12, axis=1),
    *(
        case(
            "QLinearAveragePool",
            *triple(k, 2, 3, 7, 8),
            s(0.017),
            zero(k),
            domain=MS,
            kernel_shape=[3, 2],
            **how,
        )
        for k, how in (
            ("uint8", {}),
            ("int8", {"strides": [2, 2], "pads": [1, 0, 1, 1]}),
            ("uint8", {"pads": [1, 1, 1, 1], "count_include_pad": 1}),
        )
    ),
    case(
        "QLinearAveragePool",
        *triple("uint8", 2, 7, 8, 3),
        s(0.017),
        zero("uint8"),
        domain=MS,
        kernel_shape=[3, 2],
        channels_last=1,
    ),
    *(case("QLinearGlobalAveragePool", *triple(k, 2, 3, 7, 8), s(0.017), zero(k), domain=MS) for k in BYTES),
    case(
        "QLinearGlobalAveragePool",
        *triple("uint8", 2, 7, 8, 3),
        s(0.017),
        zero("uint8"),
        domain=MS,
        channels_last=1,
    ),
    *(
        case(
            "QLinearConcat",
            s(0.05),
            zero(k),
            *triple(k, 2, 3, 4),
            *triple(k, 2, 5, 4, scale=0.05),
            domain=MS,
            axis=1,
        )
        for k in BYTES
    ),
    *(
        case(
            "QLinearWhere",
            feed(RNG.random((2, 3, 4)) < 0.5, bool),
            *triple(k, 2, 3, 4),
            *triple(k, 2, 3, 4, scale=0.05),
            s(0.04),
            zero(k),
            domain=MS,
        )
        for k in BYTES
    ),
]

EVERY = [*QUANTISE, *DEQUANTISE, *DYNAMIC, *CONVOLUTIONS, *PRODUCTS, *POINTWISE]


def hold(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], folder: Path) -> None:
    """Codes must be onnxruntime's own, real numbers its own up to float32's rounding."""
    graph = torch_graph(model, folder)
    names = [output.name for output in model.graph.output]
    expected = reference(model, feeds)
    tensors = {name: graph.working(array.copy(), name) for name, array in feeds.items()}
    with torch.no_grad():
        found = graph.values(tensors, names)
    for name, wanted in zip(names, expected, strict=True):
        got = found[name].numpy()
        assert got.shape == wanted.shape
        assert got.dtype.kind == "f"
        if wanted.dtype.kind in "iu":
            np.testing.assert_array_equal(got.astype(np.float64), wanted.astype(np.float64), err_msg=name)
        else:
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-7 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize(("one", "opset"), spread(EVERY))
def test_codes(one: Case, opset: int, tmp_path: Path) -> None:
    hold(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([nbits(4, 32, False, accuracy_level=4)]))
def test_what_onnxruntime_rounds_inside_is_refused(one: Case, opset: int, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="accuracy level 4"):
        torch_graph(one.model(opset), tmp_path)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2])
def test_floats_of_eight_bits_are_refused(kind: int, tmp_path: Path) -> None:
    one = case("QuantizeLinear", x(3, 4), s(0.1), opsets=21, output_dtype=kind)
    with pytest.raises(UnsupportedError, match="quantising to"):
        torch_graph(one.model(21), tmp_path)


def gradient(one: Case, folder: Path, opset: int = 17, signal: Any = None) -> NDArray[Any]:
    """The gradient of the output (times ``signal``) with respect to the first input."""
    graph = torch_graph(one.model(opset), folder)
    feeds = {name: graph.working(array.copy(), name) for name, array in one.feeds.items()}
    feeds["x0"].requires_grad_()
    out = graph.values(feeds, ["y0"])["y0"]
    out.backward(torch.ones_like(out) if signal is None else torch.from_numpy(signal).to(out.dtype))
    found = feeds["x0"].grad
    assert found is not None
    return found.numpy()


def test_rounding_passes_the_gradient_and_saturation_stops_it(tmp_path: Path) -> None:
    """Codes 0 to 255 with zero point 100 and scale 0.5 hold -50 to 77.5."""
    values = feed([-51, -50.3, -50, -49.8, 0.1, 77.4, 77.5, 77.6, 200])
    found = gradient(case("QuantizeLinear", values, s(0.5), np.uint8(100)), tmp_path)
    np.testing.assert_array_equal(found, F([0, 0, 2, 2, 2, 2, 2, 0, 0]))


def test_dequantising_multiplies_the_gradient_by_the_scale(tmp_path: Path) -> None:
    one = case("DequantizeLinear", Feed(codes("uint8", 2, 3)), F([0.5, 2, 4]), np.uint8([1, 2, 3]))
    np.testing.assert_array_equal(gradient(one, tmp_path), F([[0.5, 2, 4]] * 2))


def test_dynamic_quantising_passes_the_gradient(tmp_path: Path) -> None:
    """The codes' gradient is one over the scale, which itself is taken as given."""
    one = case("DynamicQuantizeLinear", feed([-1.0, 0.0, 0.5, 4.1]), outputs=3)
    np.testing.assert_allclose(gradient(one, tmp_path), np.full(4, 255 / 5.1), rtol=1e-6)


def test_a_product_of_codes_sends_back_its_weights(tmp_path: Path) -> None:
    """d y / d a is (b - zero point) times the scales over the output's scale, where y is not saturated."""
    b, signal = codes("int8", 4, 3), RNG.standard_normal((2, 3))
    inputs = (*triple("uint8", 2, 4), b, s(0.5), np.int8(7), s(90), np.uint8(128))
    found = gradient(case("QLinearMatMul", *inputs), tmp_path, signal=signal)
    expected = signal @ (b.astype(np.float64) - 7).T * (0.02 * 0.5 / 90)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = gradient(
        case("MatMulInteger", Feed(codes("uint8", 2, 4)), b, np.uint8(3), np.int8(7)), tmp_path, signal=signal
    )
    np.testing.assert_allclose(found, signal @ (b.astype(np.float64) - 7).T, rtol=1e-5)


def test_a_convolution_of_codes_sends_back_its_filters(tmp_path: Path) -> None:
    """Against the gradient of the plain convolution with the same numbers."""
    w, signal = codes("int8", 3, 2, 3, 3), RNG.standard_normal((1, 3, 4, 4))
    inputs = (*triple("uint8", 1, 2, 6, 6), w, s(0.5), np.int8(7), s(900), np.uint8(128))
    found = gradient(case("QLinearConv", *inputs), tmp_path, signal=signal)
    point = torch.zeros(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    plain = torch.conv2d(point, torch.from_numpy(w.astype(np.float64) - 7))
    plain.backward(torch.from_numpy(signal))
    assert point.grad is not None
    np.testing.assert_allclose(found, point.grad.numpy() * (0.02 * 0.5 / 900), rtol=1e-5)


def test_codes_that_are_moved_stay_codes_and_pass_the_gradient(tmp_path: Path) -> None:
    """Through pooling, joining and clipping up to the cast; what needs integers is given integers."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["m", "m"], ["c"], axis=1),
        helper.make_node("Clip", ["c", "low", "high"], ["k"]),
        helper.make_node("Cast", ["k"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["k"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Div", ["whole", "seven"], ["share"]),
        helper.make_node("ArgMax", ["k"], ["place"], axis=1),
        helper.make_node("Shape", ["k"], ["shape"]),
    ]
    stored = {
        "s": s(0.02),
        "z": np.uint8(100),
        "low": np.uint8(80),
        "high": np.uint8(150),
        "seven": np.int32(-7),
    }
    feeds = {"x": x(2, 3, 4, 4).array}
    outputs = ["real", "share", "place", "shape"]
    model = model_of(nodes, feeds, outputs, stored)
    graph = torch_graph(model, tmp_path)
    point = torch.from_numpy(feeds["x"].copy()).requires_grad_()
    found = graph.values({"x": point}, outputs)
    for name, wanted in zip(outputs, reference(model, feeds), strict=True):
        np.testing.assert_array_equal(found[name].detach().numpy(), wanted, err_msg=name)
    assert not found["share"].is_floating_point()
    found["real"].sum().backward()
    assert point.grad is not None
    assert set(np.unique(point.grad.numpy())) == {0.0, np.float32(100.0)}  # twice one over the scale


def test_pixels_of_eight_bits_have_a_gradient(tmp_path: Path) -> None:
    one = case("Cast", Feed(codes("uint8", 1, 3, 2, 2)), to=TensorProto.FLOAT)
    np.testing.assert_array_equal(gradient(one, tmp_path), np.ones((1, 3, 2, 2)))
