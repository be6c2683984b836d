"""Targets whose gradient is cut off, or vanishes: what to explain instead."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from convlens.classes import before_softmax
from convlens.errors import TargetError
from convlens.targets.advice import suggestion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph, Node
    from convlens.graph.layers import Layers
    from convlens.targets.target import Target

SATURATED = 0.999
"""Probability from which on the gradient of a softmax or sigmoid is less than a thousandth of the logit's."""

_CODES = ("int8", "uint8", "int16", "uint16")  # numbers that are calculated with, straight through
_SUMS = ("ConvInteger", "MatMulInteger")  # sums of such numbers
_CUTS = {
    "ArgMax": "the index of the largest number",
    "ArgMin": "the index of the smallest number",
    "TopK": "indices of the largest numbers",
    "NonZero": "the places of numbers other than zero",
    "NonMaxSuppression": "the indices of boxes",
    "Equal": "a comparison",
    "Greater": "a comparison",
    "GreaterOrEqual": "a comparison",
    "Less": "a comparison",
    "LessOrEqual": "a comparison",
    "MaxPool": "the indices of the largest numbers",
    "Cast": "whole numbers",
    "Sign": "a sign",
    "Floor": "whole numbers",
    "Ceil": "whole numbers",
    "Round": "whole numbers",
    "IsNaN": "a comparison",
    "IsInf": "a comparison",
    "Shape": "lengths",
    "Size": "lengths",
}
_FLAT = frozenset({"Sign", "Floor", "Ceil", "Round"})  # their result is real, its slope is zero


def check_slope(target: Target, graph: Graph, layers: Layers, place: str) -> None:
    """Refuse a target that no small change of the input moves.

    Args:
        target: the target.
        graph: the normalised graph.
        layers: its layers.
        place: ONNX name of the value at which the gradient is taken: the input, or what becomes of it.

    Raises:
        TargetError: it is cut off by an operator that chooses, compares or rounds; the message names the
            value before that operator, as it is typed.
    """
    for part in target.parts:
        found = cut_before(part.value, graph, place) if part.value else None
        if found is not None:
            raise TargetError(refusal(part.text, found, layers))


def refusal(text: str, cut: tuple[Node, str], layers: Layers) -> str:
    """Why a target has no gradient, and what to type instead."""
    node, before = cut
    layer = layers.get(before)
    what = _CUTS.get(node.op, "numbers that are chosen")
    advice = ""
    if layer is not None:
        advice = f"; explain what it is taken of, e.g. --target {shlex.quote(_typed(node, layer))}"
    return f"{text} has no gradient: {node.op} gives {what}{advice}"


def _typed(node: Node, layer: Any) -> str:
    """What is taken of, in the form in which a person would type it."""
    shape = layer.shape or ()
    if node.op == "ArgMax" and len(shape) >= 4 and layer.channel_axis is not None:
        return f"{layer.alias}={min(1, (layer.channels or 2) - 1)}@segment"
    return suggestion(layer)


def cut_before(value: str, graph: Graph, source: str) -> tuple[Node, str] | None:
    """The operator that cuts ``value`` off from the input, and the real value before it, which is not.

    None where a gradient reaches the input, or where no real value of the input comes before the cut. The
    value is empty where those that come before it are cut off as well.
    """
    dependent: dict[str, bool] = {}

    def depends(name: str) -> bool:
        if name not in dependent:
            dependent[name] = source in graph.ancestors([name])
        return dependent[name]

    reached, cuts = _followed(value, graph, source)
    if reached:
        return None
    for node, read in cuts:
        found = _real_before(node, read, graph, depends, source)
        if found is not None:
            whole = _followed(found[1], graph, source)[0]
            return found if whole else cut_before(found[1], graph, source) or (found[0], "")
    return None


def _followed(value: str, graph: Graph, source: str) -> tuple[bool, list[tuple[Node, str]]]:
    """Whether a gradient comes from ``value`` to the input, and where it is cut off on other ways."""
    cuts: list[tuple[Node, str]] = []
    seen, open_ = {value}, [value]
    while open_:
        name = open_.pop(0)
        if name == source:
            return True, cuts
        node = graph.producers.get(name)
        if node is None:
            continue
        flows = _flows(name, node, graph)
        for read in node.reads:
            if not read or read in seen:
                continue
            if flows and (_real(read, graph) or read == source):
                seen.add(read)  # what only a cut reads may still be read elsewhere by something that flows
                open_.append(read)
            else:
                cuts.append((node, read))
    return False, cuts


def _flows(name: str, node: Node, graph: Graph) -> bool:
    """Whether a change of what ``node`` reads changes ``name`` gradually."""
    return _real(name, graph) and node.op not in _FLAT and node.op not in ("Shape", "Size")


def _real(name: str, graph: Graph) -> bool:
    known, node = graph.value(name), graph.producers.get(name)
    if node is not None and node.op in _SUMS:
        return True
    return known.dtype is None or known.floating or known.dtype in _CODES


def _real_before(node: Node, read: str, graph: Graph, depends: Any, source: str) -> tuple[Node, str] | None:
    """The nearest real value of the input behind ``read``, and the operator between it and what is whole."""
    open_, seen = [(node, read)], set()
    while open_:
        user, name = open_.pop(0)
        if name in seen or not name or not depends(name) or name == source:
            continue
        seen.add(name)
        if _real(name, graph) and graph.value(name).floating:
            return user, name
        producer = graph.producers.get(name)
        if producer is not None:
            open_ += [(producer, other) for other in producer.reads]
    return None


def saturation(
    target: Target, scores: NDArray[Any], names: tuple[str, ...], graph: Graph, layers: Layers
) -> str | None:
    """A warning where a target is a probability that can hardly rise, None where it is not.

    Args:
        target: the target.
        scores: what it is on each image, N.
        names: of the images.
        graph: the normalised graph.
        layers: its layers.
    """
    last = squashed(target, graph)
    if last is None:
        return None
    logits, op = last
    far = [i for i, p in enumerate(scores.tolist()) if p > SATURATED or p < 1 - SATURATED]
    if not far:
        return None
    layer, own = layers.get(logits) if logits else None, layers.get(target.value)
    offer = ""
    if layer is not None and own is not None:
        typed = next(
            (layer.alias + target.text[len(n) :] for n in (own.alias, own.name) if target.text.startswith(n)),
            None,
        )
        if typed is None:
            place = "@" + ",".join(map(str, target.position)) if target.position else ""
            typed = f"{layer.alias}:{target.index}{place}" if isinstance(target.index, int) else layer.alias
        offer = f"; the score before it is --target {shlex.quote(typed)}"
    which = "" if len(names) == 1 else f" on {len(far)} of {len(names)} images"
    value = float(scores[far[0]])
    return (
        f"{target.text} is {value:.4f} after a {op.lower()}{which}: there its gradient all but vanishes, so "
        f"the map may show noise{offer}"
    )


def squashed(target: Target, graph: Graph) -> tuple[str, str] | None:
    """The value before the softmax or sigmoid whose result the target is, and the operator.

    The value is empty where the scores of boxes are written together with the boxes.
    """
    if target.kind not in ("channel", "neuron", "cells", "picked", "kept") or not target.value:
        return None
    if target.kind == "cells" and target.reduction == "norm":
        return None
    if target.look is not None and target.look.shares:
        return "", "sigmoid or softmax"
    logits, op = before_softmax(graph, target.value)
    return (logits, op) if op is not None else None
