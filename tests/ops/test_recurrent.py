"""Recurrent layers against onnxruntime, in every combination that their attributes allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ops.models import (
    ABSENT,
    Case,
    case,
    check_gradient,
    compare,
    numbers,
    reference,
    spread,
    torch_graph,
    x,
)

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OPSETS = (7, 14, 22)
W = numbers


def layer(
    op: str,
    *extra: Any,
    direction: str = "forward",
    bias: bool = True,
    opsets: Any = 17,
    outputs: int | None = None,
    **attributes: Any,
) -> Case:
    """A recurrent node; ``extra``: the inputs behind the bias."""
    dirs, gates = 1 + (direction == "bidirectional"), GATES[op]
    return case(
        op,
        x(STEPS, BATCH, INPUT),
        W(dirs, gates * HIDDEN, INPUT, seed=1, low=-1, high=1),
        W(dirs, gates * HIDDEN, HIDDEN, seed=2, low=-1, high=1),
        W(dirs, 2 * gates * HIDDEN, seed=3, low=-1, high=1) if bias else ABSENT,
        *extra,
        opsets=opsets,
        outputs=outputs or (3 if op == "LSTM" else 2),
        hidden_size=HIDDEN,
        direction=direction,
        **attributes,
    )


def state(direction: str, seed: int = 0) -> Any:
    return W(1 + (direction == "bidirectional"), BATCH, HIDDEN, seed=seed)


LENGTHS = np.array([5, 2, 4], np.int32)
FULL = np.array([5, 5, 5], np.int32)
WAYS = ("forward", "reverse", "bidirectional")
ACTIVATIONS = (
    ("Relu", {}),
    ("Softsign", {}),
    ("Softplus", {}),
    ("Affine", {"activation_alpha": [0.5], "activation_beta": [0.1]}),
    ("LeakyRelu", {"activation_alpha": [0.2]}),
    ("LeakyRelu", {}),
    ("ThresholdedRelu", {"activation_alpha": [0.3]}),
    ("ScaledTanh", {"activation_alpha": [0.8], "activation_beta": [1.3]}),
    ("HardSigmoid", {"activation_alpha": [0.3], "activation_beta": [0.4]}),
    ("HardSigmoid", {}),
    ("Elu", {"activation_alpha": [0.7]}),
    ("Elu", {}),
)


def mixed(op: str, name: str) -> list[str]:
    """The default functions with the last one replaced."""
    return [*{"LSTM": ["Sigmoid", "Tanh"], "GRU": ["Sigmoid"], "RNN": []}[op], name]


CASES = [
    *(layer(op, direction=way, opsets=OPSETS) for op in GATES for way in WAYS),
    *(layer(op, direction=way, bias=False) for op in GATES for way in WAYS),
    *(layer(op, LENGTHS, direction=way, opsets=(7, 14)) for op in GATES for way in WAYS),
    *(layer(op, FULL, direction=way) for op in GATES for way in WAYS),
    *(layer(op, ABSENT, state(way), direction=way) for op in ("GRU", "RNN") for way in WAYS),
    *(layer("LSTM", ABSENT, state(way), state(way, 5), direction=way) for way in WAYS),
    *(layer("LSTM", LENGTHS, state(way), state(way, 5), direction=way) for way in WAYS),
    *(layer(op, LENGTHS, state(way), direction=way) for op in ("GRU", "RNN") for way in WAYS),
    *(layer("GRU", direction=way, linear_before_reset=1, opsets=OPSETS) for way in WAYS),
    *(layer("GRU", LENGTHS, direction=way, linear_before_reset=1) for way in WAYS),
    *(
        layer("LSTM", ABSENT, state(way), state(way, 5), W(2 if "bi" in way else 1, 6), direction=way, **more)
        for way in WAYS
        for more in ({}, {"clip": 0.4}, {"input_forget": 1})
    ),
    *(layer(op, direction=way, clip=0.3) for op in GATES for way in WAYS),
    layer("GRU", clip=0.3, linear_before_reset=1),
    layer("LSTM", input_forget=1),
    layer("RNN", activations=["Relu"]),
    layer("RNN", activations=["Relu", "Relu"], direction="bidirectional"),
    layer("RNN", activations=["Relu", "Tanh"], direction="bidirectional"),
    *(layer(op, activations=mixed(op, name), **how) for op in GATES for name, how in ACTIVATIONS),
    layer(
        "LSTM",
        activations=["HardSigmoid", "LeakyRelu", "ScaledTanh", "Sigmoid", "Elu", "Affine"],
        activation_alpha=[0.3, 0.1, 0.9, 0.6, 1.1],
        activation_beta=[0.4, 1.2, 0.05],
        direction="bidirectional",
    ),
    layer("LSTM", outputs=1),
    layer("GRU", outputs=1),
]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if "clip" not in c.attributes], True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("way", WAYS)
def test_layout_with_the_batch_first(op: str, way: str, tmp_path: Path) -> None:
    """onnxruntime has no kernel for it: held against its answer for the transposed tensors."""
    first = state(way)
    steps_first = layer(op, LENGTHS, first, direction=way).model(14)
    value = numbers(STEPS, BATCH, INPUT)
    expected = reference(steps_first, {"x0": value})
    batch_first = layer(op, LENGTHS, first.transpose(1, 0, 2), direction=way, layout=1).model(14)
    batch_first.graph.input[0].type.tensor_type.shape.dim[0].dim_value = BATCH
    batch_first.graph.input[0].type.tensor_type.shape.dim[1].dim_value = STEPS
    names = [output.name for output in batch_first.graph.output]
    graph = torch_graph(batch_first, tmp_path)
    found = graph.values({"x0": torch.from_numpy(value.transpose(1, 0, 2).copy())}, names)
    y, *last = expected
    for name, wanted in zip(
        names, [y.transpose(2, 0, 1, 3), *(s.transpose(1, 0, 2) for s in last)], strict=True
    ):
        np.testing.assert_allclose(found[name].numpy(), wanted, rtol=2e-5, atol=2e-5)


def test_weights_may_be_computed(tmp_path: Path) -> None:
    one = case("LSTM", x(5, 3, 4), x(1, 8, 4), x(1, 8, 2), outputs=3, hidden_size=2)
    compare(one.model(14), one.feeds, tmp_path)
    check_gradient(one.model(14), one.feeds, tmp_path)


def test_work_is_both_matrices_at_every_step(tmp_path: Path) -> None:
    from convlens.ops import find

    model = layer("LSTM", direction="bidirectional").model(17)
    graph = torch_graph(model, tmp_path).graph
    entry = find(graph.nodes[0])
    assert entry is not None
    assert entry.macs is not None
    assert entry.macs(graph.nodes[0], [(5, 3, 4), (2, 8, 4), (2, 8, 2)], (5, 2, 3, 2)) == 15 * 2 * 8 * 6
    assert isinstance(model, onnx.ModelProto)
