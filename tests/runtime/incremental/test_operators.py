"""Which operators are computed in windows, each between two convolutions, and which are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convlens
from convlens.model import Model
from convlens.runtime.incremental.probing import Probing
from convlens.runtime.patches import positions
from reference import nets

SIDE = 12
CLOSE = 1e-5

Nodes = list[onnx.NodeProto]
Weights = dict[str, NDArray[Any]]
Case = tuple[Nodes, Weights]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """``_`` is an input that is left out."""
    given = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, given, outputs.split(), **attributes)


def ints(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def reals(*shape: int, seed: int = 0, wide: float = 0.5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, wide, shape).astype(np.float32)


def resized(mode: str, by: Sequence[float] = (1, 1, 2, 2), **attributes: Any) -> Case:
    return [node("Resize", "a _ s", "b", mode=mode, **attributes)], {"s": np.array(by, np.float32)}


def transposed(kernel: int, **attributes: Any) -> Case:
    return [node("ConvTranspose", "a w", "b", **attributes)], {"w": reals(4, 3, kernel, kernel)}


def shuffled(batch: int) -> Case:
    nodes = [
        node("Reshape", "a s", "p"),
        node("Transpose", "p", "q", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "q t", "b"),
    ]
    return nodes, {"s": ints(batch, 2, 2, SIDE, SIDE), "t": ints(batch, 4, SIDE, SIDE)}


def split() -> Case:
    nodes = [node("Split", "a s", "p q r", axis=1), node("Concat", "r p", "b", axis=1)]
    return nodes, {"s": ints(1, 2, 1)}


def still(op: str, *shape: int) -> Case:
    return [node(op, "a k", "b")], {"k": reals(*shape, wide=1.0)}


def sliced(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Case:
    weights = {name: ints(*n) for name, n in zip("seax", (starts, ends, axes, steps), strict=True)}
    return [node("Slice", "a sv ev av xv", "b")], {f"{name}v": array for name, array in weights.items()}


def channels_last() -> Case:
    nodes = [
        node("Transpose", "a", "p", perm=[0, 2, 3, 1]),
        node("LayerNormalization", "p g h", "q", axis=-1),
        node("MatMul", "q w", "r"),
        node("Add", "r k", "t"),
        node("Softmax", "t", "u", axis=-1),
        node("Transpose", "u", "b", perm=[0, 3, 1, 2]),
    ]
    return nodes, {"g": reals(4), "h": reals(4), "w": reals(4, 4), "k": reals(4)}


def measured() -> Case:
    """The size of the picture, asked for and given back."""
    nodes = [
        node("Shape", "a", "s"),
        node("Resize", "a _ _ t", "b", mode="nearest", coordinate_transformation_mode="asymmetric"),
    ]
    slices = [
        node("Slice", "s i j k", "n"),
        node("Concat", "n m", "t", axis=0),
    ]
    weights = {"i": ints(0), "j": ints(2), "k": ints(0), "m": ints(2 * SIDE, 2 * SIDE)}
    return [nodes[0], *slices, nodes[1]], weights


def squeezed_channel() -> Case:
    nodes = [
        node("Gather", "a i", "p", axis=1),
        node("Unsqueeze", "p u", "q"),
        node("ReduceMean", "a", "m", axes=[1], keepdims=0),
        node("Unsqueeze", "m u", "r"),
        node("Concat", "q r", "b", axis=1),
    ]
    return nodes, {"i": np.array(2, np.int64), "u": ints(1)}


def codes() -> Case:
    """Codes whose zero is no 0, so that padding is not."""
    nodes = [
        node("QuantizeLinear", "a s z", "p"),
        node("QLinearConv", "p s z w ws wz s z", "q", pads=[1] * 4),
        node("MaxPool", "q", "r", kernel_shape=[3, 3], pads=[1] * 4),
        node("DequantizeLinear", "r s z", "b"),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "s": np.array(0.05, np.float32),
        "z": np.array(-37, np.int8),
        "w": rng.integers(-50, 50, (4, 4, 3, 3)).astype(np.int8),
        "ws": np.array(0.01, np.float32),
        "wz": np.array(0, np.int8),
    }
    return nodes, weights


def by_channel(axis: int) -> Case:
    nodes = [
        node("QuantizeLinear", "a s z", "p", axis=axis),
        node("DequantizeLinear", "p s z", "b", axis=axis),
    ]
    count = 4 if axis == 1 else SIDE
    return nodes, {
        "s": np.linspace(0.02, 0.05, count).astype(np.float32),
        "z": np.zeros(count, np.int8),
    }


WINDOWS: dict[str, Callable[[], Case]] = {
    "split": split,
    "shuffle": lambda: shuffled(-1),
    "channels last": channels_last,
    "sizes of the picture": measured,
    "one channel": squeezed_channel,
    "codes": codes,
    "constant of the picture": lambda: still("Add", 4, SIDE, SIDE),
    "constant of rows": lambda: still("Mul", 1, 1, SIDE, 1),
    "constant of columns": lambda: still("Sub", SIDE),
    "slope of the picture": lambda: still("PRelu", 1, SIDE, SIDE),
    "channels cut": lambda: sliced([1], [4], [1], [2]),
    "channels backwards": lambda: sliced([-1], [-9], [1], [-1]),
    "picture cut": lambda: sliced([1, 2], [11, 100], [2, 3], [1, 1]),
    "every other pixel": lambda: sliced([1, 0], [100, 100], [2, 3], [2, 3]),
    "channels in another order": lambda: ([node("Gather", "a i", "b", axis=1)], {"i": ints(3, 0, 0, 1)}),
    "nearest": lambda: resized("nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "nearest by 3": lambda: resized("nearest", (1, 1, 3, 1)),
    "linear": lambda: resized("linear"),
    "linear of Keras": lambda: resized("linear", (1, 1, 4, 2), coordinate_transformation_mode="asymmetric"),
    "cubic": lambda: resized("cubic", coordinate_transformation_mode="pytorch_half_pixel"),
    "transposed": lambda: transposed(2, strides=[2, 2]),
    "transposed, overlapping": lambda: transposed(4, strides=[2, 2], pads=[1] * 4),
    "transposed, added": lambda: transposed(3, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    "transposed, same": lambda: transposed(3, strides=[2, 2], auto_pad="SAME_UPPER"),
    "transposed, dilated": lambda: transposed(3, dilations=[2, 2], pads=[2] * 4),
    "transposed, narrow": lambda: transposed(1, strides=[3, 3], output_padding=[2, 2]),
    "transposed, padded by much": lambda: transposed(5, strides=[1, 1], pads=[0, 4, 4, 0]),
    "depth to space": lambda: ([node("DepthToSpace", "a", "b", blocksize=2)], {}),
    "space to depth": lambda: ([node("SpaceToDepth", "a", "b", blocksize=2)], {}),
    "channels side by side": lambda: ([node("LRN", "a", "b", size=3)], {}),
    "pads of channels": lambda: ([node("Pad", "a p", "b")], {"p": ints(0, 1, 0, 0, 0, 2, 0, 0)}),
    "codes by channel": lambda: by_channel(1),
    "unused places": lambda: ([node("MaxPool", "a", "b places", kernel_shape=[3, 3], pads=[1] * 4)], {}),
}

DENSE: dict[str, Callable[[], Case]] = {
    "places of maxima": lambda: (
        [
            node("MaxPool", "a", "p places", kernel_shape=[3, 3], pads=[1] * 4),
            node("Cast", "places", "q", to=TensorProto.FLOAT),
            node("Add", "p q", "b"),
        ],
        {},
    ),
    "corners aligned": lambda: resized("linear", coordinate_transformation_mode="align_corners"),
    "no whole factor": lambda: resized("linear", (1, 1, 1.5, 1.5)),
    "expanded": lambda: ([node("Expand", "a s", "b")], {"s": ints(1, 1, SIDE, SIDE)}),
    "codes by row": lambda: by_channel(2),
    "squeeze and excite": lambda: ([node("GlobalAveragePool", "a", "p"), node("Mul", "a p", "b")], {}),
    "each picture by itself": lambda: (
        [node("InstanceNormalization", "a s h", "b")],
        {"s": reals(4), "h": reals(4)},
    ),
    "rows mixed": lambda: ([node("MatMul", "a w", "b")], {"w": reals(SIDE, SIDE)}),
    "rows upside down": lambda: sliced([-1], [-99], [2], [-1]),
    "statistics of rows": lambda: (
        [
            node("Transpose", "a", "p", perm=[0, 2, 1, 3]),
            node("BatchNormalization", "p s h m v", "q"),
            node("Transpose", "q", "b", perm=[0, 2, 1, 3]),
        ],
        {"s": reals(SIDE), "h": reals(SIDE), "m": reals(SIDE), "v": np.ones(SIDE, np.float32)},
    ),
    "rows beside each other": lambda: (
        [node("Concat", "a a", "b", axis=2)],
        {},
    ),
}


def model_of(case: Case, folder: Any, opset: int = 17) -> Model:
    nodes, weights = case
    held = {**weights, "first": reals(4, 2, 3, 3, seed=1)}
    graph = helper.make_graph(
        [node("Conv", "x first", "a", pads=[1] * 4), *nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, SIDE, SIDE])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return convlens.load(nets.saved(proto, folder, "net"), device="cpu", threads=1, kind="image")


def probing_of(model: Model, side: int = 2, step: int = 3) -> tuple[Probing, NDArray[Any], NDArray[Any]]:
    """Probes over the whole picture, the values of ``b`` of whole pictures, and the pictures."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (1, 2, SIDE, SIDE)).astype(np.float32)
    starts = np.array(list(product(*positions((SIDE, SIDE), side, step))))
    noise = rng.normal(0, 2, (len(starts), 2, side, side)).astype(np.float32)
    whole = np.repeat(image, len(starts), axis=0)
    for row, (top, left) in enumerate(starts.tolist()):
        whole[row, :, top : top + side, left : left + side] = noise[row]
    content = noise.__getitem__
    probing = Probing(model.runner, "x", (2, 3), image, starts, (side, side), content, ["b"])
    return probing, model.runner.whole().run({"x": whole}, ["b"], 100)["b"], whole


def check(probing: Probing, expected: NDArray[Any], until: int) -> None:
    rows = np.arange(len(probing.starts))
    found = probing.tail(until, 1)(probing.windows(rows, until))["b"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * np.abs(expected).max())


@pytest.mark.parametrize("name", WINDOWS)
def test_in_windows(name: str, tmp_path: Any) -> None:
    """The last value lies in windows, and is that of whole pictures; so it is with the first part alone."""
    probing, expected, _ = probing_of(model_of(WINDOWS[name](), tmp_path))
    assert "b" in probing.parts.home
    assert not np.array_equal(expected[0], expected[-1])
    for until in range(len(probing.parts.parts) + 1):
        check(probing, expected, until)


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 19])
def test_every_way_to_say_scales_is_in_windows(opset: int, tmp_path: Any) -> None:
    """Scales are the second input at first, and the third behind a region that may be left out later."""
    op, held = ("Upsample" if opset < 10 else "Resize"), {"s": np.array([1, 1, 2, 2], np.float32)}
    reads, told = "a s", {"mode": "nearest"}
    if opset >= 11:
        told |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        reads = "a r s" if opset < 13 else "a _ s"
        held |= {"r": np.empty(0, np.float32)} if opset < 13 else {}
    probing, expected, _ = probing_of(model_of(([node(op, reads, "b", **told)], held), tmp_path, opset))
    assert "b" in probing.parts.home
    for until in range(len(probing.parts.parts) + 1):
        check(probing, expected, until)


@pytest.mark.parametrize("name", DENSE)
def test_not_in_windows(name: str, tmp_path: Any) -> None:
    """What looks at more than its place, or knows where it stands, is computed whole behind windows."""
    probing, expected, _ = probing_of(model_of(DENSE[name](), tmp_path))
    assert "b" not in probing.parts.home
    for until in range(len(probing.parts.parts) + 1):
        check(probing, expected, until)


def test_a_batch_that_is_measured_is_that_of_the_probes(tmp_path: Any) -> None:
    """Flattened to as many rows as there are images, in a file that asks for their number."""
    nodes = [
        node("Shape", "a", "s"),
        node("Gather", "s i", "n", axis=0),
        node("Concat", "n m", "t", axis=0),
        node("Reshape", "a t", "f"),
        node("MatMul", "f w", "b"),
    ]
    case = nodes, {"i": ints(0), "m": ints(4 * SIDE * SIDE), "w": reals(4 * SIDE * SIDE, 3)}
    probing, expected, _ = probing_of(model_of(case, tmp_path))
    assert len(probing.parts.parts) == 1
    for until in (0, 1):
        check(probing, expected, until)


def test_groups_of_outputs_are_whole(tmp_path: Any) -> None:
    """A pixel at 5 is 10 and 11 behind an upsampling by 2, and what reads linearly reads one around it."""
    for mode, expected in (("nearest", (10, 12)), ("linear", (8, 14))):
        nodes, weights = resized(mode)
        nodes[0].input[0] = "x"
        probing, _, _ = probing_of(model_of(([*nodes], weights), tmp_path), 1, 1)
        number = probing.parts.home["b"]
        span = probing.spans[number]
        at = int(np.flatnonzero((probing.starts == 5).all(axis=1))[0])
        assert (span.start[at, 0], span.stop[at, 0]) == expected
