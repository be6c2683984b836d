"""The graphs of :mod:`convlens_adapters.corpus.edges` as files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convlens_adapters.corpus.edges import EDGES, Edge
from convlens_adapters.corpus.items import Item

if TYPE_CHECKING:
    import onnx

_FUNCTION = """
<domain: "local", opset_import: ["" : 17]>
gated (c) => (d) { s = Sigmoid (c) d = Mul (c, s) }
"""


def items() -> Iterator[Item]:
    """Every edge graph, and those that a text cannot say."""
    for name, edge in EDGES.items():
        yield Item(name, partial(_save, edge))
    yield Item("local-function", _local_function)
    yield Item("same-output-twice", _same_output_twice)
    yield Item("empty-node-names", _empty_names)
    yield Item("colliding-names", _colliding_names)
    yield Item("external-data", _external)


def model(edge: Edge, seed: int = 0) -> onnx.ModelProto:
    """The graph with its weights drawn."""
    import onnx

    head = f'<ir_version: {edge.ir}, opset_import: ["" : {edge.opset}{edge.domains}]>\n'
    made = onnx.parser.parse_model(head + edge.body)
    rng = np.random.default_rng(seed)
    for name, shape in edge.weights.items():
        spread = 1.0 / np.sqrt(max(np.prod(shape[1:], dtype=int), 1))
        drawn = rng.uniform(0.5, 1.5, shape) if name == "v2" else rng.normal(0, spread, shape)
        made.graph.initializer.append(onnx.numpy_helper.from_array(drawn.astype(np.float32), name))
        if edge.also_inputs:
            value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            made.graph.input.append(value)
    for output in made.graph.output:
        if not output.type.tensor_type.HasField("shape") or not output.type.tensor_type.shape.dim:
            output.type.tensor_type.ClearField("shape")
    return made


def _save(edge: Edge, path: Path) -> None:
    path.write_bytes(model(edge).SerializeToString())


def _local_function(path: Path) -> None:
    import onnx

    made = model(EDGES["asymmetric-pads"])
    made.functions.append(onnx.parser.parse_function(_FUNCTION))
    made.opset_import.append(onnx.helper.make_opsetid("local", 1))
    made.graph.node[1].CopyFrom(onnx.helper.make_node("gated", ["c"], ["y"], domain="local"))
    path.write_bytes(made.SerializeToString())


def _same_output_twice(path: Path) -> None:
    made = model(EDGES["asymmetric-pads"])
    made.graph.output.append(made.graph.output[0])
    path.write_bytes(made.SerializeToString())


def _empty_names(path: Path) -> None:
    made = model(EDGES["two-heads"])
    for node in made.graph.node:
        node.name = ""
    made.graph.name = ""
    made.producer_name = ""
    path.write_bytes(made.SerializeToString())


def _colliding_names(path: Path) -> None:
    """Names that are different in ONNX, and the same once every sign but letters is made an underscore."""
    made = model(EDGES["two-heads"])
    for node in made.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"c": "a/b", "middle": "a.b"}.get(name, name)
    made.graph.output[0].name = "a.b"
    path.write_bytes(made.SerializeToString())


def _external(path: Path) -> None:
    import onnx

    made = model(EDGES["asymmetric-pads"])
    onnx.save_model(
        made,
        path,
        save_as_external_data=True,
        location="external-data.onnx.data",
        size_threshold=0,
    )
