"""Operators beside the usual layers: sequences, bits, blocks, running products, gated activations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convlens.errors import UnsupportedError
from ops.models import (
    ABSENT,
    Case,
    case,
    check_gradient,
    compare,
    feed,
    ints,
    model_of,
    numbers,
    spread,
    torch_graph,
    x,
)

W = numbers
U8 = feed([[1, 2, 200], [255, 7, 128]], np.uint8)

BITS = [
    *(
        case(op, U8, np.array([3, 1, 129], np.uint8), opsets=18)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    *(case("BitwiseNot", feed([[1, -2, 70]], kind), opsets=18) for kind in (np.int8, np.int32, np.int64)),
    *(
        case("BitShift", feed(values, kind), np.array([1, 3, 0], kind), opsets=11, direction=way)
        for kind, values in ((np.uint8, [1, 200, 255]),)
        for way in ("LEFT", "RIGHT")
    ),
    case("BitCast", x(2, 3), opsets=26, to=6),
    case("BitCast", feed([1, -5, 1 << 30], np.int32), opsets=26, to=1),
    case("BitCast", U8, opsets=26, to=3),
]
GATED = [
    case("Swish", x(2, 3), opsets=24),
    case("Swish", x(2, 3), opsets=24, alpha=0.4),
    case("Shrink", x(3, 4), opsets=(9, 17)),
    case("Shrink", x(3, 4), lambd=0.9, bias=0.2),
]
BLOCKS = [
    case("Col2Im", x(2, 8, 6), ints(3, 4), ints(2, 2), opsets=18),
    case("Col2Im", x(2, 18, 12), ints(5, 6), ints(3, 3), opsets=18, pads=[1, 0, 1, 0], strides=[2, 1]),
    case("Col2Im", x(2, 8, 4), ints(4, 5), ints(2, 2), opsets=18, dilations=[2, 3]),
    case("Col2Im", x(1, 8, 12), ints(3, 4, 3), ints(2, 2, 2), opsets=18),
    *(
        case("CenterCropPad", x(1, 8, 5), ints(*size), opsets=18, **more)
        for size, more in (
            ((1, 5, 9), {}),
            ((1, 3, 2), {}),
            ((7, 8), {"axes": [2, 1]}),
            ((4,), {"axes": [-2]}),
            ((3, 10), {"axes": [1, -1]}),
        )
    ),
    case("ReverseSequence", x(4, 3, 2), ints(1, 4, 2), opsets=10),
    case("ReverseSequence", x(3, 4), ints(1, 4, 2), opsets=10, time_axis=1, batch_axis=0),
    case("TensorScatter", x(2, 3, 5, 2), x(2, 3, 2, 2), opsets=24),
    case("TensorScatter", x(2, 3, 5, 2), x(2, 3, 2, 2), ints(3, 0), opsets=24),
    case("TensorScatter", x(2, 5, 2), x(2, 3, 2), ints(4, 1), opsets=24, axis=1, mode="circular"),
    case("EyeLike", x(3, 4), opsets=(9, 22)),
    *(case("EyeLike", x(3, 4), k=k, dtype=7) for k in (-1, 0, 2)),
    *(
        case("Unique", feed(values), opsets=11, outputs=4, sorted=order, **more)
        for order in (0, 1)
        for values, more in (
            ([2, 1, 1, 3, 4, 3], {}),
            ([[3, 1], [3, 1], [2, 9], [3, 1]], {"axis": 0}),
            ([[3, 3, 1], [2, 2, 0]], {"axis": 1}),
            ([[3, 3, 1], [2, 2, 0]], {}),
        )
    ),
]
RUNNING = [
    *(
        case("CumProd", x(2, 3, 4), np.array(axis), opsets=26, exclusive=e, reverse=r)
        for axis in (0, 1, -1)
        for e in (0, 1)
        for r in (0, 1)
    ),
    case("Det", x(3, 4, 4), opsets=(11, 22)),
    case("Det", x(2, 2)),
    case("Inverse", x(2, 3, 3, low=-0.3, high=0.3), domain="com.microsoft"),
    *(case("Trilu", x(2, 3, 4), domain="com.microsoft", upper=upper) for upper in (0, 1)),
    *(case("CumSum", x(2, 3, 4), np.array(1), opsets=(11, 14), exclusive=e, reverse=1 - e) for e in (0, 1)),
    *(
        case("Einsum", *sources, opsets=12, equation=equation)
        for equation, sources in (
            ("ii->i", (x(3, 3),)),
            ("ii", (x(3, 3),)),
            ("...ij->...ji", (x(2, 3, 4),)),
            (" b i j , b j k ", (x(2, 3, 4), x(2, 4, 5))),
            ("bhwc,hkc->bhwk", (x(2, 3, 4, 5), x(3, 6, 5))),
            ("...ij,...jk->...ik", (x(2, 2, 3, 4), x(2, 2, 4, 2))),
            ("nchw,nkhw->nck", (x(2, 3, 4, 4), x(2, 5, 4, 4))),
            ("ij->", (x(3, 4),)),
            ("bi,i,ij->bj", (x(2, 3), x(3), x(3, 4))),
        )
    ),
]
# onnxruntime has no kernel for these
SPECIFIED = [
    case("SwiGLU", x(2, 3), x(2, 3, seed=1), opsets=28, alpha=0.7),
    case("CausalConvWithState", x(2, 4, 6), x(4, 1, 3), opsets=27, outputs=2),
    case(
        "CausalConvWithState",
        x(2, 4, 2),
        x(4, 1, 4),
        x(4),
        x(2, 4, 3),
        opsets=27,
        outputs=2,
        activation="silu",
    ),
    *(
        case(
            "LinearAttention",
            x(2, 3, 8),
            x(2, 3, keys, seed=1),
            x(2, 3, 4, seed=2),
            past,
            gate if "gated" in rule else ABSENT,
            x(2, 3, 2, seed=4) if "delta" in rule else ABSENT,
            opsets=27,
            outputs=2,
            q_num_heads=queries,
            kv_num_heads=2,
            update_rule=rule,
            **more,
        )
        for rule in ("linear", "gated", "delta", "gated_delta")
        for queries, keys, past, gate, more in (
            (4, 4, ABSENT, x(2, 3, 2, seed=3), {}),
            (2, 8, x(2, 2, 4, 2), x(2, 3, 8, seed=3), {"scale": 0.3}),
        )
    ),
    case("RoiAlign", x(2, 3, 8, 9), W(4, 4, low=0, high=8), ints(0, 1, 1, 0), opsets=22, output_height=2),
]
CASES = [*BITS, *GATED, *BLOCKS, *RUNNING]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread(SPECIFIED))
def test_agrees_with_the_specification(one: Case, opset: int, tmp_path: Path) -> None:
    model = one.model(opset)
    names = [output.name for output in model.graph.output]
    feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
    found = torch_graph(model, tmp_path).values(feeds, names)
    for name, wanted in zip(names, ReferenceEvaluator(model).run(None, one.feeds), strict=True):
        np.testing.assert_allclose(found[name].numpy(), wanted, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("one", "opset"), spread([c for c in [*CASES, *SPECIFIED] if c.smooth and c.op != "BitCast"], latest=True)
)
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize("way", ["LEFT", "RIGHT"])
def test_shifts_of_wide_numbers(way: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("BitShift", ["x", "by"], ["z"], direction=way),
        helper.make_node("Cast", ["z"], ["y"], to=7),
    ]
    feeds = {"x": np.array([1, 2**31 + 7, 9], np.uint32)}
    model = model_of(nodes, feeds, ["y"], {"by": np.array([1, 3, 30], np.uint32)})
    compare(model, feeds, tmp_path)


def test_norms_of_even_neighbourhoods(tmp_path: Path) -> None:
    """onnxruntime refuses even sizes: of the four channels one is in front and two are behind."""
    one = case("LRN", x(1, 5, 2, 3), opsets=13, size=4, alpha=0.3)
    value = one.feeds["x0"].astype(np.float64)
    expected = np.empty_like(value)
    for c in range(5):
        energy = (value[:, max(c - 1, 0) : c + 3] ** 2).sum(axis=1)
        expected[:, c] = value[:, c] / (1 + 0.3 / 4 * energy) ** 0.75
    found = torch_graph(one.model(13), tmp_path).values({"x0": torch.from_numpy(value).float()}, ["y0"])["y0"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


HALF = [
    case("AffineGrid", x(2, 2, 3), ints(2, 3, 4, 5), opsets=20),
    case("DFT", x(2, 8, 1), opsets=17),
    case("DFT", x(2, 7, 2), opsets=17, inverse=1),
    case("STFT", x(2, 20, 1), np.int64(4), W(8), opsets=17),
    case("Det", x(2, 3, 3)),
    case("LayerNormalization", x(2, 3, 4), W(4), W(4, seed=1), outputs=3),
    case("GroupNormalization", x(2, 6, 4), W(6), W(6, seed=1), opsets=21, num_groups=3),
    case("InstanceNormalization", x(2, 3, 4), W(3), W(3, seed=1)),
    case("RMSNormalization", x(2, 3, 4), W(4), opsets=23),
    case(
        "RoiAlign",
        x(2, 3, 8, 9),
        np.float32([[0, 1, 5, 7], [2, 2, 3, 6]]),
        ints(0, 1),
        opsets=16,
        output_height=2,
    ),
    case("DeformConv", x(1, 2, 4, 4), x(3, 2, 2, 2), x(1, 8, 3, 3), opsets=19),
    case("LSTM", x(4, 2, 3), W(1, 8, 3), W(1, 8, 2), outputs=3, hidden_size=2),
    case("Attention", x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), opsets=24, is_causal=1),
    case("LpPool", x(1, 2, 6, 6), kernel_shape=[2, 2]),
    case("Swish", x(2, 3), opsets=24),
]


@pytest.mark.parametrize(("one", "opset"), spread(HALF))
def test_half_precision(one: Case, opset: int, tmp_path: Path) -> None:
    """Within the steps of half precision, of which there are about a thousand in a factor of two."""
    sources = [
        s and type(s)(s.array.astype(np.float16) if s.array.dtype.kind == "f" else s.array)
        for s in one.inputs
    ]
    half = replace(one, inputs=sources)
    compare(half.model(opset), half.feeds, tmp_path, tolerance=4e-3)


def made(*nodes: tuple[Any, ...], stored: dict[str, Any] | None = None, opset: int = 17) -> Any:
    """A model from rows of operator, inputs, outputs and attributes, that reads ``x`` and gives ``y``."""
    return model_of(
        [
            helper.make_node(op, reads, writes, **(rest[0] if rest else {}))
            for op, reads, writes, *rest in nodes
        ],
        {"x": numbers(2, 6, 4)},
        ["y"],
        {name: np.asarray(value) for name, value in (stored or {}).items()},
        opset,
    )


SEQUENCES = {
    "split": made(
        ("SplitToSequence", ["x", "sizes"], ["s"], {"axis": 1}),
        ("SequenceAt", ["s", "one"], ["a"]),
        ("SequenceAt", ["s", "last"], ["b"]),
        ("Concat", ["b", "a"], ["y"], {"axis": 1}),
        stored={"sizes": ints(1, 2, 3), "one": np.int64(1), "last": np.int64(-1)},
    ),
    "chunk": made(
        ("SplitToSequence", ["x", "size"], ["s"], {"axis": 1}),
        ("SequenceAt", ["s", "one"], ["y"]),
        stored={"size": np.int64(4), "one": np.int64(1)},
    ),
    "unbind": made(
        ("SplitToSequence", ["x"], ["s"], {"axis": 2, "keepdims": 0}),
        ("ConcatFromSequence", ["s"], ["y"], {"axis": 1, "new_axis": 1}),
    ),
    "single": made(
        ("SplitToSequence", ["x"], ["s"], {"axis": 2}),
        ("ConcatFromSequence", ["s"], ["y"], {"axis": 1}),
    ),
    "built": made(
        ("Relu", ["x"], ["a"]),
        ("SequenceConstruct", ["x", "a"], ["s"]),
        ("Neg", ["x"], ["b"]),
        ("SequenceInsert", ["s", "b", "one"], ["t"]),
        ("SequenceErase", ["t", "zero"], ["u"]),
        ("SequenceInsert", ["u", "x"], ["v"]),
        ("ConcatFromSequence", ["v"], ["y"], {"axis": 0}),
        stored={"one": np.int64(1), "zero": np.int64(0)},
    ),
    "grown": made(
        ("SequenceEmpty", [], ["s"]),
        ("SequenceInsert", ["s", "x"], ["t"]),
        ("SequenceLength", ["t"], ["n"]),
        ("Cast", ["n"], ["f"], {"to": 1}),
        ("SequenceErase", ["t"], ["u"]),
        ("SequenceInsert", ["u", "x"], ["v"]),
        ("SequenceAt", ["v", "zero"], ["w"]),
        ("Mul", ["w", "f"], ["y"]),
        stored={"zero": np.int64(0)},
    ),
    "optional": made(
        ("Optional", ["x"], ["o"]),
        ("OptionalHasElement", ["o"], ["h"]),
        ("OptionalGetElement", ["o"], ["e"]),
        ("Cast", ["h"], ["f"], {"to": 1}),
        ("Mul", ["e", "f"], ["y"]),
        opset=18,
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_lists_pass_through_the_graph(name: str, tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 6, 4)}
    compare(SEQUENCES[name], feeds, tmp_path)
    check_gradient(SEQUENCES[name], feeds, tmp_path)


def test_a_list_is_not_a_value(tmp_path: Path) -> None:
    graph = torch_graph(SEQUENCES["split"], tmp_path)
    with pytest.raises(UnsupportedError, match="'s' is a list of tensors"):
        graph.values({"x": torch.from_numpy(numbers(2, 6, 4))}, ["s"])
