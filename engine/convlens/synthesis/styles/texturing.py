"""The searches of ``texture``: pictures from noise with the Gram matrices of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from convlens.synthesis.canvas import resample
from convlens.synthesis.loop import Stage, enlarged
from convlens.synthesis.photos import own
from convlens.synthesis.recipes import Recipe
from convlens.synthesis.styles import styling
from convlens.synthesis.styles.gram import measured
from convlens.synthesis.styles.matching import Match, Sample
from convlens.synthesis.styles.stylised import Made, losses_of, noise_like, rate, searched

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.registry import Job
    from convlens.synthesis.canvas import Canvas

_SAMPLE = 256


@dataclass
class Texturing:
    """All searches of a job.

    Attributes:
        job: the job.
        canvas: what a picture is.
        layers: whose Gram matrices count.
        shares: weight of each.
        said: what a person should know, filled on the way.
    """

    job: Job[Any]
    canvas: Canvas
    layers: Sequence[Layer]
    shares: Sequence[float]
    said: list[str] = field(default_factory=list)

    def made(self, index: int) -> Made:
        """The texture of image ``index``."""
        told, model, least = self.job.parameters, self.job.model, styling.coarsest(self.layers)
        if told.seamless:
            styling.check_masked(self.layers, len(self.canvas.size), "seamless textures")
        sample = self._sample(index, least)
        size = (told.side,) * len(self.canvas.size) if told.side else tuple(sample.shape[2:])
        sizes = styling.pyramid(self.canvas, size, told.scales, told.steps, least)
        self.said += styling.said_of_size(self.canvas, [each for each, _ in sizes])
        wrapped = replace(self.canvas, wrap=self._wrap(size, least) if told.seamless else 0)
        matches = []
        for each, _ in sizes:
            side = round(max(sample.shape[2:]) * max(each) / max(size))
            smaller = styling.at_least(styling.brought(sample, side), least)
            grams, middle = self._grams(smaller, wrapped.wrap), None
            if told.seamless:
                middle = _middle(each, [min(wrapped.wrap, length) for length in each])
            matches.append(Match(self.layers, self.shares, [Sample(grams, mask=middle)]))
        stages = [
            Stage(each, steps, goal=match.goal("the texture"))
            for (each, steps), match in zip(sizes, matches, strict=True)
        ]
        recipe = Recipe("pixels", told.optimiser, rate(told.optimiser, told.learning_rate))
        first = noise_like(sample, sizes[0][0], self.job.seed, self.canvas.photo)
        enlarge = _around if told.seamless else enlarged
        outcome = searched(self.job, index, wrapped, stages, first, recipe, enlarge)
        full = noise_like(sample, size, self.job.seed, self.canvas.photo)
        start = losses_of(model, wrapped, matches[-1], full)
        end = losses_of(model, wrapped, matches[-1], outcome.pictures)
        return Made(sample, outcome.pictures, outcome, start, end)

    def _sample(self, index: int, least: int) -> Tensor:
        limit = self.job.parameters.sample_side
        usual = _SAMPLE if self.canvas.photo and self.job.images.origins is not None else None
        sample = own(self.job.images, index, self.canvas, usual if limit is None else None)
        return styling.at_least(sample if limit is None else styling.brought(sample, limit), least)

    def _grams(self, sample: Tensor, wrap: int) -> list[Tensor]:
        """The sample's matrices; of what has no edge for a picture that has none, by mirrors around it."""
        model, size = self.job.model, tuple(sample.shape[2:])
        if not wrap:
            return measured(model, self.canvas, sample, self.layers)
        pads = [min(wrap, length - 1) for length in size]
        around = [pad for pad in reversed(pads) for _ in range(2)]
        mirrored = functional.pad(sample, around, mode="reflect")
        return measured(model, self.canvas, mirrored, self.layers, _middle(size, pads))

    def _wrap(self, size: tuple[int, ...], least: int) -> int:
        """How far the picture is continued: half of what a unit sees, in whole steps of the coarsest."""
        seen = [max(n or 0 for n in layer.field.size) for layer in self.layers if layer.field is not None]
        stride = max(1, least // 2)
        return int(min(-(-max(seen, default=1) // (2 * stride)) * stride, min(size)))


def _around(pictures: Tensor, stage: Stage) -> Tensor:
    """Pictures in the size of the next stage, each edge interpolated with the other one."""
    size = tuple(pictures.shape[2:])
    tiled = functional.pad(pictures, [n for n in reversed(size) for _ in range(2)], mode="circular")
    larger = resample(tiled, tuple(3 * n for n in stage.size))
    for axis, length in enumerate(stage.size, start=2):
        larger = larger.narrow(axis, length, length)
    return larger


def _middle(size: Sequence[int], pads: Sequence[int]) -> Tensor:
    """A mask of what lies inside a picture that is continued on each side: each place counts once."""
    inside = torch.ones(tuple(size))
    for axis, pad in enumerate(pads):
        sides = inside.new_zeros([pad if a == axis else n for a, n in enumerate(inside.shape)])
        inside = torch.cat([sides, inside, sides], dim=axis)
    return inside
