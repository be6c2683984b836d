"""Variants and element types of the operators that calculate, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from convlens.errors import UnsupportedError
from ops.models import ABSENT, Case, Feed, case, feed, ints, numbers, torch_graph, x
from ops.variants import REAL, SIGNED, WHOLE, agree, none, of

X = x(2, 3, 4)
BIG = feed([-1e4, -100, -30, -1, -0.0, 0, 1, 20, 30, 100, 1e4])


def reductions() -> Iterator[Case]:
    kinds = ("L1", "L2", "LogSum", "LogSumExp", "SumSquare", "Sum", "Mean", "Max", "Min", "Prod")
    for op in (f"Reduce{kind}" for kind in kinds):
        yield case(op, X, opsets=18, noop_with_empty_axes=1)
        yield case(op, X, ints(), opsets=18, noop_with_empty_axes=1)
        yield case(op, X, ints(), opsets=18)
        yield case(op, X, of([]), opsets=18)
        yield case(op, feed(3.5), opsets=18)
        yield case(op, x(3), ints(0), opsets=18, keepdims=0)
        yield case(op, feed([np.inf, 1, 3]), opsets=18)
        yield case(op, feed([-np.inf, -np.inf]), opsets=18)
        for keep in (0, 1):
            yield case(op, none(2, 0, 4), ints(1), opsets=18, keepdims=keep)
            yield case(op, none(2, 0, 4), opsets=18, keepdims=keep)
            yield case(op, none(0, 3), ints(1), opsets=18, keepdims=keep)
        for dtype in (*REAL, *WHOLE, bool):
            values = of(np.arange(1, 13).reshape(3, 4), dtype)
            yield case(op, values, ints(1), opsets=20)
            yield case(op, values, opsets=20)
            yield case(op, values, opsets=(7, 11, 12), axes=[1])


def clips() -> Iterator[Case]:
    for low, high in ((0, 1), (1, 0), (3, -1)):
        yield case("Clip", X, np.float32(low), np.float32(high), opsets=(11, 13))
        yield case("Clip", X, opsets=(7, 10), min=float(low), max=float(high))
        yield case("Clip", X, feed(low), feed(high), opsets=13)
    yield case("Clip", X, np.float32(0.3), opsets=12)
    yield case("Clip", X, ABSENT, np.float32(0.3), opsets=13)
    yield case("Clip", X, opsets=(7, 13))
    yield case("Clip", feed([np.nan, 1, -5]), np.float32(0), np.float32(6), opsets=13)
    for dtype in (*REAL, *WHOLE):
        yield case("Clip", of(np.arange(6), dtype), dtype(2), dtype(4), opsets=(12, 13))
        yield case("Clip", of(np.arange(6), dtype), dtype(2), opsets=13)


def activations() -> Iterator[Case]:
    described: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Elu", {"alpha": 2.0}), ("Elu", {"alpha": -1.0}), ("Celu", {"alpha": 0.3}), ("Celu", {"alpha": 2.0}),
        ("Selu", {"alpha": 2.0, "gamma": 3.0}), ("LeakyRelu", {"alpha": -0.2}), ("LeakyRelu", {"alpha": 2.0}),
        ("HardSigmoid", {"alpha": -0.2, "beta": 0.1}), ("ThresholdedRelu", {"alpha": -0.5}),
        ("ThresholdedRelu", {"alpha": 0.5}), ("Softplus", {}), ("Softsign", {}), ("Mish", {}),
        ("HardSwish", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Sigmoid", {}), ("Tanh", {}),
        ("Erf", {}), ("Relu", {}),
    )  # fmt: skip
    for op, attributes in described:
        for opset in (7, 12, 16, 22):
            yield case(op, BIG, opsets=opset, **attributes)
            for dtype in REAL[1:]:
                yield case(op, of(numbers(3, 4), dtype), opsets=opset, **attributes)
    for dtype in SIGNED:
        yield case("Relu", of(np.arange(-3, 3), dtype), opsets=14)
    for slope in ((3, 1), (1,), (4,), (2, 3, 4), (1, 3, 1)):
        yield case("PRelu", X, numbers(*slope), opsets=(7, 9, 16))
        yield case("PRelu", X, x(*slope), opsets=16)
    yield case("PRelu", x(2, 3, 4, 5), numbers(3, 1, 1), opsets=16)
    yield case("PRelu", x(2, 3, 4, 3), numbers(3), opsets=16)
    yield case("PRelu", x(2, 3), numbers(3), opsets=16)
    yield case("PRelu", x(3), numbers(3), opsets=16)
    yield case("PRelu", of(numbers(2, 3), np.float64), numbers(3).astype(np.float64), opsets=16)
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for axis in (-1, 0, 1, 2):
            yield case(op, X, opsets=(7, 11, 13), axis=axis)
        yield case(op, X, opsets=(7, 11, 13))
        yield case(op, feed([[1, 2, 2], [3, 3, 1]]), opsets=13)
        yield case(op, none(0, 3), opsets=13)
        yield case(op, feed([[1e4, -1e4, 0]]), opsets=13)
        for dtype in REAL[1:]:
            yield case(op, of(numbers(2, 3), dtype), opsets=13)


def casts() -> Iterator[Case]:
    for source, target in product((*REAL, *WHOLE, bool), repeat=2):
        kinds = np.dtype(source).kind, np.dtype(target).kind
        values: list[float] = [0, 1, 2, 100, 120]
        if kinds[0] == "f":
            values = [0, 0.5, 1.9, 100.7] + ([] if kinds[1] == "u" else [-1.9, -100.2])
        elif kinds[0] == "i" and target is not np.uint64:
            values = [0, 1, -2, 100, -128]
        to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
        yield case("Cast", of(values, source), opsets=(9, 19), to=to)
        yield case("CastLike", of(values, source), of([0], target), opsets=19)


def arithmetic() -> Iterator[Case]:
    for op, dtype in product(("Add", "Sub", "Mul", "Div"), (*REAL, *WHOLE)):
        if (op, dtype) != ("Sub", np.uint64):
            yield case(op, of([7, 200, 3, 100], dtype), of([9, 100, 200, 7], dtype), opsets=14)
    for op in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Min", "Max", "Mod"):
        for dtype in (*REAL, *WHOLE, bool):
            a, b = of([7, 200, 3, 100], dtype), of([9, 100, 3, 7], dtype)
            for opset in (9, 12, 13):
                yield case(op, a, b, opsets=opset)
            if op == "Mod":
                yield case(op, a, b, opsets=13, fmod=1)
    for dtype in (*REAL, *WHOLE, bool):
        yield case("Where", feed([1, 0, 1], bool), of([1, 0, 3], dtype), of([0, 1, 2], dtype), opsets=(9, 16))
        yield case("Pow", of([2, 3, 1, 5], dtype), of([2, 3, 4, 0], dtype), opsets=(7, 15))
        for op in ("Abs", "Neg", "Sign"):
            yield case(op, of([1, 2, 0], dtype), opsets=13)
    for fmod, opset in product((0, 1), (10, 13)):
        yield case("Mod", of([-7, 7, -7, 7]), of([3, -3, -3, 3]), opsets=opset, fmod=fmod)
    yield case("Mod", feed([-4.3, 7.2, 5.0]), feed([2.1, -3.4, 8.0]), opsets=13, fmod=1)
    yield case("Div", of([-7, 7, -7, 7]), of([3, -3, -3, 3]), opsets=(7, 14))
    yield case("Pow", feed([-2.0, -2.0, 0, 0, np.inf]), feed([0.5, 3, 0, -1, 0]), opsets=15)
    mixed = ((np.float32, 2, np.int32, 3), (np.int32, 2, np.float32, 0.5), (np.int64, 3, np.float64, 2),
             (np.float64, 2, np.float32, 1.5), (np.int32, -2, np.int64, 3))  # fmt: skip
    for kind, value, other, power in mixed:
        yield case("Pow", of([value], kind), of([power], other), opsets=15)
    unary = (
        "Sqrt", "Log", "Reciprocal", "Exp", "Floor", "Ceil", "Round", "Sin", "Cos", "Tan", "Atan",
        "Sinh", "Asinh", "Erf", "IsNaN", "IsInf",
    )  # fmt: skip
    for op, dtype in product(unary, REAL):
        yield case(op, of(numbers(5, low=0.1), dtype), opsets=20)
    for op in ("Sqrt", "Log", "Reciprocal", "Sign", "Exp"):
        yield case(op, feed([-1.0, 0.0, -0.0, 4, np.nan, np.inf]), opsets=13)
    for op, dtype in product(("Sum", "Mean", "Min", "Max"), (*REAL, *WHOLE)):
        yield case(op, of([1, 2, 3], dtype), of([3], dtype), of([[2], [9]], dtype), opsets=13)
        yield case(op, of([1, 2, 3], dtype), opsets=(8, 13))


def products() -> Iterator[Case]:
    for dtype in (*REAL, *WHOLE):
        a, b = np.arange(6).reshape(2, 3).astype(dtype), np.arange(6).reshape(3, 2).astype(dtype)
        yield case("MatMul", Feed(a), b, opsets=(9, 13))
        yield case("Gemm", Feed(a), b, np.arange(2).astype(dtype), opsets=13)
        yield case("Gemm", Feed(a), Feed(b), opsets=(11, 13), alpha=2.0)
        yield case("Einsum", Feed(a), b, opsets=12, equation="ij,jk->ik")
    for bias, transposed in product(((2,), (1,), (1, 2), (3, 1), (3, 2), ()), (0, 1)):
        matrix = numbers(2, 4) if transposed else numbers(4, 2)
        how = {"transB": transposed, "alpha": 0.7, "beta": 1.3}
        yield case("Gemm", x(3, 4), matrix, numbers(*bias), opsets=(7, 11, 13), **how)
    yield case("Gemm", x(4, 3), numbers(4, 2), opsets=11, transA=1)
    shapes = (((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3, 2)), ((4, 2, 3), (4, 3, 2)),
              ((1, 2, 3), (4, 3, 2)), ((5, 1, 2, 3), (4, 3, 2)))  # fmt: skip
    for left, right in shapes:
        yield case("MatMul", x(*left), numbers(*right), opsets=(7, 13))
        yield case("MatMul", x(*left), x(*right), opsets=13)
    sums: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...] = (
        ("ij,jk", ((2, 3), (3, 4))), ("bij,bjk->bik", ((2, 2, 3), (2, 3, 4))), ("ii->i", ((3, 3),)),
        ("...ij,...jk->...ik", ((2, 2, 3), (2, 3, 4))), ("ij->", ((2, 3),)), ("i,i", ((3,), (3,))),
        ("ij , jk -> ik", ((2, 3), (3, 4))), ("bhwc,hkc->bhwk", ((1, 2, 3, 4), (2, 5, 4))),
        ("...i->...", ((2, 3),)), ("ij->ji", ((2, 3),)),
    )  # fmt: skip
    for equation, given in sums:
        yield case("Einsum", *(x(*shape) for shape in given), opsets=12, equation=equation)


FAMILIES = {
    reductions: 250,
    clips: 30,
    activations: 150,
    casts: 400,
    arithmetic: 250,
    products: 90,
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_agrees_with_onnxruntime(family: Callable[[], Iterator[Case]], tmp_path: Path) -> None:
    agree(family(), tmp_path, FAMILIES[family])


@pytest.mark.parametrize(
    "one",
    [
        case("Sub", of([1], np.uint64), of([2], np.uint64), opsets=14),
        case("Cast", of([-1]), opsets=13, to=13),
        case("Add", of([2**63], np.uint64), of([0], np.uint64), opsets=14),
    ],
    ids=lambda one: one.op,
)
def test_refuses_what_int64_cannot_hold(one: Case, tmp_path: Path) -> None:
    graph = torch_graph(one.model(one.opsets[0]), tmp_path)
    with pytest.raises(UnsupportedError, match="2\\^63"):
        graph.values({name: graph.working(array, name) for name, array in one.feeds.items()}, ["y0"])
