"""A finished course as a Result.

================== =======================================================================================
``reconstruction`` what drives the strongest unit of each followed channel, channels x checkpoints x the input
``image``          which of ``views`` (or ``input``) that is, channels x checkpoints; -1 where nothing fires
``activation``     of these units, ``boxes`` the part of the input that they see, as deconvnet counts it
``cka_last``       linear CKA with the last checkpoint, layers x checkpoints; ``cka_before`` with the one
                   before, ``debiased_last`` with the unbiased estimator
``settles``        index of the checkpoint from which on ``cka_last`` stays at the threshold; -1 without CKA
``change_last``    relative change of weights to the last checkpoint, layers with weights x checkpoints;
                   ``cosine_last`` mean cosine of filters; ``change_first``, ``cosine_first`` from the first
``jumps``          share of all channels of a followed layer whose strongest image is another than before
``accuracy``       one a checkpoint, with ``truth`` and ``surest`` (:class:`convlens.evolution.scored.Score`)
================== =======================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens import cache
from convlens.evolution.checkpoints import unordered
from convlens.evolution.drawn import curves
from convlens.evolution.following import NONE
from convlens.evolution.said import findings
from convlens.evolution.scored import UNKNOWN
from convlens.explained import explained_at
from convlens.graph import bind
from convlens.results import Result
from convlens.shown import UNITS, info

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.evolution.checkpoints import Checkpoint
    from convlens.evolution.course import Course
    from convlens.evolution.gathered import Gathered
    from convlens.evolution.plan import Plan
    from convlens.model import Model

_FEW = 50  # images under which CKA is doubted
_BY_LAYER = ("cka_last", "cka_before", "debiased_last")
_BY_FILTERS = ("change_last", "cosine_last", "change_first", "cosine_first")
_SCORES = ("accuracy", "truth", "surest")


@dataclass(frozen=True)
class Told:
    """Everything that a Result is made of."""

    first: Model
    files: Sequence[Checkpoint]
    images: Gathered
    truth: NDArray[np.int64]
    plan: Plan
    course: Course
    threshold: float

    @property
    def names(self) -> list[str]:
        """Of the checkpoints."""
        return [file.name for file in self.files]

    def result(self, parameters: Mapping[str, Any], seed: int, allow_uncertified: bool) -> Result:
        """As a Result called ``evolve``."""
        model, course = self.first, self.course
        image, shown = self._shown()
        arrays = {
            "reconstruction": self._stacked("made"),
            "image": image,
            "activation": self._activation(),
            "boxes": self._stacked("boxes"),
            **{name: getattr(course, name) for name in (*_BY_LAYER, *_BY_FILTERS)},
            "settles": np.array(course.settles(self.threshold)),
            "jumps": course.jumps(),
            **{name: self._scores(name) for name in _SCORES},
            "views" if self.images.photos else "input": self.images.stored[shown],
        }
        units = {
            "reconstruction": "signal at the input",
            "image": "index",
            "activation": "activation",
            "boxes": UNITS.get(model.source.kind, "pixels"),
            **dict.fromkeys(_BY_LAYER, "linear CKA"),
            **dict.fromkeys(
                ("change_last", "change_first"), "share of the length of the weights compared with"
            ),
            **dict.fromkeys(("cosine_last", "cosine_first"), "cosine"),
            "settles": "index of a checkpoint",
            "jumps": "share of channels",
            **dict.fromkeys(_SCORES, "share"),
            "views": "pixel",
            "input": "as the model takes it",
        }
        tables = {
            "checkpoints": self._by_checkpoint(),
            "filters": self._by_filters(),
            "followed": self._followed(),
            "jumps": [
                {"layer": layer.alias, "channels": layer.channels, "share": course.jumps()[row].tolist()}
                for row, layer in enumerate(self.plan.followed)
            ],
        }
        layers = [layer.alias for layer in self.plan.compared]
        return Result(
            method="evolve",
            kind="evolution",
            main="reconstruction",
            arrays=arrays,
            units={name: units[name] for name in arrays},
            rows=tuple(self._by_layer()),
            how={
                "model": {"name": model.name, "file": model.path.name, "sha256": model.sha256},
                "feeds": bind.record(model.graph.bound),
                "parameters": dict(parameters),
                "images": {"used": len(self.images), "of": self.images.count},
                "seed": seed,
                "device": {"onnxruntime": model.runner.device, "torch": model.runner.device},
                "allow_uncertified": allow_uncertified,
                "versions": cache.versions(),
                "explained_at": explained_at(model.graph, model.source).words(),
                "warnings": self._warnings(),
                "skipped": [{"image": name, "reason": reason} for name, reason in self.images.unread],
            },
            hints={
                "checkpoints": self.names,
                "layers": layers,
                "tables": tables,
                "findings": findings(self.course, layers, self.names, self.threshold, tables["followed"]),
                "layout": model.source.layout,
                "channels": model.colours,
                "images": [self.images.names[number] for number in shown],
                "each": [{} for _ in shown],
                **({} if model.source.image else {"input": info(model.source, model.card.input.rate)}),
                "parts": [
                    {"kind": "evolution"},
                    {
                        "kind": "curves",
                        "hints": curves(
                            self.names,
                            layers,
                            course.filters,
                            [layer.alias for layer in self.plan.followed],
                            self.threshold,
                            self._known(),
                        ),
                    },
                ],
            },
        )

    def _channels(self) -> list[tuple[int, int]]:
        """Followed layer and channel, one after the other."""
        return [(place, channel) for place, own in enumerate(self.plan.channels) for channel in own]

    def _stacked(self, name: str) -> NDArray[Any]:
        """What each look holds layer by layer, as channels x checkpoints x ..."""
        looks = [self.course.looks[number] for number in range(self.course.count)]
        if not self._channels():
            return np.zeros((0, len(looks)))
        return np.stack([np.concatenate(getattr(look, name)) for look in looks], axis=1)

    def _each(self, name: str) -> list[list[Any]]:
        """One attribute of the strongest units, channels x checkpoints."""
        return [
            [
                getattr(self.course.looks[number].strongest[place], name)[channel]
                for number in range(self.course.count)
            ]
            for place, channel in self._channels()
        ]

    def _activation(self) -> NDArray[np.float64]:
        return np.array(self._each("value"), np.float64).reshape(-1, self.course.count)

    def _shown(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of the shown images each unit is of, and the numbers of these among all images."""
        image = np.array(self._each("image"), np.int64).reshape(-1, self.course.count)
        shown = np.unique(image[image != NONE])
        return np.where(image == NONE, NONE, np.searchsorted(shown, image)), shown

    def _scores(self, name: str) -> NDArray[np.float64]:
        found = [getattr(self.course.looks[number].score, name) for number in range(self.course.count)]
        return np.array([np.nan if each is None else each for each in found])

    def _known(self) -> list[str]:
        """Which scores there are."""
        return [name for name in _SCORES if not np.isnan(self._scores(name)).all()]

    def _by_layer(self) -> list[dict[str, Any]]:
        course = self.course
        steady = course.settles(self.threshold)
        return [
            {
                "layer": layer.alias,
                "operator": layer.op,
                "cka": course.cka_last[row].tolist(),
                "before": course.cka_before[row].tolist(),
                "debiased": course.debiased_last[row].tolist(),
                "settles": None if steady[row] < 0 else self.names[steady[row]],
            }
            for row, layer in enumerate(self.plan.compared)
        ]

    def _by_filters(self) -> list[dict[str, Any]]:
        return [
            {"layer": alias, **{name: getattr(self.course, name)[row].tolist() for name in _BY_FILTERS}}
            for row, alias in enumerate(self.course.filters)
        ]

    def _by_checkpoint(self) -> list[dict[str, Any]]:
        rows = []
        for number, file in enumerate(self.files):
            look = self.course.looks[number]
            rows.append(
                {
                    "name": file.name,
                    "file": file.path.name,
                    "sha256": look.sha256,
                    "certificate": look.certificate,
                    "accuracy": look.score.accuracy,
                    "right class": look.score.truth,
                    "surest class": look.score.surest,
                }
            )
        return rows

    def _followed(self) -> list[dict[str, Any]]:
        rows = []
        images, values, places = (self._each(name) for name in ("image", "value", "place"))
        for row, (place, channel) in enumerate(self._channels()):
            named = [None if number == NONE else self.images.names[number] for number in images[row]]
            rows.append(
                {
                    "layer": self.plan.followed[place].alias,
                    "channel": channel,
                    "image": named,
                    "activation": [float(value) for value in values[row]],
                    "position": [each.tolist() for each in places[row]],
                    "jumps": [
                        self.names[number]
                        for number in range(1, len(named))
                        if named[number - 1] != named[number]
                    ],
                }
            )
        return rows

    def _warnings(self) -> list[str]:
        looks = [self.course.looks[number] for number in range(self.course.count)]
        found = [unordered(self.files)]
        found += [
            f"{name}: {look.unsound}" for name, look in zip(self.names, looks, strict=True) if look.unsound
        ]
        same = [
            f"{self.names[i - 1]} and {self.names[i]}"
            for i in range(1, len(looks))
            if looks[i - 1].sha256 == looks[i].sha256
        ]
        found.append(f"the same file twice: {', '.join(same)}" if same else None)
        if len(self.images) < _FEW:
            found.append(
                f"{len(self.images)} images are few: linear CKA of features that have nothing to do with "
                "each other is far above 0 then; some hundreds are better"
            )
        if any(label is not None for label in self.images.labels) and (self.truth == UNKNOWN).all():
            label = next(label for label in self.images.labels if label is not None)
            found.append(f"no label of the images, such as {label!r}, names a class; accuracy is not known")
        flat = [
            layer.alias
            for row, layer in enumerate(self.plan.compared)
            if np.isnan(self.course.cka_last[row, :-1]).any()
        ]
        if flat:
            found.append(
                f"{', '.join(flat)}: at some checkpoint the same for all images, or no numbers, so that "
                "there is no CKA"
            )
        return [text for text in found if text is not None]
