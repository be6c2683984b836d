"""Files exported for one image take any number of them, where it is proven that images stay apart.

The axis of the images is followed from the input through every node (:mod:`convlens.graph.batchaxis.rules`).
Constants that hold the batch of 1 (targets of Reshape, sizes of Resize, first states) are rewritten on
the way. One node that cannot be proven, and the file is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convlens.graph.batchaxis.rows import Reads, Rows, Stuck
from convlens.graph.batchaxis.rules import follow
from convlens.graph.evaluate import listed
from convlens.graph.extents import reshaped
from convlens.graph.passes.contract import changes
from convlens.graph.shapes import Walk
from convlens.graph.sizes import Extent, Extents, Size, divide, product, symbol


@changes("a batch of 1 made free", "nodes", "order", "weights", "shapes")
def free_batch(model: ir.Model) -> None:
    """Make the first axis of the only input free where it is 1 and the proof goes through."""
    source = _source(model)
    if source is None:
        return
    proof = _Proof(model, source)
    if proof.run() is None:
        proof.keep()
    else:
        proof.undo()


def why_fixed(model: ir.Model) -> str | None:
    """Which node keeps a normalised model at its batch of 1, in words; None where nothing does."""
    source = _source(model)
    if source is None:
        return None
    proof = _Proof(model, source)
    reason = proof.run()
    proof.undo()
    return reason


def _source(model: ir.Model) -> ir.Value | None:
    """The only input, where its first axis is 1."""
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    if len(inputs) != 1 or inputs[0].shape is None or not len(inputs[0].shape):
        return None
    return inputs[0] if inputs[0].shape[0] == 1 else None


_EXPAND = 8
"""The opset that brought Expand; before, Tile repeats an axis of length 1."""


class _Proof:
    """One attempt: walks through the graph, rewrites constants, and can take everything back."""

    def __init__(self, model: ir.Model, source: ir.Value) -> None:
        self.model, self.graph, self.source = model, model.graph, source
        assert source.shape is not None
        dims = [dim if isinstance(dim, int) else dim.value for dim in source.shape]
        self.symbol = next(name for name in ("N", "batch", "images", "N_images") if name not in dims)
        self.batch = symbol(self.symbol)
        name = source.name or ""
        self.walk = Walk(model, {name: (self.symbol, *dims[1:])})
        self.rows: dict[str, Rows] = {name: Rows(0)}
        self.depends = {name}
        self.taken = {value.name for node in self.graph for value in node.outputs} | {
            *self.graph.initializers
        }
        self.back: list[Callable[[], Any]] = []

    def run(self) -> str | None:
        """Walk through every node; returns why it failed, None where all is proven."""
        for node in list(self.graph):
            try:
                self._node(node)
            except Stuck as why:
                where = node.name or next((v.name for v in node.outputs if v.name), "")
                return f"{node.op_type} node {where!r}: {why}"
        for value in self.graph.outputs:
            rows = self.rows.get(value.name or "")
            if rows is None:
                return f"output {value.name!r} has no axis for images"
            if rows != Rows(0):
                return f"output {value.name!r} does not hold one entry an image along its first axis"
        return None

    def keep(self) -> None:
        """Write the free batch into the shapes that the file declares."""
        for value in (self.source, *self.graph.outputs):
            if value.shape is not None:
                value.shape = ir.Shape([self.symbol, *list(value.shape)[1:]])
        outputs = {value.name for value in self.graph.outputs}
        for node in self.graph:
            for value in node.outputs:
                if value.name in self.depends and value.name not in outputs:
                    value.shape = None  # inference says them anew

    def undo(self) -> None:
        """Leave the model as it was found."""
        for step in reversed(self.back):
            step()
        self.back.clear()

    def _node(self, node: ir.Node) -> None:
        if any(attr.type in _GRAPHS for attr in node.attributes.values()):
            if not self.depends.isdisjoint(_read_inside(node)):
                raise Stuck("it has a graph of its own inside")
            self.walk.step(node)
            return
        names = [value.name or "" if value is not None else "" for value in node.inputs]
        if self.depends.isdisjoint(names):
            self.walk.step(node)
            return
        for name in names:
            if name in self.depends and name not in self.rows and name not in self.walk.data:
                raise Stuck(f"it reads {name!r}, which does not keep images apart")
        self._prepare(node)
        self.walk.step(node)
        outputs = [value.name or "" for value in node.outputs]
        self.depends.update(name for name in outputs if name)
        if all(name in self.walk.data for name in outputs if name):
            return
        self._check(outputs, follow(self._reads(node)))

    def _check(self, outputs: Sequence[str], found: Sequence[Rows]) -> None:
        """The shapes have to say what the rows say; an output of unknown shape is not to be read."""
        for name, rows in zip(outputs, found, strict=True):
            shape = self.walk.extents.get(name)
            if not name or shape is None:
                continue
            rest = [*shape[: rows.axis], *shape[rows.axis + 1 :]]
            if shape[rows.axis] != rows.outer * self.batch * rows.inner or any(map(self._counts, rest)):
                raise Stuck("the shape of its output does not follow the images")
            self.rows[name] = rows

    def _counts(self, size: Extent) -> bool:
        return isinstance(size, Size) and self.symbol in size.symbols()

    def _reads(self, node: ir.Node) -> Reads:
        names = [value.name or "" if value is not None else "" for value in node.inputs]
        domain = "" if node.domain == "ai.onnx" else node.domain
        return Reads(
            op=f"{domain}.{node.op_type}" if domain else node.op_type,
            version=node.version or self.model.opset_imports.get(node.domain, 1),
            attributes={name: attr.value for name, attr in node.attributes.items()},
            rows=[self.rows.get(name) for name in names],
            shapes=[self.walk.extents.get(name) for name in names],
            data=[self.walk.data.get(name) for name in names],
            out=[self.walk.extents.get(value.name or "") for value in node.outputs],
            batch=self.batch,
        )

    def _prepare(self, node: ir.Node) -> None:
        """Rewrite the constants of ``node`` that hold the batch of 1."""
        if node.domain not in ("", "ai.onnx"):
            return
        if node.op_type == "Reshape" and len(node.inputs) == 2:
            self._reshape(node)
        elif node.op_type == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
            self._resize(node)
        elif node.op_type == "Concat":
            self._stretch(node, range(len(node.inputs)))
        elif node.op_type in ("LSTM", "GRU", "RNN"):
            self._stretch(node, [i for i in (5, 6) if i < len(node.inputs)])

    def _reshape(self, node: ir.Node) -> None:
        read, target = node.inputs
        assert read is not None
        assert target is not None
        rows, shape = self.rows.get(read.name or ""), self.walk.extents.get(read.name or "")
        wanted = listed(self.walk.data.get(target.name or ""))
        if rows is None or shape is None or wanted is None or any(isinstance(n, Size) for n in wanted):
            return
        exact = "allowzero" in node.attributes and bool(node.attributes["allowzero"].as_int())
        single = (*shape[: rows.axis], rows.outer * rows.inner, *shape[rows.axis + 1 :])
        one = reshaped(single, wanted, exact)
        axis = _place(rows, single, one)
        free = (*one[:axis], one[axis] * self.batch, *one[axis + 1 :])
        if reshaped(shape, wanted, exact) == free:
            return
        target_now = _target(shape, free)
        self._replace(node, 1, self._constant(node, np.array(target_now, np.int64)))
        if exact:
            held = list(node.attributes.items())

            def restore() -> None:
                node.attributes.clear()
                node.attributes.update(held)

            node.attributes.pop("allowzero")
            self.back.append(restore)

    def _resize(self, node: ir.Node) -> None:
        read, sizes = node.inputs[0], node.inputs[3]
        assert read is not None
        assert sizes is not None
        rows, shape = self.rows.get(read.name or ""), self.walk.extents.get(read.name or "")
        numbers = listed(self.walk.data.get(sizes.name or ""))
        if rows is None or shape is None or numbers is None or "axes" in node.attributes:
            return
        if rows == Rows(rows.axis) and numbers[rows.axis] == 1 and not any(map(self._counts, numbers)):
            roi = node.inputs[1]
            if self.model.opset_imports.get("", 1) < 18 or (roi is not None and self._holds(roi)):
                self._replace(node, 3, self._sized(node, read, rows.axis, numbers))
                return
            others = [axis for axis in range(len(numbers)) if axis != rows.axis]
            kept = np.array([numbers[axis] for axis in others], np.int64)
            node.attributes["axes"] = ir.AttrInt64s("axes", others)
            self.back.append(lambda: node.attributes.pop("axes"))
            self._replace(node, 3, self._constant(node, kept))

    def _holds(self, value: ir.Value) -> bool:
        """Whether ``value`` may have numbers in it."""
        return self.walk.extents.get(value.name or "") != (0,)

    def _stretch(self, node: ir.Node, indices: Sequence[int]) -> None:
        """Constants that meet images as one entry (class tokens, first states) are repeated for each."""
        like = next((v for v in node.inputs if v is not None and v.name in self.rows), None)
        if like is None:
            return
        rows = self.rows[like.name or ""]
        for index in indices:
            value = node.inputs[index]
            shape = self.walk.extents.get(value.name or "") if value is not None else None
            if value is None or shape is None or value.name in self.depends or rows != Rows(rows.axis):
                continue
            if len(shape) > rows.axis and shape[rows.axis] == 1:
                sizes = self._sized(node, like, rows.axis, [1] * len(shape))
                kind = "Expand" if self.model.opset_imports.get("", 1) >= _EXPAND else "Tile"
                (stretched,) = self._insert(node, kind, [value, sizes])
                self.rows[stretched.name or ""] = rows
                self.depends.add(stretched.name or "")
                self._replace(node, index, stretched)

    def _sized(self, node: ir.Node, like: ir.Value, axis: int, numbers: Sequence[Any]) -> ir.Value:
        """``numbers`` with the number of images, read from ``like``, in place of the one at ``axis``."""
        (shape,) = self._insert(node, "Shape", [like])
        (count,) = self._insert(node, "Gather", [shape, self._constant(node, np.array([axis]))], axis=0)
        parts = [np.array(part, np.int64) for part in (numbers[:axis], numbers[axis + 1 :])]
        front, behind = (self._constant(node, part) if part.size else None for part in parts)
        joined = [part for part in (front, count, behind) if part is not None]
        return self._insert(node, "Concat", joined, axis=0)[0]

    def _insert(
        self, before: ir.Node, op: str, inputs: Sequence[ir.Value], **attributes: int
    ) -> Sequence[ir.Value]:
        attrs = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        node = ir.Node("", op, inputs, attrs, num_outputs=1)
        node.outputs[0].name = self._name(before)
        self.graph.insert_before(before, node)
        self.back.append(lambda: self.graph.remove(node, safe=True))
        self.walk.step(node)
        self.depends.add(node.outputs[0].name or "")
        return node.outputs

    def _constant(self, node: ir.Node, array: np.ndarray[Any, Any]) -> ir.Value:
        name = self._name(node)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.INT64))
        value.const_value = ir.tensor(array.astype(np.int64), name=name)
        self.graph.register_initializer(value)
        self.back.append(lambda: self.graph.initializers.pop(name))
        self.walk.constant(name, array.astype(np.int64))
        return value

    def _replace(self, node: ir.Node, index: int, value: ir.Value) -> None:
        old = node.inputs[index]
        node.replace_input_with(index, value)
        self.back.append(lambda: node.replace_input_with(index, old))

    def _name(self, node: ir.Node) -> str:
        """A value name that nothing has, near that of what ``node`` computes."""
        stem = next((value.name for value in node.outputs if value.name), "value")
        number = 0
        while f"{stem}_images_{number}" in self.taken:
            number += 1
        self.taken.add(f"{stem}_images_{number}")
        return f"{stem}_images_{number}"


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _read_inside(node: ir.Node) -> set[str]:
    """Every name that ``node`` or a graph inside of it reads."""
    found = {value.name or "" for value in node.inputs if value is not None}
    for attr in node.attributes.values():
        if attr.type in _GRAPHS:
            for inner in [attr.as_graph()] if attr.type == ir.AttributeType.GRAPH else attr.as_graphs():
                found.update(value.name or "" for value in inner.outputs)
                for each in inner:
                    found |= _read_inside(each)
    return found


def _place(rows: Rows, single: Extents, one: Extents) -> int:
    """The axis of a reshaped value that the images lie along, given its shape for one image.

    Several can be right where axes of size one or merged ones stand side by side; the first of these
    that applies is taken: the images' own axis at its old place, an axis of one, a merged axis at the old
    place, rows rather than columns.
    """
    before = product(single[: rows.axis]) * rows.outer
    able = []
    for axis, size in enumerate(one):
        outer = divide(before, product(one[:axis]))
        if outer is not None and divide(size, outer) is not None:
            able.append(axis)
    if not able:
        raise Stuck("it mixes the images with other axes")
    alone = [axis for axis in able if one[axis] == 1]
    for choice in (alone, [] if len(one) == 2 else able):
        if rows.axis in choice:
            return rows.axis
        if choice is alone and alone:
            return alone[0]
    return able[0]


def _target(shape: Extents, free: Extents) -> list[int]:
    """What to write into a Reshape so that it gives ``free``: numbers, 0 to keep a size, -1 once."""
    out: list[int | None] = []
    for i, size in enumerate(free):
        if isinstance(size, int):
            out.append(size)
        else:
            out.append(0 if i < len(shape) and shape[i] == size else None)
    if out.count(None) > 1 or (0 in [size for size in free if isinstance(size, int)]):
        raise Stuck("its target cannot be written for any number of images")
    return [-1 if n is None else n for n in out]
