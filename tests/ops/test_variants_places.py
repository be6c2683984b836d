"""Variants and element types of the operators that arrange and pick, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from ops.models import ABSENT, Case, case, feed, floats, ints, x
from ops.variants import REAL, TIES, WHOLE, agree, none, of

X = x(2, 3, 4)


def pads() -> Iterator[Case]:
    amounts = (
        (0, 1, 2, 0, 2, 1), (0, 2, 3, 0, 2, 3), (0, 5, 7, 1, 3, 9), (0, -1, 2, 0, 0, -1),
        (0, -1, -2, 0, 2, 1), (0, 3, -1, 0, -2, 4), (0, -3, 0, 0, 2, 0), (0, 0, 4, 0, 0, 4),
    )  # fmt: skip
    for mode in ("constant", "reflect", "edge", "wrap"):
        for given in amounts:
            yield case("Pad", X, ints(*given), opsets=19, mode=mode)
            yield case("Pad", X, ints(*given[1:3], *given[4:]), ABSENT, ints(1, -1), opsets=19, mode=mode)
        for dtype in (*REAL, *WHOLE, bool):
            values = of(np.arange(6).reshape(2, 3), dtype)
            yield case("Pad", values, ints(1, 1, 1, 2), opsets=19, mode=mode)
    yield case("Pad", none(0, 3), ints(1, 1, 1, 2), opsets=18)


def shapes() -> Iterator[Case]:
    for count in range(1, 6):
        yield case("Split", x(2, 7), opsets=18, outputs=count, num_outputs=count, axis=1)
    yield case("Split", x(2, 6), opsets=(7, 11, 13), outputs=3, axis=-1)
    yield case("Split", x(2, 6), opsets=(7, 11), outputs=2, axis=1, split=[2, 4])
    yield case("Split", x(2, 6), ints(2, 0, 4), opsets=(13, 18), outputs=3, axis=1)
    for axes in ((), (0,), (-1,), (0, -1), (0, 2)):
        yield case("Squeeze", x(1, 2, 1), ints(*axes), opsets=13)
        yield case("Squeeze", x(1, 2, 1), opsets=(7, 11), **({"axes": list(axes)} if axes else {}))
    yield case("Squeeze", x(1, 1), opsets=(7, 13))
    for axes in ((0,), (0, 3), (-1,), (3, 0), (0, -1)):
        yield case("Unsqueeze", x(2, 3), ints(*axes), opsets=13)
        yield case("Unsqueeze", x(2, 3), opsets=(7, 11), axes=list(axes))
    yield case("Unsqueeze", feed(2.0), ints(0), opsets=13)
    for shape, target in (((0, 3), (0, 0)), ((0, 3), (3, 0)), ((2, 3, 4), (4, -1)), ((0, 3), (0, 3, 1))):
        for zero in (0, 1):
            yield case("Reshape", none(*shape), ints(*target), opsets=14, allowzero=zero)
    for target in ((0, -1), (-1, 0), (0, 0, 4), (24,), (2, 1, -1)):
        yield case("Reshape", X, ints(*target), opsets=(7, 13, 14, 19))
    yield case("Reshape", x(1), ints(), opsets=14)
    for axis in range(-3, 4):
        yield case("Flatten", X, opsets=(7, 11, 13), axis=axis)
    for start, end in ((0, 9), (1, 3), (-1, 3), (-2, -1), (1, 1), (0, 10), (-10, 2), (2, 1)):
        yield case("Shape", X, opsets=(15, 19), start=start, end=end)
    for one in (X, feed(1.0), none(0, 2)):
        yield case("Size", one, opsets=(7, 13))
        yield case("Shape", one, opsets=(7, 13))
        yield case("Identity", one, opsets=(7, 13))
    for target in ((3,), (2, 1, 1), (1,), (), (2, 3, 1)):
        yield case("Expand", x(3, 1), ints(*target), opsets=(8, 13))
    yield case("Tile", x(2, 3), ints(2, 0), opsets=13)
    yield case("Tile", feed([True, False], bool), ints(2), opsets=(7, 13))
    for opset in (7, 10, 12, 13, 22):
        yield case("Dropout", X, opsets=opset, outputs=2, **({"ratio": 0.3} if opset < 12 else {}))
    yield case("Dropout", X, np.float32(0.0), np.array(False), opsets=13, outputs=2)
    yield case("Concat", x(2, 3), none(0, 3), opsets=13, axis=0)
    yield case("Concat", x(2, 3), x(2, 1), opsets=(7, 11, 13), axis=-1)
    for dtype in (*REAL, *WHOLE):
        values = np.arange(32)
        for mode in ("DCR", "CRD"):
            block = of(values.reshape(1, 8, 2, 2), dtype)
            yield case("DepthToSpace", block, opsets=(11, 13), blocksize=2, mode=mode)
        yield case("SpaceToDepth", of(values.reshape(1, 2, 4, 4), dtype), opsets=13, blocksize=2)
        yield case("Transpose", of(values.reshape(2, 16), dtype), opsets=(7, 13))
        filled = helper.make_tensor("value", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [1], [5])
        yield case("ConstantOfShape", of([2, 3]), opsets=9, value=filled)
        yield case("Range", of(1, dtype), of(9, dtype), of(3, dtype), opsets=11)
    for row in ((5, 1, -2), (0, 1, 0.3), (0, -1, 1), (1, 1, 1), (0, 10, 3.3)):
        for dtype in REAL[:2]:
            yield case("Range", *(of(value, dtype) for value in row), opsets=11)


def indices() -> Iterator[Case]:
    cuts = ((-1, -100, -1), (5, 0, -2), (0, 100, 3), (3, 1, 1), (-2, 100, 1), (100, -100, -1),
            (2, -(2**63), -1), (4, 4, 1))  # fmt: skip
    for start, end, step in cuts:
        yield case("Slice", x(6, 2), ints(start), ints(end), ints(0), ints(step), opsets=(10, 13))
    for dtype in (np.int32, np.int64):
        yield case("Gather", X, of([[-1, 0], [1, -2]], dtype), opsets=(7, 13), axis=1)
        yield case("GatherElements", X, of([[[-1, 0, 1]]], dtype), opsets=13, axis=1)
    yield case("GatherND", X, of([[-1, -2], [0, 1]]), opsets=(11, 13))
    yield case("GatherND", x(2, 2, 3), of([[[-1, -1]], [[0, 1]]]), opsets=13, batch_dims=1)
    yield case("GatherND", none(0, 3), np.zeros((0, 1), np.int64), opsets=13)
    for how in ("none", "add", "mul", "min", "max"):
        twice = [[-1, -1], [0, 1]] + ([[-1, -1]] if how != "none" else [])
        for opset in (16, 18):
            yield case(
                "ScatterElements", X, of([[[-1, 0, 1, 2]]]), x(1, 1, 4), opsets=opset, axis=1, reduction=how
            )
            yield case("ScatterND", X, of(twice), x(len(twice), 4), opsets=opset, reduction=how)
        for dtype in (*REAL, *WHOLE, bool):
            data, new = of(np.arange(4), dtype), of([3, 1], dtype)
            yield case("ScatterElements", data, of([1, 2]), new, opsets=18, reduction=how)
            yield case("ScatterND", data, of([[1], [2]]), new, opsets=18, reduction=how)
    for one in (feed(1.0), feed(0.0), none(0, 2), *(of(TIES, dtype) for dtype in (*REAL, *WHOLE, bool))):
        yield case("NonZero", one, opsets=(9, 13))
    yield case("Compress", x(3, 4), np.array([False, True]), opsets=(9, 11), axis=1)
    yield case("Compress", x(3, 4), np.array([True, False]), opsets=11, axis=-2)
    yield case("Compress", x(2, 2), feed([0, 1, 1], bool), opsets=11)
    for axis in (-1, 0, 1, -2):
        yield case("OneHot", of([[0, 3], [-1, 9]]), ints(4), floats(0.5, 2), axis=axis, opsets=(9, 11))
    yield case("OneHot", feed([0.0, 2.0, -1]), np.float32(3), np.array([0, 1]), opsets=11)
    yield case("OneHot", of([-4, -5, 3, 4]), np.int64(4), floats(0, 1), opsets=11)
    yield case("OneHot", of([0, 1], np.int32), np.array([3]), np.array([5, 7], np.int32), opsets=11)
    yield case("Trilu", of(np.ones((3, 3)), bool), opsets=14)
    yield case("Trilu", of(np.ones((3, 3))), np.int64(9), opsets=14, upper=0)


def orders() -> Iterator[Case]:
    for dtype in (*REAL, *WHOLE):
        for op, last in product(("ArgMax", "ArgMin"), (0, 1)):
            yield case(op, of(TIES, dtype), opsets=(12, 13), axis=-1, keepdims=0, select_last_index=last)
        for largest, axis in product((0, 1), (0, 1)):
            yield case("TopK", of(TIES, dtype), ints(2), opsets=11, outputs=2, largest=largest, axis=axis)
        for exclusive, reverse in product((0, 1), repeat=2):
            how = {"exclusive": exclusive, "reverse": reverse}
            yield case("CumSum", of(TIES, dtype), np.int32(-1), opsets=(11, 14), **how)
    yield case("ArgMax", of(TIES, np.float32), opsets=(7, 11), axis=1)
    yield case("TopK", of(TIES, np.float32), opsets=7, outputs=2, k=3)
    yield case("TopK", of(TIES, np.float32), ints(3), opsets=10, outputs=2)
    yield case("TopK", x(2, 3), ints(0), opsets=11, outputs=2)


def versions() -> Iterator[Case]:
    """Opsets in which nothing but the accepted types changed."""
    for op, opsets in (("ArgMin", (7, 11)), ("Flatten", (9, 21, 23, 24)), ("Identity", (19, 21)),
                       ("IsNaN", (9,)), ("Size", (21, 24)), ("Transpose", (21, 24)), ("Mean", (7,)),
                       ("Max", (7,)), ("Min", (7,)), ("Sum", (7,)), ("ReduceLogSum", (13,)),
                       ("ReduceLogSumExp", (13,)), ("Relu", (7,)), ("Shape", (21, 24))):  # fmt: skip
        yield case(op, x(2, 3, 4, low=0.1), opsets=opsets)
    for op in ("Greater", "Less"):
        yield case(op, X, x(3, 1), opsets=(7, 9))
    yield case("Cast", X, opsets=(7, 21, 23, 24), to=7)
    yield case("CastLike", X, of([1]), opsets=(15, 21, 23))
    yield case("ConstantOfShape", of([2, 3]), opsets=(20, 21, 23))
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield case("Pad", X, ints(0, 1, 2, 0, 2, 1), opsets=(21, 23, 24), mode=mode)
    yield case("Slice", X, ints(0), ints(2), ints(1), opsets=11)
    yield case("Reshape", X, ints(0, -1), opsets=(21, 23, 24))
    yield case("Squeeze", x(1, 2, 1), ints(0), opsets=(21, 23, 24))
    yield case("Unsqueeze", X, ints(0), opsets=(21, 23, 24))


FAMILIES = {
    pads: 90,
    shapes: 200,
    indices: 100,
    orders: 60,
    versions: 40,
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_agrees_with_onnxruntime(family: Callable[[], Iterator[Case]], tmp_path: Path) -> None:
    agree(family(), tmp_path, FAMILIES[family])
