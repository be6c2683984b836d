"""Pictures whose values at a layer are those of a photo (Mahendran & Vedaldi 2015)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import LayerError
from convlens.graph.layers import shape_text
from convlens.graph.rectifiers import find_rectifiers
from convlens.synthesis import starts
from convlens.synthesis.fitting import groups
from convlens.synthesis.loop import Outcome, Stage, optimise
from convlens.synthesis.objectives import Goal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.registry import Job
    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.recipes import Recipe

_CLIPPING = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Code:
    """What is matched of a layer.

    Attributes:
        layer: the layer.
        channels: those of its channels that count; None for all.
        before: the value that the layer clips, where it is a ReLU's or another that clips; None elsewhere.
    """

    layer: Layer
    channels: tuple[int, ...] | None = None
    before: str | None = None

    @classmethod
    def of(cls, model: Model, layer: Layer, channels: tuple[int, ...] | None = None) -> Code:
        """The code of a layer of ``model``."""
        rectifier = find_rectifiers(model.graph).get(layer.name)
        clips = rectifier is not None and rectifier.name in _CLIPPING
        return cls(layer, channels, rectifier.source if rectifier is not None and clips else None)

    @property
    def text(self) -> str:
        """What it is, for people."""
        if self.channels is None:
            return self.layer.alias
        some = ",".join(map(str, self.channels[:4])) + ("..." if len(self.channels) > 4 else "")
        return f"{self.layer.alias}:{some}"

    def read(self, value: Any) -> Any:
        """The numbers of the code, N x K, from the layer's value, an array or a tensor."""
        if self.channels is not None and self.layer.channel_axis is not None:
            value = value[(slice(None),) * self.layer.channel_axis + (list(self.channels),)]
        return value.reshape(len(value), -1)

    def goal(self, wanted: Tensor) -> Goal:
        """Downwards: the squared distance to ``wanted``, N x K, over the square of its length.

        A unit that is clipped though it should not be gives no signal. It counts with its value before it
        was clipped, which is further away and comes to the same where the unit opens.
        """
        size = wanted.square().sum(dim=1)

        def objective(values: Mapping[str, Tensor]) -> Tensor:
            found: Tensor = self.read(values[self.layer.name]).to(wanted.dtype)
            if self.before is not None:
                whole: Tensor = self.read(values[self.before]).to(wanted.dtype)
                found = torch.where((found != whole) & (found != wanted), whole, found)
            return -(found - wanted).square().sum(dim=1) / size

        names = [self.layer.name] if self.before is None else [self.layer.name, self.before]
        return Goal(names, objective, f"layer {self.layer.alias}")


def relative_error(found: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Length of the difference over the length of ``wanted``, row by row: N, from N x K each."""
    exact = wanted.astype(np.float64)
    away = np.linalg.norm(found.astype(np.float64) - exact, axis=1)
    return np.asarray(away / np.linalg.norm(exact, axis=1))


@dataclass(frozen=True)
class Part:
    """What was found for a group of images.

    Attributes:
        outcomes: a search a code, in their order; fewer than there are codes where it was interrupted.
        errors: of the pictures found, of the start and of grey: each N x the same number of codes, by
            onnxruntime.
        interrupted: whether somebody asked for an end.
    """

    outcomes: Sequence[Outcome]
    errors: Mapping[str, NDArray[np.float64]]
    interrupted: bool

    @property
    def pictures(self) -> NDArray[Any]:
        """N x codes x channels x spatial axes."""
        return np.stack([outcome.pictures.cpu().numpy() for outcome in self.outcomes], axis=1)

    def history(self, steps: int) -> NDArray[np.float64]:
        """The relative error as the search saw it: N x codes x steps, NaN after an early end."""
        found = [
            np.pad(each, ((0, 0), (0, steps - each.shape[1])), constant_values=np.nan)
            for each in (np.sqrt(np.maximum(-outcome.history, 0)) for outcome in self.outcomes)
        ]
        return np.stack(found, axis=1)

    @property
    def silent(self) -> NDArray[np.bool_]:
        """Where no signal reached the picture: N x codes."""
        return np.stack([outcome.dead for outcome in self.outcomes], axis=1)


class Inversion:
    """The searches of one job of ``invert``.

    Attributes:
        said: what a person should know, filled on the way.
    """

    def __init__(
        self,
        job: Job[Any],
        canvas: Canvas,
        codes: Sequence[Code],
        recipe: Recipe,
        start: str,
        steps: int,
    ) -> None:
        """Take what is sought, and how."""
        self.job = job
        self.canvas = canvas
        self.codes = codes
        self.recipe = recipe
        self.steps = steps
        self.said: list[str] = []
        self._start: Callable[[int], Tensor] = lambda rows: starts.KINDS[start](canvas, rows, job.seed)

    def parts(self) -> list[Part]:
        """Search, group by group; the last group may have been interrupted.

        Raises:
            LayerError: a code is zero or not finite, or does not count images along its first axis.
            TargetError: a layer does not depend on the input.
        """
        job = self.job
        count = len(job.images)
        found = []
        alone = self.recipe.optimiser == "lbfgs"  # it makes much of what batches round otherwise
        step = 1 if alone else job.model.runner.step(min(job.batch_size, count))
        for part in groups(count, step, self._group, self.said):
            found.append(part)
            if part.interrupted:
                break
        for part in found:
            for code, outcome in zip(self.codes, part.outcomes, strict=False):
                self._warn(code, outcome)
        return found

    def _warn(self, code: Code, outcome: Outcome) -> None:
        if outcome.stopped is not None:
            self.said.append(
                f"{code.text}: step {outcome.stopped} gave a number that is not finite; the picture is that "
                "of the step before"
            )
        if outcome.relaxed.any():
            self.said.append(
                f"{code.text}: no signal reached the first picture, so closed rectifiers let positive signal "
                "through in the first steps"
            )

    def _group(self, first: int, rows: int) -> Part:
        job, count = self.job, len(self.job.images)
        array = job.images.array[first : first + rows]
        total = count * len(self.codes)
        outcomes: list[Outcome] = []
        for number, (code, wanted) in enumerate(zip(self.codes, self._wanted(first, array), strict=True)):
            before = first * len(self.codes) + number * rows
            outcomes.append(
                optimise(
                    job.model,
                    self.canvas,
                    code.goal(wanted),
                    self._start(rows),
                    [Stage(self.canvas.size, self.steps)],
                    self.recipe,
                    seed=job.seed,
                    watch=job.watch,
                    key=f"{first:04d}-{rows}-{number:02d}",
                    advance=lambda share, before=before: job.advance(  # type: ignore[misc]
                        (before + share * rows) / total
                    ),
                )
            )
            if outcomes[-1].interrupted is not None:
                break
        last = outcomes[-1].interrupted is not None
        return Part(outcomes, self._errors(array, outcomes), last)

    def _wanted(self, first: int, array: NDArray[Any]) -> list[Tensor]:
        """The codes of the images, in the precision of the search."""
        model = self.job.model
        graph = model.instrument(self.canvas.dtype)
        name = model.source.name
        with torch.no_grad():
            given = graph.working(array, name)
            given = given if given.is_floating_point() else given.to(getattr(torch, self.canvas.dtype))
            values = graph.values({name: given}, [code.layer.name for code in self.codes])
        found = []
        for code in self.codes:
            value = values[code.layer.name]
            if not value.ndim or len(value) != len(array):
                raise LayerError(
                    f"layer {code.layer.alias!r} ({shape_text(code.layer.shape)}) does not count images "
                    "along its first axis; choose another layer"
                )
            wanted: Tensor = code.read(value).to(getattr(torch, self.canvas.dtype))
            self._check(code, first, wanted)
            found.append(wanted)
        return found

    def _check(self, code: Code, first: int, wanted: Tensor) -> None:
        """Whether there is something to match."""
        for row, each in enumerate(wanted):
            what = "not finite" if not bool(torch.isfinite(each).all()) else "zero everywhere"
            if what == "not finite" or not bool(each.any()):
                raise LayerError(
                    f"{code.text} is {what} for {self.job.images.names[first + row]}, so there is nothing to "
                    "match; choose another layer"
                )

    def _errors(self, array: NDArray[Any], outcomes: Sequence[Outcome]) -> Mapping[str, NDArray[np.float64]]:
        """How far codes of pictures are from those of the images, by onnxruntime."""
        codes = self.codes[: len(outcomes)]
        real = self._values(array, codes)
        plain = {"start": self._start(1), "grey": starts.grey(self.canvas, 1, 0)}
        found: dict[str, NDArray[np.float64]] = {}
        for name, picture in plain.items():
            other = self._values(self._fed(picture), codes)
            found[name] = np.stack([relative_error(o, r) for o, r in zip(other, real, strict=True)], axis=1)
        each = []
        for number, outcome in enumerate(outcomes):
            made = self._values(self._fed(outcome.pictures), codes[number : number + 1])[0]
            each.append(relative_error(made, real[number]))
        return {"error": np.stack(each, axis=1), **found}

    def _values(self, array: NDArray[Any], codes: Sequence[Code]) -> list[NDArray[Any]]:
        source, runner = self.job.model.source.name, self.job.model.runner
        values = runner.run({source: array}, [code.layer.name for code in codes], self.job.batch_size)
        return [np.asarray(code.read(values[code.layer.name])) for code in codes]

    def _fed(self, pictures: Tensor) -> NDArray[Any]:
        """Pictures as the file takes them."""
        with torch.no_grad():
            array: NDArray[Any] = self.canvas.feed(pictures).cpu().numpy()
        wanted = self.job.images.array.dtype
        if wanted.kind == "f":
            return array
        bounds = np.iinfo(wanted)
        return np.asarray(np.clip(np.rint(array), bounds.min, bounds.max).astype(wanted))
