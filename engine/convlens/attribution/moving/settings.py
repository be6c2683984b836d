"""What a method can be told that moves its inputs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from convlens.registry import Field, Parameters

TRANSFORMS = ("translation", "scale", "rotation")


def _kinds(value: Any) -> Any:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if parts is None:
        return None
    if not isinstance(parts, (list, tuple)) or not parts or any(part not in TRANSFORMS for part in parts):
        raise ValueError(f"expected some of {', '.join(TRANSFORMS)}, with commas between them")
    return ",".join(dict.fromkeys(parts))


def _border(value: Any) -> Any:
    if value is None or value in ("grey", "mean", "edge"):
        return value
    try:
        float(value)
    except (TypeError, ValueError):
        raise ValueError("expected grey, mean, edge or a number") from None
    return str(value)


class MovedParameters(Parameters):
    """By how much inputs are moved."""

    transforms: Annotated[str | None, BeforeValidator(_kinds)] = Field(
        None, description="translation, scale and rotation, or some of them; all that make sense by default"
    )
    steps: int = Field(12, ge=2, le=180, description="positions beside the original; twice as many angles")
    shift: int | None = Field(
        None,
        ge=1,
        description="furthest translation to both sides; the paper's 60 of 224 by default",
        json_schema_extra={"unit": "pixels (samples, points, ...)"},
    )
    direction: Literal["vertical", "horizontal"] = Field(
        "vertical", description="of the translation of images"
    )
    zoom: float = Field(1.8, ge=1, le=8, description="largest scale", json_schema_extra={"unit": "times"})
    shrink: float = Field(
        1.0, ge=0.1, le=1, description="smallest scale", json_schema_extra={"unit": "times"}
    )
    turn: float = Field(
        360.0,
        gt=0,
        le=360,
        description="anticlockwise up to this angle",
        json_schema_extra={"unit": "degrees"},
    )
    fill: Annotated[str | None, BeforeValidator(_border)] = Field(
        None,
        description="what comes in at the border: grey, mean (of the image), edge (its last pixels) or a "
        "number; by default grey for photos, mean for other images and volumes, 0 for signals and boards",
    )
