"""How pictures with the Gram matrices of others are sought: what ``texture`` and ``style`` are both told."""

from __future__ import annotations

from typing import Literal

from convlens.registry import Field, Parameters


class SearchParameters(Parameters):
    """The search of one picture."""

    steps: int = Field(240, ge=1, le=100000, description="steps of the optimiser, over all sizes")
    scales: int | None = Field(
        None, ge=1, le=8, description="sizes, each twice the one before; from 128 pixels by default"
    )
    optimiser: Literal["lbfgs", "adam"] = Field("lbfgs", description="how steps are taken")
    learning_rate: float | None = Field(
        None, gt=0, le=10, description="length of a step; 1 for lbfgs and 0.02 for adam by default"
    )
