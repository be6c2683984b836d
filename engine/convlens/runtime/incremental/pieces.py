"""Pieces of a graph as sessions of their own, on the weights of the whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop
from convlens.runtime.incremental.cutting import cropped, read_still, reshaped
from convlens.runtime.incremental.opsets import quickest
from convlens.runtime.incremental.parts import Part
from convlens.runtime.providers import providers
from convlens.runtime.shared import SharedModel, numpy_dtype


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
        self._opset = max(
            (each.version for each in self._opsets if each.domain in ("", "ai.onnx")), default=0
        )
        self._version = proto.ir_version
        self._held = set(shared.names)

    def session(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        threads: int | None,
        crop: Crop | None = None,
        part: Part | None = None,
        fixed: Collection[str] = (),
        once: bool = False,
    ) -> Any:
        """A session that computes ``outputs`` of ``inputs`` through ``nodes``.

        Args:
            nodes: in their order.
            inputs: an example of each input; the length of no axis is fixed.
            outputs: names.
            threads: threads inside one forward.
            crop: how the first node is computed on a cut; None leaves it as it is.
            part: which the nodes are, where they are computed on cuts.
            fixed: inputs that are always as long as their example.
            once: it will run once, so that laying weights out anew would cost more than it saves.
        """
        import onnxruntime

        protos = []
        for number, node in enumerate(nodes):
            proto = onnx.NodeProto()
            proto.CopyFrom(self._nodes[next(name for name in node.outputs if name)])
            if part is not None:
                proto = read_still(proto, part.feeds(node))
            if crop is not None and number == 0:
                protos += cropped(proto, crop, self._opset)
            elif part is not None and node.outputs[0] in part.lengths:
                protos += reshaped(proto, part.lengths[node.outputs[0]])
            else:
                protos.append(proto)
        protos = [*self._before(protos, inputs), *protos]
        opsets = self._opsets if self._functions else quickest(protos, self._opsets)
        read = {name for proto in protos for name in _reads(proto)}
        held = [name for name in self._weights if name in read]
        graph = onnx.helper.make_graph(
            protos,
            "piece",
            [_info(name, example, name in fixed) for name, example in inputs.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [self._weights[name] for name in held],
        )
        for info in graph.output:
            dtype = self.graph.value(info.name).dtype
            if dtype is not None:
                info.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype))
        model = onnx.helper.make_model(graph, opset_imports=opsets, functions=self._functions)
        model.ir_version = self._version
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if once:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.add_session_config_entry("session.disable_prepacking", "1")
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


def _reads(node: onnx.NodeProto) -> list[str]:
    inner = [
        name
        for attribute in node.attribute
        for graph in [attribute.g, *attribute.graphs]
        for each in graph.node
        for name in _reads(each)
    ]
    return [*node.input, *inner]


def _info(name: str, example: NDArray[Any], fixed: bool) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(example.dtype))
    return onnx.helper.make_tensor_value_info(name, kind, example.shape if fixed else [None] * example.ndim)
