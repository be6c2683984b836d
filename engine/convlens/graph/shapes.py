"""Shapes and dtypes of every value: one walk through the graph, numbers and symbols together.

ONNX's own inference says what each operator does to a shape, one node at a time. What it leaves open
is said by rules of this package: sizes that the graph computes from other sizes are evaluated on the
way, with symbols where a size is not a number yet.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx.shape_inference import infer_node_outputs

from convlens.graph.evaluate import LIMIT, Data, evaluate
from convlens.graph.extents import extents
from convlens.graph.graph import Dim, Value
from convlens.graph.microsoft import PLAIN, microsoft_dtype
from convlens.graph.sizes import Extent, Extents, Size, fresh, symbol


def infer(model: ir.Model, inputs: Mapping[str, tuple[Dim, ...]]) -> dict[str, Value]:
    """Every value of the graph, by name.

    Args:
        model: a normalised model; it is not changed.
        inputs: shapes to assume for graph inputs instead of the file's own, to turn symbols into
            numbers. Values computed from other shapes than the file's are then consistent with them.
    """
    return walked(model, inputs).values()


def walked(model: ir.Model, inputs: Mapping[str, tuple[Dim, ...]]) -> Walk:
    """The walk through all nodes behind :func:`infer`."""
    walk = Walk(model, inputs)
    for node in model.graph:
        walk.step(node)
        if not inputs:
            walk.declare(node)
    return walk


def count(dim: int) -> int | None:
    """A dimension in numbers; some exporters (Paddle's) write -1 where they do not know."""
    return dim if dim >= 0 else None


class Walk:
    """What is known of the values so far; :meth:`step` adds the outputs of one node.

    Attributes:
        extents: shapes by value name; a size is a number or a polynomial of symbols.
        dtypes: ONNX element types by value name.
        data: the numbers of small values, where they are known.
    """

    def __init__(self, model: ir.Model, inputs: Mapping[str, tuple[Dim, ...]]) -> None:
        """Start from the inputs and the constants of ``model``."""
        self.extents: dict[str, Extents] = {}
        self.dtypes: dict[str, int] = {}
        self.data: dict[str, Data] = {}
        self._declares = not inputs  # what the file says of its values holds for its own shapes only
        self._names: dict[str, str] = {}  # what people call a symbol
        self._symbols: dict[str, Size] = {}  # by how they are written in types for inference
        self._proto: dict[str, onnx.TensorProto] = {}
        self._lists: dict[str, onnx.TypeProto] = {}
        self._opsets = {domain or "": version for domain, version in model.opset_imports.items()}
        self._imports = [onnx.helper.make_opsetid(d, v) for d, v in self._opsets.items()]
        for value in model.graph.inputs:
            if value.name and value.name not in model.graph.initializers:
                self._input(value, inputs.get(value.name))
        for name, value in model.graph.initializers.items():
            self._stored(name, value)

    def _stored(self, name: str, value: ir.Value) -> None:
        tensor = value.const_value
        if tensor is None:
            return
        self.extents[name] = tuple(int(dim) for dim in tensor.shape.numpy())
        self.dtypes[name] = int(tensor.dtype)
        if tensor.size <= LIMIT and tensor.dtype is not ir.DataType.STRING:
            self.data[name] = tensor.numpy()

    def _input(self, value: ir.Value, given: tuple[Dim, ...] | None) -> None:
        name = value.name or ""
        if value.dtype is not None:
            self.dtypes[name] = int(value.dtype)
        shape = given
        if shape is None and value.shape is not None:
            shape = tuple(count(dim) if isinstance(dim, int) else dim.value for dim in value.shape)
        if shape is not None:
            self.extents[name] = tuple(self._size(name, axis, shape) for axis in range(len(shape)))

    def _size(self, name: str, axis: int, shape: tuple[Dim, ...]) -> Extent:
        dim = shape[axis]
        if isinstance(dim, int):
            return dim
        if not dim:
            return fresh()
        # exporters write one word for every open axis of an input; only what stands once is one size
        own = dim if shape.count(dim) == 1 else f"{name}:{axis}:{dim}"
        self._names[own] = dim
        return symbol(own)

    def constant(self, name: str, array: Data) -> None:
        """Add a constant."""
        self.extents[name], self.data[name] = tuple(array.shape), array
        self.dtypes[name] = int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))

    def step(self, node: ir.Node) -> None:
        """Infer the outputs of ``node``."""
        if node.op_type == "If" and node.domain in ("", "ai.onnx"):
            self._branched(node)
            return
        proto = ir.serde.serialize_node(node)
        if proto.domain == "ai.onnx":
            proto.domain = ""
        shapes = [self.extents.get(name) for name in proto.input]
        given = [self.data.get(name) for name in proto.input]
        for name, dtype, shape in self._inferred(proto):
            if dtype:
                self.dtypes[name] = dtype
            if shape is not None:
                self.extents[name] = shape
        first = proto.output[0] if proto.output else ""
        own = extents(proto, shapes, given)
        if own is not None and first:
            self.extents[first] = own
        if proto.domain == "":
            found = evaluate(proto, self._opsets.get("", 1), given, shapes)
            for name, data in zip(proto.output, found or (), strict=False):
                if name:
                    self.data[name] = data
                    self.extents[name] = tuple(data.shape)

    def _branched(self, node: ir.Node) -> None:
        """Infer the outputs of an ``If``: what both of its branches agree on."""
        found = [self._inside(node.attributes[name].as_graph()) for name in ("then_branch", "else_branch")]
        for value, (dtype, shape), (other_dtype, other) in zip(node.outputs, *found, strict=False):
            name = value.name or ""
            if name and dtype and dtype == other_dtype:
                self.dtypes[name] = dtype
            if name and shape is not None and other is not None and len(shape) == len(other):
                self.extents[name] = tuple(
                    one if one == two else fresh() for one, two in zip(shape, other, strict=True)
                )

    def _inside(self, branch: ir.Graph) -> list[tuple[int, Extents | None]]:
        """Types and shapes of the outputs of ``branch``, whose own values are forgotten again."""
        kept = self.extents, self.dtypes, self.data, self._proto, self._lists
        self.extents, self.dtypes, self.data = dict(self.extents), dict(self.dtypes), dict(self.data)
        self._proto, self._lists = dict(self._proto), dict(self._lists)
        try:
            for name, value in branch.initializers.items():
                self._stored(name, value)
            for node in branch:
                self.step(node)
                if self._declares:
                    self.declare(node)
            names = [value.name or "" for value in branch.outputs]
            return [(self.dtypes.get(name, 0), self.extents.get(name)) for name in names]
        finally:
            self.extents, self.dtypes, self.data, self._proto, self._lists = kept

    def _inferred(self, node: onnx.NodeProto) -> list[tuple[str, int, Extents | None]]:
        """Names, types and shapes of the outputs, as ONNX's inference tells them."""
        if node.domain == "com.microsoft":
            return self._unlisted(node)
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
            types = {name: self._type(name) for name in node.input if name}
            data = {
                name: self._tensor(name)
                for i, name in enumerate(node.input)
                if name in self.data and self.data[name].dtype != object and (i or len(node.input) == 1)
            }
            found = infer_node_outputs(schema, node, types, data, opset_imports=self._imports, ir_version=10)
        except (
            onnx.defs.SchemaError,
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,  # an input is a list of tensors, or the operator is deprecated
            RuntimeError,
            ValueError,
        ):
            return []
        rows = []
        for name in node.output:
            if name and name in found and not found[name].HasField("tensor_type"):
                self._lists[name] = found[name]  # a list of tensors, or one that may be absent
            elif name and name in found:
                tensor = found[name].tensor_type
                rows.append((name, tensor.elem_type, self._read(tensor)))
        return rows

    def _unlisted(self, node: onnx.NodeProto) -> list[tuple[str, int, Extents | None]]:
        """The type of an operator without a schema, where it hands on that of its first input."""
        dtype = microsoft_dtype(node, self.dtypes)
        rows: list[tuple[str, int, Extents | None]] = [(node.output[0], dtype, None)] if dtype else []
        plain = PLAIN.get(node.op_type)
        if plain is not None:
            op, count_ = plain
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.op_type, copy.domain = op, ""
            del copy.input[count_:]
            known = {a.name for a in onnx.defs.get_schema(op, self._opsets.get("", 17)).attributes.values()}
            kept = [a for a in copy.attribute if a.name in known]
            del copy.attribute[:]
            copy.attribute.extend(kept)
            if not any(a.name == "channels_last" and a.i for a in node.attribute):
                rows += [(name, 0, shape) for name, _, shape in self._inferred(copy)]
        return rows

    def _type(self, name: str) -> onnx.TypeProto:
        if name in self._lists:
            return self._lists[name]
        shape = self.extents.get(name)
        return onnx.helper.make_tensor_type_proto(
            self.dtypes.get(name, onnx.TensorProto.FLOAT),
            None if shape is None else [self._written(size) for size in shape],
        )

    def _written(self, size: Extent) -> int | str:
        if isinstance(size, int):
            return size
        text = repr(size)
        self._symbols[text] = size
        return text

    def _tensor(self, name: str) -> onnx.TensorProto:
        if name not in self._proto:
            self._proto[name] = onnx.numpy_helper.from_array(np.asarray(self.data[name], order="C"), name)
        return self._proto[name]

    def _read(self, tensor: onnx.TypeProto.Tensor) -> Extents | None:
        if not tensor.HasField("shape"):
            return None
        sizes: list[Extent] = []
        for dim in tensor.shape.dim:
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0:
                sizes.append(dim.dim_value)
            else:
                sizes.append(self._symbols.get(dim.dim_param) or fresh())
        return tuple(sizes)

    def declare(self, node: ir.Node) -> None:
        """Take from the file what it says of outputs of ``node`` of which inference finds nothing."""
        for value in node.outputs:
            name = value.name or ""
            if name and name not in self.dtypes and value.dtype is not None:
                self.dtypes[name] = int(value.dtype)
            if not name or value.shape is None or node.op_type == "If":
                continue  # exporters write down the shape of one branch
            dims = tuple(count(dim) if isinstance(dim, int) else dim.value for dim in value.shape)
            known = self.extents.get(name)
            if known is None:
                self.extents[name] = tuple(self._size(f"{name}:", i, dims) for i in range(len(dims)))
            elif len(known) == len(dims):
                for size, dim in zip(known, dims, strict=True):
                    own = size.only() if isinstance(size, Size) else None
                    if own is not None and own not in self._names and isinstance(dim, str):
                        self._names[own] = dim

    def values(self) -> dict[str, Value]:
        """What is known, as people read it: sizes that are no symbol of the file's are None."""
        names = {**dict.fromkeys(self.dtypes), **dict.fromkeys(self.extents)}
        return {name: Value(name, _numpy_name(self.dtypes.get(name, 0)), self._shown(name)) for name in names}

    def settled(self) -> dict[str, Data]:
        """The small values whose numbers are the same for every input."""
        return {name: data for name, data in self.data.items() if data.dtype != object}

    def measures(self) -> dict[str, tuple[Dim, ...]]:
        """Shapes with every size: those that are computed as texts, of which equal ones are equal sizes."""
        return {
            name: tuple(size if isinstance(size, int) else repr(size) for size in shape)
            for name, shape in self.extents.items()
            if any(not isinstance(size, int) for size in shape)
        }

    def _shown(self, name: str) -> tuple[Dim, ...] | None:
        shape = self.extents.get(name)
        if shape is None:
            return None
        dims: list[Dim] = []
        for size in shape:
            if isinstance(size, int):
                dims.append(count(size))
            else:
                dims.append(self._names.get(size.only() or ""))
        return tuple(dims)


def _numpy_name(dtype: int) -> str | None:
    if dtype in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return None
    return str(onnx.helper.tensor_dtype_to_np_dtype(dtype).name)
