"""Small integer values on the way to a shape: computed with numbers and with symbols alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from convlens.graph.sizes import Extents, Size, product

Data: TypeAlias = "NDArray[Any]"
"""An array of numbers, or of objects where some of them are a :class:`Size`."""

LIMIT = 1024  # elements; what is larger is no shape


def evaluate(
    node: onnx.NodeProto,
    version: int,
    inputs: Sequence[Data | None],
    shapes: Sequence[Extents | None],
) -> list[Data] | None:
    """The outputs of ``node`` where they follow from what is known, else None.

    Args:
        node: the node, of the standard domain.
        version: its opset.
        inputs: what is known of the numbers of each input; None for unknown ones.
        shapes: what is known of the shape of each input.
    """
    if node.op_type == "Shape":
        return _shape(node, shapes[0])
    if node.op_type == "Size":
        return None if shapes[0] is None else [_packed(product(shapes[0]))]
    if any(name and data is None for name, data in zip(node.input, inputs, strict=True)) or not inputs:
        return None
    given = [data for data in inputs if data is not None]
    if sum(data.size for data in given) > 8 * LIMIT:
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    rule = _RULES.get(node.op_type)
    try:
        if rule is not None:
            found = rule(attributes, inputs)
        elif any(data.dtype == object for data in given) or node.op_type in _UNSTEADY:
            return None
        else:
            found = _reference(node, version, given)
    except Exception:
        return None  # malformed or uncommon: nothing is known, which is never wrong
    if found is None or any(data.size > LIMIT for data in found):
        return None
    return [_settled(data) for data in found]


_UNSTEADY = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}

Attributes: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = "Callable[[Attributes, Sequence[Data | None]], list[Data] | None]"


def _shape(node: onnx.NodeProto, shape: Extents | None) -> list[Data] | None:
    if shape is None:
        return None
    said = {a.name: a.i for a in node.attribute}
    part = list(shape)[said.get("start", 0) : said.get("end", len(shape))]
    out = np.empty(len(part), object)
    out[:] = part
    return [_settled(out)]


def _packed(size: int | Size) -> Data:
    out = np.empty((), object)
    out[()] = size
    return _settled(out)


def _settled(data: Data) -> Data:
    """Plain integers where no symbol is left."""
    if data.dtype != object or any(isinstance(item, Size) for item in data.reshape(-1)):
        return data
    return data.astype(np.int64)


def listed(data: Data | None) -> list[Any] | None:
    """The numbers and sizes of ``data`` in order, None where nothing is known."""
    return None if data is None else data.reshape(-1).tolist()


def _whole(data: Data | None) -> list[int] | None:
    """The same, but only where all of them are numbers."""
    return None if data is None or data.dtype == object else [int(i) for i in data.reshape(-1)]


def _axes(attributes: Attributes, inputs: Sequence[Data | None], index: int = 1) -> list[int] | None:
    if "axes" in attributes:
        return list(attributes["axes"])
    return _whole(inputs[index]) if len(inputs) > index else None


def _gather(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    data, places = inputs
    assert data is not None
    assert places is not None
    if places.dtype == object:
        return None
    return [np.asarray(np.take(data, places, axis=attributes.get("axis", 0)), data.dtype)]


def _slice(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    data = inputs[0]
    assert data is not None
    if "starts" in attributes:
        starts, ends = list(attributes["starts"]), list(attributes["ends"])
        axes, steps = attributes.get("axes"), None
    else:
        found = [_whole(given) for given in (*inputs[1:], None, None)][:4]
        if found[0] is None or found[1] is None:
            return None
        if any(given is not None and found[i] is None for i, given in enumerate(inputs[1:])):
            return None
        starts, ends, axes, steps = found[0], found[1], found[2], found[3]
    axes = list(range(len(starts))) if axes is None else list(axes)
    steps = [1] * len(starts) if steps is None else steps
    cut: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        length = data.shape[axis]
        stop: int | None = end
        if step < 0 and end < -length:
            stop = None
        cut[axis] = slice(start, stop, step)
    return [data[tuple(cut)]]


def _concat(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    return [np.concatenate([data for data in inputs if data is not None], axis=attributes.get("axis", 1))]


def _unsqueeze(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    axes, data = _axes(attributes, inputs), inputs[0]
    assert data is not None
    return None if axes is None else [np.expand_dims(data, tuple(axes))]


def _squeeze(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    axes, data = _axes(attributes, inputs), inputs[0]
    assert data is not None
    return [np.squeeze(data) if axes is None else np.squeeze(data, tuple(axes))]


def _reshape(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    data, shape = inputs[0], _whole(inputs[1])
    assert data is not None
    if shape is None:
        return None
    keep = not attributes.get("allowzero", 0)
    return [data.reshape([data.shape[i] if n == 0 and keep else n for i, n in enumerate(shape)])]


def _cast(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    data = inputs[0]
    assert data is not None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    if data.dtype == object:
        return [data] if dtype in (np.dtype(np.int64), np.dtype(np.int32)) else None
    return [data.astype(dtype)]


def _both(numbers: Callable[[Any, Any], Any]) -> Rule:
    """Arithmetic on two arrays: the same function on numbers and on sizes."""

    def rule(_attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
        return [np.asarray(numbers(inputs[0], inputs[1]))]

    return rule


def _div(_attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    a, b = inputs
    assert a is not None
    assert b is not None
    if a.dtype.kind == "f":
        return [np.asarray(a / b, a.dtype)]
    if object not in (a.dtype, b.dtype) and (np.any(a < 0) or np.any(b <= 0)):
        return [np.asarray(np.trunc(a / b), a.dtype)] if np.all(b != 0) else None
    return [np.asarray(a // b)]


def _equal(_attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    left, right = inputs
    assert left is not None
    assert right is not None
    a, b = np.broadcast_arrays(left, right)
    rows = list(zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True))
    # a size counts something, so it is no negative number; otherwise two different ones may coincide
    unsure = [
        x != y
        and not (isinstance(x, int) and x < 0 and _counts(y))
        and not (isinstance(y, int) and y < 0 and _counts(x))
        for x, y in rows
        if isinstance(x, Size) or isinstance(y, Size)
    ]
    if any(unsure):
        return None
    return [np.array([x == y for x, y in rows], bool).reshape(a.shape)]


def _counts(value: object) -> bool:
    return isinstance(value, Size) and all(n > 0 for n in value.terms.values())


def _where(_attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    test, a, b = inputs
    assert test is not None
    assert a is not None
    assert b is not None
    return None if test.dtype == object else [np.where(test, a, b)]


def _constant_of_shape(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    shape = _whole(inputs[0])
    if shape is None or np.prod(shape, dtype=np.int64) > LIMIT:
        return None
    value = (
        onnx.numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    )
    return [np.full(shape, value.reshape(-1)[0], value.dtype)]


def _range(_attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    if any(data is None or data.dtype == object for data in inputs):
        return None
    start, limit, delta = (data.item() for data in inputs if data is not None)
    if (limit - start) / delta > LIMIT:
        return None
    return [np.arange(start, limit, delta, dtype=inputs[0].dtype if inputs[0] is not None else None)]


def _reduce_prod(attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    data, axes = inputs[0], _axes(attributes, inputs)
    assert data is not None
    if data.ndim != 1 or (axes not in (None, [0], [-1])):
        return None
    total = np.empty((1,), object)
    total[0] = product(data.tolist())
    return [total if attributes.get("keepdims", 1) else total.reshape(())]


def _expand(_attributes: Attributes, inputs: Sequence[Data | None]) -> list[Data] | None:
    data, shape = inputs[0], _whole(inputs[1])
    assert data is not None
    return None if shape is None else [np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape)))]


_RULES: Mapping[str, Rule] = {
    "Identity": lambda _a, inputs: [data for data in inputs if data is not None],
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Cast": _cast,
    "Add": _both(np.add),
    "Sub": _both(np.subtract),
    "Mul": _both(np.multiply),
    "Div": _div,
    "Equal": _equal,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "ReduceProd": _reduce_prod,
    "Expand": _expand,
}


def alone(node: onnx.NodeProto, version: int, feeds: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """A model of one node of the standard domain, with inputs of the types and shapes of ``feeds``."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
        )
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "alone", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])


def _reference(node: onnx.NodeProto, version: int, given: Sequence[Data]) -> list[Data]:
    feeds = dict(zip([name for name in node.input if name], given, strict=True))
    results = ReferenceEvaluator(alone(node, version, feeds)).run(None, feeds)
    assert isinstance(results, list)
    return [np.asarray(result) for result in results]
