"""What a child process of a survey imports: everything, once, in the process that children are copies of."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import torch

from convlens.coverage.examine import examine
from convlens.coverage.row import Row, Settings
from convlens.instrument import build

__all__ = ["build", "onnx", "onnxruntime", "work"]


def work(path: Path, settings: Settings) -> Row:
    """The file's row, with as many threads as the settings say."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return examine(path, settings)
