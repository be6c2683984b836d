"""Arithmetic, shapes, indexing and reductions against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.models import (
    ABSENT,
    Case,
    Feed,
    case,
    check_gradient,
    compare,
    feed,
    floats,
    ints,
    numbers,
    spread,
    x,
)

X = x(2, 3, 4)
ODD = feed([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, np.nan, np.inf, -np.inf, 0.0])
NATURAL = x(2, 3, 4, low=0.1)
UNIT = x(2, 3, 4, low=-0.9, high=0.9)
A, B = feed([-7, -3, 0, 3, 7, 8], np.int64), feed([2, -2, 3, -2, 4, -3], np.int64)
YES = feed([[True, False, True], [False, False, True]], bool)
NO = feed([[True, True, False], [False, True, True]], bool)

ARITHMETIC = [
    *(
        case(op, a, b, opsets=(7, 13, 14))
        for op in ("Add", "Sub", "Mul", "Div")
        for a, b in ((X, x(3, 1)), (x(4), X), (X, numbers(1)), (X, numbers()), (A, B))
    ),
    case("Pow", NATURAL, x(2, 3, 4), opsets=(7, 12, 15)),
    case("Pow", X, np.float32(2), opsets=(7, 15)),
    case("Pow", X, np.float32(3), opsets=15),
    case("Pow", X, np.int64(3), opsets=15),
    case("Pow", NATURAL, np.float32(0.5), opsets=15),
    case("Pow", A, np.int64(3), opsets=15),
    case("Pow", A, np.float32(2.0), opsets=15),
    case("Mod", A, B, opsets=(10, 13)),
    case("Mod", A, B, fmod=1),
    case("Mod", X, x(4, low=0.5), fmod=1),
    *(case(op, X, opsets=(7, 13)) for op in ("Neg", "Abs", "Exp", "Floor", "Ceil", "Sin", "Cos")),
    *(case(op, NATURAL, opsets=(7, 13)) for op in ("Sqrt", "Log", "Reciprocal")),
    *(case(op, UNIT, opsets=9) for op in ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh")),
    case("Acosh", x(2, 3, low=1.1), opsets=9),
    case("Atanh", UNIT, opsets=9),
    *(case(op, ODD) for op in ("Round", "IsNaN", "IsInf", "Abs", "Neg")),
    *(case(op, X, opsets=(9, 13)) for op in ("Sign", "Erf")),
    case("Round", X, opsets=11),
    case("Abs", A),
    case("Sign", A),
    case("Neg", A),
    case("IsInf", ODD, opsets=(10, 20), detect_negative=0),
    case("IsInf", ODD, opsets=(10, 20), detect_positive=0),
    *(
        case(op, *xs, opsets=(8, 13))
        for op in ("Min", "Max", "Sum", "Mean")
        for xs in ((X,), (X, x(3, 1)), (X, x(4), numbers(2, 1, 4)))
    ),
    case("Max", A, B, opsets=(12, 13)),
    case("Min", A, B, opsets=(12, 13)),
    case("Equal", A, B, opsets=(7, 11, 13)),
    case("Equal", YES, NO),
    *(case(op, X, x(3, 1), opsets=(9, 13)) for op in ("Greater", "Less")),
    *(case(op, X, x(3, 1), opsets=(12, 16)) for op in ("GreaterOrEqual", "LessOrEqual")),
    *(case(op, A, B) for op in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")),
    *(case(op, YES, NO, opsets=7) for op in ("And", "Or", "Xor")),
    case("Not", YES),
    case("Where", YES, x(2, 3), x(1, 3), opsets=(9, 16)),
    case("Where", YES, x(2, 3), np.float32(0)),
    case("Where", np.array([[True], [False]]), x(2, 3), x(3)),
]

SHAPES = [
    case("Identity", X, opsets=(7, 14)),
    *(
        case("Cast", source, opsets=(9, 13, 19), to=to)
        for source, to in ((X, 7), (X, 9), (X, 11), (X, 10), (A, 1), (A, 9), (YES, 1), (X, 6))
    ),
    case("CastLike", X, np.zeros(1, np.int32), opsets=15),
    case("Dropout", X, opsets=(7, 10), ratio=0.3),
    case("Dropout", X, opsets=(7, 10, 13), outputs=2),
    case("Dropout", X, np.float32(0.3), opsets=(12, 13)),
    case("Dropout", X, np.float32(0.3), np.array(False), opsets=13, outputs=2),
    *(
        case("Reshape", X, spec, opsets=(7, 13))
        for spec in (ints(6, 4), ints(0, -1), ints(-1), ints(2, 0, 2, 2), ints(1, -1, 1, 4))
    ),
    case("Reshape", X, feed([0, 12], np.int64)),
    case("Reshape", x(0, 3), ints(3, 0), opsets=14, allowzero=1),
    *(case("Flatten", X, opsets=(7, 11, 13), axis=axis) for axis in (0, 1, 2, 3)),
    case("Flatten", X),
    case("Flatten", X, opsets=(11, 13), axis=-1),
    case("Transpose", X),
    case("Transpose", X, perm=[1, 2, 0]),
    *(case("Squeeze", x(1, 3, 1, 4), opsets=(7, 11), axes=axes) for axes in ([0], [0, 2])),
    case("Squeeze", x(1, 3, 1, 4), opsets=11, axes=[-2]),
    *(case("Squeeze", x(1, 3, 1, 4), a, opsets=(13, 21)) for a in (ints(0), ints(-2, 0))),
    case("Squeeze", x(1, 3, 1, 4), opsets=(7, 13)),
    case("Squeeze", x(1, 3, 1, 4), feed([2], np.int64), opsets=13),
    *(case("Unsqueeze", X, opsets=(7, 11), axes=axes) for axes in ([0], [1, 3], [0, 1, 2])),
    case("Unsqueeze", X, opsets=11, axes=[-1]),
    *(case("Unsqueeze", X, a, opsets=(13, 21)) for a in (ints(0), ints(-1, 1), ints(4, 0))),
    case("Unsqueeze", X, feed([1], np.int64), opsets=13),
    *(case("Expand", x(3, 1), s, opsets=(8, 13)) for s in (ints(2, 1, 4), ints(1), ints(3, 4))),
    case("Expand", x(3, 1), feed([2, 3, 4], np.int64)),
    case("Tile", X, ints(2, 1, 3), opsets=(7, 13)),
    case("Tile", X, feed([1, 2, 1], np.int64)),
    case("Shape", X, opsets=(7, 13)),
    *(case("Shape", X, opsets=15, **a) for a in ({"start": 1}, {"start": -2, "end": -1}, {"end": 9})),
    case("Size", X),
    *(case("Concat", X, x(2, 1, 4), numbers(2, 2, 4), opsets=(7, 13), axis=1) for _ in (0,)),
    case("Concat", X, x(2, 3, 1), opsets=(11, 13), axis=-1),
    *(case("Split", X, opsets=(7, 11), outputs=2, axis=2, **a) for a in ({}, {"split": [1, 3]})),
    case("Split", X, opsets=11, outputs=3, axis=-2),
    case("Split", X, ints(1, 3), opsets=(13, 18), outputs=2, axis=-1),
    case("Split", X, feed([2, 2], np.int64), opsets=13, outputs=2, axis=-1),
    case("Split", X, opsets=13, outputs=2, axis=2),
    case("Split", x(7, 2), opsets=18, outputs=3, num_outputs=3),
    case("Split", x(5, 2), opsets=18, outputs=5, num_outputs=5),
    *(
        case("DepthToSpace", x(2, 8, 3, 2), opsets=(11, 13), blocksize=2, mode=mode)
        for mode in ("DCR", "CRD")
    ),
    case("DepthToSpace", x(1, 9, 2, 2), opsets=7, blocksize=3),
    case("SpaceToDepth", x(2, 2, 4, 6), opsets=(7, 13), blocksize=2),
    case("ConstantOfShape", feed([2, 3], np.int64)),
    case("Range", feed(1.0), np.float32(4.1), np.float32(0.5), opsets=11),
    case("Range", feed(9, np.int64), np.int64(2), np.int64(-2), opsets=11),
    case("Range", feed(3, np.int64), np.int64(2), np.int64(1), opsets=11),
]

PADS = [
    case("Pad", X, opsets=(7, 10), pads=[0, 1, 2, 0, 2, 1], value=0.5),
    *(
        case("Pad", X, ints(0, 1, 2, 0, 2, 1), opsets=(11, 13, 19), mode=mode)
        for mode in ("constant", "reflect", "edge")
    ),
    *(case("Pad", X, opsets=7, mode=m, pads=[0, 1, 2, 0, 2, 1]) for m in ("reflect", "edge")),
    case("Pad", X, ints(0, 1, 2, 0, 2, 1), opsets=19, mode="wrap"),
    case("Pad", X, ints(0, 1, 2, 0, 2, 1), np.float32(0.7), opsets=(11, 18)),
    case("Pad", X, ints(0, -1, 2, 0, 0, -1), opsets=(11, 18)),
    *(case("Pad", X, ints(0, -1, 2, 0, 1, -1), opsets=18, mode=m) for m in ("edge", "reflect")),
    case("Pad", X, ints(1, 2), ABSENT, ints(-1), opsets=18),
    case("Pad", X, ints(1, 2, 0, 1), np.float32(-1), ints(2, 1), opsets=18),
    case("Pad", X, feed([0, 1, 0, 0, 0, 2], np.int64), feed(0.5), opsets=13),
    case("Pad", A, ints(2, 1), np.int64(3)),
]

BIG = 2**63 - 1
I3 = feed([2, 0, -1], np.int64)
INDEXING = [
    case("Slice", X, opsets=(7, 9), starts=[1, -3], ends=[3, 2147483647], axes=[1, 2]),
    case("Slice", X, opsets=7, starts=[0, 1], ends=[1, -1]),
    *(
        case("Slice", X, ints(*a[0]), ints(*a[1]), *(ints(*i) for i in a[2:]), opsets=(10, 13))
        for a in (
            ((1, 0), (2, 2)),
            ((1, -3), (BIG, -1), (-2, 2)),
            ((0, 0), (BIG, BIG), (1, 2), (2, 3)),
            ((-1,), (-BIG,), (2,), (-1,)),
            ((3, 2), (0, -BIG), (2, 1), (-2, -1)),
            ((9,), (BIG,), (2,)),
            ((-9, 5), (2, -9), (2, 1), (1, -2)),
        )
    ),
    case("Slice", X, ints(0), ints(2), ABSENT, ints(1)),
    case("Slice", X, feed([1], np.int64), feed([3], np.int64), feed([2], np.int64)),
    *(
        case("Gather", X, places, opsets=(7, 11, 13), axis=axis)
        for axis in (0, 1, 2)
        for places in (np.array(1), np.array([[0, 1], [1, 0]]), np.array([1], np.int32))
    ),
    case("Gather", X, I3, opsets=11, axis=-1),
    case("Gather", x(4), feed(-1, np.int64), opsets=11),
    case("GatherElements", x(2, 3), np.array([[0, -1], [1, 1]]), opsets=(11, 13), axis=1),
    case("GatherElements", x(2, 3), np.array([[0, 1, 1]]), opsets=(11, 13)),
    case("GatherND", X, np.array([[0, 1], [1, -2]]), opsets=(11, 12)),
    case("GatherND", X, np.array([[[0, 1, 3]], [[1, 0, 2]]]), opsets=(11, 13)),
    case("GatherND", X, np.array([[1], [-1]]), opsets=(12, 13), batch_dims=1),
    case("GatherND", X, np.array([[[0], [2], [1]], [[3], [2], [0]]]), batch_dims=2),
    case("Scatter", x(2, 3), np.array([[1, 0]]), x(1, 2), opsets=9, axis=1),
    case("ScatterElements", x(3, 3), np.array([[1, -1]]), x(1, 2), opsets=(11, 13), axis=1),
    *(
        case("ScatterElements", x(3, 3), np.array([[1, 1]]), x(1, 2), axis=1, opsets=o, reduction=r)
        for r, o in (("add", (16, 18)), ("mul", (16, 18)), ("min", (18,)), ("max", (18,)))
    ),
    case("ScatterND", X, np.array([[0, 1], [1, -2]]), x(2, 4), opsets=(11, 13, 16)),
    case("ScatterND", X, np.array([[1]]), numbers(1, 3, 4)),
    *(
        case("ScatterND", x(4), np.array([[1], [1], [-1]]), x(3), opsets=18, reduction=r)
        for r in ("add", "mul", "min", "max")
    ),
    *(
        case("OneHot", feed([[0, 3], [-1, 9]], np.int64), np.int64(4), floats(0.5, 2), axis=axis)
        for axis in (-1, 0, 1)
    ),
    case("NonZero", feed([[0, 1], [2, 0]])),
    *(case("Trilu", x(3, 4), opsets=14, upper=u) for u in (0, 1)),
    *(case("Trilu", x(2, 3, 4), np.int64(k), opsets=14, upper=u) for u in (0, 1) for k in (-1, 1)),
    case("Compress", x(3, 2), np.array([True, False, True]), opsets=(9, 11), axis=0),
    case("Compress", x(3, 2), np.array([False, True, True])),
]

_TIES = feed([[1, 3, 3, 0], [2, 2, 1, 2]])
ORDERS = [
    case("TopK", X, opsets=7, outputs=2, k=2),
    case("TopK", X, ints(2), opsets=(10, 11), outputs=2, axis=1),
    case("TopK", X, ints(3), opsets=11, outputs=2, largest=0, axis=-1),
    case("TopK", _TIES, ints(3), opsets=11, outputs=2),
    case("TopK", _TIES, ints(3), opsets=11, outputs=2, largest=0),
    case("TopK", _TIES, feed([1], np.int64), outputs=2),
    *(
        case(op, _TIES, opsets=(12, 13), axis=axis, keepdims=keep, select_last_index=last)
        for op in ("ArgMax", "ArgMin")
        for axis, keep in ((0, 1), (-1, 0))
        for last in (0, 1)
    ),
    case("ArgMax", X, opsets=(7, 11)),
    *(
        case("CumSum", X, np.int64(axis), opsets=(11, 14), exclusive=e, reverse=r)
        for axis in (0, -1)
        for e in (0, 1)
        for r in (0, 1)
    ),
]

_KINDS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
REDUCTIONS = [
    *(
        case(f"Reduce{kind}", NATURAL, opsets=(7, 11), axes=axes, keepdims=keep)
        for kind in _KINDS
        for axes, keep in (([1], 1), ([0, 2], 0))
    ),
    *(case(f"Reduce{kind}", NATURAL, opsets=(7, 18)) for kind in _KINDS),
    *(case(f"Reduce{kind}", NATURAL, ints(-1, 0), opsets=18, keepdims=0) for kind in _KINDS),
    *(
        case(f"Reduce{kind}", NATURAL, ints(), opsets=18, noop_with_empty_axes=1)
        for kind in ("Sum", "Mean", "Max", "Min", "Prod")
    ),
    case("ReduceSum", X, ints(-2), opsets=13),
    case("ReduceSum", X, feed([1], np.int64), opsets=13),
    case("ReduceSum", X, opsets=13, noop_with_empty_axes=1),
    case("ReduceMean", X, opsets=13, axes=[-1, -2]),
    *(
        case(f"Reduce{kind}", feed([[7, -2], [3, 2]], np.int32), axes=[1])
        for kind in ("Mean", "Max", "Min", "Prod", "L1", "SumSquare")
    ),
    case("ReduceSum", feed([[7, -2], [3, 2]], np.int32), ints(1)),
    case("ReduceL2", Feed(np.zeros((2, 3), np.float32)), axes=[1]),
]

CASES = [*ARITHMETIC, *SHAPES, *PADS, *INDEXING, *ORDERS, *REDUCTIONS]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if c.smooth], latest=True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)
