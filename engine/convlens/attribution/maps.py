"""Results that lie over the input: how they are made alike, and how they are read alike.

The hint ``heat`` of such a Result names the array that ranks the parts of the input, ``array``, and how its
channels become one number, ``reduction`` (``max``, ``mean``, ``signed``, or None where it has none).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convlens.explained import Place, explained_at
from convlens.pictures.scenes import reduced
from convlens.results import Result
from convlens.shown import given_arrays, given_units, info, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.source import Source
    from convlens.registry import Job

Reduction = Literal["max", "mean", "signed"]


@dataclass(frozen=True)
class Signal:
    """What a method found at the input, before it becomes a Result.

    Attributes:
        name: of the main array.
        array: signed, in the shape of the input; of tokens, in the shape of their embedding.
        scores: the target's score, one an image.
        unit: of ``array``.
        title: what it is, before "of TARGET".
        contribution: whether the numbers are shares of the score, which may be added up, and not
            slopes. Shares are summed over channels, slopes compared by magnitude.
        reduction: colours to one number in the picture.
        colour: whether a picture in the photo's own colours tells something.
        arrays: further arrays, images first, with ``units``.
        rows: further columns of the table, one mapping an image.
        hints: further hints, with ``how`` for further facts of how it was made.
    """

    name: str
    array: NDArray[Any]
    scores: NDArray[Any]
    unit: str
    title: str
    contribution: bool
    reduction: Reduction
    colour: bool = True
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    hints: Mapping[str, Any] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)


def input_map(job: Job[Any], method: str, signal: Signal) -> Result:
    """A Result of kind ``map`` whose main array has the input's shape.

    Of tokens it has the embedding's shape, and two arrays tell of whole tokens, N x T: ``magnitude``,
    the length of each token's vector, and ``product``, the sum of the token's shares of the score
    (for a slope: of slope times embedding).
    """
    assert job.target is not None
    source = job.model.source
    place = explained_at(job.model.graph, source)
    arrays = {signal.name: signal.array, "score": signal.scores, **signal.arrays}
    units = {signal.name: signal.unit, "score": "score of the target", **signal.units}
    draw: list[dict[str, Any]] = [
        {
            "array": signal.name,
            "style": "map",
            "reduction": signal.reduction,
            "label": _label(source, signal.reduction),
        }
    ]
    heat: dict[str, Any] = {
        "array": signal.name,
        "reduction": "signed" if signal.contribution else "max",
    }
    if signal.colour and source.image and source.channels in (None, 1, 3):
        draw.append({"array": signal.name, "style": "colour"})
    if place.how == "embedding":
        arrays |= _per_token(job, signal, place)
        units |= {"magnitude": signal.unit, "product": "score"}
        words = place.words()
        product = "sum" if signal.contribution else "gradient x embedding"
        length = "length of the shares" if signal.contribution else "length of the gradient"
        draw = [
            {"array": "product", "style": "map", "label": f"{product}, at {words}"},
            {"array": "magnitude", "style": "strength", "reduction": "max", "label": f"{length}, at {words}"},
        ]
        heat = {"array": "product", "reduction": None}
    own = signal.rows or [{}] * len(job.images)
    return Result(
        method=method,
        kind="map",
        main=signal.name,
        arrays={**arrays, **given_arrays(job)},
        units={**units, **given_units(job)},
        images=job.images.names,
        views=job.images.views,
        rows=tuple(
            {
                "image": name,
                "target": job.target.words(i),
                "score": float(signal.scores[i]),
                "largest": float(abs(signal.array[i]).max()),
                **own[i],
            }
            for i, name in enumerate(job.images.names)
        ),
        hints={
            "draw": draw,
            "heat": heat,
            "layout": source.layout,
            "channels": job.model.colours,
            **shown(job),
            "each": _each(job, signal.title, ""),
            **signal.hints,
        },
        how={"explained_at": place.words(), **signal.how},
    )


def spatial_map(
    job: Job[Any],
    method: str,
    main: str,
    arrays: Mapping[str, NDArray[Any]],
    units: Mapping[str, str],
    *,
    title: str,
    label: str,
    signed: bool = True,
    short: str = "",
    rows: Sequence[Mapping[str, Any]] = (),
    hints: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
) -> Result:
    """A Result of kind ``map`` whose main array has one number a position of the input.

    Args:
        job: what was asked for.
        method: its name.
        main: name of the main array, N x the input's spatial axes (:attr:`Source.axes`).
        arrays: every array, images first.
        units: of each.
        title: what it is, before "of TARGET".
        label: of the colour scale.
        signed: whether numbers below zero mean something.
        short: added to each picture's short caption.
        rows: the table, one mapping an image.
        hints: further hints.
        how: further facts of how it was made.
    """
    assert job.target is not None
    style = "overlay" if job.images.views is not None else "map"
    draw = {"array": main, "style": style, "label": label, **({} if signed else {"reduction": "max"})}
    own = rows or [{}] * len(job.images)
    return Result(
        method=method,
        kind="map",
        main=main,
        arrays={**arrays, **given_arrays(job)},
        units={**units, **given_units(job)},
        images=job.images.names,
        views=job.images.views,
        rows=tuple(
            {"image": name, "target": job.target.words(i), **own[i]}
            for i, name in enumerate(job.images.names)
        ),
        hints={
            "draw": [draw],
            "heat": {"array": main, "reduction": None},
            "layout": "NCHW",
            **shown(job),
            "each": _each(job, title, short),
            **(hints or {}),
        },
        how=how or {},
    )


def heat(result: Result, source: Source) -> NDArray[Any]:
    """How much each part of the input speaks for the target, N x the input's spatial axes.

    The higher the number, the more the part matters: magnitudes for slopes, signed sums for shares of
    the score, whatever kind of map it is.
    """
    hint = result.hints["heat"]
    about = info(source)
    values = result.arrays[hint["array"]].astype(np.float64)
    if hint["reduction"] is None:
        return values
    return np.stack([reduced(each, about, hint["reduction"]) for each in values])


def _each(job: Job[Any], title: str, short: str) -> list[dict[str, Any]]:
    target = job.target
    assert target is not None
    return [
        {
            "title": f"{title} of {target.words(i)}",
            "short": f"{target.words(i)}{'; ' if short else ''}{short}",
            **words_of(job, i),
        }
        for i in range(len(job.images))
    ]


def _label(source: Source, reduction: Reduction) -> str:
    """What the picture's numbers are: colours or channels brought to one number, if there are several."""
    if source.channels == 1 or (source.channels is None and not source.image):
        return {"max": "magnitude", "mean": "magnitude", "signed": "signed"}[reduction]
    over = "colours" if source.image else "channels"
    what = {"max": f"largest magnitude over {over}", "mean": "mean magnitude", "signed": "signed sum"}
    return what[reduction]


def _per_token(job: Job[Any], signal: Signal, place: Place) -> dict[str, NDArray[Any]]:
    """Two numbers a token, N x T, from what was found at the embedding."""
    array = signal.array
    if signal.contribution:
        shares = array
    else:
        given = {job.model.source.name: job.images.array}
        shares = array * job.model.runner.run(given, [place.value], job.batch_size)[place.value]
    apart = (*job.images.array.shape, -1)
    return {
        "magnitude": np.sqrt((array**2).reshape(apart).sum(axis=-1)),
        "product": shares.reshape(apart).sum(axis=-1),
    }
