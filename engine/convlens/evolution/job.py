"""One checkpoint after the other: the last one first, since the others are held against it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.errors import UncertifiedError
from convlens.evolution.checkpoints import Checkpoint, check_alike, checkpoints_of
from convlens.evolution.course import Course, Look
from convlens.evolution.following import asked, boxes, reconstructed, strongest, usual
from convlens.evolution.gathered import gather
from convlens.evolution.passing import passed
from convlens.evolution.plan import plan_of
from convlens.evolution.scored import classes_of, score
from convlens.evolution.told import Told
from convlens.evolution.weights import filters
from convlens.graph import bind
from convlens.graph.unsound import unsound_words
from convlens.model import load
from convlens.recording.source import open_source

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.results import Result


def evolve(
    first: Model,
    others: Sequence[str | Path],
    images: Sequence[str],
    *,
    layers: Sequence[str] = (),
    channels: Sequence[str] = (),
    top: int = 3,
    limit: int = 512,
    threshold: float = 0.95,
    batch_size: int = 4,
    seed: int = 0,
    allow_uncertified: bool = False,
    progress: Callable[[float], None] = lambda _share: None,
) -> Result:
    """Hold the checkpoints of a training against each other on the same images.

    Args:
        first: the first checkpoint; the others are read with its card, on its device.
        others: files of the later ones, in order.
        images: a data set, as :func:`convlens.recording.source.open_source` takes it.
        layers: that are compared, and whose channels are followed; without them every rectifier and the class
            scores are compared, and channels of five rectifiers followed.
        channels: that are followed, as ``relu2:17``; the strongest at the end without them.
        top: how many of each layer, where none are named.
        limit: images at most, spread evenly over the data set.
        threshold: linear CKA with the last checkpoint from which on a layer counts as settled.
        batch_size: images in one forward.
        seed: of the choice of images and of the certificates.
        allow_uncertified: go on where PyTorch and onnxruntime disagree; the Result says so.
        progress: called with the share that is done.

    Returns:
        A Result whose arrays :mod:`convlens.evolution.told` names.

    Raises:
        UsageError: less than two checkpoints, not of one network, or too few images.
        LayerError: a layer or channel that does not exist.
        UncertifiedError: a checkpoint's certificate failed and ``allow_uncertified`` is false.
        UnsupportedError: a checkpoint does not run.
        ImageError: too few images can be read.
    """
    files = checkpoints_of([first.path, *map(Path, others)])
    bind.need_one([value.name for value in first.graph.inputs], first.source.name)
    plan = plan_of(first, layers, asked(first, channels), top)
    for file in files[1:]:
        check_alike(first, _opened(first, file))
    gathered = gather(first, open_source(images, first.source, first.card), limit, seed)
    truth = classes_of(gathered.labels, first.classes)
    course = Course(len(files))

    def look(number: int, done: int) -> Look:
        nonlocal plan
        gc.collect()  # a model and its executors refer to each other: the one before would stay a while
        model = _opened(first, files[number])
        certificate = model.certificate(seed)
        if not certificate.passed and not allow_uncertified:
            raise UncertifiedError(
                f"{model.path}: {certificate.words()} `convlens verify` lists every value; "
                "--allow-uncertified (in Python allow_uncertified=True) goes on all the same"
            )
        found = passed(
            model,
            gathered,
            plan.compared,
            plan.followed,
            batch_size,
            lambda share: progress((done + 0.9 * share) / len(files)),
        )
        best = [strongest(peaks) for peaks in found.peaks]
        if not plan.channels:
            plan = plan.with_channels([usual(one, plan.top) for one in best])
        chosen = list(zip(plan.followed, best, plan.channels, strict=True))
        extent = gathered.extent(model)
        made = Look(
            found.grams,
            filters(model),
            best,
            [reconstructed(model, gathered, layer, one, own, batch_size) for layer, one, own in chosen],
            [boxes(layer, one, own, extent) for layer, one, own in chosen],
            score(found.probabilities, truth),
            certificate.summary(),
            model.sha256,
            unsound_words(model.graph),
        )
        progress((done + 1) / len(files))
        return made

    course.begin(look(len(files) - 1, 0))
    for number in range(len(files) - 1):
        course.add(number, look(number, number + 1))
    return Told(
        first,
        files,
        gathered,
        truth,
        plan,
        course,
        threshold,
    ).result(
        {
            "layers": list(layers),
            "channels": list(channels),
            "top": top,
            "limit": limit,
            "threshold": threshold,
        },
        seed,
        allow_uncertified,
    )


def _opened(first: Model, file: Checkpoint) -> Model:
    """A checkpoint, read as the first one was."""
    return load(file.path, first.card, first.device, first.threads, dict(first.graph.bound))
