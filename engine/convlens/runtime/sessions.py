"""onnxruntime's sessions of whole graphs, and what it says where it makes none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlens.errors import ModelFileError, UnsupportedError
from convlens.runtime.interleaved import interleaved
from convlens.runtime.providers import providers
from convlens.runtime.refusal import refusal
from convlens.runtime.shared import SharedModel


def session_of(
    shared: SharedModel,
    names: frozenset[str],
    device: str,
    threads: int | None = None,
    exact: bool = False,
    often: bool = False,
) -> Any:
    """A session that hands out the values ``names``.

    Args:
        shared: the graph, with its weights.
        names: ONNX value names.
        device: ``cpu`` or ``cuda``.
        threads: inside one forward; None leaves it to onnxruntime.
        exact: run every node as it is written.
        often: it will run many times.

    Raises:
        LayerError: the graph has no such value.
        UnsupportedError: onnxruntime refuses the model.
    """
    import onnxruntime

    def options(outside: bool = True) -> Any:
        own = onnxruntime.SessionOptions()
        own.log_severity_level = 4
        if threads is not None:
            own.intra_op_num_threads = threads
        if exact:
            own.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if outside and shared.names:
            own.add_external_initializers(shared.names, shared.values)
        return own

    model, on = shared.exposing(names), providers(device)
    try:
        if often and device == "cpu":
            return interleaved(model, options, on, len(names), shared.nbytes)
        return onnxruntime.InferenceSession(model, options(), providers=on)
    except Exception as error:
        raise UnsupportedError(refusal(shared.graph, reason(error))) from error


def check_file(path: Path) -> None:
    """Let onnxruntime itself load the file as it lies on disk.

    Raises:
        ModelFileError: it refuses.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(f"{path}: onnxruntime refuses the file: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What onnxruntime says, in one line."""
    return " ".join(str(error).split())[:300]
