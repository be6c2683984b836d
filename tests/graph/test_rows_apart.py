"""Operators that mix the rows of a batch, or hold them along another axis, are never freed wrongly.

What is freed gives for three images at once what the file as it was gives for each; whatever is not proven
stays as it is. Both against onnxruntime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convlens import ops
from convlens.graph.batchaxis.rows import Reads, Rows, Stuck
from convlens.graph.batchaxis.rules import RULES, follow
from convlens.graph.sizes import symbol
from graph.nets import model, numbers, op
from graph.test_batch import check_free, check_kept, ints, net

MS = {"domain": "com.microsoft"}
IMPORTS = {"imports": (helper.make_opsetid("com.microsoft", 1),)}
STEPS = [1, 5, 6]  # images x steps x features


def at(opset: int, *nodes: onnx.NodeProto, image: Any = (1, 4, 6, 6), **weights: Any) -> onnx.ModelProto:
    """A net of another opset."""
    stored = {name: np.asarray(array) for name, array in weights.items()}
    return model(nodes, {"image": image}, ["y"], stored, opset=opset, **IMPORTS)


def recurrent(kind: str, gates: int, *states: str, ways: int = 1) -> onnx.ModelProto:
    """Steps first, both states given for one image, as exporters write a layer that is batch first."""
    given = [*states, *["-"] * (2 - len(states))] if kind == "LSTM" else [*states[:1]]
    return net(
        op("Transpose", "image", "a", perm=[1, 0, 2]),
        op(
            kind,
            f"a w r - - {' '.join(given)}".rstrip(" -"),
            "d",
            hidden_size=3,
            direction="bidirectional" if ways == 2 else "forward",
        ),
        op("Transpose", "d", "e", perm=[2, 0, 1, 3]),
        op("Reshape", "e s", "y"),
        image=STEPS,
        w=numbers(ways, gates * 3, 6),
        r=numbers(ways, gates * 3, 3),
        h=numbers(ways, 1, 3),
        c=numbers(ways, 1, 3, seed=1),
        s=ints(1, 5, 3 * ways),
    )


FREE = {
    "lstm, both states": recurrent("LSTM", 4, "h", "c"),
    "lstm both ways": recurrent("LSTM", 4, "h", "c", ways=2),
    "lstm without states": recurrent("LSTM", 4),
    "gru both ways": recurrent("GRU", 3, "h", ways=2),
    "rnn": recurrent("RNN", 1, "h"),
    "class token behind patches": net(
        op("Reshape", "image s", "a"),
        op("Transpose", "a", "b", perm=[0, 2, 1]),
        op("Concat", "token b", "c", axis=1),
        op("Add", "c places", "d"),
        op("Gather", "d zero", "y", axis=1),
        s=ints(1, 4, 36),
        token=numbers(1, 1, 4),
        places=numbers(1, 37, 4),
        zero=np.array(0, np.int64),
    ),
    "class token of one row, stretched by Expand": net(
        op("Reshape", "image s", "a"),
        op("Expand", "token t", "b"),
        op("Concat", "b a", "y", axis=1),
        s=ints(1, 36, 4),
        t=ints(1, 1, 4),
        token=numbers(1, 1, 4),
    ),
    "einsum": net(
        op("Reshape", "image s", "a"), op("Einsum", "a w", "y", equation="btd,de->bte"),
        s=ints(1, 36, 4), w=numbers(4, 3),
    ),
    "running statistics": net(
        op("BatchNormalization", "image w w w v", "y"), w=numbers(4), v=numbers(4, low=0.5),
    ),
}  # fmt: skip

BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5]], np.float32)

KEPT = {
    "statistics over images": (at(13, op("MeanVarianceNormalization", "image", "y")), "MeanVarianceNorm"),
    "statistics of the batch": (
        net(
            op("BatchNormalization", "image w w w v", "y m n", training_mode=1),
            w=numbers(4), v=numbers(4, low=0.5),
        ),
        "BatchNormalization",
    ),
    "images where steps are expected": (
        net(
            op("LSTM", "image w r", "d", hidden_size=3), op("Squeeze", "d one", "y"),
            image=STEPS, w=numbers(1, 12, 6), r=numbers(1, 12, 3), one=ints(1),
        ),
        "LSTM",
        "not where it expects them",
    ),
    "attention": (at(23, op("Attention", "image image image", "y")), "Attention", "nothing is known"),
    "spectrum": (
        at(17, op("DFT", "image", "y", axis=1), image=(1, 6, 1)), "DFT", "nothing is known",
    ),
    "regions of named images": (
        at(
            16, op("RoiAlign", "image boxes zero", "y", output_height=2, output_width=2),
            boxes=BOXES, zero=ints(0, 0),
        ),
        "RoiAlign",
        "nothing is known",
    ),
    "boxes that are found": (
        net(
            op("NonMaxSuppression", "image scores", "found"), op("Cast", "found", "y", to=TensorProto.FLOAT),
            image=[1, 5, 4], scores=numbers(1, 2, 5),
        ),
        "NonMaxSuppression",
        "",
    ),
    "einsum over images": (
        net(
            op("Reshape", "image s", "a"), op("Einsum", "a w", "y", equation="bt,bd->td"),
            s=ints(1, 144), w=numbers(1, 3),
        ),
        "Einsum",
        "",
    ),
    "scale of all images": (
        net(
            op("DynamicQuantizeLinear", "image", "q s z"), op("ConvInteger", "q w z", "c"),
            op("Cast", "c", "f", to=TensorProto.FLOAT), op("Mul", "f s", "y"),
            w=np.ones((2, 4, 3, 3), np.uint8),
        ),
        "DynamicQuantizeLinear",
        "one scale",
    ),
    "quantised softmax": (
        at(
            17, op("QuantizeLinear", "image s z", "q"),
            op("QLinearSoftmax", "q s z s z", "r", axis=1, opset=13, **MS),
            op("DequantizeLinear", "r s z", "y"),
            s=np.float32(0.02), z=np.uint8(9),
        ),
        "QLinearSoftmax",
        "nothing is known",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FREE)
def test_what_is_freed_gives_for_three_what_it_gives_for_each(case: str) -> None:
    check_free(FREE[case])


@pytest.mark.parametrize("case", KEPT)
def test_what_is_not_proven_stays(case: str) -> None:
    check_kept(*KEPT[case])


def test_every_operator_has_a_rule_or_is_not_proven() -> None:
    """Nothing passes by default: an operator that has no rule of its own stops the proof."""
    ops.known()
    known = set(ops.table._TABLE)
    assert known > {"Conv", "MeanVarianceNormalization", "com.microsoft.QLinearSoftmax"}
    batch = symbol("N")
    for name in sorted(known - RULES.keys()):
        shape = (batch, 4, 6, 6)
        reads = Reads(name, 17, {}, [Rows(0)], [shape], [None], [shape], batch)
        with pytest.raises(Stuck, match="nothing is known"):
            follow(reads)
