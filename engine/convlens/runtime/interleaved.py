"""Sessions that hand out many values: each is laid out as the file has it while the cache still holds it.

onnxruntime computes convolutions in blocks of channels (its NCHWc layout) and brings every value that is
asked for back into NCHW behind the last layer, when all of them have long left the cache. Its optimised graph
is written to a file once and read again with each of these steps right behind what it reads. Nothing else
changes, so all values keep their bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

_MOST = 1 << 26
"""Bytes of weights up to which the graph is written out: heavier models spend their time in convolutions."""

_FEWEST = 4
"""Values from which on it is worth it."""

_BACK = "ReorderOutput"


def interleaved(model: bytes, options: Callable[[bool], Any], on: list[Any], values: int, nbytes: int) -> Any:
    """A session for a model.

    Args:
        model: serialised.
        options: makes the options of a session, told whether the model's weights lie outside of it.
        on: execution providers.
        values: how many it hands out.
        nbytes: of its weights.
    """
    import onnxruntime

    def session(model: bytes, own: Any) -> Any:
        return onnxruntime.InferenceSession(model, own, providers=on)

    if values < _FEWEST or nbytes > _MOST:
        return session(model, options(True))
    with tempfile.TemporaryDirectory(prefix="convlens-") as folder:
        path = Path(folder) / "optimised.onnx"
        own = options(True)
        own.optimized_model_filepath = str(path)
        try:
            found = session(model, own)
            proto = onnx.load(path)
        except Exception:  # no room for the file, or a graph that onnxruntime cannot write
            return session(model, options(True))
    if not _drawn_forward(proto):
        return found
    del found  # before the weights are there again
    own = options(False)
    own.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it has been
    own.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED  # which is that of the file
    try:
        return session(proto.SerializeToString(), own)
    except Exception:  # a graph that it writes and does not read
        return session(model, options(True))


def _drawn_forward(proto: onnx.ModelProto) -> bool:
    """Put the steps back to NCHW that nothing else reads right behind what they read; False without any."""
    nodes = [*proto.graph.node]
    read = {name for node in nodes for name in node.input}
    made = {name for node in nodes for name in node.output}
    last = {
        node.input[0]: node
        for node in nodes
        if node.op_type == _BACK and node.input[0] in made and read.isdisjoint(node.output)
    }
    moved = {id(node) for node in last.values()}
    order: list[onnx.NodeProto] = []
    for node in nodes:
        if id(node) not in moved:
            order.append(node)
            order += [last[name] for name in node.output if name in last]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return bool(last)
