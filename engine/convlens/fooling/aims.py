"""What an attack is after: another class, a chosen one, or more of any score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.classes import Classes
    from convlens.targets import Target

Loss: TypeAlias = Literal["cross-entropy", "margin"]
Rows: TypeAlias = "NDArray[np.int64]"
"""Which images of the whole batch are looked at."""


class Aim(Protocol):
    """What is driven up, and when it is reached."""

    @property
    def text(self) -> str:
        """What it is after, for people."""

    @property
    def alone(self) -> bool:
        """Whether the values that are read have rows that count what was found on one image."""

    @property
    def names(self) -> Sequence[str]:
        """The ONNX values that are read."""

    def gain(self, values: Mapping[str, Tensor], rows: Rows, loss: Loss) -> Tensor:
        """What is driven up, one number a row."""

    def reached(self, values: Mapping[str, Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
        """Whether each row is where it should be, and how sure the model is of it."""


@dataclass(frozen=True)
class ClassAim:
    """Away from the class that the model sees, or to a chosen one.

    Attributes:
        classes: of the model.
        before: the class of each image as it is.
        toward: the class to reach; None for any other than ``before``.
        text: for people.
    """

    classes: Classes
    before: Rows
    toward: int | None
    text: str
    alone: bool = False

    @property
    def names(self) -> Sequence[str]:
        """The scores before a softmax or sigmoid."""
        return (self.classes.logits,)

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        """Rows x classes, such that the largest is the class that is seen and a softmax gives shares."""
        value = values[self.classes.logits]
        flat = value.reshape(len(value), -1)
        flat = flat if flat.dtype == torch.float64 else flat.float()
        if self.classes.scores == "probabilities" and self.classes.logits == self.classes.name:
            return flat.clamp(min=1e-30).log()
        return flat

    def rivals(self, scores: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Of each row, the class whose score should rise and the one whose score should fall."""
        own = torch.from_numpy(self.before[rows]).to(scores.device)
        if self.toward is not None:
            own = torch.full_like(own, self.toward)
        others = scores.detach().scatter(1, own[:, None], -torch.inf).argmax(dim=1)
        return (others, own) if self.toward is None else (own, others)

    def gain(self, values: Mapping[str, Tensor], rows: Rows, loss: Loss) -> Tensor:
        """Cross-entropy with the class to leave, or less of it with the class to reach; or the margin."""
        scores = self.scores(values)
        up, down = self.rivals(scores, rows)
        at = torch.arange(len(scores), device=scores.device)
        if loss == "margin":
            return scores[at, up] - scores[at, down]
        shares = scores.log_softmax(dim=1)
        return -shares[at, down] if self.toward is None else shares[at, up]

    def reached(self, values: Mapping[str, Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
        """Whether the largest score is of the right class, and that class's probability."""
        scores = self.scores(values).detach()
        up, _ = self.rivals(scores, rows)
        shares = scores.sigmoid() if self.classes.scores == "sigmoid" else scores.softmax(dim=1)
        best = scores.argmax(dim=1)
        return best == up, shares[torch.arange(len(scores), device=scores.device), up]

    def right(self, seen: NDArray[np.int64], rows: Rows) -> NDArray[np.bool_]:
        """Whether ``seen``, the class of each row, is what was wanted."""
        if self.toward is not None:
            return np.asarray(seen == self.toward)
        return np.asarray(seen != self.before[rows])


@dataclass(frozen=True)
class ScoreAim:
    """More of a target that is no class: there is no point at which it is reached."""

    target: Target
    needed: Sequence[str]

    @property
    def text(self) -> str:
        """The target for people."""
        return self.target.text

    @property
    def alone(self) -> bool:
        """Whether its values count what was found on one image."""
        return self.target.alone

    @property
    def names(self) -> Sequence[str]:
        """What the target reads."""
        return self.needed

    def gain(self, values: Mapping[str, Tensor], rows: Rows, loss: Loss) -> Tensor:
        """The target's score."""
        del loss
        found: Tensor = self.target.take(rows.tolist()).score(values)
        return found

    def reached(self, values: Mapping[str, Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
        """Never."""
        score = self.gain(values, rows, "margin").detach()
        return torch.zeros_like(score, dtype=torch.bool), score
