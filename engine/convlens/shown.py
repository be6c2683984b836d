"""What drawing has to know of inputs that are no photos: what they hold, and the numbers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.source import Source
    from convlens.registry import Job

UNITS = {
    "signal": "samples",
    "spectrogram": "bins",
    "tokens": "tokens",
    "board": "points",
    "vector": "features",
    "video": "frames and pixels",
    "volume": "voxels",
}
"""What positions along an input's axes are counted in; pixels for all others."""


def shown(job: Job[Any]) -> Mapping[str, Any]:
    """The hint ``input`` of a Result: kind, axes and rate of what went in. Nothing for photos."""
    return {} if job.model.source.image else {"input": info(job.model.source, job.model.card.input.rate)}


def info(source: Source, rate: float | None = None) -> dict[str, Any]:
    """What an input is, as plain data: its kind, its axes and, of a signal, its rate."""
    return {
        "kind": source.kind,
        "layout": source.layout,
        "channel": source.channel,
        "spatial": list(source.spatial),
        "axes": list(source.axis_names),
        "rate": rate,
    }


def given_arrays(job: Job[Any]) -> Mapping[str, NDArray[Any]]:
    """What went in, to be drawn under what was found. Nothing for photos, which have views."""
    return {} if job.model.source.image else {"input": job.images.array}


def given_units(job: Job[Any]) -> Mapping[str, str]:
    """The unit of :func:`given_arrays`."""
    return {} if job.model.source.image else {"input": "as the model takes it"}


def words_of(job: Job[Any], index: int) -> Mapping[str, Any]:
    """The words of a token sequence where the card has a vocabulary, else the ids as text."""
    if job.model.source.kind != "tokens":
        return {}
    known = job.model.card.input.vocabulary or ()
    ids = job.images.array[index].reshape(-1).tolist()
    return {"words": [known[i] if 0 <= i < len(known) else str(i) for i in ids]}
