"""An input cut into the few parts that a stand-in model is fitted over: a grid, points or superpixels."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BeforeValidator, TypeAdapter

from convlens.errors import ParameterError
from convlens.hiding import Lengths, sizes_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.attribution.masking.parts import Parts
    from convlens.attribution.reading import Reading
    from convlens.registry import Job

_WHOLE = frozenset({"board", "tokens", "vector"})  # each point, token or feature is a part
_ALONG = {1: 14, 2: 7, 3: 4}  # parts along each of so many axes
_MOST = 1024  # parts; sums over pairs of them are kept
_SINGLE = {1: 256, 2: 24}  # single points along each of so many axes, of more a grid
_SUPERPIXELS = re.compile(r"slic(:(\d+))?$")
_COUNT = 50  # superpixels, where no number is said


def _cut(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("slic"):
        match = _SUPERPIXELS.match(value)
        if match is None or not 2 <= int(match[2] or _COUNT) <= _MOST:
            raise ValueError(f"expected slic, or slic:80 with a number from 2 to {_MOST}")
        return value
    try:
        return _LENGTHS.validate_python(value)
    except ValueError:
        raise ValueError("expected a whole number, one an axis like 4,8, or slic") from None


_LENGTHS: TypeAdapter[Any] = TypeAdapter(Lengths)
Cut: TypeAlias = Annotated[int | tuple[int, ...] | str | None, BeforeValidator(_cut)]
"""Parts along an axis, one number or one an axis, or superpixels."""

CUT = (
    "parts along each axis, or one number an axis like 4,8; slic or slic:80 for that many superpixels of a "
    "photo; by default 7 an axis of an image, 14 of a signal, 4 of a volume or video, and each point, token "
    "or feature by itself"
)
"""What the parameter ``parts`` means."""


def partition(job: Job[Any], given: Any) -> list[Parts]:
    """The parts of each image, the same for all but superpixels.

    Args:
        job: its images and their kind.
        given: as :data:`Cut`.

    Raises:
        ParameterError: as many numbers as there are not axes, more parts than positions or than can be
            fitted, or superpixels of something that is no picture, or without scikit-image.
    """
    import numpy as np

    from convlens.attribution.masking.parts import Parts

    source, array = job.model.source, job.images.array
    extent = [array.shape[axis] for axis in source.axes]
    if isinstance(given, str):
        if source.kind not in ("photo", "image"):
            raise ParameterError(
                f"parts is {given!r}, superpixels of a photo; a {source.kind} input has none"
            )
        match = _SUPERPIXELS.match(given)
        assert match is not None
        return [_superpixels(job, index, int(match[2] or _COUNT)) for index in range(len(array))]
    count, names = len(extent), ", ".join(source.axis_names)
    if given is None:
        most = _SINGLE.get(count, 1) if source.kind in _WHOLE else _ALONG[count]
        along: Sequence[int] = [min(size, most) for size in extent]
    else:
        along = (given,) * count if isinstance(given, int) else given
    if len(along) != count:
        raise ParameterError(f"parts has {len(along)} numbers; expected 1 or {count} ({names})")
    if any(number > size for number, size in zip(along, extent, strict=True)):
        raise ParameterError(f"parts is {sizes_text(along)}; expected at most {sizes_text(extent)} ({names})")
    if int(np.prod(along)) > _MOST:
        raise ParameterError(
            f"parts is {sizes_text(along)}, {int(np.prod(along))} in all; {_MOST} can be fitted"
        )
    index = np.zeros(tuple(extent), np.int64)
    for axis, (number, size) in enumerate(zip(along, extent, strict=True)):
        own = np.arange(size) * number // size
        index = index * number + own.reshape([-1 if a == axis else 1 for a in range(count)])
    sides = tuple(-(-size // number) for size, number in zip(extent, along, strict=True))
    return [Parts(index, sides)] * len(array)


def _superpixels(job: Job[Any], index: int, count: int) -> Parts:
    """Superpixels of one image by SLIC (Achanta et al. 2012), from what the model saw of it."""
    import numpy as np

    from convlens.attribution.masking.parts import Parts

    try:
        slic = import_module("skimage.segmentation").slic
    except ImportError as error:
        raise ParameterError(
            "parts is 'slic', which needs scikit-image; pip install 'convlens[superpixels]', or a number "
            "for a grid, such as --parts 7"
        ) from error
    source, views = job.model.source, job.images.views
    if views is not None:
        picture = views[index].astype(np.float64) / 255
    else:
        picture = job.images.array[index].astype(np.float64)
        picture = picture[..., None] if source.channel < 0 else np.moveaxis(picture, source.channel - 1, -1)
        picture = (picture - picture.min()) / (np.ptp(picture) or 1.0)
    colours = picture.shape[-1] == 3
    found = slic(picture, n_segments=count, compactness=10.0 if colours else 0.1, convert2lab=colours)
    _, numbers = np.unique(found, return_inverse=True)
    numbered = np.asarray(numbers, dtype=np.int64).reshape(found.shape)
    side = max(1, round((numbered.size / (int(numbered.max()) + 1)) ** 0.5))
    return Parts(numbered, (side, side))


def answers(
    job: Job[Any], index: int, own: Reading, parts: Parts, fill: NDArray[Any], keep: Iterable[NDArray[Any]]
) -> Iterator[NDArray[np.float64]]:
    """The target of one image with some of its parts kept and the others filled.

    Args:
        job: the images, the model and the batch size.
        index: which image.
        own: how the target is read.
        parts: of that image.
        fill: what hidden parts show, in its shape.
        keep: for each block of copies which parts are kept, B x parts; blocks may be larger than a batch,
            and are taken ahead of what is yielded.

    Yields:
        One number a copy, block by block.
    """
    import numpy as np

    from convlens.attribution.masking.masks import seen_through

    model, image = job.model, job.images.array[index]

    sizes: deque[int] = deque()  # of the blocks that were taken

    def batches() -> Iterator[dict[str, NDArray[Any]]]:
        for block in keep:
            sizes.append(len(block))
            for start in range(0, len(block), job.batch_size):
                shown = block[start : start + job.batch_size][:, parts.index]
                yield {model.source.name: seen_through(image, fill, shown, model.source.axes)}

    read: list[NDArray[np.float64]] = []
    for values in model.runner.stream(batches(), list(own.names)):
        read.append(own.read(values))
        if sum(map(len, read)) == sizes[0]:
            sizes.popleft()
            yield np.concatenate(read)
            read = []
