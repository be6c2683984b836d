"""What methods share that fit a small model over the parts of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.masking.partition import partition
from convlens.attribution.reading import reading
from convlens.hiding import default_fill, filling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.masking.parts import Parts
    from convlens.registry import Job


@dataclass(frozen=True)
class Fitted:
    """What was found on all images.

    Attributes:
        arrays: by name, images first.
        rows: of the table, one an image.
        unit: of the target.
        filler: what hidden parts were filled with.
    """

    arrays: Mapping[str, NDArray[Any]]
    rows: Sequence[Mapping[str, Any]]
    unit: str
    filler: str


def fitted(job: Job[Any], one: Callable[[Job[Any], int, Parts, NDArray[Any]], Mapping[str, Any]]) -> Fitted:
    """Cut every image into parts, and let ``one`` fit its model over them.

    Args:
        job: what was asked for; its parameters say ``parts`` and ``fill``.
        one: gets the job, the number of the image, its parts and what hides them; gives arrays by name, and
            its row under ``row``.
    """
    assert job.target is not None
    parts = partition(job, job.parameters.parts)
    filler = job.parameters.fill or default_fill(job.model)
    fill = filling(job.model, job.images, filler, parts[0].side)
    found = [one(job, index, parts[index], fill[index]) for index in range(len(parts))]
    arrays = {key: np.stack([each[key] for each in found]) for key in found[0] if key != "row"}
    return Fitted(arrays, [each["row"] for each in found], reading(job.model, job.target).unit, filler)
