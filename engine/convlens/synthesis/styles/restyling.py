"""The searches of ``style``: one photo's content, other photos' Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convlens.errors import ParameterError
from convlens.synthesis.loop import Stage
from convlens.synthesis.photos import own
from convlens.synthesis.recipes import Recipe
from convlens.synthesis.styles import colours, styling
from convlens.synthesis.styles.gram import measured
from convlens.synthesis.styles.matching import Match, Sample, seen
from convlens.synthesis.styles.stylised import Made, losses_of, noise_like, rate, searched

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.registry import Job
    from convlens.synthesis.canvas import Canvas

_SIDE = 512


@dataclass
class Restyling:
    """All searches of a job.

    Attributes:
        job: the job.
        canvas: what a picture is.
        layers: whose Gram matrices count.
        shares: weight of each.
        content: layers whose values count.
        portions: weight of each.
        styles: the samples.
        weights: of each; those of masked ones need not add up to 1.
        said: what a person should know, filled on the way.
    """

    job: Job[Any]
    canvas: Canvas
    layers: Sequence[Layer]
    shares: Sequence[float]
    content: Sequence[Layer]
    portions: Sequence[float]
    styles: Sequence[Tensor]
    weights: Sequence[float]
    said: list[str] = field(default_factory=list)

    @property
    def least(self) -> int:
        """How short a side may be at least."""
        return styling.coarsest([*self.layers, *self.content])

    def made(self, index: int) -> Made:
        """Image ``index`` in the styles."""
        told, model = self.job.parameters, self.job.model
        photo = self._photo(index)
        size = tuple(photo.shape[2:])
        sizes = styling.pyramid(self.canvas, size, told.scales, told.steps, self.least)
        self.said += styling.said_of_size(self.canvas, [each for each, _ in sizes])
        grey = told.colour == "luminance"
        content = colours.greyed(photo) if grey else photo
        styles = [self._coloured(style, photo) for style in self.styles]
        masks = [styling.read_mask(self.canvas, path, size) for path in told.mask]
        matches = [self._match(content, each, styles, masks) for each, _ in sizes]
        stages = [
            Stage(each, steps, goal=match.goal("the style"))
            for (each, steps), match in zip(sizes, matches, strict=True)
        ]
        recipe = Recipe(
            colours.Grey.of if grey else "pixels",
            told.optimiser,
            rate(told.optimiser, told.learning_rate),
            penalties={"tv": told.tv},
        )
        outcome = searched(self.job, index, self.canvas, stages, self._start(content, sizes[0][0]), recipe)
        start = losses_of(model, self.canvas, matches[-1], self._start(content, size))
        end = losses_of(model, self.canvas, matches[-1], outcome.pictures)
        picture = colours.recoloured(photo, outcome.pictures) if grey else outcome.pictures
        return Made(photo, picture, outcome, start, end)

    def shown(self, index: int = 0) -> dict[str, Tensor]:
        """The styles by name, as large as they are for an image of the job."""
        longest = max(self._photo(index).shape[2:])
        names = ["style"] if len(self.styles) == 1 else [f"style {i}" for i in range(1, len(self.styles) + 1)]
        return dict(zip(names, (self._sized(style, longest, longest) for style in self.styles), strict=True))

    def _photo(self, index: int) -> Tensor:
        """The image, its longest side as asked for: up to 512 pixels of a photo without a word."""
        side = self.job.parameters.side
        usual = _SIDE if self.canvas.photo and self.job.images.origins is not None else None
        photo = own(self.job.images, index, self.canvas, usual if side is None else None)
        return styling.at_least(photo if side is None else styling.brought(photo, side), self.least)

    def _start(self, content: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.job.parameters.start == "noise":
            return noise_like(content, size, self.job.seed, self.canvas.photo)
        return styling.resized(content, size)

    def _coloured(self, style: Tensor, photo: Tensor) -> Tensor:
        how = self.job.parameters.colour
        if how == "luminance":
            return colours.as_bright(style, photo)
        return colours.as_coloured(style, photo) if how == "matched" else style

    def _sized(self, style: Tensor, longest: int, full: int) -> Tensor:
        """A style for a picture whose longest side is ``longest`` now and ``full`` in the end."""
        longest_own = max(style.shape[2:])
        usual = min(full, longest_own) if self.canvas.photo else longest_own
        side = self.job.parameters.style_side or usual
        return styling.at_least(styling.brought(style, max(1, round(side * longest / full))), self.least)

    def _match(
        self, content: Tensor, size: tuple[int, ...], styles: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Match:
        """What a picture of one size is to match."""
        model, canvas = self.job.model, replace(self.canvas, size=size)
        full = max(content.shape[2:])
        samples = []
        for number, style in enumerate(styles):
            grams = measured(model, canvas, self._sized(style, max(size), full), self.layers)
            samples.append(Sample(grams, self.weights[number], masks[number] if masks else None))
        values = seen(model, canvas, styling.resized(content, size), [layer.name for layer in self.content])
        weight = self.job.parameters.content_weight
        return Match(
            self.layers,
            self.shares,
            samples,
            self.content,
            [values[layer.name] for layer in self.content],
            [weight * portion for portion in self.portions],
        )


def restyling(job: Job[Any], canvas: Canvas) -> Restyling:
    """The searches of a job, once all that was asked for is found to go together.

    Raises:
        ParameterError: no style, or settings that do not go together.
        LayerError: a layer does not fit.
        UsageError: there is no such file.
        ImageError: a file cannot be read.
    """
    told, model = job.parameters, job.model
    layers = styling.style_layers(model, told.style_layer)
    content = styling.content_layers(model, told.content_layer)
    if not told.style:
        raise ParameterError("style needs a picture whose style is taken: --style PICTURE")
    if told.mask and len(told.mask) != len(told.style):
        raise ParameterError(
            f"{len(told.mask)} masks for {len(told.style)} styles; give one each, in the same order, or none"
        )
    if told.colour != "style" and not (canvas.photo and canvas.channels == 3):
        raise ParameterError(f"colour {told.colour!r} is of photos in colour, and the model takes none")
    weights = styling.shares("style weights", told.style_weight, len(told.style), "styles")
    if told.mask:
        styling.check_masked(layers, len(canvas.size), "masks")
        weights = [weight * len(weights) for weight in weights]  # each fills its own part
    return Restyling(
        job,
        canvas,
        layers,
        styling.shares("layer weights", told.layer_weight, len(layers), "layers"),
        content,
        styling.shares("content layer weights", (), len(content), "content layers"),
        [styling.read_sample(model, canvas, path) for path in told.style],
        weights,
    )


def words(paths: Sequence[str], weights: Sequence[float]) -> str:
    """The styles in a few words, with their weights where they are several."""
    names = [Path(path).name for path in paths]
    if len(names) == 1:
        return names[0]
    return " + ".join(f"{weight:.3g} {name}" for name, weight in zip(names, weights, strict=True))
