"""The pieces of a search, put together from settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convlens.synthesis.loop import Recipe
from convlens.synthesis.regularise import PENALTIES, Repairs
from convlens.synthesis.robust import Robustness


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """How a picture is sought; a number that ``settings`` does not name is off."""
    number = {name: settings.get(name, 0) for name in (*PENALTIES, "decay", "blur", "small", "idle")}
    return Recipe(
        settings["parametrisation"],
        settings["optimiser"],
        settings["learning_rate"],
        robustness=Robustness(settings["jitter"], settings["scale"], settings["rotate"]),
        penalties={name: number[name] for name in PENALTIES},
        repairs=Repairs(
            number["decay"], number["blur"], settings.get("blur_every", 4), number["small"], number["idle"]
        ),
        centre=settings.get("centre", 0.0),
    )
