"""``dream``: what a layer sees in a photo, made stronger and stronger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.errors import TargetError, UnsupportedError
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result
from convlens.shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.dreams.search import Dreamt
    from convlens.targets import Spec


class DreamParameters(Parameters):
    """What ``dream`` can be told."""

    guide: str | None = Field(
        None, description="file of a second image; each place goes towards what fits it best in there"
    )
    octaves: int = Field(4, ge=1, le=30, description="sizes of the picture, from small to full")
    octave_factor: float = Field(1.4, gt=1, le=4, description="from one size to the next")
    steps: int = Field(10, ge=1, le=10000, description="steps at each size")
    learning_rate: float = Field(
        0.01,
        gt=0,
        le=1,
        description="root mean square of what a step changes",
        json_schema_extra={"unit": "black to white of a photo (else standard deviations)"},
    )
    jitter: int = Field(
        32,
        ge=0,
        description="largest roll at each step where a tile holds the whole picture",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    side: int | None = Field(
        None,
        ge=8,
        le=32768,
        description="longest side of the picture; that of the photo by default",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    tile: int | None = Field(
        None,
        ge=16,
        le=8192,
        description="largest side of a tile; the model's own where it takes no other size, else 512",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )


@register
class Dream(Method[DreamParameters]):
    """What a layer sees in a photo, made stronger step by step, in the photo at its own size.

    ``dream`` (main) and ``photo``, which it began with, are N x channels x the spatial axes of what went in:
    of photos red, green, blue from 0 to 1 (``photo`` in 8 bits, height x width x colours), else the numbers
    that the model takes. Photos of different sizes come out as ``dream 1``, ``photo 1``, ``dream 2`` and so
    on. ``score`` is what is driven up, of a layer half its mean square, and ``start`` that of the photo,
    each N.
    """

    name = "dream"
    summary = "what a layer sees in a photo, made stronger and stronger"
    paper = Paper(
        "Mordvintsev, Olah and Tyka 2015",
        "Inceptionism, and the notebook with it",
        "https://research.google/blog/inceptionism-going-deeper-into-neural-networks/",
    )
    kind = "panels"
    Parameters = DreamParameters
    gradients = True
    target = True
    searches = True
    preview: ClassVar[dict[str, Any]] = {"steps": 2, "octaves": 2, "jitter": 1}

    def default(self, model: Model) -> Spec:
        """The deepest layer whose units have a place and lie no more than 16 pixels apart."""
        placed = model.layers.placed()
        near = [layer for layer in placed if layer.field and max(layer.field.stride) <= 16]
        return ((near or placed or model.layers)[-1]).alias

    def run(self, job: Job[DreamParameters]) -> Result:
        """One search an image, as many tiles of it at once as the batch has room for."""
        from convlens.graph.source import KINDS
        from convlens.synthesis.canvas import canvas_for
        from convlens.synthesis.dreams.search import dreamt, guide_of

        assert job.target is not None
        source = job.model.source
        if not source.spatial:
            raise UnsupportedError(
                f"a dream has several sizes and tiles; input {source.name!r} takes {KINDS[source.kind]}, "
                "which has no places"
            )
        if job.target.looks:
            raise TargetError(
                f"{job.target.text} is found on an image as the model sees it, and a dream has other sizes "
                "and tiles; name a layer, a channel or a class"
            )
        canvas, made = canvas_for(job.model), []
        guide = guide_of(job, canvas)
        for index in range(len(job.images)):
            made.append(dreamt(job, index, guide))
            if made[-1].outcome.interrupted is not None:
                break
        return _result(self, job, canvas, made)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Pictures in which nothing came about."""
        return [
            Finding(
                "attention",
                f"{row['target']} answers nothing in {row['image']}, and the photo stays as it is.",
                "its gradient is zero everywhere",
                index,
            )
            for index, row in enumerate(result.rows)
            if row["silent"] and row["score"] <= row["start"]
        ]


def _result(method: Dream, job: Job[DreamParameters], canvas: Canvas, made: Sequence[Dreamt]) -> Result:
    """The pictures, in one array where they have one size."""
    from convlens.pictures.picture import stems

    assert job.target is not None
    names = job.images.names[: len(made)]
    words = [job.target.words(i) for i in range(len(made))]
    arrays, places, shared = _arranged(made)
    unit = "0 black to 1 white" if canvas.photo else "as the model takes it"
    as_was = "8-bit photo" if canvas.photo else "as the model takes it"
    own = stems(names)
    return Result(
        method=method.name,
        kind=method.kind,
        main=next(iter(arrays)),
        arrays=arrays,
        units={name: unit if name.startswith("dream") else as_was for name in arrays}
        | dict.fromkeys(("start", "score"), "what is driven up, of a layer half its mean square"),
        images=names,
        views=None if job.images.views is None else job.images.views[: len(made)],
        rows=tuple(
            {
                "image": name,
                "target": word,
                "start": one.start,
                "score": float(one.outcome.scores[0]),
                "silent": bool(one.outcome.dead[0]),
            }
            for name, word, one in zip(names, words, made, strict=True)
        ),
        hints={
            "photo": canvas.photo,
            "panels": [
                {
                    "name": own[i],
                    "index": i,
                    "caption": f"what {words[i]} sees in {name}, made stronger",
                    "alt": f"{name}, and beside it what it becomes when {words[i]} is made stronger.",
                    "columns": 2,
                    "side": 224,
                    "tiles": [
                        {**places[i]["photo"], "label": "photo" if canvas.photo else "input"},
                        {**places[i]["dream"], "label": "dream"},
                    ],
                }
                for i, name in enumerate(names)
            ],
            "photos": [
                {"name": f"{stem}-dream", **place["dream"]} for stem, place in zip(own, places, strict=True)
            ]
            if canvas.photo
            else [],
            **shown(job),
        },
        how={"warnings": list(dict.fromkeys(text for one in made for text in one.said))},
        shared=shared,
    )


def _arranged(
    made: Sequence[Dreamt],
) -> tuple[dict[str, NDArray[Any]], list[dict[str, dict[str, Any]]], tuple[str, ...]]:
    """The arrays, where in them each image's photo and dream are, and those that have no image axis."""
    import numpy as np

    pairs = [{"dream": one.outcome.pictures[0].cpu().numpy(), "photo": one.photo} for one in made]
    ends = {
        "start": np.array([one.start for one in made]),
        "score": np.array([one.outcome.scores[0] for one in made]),
    }
    kinds = ("dream", "photo")
    if len({pair["photo"].shape for pair in pairs}) == 1:
        arrays = {kind: np.stack([pair[kind] for pair in pairs]) for kind in kinds}
        at = [{kind: {"array": kind, "index": i} for kind in kinds} for i in range(len(made))]
        return {**arrays, **ends}, at, ()
    arrays = {f"{kind} {i}": pair[kind] for i, pair in enumerate(pairs, start=1) for kind in kinds}
    at = [{kind: {"array": f"{kind} {i}"} for kind in kinds} for i in range(1, len(made) + 1)]
    return {**arrays, **ends}, at, tuple(arrays)
