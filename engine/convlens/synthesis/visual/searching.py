"""The searches of one job of ``visualise``: their start, their recipe, and what is said of the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from convlens.errors import ConvLensError, ParameterError
from convlens.graph.layers import shape_text
from convlens.synthesis import cppn, starts
from convlens.synthesis.fitting import full, groups
from convlens.synthesis.generator import Generator, Prior, load_generator
from convlens.synthesis.loop import Outcome, Stage, optimise
from convlens.synthesis.recipes import Recipe, recipe_of
from convlens.synthesis.visual.judging import class_probabilities, robust_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from convlens.registry import Job
    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.visual.options import VisualiseParameters
    from convlens.synthesis.visual.wanted import Wanted

_ON_PIXELS = ("decay", "blur", "small", "idle")


class Search:
    """All searches of a job.

    Attributes:
        said: what a person should know, filled on the way.
        start_text: what the searches start from.
    """

    def __init__(
        self, job: Job[VisualiseParameters], canvas: Canvas, settings: Mapping[str, Any], aim: Wanted
    ) -> None:
        """Check what was asked for.

        Raises:
            ParameterError: settings do not go together.
        """
        self.job = job
        self.canvas = canvas
        self.settings = settings
        self.aim = aim
        self.said: list[str] = []
        self.generator = self._generator()
        self.drawn = self.generator is None and settings["parametrisation"] == "cppn"
        if self.generator is not None or self.drawn:
            self._check_no_pixels()
        if job.parameters.enlarge and not self.drawn:
            raise ParameterError("only a CPPN can be drawn at another size; say --parametrisation cppn")
        self.stages = stages(canvas, settings)
        self.recipe = recipe_of({**settings, "parametrisation": "pixels"} if self.free else settings)
        self.start_text = self._start_text()
        self._say_resampled()

    @property
    def free(self) -> bool:
        """Whether no pixels are held, but something from which they follow."""
        return self.generator is not None or self.drawn

    def parts(self) -> list[Outcome]:
        """Search, group by group; the last group may have been interrupted."""
        count = len(self.aim.labels)
        if self.aim.together:
            try:
                return [self._search(0, count)]
            except (MemoryError, RuntimeError) as error:
                if not full(error):
                    raise
                raise ConvLensError(
                    f"{count} variants that are kept apart do not fit in memory; ask for fewer, or for a "
                    "smaller side"
                ) from error
        model, job = self.job.model, self.job
        alone = self.settings["optimiser"] == "lbfgs"
        step = 1 if alone else model.runner.step(min(job.batch_size, count))
        found = []
        for part in groups(count, step, self._search, self.said):
            found.append(part)
            if part.interrupted is not None:
                break
        return found

    def beside(self, parts: Sequence[Outcome]) -> dict[str, NDArray[Any]]:
        """Further arrays of the Result: probabilities, the photo at the start, a larger drawing."""
        found: dict[str, NDArray[Any]] = {}
        job, pictures = self.job, torch.cat([part.pictures for part in parts])
        classes = self.aim.classes[: len(pictures)]
        if classes and job.model.classes is not None:
            size = job.batch_size
            found["probability"] = class_probabilities(job.model, self.canvas, pictures, classes, size)
            if self.canvas.photo:
                found["robust"] = robust_probabilities(
                    job.model, self.canvas, pictures, classes, size, job.seed
                )
        if self.start_text not in starts.KINDS and not self.free:
            found["begun"] = self._photo(1).cpu().numpy()
        if job.parameters.enlarge and all(part.leaves for part in parts):
            side = (job.parameters.enlarge,) * len(self.canvas.size)
            with torch.no_grad():
                drawn = [cppn.Cppn(self.canvas, part.leaves).drawn(side) for part in parts]
            found["enlarged"] = torch.cat(drawn).numpy()
        return found

    def _search(self, first: int, rows: int) -> Outcome:
        job, count = self.job, len(self.aim.labels)
        seeds = [job.seed + (first + row if self.aim.each else 0) for row in range(rows)]
        recipe = self._recipe(seeds)
        start = self._start(seeds) if not self.free else recipe.form(self.canvas, torch.zeros(0)).pictures()
        return optimise(
            job.model,
            self.canvas,
            self.aim.goal(first, first + rows),
            start.detach(),
            self.stages,
            recipe,
            seed=job.seed,
            watch=job.watch,
            key=f"{first:04d}-{rows}",
            advance=lambda share: job.advance((first + share * rows) / count),
        )

    def _recipe(self, seeds: Sequence[int]) -> Recipe:
        if self.generator is not None:
            how = self.settings
            prior = Prior(how["latent_decay"], how["latent_bound"], how["latent_noise"])
            form = self.generator.form(prior, seeds, how["start"] == "noise", self.job.seed)
            return replace(self.recipe, parametrisation=form)
        return replace(self.recipe, parametrisation=cppn.form(seeds)) if self.drawn else self.recipe

    def _start(self, seeds: Sequence[int]) -> Tensor:
        kind = self.settings["start"]
        made = []
        for row, seed in enumerate(seeds):
            one = starts.KINDS[kind](self.canvas, 1, seed) if kind in starts.KINDS else self._photo(1)
            if self.aim.each and kind != "noise" and row:  # else all variants would stay the same
                one = one + starts.noise(self.canvas, 1, seed) - starts.grey(self.canvas, 1, seed)
            made.append(one)
        return torch.cat(made)

    def _photo(self, count: int) -> Tensor:
        return starts.given(self.job.model, self.canvas, self.settings["start"], count)

    def _generator(self) -> Generator | None:
        told = self.job.parameters
        if told.generator is None:
            if told.generator_range is not None:
                raise ParameterError(
                    "a range of pictures is of a generator, and there is none; say --generator"
                )
            return None
        if told.parametrisation is not None:
            raise ParameterError(
                f"a generator stands in the place of parametrisation {told.parametrisation!r}; leave one of "
                "them out"
            )
        return load_generator(told.generator, told.generator_range, self.canvas, self.job.model)

    def _check_no_pixels(self) -> None:
        """Refuse what needs pixels of its own where a network makes them."""
        what = "a generator" if self.generator is not None else "a CPPN"
        on = [name for name in _ON_PIXELS if self.settings[name]]
        on += ["octaves"] if self.settings["octaves"] > 1 else []
        if on:
            raise ParameterError(
                f"{', '.join(on)} (preset {self.job.parameters.preset}): for pixels, and {what} holds none; "
                "choose another preset, or set them to 0 (octaves to 1)"
            )
        if self.settings["start"] not in starts.KINDS:
            raise ParameterError(f"{what} cannot start from a photo; leave out start, or choose fourier")

    def _start_text(self) -> str:
        kind = str(self.settings["start"])
        if self.generator is not None:
            return "a random vector" if kind == "noise" else "a vector of zeros"
        if self.drawn:
            return "a random network"
        return kind if kind in starts.KINDS else Path(kind).name

    def _say_resampled(self) -> None:
        """A model of fixed size sees pictures of another size only resampled."""
        fixed = self.canvas.fixed
        other = [
            stage.size
            for stage in self.stages
            if any(own is not None and own != made for own, made in zip(fixed, stage.size, strict=True))
        ]
        if other:
            first, last = shape_text(other[0]), shape_text(other[-1])
            sizes = first if first == last else f"{first} to {last}"
            self.said.append(
                f"the model takes {shape_text(fixed)} only; pictures of {sizes} are resampled on the way in"
            )


def stages(canvas: Canvas, settings: Mapping[str, Any]) -> list[Stage]:
    """Sizes from small to full, the steps shared out evenly, the remainder to the last."""
    octaves = min(settings["octaves"], settings["steps"])
    each = settings["steps"] // octaves
    found = []
    for number in range(octaves):
        shrink = settings["octave_factor"] ** (octaves - 1 - number)
        size = tuple(max(min(8, length), round(length / shrink)) for length in canvas.size)
        steps = each if number < octaves - 1 else settings["steps"] - each * (octaves - 1)
        found.append(Stage(size, steps, settings["octave_blur"]))
    return found
