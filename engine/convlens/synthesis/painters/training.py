"""How a painter learns one style: step by step, under a watch that stops it and takes it up again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import ConvLensError, OutputError
from convlens.synthesis.fitting import full
from convlens.synthesis.painters.crops import Crops
from convlens.synthesis.painters.painter import Painter
from convlens.synthesis.painters.perceptual import PARTS, Loss
from convlens.watch import Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEY = "painter"


@dataclass(frozen=True)
class Course:
    """What is learnt from, and how long.

    Attributes:
        crops: the photos.
        steps: how many updates of the weights.
        batch: crops over which the loss of a step is averaged.
        rate: step size of Adam.
        job: tells one course from another; an unfinished one of another job is not taken up.
    """

    crops: Crops
    steps: int
    batch: int
    rate: float
    job: str = ""


@dataclass
class Learnt:
    """What came of it.

    Attributes:
        history: the loss and its parts (``loss``, ``content``, ``style``, ``tv``) at each step, mean over the
            batch, before the weights were updated; parts are not weighted.
        stopped: the step at which a number was not finite any more, None where all were.
        interrupted: steps that were done when somebody asked for an end, None where nobody did.
    """

    history: dict[str, NDArray[np.float64]]
    stopped: int | None = None
    interrupted: int | None = None


@dataclass
class _Progress:
    """How far a course is."""

    done: int = 0
    told: list[list[float]] = field(default_factory=list)
    stopped: int | None = None


def train(
    painter: Painter,
    loss: Loss,
    course: Course,
    watch: Watch,
    samples: NDArray[Any],
    advance: Callable[[float], None] = lambda _share: None,
) -> Learnt:
    """Teach ``painter``, from its start or from where an earlier run of the same course left it.

    Crops go through the networks one by one, so that memory does not grow with the batch. The painter ends
    with the last weights that gave finite numbers.

    Args:
        painter: what learns.
        loss: what it is taught by.
        course: from what, and how long.
        watch: how it is followed.
        samples: photos that are painted for previews and frames, N x colours x height x width.
        advance: called with the share that is done.

    Raises:
        ImageError: not one photo can be read.
        TargetError: a layer of the loss has no gradient.
        OutputError: the folder holds an unfinished course on other photos.
        ConvLensError: one crop alone does not fit in memory.
    """
    painter.to(loss.device)
    optimiser = torch.optim.Adam(painter.parameters(), lr=course.rate)
    at = _taken_up(painter, optimiser, course, watch)
    good = _weights(painter)
    size = tuple(samples.shape[2:])
    like = next(painter.parameters())
    interrupted = False
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(course.crops.batch, at.done, course.batch)
        while at.done < course.steps and at.stopped is None and not interrupted:
            photos = torch.from_numpy(waiting.result()).to(like)
            if at.done + 1 < course.steps:
                waiting = ahead.submit(course.crops.batch, at.done + 1, course.batch)
            told = _slope(painter, loss, photos)
            if not _finite(painter, told):
                at.stopped = at.done
                painter.load_state_dict(good)
                break
            good = _weights(painter)
            optimiser.step()
            at.told.append(told)
            at.done += 1
            advance(at.done / course.steps)
            watch.see(_KEY, at.done, course.steps, told[0], partial(_painted, painter, samples), size)
            interrupted = watch.stopped and at.done < course.steps
            watch.keep(_KEY, partial(_store, painter, optimiser, course, at), now=interrupted)
    if at.stopped is None and not np.isfinite(_painted(painter, samples)).all():
        at.stopped = at.done  # by the last update, which no step has looked at
        painter.load_state_dict(good)
    if not interrupted:
        watch.keep(_KEY, partial(_store, painter, optimiser, course, at), now=True)
    columns = np.array(at.told, np.float64).reshape(-1, 1 + len(PARTS)).T
    history = dict(zip(("loss", *PARTS), columns, strict=True))
    return Learnt(history, at.stopped, at.done if interrupted else None)


def _slope(painter: Painter, loss: Loss, photos: Tensor) -> list[float]:
    """Leave the gradient of the mean loss in the weights; returns the loss and its parts."""
    painter.zero_grad(set_to_none=True)
    told = torch.zeros(1 + len(PARTS), dtype=torch.float64)
    for photo in photos:
        row = photo[None].contiguous(memory_format=torch.channels_last)
        try:
            with torch.enable_grad():
                total, parts = loss.of(painter(row), row)
                (total / len(photos)).backward()  # type: ignore[no-untyped-call]
        except (MemoryError, RuntimeError) as error:
            if not full(error):
                raise
            raise ConvLensError(
                "one crop alone does not fit in memory; choose a smaller --side or --width, or layers nearer "
                "to the input"
            ) from error
        told += torch.cat([total.detach()[None], parts]).double().cpu() / len(photos)
    return told.tolist()


def _finite(painter: Painter, told: list[float]) -> bool:
    slopes = [weight.grad for weight in painter.parameters() if weight.grad is not None]
    return bool(np.isfinite(told).all()) and all(bool(torch.isfinite(slope).all()) for slope in slopes)


def _weights(painter: Painter) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in painter.state_dict().items()}


def _painted(painter: Painter, samples: NDArray[Any]) -> NDArray[Any]:
    return np.stack([painter.paint(sample) for sample in samples])


def _store(
    painter: Painter, optimiser: torch.optim.Optimizer, course: Course, at: _Progress, file: Any
) -> None:
    state = {
        "job": course.job,
        "painter": painter.state_dict(),
        "optimiser": optimiser.state_dict(),
        "done": at.done,
        "told": torch.tensor(at.told, dtype=torch.float64),
        "stopped": at.stopped,
    }
    torch.save(state, file)


def _taken_up(painter: Painter, optimiser: torch.optim.Optimizer, course: Course, watch: Watch) -> _Progress:
    """Where the course stands: at its start, or where an earlier run left it."""
    stored = watch.state(_KEY)
    if stored is None:
        return _Progress()
    read: dict[str, Any] = torch.load(BytesIO(stored), weights_only=True)
    if read["job"] != course.job:
        raise OutputError(
            f"{watch.folder}: holds an unfinished course on another style or other photos; give the same "
            "files, or start afresh with --overwrite"
        )
    painter.load_state_dict(read["painter"])
    optimiser.load_state_dict(read["optimiser"])
    return _Progress(read["done"], read["told"].tolist(), read["stopped"])
