"""Nodes written in the place of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convlens.graph.graph import Value
from convlens.graph.passes.names import fresh


class Writer:
    """Writes plain nodes for ``node``, under names that nothing else has.

    The last results take the names of the node's outputs, so that everything that reads them stays as
    it is. Nothing is changed before :meth:`finish`.
    """

    def __init__(self, model: ir.Model, node: ir.Node, used: set[str], known: Mapping[str, Value]) -> None:
        """``used`` are names to keep clear of, and grow; ``known`` is what inference says of values."""
        assert isinstance(node.graph, ir.Graph)
        self.graph: ir.Graph = node.graph
        self.node = node
        self.version = model.opset_imports.get("", 1)
        self._used = used
        self._known = known
        self._stem = next((value.name for value in node.outputs if value.name), node.op_type)
        self._nodes: list[ir.Node] = []
        self._weights: list[ir.Value] = []

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute ``name`` of the node being replaced."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def input(self, index: int) -> ir.Value | None:
        """Input ``index`` of the node being replaced, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def rank(self, index: int) -> int | None:
        """Number of dimensions of input ``index``, None where it is not known."""
        value = self.input(index)
        if value is None:
            return None
        if value.const_value is not None:
            return len(value.const_value.shape)
        known = self._known.get(value.name or "")
        if known is not None and known.rank is not None:
            return known.rank
        return None if value.shape is None else len(value.shape)

    def dtype(self, *values: ir.Value | None) -> ir.DataType:
        """The type of the first of ``values`` whose type is known; float32 where none is."""
        for value in values:
            if value is None:
                continue
            if value.const_value is not None:
                return value.const_value.dtype
            known = self._known.get(value.name or "")
            if known is not None and known.dtype is not None:
                return ir.DataType.from_numpy(numpy_type(known.dtype))
            if value.dtype is not None:
                return value.dtype
        return ir.DataType.FLOAT

    def op(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
        domain: str = "",
    ) -> ir.Value:
        """Add a node; returns its first output."""
        made = ir.node(op, inputs, attributes=attributes or {}, domain=domain, num_outputs=outputs)
        made.metadata_props.update(self.node.metadata_props)
        if self.node.name:
            made.name = fresh(f"{self.node.name}/{op}", self._used)
        self._nodes.append(made)
        return made.outputs[0]

    def weight(self, array: NDArray[Any], what: str, dtype: ir.DataType | None = None) -> ir.Value:
        """Add a constant."""
        name = fresh(f"{self._stem}/{what}", self._used)
        tensor = ir.tensor(array, dtype=dtype, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self._weights.append(value)
        return value

    def scalar(self, number: float, dtype: ir.DataType, what: str) -> ir.Value:
        """Add a constant number."""
        return self.weight(np.array(number, dtype.numpy()), what, dtype)

    def axes(self, op: str, value: ir.Value, axes: Sequence[int], since: int, keepdims: int = 1) -> ir.Value:
        """Add a reduction, whose axes are an input from opset ``since`` on and an attribute before it."""
        if self.version >= since:
            where = self.weight(np.array(axes, np.int64), "axes")
            return self.op(op, [value, where], {"keepdims": keepdims})
        return self.op(op, [value], {"axes": list(axes), "keepdims": keepdims})

    def finish(self, *results: ir.Value | None) -> None:
        """Put the nodes where the old one stands; ``results`` are its outputs in order."""
        written = {value for node in self._nodes for value in node.outputs}
        for value in self._weights:
            self.graph.register_initializer(value)
        pairs = []
        for output, given in zip(self.node.outputs, results, strict=False):
            result = given
            if result is None:
                continue
            if result not in written:
                result = self.op("Identity", [result])
            pairs.append((output, result))
        final = {result for _, result in pairs}
        for node in self._nodes:
            for index, value in enumerate(node.outputs):
                if value not in final:
                    what = node.op_type if index == 0 else f"{node.op_type}:{index}"
                    value.name = fresh(f"{self._stem}/{what}", self._used)
        self.graph.insert_before(self.node, self._nodes)
        for output, result in pairs:
            result.type = output.type if result.type is None else result.type
            result.shape = output.shape if result.shape is None else result.shape
            ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
            name, output.name = output.name, None
            result.name = name or fresh(f"{self._stem}/{result.producer().op_type}", self._used)  # type: ignore[union-attr]
        self.node.resize_inputs(0)
        self.graph.remove(self.node)


def numpy_type(name: str) -> np.dtype[Any]:
    """The numpy type of that name, those that ONNX has beyond numpy's own included."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
