"""A finished recording, to ask of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from convlens.cards import Card
from convlens.errors import ConvLensError, LayerError, UsageError, nearest
from convlens.model import Model, load
from convlens.recording.joined import reopened
from convlens.recording.part import VALUE
from convlens.recording.plan import FORMAT, LIES, Followed
from convlens.recording.store import MANIFEST, SHARDS
from convlens.recording.swap import settle
from convlens.recording.tables import (
    CHANNELS,
    CLASSES,
    IMAGES,
    STRONGEST,
    read_channels,
    read_classes,
    read_strongest,
)
from convlens.results import read_json

if TYPE_CHECKING:
    from convlens.recording.byclass import ByClass
    from convlens.recording.source import Source
    from convlens.recording.tallies import Strongest, Tally
    from convlens.registry import Images


@dataclass
class Recording:
    """What a data set did to a model.

    Attributes:
        folder: where it lies.
        manifest: how it was made.
        given: where the data set lies now, as for :func:`convlens.recording.source.open_source`; where it lay
            when it was recorded, if this is empty.
    """

    folder: Path
    manifest: Mapping[str, Any]
    given: tuple[str, ...] = ()
    _source: Source | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str | Path, images: Sequence[str] = ()) -> Recording:
        """The recording in ``folder``.

        Args:
            folder: where it lies.
            images: where the data set lies now, if it was moved.

        Raises:
            UsageError: there is none, it is unfinished, or of a format that this version does not read.
        """
        folder = Path(folder)
        settle(folder)
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            if (folder / SHARDS).is_dir():
                raise UsageError(f"{folder}: the recording is unfinished; `convlens record --resume` ends it")
            raise UsageError(f"{folder}: no recording; `convlens record MODEL IMAGES -o {folder}` makes one")
        if manifest.get("format") != FORMAT:
            raise UsageError(
                f"{folder}: a recording of format {manifest.get('format')}; this version reads {FORMAT}"
            )
        return cls(folder, manifest, tuple(images))

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

    def model(
        self, path: str | Path | None = None, device: str = "auto", threads: int | None = None
    ) -> Model:
        """The model that was recorded, with the card that it was recorded with.

        Args:
            path: where it lies now; where it lay then, without it.
            device: as for :func:`convlens.model.load`.
            threads: likewise.

        Raises:
            UsageError: it is gone, or another model lies there.
        """
        then = self.manifest[LIES]["model"]
        if path is None and not Path(then).is_file():
            raise UsageError(f"{then}: the model that was recorded is gone; --model says where it lies now")
        card = Card.model_validate(self.manifest["card"])
        numbers = {n: v for n, v in self.manifest["feeds"].items() if not isinstance(v, Mapping)}
        found = load(path or then, card, device, threads, numbers)
        self.of(found)
        return found

    def source(self, model: Model) -> Source:
        """The data set that was recorded, opened again.

        Args:
            model: the model that was recorded.

        Raises:
            UsageError: it is gone, or another one.
        """
        if self._source is not None:
            return self._source
        told, say = self.manifest["source"], "--data says where it lies now (in Python images=...)"
        try:
            found = reopened(self.manifest[LIES], model.source, model.card, self.given)
        except ConvLensError as error:
            raise UsageError(f"the data set {told['text']} cannot be opened: {error}; {say}") from error
        if len(found) != told["count"] or found.fingerprint() != told["fingerprint"]:
            raise UsageError(
                f"{found.text}: not the data set that was recorded ({told['count']} items; these are "
                f"{len(found)}), or changed since; {say}"
            )
        self._source = found
        return found

    def batch(self, model: Model, numbers: Sequence[int]) -> Images:
        """Images of the data set, read again, as the model takes them.

        Args:
            model: the model that was recorded.
            numbers: of the images; each may come several times.

        Raises:
            UsageError: the data set is gone or changed.
            ImageError: an image cannot be read.
        """
        source = self.source(model)
        once = {number: source.items(number, number + 1)[0] for number in dict.fromkeys(numbers)}
        read = {number: item.read() for number, item in once.items()}
        given: Any = [read[number] for number in numbers]
        found = model.images(np.stack(given) if isinstance(given[0], np.ndarray) else given)
        return replace(found, names=tuple(once[number].name for number in numbers))

    def record(self) -> dict[str, Any]:
        """What Results say of it, as plain data."""
        told = {key: value for key, value in self.manifest.items() if key != LIES}
        return {
            "sha256": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
            "source": self.manifest["source"]["text"],
            "images": self.manifest["images"],
        }

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

    def by_class(self, number: int) -> ByClass:
        """How strongly images of each class excite the channels of a layer, by its number.

        The classes are the labels of the data set, or what the model predicts where it has none; without
        either there are none.
        """
        return read_classes(self.folder / CLASSES, self.layers[number])

    @cached_property
    def images(self) -> Mapping[str, NDArray[Any]]:
        """Columns of the images: number, name, label, reason, class and probability."""
        table = pq.read_table(
            self.folder / IMAGES, columns=["number", "name", "label", "reason", "class", "probability"]
        )
        return {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}

    @cached_property
    def values(self) -> Mapping[str, NDArray[Any]]:
        """What else the data set says of each image, by name: float64, or text as objects (None for none)."""
        known = self.manifest["source"].get("columns", {})
        table = pq.read_table(self.folder / IMAGES, columns=[f"{VALUE}{name}" for name in known])
        columns = {name: table[f"{VALUE}{name}"].to_pylist() for name in known}
        return {
            name: np.array(columns[name], dtype=np.float64 if kind == "number" else object)
            for name, kind in known.items()
        }

    def features(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and vectors of the images that could be read.

        Raises:
            UsageError: the model has no layer of which a vector was kept.
        """
        parts = list(self.vectors())
        return np.concatenate([n for n, _ in parts]), np.concatenate([v for _, v in parts])

    def vectors(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """What :meth:`features` gives, piece by piece, so that memory does not grow with the data set.

        Raises:
            UsageError: the model has no layer of which a vector was kept.
        """
        if self.feature is None:
            raise UsageError(f"{self.folder}: no feature vectors were recorded")
        length = self.feature.channels
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
