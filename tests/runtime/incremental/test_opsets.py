"""Pieces of a graph under an older opset compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from convlens.runtime.incremental.opsets import quickest


def pool(**settings: Any) -> NodeProto:
    return helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], **settings)


def node(op: str, **settings: Any) -> NodeProto:
    return helper.make_node(op, ["y"], ["z"], **settings)


def versions(nodes: list[NodeProto], own: int) -> list[tuple[str, int]]:
    return [(each.domain, each.version) for each in quickest(nodes, [helper.make_opsetid("", own)])]


def run(nodes: list[NodeProto], output: str, opset: int, x: NDArray[Any]) -> NDArray[Any]:
    shape = [None] * x.ndim
    graph = helper.make_graph(
        nodes,
        "piece",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("own", [19, 20, 21, 22, 23])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 1, 2]},
        {"pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"dilations": [1, 1], "auto_pad": "SAME_UPPER"},
    ],
    ids=str,
)
@pytest.mark.parametrize("after", [None, "Relu", "GlobalMaxPool", "Flatten", "Softplus"])
def test_the_older_one_computes_the_same(own: int, settings: dict[str, Any], after: str | None) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 9)).astype(np.float32)
    nodes = [pool(**settings), *([node(after)] if after else [])]
    output = "z" if after else "y"
    expected = run(nodes, output, own, x)
    assert versions(nodes, own) == [("", 18)]
    np.testing.assert_allclose(run(nodes, output, 18, x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        [pool(dilations=[2, 1])],
        [pool(ceil_mode=1)],
        [pool(), node("Cast", to=TensorProto.FLOAT16)],
        [pool(), node("GroupNormalization", num_groups=1)],
        [pool(), node("Resize")],
        [pool(), helper.make_node("Relu", ["y"], ["z"], domain="com.example")],
        [pool(), node("Nothing")],
        [node("Conv"), node("Relu")],
    ],
    ids=lambda nodes: ",".join(each.op_type for each in nodes),
)
def test_what_may_differ_stays(nodes: list[NodeProto]) -> None:
    before = [each.SerializeToString() for each in nodes]
    assert versions(nodes, 22) == [("", 22)]
    assert [each.SerializeToString() for each in nodes] == before


def test_older_ones_and_other_domains_stay() -> None:
    assert versions([pool()], 11) == [("", 11)]
    given = [helper.make_opsetid("com.example", 1), helper.make_opsetid("", 20)]
    assert [(each.domain, each.version) for each in quickest([pool()], given)] == [("", 18)]
