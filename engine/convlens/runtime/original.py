"""The file as it lies on disk, run without anything that is done to graphs here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.runtime.runner import Arrays, as_declared

_REAL = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def without_batch(array: NDArray[Any], rank: int) -> NDArray[Any]:
    """The first image alone where the file takes no axis that counts images."""
    first: NDArray[Any] = array[0] if array.ndim == rank + 1 else array
    return first


def file_session(path: Path, threads: int | None = None) -> Any:
    """A session on the file as it lies on disk, every node as it is written, on the CPU.

    In as many ``threads`` as what it is held against: how many take part can change the last digits.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def as_taken(session: Any, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays in the precision in which the file's session takes them."""
    kinds = {value.name: _REAL.get(value.type) for value in session.get_inputs()}
    return {name: as_declared(array, kinds.get(name)) for name, array in feeds.items()}


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
        found[name] = np.asarray(array, order="C")
    return found
