"""Value names of a file meet the names that PyTorch's modules have themselves, and each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import convlens
from reference import nets

NAMES = ["half", "float", "type", "forward", "training", "graph", "a/b", "a_b", "values"]


def test_names_that_are_taken_are_built_and_kept_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array((0.2 * rng.standard_normal((3, 3, 3, 3))).astype(np.float32), f"w{i}")
        for i in range(len(NAMES))
    ]
    nodes = [
        helper.make_node("Conv", [before, f"w{i}"], [after], pads=[1] * 4)
        for i, (before, after) in enumerate(zip(["x", *NAMES], NAMES, strict=False))
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(NAMES[-1], TensorProto.FLOAT, ["N", 3, 8, 8])],
        stored,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1, mean=[0.0], std=[1.0])
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    with torch.no_grad():
        np.testing.assert_allclose(model.torch(torch.from_numpy(x)).numpy(), expected, rtol=1e-4, atol=1e-4)
    parts = [part for part in model.torch.modules() if isinstance(part, nn.Module)]
    weights = [p for part in parts for p in (*part.parameters(False), *part.buffers(False)) if p.ndim == 4]
    assert len(weights) == len(NAMES)  # every one moves with the module
