"""What a child process of a survey imports: everything, once, in the process that children are copies of."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import numpy.random
import onnx
import onnxruntime
import torch

from convlens.coverage.examine import examine
from convlens.coverage.row import Row, Settings
from convlens.errors import ConvLensError
from convlens.instrument import build
from convlens.ops.table import known

__all__ = ["build", "numpy", "onnx", "onnxruntime", "work"]

with contextlib.suppress(ConvLensError):  # a child meets it again, and says so in its file's row
    known()
gc.collect()
gc.freeze()  # what is imported is never garbage, and a child that looks through it copies all of it


def work(path: Path, settings: Settings) -> Row:
    """The file's row, with as many threads as the settings say."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return examine(path, settings)
