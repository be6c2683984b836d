"""Where the images lie after operators that compute: pointwise, in windows, in sums, in states."""

from __future__ import annotations

from dataclasses import replace

from convlens.graph.batchaxis.rows import Reads, Rows, Rule, Stuck
from convlens.graph.sizes import product


def elementwise(*indices: int) -> Rule:
    """Aligned from the right as numpy does it; ``indices`` are the tensors, all where none is given."""

    def rule(r: Reads) -> list[Rows]:
        chosen = indices or range(len(r.rows))
        if indices:
            r.only(*indices)
        rank = len(r.result())
        found: Rows | None = None
        for i in chosen:
            rows = r.rows[i] if i < len(r.rows) else None
            if rows is not None:
                here = replace(rows, axis=rows.axis + rank - len(r.shape(i)))
                if found is not None and found != here:
                    raise Stuck("its inputs hold the images along different axes")
                found = here
        if found is None:
            raise Stuck("no input holds images")
        for i in chosen:
            shape = r.shapes[i] if i < len(r.shapes) else None
            if i < len(r.rows) and r.rows[i] is None and shape is not None:
                place = found.axis - (rank - len(shape))
                if place >= 0 and shape[place] != 1:
                    raise Stuck(f"input {i} has numbers of its own for each place along the images")
        return [found] * len(r.out)

    return rule


def first_axis(r: Reads) -> list[Rows]:
    """Layers that take each entry of the first axis by itself; everything else is a weight."""
    r.only(0)
    if r.at(0).axis != 0:
        raise Stuck("the images are not along its first axis")
    if r.attributes.get("training_mode", 0) or r.attributes.get("channels_last", 0):
        raise Stuck("this form of it is not known")
    if any(out is not None for out in r.out[1:]):
        raise Stuck("its further outputs hold no images")
    return [r.at(0)] * len(r.out)


def fused_conv(r: Reads) -> list[Rows]:
    """A convolution with a sum and a rectifier in it."""
    r.only(0, 3)
    if r.at(0).axis != 0 or (len(r.rows) > 3 and r.shapes[3] is not None and r.rows[3] != r.rows[0]):
        raise Stuck("the images are not along its first axis")
    return [r.at(0)]


def max_pool(r: Reads) -> list[Rows]:
    """As :func:`first_axis`; indices would count through all images."""
    if len(r.out) > 1 and r.out[1] is not None:
        raise Stuck("its indices count through the whole batch")
    return first_axis(r)


def along(r: Reads, axis: int) -> list[Rows]:
    """Something is done along ``axis`` alone."""
    r.only(0)
    if axis % len(r.shape(0)) == r.at(0).axis:
        raise Stuck("it works along the images")
    return [r.at(0)] * len(r.out)


def by_axis(default: int, index: int = -1) -> Rule:
    """Along one axis, from attribute ``axis`` or input ``index``."""

    def rule(r: Reads) -> list[Rows]:
        given = r.numbers(index) if index >= 0 else None
        return along(r, given[0] if given else int(r.attributes.get("axis", default)))

    return rule


def softmax(r: Reads) -> list[Rows]:
    """Along one axis; before opset 13 over everything from that axis on."""
    if r.version >= 13:
        return along(r, int(r.attributes.get("axis", -1)))
    return from_axis(1)(r)


def from_axis(default: int) -> Rule:
    """Everything from an axis on is taken together."""

    def rule(r: Reads) -> list[Rows]:
        r.only(0)
        if r.at(0).axis >= int(r.attributes.get("axis", default)) % len(r.shape(0)):
            raise Stuck("it works across the images")
        return [r.at(0)] * len(r.out)

    return rule


def reduce(r: Reads) -> list[Rows]:
    """Some axes are read whole."""
    r.only(0)
    rank = len(r.shape(0))
    axes = r.numbers(1, "axes")
    if "axis" in r.attributes or r.op in ("ArgMax", "ArgMin"):
        axes = [int(r.attributes.get("axis", 0))]
    if not axes:
        if r.attributes.get("noop_with_empty_axes", 0):
            return [r.at(0)]
        raise Stuck("it reduces the images")
    gone = {axis % rank for axis in axes}
    rows = r.at(0)
    if rows.axis in gone:
        raise Stuck("it reduces the images")
    if r.attributes.get("keepdims", 1):
        return [rows]
    return [replace(rows, axis=rows.axis - sum(axis < rows.axis for axis in gone))]


def matmul(a: int, b: int) -> Rule:
    """Inputs ``a`` and ``b`` multiplied; neither may be summed along the images."""

    def rule(r: Reads) -> list[Rows]:
        r.only(a, b)
        left, right = r.shape(a), r.shape(b)
        rank = max(len(left), len(right))
        swapped = ("transA", "transB", "transBatchA", "transBatchB")
        if min(len(left), len(right)) < 2 or any(r.attributes.get(name, 0) for name in swapped[2:]):
            raise Stuck("this form of it is not known")
        found: set[Rows] = set()
        for index, shape, summed, other in (
            (a, left, -2 if r.attributes.get("transA", 0) else -1, right),
            (b, right, -1 if r.attributes.get("transB", 0) else -2, left),
        ):
            rows = r.rows[index]
            if rows is None:
                continue
            back = rows.axis - len(shape)
            if back == summed:
                raise Stuck("it sums over the images")
            if back < -2:
                if len(other) >= -back and r.rows[b if index == a else a] is None and other[back] != 1:
                    raise Stuck("it has weights of its own for each place along the images")
                found.add(replace(rows, axis=rank + back))
            else:
                if r.rows[b if index == a else a] is not None:
                    raise Stuck("it multiplies images with each other")
                found.add(replace(rows, axis=rank - (2 if index == a else 1)))
        if len(found) != 1:
            raise Stuck("its inputs hold the images along different axes")
        return [*found]

    return rule


def gemm(r: Reads) -> list[Rows]:
    """Rows of input 0 times weights."""
    r.only(0)
    if r.at(0).axis != (1 if r.attributes.get("transA", 0) else 0):
        raise Stuck("it sums over the images")
    bias = r.shapes[2] if r.op == "Gemm" and len(r.shapes) > 2 else None
    if bias is not None and len(bias) == 2 and bias[0] != 1:
        raise Stuck("its bias has rows of its own")
    return [replace(r.at(0), axis=0)]


def recurrent(r: Reads) -> list[Rows]:
    """Time x images x features; states need one entry an image."""
    r.only(0, 5, 6)
    rows = r.at(0)
    if rows.axis != 1 or r.attributes.get("layout", 0) or (len(r.shapes) > 4 and r.shapes[4] is not None):
        raise Stuck("the images are not where it expects them")
    for index in (5, 6):
        if index < len(r.shapes) and r.shapes[index] is not None and r.rows[index] != rows:
            raise Stuck("its first state is for one image")
    return [replace(rows, axis=2), rows, rows][: len(r.out)]


def quantise(r: Reads) -> list[Rows]:
    """One scale, or one for each place along another axis."""
    r.only(0)
    scale, axis = r.shape(1), int(r.attributes.get("axis", 1)) % max(len(r.shape(0)), 1)
    if len(scale) > 1 or (product(scale) != 1 and axis == r.at(0).axis):
        raise Stuck("it has a scale for each image")
    return [r.at(0)]


def one_hot(r: Reads) -> list[Rows]:
    """A new axis."""
    r.only(0)
    axis = int(r.attributes.get("axis", -1)) % (len(r.shape(0)) + 1)
    rows = r.at(0)
    return [replace(rows, axis=rows.axis + (rows.axis >= axis))]


def einsum(r: Reads) -> list[Rows]:
    """The letter of the images stands in every input that holds them, and in the output."""
    equation = str(r.attributes["equation"]).replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if not arrow or "." in equation:
        raise Stuck("this form of it is not known")
    letters = {term[rows.axis] for term, rows in zip(terms, r.rows, strict=True) if rows is not None}
    held = {(rows.outer, rows.inner) for rows in r.rows if rows is not None}
    if len(letters) != 1 or len(held) != 1:
        raise Stuck("its inputs hold the images along different axes")
    [letter] = letters
    if any(letter in term for term, rows in zip(terms, r.rows, strict=True) if rows is None):
        raise Stuck("it has weights of its own for each image")
    if output.count(letter) != 1 or any(term.count(letter) > 1 for term in terms):
        raise Stuck("it sums over the images")
    [(outer, inner)] = held
    return [Rows(output.index(letter), outer, inner)]


def grid(r: Reads) -> list[Rows]:
    """Images and where to read them."""
    r.only(0, 1)
    if {*r.rows} != {Rows(0)}:
        raise Stuck("the images are not along its first axis")
    return [Rows(0)]


def together(_r: Reads) -> list[Rows]:
    """What takes its scale from all numbers it gets."""
    raise Stuck("it takes one scale for the whole batch")


def boxes(_r: Reads) -> list[Rows]:
    """What gives a list whose length depends on the numbers."""
    raise Stuck("it gives as many boxes as it finds")
