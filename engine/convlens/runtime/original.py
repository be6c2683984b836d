"""The file as it lies on disk, run without anything that is done to graphs here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from convlens.errors import UnsupportedError
from convlens.runtime.runner import Arrays, as_declared, reason

_REAL = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def run_file(path: Path, feeds: Arrays, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Outputs ``names`` of the file as it lies on disk, every node as it is written.

    Raises:
        UnsupportedError: onnxruntime refuses the file or the inputs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        there = {value.name: _REAL.get(value.type) for value in session.get_inputs()}
        given = {name: as_declared(array, there[name]) for name, array in feeds.items() if name in there}
        return dict(zip(names, session.run(list(names), given), strict=True))
    except Exception as error:  # onnxruntime raises its own kinds, all unrelated
        raise UnsupportedError(f"{path}: onnxruntime cannot run the file: {reason(error)}") from error
