"""Shapes that the graph computes at run time, as exporters write them, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from ops.models import check_gradient, compare, numbers

HEAD = '<ir_version: 8, opset_import: ["": {}]>\n'

CHAINS = {
    "reshape_by_shape": (
        13,
        (2, 3, 4, 5),
        """g (float[2,3,4,5] x) => (float[N,M] y, int64[K] s)
        <int64 zero = {0}, int64[1] first = {0}, int64[1] rest = {-1}> {
            shape = Shape (x)
            n = Gather <axis = 0> (shape, zero)
            n1 = Unsqueeze (n, first)
            s = Concat <axis = 0> (n1, rest)
            y = Reshape (x, s)
        }""",
    ),
    "shuffle": (
        11,
        (1, 4, 3, 5),
        """g (float[1,4,3,5] x) => (float[N,C,H,W] y)
        <int64 one = {1}, int64[1] two = {2}, int64[1] batch = {1}, int64[2] hw = {3, 5}> {
            shape = Shape (x)
            c = Gather <axis = 0> (shape, one)
            c1 = Unsqueeze <axes = [0]> (c)
            each = Div (c1, two)
            s = Concat <axis = 0> (batch, two, each, hw)
            a = Reshape (x, s)
            b = Transpose <perm = [0, 2, 1, 3, 4]> (a)
            t = Concat <axis = 0> (batch, c1, hw)
            y = Reshape (b, t)
        }""",
    ),
    "resize_to_another": (
        11,
        (1, 2, 4, 6),
        """g (float[1,2,4,6] x) => (float[N,C,H,W] y)
        <int64[1] a = {0}, int64[1] b = {2}, int64[1] c = {4}> {
            small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
            shape = Shape (x)
            hw = Slice (shape, b, c, a)
            inner = Shape (small)
            nc = Slice (inner, a, b, a)
            sizes = Concat <axis = 0> (nc, hw)
            up = Resize <mode = "linear"> (small, empty, empty, sizes)
            y = Add (x, up)
        }""",
    ),
    "same_padding_by_hand": (
        13,
        (1, 2, 5, 7),
        """g (float[1,2,5,7] x) => (float[N,C,H,W] y)
        <int64[1] b = {2}, int64[1] c = {4}, int64[1] a = {0}, int64[2] two = {2, 2},
         int64[4] front = {0, 0, 0, 0}, int64[2] none = {0, 0}, float zero = {0.0}> {
            shape = Shape (x)
            hw = Slice (shape, b, c, a)
            rest = Mod (hw, two)
            pads = Concat <axis = 0> (front, none, rest)
            padded = Pad (x, pads, zero)
            y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (padded)
        }""",
    ),
    "expand_a_constant": (
        13,
        (2, 3),
        """g (float[2,3] x) => (float[N,M] y)
        <float[1] one = {1.5}> {
            shape = Shape (x)
            ones = ConstantOfShape <value = float[1] {2.0}> (shape)
            wide = Expand (one, shape)
            a = Mul (x, ones)
            y = Sub (a, wide)
        }""",
    ),
    "positions": (
        11,
        (2, 5),
        """g (float[2,5] x) => (float[N,M] y)
        <int64 zero = {0}, int64 one = {1}> {
            shape = Shape (x)
            n = Gather <axis = 0> (shape, one)
            steps = Range (zero, n, one)
            real = Cast <to = 1> (steps)
            y = Mul (x, real)
        }""",
    ),
    "l2_normalised": (
        13,
        (2, 6),
        """g (float[2,6] x) => (float[N,M] y)
        <float low = {0.000001}> {
            norm = ReduceL2 <axes = [1], keepdims = 1> (x)
            safe = Clip (norm, low)
            shape = Shape (x)
            wide = Expand (safe, shape)
            y = Div (x, wide)
        }""",
    ),
    "hard_swish_by_hand": (
        13,
        (2, 6),
        """g (float[2,6] x) => (float[N,M] y)
        <float three = {3.0}, float zero = {0.0}, float six = {6.0}> {
            a = Add (x, three)
            b = Clip (a, zero, six)
            c = Div (b, six)
            y = Mul (x, c)
        }""",
    ),
    "blocks_of_channels": (
        18,
        (1, 6, 3, 3),
        """g (float[1,6,3,3] x) => (float[N,C,H,W] y)
        <int64[3] sizes = {1, 2, 3}> {
            a, b, c = Split <axis = 1> (x, sizes)
            d = Relu (b)
            y = Concat <axis = 1> (c, d, a)
        }""",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    model, shape = _parsed(name)
    compare(model, {"x": numbers(*shape)}, tmp_path)


@pytest.mark.parametrize("name", CHAINS)
def test_has_the_right_gradient(name: str, tmp_path: Path) -> None:
    model, shape = _parsed(name)
    check_gradient(model, {"x": numbers(*shape)}, tmp_path)


@pytest.mark.parametrize("name", ["reshape_by_shape", "resize_to_another", "same_padding_by_hand"])
def test_agrees_where_sizes_are_open(name: str, tmp_path: Path) -> None:
    model, shape = _parsed(name)
    for axis, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"open{axis}"
    larger = tuple(size + 2 * (axis != 1) for axis, size in enumerate(shape))
    if name == "resize_to_another":
        larger = (shape[0], *larger[1:])
    compare(model, {"x": numbers(*larger)}, tmp_path)


def _parsed(name: str) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """The model, with the empty list that the text form cannot write."""
    opset, shape, text = CHAINS[name]
    model = parser.parse_model(HEAD.format(opset) + text)
    if any("empty" in node.input for node in model.graph.node):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(0, np.float32), "empty"))
    return model, shape
