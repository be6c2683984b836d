"""From what a person typed to a target."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from convlens.classes import Classes
from convlens.errors import LayerError, TargetError, nearest
from convlens.graph.layers import Layer, Layers, shape_text
from convlens.targets.advice import need_classes, suggestions
from convlens.targets.boxes import box_target
from convlens.targets.cells import CHANNEL, SELECTOR, by_channel, by_selector
from convlens.targets.dense import Dense, channel_maps, dense_of, dense_outputs, find_label, region
from convlens.targets.forms import find_form, why_unclear
from convlens.targets.heads import head_target
from convlens.targets.places import FORMS, Place, read_place
from convlens.targets.slopes import cut_before, refusal
from convlens.targets.sums import SIGN, read_sum, unquoted
from convlens.targets.target import Spec, Target
from convlens.targets.windows import window_scores, window_target

if TYPE_CHECKING:
    from convlens.graph.graph import Graph
    from convlens.graph.source import Source

_PLACED = re.compile(r"^(?:(?P<head>[^=@]+)=)?(?P<what>[^@]*?)\s*(?:@(?P<where>.*))?$")

Labels = tuple[tuple[str, ...], ...]


def resolve(
    spec: Spec,
    graph: Graph,
    layers: Layers,
    classes: Classes | None,
    source: Source | None = None,
    labels: Labels | None = None,
) -> Target:
    """A target on one model, from what a person typed or a program passed.

    Args:
        spec: see :mod:`convlens.targets`.
        graph: the normalised graph.
        layers: its layers.
        classes: the output with class scores, None where there is none.
        source: the input that is explained; without it there are no places on it.
        labels: class names for outputs that are no class scores.

    Raises:
        TargetError: there is no such class, label or output, or the text could mean two things.
        LayerError: there is no such layer, channel or position.
    """
    if isinstance(spec, Target):
        return spec
    if callable(spec):
        return Target("callable", "", getattr(spec, "__name__", "function"), function=spec)
    if spec is None:
        known = need_classes(classes, layers, "no target given and", graph.outputs)
        return Target("predicted", known.logits, "the predicted class")
    if not isinstance(spec, (int, np.integer, str)):
        raise TargetError(f"{spec!r} is no target; expected a class index, a text, a Target or a function")
    reader, text = _Reader(graph, layers, classes, source, labels), str(spec).strip()
    if reader.named(text):
        return reader.one(text)
    return read_sum(text, reader.one, reader.named, reader.names()) or reader.one(text)


class _Reader:
    """What texts can mean on one model."""

    def __init__(
        self,
        graph: Graph,
        layers: Layers,
        classes: Classes | None,
        source: Source | None,
        labels: Labels | None,
    ) -> None:
        self.graph = graph
        self.layers = layers
        self.classes = classes
        self.source = source
        self.labels = labels

    def one(self, text: str) -> Target:
        """Any text but a sum."""
        if re.fullmatch(r"-?\d+", text):
            lead = f"class {text} asked for, but"
            if self.classes is None and (found := self.by_class(text)) is not None:
                return found
            return _by_index(int(text), need_classes(self.classes, self.layers, lead, self.graph.outputs))
        return self.text(text if self.named(text) else unquoted(text))

    def names(self) -> Iterator[str]:
        """Everything that has a name: labels, layers by alias and ONNX name, outputs."""
        known = self.classes.labels if self.classes is not None else self.labels
        for own in known or ():
            yield from own
        for layer in self.layers:
            yield from (layer.alias, layer.name)
        yield from self.graph.outputs

    def named(self, text: str) -> bool:
        """Whether a text as a whole is a name, or cells or a channel of what it names."""
        if self._known(text):
            return True
        match = SELECTOR.match(text) or CHANNEL.match(text)
        return match is not None and self._known(match["name"]) and not SIGN.search(text, match.end("name"))

    def _known(self, name: str) -> bool:
        if self.layers.get(name) is not None or name in self.graph.outputs:
            return True
        labels = self.classes.labels if self.classes is not None else self.labels
        return any(name.lower() == label.lower() for own in labels or () for label in own)

    def text(self, text: str) -> Target:
        """Any text but a sum or a bare number."""
        labelled = _by_label(text, self.classes)
        layer = self.layers.get(text)
        if labelled is not None and layer is not None:
            raise TargetError(
                f"{text!r} is both a class and a layer; type the class's index or the ONNX name "
                f"{layer.name!r}"
            )
        if labelled is not None:
            return labelled
        if layer is not None:
            return Target("layer", layer.name, f"layer {layer.alias}", layer=layer)
        if match := SELECTOR.match(text):
            return by_selector(match, self.graph, self.layers, text)
        channel = CHANNEL.match(text)
        if channel and self.layers.get(channel["name"]):
            return by_channel(channel, self.layers, text)
        if text not in self.graph.outputs and ("@" in text or "=" in text):
            return self._placed(text)
        if channel:
            return by_channel(channel, self.layers, text)
        if self.classes is None and (found := self.by_class(text)) is not None:
            return found
        if text in self.graph.outputs:
            raise TargetError(self._not_real(text))
        known = self.classes.labels if self.classes is not None else self.labels
        options = [*(name for own in known or () for name in own), *(one.alias for one in self.layers)]
        what = "class or layer" if known else "layer (and no labels are known)"
        raise TargetError(f"no {what} called {text!r}{nearest(text, options)}")

    def _not_real(self, name: str) -> str:
        """Why an output that is no layer cannot be a target as it is."""
        cut = cut_before(name, self.graph, self.source.name) if self.source else None
        if cut is not None:
            return refusal(f"output {name!r}", cut, self.layers)
        texts = " or ".join(map(shlex.quote, suggestions(self.layers, self.graph.outputs)))
        return f"output {name!r} holds no real numbers; choose another value, e.g. --target {texts}"

    def by_class(self, text: str) -> Target | None:
        """A class of a model without class scores: of its maps, or of its boxes; None where it is neither.

        A number is a class only where the labels say how many there are.
        """
        if self.source is None or self.labels is None:
            return None
        form = find_form(self.graph, self.source, self.labels)
        if form is not None and form.names is not None:
            index = _class_of(text, form.names)
            return None if index is None else box_target(form, index, Place("all"), self._selectors())
        dense = [one for one in self._dense() if one.labels is not None]
        if not dense:
            return None
        found = dense[0].find(text)
        return None if found is None else self._region(dense, found, Place("all"), text)

    def _dense(self) -> list[Dense]:
        """The outputs with one map a class."""
        assert self.source is not None
        return dense_outputs(self.graph, self.layers, self.source, self.labels)

    def _region(self, dense: Sequence[Dense], index: int | None, place: Place, text: str) -> Target:
        if len(dense) > 1:
            forms = " or ".join(shlex.quote(f"{one.alias}={text}") for one in dense[:3])
            raise TargetError(f"{len(dense)} outputs hold maps; say which one, e.g. {forms}")
        return region(dense[0], index, place, self.layers.get(dense[0].value))

    def _placed(self, text: str) -> Target:
        """``HEAD=WHAT@WHERE``, each part of which but one may be missing."""
        match = _PLACED.match(text)
        if match is None or self.source is None:
            raise TargetError(f"{text!r}: expected CLASS@WHERE or OUTPUT=CLASS@WHERE, where WHERE is {FORMS}")
        what, where = match["what"].strip(), match["where"]
        if where is not None and not where.strip():
            raise TargetError(f"{text!r}: expected {FORMS} after @")
        place = read_place(where or "", len(self.source.spatial))
        if match["head"] is not None:
            return self._of_head(match["head"].strip(), what, place, text)
        if channel := re.fullmatch(r"(.+):(\d+)", what):
            return self._of_channel(channel[1], int(channel[2]), place)
        return self._of_model(what, place, text)

    def _of_head(self, head: str, what: str, place: Place, text: str) -> Target:
        """A class of the output (or layer) that is named."""
        layer = self.layers.get(head)
        value = layer.name if layer is not None else head
        if layer is None and head not in self.graph.outputs:
            known = [*self.graph.outputs, *(one.alias for one in self.layers)]
            raise TargetError(f"no output or layer {head!r}{nearest(head, known)}")
        assert self.source is not None
        if place.kind == "all":
            if self.classes is not None and value in (self.classes.name, self.classes.logits):
                if what == "predicted":
                    return Target("predicted", self.classes.logits, "the predicted class")
                return _by_index(int(what), self.classes) if what.isdecimal() else self._label_of(what)
            scores = head_target(self.graph, value, head, what, self.labels, layer)
            if scores is not None:
                return scores
        dense = dense_of(self.graph, self.layers, self.source, value, self.labels)
        if dense is None:
            form = find_form(self.graph, self.source, self.labels)
            if form is not None and value in form.reads:
                return self._of_boxes(what, place, text)
            shape = shape_text(self.graph.value(value).shape)
            raise TargetError(
                f"{text!r}: {head} is {shape} and holds neither class scores (N x classes) nor maps of "
                f"classes; name cells of it like {head}[0,1].max"
            )
        index = self._class_in(dense, what, text)
        windows = window_scores(self._dense())
        if windows is not None and windows.seen == dense.seen and place.kind == "point":
            return window_target(windows, index, place)
        return self._region([dense], index, place, text)

    def _label_of(self, what: str) -> Target:
        found = _by_label(what, self.classes)
        if found is None:
            labels = self.classes.labels if self.classes is not None else None
            raise TargetError(
                f"no class called {what!r}{nearest(what, [n for names in labels or () for n in names])}"
            )
        return found

    def _of_channel(self, name: str, channel: int, place: Place) -> Target:
        """A channel of a layer over a place."""
        assert self.source is not None
        layer: Layer = self.layers.find(name)
        maps = channel_maps(layer, self.source)
        if maps is None or place.kind not in ("peak", "box"):
            places = "row,column of the layer, peak, or first:last,first:last in pixels of the input"
            if maps is None:
                places = "nothing: its units have no place on the input"
            raise TargetError(f"{name}:{channel}@{place.text}: after a channel comes {places}")
        if layer.channels is not None and channel >= layer.channels:
            raise LayerError(
                f"layer {layer.alias!r} has no channel {channel}; it has channels 0 to {layer.channels - 1}"
            )
        return region(maps, channel, place, layer, channel=True)

    def _of_model(self, what: str, place: Place, text: str) -> Target:
        """A class, or whatever is there, at a place: of the boxes where there are boxes, else of the maps."""
        assert self.source is not None
        form = find_form(self.graph, self.source, self.labels)
        if form is not None or place.kind == "number":
            return self._of_boxes(what, place, text)
        dense = self._dense()
        if not dense:
            if self.classes is not None:
                raise TargetError(
                    f"{text!r}: the model gives one score a class for the whole input and no boxes or maps; "
                    "leave the place out"
                )
            raise TargetError(
                f"{text!r}: no output looks like boxes or like one map a class; "
                f"{why_unclear(self.graph, self.labels)}{self._selectors()}"
            )
        windows = window_scores(dense)
        if windows is not None and place.kind == "point":
            return window_target(windows, self._class_in(windows, what, text), place)
        if len(dense) > 1:
            self._region(dense, None, place, text)
        return self._region(dense, self._class_in(dense[0], what, text), place, text)

    def _of_boxes(self, what: str, place: Place, text: str) -> Target:
        assert self.source is not None
        form = find_form(self.graph, self.source, self.labels)
        if form is None:
            raise TargetError(
                f"{text!r}: no output looks like boxes; {why_unclear(self.graph, self.labels)}"
                f"{self._selectors()}"
            )
        index = None
        if what:
            index = int(what) if what.isdecimal() else find_label(what, form.names)
            if index is None:
                options = [name for names in form.names or () for name in names]
                known = nearest(what, options) if options else "; no labels are known for the boxes"
                raise TargetError(f"{text!r}: no class called {what!r}{known}")
        return box_target(form, index, place, self._selectors())

    def _class_in(self, dense: Dense, what: str, text: str) -> int | None:
        """The class of the maps that is typed; None where it is left out."""
        if not what:
            return None
        index = dense.find(what)
        if index is None:
            options = [name for names in dense.labels or () for name in names]
            hint = nearest(what, options) if options else f"; no labels are known for {dense.alias}"
            raise TargetError(f"{text!r}: no class called {what!r}{hint}")
        return index

    def _selectors(self) -> str:
        texts = " or ".join(map(shlex.quote, suggestions(self.layers, self.graph.outputs)))
        return f", e.g. --target {texts}"


def _class_of(text: str, labels: Labels) -> int | None:
    if text.isdecimal():
        return int(text) if int(text) < len(labels) else None
    return find_label(text, labels)


def _by_index(index: int, classes: Classes) -> Target:
    if not 0 <= index < classes.count:
        raise TargetError(f"no class {index}; the model has classes 0 to {classes.count - 1}")
    label = f" ({classes.label(index)})" if classes.labels else ""
    return Target("class", classes.logits, f"class {index}{label}", index=index)


def _by_label(text: str, classes: Classes | None) -> Target | None:
    if classes is None or classes.labels is None:
        return None
    index = find_label(text, classes.labels)
    return None if index is None else _by_index(index, classes)
