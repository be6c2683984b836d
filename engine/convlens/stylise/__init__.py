"""Networks that make a picture of a photo, run over photos and frames of videos, one after the other.

Nothing but onnxruntime is needed, and memory does not grow with the number of photos: while one is computed,
the next is read and the last is written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.errors import ImageError, UnsupportedError
from convlens.images import read_image
from convlens.results import write
from convlens.stylise.folder import claim, job_of, places
from convlens.stylise.network import Network
from convlens.watch import Watch

if TYPE_CHECKING:
    from PIL import Image

    from convlens.model import Model

_AHEAD = 2  # photos read before they are needed; as many pictures wait to be written


@dataclass
class Stylised:
    """What was done.

    Attributes:
        written: the pictures made by this run.
        kept: how many were there already.
        skipped: photos that could not be read or computed, with the reason.
        warnings: what a person should know.
        stopped: whether somebody asked for an end before all were done.
    """

    written: list[Path] = field(default_factory=list)
    kept: int = 0
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stopped: bool = False


def stylise(
    model: Model,
    paths: Sequence[Path],
    output: Path,
    *,
    roots: Sequence[Path] = (),
    side: int | None = None,
    output_range: tuple[float, float] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watch | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> Stylised:
    """Run ``model`` on each photo and write what it makes as PNG under the photo's own name.

    Args:
        model: takes a photo and gives a picture of its size, or of a whole multiple or part of it. A model
            of a fixed size gets photos resampled to it, and its pictures are resampled back.
        paths: photos, or frames in order.
        output: folder.
        roots: folders whose inner structure is kept; other photos go straight into ``output``.
        side: shorter side to which photos are brought first; their own without it.
        output_range: which numbers are black and white; those of the input's pixels without it.
        resume: leave what is there already, and go on.
        overwrite: write into a folder that holds something else.
        watch: is asked after each photo whether to stop.
        progress: called with the share that is done.

    Raises:
        UnsupportedError: the model takes no photo, gives no picture, or does not run on the first one.
        CardError: how photos go in is not known.
        OutputError: the folder holds something else.
        ImageError: not one photo can be read.
    """
    watch = watch or Watch()
    network = Network(model, side, output_range)
    claim(output, job_of(model, side, output_range), resume, overwrite)
    found = Stylised(warnings=network.said)
    left = []
    for path, place in places(paths, output, roots):
        if resume and place.is_file():
            found.kept += 1
        else:
            left.append((path, place))
    total = max(1, len(left))
    with watch.listening(), ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        waiting: deque[Future[Path]] = deque()
        for number, (path, place, image) in enumerate(_read_ahead(reader, left)):
            if watch.stopped:
                found.stopped = True
                break
            try:
                picture = network.picture(image())
            except (ImageError, UnsupportedError) as error:
                if isinstance(error, UnsupportedError) and not found.written and not waiting:
                    raise
                found.skipped.append((path, str(error)))
            else:
                waiting.append(writer.submit(_save, picture, place))
                while len(waiting) > _AHEAD:
                    found.written.append(waiting.popleft().result())
            progress((number + 1) / total)
        found.written += [each.result() for each in waiting]
    if left and not found.written and found.skipped and not found.kept:
        raise ImageError(
            f"none of the {len(left)} photos could be used; the first: {found.skipped[0][1]}"
            if len(left) > 1
            else found.skipped[0][1]
        )
    return found


def _read_ahead(
    reader: ThreadPoolExecutor, left: Sequence[tuple[Path, Path]]
) -> Iterator[tuple[Path, Path, Callable[[], Image.Image]]]:
    """Each photo with where its picture goes and what gives it; the next ones are being read meanwhile."""
    waiting: deque[tuple[Path, Path, Future[Image.Image]]] = deque()
    for path, place in left:
        waiting.append((path, place, reader.submit(read_image, path)))
        if len(waiting) > _AHEAD:
            first = waiting.popleft()
            yield first[0], first[1], first[2].result
    for path, place, photo in waiting:
        yield path, place, photo.result


def _save(picture: Image.Image, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place, partial(picture.save, format="PNG"))
    return place
