"""``rise``: the mean target over random masks that keep a place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.attribution.convergence import UNTIL
from convlens.hiding import Fill, Lengths, default_fill, filling, plain_sizes, sizes_text
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.masking.masks import Masks

_FEWEST = 128  # masks before an estimate of the error is believed


class RiseParameters(Parameters):
    """What ``rise`` can be told."""

    masks: int = Field(
        4000, ge=2, le=10**6, description="how many random masks; the most, where --until stops earlier"
    )
    until: float | None = Field(None, gt=0, lt=1, description=UNTIL)
    cells: Lengths = Field(
        None,
        description="cells of the grid that a mask is enlarged from, or one an axis like 4,8; by default 7 "
        "an axis of an image, 14 of a signal, 4 of a volume or video; boards, tokens and features are "
        "masked one by one",
        json_schema_extra={"unit": "cells"},
    )
    keep: float = Field(0.5, gt=0, lt=1, description="probability of a cell to be kept")
    fill: Fill = Field(
        None,
        description="what masked parts show: grey, a number (of a photo a pixel value, of tokens an id), "
        "mean (over space) or blur; by default as occlusion has it",
    )


@register
class Rise(Method[RiseParameters]):
    """The mean target over random masks that keep a place, weighted by how much each keeps of it.

    ``map`` (main) is the target that is expected where a position is kept: for a class its probability,
    else its score; N x rows x columns (of other inputs their own axes). It is the sum of masks times
    targets over the sum of masks; the paper divides by the masks' expectation, which has the same limit
    and a larger error. ``gain`` is ``map`` less the mean target over all masks (``mean``, N): positive
    where keeping a position raises the target. ``error`` is the standard error of ``map`` at each
    position, ``score`` (N) the target of the whole input.

    Masks are made batch by batch and only sums are kept, so memory does not grow with their number. The
    same masks are laid over each input. Each row says how many forwards it took, the relative error, and
    how the maps of the odd and of the even masks correlate.
    """

    name = "rise"
    summary = "which parts the target needs, from random masks: no gradients"
    paper = Paper("Petsiuk, Das & Saenko 2018", "section 3", "https://arxiv.org/abs/1806.07421")
    kind = "map"
    Parameters = RiseParameters
    target = True
    attributes = True
    preview: ClassVar[Mapping[str, Any]] = {"masks": 48}

    def run(self, job: Job[RiseParameters]) -> Result:
        """One forward a mask, in batches; sums alone are kept."""
        import numpy as np

        from convlens.attribution.maps import spatial_map
        from convlens.attribution.masking.masks import masks_for
        from convlens.attribution.reading import reading

        assert job.target is not None
        own, source, array = job.parameters, job.model.source, job.images.array
        extent = [array.shape[axis] for axis in source.axes]
        masks = masks_for(source, extent, own.cells, own.keep, job.seed)
        filler = own.fill or default_fill(job.model)
        fill = filling(job.model, job.images, filler, masks.sides)
        found = [_one(job, index, masks, fill[index]) for index in range(len(array))]
        what = reading(job.model, job.target).unit
        arrays = {key: np.stack([each[key] for each in found]) for key in found[0] if key != "row"}
        label = f"{what} gained where kept (blue: lost)"
        style = "overlay" if job.images.views is not None else "map"
        return spatial_map(
            job,
            self.name,
            "map",
            arrays,
            {
                **dict.fromkeys(("map", "score", "mean"), what),
                "gain": f"{what} gained",
                "error": f"{what}, standard error",
            },
            title="RISE",
            label=label,
            short=f"{own.masks} masks{' at most' if own.until is not None else ''}",
            rows=[each["row"] for each in found],
            hints={"draw": [{"array": "gain", "style": style, "label": label}]},
            how={
                "cells": plain_sizes(masks.cells),
                "cell": sizes_text(masks.sides),
                "fill": filler,
            },
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that have not settled."""
        from convlens.attribution.convergence import unsettled

        return unsettled(result, "masks", "--masks")


def _one(job: Job[RiseParameters], index: int, masks: Masks, fill: NDArray[Any]) -> dict[str, Any]:
    """The arrays and the row of one image."""
    import numpy as np

    from convlens.attribution.masking.masks import BLOCK, seen_through
    from convlens.attribution.masking.sums import MaskSums
    from convlens.attribution.reading import reading, whole

    assert job.target is not None
    model, array, own = job.model, job.images.array, job.parameters
    read = reading(model, job.target.of(index))
    base = float(read.read(whole(model, array[index : index + 1], read.names, read.alone))[0])
    sums, done = MaskSums(masks.extent, base), 0
    taken: deque[tuple[int, NDArray[Any]]] = deque()  # masks run ahead of their targets

    def seen() -> Iterator[dict[str, NDArray[Any]]]:
        for first, part in masks.batches(own.masks, job.batch_size):
            taken.append((first, part))
            yield {model.source.name: seen_through(array[index], fill, part, model.source.axes)}

    for values in model.runner.stream(seen(), list(read.names)):
        first, part = taken.popleft()
        sums.add(first, part, read.read(values))
        done = first + len(part)
        job.advance((index + done / own.masks) / len(array))
        settled = own.until is not None and done % BLOCK == 0 and done >= _FEWEST
        if settled and sums.relative_error() < (own.until or 0):
            break
    job.advance((index + 1) / len(array))
    return {
        "map": sums.map(),
        "gain": sums.map() - sums.mean(),
        "error": sums.error(),
        "score": np.float64(base),
        "mean": np.float64(sums.mean()),
        "row": {
            "score": base,
            "forwards": 1 + done,
            "error": sums.relative_error(),
            "agreement": sums.agreement(),
        },
    }
