"""A method that is judged: run with settings of its own, on the model at hand or on an altered one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens import registry
from convlens.attribution.maps import heat
from convlens.attribution.masking.parts import parts_of
from convlens.errors import ConvLensError, ParameterError
from convlens.hiding import default_fill, filling
from convlens.registry import Images, Job
from convlens.targets import need_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.source import Source
    from convlens.model import Model
    from convlens.registry import Method, Parameters

_BLURRED = frozenset({"photo", "image", "spectrogram", "video", "volume"})


@dataclass(frozen=True)
class Judged:
    """A method with its settings, and the job for which it is judged."""

    method: Method[Any]
    settings: Parameters
    job: Job[Any]

    @property
    def words(self) -> str:
        """The method's name, with the settings that are not its defaults."""
        usual = self.method.parse({}).model_dump()
        own = {name: value for name, value in self.settings.model_dump().items() if value != usual[name]}
        told = ", ".join(f"{name} {value}" for name, value in own.items())
        return f"{self.method.name} ({told})" if told else self.method.name

    def heat(
        self,
        model: Model | None = None,
        images: Images | None = None,
        advance: Callable[[float], None] = lambda _share: None,
    ) -> NDArray[np.float64]:
        """How much each part of each image speaks for the job's target, N x the input's spatial axes.

        Args:
            model: another model of the same graph; the job's own without it.
            images: other images in the place of the job's.
            advance: called with the share that is done.

        Raises:
            ConvLensError: the method refuses.
        """
        chosen = model or self.job.model
        job = replace(
            self.job,
            model=chosen,
            parameters=self.settings,
            images=images or self.job.images,
            advance=advance,
        )
        with np.errstate(all="ignore"):  # random weights may overflow, which is said of the outcome
            return np.asarray(heat(self.method.run(job), chosen.source), np.float64)


def judged(job: Job[Any], name: str, settings: Mapping[str, Any] | None) -> Judged:
    """The method called ``name`` with ``settings`` on ``job``.

    Raises:
        UsageError: there is no such method.
        ParameterError: it does not say where, or cannot take these settings.
        TargetError: it needs class scores, and the model has none.
    """
    method = registry.method(name)
    if not method.attributes:
        known = ", ".join(attributing())
        raise ParameterError(f"of is {name!r}, which does not say where in the input; those that do: {known}")
    if method.classes:
        need_classes(
            job.model.classes, job.model.layers, f"{name} ranks classes, but", job.model.graph.outputs
        )
    return Judged(method, method.parse(settings or {}), job)


def attributing() -> list[str]:
    """The registered methods whose maps can be judged and laid side by side."""
    return [name for name, method in registry.methods().items() if method.attributes]


def hidden(model: Model, images: Images, fill: str | None) -> tuple[NDArray[Any], str]:
    """What the images' parts are hidden by, in the shape of the batch, and its name.

    By default a blur where neighbours blur into each other, as a hole with sharp edges is a new object to
    a network; else what stands for nothing.
    """
    name = fill or ("blur" if model.source.kind in _BLURRED else default_fill(model))
    extent = extent_of(images, model.source)
    return filling(model, images, name, parts_of(model.source, extent).side), name


def extent_of(images: Images, source: Source) -> list[int]:
    """The length of the images along each of ``source.axes``."""
    return [images.array.shape[axis] for axis in source.axes]


def refusal(error: ConvLensError) -> str:
    """Why a method refused, in one line."""
    return " ".join(str(error).split())
