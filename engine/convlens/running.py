"""One run of a method on a model: what is checked before it, and what is said of how it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens import cache, precision, registry
from convlens.errors import ParameterError, TargetError, UncertifiedError, UsageError
from convlens.explained import explained_at
from convlens.graph import bind
from convlens.ops.quantcodes import straight_through
from convlens.registry import Images, Job
from convlens.results import Result
from convlens.shown import shown
from convlens.targets import Spec, Target, check_slope, faint, need_classes, saturation, settled, squashed
from convlens.watch import Watch

if TYPE_CHECKING:
    from convlens.inputs import Inputs
    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.trust.certificate import Certificate


def run(
    model: Model,
    method: str,
    images: Inputs | None,
    target: Spec,
    parameters: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    allow_uncertified: bool,
    advance: Callable[[float], None],
    watch: Watch,
    recording: Recording | None = None,
) -> Result:
    """Run a registered method; arguments and errors as :meth:`convlens.model.Model.run` has them."""
    technique = registry.method(method)
    settings = technique.parse(parameters)
    if batch_size < 1:
        raise UsageError(f"batch size is {batch_size}; expected 1 or more")
    if technique.gradients and not technique.lowers and model.precision != precision.FULL:
        raise ParameterError(
            f"{method} takes its gradients in float32, as its sums or what it finds rest on them; precision "
            f"is {model.precision!r}, leave it at float32"
        )
    if technique.images and images is None:
        raise UsageError(f"{method} needs images; expected at least one")
    if recording is not None and technique.recording == "no":
        raise UsageError(f"{method} reads no recording")
    if recording is None and technique.recording == "must":
        raise UsageError(f"{method} reads a recording; `convlens record` makes one of a data set")
    bind.need_one([value.name for value in model.graph.inputs], model.source.name)
    if recording is not None:
        recording = recording.of(model)
    batch = model.images(images) if technique.images and images is not None else _no_images()
    goal = settle(model, technique, target, batch, batch_size)
    certificate = model.certificate()
    if not certificate.passed and not allow_uncertified:
        raise UncertifiedError(
            f"{certificate.words()} `convlens verify` lists every value; --allow-uncertified (in Python "
            "allow_uncertified=True) runs it all the same"
        )
    warnings = _warnings(model, technique, goal, batch, batch_size)
    if goal is not None and goal.alone:
        batch_size = 1  # the rows of what it reads count boxes
    job = Job(model, settings, batch, goal, batch_size, seed, advance, watch, recording)
    how = _how(model, settings, goal, seed, certificate, allow_uncertified)
    if recording is not None:
        how["recording"] = recording.record()
    lowered = model.precision if technique.lowers and batch.array.dtype != np.float64 else precision.FULL
    with precision.taken(lowered) as passes:
        result = _watched(technique, job, how) if technique.searches else technique.run(job)
    if technique.gradients and (estimated := straight_through(model.graph)):
        how["gradients"] = estimated
    if lowered != precision.FULL:
        how |= {"precision": lowered, "gradients": passes.words()}
        warnings += filter(None, [passes.warning()])
    warnings += [text for text in result.how.get("warnings", ()) if text not in warnings]
    return replace(result, how={**how, **result.how, "warnings": warnings})


def _watched(technique: registry.Method[Any], job: Job[Any], how: Mapping[str, Any]) -> Result:
    """A run that can be stopped and taken up again by the same job."""
    from convlens.pictures.panels import strip

    watch = job.watch
    if watch.frames and watch.folder is None:
        raise UsageError("frames are files; say a folder to put them in (-o, in Python Watch(folder=...))")
    settings = {key: how[key] for key in ("model", "feeds", "parameters", "target", "seed", "versions")}
    given = hashlib.sha256(np.ascontiguousarray(job.images.array).tobytes()).hexdigest()
    watch.begin({"method": technique.name, "images": [given, *job.images.names], **settings})
    if watch.draw is None:
        watch.draw = partial(strip, photo=job.model.source.image, info=shown(job).get("input"))
    with watch.listening():
        result = technique.run(job)
    watch.end()
    if not watch.stopped:
        return result
    said = "stopped before its end; what there is was kept"
    said += ", and --resume goes on" if watch.folder is not None else ""
    return replace(result, how={**result.how, "warnings": [said, *result.how.get("warnings", ())]})


def settle(
    model: Model, technique: registry.Method[Any], spec: Spec, batch: Images, batch_size: int
) -> Target | None:
    """What a method explains on each image of a batch, None where it takes no target.

    Raises:
        TargetError: there is no such target, or it has no gradient and the method needs one.
        UsageError: the method takes none.
    """
    if technique.classes:
        lead = f"{technique.name} ranks classes, but"
        need_classes(model.classes, model.layers, lead, model.graph.outputs)
    if not technique.target:
        if spec is not None:
            raise UsageError(f"{technique.name} takes no target")
        return None
    goal = model.target(technique.default(model) if spec is None else spec)
    if technique.gradients:
        check_slope(goal, model.graph, model.layers, explained_at(model.graph, model.source).value)
    if goal.looks and not technique.images:
        raise TargetError(
            f"{goal.text} is found on an image, and {technique.name} takes none; name a channel or cells, "
            "such as --target LAYER:CHANNEL"
        )
    if goal.looks:
        extent = tuple(batch.array.shape[axis] for axis in model.source.spatial)
        return settled(goal, batch.names, lambda i, names: _alone(model, batch, i, names), extent)
    if goal.kind != "predicted" or model.classes is None:
        return goal
    found = model.probabilities(batch, batch_size)
    best = found.argmax(axis=1)
    each = tuple(
        f"the predicted class, {model.classes.label(i)}"
        if np.isfinite(row).all()
        else f"{model.classes.label(i)} (none is predicted: scores are not finite)"
        for i, row in zip(best.tolist(), found, strict=True)
    )
    return replace(goal, index=tuple(best.tolist()), each=each)


def _alone(model: Model, batch: Images, image: int, names: Sequence[str]) -> Mapping[str, Any]:
    """What the model computes for one image by itself."""
    return model.runner.run({model.source.name: batch.array[image : image + 1]}, list(names))


def _warnings(
    model: Model, technique: registry.Method[Any], goal: Target | None, batch: Images, batch_size: int
) -> list[str]:
    """What a person should know of a run that is done all the same."""
    if goal is None or not len(batch):
        return []
    said = []
    for part in goal.parts:
        text = faint(part, batch.names)
        if text is None and technique.gradients and squashed(part, model.graph) is not None:
            scores = np.array([pick.record["score"] for pick in part.picks if "score" in pick.record])
            if len(scores) != len(batch):
                names = list(part.needs(model.graph.outputs))
                values = model.runner.run({model.source.name: batch.array}, names, batch_size)
                scores = np.asarray(part.score(values))
            text = saturation(part, scores, batch.names, model.graph, model.layers)
        said.append(text)
    return [text for text in dict.fromkeys(said) if text is not None]


def _how(
    model: Model,
    settings: registry.Parameters,
    goal: Target | None,
    seed: int,
    certificate: Certificate,
    allow_uncertified: bool,
) -> dict[str, Any]:
    return {
        "model": {"name": model.name, "file": model.path.name, "sha256": model.sha256},
        "feeds": bind.record(model.graph.bound),
        "parameters": settings.model_dump(),
        "target": None if goal is None else goal.record(),
        "seed": seed,
        "device": {"onnxruntime": model.runner.device, "torch": model.runner.device},
        "certificate": certificate.summary(),
        "batches": model.batching().words(),
        "allow_uncertified": allow_uncertified,
        "versions": cache.versions(),
    }


def _no_images() -> Images:
    return Images(np.zeros((0,), np.float32), ())
