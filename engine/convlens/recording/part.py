"""What one shard of a data set did to a model, and its form as one file."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.recording.byclass import Group, Groups
from convlens.recording.tallies import BINS, Strongest, Tally

if TYPE_CHECKING:
    from convlens.recording.plan import Plan


VALUE = "value."
"""Before the name of what else is known of an image, in rows and columns."""


@dataclass
class Part:
    """One shard.

    Attributes:
        first: number of its first image in the data set.
        tallies: one a layer.
        strongest: one a layer.
        groups: of each class, over the channels of all layers one after the other.
        rows: one mapping an image, in order: number, name, label, reason (why it could not be read), class,
            probability, and its values, each name after :data:`VALUE`.
        features: one vector a readable image, in order.
    """

    first: int
    tallies: list[Tally]
    strongest: list[Strongest]
    groups: Groups
    rows: list[dict[str, Any]]
    features: NDArray[np.float32]

    @classmethod
    def nothing(cls, plan: Plan, first: int = 0) -> Part:
        """No image yet."""
        return cls(
            first,
            [Tally.nothing(layer.channels) for layer in plan.layers],
            [Strongest.nothing(layer.channels, plan.k) for layer in plan.layers],
            Groups.nothing(),
            [],
            np.zeros((0, 0), np.float32),
        )

    def to_bytes(self) -> bytes:
        """As an uncompressed npz: arrays only, nothing that runs when it is read."""
        arrays: dict[str, Any] = {"first": np.array(self.first), "features": self.features}
        for number, (tally, strongest) in enumerate(zip(self.tallies, self.strongest, strict=True)):
            arrays |= {f"tally.{number}.{name}": array for name, array in _packed(tally).items()}
            arrays |= {f"strongest.{number}.{name}": array for name, array in strongest.arrays().items()}
        arrays |= {f"groups.{name}": array for name, array in self.groups.arrays().items()}
        arrays["groups"] = _text([[group.predicted, group.label] for group in self.groups.groups()])
        arrays["rows"] = _text(self.rows)
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Part:
        """What :meth:`to_bytes` made.

        Raises:
            ValueError: it is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            count = sum(name.startswith("tally.") and name.endswith(".images") for name in arrays)
            return cls(
                int(arrays["first"]),
                [_unpacked(_below(arrays, f"tally.{number}.")) for number in range(count)],
                [Strongest.of(_below(arrays, f"strongest.{number}.")) for number in range(count)],
                Groups.of(
                    [Group(*told) for told in json.loads(arrays["groups"].tobytes())],
                    _below(arrays, "groups."),
                ),
                json.loads(arrays["rows"].tobytes()),
                arrays["features"],
            )
        except Exception as error:  # whatever zipfile, zlib, numpy and json say of a file cut short
            raise ValueError(f"damaged: {error}") from error


def _text(told: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(told, ensure_ascii=False).encode(), np.uint8)


def _packed(tally: Tally) -> dict[str, NDArray[Any]]:
    """A tally with the bins of its histogram that are not empty; most are."""
    arrays = tally.arrays()
    histogram = arrays.pop("histogram")
    places = np.flatnonzero(histogram)
    return {**arrays, "places": places, "counts": histogram.reshape(-1)[places]}


def _unpacked(arrays: dict[str, NDArray[Any]]) -> Tally:
    histogram = np.zeros((len(arrays["mean"]), BINS), np.int64)
    histogram.reshape(-1)[arrays.pop("places")] = arrays.pop("counts")
    return Tally.of({**arrays, "histogram": histogram})


def _below(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
