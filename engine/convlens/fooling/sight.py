"""One model looked at through an aim: what is gained, the slope of it, and what onnxruntime answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.fooling.aims import Aim, ClassAim, Loss, Rows
from convlens.fooling.ground import Ground
from convlens.instrument.session import Session
from convlens.targets import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model


@dataclass(frozen=True)
class Seen:
    """What was seen of some rows; all tensors have a row a row.

    Attributes:
        gain: what is driven up.
        slope: its gradient, in the shape of the input as it is changed; None where none was asked for.
        won: whether the aim is reached.
        sure: the probability of the class that is aimed at, the score of what is no class.
    """

    gain: Tensor
    slope: Tensor | None
    won: Tensor
    sure: Tensor

    def take(self, rows: Rows) -> Seen:
        """Some of the rows."""
        slope = None if self.slope is None else self.slope[rows]
        return Seen(self.gain[rows], slope, self.won[rows], self.sure[rows])


@dataclass(frozen=True)
class Sight:
    """A model, how its inputs are changed, and what for."""

    model: Model
    ground: Ground
    aim: Aim
    loss: Loss = "cross-entropy"

    def look(self, x: Tensor, rows: Rows, slope: bool = True) -> Seen:
        """Forward, and backward where a slope is wanted.

        Where the cross-entropy has no slope left, because the model is sure to the last bit, the margin's
        is taken in its place.

        Raises:
            TargetError: what is aimed at has no gradient, or does not depend on the input.
        """
        seen = self._look(x, rows, slope, self.loss)
        if seen.slope is None or self.loss == "margin" or not isinstance(self.aim, ClassAim):
            return seen
        flat = ~seen.slope.flatten(1).any(dim=1)
        if not bool(flat.any()):
            return seen
        again = self._look(x[flat], rows[flat.numpy()], True, "margin").slope
        assert again is not None
        seen.slope[flat] = again
        return seen

    def _look(self, x: Tensor, rows: Rows, slope: bool, loss: Loss) -> Seen:
        parts = [self._looked(x[part], rows[part], slope, loss) for part in self._parts(len(x))]
        slopes = [part.slope for part in parts if part.slope is not None]
        return Seen(
            torch.cat([part.gain for part in parts]),
            torch.cat(slopes) if slopes else None,
            torch.cat([part.won for part in parts]),
            torch.cat([part.sure for part in parts]),
        )

    def _parts(self, count: int) -> list[slice]:
        """Rows that share a forward.

        On a processor each has its own: there a batch is no faster, and kernels sum up in an order that
        depends on how many rows there are, which the sign of a slope near zero would make visible.
        """
        step = 1 if self.model.runner.device == "cpu" else count
        return [slice(first, first + step) for first in range(0, count, step)]

    def _looked(self, x: Tensor, rows: Rows, slope: bool, loss: Loss) -> Seen:
        with torch.set_grad_enabled(slope):
            given = x.detach().requires_grad_(slope)
            values = self._values(given)
            gain = self.aim.gain(values, rows, loss)
            found = self._slope(gain.sum(), given) if slope else None
        won, sure = self.aim.reached(values, rows)
        return Seen(_here(gain, x), found, won.cpu(), _here(sure, x))

    def linear(self, clean: Tensor, delta: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """What a change would gain if the model were linear (slope times change), and the gain of both."""
        seen = self._look(clean, rows, True, self.loss)
        after = self._look(clean + delta, rows, False, self.loss)
        assert seen.slope is not None
        told = (seen.slope.double() * delta.double()).flatten(1).sum(dim=1)
        return told, seen.gain.double(), after.gain.double()

    def rivals(self, x: Tensor, rows: Rows, count: int) -> tuple[Tensor, Tensor]:
        """By how much each of the ``count`` nearest rivals is behind, rows x rivals, and the slopes of that.

        A rival is a class whose score should come to exceed that of the class to leave; towards a chosen
        class there is that one, and what it has to exceed is the largest of the others. The slopes are
        rows x rivals x the input's axes.

        Raises:
            TargetError: the scores have no gradient, or do not depend on the input.
        """
        parts = [self._rivals(x[part], rows[part], count) for part in self._parts(len(x))]
        return torch.cat([behind for behind, _ in parts]), torch.cat([slopes for _, slopes in parts])

    def _rivals(self, x: Tensor, rows: Rows, count: int) -> tuple[Tensor, Tensor]:
        aim = self.aim
        assert isinstance(aim, ClassAim)
        with torch.enable_grad():
            given = x.detach().requires_grad_()
            scores = aim.scores(self._values(given))
            up, down = aim.rivals(scores, rows)
            at = torch.arange(len(scores), device=scores.device)
            chosen = up[:, None]
            if aim.toward is None:
                ranked = scores.detach().scatter(1, down[:, None], -torch.inf)
                chosen = ranked.topk(min(count, scores.shape[1] - 1), dim=1).indices
            behind = scores[at, down][:, None] - scores.gather(1, chosen)
            slopes = [
                self._slope(behind[:, k].sum(), given, keep=k + 1 < chosen.shape[1])
                for k in range(chosen.shape[1])
            ]
        return _here(behind, x), torch.stack(slopes, dim=1)

    def answers(self, x: Tensor) -> NDArray[np.float64]:
        """Class probabilities, rows x classes, by onnxruntime.

        The inputs must be such as a file holds (see :meth:`Ground.landed`).
        """
        return answers(self.model, self.ground, x)

    def holds(self, x: Tensor, rows: Rows) -> NDArray[np.bool_]:
        """Whether onnxruntime sees the class that is wanted in each row."""
        assert isinstance(self.aim, ClassAim)
        shares = self.answers(x)
        return self.aim.right(shares.argmax(axis=1), rows) & np.isfinite(shares).all(axis=1)

    def _values(self, x: Tensor) -> Mapping[str, Tensor]:
        """What the aim reads, one row an input; models of a fixed batch get copies of the last one."""
        name, graph = self.model.source.name, self.model.instrument(self.ground.canvas.dtype)
        fed = graph.working(self.ground.feed(x), name)
        count, fixed = len(x), self.model.runner.fixed_batch
        if fixed and count < fixed:
            fed = torch.cat([fed, fed[-1:].expand(fixed - count, *fed.shape[1:])])
        with Session(graph, source=name) as session:
            values = session.collect({name: fed}, self.aim.names)
        for read, value in values.items():
            check_rows(read, tuple(value.shape), len(fed), self.aim.alone)
        return values if self.aim.alone else {read: value[:count] for read, value in values.items()}

    def _slope(self, total: Tensor, given: Tensor, keep: bool = False) -> Tensor:
        if not total.requires_grad:
            raise TargetError(f"{self.aim.text} has no gradient; choose a value before the step that cuts it")
        (found,) = torch.autograd.grad(total, given, allow_unused=True, retain_graph=keep)
        if found is None:
            raise TargetError(f"{self.aim.text} does not depend on the input")
        slope: Tensor = found.detach()
        return slope


def answers(model: Model, ground: Ground, x: Tensor) -> NDArray[np.float64]:
    """Class probabilities of inputs such as a file holds, rows x classes, by onnxruntime."""
    classes = model.classes
    assert classes is not None
    feeds = {model.source.name: ground.array(x)}
    alone = model.runner.device == "cpu"  # as in Sight
    out = model.runner.run(feeds, [classes.name], 1 if alone else max(1, len(x)))[classes.name]
    return classes.probabilities(out)


def _here(value: Tensor, like: Tensor) -> Tensor:
    return value.detach().to(like)


def finite(*parts: Tensor) -> NDArray[np.bool_]:
    """Of each row, whether all of its numbers are finite."""
    each = [part.reshape(len(part), -1).isfinite().all(dim=1) for part in parts]
    return np.asarray(torch.stack(each).all(dim=0).numpy())
