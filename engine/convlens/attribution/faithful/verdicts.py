"""A verdict on each of many maps of the same images: what they have in common is measured once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.faithful.judged import extent_of, hidden, judged, refusal
from convlens.attribution.faithful.ordering import Orders, Scheme
from convlens.attribution.faithful.randomising import randomised, weighted_layers
from convlens.attribution.faithful.sanity import likeness
from convlens.attribution.faithful.verdict import order_outcome, order_words, random_outcome, random_words
from convlens.attribution.masking.parts import parts_of
from convlens.attribution.reading import reading
from convlens.errors import ConvLensError
from convlens.inputs import NOUNS
from convlens.registry import Images, Job, Parameters
from convlens.results import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.altered import Altered
    from convlens.model import Model
    from convlens.registry import Method
    from convlens.targets import Target

PHOTOS, RANDOM_PHOTOS = 8, 2
"""Images, the first ones, on which orders and random weights are tried."""


class Judge:
    """Gives a verdict on maps of ``images`` for ``target``.

    Deletion and insertion run on the first 8 images, random weights on the first 2, at a method's quick
    settings, with the upper half of the layers random.

    Args:
        model: the model.
        images: what the maps are of.
        target: what they explain.
        batch_size: images in one forward.
        seed: for everything random.
        steps: steps of a curve.
        random: random orders.
        insertion: whether insertion is measured too.
    """

    def __init__(
        self,
        model: Model,
        images: Images,
        target: Target,
        *,
        batch_size: int,
        seed: int,
        steps: int = 10,
        random: int = 4,
        insertion: bool = False,
    ) -> None:
        """Nothing runs yet."""
        self.model, self.target = model, target.rows(0, PHOTOS)
        self.images = _first(images, PHOTOS)
        self.batch_size = 1 if target.alone else batch_size  # then the rows of what it reads count boxes
        self.seed, self.insertion = seed, insertion
        parts = parts_of(model.source, extent_of(images, model.source))
        self.scheme = Scheme(parts, steps, random, seed, self.batch_size)

    def verdict(
        self, method: Method[Any], parameters: Mapping[str, Any], maps: NDArray[Any]
    ) -> dict[str, Any]:
        """What deletion and random weights say of ``maps``, as plain data with the words for people.

        Args:
            method: that made the maps.
            parameters: its settings.
            maps: how much each part of each image matters, as :func:`convlens.attribution.maps.heat` has it.
        """
        own = maps[: len(self.images)]
        order = self._order(own)
        random = self._random(method, parameters, own)
        noun = NOUNS[self.model.source.kind]
        found: dict[str, Any] = {
            "order": order,
            "random": random,
            "noun": noun,
            "images": list(self.images.names),
        }
        found["rests_on"] = self._rests(noun)
        return dict(plain(found))

    def _rests(self, noun: str) -> str:
        shown, tried = len(self.images), min(RANDOM_PHOTOS, len(self.images))
        return (
            f"hiding on {shown} {noun}{'s' * (shown != 1)} in {len(self.scheme.shares) - 1} steps, against "
            f"{self.scheme.random} random orders; random weights on {tried} {noun}{'s' * (tried != 1)}"
        )

    def _order(self, maps: NDArray[Any]) -> dict[str, Any]:
        """Deletion by the maps against random orders and the centre's."""
        found: dict[str, list[float]] = {"deletion": [], "insertion": []}
        base: dict[str, list[Any]] = {"deletion": [], "insertion": []}
        for index in range(len(self.images)):
            for name, (start, end) in self._ends(index).items():
                order = [self.scheme.parts.ranked(maps[index], self.seed)]
                done = self.scheme.follow(self.model, start, end, order, self.target.of(index))
                found[name].append(float(done.areas[0]))
                base[name].append(self._baselines[name][index].areas)
        own, held = np.array(found["deletion"]), np.array(base["deletion"])
        outcome = order_outcome(own, held[:, 1:])
        more = {}
        if self.insertion:
            rest = np.array(base["insertion"])
            more = {
                "insertion": float(np.mean(found["insertion"])),
                "insertion_centre": float(rest[:, 0].mean()),
                "insertion_random": float(rest[:, 1:].mean()),
            }
        return {
            "outcome": outcome,
            "words": order_words(outcome, float(own.mean()), float(held[:, 1:].mean())),
            "deletion": float(own.mean()),
            "deletion_centre": float(held[:, 0].mean()),
            "deletion_random": float(held[:, 1:].mean()),
            **more,
            "areas": own.tolist(),
            "areas_random": held[:, 1:].mean(axis=1).tolist(),
            "areas_centre": held[:, 0].tolist(),
            "unit": reading(self.model, self.target).unit,
            "fill": self._fill[1],
            "part": list(self.scheme.parts.side),
        }

    def _random(
        self, method: Method[Any], parameters: Mapping[str, Any], maps: NDArray[Any]
    ) -> dict[str, Any]:
        """What becomes of the maps in a network whose upper half is random."""
        images = _first(self.images, RANDOM_PHOTOS)
        target = self.target.rows(0, RANDOM_PHOTOS)
        job = Job(self.model, Parameters(), images, target, self.batch_size, self.seed)
        quick = {**parameters, **method.preview}
        try:
            own = judged(job, method.name, quick)
            altered, depth, count = self._altered
            same = own.settings == method.parse(parameters)
            before = maps[: len(images)] if same else own.heat()
            rank, structure, usable = likeness(before, own.heat(model=altered))
        except ConvLensError as error:
            return {"outcome": "refused", "words": f"Not tried with random weights: {refusal(error)}"}
        outcome = random_outcome(rank, usable)
        alike = float(np.abs(rank[usable]).mean()) if usable.any() else 0.0
        noun = NOUNS[self.model.source.kind]
        return {
            "outcome": outcome,
            "words": random_words(outcome, alike, depth, count, noun),
            "alike": alike,
            "ssim": float(structure[usable].mean()) if usable.any() else 0.0,
            "layers": depth,
            "of": count,
            "settings": own.settings.model_dump(),
        }

    @cached_property
    def _fill(self) -> tuple[NDArray[Any], str]:
        return hidden(self.model, self.images, None)

    @cached_property
    def _altered(self) -> tuple[Altered, int, int]:
        layers = weighted_layers(self.model, self.target)
        depth = max(1, len(layers) // 2)
        return randomised(self.model, layers[-depth:], self.seed), depth, len(layers)

    @cached_property
    def _baselines(self) -> dict[str, list[Orders]]:
        """The centre's order and random ones, image by image."""
        found: dict[str, list[Orders]] = {"deletion": [], "insertion": []}
        for index in range(len(self.images)):
            for name, (start, end) in self._ends(index).items():
                orders = self.scheme.baselines()
                target = self.target.of(index)
                found[name].append(self.scheme.follow(self.model, start, end, orders, target))
        return found

    def _ends(self, index: int) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        image, other = self.images.array[index], self._fill[0][index]
        found = {"deletion": (image, other)}
        return {**found, "insertion": (other, image)} if self.insertion else found


def _first(images: Images, count: int) -> Images:
    return replace(
        images,
        array=images.array[:count],
        names=images.names[:count],
        views=None if images.views is None else images.views[:count],
        sizes=None if images.sizes is None else images.sizes[:count],
    )
