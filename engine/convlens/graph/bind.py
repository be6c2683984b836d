"""Inputs bound to constants, so that everything behind loading sees a model with one input.

A number is broadcast to the shape that the input declares; an array has to have that shape, and numbers in
a row fill it where they are as many as it holds. Open dimensions take the array's lengths; with a number the
first one becomes 1, and others are refused. Two cases differ. A dimension whose symbol an input that stays
shares is as long as there: given once, it is repeated for as many rows as a run has. And where the file
leaves open whether a bound dimension is the batch, because one of the two has no symbol, the input that stays
is set to one row a run, which is right either way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convlens.errors import UnsupportedError, UsageError, nearest
from convlens.graph.passes.names import fresh, taken

Feed: TypeAlias = "bool | int | float | Sequence[Any] | NDArray[Any] | str | Path"
"""What an input can be bound to: a number, nested lists, an array, or a ``.npy`` file."""

_FEW = 64  # numbers that a record holds as they are


def bind(model: ir.Model, feeds: Mapping[str, Feed]) -> dict[str, NDArray[Any]]:
    """Turn the inputs named in ``feeds`` into initializers, in place; returns what each was bound to.

    Args:
        model: as the file has it, before any pass.
        feeds: values by input name.

    Raises:
        UsageError: no such input, a wrong size or type, an open dimension that nothing settles, or no
            input left.
    """
    inputs = {value.name: value for value in model.graph.inputs if value.name}
    arrays = {}
    for name, feed in feeds.items():
        if name not in inputs:
            free = [n for n in inputs if n not in model.graph.initializers]
            raise UsageError(
                f"no input {name!r} to bind{nearest(name, inputs)}; the model's inputs are {', '.join(free)}"
            )
        arrays[name] = _filling(_array(name, feed, inputs[name]), _dims(inputs[name]))
    staying = [v for n, v in inputs.items() if n not in arrays and n not in model.graph.initializers]
    if arrays and not staying:
        raise UsageError(f"every input is bound ({', '.join(arrays)}); expected one left to explain")
    for name, array in arrays.items():
        _replace(model, inputs[name], array, staying)
    return arrays


def fix(model: ir.Model, sizes: Mapping[str, Mapping[int, int]]) -> list[str]:
    """Give open axes the lengths in ``sizes``, by input and axis; returns in words what was done."""
    done = []
    for value in model.graph.inputs:
        lengths = sizes.get(value.name or "", {})
        if value.shape is None or not lengths:
            continue
        dims = [
            dim if isinstance(_dim(dim), int) else lengths.get(axis, dim)
            for axis, dim in enumerate(value.shape)
        ]
        if dims != list(value.shape):
            value.shape = ir.Shape(dims)
            done.append(f"input {value.name} fixed to {', '.join(str(n) for n in lengths.values())}")
    return done


def words(array: NDArray[Any]) -> str:
    """What an input is bound to: a number as it is, an array by its shape."""
    return str(array.item()) if array.ndim == 0 else f"an array of shape {list(array.shape)}"


def read(feed: Feed, folder: Path | None = None) -> NDArray[Any]:
    """The array that ``feed`` stands for; a file's name is taken relative to ``folder``.

    Raises:
        UsageError: the file cannot be read, or the lists hold no numbers of one shape.
    """
    if isinstance(feed, (str, Path)):
        path = Path(feed) if folder is None else folder / feed
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            why = getattr(error, "strerror", None) or "it is no .npy file"
            raise UsageError(f"{path}: cannot be bound to an input ({why}); expected a .npy file") from error
        if not isinstance(found, np.ndarray):
            raise UsageError(f"{path}: holds several arrays; expected a .npy file with one")
        return found
    try:
        array = np.asarray(feed)
    except ValueError as error:
        raise UsageError(f"cannot bind {feed!r}: its lists differ in length; expected an array") from error
    if array.dtype.kind not in "biufV":
        raise UsageError(f"cannot bind {feed!r}: expected a number, a list of numbers or a .npy file")
    return array


def _array(name: str, feed: Feed, value: ir.Value) -> NDArray[Any]:
    """The array in the declared dtype."""
    given = read(feed)
    if value.dtype is None or value.dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        raise UsageError(f"input {name!r} holds {value.dtype or 'no tensor'}; only numbers can be bound")
    dtype = value.dtype.numpy()
    real = np.issubdtype(dtype, np.floating) or dtype.kind == "V"
    if not real and given.dtype.kind == "f" and not np.array_equal(given, np.trunc(given)):
        raise UsageError(f"input {name!r} takes {dtype.name}, got {words(given)}; expected whole numbers")
    with np.errstate(all="ignore"):
        cast = given.astype(dtype)
    if not real and not np.array_equal(cast.astype(np.float64), given.astype(np.float64)):
        raise UsageError(f"input {name!r} takes {dtype.name}, which cannot hold {words(given)}")
    return cast


def _filling(array: NDArray[Any], dims: list[int | str | None] | None) -> NDArray[Any]:
    """Numbers in a row in the shape that they fill, an open first dimension being one; else as they are."""
    if array.ndim != 1 or dims is None or len(dims) < 2:
        return array
    shape = [1 if axis == 0 and not isinstance(dim, int) else dim for axis, dim in enumerate(dims)]
    lengths = [dim for dim in shape if isinstance(dim, int)]
    if len(lengths) < len(shape) or prod(lengths) != array.size:
        return array
    return array.reshape(lengths)


def _replace(model: ir.Model, value: ir.Value, array: NDArray[Any], staying: Sequence[ir.Value]) -> None:
    """Make ``value`` an initializer, or the output of a node that repeats one to the size of a run."""
    name, graph = value.name or "", model.graph
    dims = _dims(value)
    if dims is not None and array.ndim == 0:
        array = array.reshape((1,) * len(dims))
        number = True
    else:
        number = False
    shape, linked = array.shape, {}
    if dims is not None:
        if array.ndim != len(dims) or any(
            isinstance(d, int) and d != n and not number for d, n in zip(dims, array.shape, strict=False)
        ):
            want = ", ".join("?" if d is None else str(d) for d in dims)
            got = f"{array.size} numbers" if array.ndim == 1 else f"an array of shape {list(array.shape)}"
            raise UsageError(f"input {name!r} takes [{want}], got {got}")
        for axis, dim in enumerate(dims):
            if isinstance(dim, str) and array.shape[axis] == 1 and (where := _place(dim, staying)):
                linked[axis] = where
            elif not isinstance(dim, int) and number and axis > 0:
                raise UsageError(
                    f"input {name!r} leaves dimension {axis} ({dim or 'unnamed'}) open, so a single number "
                    "says too little; give an array in the shape that the model is to see"
                )
        full = [d if isinstance(d, int) else n for d, n in zip(dims, array.shape, strict=True)]
        array = np.array(np.broadcast_to(array, full), order="C")
        shape = array.shape
        for axis, dim in enumerate(dims):
            if not isinstance(dim, int) and axis not in linked:
                _settle(dim, shape[axis], staying)
    index = list(graph.inputs).index(value)
    graph.inputs.pop(index)
    default = graph.initializers.pop(name, None)
    used = taken(graph) | {name}
    stored = name if not linked else fresh(f"{name}_one", used)
    constant = ir.Value(
        name=stored,
        shape=ir.Shape(shape),
        type=value.type,
        const_value=ir.Tensor(array, name=stored, dtype=value.dtype),
    )
    result = constant
    if linked:
        nodes = _repeat(name, constant, linked, used)
        for initial in (
            i for node in nodes for i in node.inputs if i is not None and i.const_value is not None
        ):
            if initial is not constant and initial.name not in graph.initializers:
                graph.register_initializer(initial)
        result = nodes[-1].outputs[0]
        result.type, result.shape = value.type, value.shape
        first = next(iter(graph), None)
        if first is None:
            graph.extend(nodes)
        else:
            graph.insert_before(first, nodes)
    ir.convenience.replace_all_uses_with(default or value, result, replace_graph_outputs=True)
    if default is not None and default is not value:
        ir.convenience.replace_all_uses_with(value, result, replace_graph_outputs=True)
    value.name = None
    result.name = name
    graph.register_initializer(constant)


def _repeat(
    name: str, constant: ir.Value, linked: Mapping[int, tuple[ir.Value, int]], used: set[str]
) -> list[ir.Node]:
    """Nodes that expand ``constant`` along the linked axes to the length that another input has."""

    def weight(numbers: list[int], what: str) -> ir.Value:
        stored = fresh(f"{name}_{what}", used)
        tensor = ir.Tensor(np.array(numbers, np.int64), name=stored)
        kind = ir.TensorType(ir.DataType.INT64)
        return ir.Value(name=stored, shape=ir.Shape([len(numbers)]), type=kind, const_value=tensor)

    def node(op: str, reads: list[ir.Value], what: str, **attributes: int) -> ir.Node:
        made = ir.node(op, reads, attributes=attributes)
        made.outputs[0].name = fresh(f"{name}_{what}", used)
        return made

    nodes, parts = [], []
    for axis in range(len(constant.shape or ())):
        if axis in linked:
            source, where = linked[axis]
            nodes.append(node("Shape", [source], f"like{axis}"))
            nodes.append(
                node(
                    "Gather", [nodes[-1].outputs[0], weight([where], f"axis{axis}")], f"length{axis}", axis=0
                )
            )
            parts.append(nodes[-1].outputs[0])
        else:
            parts.append(weight([1], f"keep{axis}"))
    shape = parts[0]
    if len(parts) > 1:
        nodes.append(node("Concat", parts, "shape", axis=0))
        shape = nodes[-1].outputs[0]
    nodes.append(node("Expand", [constant, shape], "bound"))
    return nodes


def _settle(dim: str | None, length: int, staying: Sequence[ir.Value]) -> None:
    """Write a settled dimension into the inputs that stay: where its symbol is, and see the module."""
    for value in staying:
        if value.shape is None:
            continue
        dims = list(value.shape)
        for place, other in enumerate(dims):
            known = _dim(other)
            if dim is not None and known == dim:
                dims[place] = length
            elif place == 0 and not isinstance(known, int) and (dim is None or known is None):
                dims[place] = 1
        value.shape = ir.Shape(dims)


def _place(symbol: str, staying: Sequence[ir.Value]) -> tuple[ir.Value, int] | None:
    """An input that stays, and the axis of it that has this symbol."""
    for value in staying:
        for axis, dim in enumerate(value.shape or ()):
            if _dim(dim) == symbol:
                return value, axis
    return None


def _dims(value: ir.Value) -> list[int | str | None] | None:
    return None if value.shape is None else [_dim(dim) for dim in value.shape]


def _dim(dim: int | ir.SymbolicDim) -> int | str | None:
    """A length, a symbol, or None; some exporters write -1 or ``?`` where they do not know."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    return dim.value if dim.value not in ("", "?") else None


def record(bound: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What inputs were bound to as plain data: the numbers where they are few, else shape and SHA-256."""
    return {
        name: array.tolist()
        if array.size <= _FEW and array.dtype.kind in "biuf"
        else {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
        }
        for name, array in bound.items()
    }


def need_one(names: Sequence[str], source: str) -> None:
    """Refuse a model with several inputs that are not bound.

    Args:
        names: of its inputs.
        source: the one that is explained.

    Raises:
        UnsupportedError: it has others.
    """
    if len(names) < 2:
        return
    others = [name for name in names if name != source]
    say = " ".join(f"--feed {name}=VALUE" for name in others)
    raise UnsupportedError(
        f"the model has several inputs ({', '.join(names)}) and methods explain one, here {source!r}; bind "
        f"the others to constants: {say} (in Python feeds={{{', '.join(f'{n!r}: ...' for n in others)}}}, "
        "in the card a table [feeds])"
    )
