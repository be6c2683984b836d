"""A finished recording, to ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from convlens.errors import LayerError, UsageError, nearest
from convlens.recording.plan import FORMAT, Followed
from convlens.recording.store import MANIFEST, SHARDS, read_json
from convlens.recording.tables import CHANNELS, IMAGES, STRONGEST, read_channels, read_strongest

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.tallies import Strongest, Tally


@dataclass(frozen=True)
class Recording:
    """What a data set did to a model.

    Attributes:
        folder: where it lies.
        manifest: how it was made.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Recording:
        """The recording in ``folder``.

        Raises:
            UsageError: there is none, it is unfinished, or of a format that this version does not read.
        """
        folder = Path(folder)
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            if (folder / SHARDS).is_dir():
                raise UsageError(f"{folder}: the recording is unfinished; `convlens record --resume` ends it")
            raise UsageError(f"{folder}: no recording; `convlens record MODEL IMAGES -o {folder}` makes one")
        if manifest.get("format") != FORMAT:
            raise UsageError(
                f"{folder}: a recording of format {manifest.get('format')}; this version reads {FORMAT}"
            )
        return cls(folder, manifest)

    def of(self, model: Model) -> Recording:
        """This recording, if it is of that model.

        Raises:
            UsageError: it is of another model, or the same one with another card.
        """
        told = self.manifest["model"]
        if told["sha256"] != model.sha256:
            raise UsageError(
                f"{self.folder}: recorded from {told['name']} ({told['sha256'][:12]}), not from {model.name} "
                f"({model.sha256[:12]}); give the model that was recorded, or record this one"
            )
        if self.manifest["card"]["input"] != model.card.model_dump(mode="json")["input"]:
            raise UsageError(
                f"{self.folder}: recorded with another card, so its numbers are of other inputs; give the "
                "card that was used, or record again"
            )
        return self

    @cached_property
    def layers(self) -> tuple[Followed, ...]:
        """The layers whose channels were followed."""
        return tuple(_followed(layer) for layer in self.manifest["plan"]["layers"])

    @cached_property
    def feature(self) -> Followed | None:
        """The layer whose vector was kept for each image."""
        told = self.manifest["plan"]["feature"]
        return None if told is None else _followed(told)

    def layer(self, name: str) -> int:
        """The number of a layer by alias or ONNX name.

        Raises:
            LayerError: it was not recorded.
        """
        for number, layer in enumerate(self.layers):
            if name in (layer.alias, layer.name):
                return number
        known = [layer.alias for layer in self.layers]
        raise LayerError(
            f"layer {name!r} was not recorded{nearest(name, known)}; recorded are {', '.join(known)}"
        )

    @cached_property
    def tallies(self) -> list[Tally]:
        """Statistics of each layer's channels."""
        return read_channels(self.folder / CHANNELS, self.layers)

    @cached_property
    def strongest(self) -> list[Strongest]:
        """The strongest places of each layer's channels."""
        return read_strongest(self.folder / STRONGEST, self.layers, self.manifest["plan"]["k"])

    @cached_property
    def images(self) -> Mapping[str, NDArray[Any]]:
        """Columns of the images: number, name, label, reason, class and probability."""
        table = pq.read_table(
            self.folder / IMAGES, columns=["number", "name", "label", "reason", "class", "probability"]
        )
        return {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}

    def features(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and vectors of the images that could be read.

        Raises:
            UsageError: the model has no layer of which a vector was kept.
        """
        if self.feature is None:
            raise UsageError(f"{self.folder}: no feature vectors were recorded")
        parts = list(self._vectors(self.feature.channels))
        return np.concatenate([n for n, _ in parts]), np.concatenate([v for _, v in parts])

    def _vectors(self, length: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        with pq.ParquetFile(self.folder / IMAGES) as file:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group, columns=["number", "feature"])
                column = table["feature"].combine_chunks()
                good = np.asarray(column.is_valid())
                flat = column.filter(column.is_valid()).flatten()
                yield (
                    np.asarray(table["number"])[good],
                    np.asarray(flat, np.float32).reshape(-1, length),
                )


def _followed(told: Mapping[str, Any]) -> Followed:
    return Followed(**{**told, "spatial_axes": tuple(told["spatial_axes"])})
