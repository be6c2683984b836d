"""Where the images lie after operators that move, cut, join and repeat along axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convlens.graph.batchaxis.rows import Reads, Rows, Rule, Stuck
from convlens.graph.evaluate import listed
from convlens.graph.sizes import divide, product


def transpose(r: Reads) -> list[Rows]:
    """The axes in another order."""
    rank = len(r.shape(0))
    order = list(r.attributes.get("perm", range(rank - 1, -1, -1)))
    return [replace(r.at(0), axis=order.index(r.at(0).axis))]


def reshape(r: Reads) -> list[Rows]:
    """Numbers keep their order, so the images lie where as many numbers stand before and after them."""
    r.only(0)
    rows, shape, out = r.at(0), r.shape(0), r.result()
    before = product(shape[: rows.axis]) * rows.outer
    axis = next((i for i, size in enumerate(out) if r.counts(size)), None)
    if axis is None:
        raise Stuck("its output has no axis for the images")
    outer, single = divide(before, product(out[:axis])), divide(out[axis], r.batch)
    inner = None if outer is None or single is None else divide(single, outer)
    if outer is None or inner is None or r.counts(outer) or r.counts(inner):
        raise Stuck("it mixes the images with other axes")
    if any(r.counts(size) for size in (*out[:axis], *out[axis + 1 :])):
        raise Stuck("it mixes the images with other axes")
    return [Rows(axis, outer, inner)]


def squeeze(r: Reads) -> list[Rows]:
    """Named axes of size one go."""
    r.only(0)
    axes, rank, rows = r.numbers(1, "axes"), len(r.shape(0)), r.at(0)
    if axes is None:
        raise Stuck("it drops every axis of size one, and that of the images was one")
    gone = {axis % rank for axis in axes}
    if rows.axis in gone:
        raise Stuck("it drops the axis of the images")
    return [replace(rows, axis=rows.axis - sum(axis < rows.axis for axis in gone))]


def unsqueeze(r: Reads) -> list[Rows]:
    """Axes of size one come."""
    r.only(0)
    axes = r.numbers(1, "axes") or []
    rank = len(r.shape(0)) + len(axes)
    new = {axis % rank for axis in axes}
    old = [axis for axis in range(rank) if axis not in new]
    return [replace(r.at(0), axis=old[r.at(0).axis])]


def concat(first: int = 0, step: int = 1) -> Rule:
    """Inputs ``first``, ``first + step``, ... end to end along another axis."""

    def rule(r: Reads) -> list[Rows]:
        r.only(*range(first, len(r.rows), step))
        found = {*r.rows[first::step]}
        if len(found) != 1:
            raise Stuck("it joins images with a constant, or images along different axes")
        rows = r.at(first)
        if int(r.attributes.get("axis", 1)) % len(r.shape(first)) == rows.axis:
            raise Stuck("it joins along the images")
        return [rows]

    return rule


def cut(r: Reads) -> list[Rows]:
    """A part of other axes."""
    r.only(0)
    rows, shape = r.at(0), r.shape(0)
    if any(r.counts(n) for i in (1, 2, 3, 4) for n in _listed(r, i) if i != 2):
        raise Stuck("it computes with the number of images")
    starts, ends = _given(r, 1, "starts"), _given(r, 2, "ends")
    axes = r.numbers(3, "axes")
    axes = list(range(len(starts))) if axes is None else [axis % len(shape) for axis in axes]
    steps = r.numbers(4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        everything = isinstance(end, int) and end >= 1 << 30
        if axis == rows.axis and (start != 0 or step != 1 or not (everything or end == shape[axis])):
            raise Stuck("it cuts the images")
        if axis != rows.axis and r.counts(end):
            raise Stuck("it computes with the number of images")
    return [rows]


def _listed(r: Reads, index: int) -> list[Any]:
    return (listed(r.data[index]) or []) if index < len(r.data) else []


def _given(r: Reads, index: int, name: str) -> list[Any]:
    found = list(r.attributes[name]) if name in r.attributes else _listed(r, index)
    if not found:
        raise Stuck(f"its {name} are not known")
    return found


def gather(r: Reads) -> list[Rows]:
    """Places along another axis, or rows of a table for each image."""
    r.only(0, 1)
    axis = int(r.attributes.get("axis", 0)) % len(r.shape(0))
    if r.rows[0] is None:
        return [replace(r.at(1), axis=r.at(1).axis + axis)]
    rows = r.at(0)
    if r.rows[1] is not None or rows.axis == axis:
        raise Stuck("it picks among the images")
    return [rows if rows.axis < axis else replace(rows, axis=rows.axis + len(r.shape(1)) - 1)]


def places(r: Reads) -> list[Rows]:
    """GatherElements and ScatterElements: like shaped tensors, moved along one axis."""
    if len({*r.rows}) != 1 or int(r.attributes.get("axis", 0)) % len(r.shape(0)) == r.at(0).axis:
        raise Stuck("it picks among the images")
    return [r.at(0)]


def pad(r: Reads) -> list[Rows]:
    """A margin along other axes."""
    r.only(0)
    rank, rows = len(r.shape(0)), r.at(0)
    pads = r.numbers(1, "pads") or []
    axes = r.numbers(3)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    if any(pads[i] or pads[i + len(axes)] for i, axis in enumerate(axes) if axis == rows.axis):
        raise Stuck("it pads the images")
    return [rows]


def resize(r: Reads) -> list[Rows]:
    """Other axes in another size."""
    r.only(0)
    rows = r.at(0)
    if r.result()[rows.axis] != r.shape(0)[rows.axis]:
        raise Stuck("it resizes along the images")
    if any(r.counts(size) for i, size in enumerate(r.result()) if i != rows.axis):
        raise Stuck("it computes with the number of images")
    if r.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Stuck("this form of it is not known")
    if r.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Stuck("this form of it is not known")
    return [rows]


def expand(r: Reads) -> list[Rows]:
    """Other axes repeated, or a constant for each image."""
    out = r.result()
    r.only(0)
    if r.rows[0] is not None:
        rows = replace(r.at(0), axis=r.at(0).axis + len(out) - len(r.shape(0)))
        if out[rows.axis] != r.shape(0)[r.at(0).axis]:
            raise Stuck("it repeats the images")
    else:
        rows = filled(r)[0]
        place = rows.axis - (len(out) - len(r.shape(0)))
        if place >= 0 and r.shape(0)[place] != 1:
            raise Stuck("it repeats along the images")
    if any(r.counts(size) for i, size in enumerate(out) if i != rows.axis):
        raise Stuck("it computes with the number of images")
    return [rows]


def filled(r: Reads) -> list[Rows]:
    """One constant everywhere: the images lie along the only axis that counts them."""
    axes = [i for i, size in enumerate(r.result()) if r.counts(size)]
    if len(axes) != 1 or r.result()[axes[0]] != r.batch:
        raise Stuck("it computes with the number of images")
    return [Rows(axes[0])]


def tile(r: Reads) -> list[Rows]:
    """Other axes repeated."""
    r.only(0)
    if (r.numbers(1) or [])[r.at(0).axis] != 1:
        raise Stuck("it repeats the images")
    return [r.at(0)]
