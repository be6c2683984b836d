"""What ``visualise`` seeks, picture by picture: one target, many channels, a direction, or variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.errors import ParameterError
from convlens.synthesis.directions import added, along, apart, direction_of
from convlens.synthesis.objectives import Goal, channels_of, goal_of, repeated

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.registry import Job
    from convlens.synthesis.visual.options import VisualiseParameters
    from convlens.targets import Target


@dataclass(frozen=True)
class Wanted:
    """The pictures of one job.

    Attributes:
        text: what all of them are for.
        labels: what each one is for, for people.
        goal: what is driven up in the pictures from one number up to another.
        classes: of each picture the class that it is to show; empty where none is.
        together: whether the pictures depend on each other, so that all are one batch.
        each: whether each starts from noise of its own.
    """

    text: str
    labels: tuple[str, ...]
    goal: Callable[[int, int], Goal]
    classes: tuple[int, ...] = ()
    together: bool = False
    each: bool = False


def wanted(job: Job[VisualiseParameters], target: Target) -> Wanted:
    """What the job asks for.

    Raises:
        ParameterError: what is asked for does not go together, or not with the target.
        LayerError: the layer has no such channel.
    """
    told, model = job.parameters, job.model
    if told.channel is not None and (told.direction is not None or told.variants > 1):
        other = "a direction" if told.direction is not None else "variants"
        raise ParameterError(f"channels and {other} do not go together; ask for one of the two")
    if told.diversity and told.variants < 2:
        raise ParameterError("diversity keeps variants apart, and there is one; say --variants 2 or more")
    if told.channel is not None:
        numbers = _numbers(told.channel, _layer(target, "channels"))
        several = channels_of(_layer(target, "channels"), numbers)
        labels = tuple(several.words(row) for row in range(len(numbers)))
        return Wanted(target.text, labels, lambda a, b: goal_of(model, several.rows(a, b)))
    count = told.variants
    if told.direction is not None:
        layer = _layer(target, "a direction is")
        vector = direction_of(model, layer, told.direction)
        toward = along(layer, vector)
        text = f"direction {Path(told.direction).name} in {layer.alias}"
        found = Wanted(text, (text,), lambda _a, _b: toward)
    else:
        one = repeated(target, count)
        index: Any = one.index
        classes = tuple(index) if one.kind == "class" else ()
        found = Wanted(target.text, (target.words(0),), lambda a, b: goal_of(model, one.rows(a, b)), classes)
    if count == 1:
        return found
    labels = tuple(f"{found.labels[0]}, variant {row + 1}" for row in range(count))
    goal = found.goal
    if told.diversity:
        _check_one_batch(job, count)
        away = apart(target.layer or _deepest(model))
        goal = lambda a, b: added((1.0, found.goal(a, b)), (told.diversity, away))  # noqa: E731
    return Wanted(found.text, labels, goal, found.classes, told.diversity > 0, True)


def _layer(target: Target, what: str) -> Layer:
    if target.kind != "layer" or target.layer is None:
        verb = what if what.endswith("is") else f"{what} are"
        raise ParameterError(f"{verb} of a layer, and the target is {target.text}; give a layer as target")
    return target.layer


def _numbers(text: str, layer: Layer) -> list[int]:
    if text != "all":
        return [int(part) for part in text.split(",")]
    if layer.channels is None:
        raise ParameterError(f"how many channels layer {layer.alias!r} has is not known; list them")
    return list(range(layer.channels))


def _deepest(model: Model) -> Layer:
    """Where variants of a class are told apart: the deepest layer whose units have a place."""
    placed = model.layers.placed()
    return (placed or model.layers)[-1]


def _check_one_batch(job: Job[VisualiseParameters], count: int) -> None:
    step = job.model.runner.step(count)
    if step < count:
        raise ParameterError(
            f"variants are kept apart in one batch, and this model takes {step} at a time; leave out "
            "diversity"
        )
    if job.batch_size < count:
        raise ParameterError(
            f"{count} variants are kept apart in one batch, and a batch is {job.batch_size}; say "
            f"--batch-size {count}"
        )
