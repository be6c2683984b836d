"""What a judgement can be told, as people type it: settings of another method, and boxes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator


def settings_of(value: Any) -> Any:
    """``rule=guided patch=16`` or a JSON object, as the command line gives it, as a mapping."""
    if value is None or isinstance(value, Mapping):
        return value
    if not isinstance(value, str):
        raise ValueError("expected NAME=VALUE, several with spaces between, or a mapping")
    if value.lstrip().startswith("{"):
        try:
            found = json.loads(value)
        except ValueError:
            raise ValueError("expected NAME=VALUE, several with spaces between, or a JSON object") from None
        return found
    pairs = [part.partition("=") for part in value.replace(";", " ").split()]
    if any(not name or not sign or not text for name, sign, text in pairs):
        raise ValueError("expected NAME=VALUE, several with spaces between")
    return {name.replace("-", "_"): _plain(text) for name, _, text in pairs}


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


Settings: TypeAlias = Annotated[dict[str, Any] | None, BeforeValidator(settings_of)]
"""Settings of a method: a mapping, or text like ``rule=guided patch=16``."""


def _boxes(value: Any) -> Any:
    """Boxes, each first and last positions axis by axis; text as the command line gives it."""
    if value is None:
        return None
    if isinstance(value, str):
        value = [part for part in value.split(";") if part.strip()]
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("expected FROM:TO for each axis, like 40:120,60:200")
    if isinstance(value[0], (list, tuple)) and value[0] and isinstance(value[0][0], int):
        value = [value]
    return tuple(_box(each) for each in value)


def _box(value: Any) -> tuple[tuple[int, int], ...]:
    if isinstance(value, str):
        spans = [re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", part) for part in value.split(",")]
        value = [(int(span[1]), int(span[2])) if span else None for span in spans]
    found = []
    for span in value if isinstance(value, (list, tuple)) else [None]:
        if not isinstance(span, (list, tuple)) or len(span) != 2 or not all(isinstance(n, int) for n in span):
            raise ValueError("expected FROM:TO for each axis, like 40:120,60:200")
        found.append((int(span[0]), int(span[1])))
    return tuple(found)


Boxes: TypeAlias = Annotated[tuple[tuple[tuple[int, int], ...], ...] | None, BeforeValidator(_boxes)]
"""A box, or one an image with ``;`` between them: ``FROM:TO`` for each axis, the last position excluded."""
