"""Every attack by name: where it comes from, and where it is found. No torch is imported to read it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from convlens.fooling.task import Found, Task

Name: TypeAlias = Literal["fgsm", "pgd", "deepfool", "carlini-wagner"]
NormName: TypeAlias = Literal["linf", "l2"]


@dataclass(frozen=True)
class Entry:
    """One attack.

    Attributes:
        module: holds ``find``, which takes a :class:`~convlens.fooling.task.Task`.
        cite: its paper.
        steps: how many, where none are asked for.
        norms: in which it can measure, the usual one first.
        smallest: whether it seeks the smallest change that fools, instead of any inside a ball.
        margin: whether it works on the difference of two scores, whatever loss is asked for.
    """

    module: str
    cite: str
    steps: int
    norms: tuple[NormName, ...] = ("linf", "l2")
    smallest: bool = False
    margin: bool = False

    def find(self, task: Task) -> Found:
        """Do it."""
        found: Found = import_module(self.module).find(task)
        return found


ATTACKS: dict[Name, Entry] = {
    "fgsm": Entry("convlens.fooling.fgsm", "Goodfellow et al. 2015", 1),
    "pgd": Entry("convlens.fooling.pgd", "Kurakin et al. 2017; Madry et al. 2018", 40),
    "deepfool": Entry(
        "convlens.fooling.deepfool",
        "Moosavi-Dezfooli et al. 2016",
        50,
        ("l2", "linf"),
        smallest=True,
        margin=True,
    ),
    "carlini-wagner": Entry(
        "convlens.fooling.carlini", "Carlini & Wagner 2017", 100, ("l2",), smallest=True, margin=True
    ),
}
