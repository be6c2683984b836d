"""The file as it lies on disk, run without anything that is done to graphs here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.errors import UnsupportedError
from convlens.runtime.runner import Arrays, as_declared, reason

_REAL = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def without_batch(array: NDArray[Any], rank: int) -> NDArray[Any]:
    """The first image alone where the file takes no axis that counts images."""
    first: NDArray[Any] = array[0] if array.ndim == rank + 1 else array
    return first


def file_session(path: Path) -> Any:
    """A session on the file as it lies on disk, every node as it is written, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def run_file(path: Path, feeds: Arrays, names: Sequence[str], bound: Arrays) -> dict[str, NDArray[Any]]:
    """Outputs ``names`` of the file as it lies on disk, every node as it is written.

    Args:
        path: the file.
        feeds: inputs in the shape in which they go in.
        names: the outputs.
        bound: inputs that were bound to constants, as they were given: a number, or an array.

    Raises:
        UnsupportedError: onnxruntime refuses the file or the inputs.
    """
    try:
        session = file_session(path)
        there = {value.name: _REAL.get(value.type) for value in session.get_inputs()}
        ranks = {value.name: len(value.shape) for value in session.get_inputs()}
        given = {
            name: as_declared(without_batch(array, ranks[name]), there[name])
            for name, array in feeds.items()
            if name in there
        }
        for name, array in filled(session, given, bound).items():
            given[name] = as_declared(array, there.get(name))
        return dict(zip(names, session.run(list(names), given), strict=True))
    except Exception as error:  # onnxruntime raises its own kinds, all unrelated
        raise UnsupportedError(f"{path}: onnxruntime cannot run the file: {reason(error)}") from error


def filled(session: Any, feeds: Arrays, bound: Arrays) -> dict[str, NDArray[Any]]:
    """Bound inputs in the shape that the file's session takes beside ``feeds``.

    A dimension whose symbol an input of ``feeds`` shares is as long as there, another open one as long as
    what was given, or 1.
    """
    wanted = {value.name: value.shape for value in session.get_inputs()}
    lengths = {
        symbol: length
        for name, array in feeds.items()
        for symbol, length in zip(wanted.get(name) or (), np.shape(array), strict=False)
        if isinstance(symbol, str)
    }
    found = {}
    for name, given in bound.items():
        array, shape = np.asarray(given), wanted.get(name)
        if shape is not None:
            own = array.shape if array.ndim == len(shape) else (1,) * len(shape)
            said = (d if isinstance(d, int) and d >= 0 else lengths.get(d) for d in shape)
            array = np.broadcast_to(array, [n if d is None else d for d, n in zip(said, own, strict=True)])
        found[name] = np.ascontiguousarray(array)
    return found
