"""What each operator does with relevance: against the papers' shares of what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convlens
from convlens.errors import ConvLensError, TargetError, UnsupportedError
from convlens.instrument.relevance import nodes
from convlens.instrument.relevance.linear import BIAS
from convlens.instrument.relevance.norms import CENTRING
from convlens.model import Model
from convlens.ops.table import known
from reference import lrp
from reference.lrp import Share
from reference.nets import saved

CLOSE = 2e-5
"""Of the largest magnitude: onnxruntime's float32 against float64 shares."""

node = helper.make_node
RNG = np.random.default_rng(8)


def weights(*shape: int) -> NDArray[Any]:
    return RNG.normal(0, (int(np.prod(shape[1:])) or 1) ** -0.5, shape).astype(np.float32)


def proto(
    parts: Sequence[onnx.NodeProto],
    dims: Sequence[Any],
    end: str,
    stored: dict[str, NDArray[Any]],
    **more: Any,
) -> onnx.ModelProto:
    start = helper.make_tensor_value_info("x", more.get("dtype", TensorProto.FLOAT), list(dims))
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    stop = helper.make_tensor_value_info(end, more.get("out", TensorProto.FLOAT), None)
    graph = helper.make_graph(list(parts), "net", [start], [stop], arrays)
    sets = [helper.make_opsetid("", more.get("opset", 18)), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def loaded(model: onnx.ModelProto, folder: Path) -> Model:
    return convlens.load(saved(model, folder), threads=1, device="cpu")


def whole(*values: Any) -> Any:
    """The sum of everything that the model gives: relevance starts as the values themselves."""
    return sum(value.reshape(len(value), -1).sum(1) for value in values)


def computed(model: onnx.ModelProto, x: NDArray[Any], *names: str) -> list[NDArray[Any]]:
    """Values by onnxruntime, in float64."""
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    del inner.graph.output[:]
    inner.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(inner.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value, np.float64) for value in session.run(None, {"x": x})]


def as_matrix(model: onnx.ModelProto, shape: Sequence[int], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights and biases of an affine part of a model: what it makes of nothing and of each unit input."""
    size = int(np.prod(shape))
    bias = computed(model, np.zeros((1, *shape), np.float32), name)[0].reshape(-1)
    rows = np.eye(size, dtype=np.float32).reshape(size, *shape)
    columns = [computed(model, row[None], name)[0].reshape(-1) - bias for row in rows]
    return np.stack(columns, axis=1), bias


def close(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max()
    assert scale > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=CLOSE * scale)


CONV = (3, 6, 5)
LINEAR: dict[str, tuple[tuple[int, ...], list[onnx.NodeProto], dict[str, Any]]] = {
    "strides, dilations, uneven padding": (
        CONV,
        [node("Conv", ["x", "w", "b"], ["z"], pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2])],
        {"w": weights(4, 3, 3, 2), "b": weights(4)},
    ),
    "grouped": (
        (4, 5, 4),
        [node("Conv", ["x", "w", "b"], ["z"], group=2)],
        {"w": weights(6, 2, 2, 2), "b": weights(6)},
    ),
    "depthwise": (
        CONV,
        [node("Conv", ["x", "w"], ["z"], group=3, auto_pad="SAME_UPPER")],
        {"w": weights(6, 1, 3, 2)},
    ),
    "one axis": ((2, 9), [node("Conv", ["x", "w", "b"], ["z"])], {"w": weights(3, 2, 4), "b": weights(3)}),
    "three axes": ((1, 3, 4, 3), [node("Conv", ["x", "w"], ["z"])], {"w": weights(2, 1, 2, 2, 2)}),
    "transposed": (
        (4, 3, 3),
        [node("ConvTranspose", ["x", "w", "b"], ["z"], group=2, strides=[2, 2], pads=[1, 0, 0, 1])],
        {"w": weights(4, 3, 3, 2), "b": weights(6)},
    ),
    "transposed, then normalised": (
        (4, 3, 3),
        [
            node("ConvTranspose", ["x", "w"], ["y"], group=2, strides=[2, 2]),
            node("BatchNormalization", ["y", "s", "t", "m", "v"], ["z"]),
        ],
        {
            "w": weights(4, 3, 3, 2), "s": weights(6), "t": weights(6), "m": weights(6),
            "v": weights(6) ** 2 + 1,
        },
    ),
    "normalised, scaled, shifted": (
        CONV,
        [
            node("Conv", ["x", "w", "b"], ["a"]),
            node("BatchNormalization", ["a", "s", "t", "m", "v"], ["c"], epsilon=0.01),
            node("Mul", ["c", "f"], ["d"]),
            node("Sub", ["o", "d"], ["z"]),
        ],
        {
            "w": weights(4, 3, 2, 2), "b": weights(4), "s": weights(4), "t": weights(4), "m": weights(4),
            "v": weights(4) ** 2 + 1, "f": weights(4).reshape(4, 1, 1), "o": np.float32(0.3),
        },
    ),
    "dense, alpha and beta": (
        (6,),
        [node("Gemm", ["x", "w", "b"], ["z"], alpha=0.5, beta=2.0)],
        {"w": weights(6, 4), "b": weights(1, 4)},
    ),
    "matrix from the right, bias apart": (
        (3, 4),
        [node("MatMul", ["x", "w"], ["y"]), node("Add", ["b", "y"], ["z"])],
        {"w": weights(4, 5), "b": weights(5)},
    ),
    "matrix from the left": ((3, 4), [node("MatMul", ["w", "x"], ["z"])], {"w": weights(2, 3)}),
    "many matrices": ((2, 3, 4), [node("MatMul", ["x", "w"], ["z"])], {"w": weights(2, 4, 3)}),
}  # fmt: skip


@pytest.mark.parametrize("case", LINEAR)
@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"composite": "alpha-beta"}, lrp.alpha_beta(2)),
        ({"composite": "gamma", "gamma": 0.5}, lrp.gamma(0.5)),
        ({"composite": "epsilon", "epsilon": 0.2}, lrp.epsilon(0.2)),
    ],
    ids=["alpha-beta", "gamma", "epsilon"],
)
def test_linear_layers(case: str, options: dict[str, Any], share: Share, tmp_path: Path) -> None:
    shape, parts, stored = LINEAR[case]
    model = proto([*parts, node("Relu", ["z"], ["r"])], ["N", *shape], "r", stored)
    x = np.random.default_rng(2).normal(size=(2, *shape)).astype(np.float32)
    weight, bias = as_matrix(model, shape, "z")
    top = computed(model, x, "r")[0]
    result = loaded(model, tmp_path).run("lrp", x, whole, **options)
    for index in range(2):
        wanted = share(x[index].reshape(-1).astype(np.float64), weight, bias, top[index].reshape(-1))
        close(result.array[index], wanted.reshape(shape))


def test_what_something_else_reads_is_not_merged(tmp_path: Path) -> None:
    """Batch normalisation is then a layer of its own, whose shift takes a share."""
    stored = {
        "w": weights(4, 3, 2, 2),
        "s": weights(4) + 2,
        "t": weights(4),
        "m": weights(4),
        "v": weights(4) ** 2 + 1,
    }
    parts = [
        node("Conv", ["x", "w"], ["y"]),
        node("BatchNormalization", ["y", "s", "t", "m", "v"], ["z"]),
        node("Relu", ["z"], ["r"]),
        node("Relu", ["y"], ["other"]),
        node("Concat", ["r", "other"], ["both"], axis=1),
    ]
    model = proto(parts, ["N", *CONV], "both", stored)
    x = np.random.default_rng(2).normal(size=(1, *CONV)).astype(np.float32)
    y, z, r, other = computed(model, x, "y", "z", "r", "other")
    scale = (stored["s"] / np.sqrt(stored["v"] + 1e-5))[:, None, None]
    middle = y * scale / z * r + other
    weight, bias = as_matrix(model, CONV, "y")
    wanted = lrp.alpha_beta(1)(x.reshape(-1).astype(np.float64), weight, bias, middle.reshape(-1))
    result = loaded(model, tmp_path).run("lrp", x, whole)
    close(result.array[0], wanted.reshape(CONV))


INNER = (2, 4, 4)
SUMS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "AveragePool": ([node("AveragePool", ["r"], ["z"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
    "GlobalAveragePool": ([node("GlobalAveragePool", ["r"], ["z"])], {}),
    "ReduceMean": ([node("ReduceMean", ["r", "axes"], ["z"])], {"axes": np.array([2, 3])}),
    "ReduceSum": ([node("ReduceSum", ["r", "axes"], ["z"], keepdims=0)], {"axes": np.array([1])}),
    "CumSum": ([node("CumSum", ["r", "axis"], ["z"])], {"axis": np.array(2)}),
    "Resize": (
        [node("Resize", ["r", "", "scales"], ["z"], mode="linear")],
        {"scales": np.array([1, 1, 1.5, 2], np.float32)},
    ),
    "a factor each, and a sum": (
        [node("Mul", ["r", "f"], ["y"]), node("Add", ["y", "b"], ["z"])],
        {"f": weights(2, 4, 4), "b": weights(2, 4, 4)},
    ),
    "Einsum": ([node("Einsum", ["r", "w"], ["z"], equation="nchw,cd->ndhw")], {"w": weights(2, 3)}),
    "moves": (
        [
            node("Pad", ["r", "pads"], ["a"]),
            node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
            node("Slice", ["b", "from", "to"], ["c"]),
            node("Concat", ["c", "c"], ["z"], axis=3),
        ],
        {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 1]), "from": np.array([0, 1]), "to": np.array([9, 4])},
    ),
}


@pytest.mark.parametrize("case", SUMS)
def test_sums_share_in_proportion(case: str, tmp_path: Path) -> None:
    """A 1 x 1 convolution and a rectifier stand before, so that nothing is at the input itself."""
    parts, stored = SUMS[case]
    lead = [node("Conv", ["x", "first"], ["q"]), node("Relu", ["q"], ["r"])]
    one = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)
    model = proto([*lead, *parts], ["N", *INNER], "z", {"first": one, **stored})
    x = np.random.default_rng(3).normal(size=(2, *INNER)).astype(np.float32)
    weight, bias = as_matrix(model, INNER, "z")
    (top,) = computed(model, x, "z")
    result = loaded(model, tmp_path).run("lrp", x, whole)
    for index in range(2):
        inner = np.maximum(x[index], 0).astype(np.float64)
        wanted = lrp.epsilon(0)(inner.reshape(-1), weight, bias, top[index].reshape(-1))
        close(result.array[index], wanted.reshape(INNER))


def test_two_branches_share_by_what_they_contributed(tmp_path: Path) -> None:
    stored = {"w": weights(3, 2, 1, 1), "u": weights(3, 2, 1, 1)}
    parts = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "u"], ["b"]),
        node("Sub", ["a", "b"], ["z"]),
        node("Relu", ["z"], ["r"]),
    ]
    model = proto(parts, ["N", *INNER], "r", stored)
    x = np.random.default_rng(4).normal(size=(1, *INNER)).astype(np.float32)
    a, b, r = computed(model, x, "a", "b", "r")
    wanted = np.zeros(x[0].size)
    for name, part in (("a", a / (a - b) * r), ("b", -b / (a - b) * r)):
        wanted += lrp.alpha_beta(1)(
            x.reshape(-1).astype(np.float64), *as_matrix(model, INNER, name), part.reshape(-1)
        )
    close(loaded(model, tmp_path).run("lrp", x, whole).array[0], wanted.reshape(INNER))


ACTIVATIONS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], float]] = {
    "Sigmoid": ([node("Sigmoid", ["x"], ["z"])], {}, 0.5),
    "Softplus": ([node("Softplus", ["x"], ["z"])], {}, float(np.log(2))),
    "LeakyRelu": ([node("LeakyRelu", ["x"], ["z"], alpha=0.2)], {}, 0),
    "PRelu": ([node("PRelu", ["x", "s"], ["z"])], {"s": weights(2, 1, 1)}, 0),
    "Tanh": ([node("Tanh", ["x"], ["z"])], {}, 0),
    "Max with a number": ([node("Max", ["x", "m"], ["z"])], {"m": np.float32(0.5)}, 0.5),
    "SiLU in two": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["z"])], {}, 0),
    "HardSwish in four": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["c"]),
            node("Mul", ["x", "c"], ["m"]),
            node("Div", ["m", "six"], ["z"]),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations_pass_all_but_what_they_are_at_zero(case: str, tmp_path: Path) -> None:
    parts, stored, start = ACTIVATIONS[case]
    model = proto(parts, ["N", *INNER], "z", stored)
    x = np.random.default_rng(5).normal(size=(2, *INNER)).astype(np.float32)
    (top,) = computed(model, x, "z")
    close(loaded(model, tmp_path).run("lrp", x, whole).array, top - start)


def test_the_signal_takes_all_of_a_gated_product(tmp_path: Path) -> None:
    """Squeeze and excitation: the gate comes through layers of its own, and gets nothing."""
    stored = {"w": weights(2, 2, 1, 1), "b": weights(2)}
    parts = [
        node("GlobalAveragePool", ["x"], ["m"]),
        node("Conv", ["m", "w", "b"], ["c"]),
        node("Sigmoid", ["c"], ["s"]),
        node("Mul", ["s", "x"], ["z"]),
    ]
    model = proto(parts, ["N", *INNER], "z", stored)
    x = np.random.default_rng(5).normal(size=(2, *INNER)).astype(np.float32)
    close(loaded(model, tmp_path).run("lrp", x, whole).array, computed(model, x, "z")[0])


def test_other_products_share_half_and_half(tmp_path: Path) -> None:
    stored = {"w": weights(2, 2, 1, 1), "u": weights(2, 2, 1, 1)}
    parts = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "u"], ["b"]),
        node("Mul", ["a", "b"], ["z"]),
        node("Relu", ["z"], ["r"]),
    ]
    model = proto(parts, ["N", *INNER], "r", stored)
    x = np.random.default_rng(5).normal(size=(1, *INNER)).astype(np.float32)
    (r,) = computed(model, x, "r")
    wanted = sum(
        lrp.alpha_beta(1)(x.reshape(-1).astype(np.float64), *as_matrix(model, INNER, name), r.reshape(-1) / 2)
        for name in ("a", "b")
    )
    close(loaded(model, tmp_path).run("lrp", x, whole).array[0], wanted.reshape(INNER))


WIDTH = 6


def layer_norm(fused: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    stored: dict[str, Any] = {
        "w": rng.normal(size=(WIDTH, WIDTH)).astype(np.float32),
        "g": rng.normal(size=WIDTH).astype(np.float32) + 1,
        "b": rng.normal(size=WIDTH).astype(np.float32),
    }
    parts = [node("MatMul", ["x", "w"], ["h"])]
    if fused:
        parts.append(node("LayerNormalization", ["h", "g", "b"], ["n"], epsilon=0.01))
    else:
        stored |= {"axes": np.array([-1]), "two": np.float32(2), "eps": np.float32(0.01)}
        parts += [
            node("ReduceMean", ["h", "axes"], ["m"]),
            node("Sub", ["h", "m"], ["c"]),
            node("Pow", ["c", "two"], ["q"]),
            node("ReduceMean", ["q", "axes"], ["v"]),
            node("Add", ["v", "eps"], ["e"]),
            node("Sqrt", ["e"], ["d"]),
            node("Div", ["c", "d"], ["k"]),
            node("Mul", ["k", "g"], ["f"]),
            node("Add", ["f", "b"], ["n"]),
        ]
    return proto([*parts, node("Relu", ["n"], ["r"])], ["N", 3, WIDTH], "r", stored)


def test_a_norm_is_linear_with_its_deviation_held(tmp_path: Path) -> None:
    """The fused operator, the same in nine, and by hand."""
    x = np.random.default_rng(5).normal(size=(1, 3, WIDTH)).astype(np.float32)
    found = []
    for index, fused in enumerate((True, False)):
        folder = tmp_path / str(index)
        folder.mkdir()
        found.append(loaded(layer_norm(fused), folder).run("lrp", x, whole, epsilon=0).array[0])
    model = layer_norm(True)
    stored = {
        array.name: numpy_helper.to_array(array).astype(np.float64) for array in model.graph.initializer
    }
    h, r = computed(model, x, "h", "r")
    wanted = []
    for own, given, top in zip(h[0], x[0].astype(np.float64), r[0], strict=True):
        centre = np.eye(WIDTH) - 1 / WIDTH
        weight = stored["g"][:, None] / np.sqrt(own.var() + 0.01) * centre
        middle = lrp.epsilon(0)(own, weight, stored["b"], top)
        wanted.append(lrp.epsilon(0)(given, stored["w"].T, np.zeros(WIDTH), middle))
    close(found[0], np.stack(wanted))
    close(found[1], np.stack(wanted))


def attention(fused: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    stored: dict[str, Any] = {key: rng.normal(size=(4, 4)).astype(np.float32) for key in ("wq", "wk", "wv")}
    parts = [node("MatMul", ["x", f"w{key}"], [key]) for key in "qkv"]
    if fused:
        parts.append(node("Attention", ["q", "k", "v"], ["z"], q_num_heads=1, kv_num_heads=1))
    else:
        stored["scale"] = np.float32(0.5)
        parts += [
            node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["q", "t"], ["scores"]),
            node("Mul", ["scores", "scale"], ["scaled"]),
            node("Softmax", ["scaled"], ["p"]),
            node("MatMul", ["p", "v"], ["z"]),
        ]
    return proto([*parts, node("Relu", ["z"], ["r"])], ["N", 5, 4], "r", stored, opset=23)


def test_attention_gives_all_to_the_values(tmp_path: Path) -> None:
    x = np.random.default_rng(5).normal(size=(1, 5, 4)).astype(np.float32)
    p, v, r = computed(attention(False), x, "p", "v", "r")
    stored = {array.name: numpy_helper.to_array(array) for array in attention(False).graph.initializer}
    middle = np.stack([lrp.epsilon(0)(v[0][:, c], p[0], np.zeros(5), r[0][:, c]) for c in range(4)], axis=1)
    wanted = np.stack(
        [
            lrp.epsilon(0)(own.astype(np.float64), stored["wv"].T.astype(np.float64), np.zeros(4), top)
            for own, top in zip(x[0], middle, strict=True)
        ]
    )
    for index, fused in enumerate((True, False)):
        folder = tmp_path / str(index)
        folder.mkdir()
        close(loaded(attention(fused), folder).run("lrp", x, whole, epsilon=0).array[0], wanted)


def test_what_scales_pixels_in_the_graph_changes_nothing(tmp_path: Path) -> None:
    """The same net with its normalisation inside: the first layer's bounds and relevance are the same."""
    rng = np.random.default_rng(6)
    stored = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "m": np.array([100, 120, 90], np.float32).reshape(3, 1, 1),
        "s": np.array([-50, 60, 70], np.float32).reshape(3, 1, 1),
        "v": rng.normal(size=(2, 4)).astype(np.float32),
    }
    tail = [
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    inside = [
        node("Sub", ["x", "m"], ["a"]),
        node("Div", ["a", "s"], ["b"]),
        node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1]),
    ]
    outside = [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])]
    pixels = rng.integers(0, 256, (2, 3, 7, 6)).astype(np.float32)
    pixels[:, :, 0, 0], pixels[:, :, 0, 1] = 0, 255
    scaled = ((pixels - stored["m"]) / stored["s"]).astype(np.float32)
    for composite in ("epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box"):
        found = []
        for index, (lead, x) in enumerate(((inside, pixels), (outside, scaled))):
            folder = tmp_path / f"{composite}-{index}"
            folder.mkdir()
            model = loaded(proto([*lead, *tail], ["N", 3, 7, 6], "y", stored), folder)
            found.append(model.run("lrp", x, 1, composite=composite).array)
        close(found[0], found[1])


@pytest.mark.parametrize("composite", ["epsilon-plus", "epsilon-gamma-box"])
def test_half_precision_is_computed_in_double(composite: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    stored = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(4, 2))}
    parts = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("ReduceMean", ["r"], ["g"], axes=[2, 3], keepdims=0),
        node("MatMul", ["g", "v"], ["y"]),
    ]
    found = []
    x = rng.normal(size=(2, 3, 6, 5)).astype(np.float16)
    for kind, name in ((np.float16, TensorProto.FLOAT16), (np.float32, TensorProto.FLOAT)):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        arrays = {key: array.astype(np.float16).astype(kind) for key, array in stored.items()}
        model = loaded(proto(parts, ["N", 3, 6, 5], "y", arrays, dtype=name, out=name, opset=17), folder)
        found.append(model.run("lrp", x.astype(kind), "y[0,1]", composite=composite).array)
    assert found[0].dtype == np.float32
    close(found[0], found[1])


def test_quantisers_pass_all_of_it(tmp_path: Path) -> None:
    """The layers between see the numbers as they were rounded, and share by those."""
    stored = {"w": weights(3, 2, 2, 2), "s": np.float32(0.05), "p": np.uint8(128)}
    parts = [
        node("QuantizeLinear", ["x", "s", "p"], ["q"]),
        node("DequantizeLinear", ["q", "s", "p"], ["d"]),
        node("Conv", ["d", "w"], ["z"]),
        node("Relu", ["z"], ["r"]),
    ]
    model = proto(parts, ["N", *INNER], "r", stored)
    x = np.random.default_rng(5).normal(size=(1, *INNER)).astype(np.float32)
    d, r = computed(model, x, "d", "r")
    bare = proto([node("Conv", ["x", "w"], ["z"])], ["N", *INNER], "z", {"w": stored["w"]})
    wanted = lrp.alpha_beta(1)(d.reshape(-1), *as_matrix(bare, INNER, "z"), r.reshape(-1))
    close(loaded(model, tmp_path).run("lrp", x, whole).array[0], wanted.reshape(INNER))


REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], type[ConvLensError], str]] = {
    "Softmax": (
        [node("Softmax", ["x"], ["z"])],
        {},
        TargetError,
        "no rule for Softmax node 'z' .* explain the scores before it, 'x'",
    ),
    "Log": ([node("Log", ["x"], ["z"])], {}, UnsupportedError, "no rule for Log node 'z'"),
    "a divisor": (
        [node("Div", ["one", "x"], ["z"])],
        {"one": np.float32(1)},
        UnsupportedError,
        "only what steers it comes from the input",
    ),
    "a negative power": (
        [node("Pow", ["x", "p"], ["z"])],
        {"p": np.float32(-1)},
        UnsupportedError,
        "its exponent is not a positive constant",
    ),
    "recurrent": (
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("GRU", ["t", "w", "r"], ["h"], hidden_size=2),
            node("Transpose", ["h"], ["z"], perm=[2, 0, 1, 3]),
        ],
        {"w": weights(1, 6, 4), "r": weights(1, 6, 2)},
        UnsupportedError,
        "no rule for GRU node 'h'",
    ),
    "codes": (
        [
            node("QuantizeLinear", ["x", "s", "p"], ["q"]),
            node("QLinearMatMul", ["q", "s", "p", "m", "s", "p", "s", "p"], ["c"]),
            node("DequantizeLinear", ["c", "s", "p"], ["z"]),
        ],
        {"s": np.float32(0.05), "p": np.uint8(128), "m": np.full((4, 2), 130, np.uint8)},
        UnsupportedError,
        "QLinearMatMul node 'c' .*: it computes on quantised codes; take the model before quantisation",
    ),
    "a batch's own statistics": (
        [node("BatchNormalization", ["x", "b", "b", "b", "b"], ["z", "m", "v"], training_mode=1)],
        {"b": np.ones(3, np.float32)},
        UnsupportedError,
        "it takes its statistics from the batch",
    ),
    "nothing arrives": (
        [node("Greater", ["x", "one"], ["g"]), node("Cast", ["g"], ["z"], to=TensorProto.FLOAT)],
        {"one": np.float32(1)},
        TargetError,
        "no relevance of z arrives at the input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_rule_is_refused_by_name(case: str, tmp_path: Path) -> None:
    parts, stored, error, words = REFUSED[case]
    model = loaded(proto(parts, ["N", 3, 4], "z", stored), tmp_path)
    x = np.random.default_rng(2).uniform(1, 2, (1, 3, 4)).astype(np.float32)
    with pytest.raises(error, match=words) as caught:
        model.run("lrp", x, "z[0].sum", allow_uncertified=True)
    assert "\n" not in str(caught.value)


def test_each_name_in_the_table_is_an_operator_and_stands_there_once() -> None:
    tables = [
        nodes.MOVES,
        nodes.WRITES,
        nodes.CHOICES,
        nodes.SUMS,
        nodes.PASSING,
        nodes.SHIFTED,
        nodes.CUT,
        CENTRING,
    ]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    here = {entry.name for entry in known()}
    everything = {
        *names,
        *nodes.PRODUCTS,
        *nodes.VALUES,
        *nodes.FIRST_ONLY,
        *nodes.ADVICE,
        *nodes.WINNERS,
        *BIAS,
    }
    assert everything <= here
