"""Several gradients of one image from one forward: of several targets, or of several units of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.explained import explained_at
from convlens.instrument.session import Session
from convlens.precision import FULL, in_use, taken
from convlens.rows import repeated
from convlens.targets import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.targets import Target

Pick: TypeAlias = "Callable[[Mapping[str, Tensor], Sequence[int], Sequence[int]], Tensor]"
"""(the values, places in the batch, rows that are asked for at these places) -> their scores, one each."""

_COPIES = 2
"""How many copies of one image go forward together on a CPU where many rows are of it: of more a backward
costs no less for each, and with filters for every channel, whose values leave the cache, a third more."""
_WORTH = 8  # rows from which on another copy's forward pays for itself


def input_gradients(
    model: Model,
    array: NDArray[Any],
    targets: Sequence[Target],
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The signal that arrives at the input for each of several targets; each image goes forward once.

    Args:
        model: the model.
        array: inputs as the model takes them, images first; float64 computes in float64.
        targets: what is differentiated, one after the other, each on all of the images.
        rule: ``plain``, ``deconvnet`` or ``guided``.
        batch_size: images in one forward and backward. An image goes forward in several copies, each for
            other targets, where that is faster.
        advance: called with the share that is done.

    Returns:
        The signals, targets x the shape of ``array`` (of the embedding for tokens), and the scores,
        targets x N. Each is what :func:`~convlens.instrument.gradients.input_gradient` gives for that target.

    Raises:
        TargetError: a target has no gradient.
        UnsupportedError: integers go in and never become real numbers.
    """
    names = list(dict.fromkeys(n for target in targets for n in target.needs(model.graph.outputs)))
    alone = any(target.alone for target in targets)
    count = len(array)

    def pick(values: Mapping[str, Tensor], places: Sequence[int], rows: Sequence[int]) -> Tensor:
        scores: list[Tensor] = [torch.empty(())] * len(rows)
        for number in dict.fromkeys(row // count for row in rows):
            target, outputs = targets[number], targets[number].needs(model.graph.outputs)
            own = [k for k, row in enumerate(rows) if row // count == number]
            at = [places[k] for k in own]
            given = {name: values[name] if alone else values[name][at] for name in outputs}
            found = target.take([rows[k] % count for k in own]).score(given)
            if not found.requires_grad:
                raise TargetError(
                    f"{target.text} has no gradient; choose a value before the step that cuts it"
                )
            for k, score in zip(own, found, strict=True):
                scores[k] = score
        return torch.stack(scores)

    images = np.tile(np.arange(count), len(targets))
    goal = f"one of {', '.join(target.text for target in targets[:3])}{', ...' if len(targets) > 3 else ''}"
    signals, scores = shared(model, array, images, names, pick, goal, rule, batch_size, advance, alone=alone)
    return signals.reshape(len(targets), count, *signals.shape[1:]), scores.reshape(len(targets), count)


def shared(
    model: Model,
    array: NDArray[Any],
    images: Sequence[int] | NDArray[Any],
    names: Sequence[str],
    pick: Pick,
    text: str,
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
    prepare: Callable[[Session], None] = lambda _session: None,
    alone: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The signal at the input for each row that is asked for, rows of one image from one forward.

    Args:
        model: the model.
        array: inputs, images first.
        images: which image each row is of.
        names: the values that ``pick`` reads.
        pick: gives the scores of some rows.
        text: what is differentiated, for people.
        rule: what rectifiers do to the signal on its way back.
        batch_size: images in one forward and backward.
        advance: called with the share that is done.
        prepare: called with each batch's session before it runs.
        alone: whether the values' rows count what was found on one image, and not images.

    Returns:
        Signals and scores, in the order of ``images``.

    Raises:
        TargetError: there is no gradient.
    """
    place, source = explained_at(model.graph, model.source).value, model.source.name
    graph = model.instrument("float64" if array.dtype == np.float64 else "float32")
    use, way = in_use(), (source, place, rule, *names)
    lowered = use.lowered(array)
    fixed, step = model.runner.fixed_batch, model.runner.step(min(batch_size, max(len(images), 1)))
    most = 1 if alone else step if model.runner.device == "cuda" else min(step, _COPIES)
    slots = _slots(images, most)
    signals: list[NDArray[Any] | None] = [None] * len(images)
    scores: list[Any] = [None] * len(images)
    left: list[int] = []
    done = 0
    for start in range(0, len(slots), step):
        group = slots[start : start + step]
        part = repeated(array[[image for image, _ in group]], fixed or 0)
        with Session(graph, rule, source=source, precision=lowered) as session:
            prepare(session)
            tap = None if place == source else session.tap(place)
            if tap is not None:
                tap.replace(leaf)
            run = session.run(part, names)
            for name, value in run.items():
                check_rows(name, tuple(value.shape), len(part), alone)
            x = session.input if tap is None else tap.value
            passes = list(_passes([rows for _, rows in group]))
            for number, (places, rows) in enumerate(passes, start=1):
                found = pick(run, places, rows)
                if x is None or not found.requires_grad:
                    raise TargetError(f"{text} has no gradient; choose a value before the step that cuts it")
                keep = number < len(passes)
                signal, lost = session.gradient(found, x, keep, places)
                if signal is None:
                    raise TargetError(f"{text} does not depend on {'the input' if tap is None else place}")
                own, values = (each.detach().cpu().numpy() for each in (signal, found))
                for k, (at, row) in enumerate(zip(places, rows, strict=True)):
                    signals[row], scores[row] = own[at], values[k]
                left += [row for row, out in zip(rows, lost, strict=True) if out]
                done += len(rows)
                advance(done / len(images))
    first = [0] if lowered != FULL and way not in use.found and 0 not in left else []
    again = [*first, *left]
    if again:
        with taken(FULL):
            anew = shared(
                model,
                array,
                [int(images[row]) for row in again],
                names,
                lambda values, places, rows: pick(values, places, [again[row] for row in rows]),
                text,
                rule,
                batch_size,
                prepare=prepare,
                alone=alone,
            )
        for row, own, value in zip(again, *anew, strict=True):
            low = signals[row]
            if row in first and low is not None:
                use.compare(way, low, own)
            else:
                signals[row], scores[row] = own, value
    return np.stack([signal for signal in signals if signal is not None]), np.asarray(scores)


def _slots(images: Sequence[int] | NDArray[Any], most: int) -> list[tuple[int, list[int]]]:
    """Images as they go forward, each with the rows that are taken from it, those with most rows first.

    An image of many rows goes in up to ``most`` times, so that its rows go back side by side.
    """
    rows: dict[int, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(int(image), []).append(row)
    spread = max(1, most // max(1, len(rows)))
    found = []
    for image, own in rows.items():
        copies = max(1, min(spread, len(own) // _WORTH))
        found += [(image, own[k::copies]) for k in range(copies)]
    return sorted(found, key=lambda slot: -len(slot[1]))


def _passes(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], list[int]]]:
    """One row of each place of the batch after the other: the places that have one left, and the rows."""
    for number in range(max(map(len, rows))):
        places = [place for place, own in enumerate(rows) if number < len(own)]
        yield places, [rows[place][number] for place in places]


def leaf(value: Tensor) -> Tensor:
    """The value as a new start of the graph, to which gradients run and at which they stop."""
    return value.detach().requires_grad_()
