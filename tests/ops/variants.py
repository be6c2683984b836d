"""Families of small models, each run in one test and held against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convlens.errors import UnsupportedError
from ops.models import Case, Feed, reference, torch_graph

REAL: tuple[Any, ...] = (np.float32, np.float64, np.float16)
SIGNED: tuple[Any, ...] = (np.int64, np.int32, np.int16, np.int8)
UNSIGNED: tuple[Any, ...] = (np.uint8, np.uint16, np.uint32, np.uint64)
WHOLE = SIGNED + UNSIGNED
TIES = np.array([[1, 3, 3, 0], [2, 2, 1, 2]])


def of(values: Any, dtype: Any = np.int64) -> Feed:
    """A run-time input of these values."""
    return Feed(np.asarray(values).astype(dtype))


def none(*shape: int) -> Feed:
    """An input without any numbers."""
    return Feed(np.zeros(shape, np.float32))


def agree(family: Iterable[Case], folder: Path, least: int) -> None:
    """Hold every model that onnxruntime runs against it; at least ``least`` have to be run.

    Args:
        family: the models, each under its opsets.
        folder: where they may be written.
        least: so many have to run, so that a family cannot pass by being refused.
    """
    ran, wrong = 0, []
    for one in family:
        for opset in one.opsets:
            model = one.model(opset)
            try:
                expected = reference(model, one.feeds)
            except Exception:  # onnxruntime has a kind of error for each of its codes
                continue
            graph = torch_graph(model, folder)
            names = [f"y{i}" for i in range(one.outputs)]
            try:
                with torch.no_grad():
                    feeds = {name: graph.working(array, name) for name, array in one.feeds.items()}
                    found = graph.values(feeds, names)
            except UnsupportedError as error:
                wrong.append((one.label(opset), [a.dtype.name for a in one.feeds.values()], str(error)))
                continue
            ran += 1
            for name, wanted in zip(names, expected, strict=True):
                step = 2e-3 if wanted.dtype == np.float16 else 2e-5
                got = found[name].numpy()
                real = wanted.dtype in (np.float32, np.float64)
                right = got.shape == wanted.shape and (not real or got.dtype == wanted.dtype)
                if not right or not np.allclose(_real(got), _real(wanted), step, step, equal_nan=True):
                    wrong.append((one.label(opset), [a.dtype.name for a in one.feeds.values()], got, wanted))
    assert wrong == []
    assert ran >= least


def _real(array: Any) -> Any:
    return array if array.dtype.kind in "iu" else array.astype(np.float64)
