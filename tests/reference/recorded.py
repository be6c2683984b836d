"""A small recording of any model, made of arrays, for methods that read one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.model import Model
from convlens.recording.plan import plan_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.source import open_source


def recorded(
    model: Model,
    arrays: NDArray[Any],
    root: Path,
    labels: NDArray[Any] | None = None,
    layers: Sequence[str] = (),
) -> Recording:
    """What ``arrays`` (N first, as the model takes them) do to ``model``; made once a folder ``root``."""
    key = hashlib.sha256(model.sha256.encode() + model.card.model_dump_json().encode())
    key.update(np.ascontiguousarray(arrays).tobytes())
    key.update(repr((None if labels is None else labels.tolist(), list(layers))).encode())
    folder = root / key.hexdigest()[:16]
    if not (folder / "manifest.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        data = folder.with_suffix(".npz")
        named = {} if labels is None else {"labels": labels}
        np.savez(data, inputs=arrays, **named)
        plan = plan_of(model, layers, k=4, shard=5, batch_size=4)
        record(model, open_source([str(data)], model.source, model.card), folder, plan, overwrite=True)
    return Recording.open(folder)
