"""Detectors: the score of a box, chosen by index, by class, or by a point that it contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import TargetError
from convlens.targets.coordinates import Reading, reading
from convlens.targets.forms import Form, background
from convlens.targets.places import Place, check_inside
from convlens.targets.target import Pick, Target, like

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAINT = 0.05
"""Score below which every common detector drops a box before it shows anything."""

_MOST = 0.5  # mean share from which on a first or last class is the one that stands for nothing


@dataclass(frozen=True)
class _Found:
    """What a detector found on one image: B x 4, B x classes (or B with their ids)."""

    boxes: NDArray[Any]
    scores: NDArray[Any]
    ids: NDArray[Any] | None = None


@dataclass(frozen=True)
class Box:
    """How a box is settled on an image.

    Attributes:
        form: how the model writes boxes.
        place: which one: of all, at a point, or by number.
        index: of its class, None for any.
        selectors: what can be typed instead, for refusals.
    """

    form: Form
    place: Place
    index: int | None
    selectors: str = ""

    @property
    def alone(self) -> bool:
        """Whether rows of the values count boxes."""
        return self.form.alone

    @property
    def shares(self) -> bool:
        """Whether what is read is a probability: class scores apart are read before a last sigmoid."""
        return self.form.kind != "apart"

    @property
    def squashed(self) -> bool:
        """Whether a last softmax or sigmoid stands between what is read and what the model gives."""
        return self.form.scores != self.form.seen

    @property
    def reads(self) -> tuple[str, ...]:
        """Boxes, scores and classes."""
        return self.form.reads

    def pick(self, values: Mapping[str, NDArray[Any]], extent: tuple[int, ...]) -> Pick:
        """The box with the largest score, of those that fit."""
        form, place = self.form, self.place
        check_inside(place, extent)
        found = self._found(values)
        if not len(found.boxes):
            raise TargetError("the model finds nothing on this image")
        try:
            read = reading(found.boxes, extent, form.rows_first, form.kind.startswith("listed"))
        except TargetError as error:
            if place.kind == "point":
                raise TargetError(
                    f"@{place.text}: {error}; name a box (@box:0) or a cell{self.selectors}"
                ) from error
            read = None
        corners = None if read is None else read.corners(found.boxes, extent)
        scores, classes, shift = self._scores(found)
        fits = np.isfinite(scores)
        if place.kind == "number":
            if place.number >= len(scores):
                raise TargetError(f"@{place.text}: no such box; the model gives boxes 0 to {len(scores) - 1}")
            fits &= np.arange(len(scores)) == place.number
        elif place.kind == "point":
            assert corners is not None
            row, column = (at + 0.5 for at in place.point)
            inside = (corners[:, 0] <= row) & (row <= corners[:, 2])
            fits &= inside & (corners[:, 1] <= column) & (column <= corners[:, 3])
        if not fits.any():
            what = "" if self.index is None else f" of {form.name(self.index, shift)}"
            where = f" that contains {place.text}" if place.kind == "point" else ""
            raise TargetError(f"the model gives no box{what}{where}")
        number = int(np.where(fits, scores, -np.inf).argmax())
        label = None if classes is None else int(classes[number])
        return self._told(values, number, label, shift, float(scores[number]), corners, read)

    def _told(
        self,
        values: Mapping[str, NDArray[Any]],
        number: int,
        label: int | None,
        shift: int,
        score: float,
        corners: NDArray[np.float64] | None,
        read: Reading | None,
    ) -> Pick:
        """The pick in words, as data, and as cells."""
        form = self.form
        record: dict[str, Any] = {"box": number, "score": score}
        parts = [f"box {number}"]
        if label is not None:
            record["class"] = label
            if form.names is not None and 0 <= label - shift < len(form.names):
                record["label"] = form.names[label - shift][0]
        if corners is not None and read is not None:
            record |= {"at": [round(float(c), 2) for c in corners[number]], "read_as": read.words()}
            top, left, bottom, right = (round(float(c)) for c in corners[number])
            parts.append(f"rows {top} to {bottom}, columns {left} to {right}")
        parts.append(f"score {score:.3g}")
        what = "" if label is None else form.name(label, shift) + ", "
        text = f"{what}{parts[0]} ({', '.join(parts[1:])})"
        if form.kind.startswith("listed"):
            if read is None:
                raise TargetError(f"{text}: where it lies is not known; name a cell{self.selectors}")
            top, left, bottom, right = read.corners(self._found(values).boxes[[number]], (1, 1))[0].tolist()
            return Pick(text, record=record, label=label, box=(top, left, bottom, right), reading=read)
        return Pick(text, self._cells(values, number, label), record, label)

    def _found(self, values: Mapping[str, NDArray[Any]], row: int = 0) -> _Found:
        """Boxes and scores of one image."""
        form = self.form
        if form.kind == "apart":
            return _Found(values[form.boxes][row], values[form.seen][row])
        if form.kind == "listed":
            names = [form.boxes, form.seen, *([form.labels] if form.labels else [])]
            arrays = [values[name] if form.alone else values[name][row] for name in names]
            return _Found(arrays[0], arrays[1], arrays[2] if form.labels else None)
        rows = values[form.boxes][row]
        rows = rows if form.last else rows.T
        if form.kind == "listed rows":
            ids = rows[:, 5]
            if (ids != np.round(ids)).any() or rows[:, 4].min() < 0 or rows[:, 4].max() > 1:
                raise TargetError(
                    f"{form.boxes!r} has six numbers a box, which are not corners, score and class; name a "
                    f"cell{self.selectors}"
                )
            return _Found(rows[:, :4], rows[:, 4], ids)
        if form.last and rows.shape[1] == 6 and (rows[:, 5] == np.round(rows[:, 5])).all():
            raise TargetError(
                f"{form.boxes!r} has six numbers a box: the last two may be score and class as well as the "
                "scores of the classes that the labels name; give no labels, or name a cell" + self.selectors
            )
        first = 5 if form.objectness else 4
        scores = rows[:, first : first + (form.count or 0)]
        if scores.min() < 0 or scores.max() > 1:
            raise TargetError(
                f"{form.boxes!r}: the numbers behind the four of each box are not all between 0 and 1, so "
                f"they are not class scores alone; name a cell{self.selectors}"
            )
        return _Found(rows[:, :4], scores * rows[:, 4:5] if form.objectness else scores)

    def _scores(self, found: _Found) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
        """The score of each box for the class that is asked for or its own, its class, and how far names lie
        behind classes."""
        form = self.form
        scores = found.scores.astype(np.float64)
        if form.kind.startswith("listed"):
            if self.index is None:
                return scores, found.ids, 0
            if found.ids is None:
                raise TargetError("the model gives no classes for its boxes; leave the class out")
            return np.where(found.ids == self.index, scores, np.nan), found.ids, 0
        empty, shift = self._background(scores)
        index = self.index
        if index is not None:
            if isinstance(self.form.names, tuple) and shift:
                index += shift
            if index >= scores.shape[1]:
                raise TargetError(f"no class {index}; the model has classes 0 to {scores.shape[1] - 1}")
            return scores[:, index], np.full(len(scores), index), shift
        if empty is not None:
            scores[:, empty] = -np.inf
        return scores.max(axis=1), scores.argmax(axis=1), shift

    def _background(self, scores: NDArray[np.float64]) -> tuple[int | None, int]:
        """The class that stands for nothing (None: there is none), and how far names lie behind classes."""
        form = self.form
        if form.kind != "apart":
            return None, 0
        named = background(form.names)
        if named is not None:
            return named, 0
        shares = form.softmax or bool(np.abs(scores.sum(axis=1) - 1).max() < 1e-3 and scores.shape[1] > 1)
        whole = form.names is None or len(form.names) == scores.shape[1]
        if not shares and whole:
            return None, 0
        means = scores.mean(axis=0)
        ends = [end for end in (0, scores.shape[1] - 1) if shares and means[end] >= _MOST]
        if ends:
            return ends[0], int(ends[0] == 0 and not whole)
        if self.index is not None and whole:
            return None, 0
        raise TargetError(
            "one class stands for nothing, and whether it is the first or the last is not clear here; "
            + ("give a label for it, too" if not whole else f"name a class, or a cell{self.selectors}")
        )

    def _cells(self, values: Mapping[str, NDArray[Any]], number: int, label: int | None) -> NDArray[np.int64]:
        """Where in the image's row of the value the numbers lie that make up the score."""
        form = self.form
        assert label is not None
        shape = values[form.seen].shape[1:]
        if values[form.scores].size != values[form.seen].size:
            raise TargetError(f"{form.seen!r} changes its shape before its end; name a cell{self.selectors}")
        columns = [label]
        if form.kind == "rows":
            columns = [4, 5 + label] if form.objectness else [4 + label]
        at = [(number, c) if form.last else (c, number) for c in columns]
        return np.array([np.ravel_multi_index(cell, shape) for cell in at], np.int64)

    def score(self, values: Mapping[str, Any], picks: Sequence[Pick]) -> Any:
        """The score of the box that overlaps most with the one picked, times the overlap; shape N.

        What a suppression keeps comes in the order of the scores, so its numbers name other boxes on
        another image: a box is found again by its class and place. On the image itself it is its score.
        """
        form = self.form
        plain = {name: _numbers(values[name]) for name in self.reads}
        count = 1 if form.alone else len(plain[form.seen])
        kept, overlaps = [], []
        for row in range(count):
            pick = picks[row] if len(picks) > 1 else picks[0]
            assert pick.box is not None
            number, overlap = self._again(self._found(plain, row), pick)
            kept.append(number)
            overlaps.append(overlap)
        value = values[form.scores]
        if form.kind == "listed rows":
            value = value[:, :, 4] if form.last else value[:, 4]
        if form.alone:
            value = value.reshape(1, -1)
        if not value.shape[1]:
            return value.sum(axis=1) * 0
        found = value[np.arange(count), np.array(kept)]
        return found * like(np.array(overlaps), found)

    @staticmethod
    def _again(found: _Found, pick: Pick) -> tuple[int, float]:
        """The box of the pick's class whose score times overlap with it is largest, and the overlap."""
        if not len(found.boxes):
            return 0, 0.0
        assert pick.reading is not None
        corners = pick.reading.corners(found.boxes, (1, 1))
        overlap = overlaps_with(corners, np.array(pick.box))
        if found.ids is not None:
            overlap = np.where(found.ids == pick.label, overlap, 0)
        number = int((overlap * np.maximum(found.scores, 0)).argmax())
        return number, float(overlap[number])


def faint(target: Target, names: Sequence[str]) -> str | None:
    """A warning where the box that was picked has next to no score, None where it has.

    Args:
        target: a settled target.
        names: of the images.
    """
    if not isinstance(target.look, Box) or (target.look.form.kind == "apart" and not target.look.squashed):
        return None
    scores = [float(pick.record["score"]) for pick in target.picks]
    weak = [i for i, score in enumerate(scores) if 0 <= score < FAINT]
    if not weak:
        return None
    which = "" if len(names) == 1 else f" on {len(weak)} of {len(names)} images"
    return (
        f"{target.text} has a score of only {scores[weak[0]]:.2g}{which}: the model hardly finds anything "
        "there, and what is explained is hardly a detection"
    )


def overlaps_with(corners: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shared area over united area of each of ``corners`` (B x 4) with ``box``."""
    low, high = np.maximum(corners[:, :2], box[:2]), np.minimum(corners[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = np.clip(corners[:, 2:] - corners[:, :2], 0, None).prod(axis=1)
    united = areas + float(np.clip(box[2:] - box[:2], 0, None).prod()) - shared
    return np.where(united > 0, shared / np.where(united > 0, united, 1), 0.0)


def _numbers(value: Any) -> NDArray[Any]:
    """An array, or a tensor as one, without its gradient."""
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def box_target(form: Form, index: int | None, place: Place, selectors: str = "") -> Target:
    """The target: the score of the best box of a class, at a point, or by its number."""
    if place.kind not in ("all", "point", "number"):
        raise TargetError(
            f"@{place.text}: the model gives boxes; expected a point (row,column) or @box:NUMBER"
        )
    if index is None and place.kind == "all":
        raise TargetError("of which class, or where? expected CLASS, @row,column or @box:NUMBER")
    what = "the best box" if place.kind != "number" else f"box {place.number}"
    of = "" if index is None else f" of {form.name(index)}"
    at = f" at {place.text}" if place.kind == "point" else ""
    kind = "kept" if form.kind.startswith("listed") else "picked"
    look = Box(form, place, index, selectors)
    return Target(kind, form.scores, f"{what}{of}{at}", reduction="product", look=look)
