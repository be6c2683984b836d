"""Pieces of a graph as sessions of their own, on the weights of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop
from convlens.runtime.providers import providers
from convlens.runtime.shared import SharedModel, numpy_dtype

WEIGHED = "convlens.weighed."
"""Prefix of the inputs by which border windows of a pooling are weighed."""

CUT = "convlens.cut."
"""Prefix of the input of a node that slides; the value itself may be read beside it."""


class Pieces:
    """Makes sessions for some nodes of a graph."""

    def __init__(self, graph: Graph, shared: SharedModel, device: str) -> None:
        """``shared`` is the model whose weights are used."""
        self.graph = graph
        self._shared = shared
        self._device = device
        proto = onnx.ModelProto.FromString(shared.proto_bytes)
        self._nodes = {name: node for node in proto.graph.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._opsets = list(proto.opset_import)
        self._functions = list(proto.functions)
        self._version = proto.ir_version
        self._held = set(shared.names)

    def session(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        threads: int | None,
        crop: Crop | None = None,
    ) -> Any:
        """A session that computes ``outputs`` of ``inputs`` through ``nodes``.

        Args:
            nodes: in their order.
            inputs: an example of each input; the length of no axis is fixed.
            outputs: names.
            threads: threads inside one forward.
            crop: how the first node is computed on a cut; None leaves it as it is.
        """
        import onnxruntime

        protos = []
        for number, node in enumerate(nodes):
            proto = onnx.NodeProto()
            proto.CopyFrom(self._nodes[next(name for name in node.outputs if name)])
            protos += _cropped(proto, crop) if crop is not None and number == 0 else [proto]
        protos = [*self._before(protos, inputs), *protos]
        read = {name for proto in protos for name in _reads(proto)}
        held = [name for name in self._weights if name in read]
        graph = onnx.helper.make_graph(
            protos,
            "piece",
            [_info(name, example) for name, example in inputs.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [self._weights[name] for name in held],
        )
        for info in graph.output:
            dtype = self.graph.value(info.name).dtype
            if dtype is not None:
                info.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype))
        model = onnx.helper.make_model(graph, opset_imports=self._opsets, functions=self._functions)
        model.ir_version = self._version
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = (
            False  # a pool for each of many sessions would hold more than the weights
        )
        options.enable_mem_pattern = False
        if threads is not None:
            options.intra_op_num_threads = threads
        names = [name for name in held if name in self._held]
        if names:
            place = dict(zip(self._shared.names, self._shared.values, strict=True))
            options.add_external_initializers(names, [place[name] for name in names])
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=providers(self._device)
        )

    def _before(self, protos: Sequence[onnx.NodeProto], inputs: Mapping[str, Any]) -> list[onnx.NodeProto]:
        """Nodes that make constants of weights, as in files that hold them in half the precision."""
        made = {name for proto in protos for name in proto.output} | set(inputs) | set(self._weights)
        found: dict[str, onnx.NodeProto] = {}
        stack = [name for proto in protos for name in _reads(proto)]
        while stack:
            name = stack.pop()
            if name not in made and name in self._nodes:
                made.update(self._nodes[name].output)
                found[name] = self._nodes[name]
                stack += _reads(self._nodes[name])
        order = {name: number for number, name in enumerate(self._nodes)}
        return [found[name] for name in sorted(found, key=order.__getitem__)]


def _cropped(node: onnx.NodeProto, crop: Crop) -> list[onnx.NodeProto]:
    """The node on a cut that holds its padding."""
    node.input[0] = CUT + node.input[0]
    if crop.moves:
        return [onnx.helper.make_node("Identity", [node.input[0]], list(node.output))]
    kept = [attribute for attribute in node.attribute if attribute.name not in crop.settings]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in crop.settings.items())
    if not crop.uneven:
        return [node]
    output = node.output[0]
    plain = f"{WEIGHED}even.{output}"
    node.output[0] = plain
    return [node, onnx.helper.make_node("Mul", [plain, WEIGHED + output], [output])]


def _reads(node: onnx.NodeProto) -> list[str]:
    inner = [
        name
        for attribute in node.attribute
        for graph in [attribute.g, *attribute.graphs]
        for each in graph.node
        for name in _reads(each)
    ]
    return [*node.input, *inner]


def _info(name: str, example: NDArray[Any]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(example.dtype))
    return onnx.helper.make_tensor_value_info(name, kind, [None] * example.ndim)
