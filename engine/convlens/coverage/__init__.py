"""Many files: which are opened, certified, free in their batch and differentiable, and why not."""

from __future__ import annotations

from convlens.coverage.row import Row, Settings, summary
from convlens.coverage.survey import find_models, survey

__all__ = ["Row", "Settings", "find_models", "summary", "survey"]
