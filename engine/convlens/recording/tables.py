"""Finished shards as Parquet tables that any tool reads.

- ``images.parquet``: one row an image: ``number``, ``name``, ``label``, ``reason`` (why it could not be
  read), ``class`` and ``probability`` (the predicted class), ``feature`` (a list of fixed length), and
  ``value.NAME`` for what else the data set says of each.
- ``channels.parquet``: one row a channel: ``layer``, ``channel``, ``images``, ``values``, ``mean``,
  ``variance``, ``spread`` (sum of squared distances from the mean), ``maximum``, ``zeros`` (count),
  ``unsound`` (images with a value that is no number), ``q50`` ... ``q995`` (quantiles of an image's largest
  value) and ``histogram`` of the same.
- ``strongest.parquet``: one row a place: ``layer``, ``channel``, ``rank``, ``value``, ``image``, ``name``,
  ``position`` (in the layer, one number a spatial axis) and ``place``, the same as one number.
- ``classes.parquet``: one row a class in a layer: ``layer``, ``label``, ``predicted`` (whether the label is
  the model's own, as the data set has none), ``images`` (count), and for each channel ``mean`` and
  ``spread`` (sum of squared distances from the mean) of an image's largest value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from convlens.recording.byclass import ByClass, Groups
from convlens.recording.part import VALUE
from convlens.recording.seen import unpacked
from convlens.recording.store import put_by
from convlens.recording.tallies import BINS, Strongest, Tally

if TYPE_CHECKING:
    from convlens.recording.part import Part
    from convlens.recording.plan import Followed

IMAGES, CHANNELS, STRONGEST = "images.parquet", "channels.parquet", "strongest.parquet"
CLASSES = "classes.parquet"
_NUMBERS = pa.list_(pa.float64())
_CLASSES = pa.schema(
    [
        ("layer", pa.string()),
        ("label", pa.string()),
        ("predicted", pa.bool_()),
        ("images", pa.int64()),
        ("mean", _NUMBERS),
        ("spread", _NUMBERS),
    ]
)
_UNLIKE = ("number", "name", "probability", "feature")
QUANTILES = {"q50": 0.5, "q90": 0.9, "q99": 0.99, "q995": 0.995}


def write_images(
    path: Path,
    parts: Iterable[Part],
    length: int | None,
    named: set[int],
    columns: Mapping[str, str] | None = None,
) -> dict[int, str]:
    """The table of images, a row group a shard, so that memory does not grow with the data set.

    Args:
        path: the file.
        parts: shards in their order.
        length: of a feature vector, None where there is none.
        named: numbers of images whose names are wanted back.
        columns: what else is known of each image, see :func:`convlens.recording.source.columns_of`.

    Returns:
        Their names.
    """
    names: dict[int, str] = {}
    schema = _images_schema(length, columns or {})

    def fill(temporary: Path) -> None:
        with images_writer(temporary, schema) as writer:
            for part in parts:
                names.update({row["number"]: row["name"] for row in part.rows if row["number"] in named})
                writer.write_table(_images(part, schema, length))

    put_by(path, fill)
    return names


def images_writer(path: Path, schema: Any) -> Any:
    """Writes the table of images; a dictionary for columns that hardly repeat would only add to them."""
    repeating = [name for name in schema.names if name not in _UNLIKE]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeating)


def write_channels(path: Path, layers: Sequence[Followed], tallies: Sequence[Tally]) -> None:
    """The table of channels."""
    tables = []
    for layer, tally in zip(layers, tallies, strict=True):
        count = layer.channels
        columns: dict[str, Any] = {
            "layer": pa.array([layer.alias] * count, pa.string()),
            "channel": pa.array(np.arange(count, dtype=np.int32)),
            "images": pa.array(np.repeat(tally.images, count)),
            "values": pa.array(tally.values),
            "mean": pa.array(tally.mean),
            "variance": pa.array(tally.variance),
            "spread": pa.array(tally.spread),
            "maximum": pa.array(tally.most),
            "zeros": pa.array(tally.zeros),
            "unsound": pa.array(tally.unsound),
            **{name: pa.array(tally.quantile(share)) for name, share in QUANTILES.items()},
            "histogram": pa.FixedSizeListArray.from_arrays(pa.array(tally.histogram.reshape(-1)), BINS),
        }
        tables.append(pa.table(columns))
    _write(path, pa.concat_tables(tables))


def read_channels(path: Path, layers: Sequence[Followed]) -> list[Tally]:
    """The tallies that :func:`write_channels` wrote."""
    table = pq.read_table(path)
    found, first = [], 0
    for layer in layers:
        rows = table.slice(first, layer.channels)
        first += layer.channels
        column = {name: rows[name].combine_chunks() for name in rows.column_names}
        flat = column["histogram"].flatten().to_numpy(zero_copy_only=False)
        number = {
            name: column[name].to_numpy(zero_copy_only=False).copy()
            for name in ("values", "mean", "spread", "zeros", "unsound", "maximum")
        }
        images = column["images"].to_numpy(zero_copy_only=False)[:1].copy()
        found.append(
            Tally(
                images,
                number["values"],
                number["mean"],
                number["spread"],
                number["zeros"],
                number["maximum"],
                number["unsound"],
                flat.reshape(layer.channels, BINS).copy(),
            )
        )
    return found


def write_strongest(
    path: Path, layers: Sequence[Followed], strongest: Sequence[Strongest], names: dict[int, str]
) -> None:
    """The table of the strongest places; channels with fewer images have fewer rows."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("layer", "channel", "rank", "value", "image", "name", "position", "place")
    }
    for layer, found in zip(layers, strongest, strict=True):
        channel, rank = np.nonzero(found.image >= 0)
        image, place = found.image[channel, rank], found.place[channel, rank]
        axes = unpacked(place, layer.places)
        columns["layer"] += [layer.alias] * len(channel)
        columns["channel"] += channel.tolist()
        columns["rank"] += rank.tolist()
        columns["value"] += found.value[channel, rank].tolist()
        columns["image"] += image.tolist()
        columns["name"] += [names[number] for number in image.tolist()]
        columns["position"] += np.stack(axes, axis=1).tolist() if axes else [[] for _ in channel]
        columns["place"] += place.tolist()
    types = {
        "layer": pa.string(),
        "channel": pa.int32(),
        "rank": pa.int32(),
        "value": pa.float64(),
        "image": pa.int64(),
        "name": pa.string(),
        "position": pa.list_(pa.int64()),
        "place": pa.int64(),
    }
    _write(path, pa.table({name: pa.array(columns[name], kind) for name, kind in types.items()}))


def read_strongest(path: Path, layers: Sequence[Followed], k: int) -> list[Strongest]:
    """The places that :func:`write_strongest` wrote."""
    table = pq.read_table(path, columns=["layer", "channel", "rank", "value", "image", "place"])
    column = {name: np.asarray(table[name]) for name in table.column_names}
    found = []
    for layer in layers:
        own = column["layer"] == layer.alias
        made = Strongest.nothing(layer.channels, k)
        at = (column["channel"][own], column["rank"][own])
        made.value[at], made.image[at] = column["value"][own], column["image"][own]
        made.place[at] = column["place"][own]
        found.append(made)
    return found


def write_classes(path: Path, layers: Sequence[Followed], groups: Groups) -> None:
    """The table of classes, a row group a layer."""
    chosen = groups.chosen()
    count = len(chosen)

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, _CLASSES, compression="zstd") as writer:
            first = 0
            for layer in layers:
                own = slice(first, first := first + layer.channels)
                columns = {
                    "layer": pa.array([layer.alias] * count, pa.string()),
                    "label": pa.array([group.label for group, _ in chosen], pa.string()),
                    "predicted": pa.array([group.predicted for group, _ in chosen], pa.bool_()),
                    "images": pa.array([moments.images for _, moments in chosen], pa.int64()),
                    "mean": pa.array([moments.mean[own] for _, moments in chosen], _NUMBERS),
                    "spread": pa.array([moments.spread[own] for _, moments in chosen], _NUMBERS),
                }
                writer.write_table(pa.table(columns, schema=_CLASSES))

    put_by(path, fill)


def read_classes(path: Path, layer: Followed) -> ByClass:
    """One layer of the table that :func:`write_classes` wrote."""
    table = pq.read_table(path, filters=[("layer", "==", layer.alias)])
    shape = (len(table), layer.channels)
    images = np.asarray(table["images"], np.int64)
    mean, spread = (
        np.asarray(table[name].combine_chunks().flatten(), np.float64).reshape(shape)
        for name in ("mean", "spread")
    )
    predicted = any(table["predicted"].to_pylist())
    return ByClass(tuple(table["label"].to_pylist()), images, mean, spread / images[:, None], predicted)


def _write(path: Path, table: Any) -> None:
    put_by(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def _images_schema(length: int | None, values: Mapping[str, str]) -> Any:
    columns = [
        ("number", pa.int64()),
        ("name", pa.string()),
        ("label", pa.string()),
        ("reason", pa.string()),
        ("class", pa.int32()),
        ("probability", pa.float64()),
    ]
    if length is not None:
        columns.append(("feature", pa.list_(pa.float32(), length)))
    kinds = {"number": pa.float64(), "text": pa.string()}
    columns += [(f"{VALUE}{name}", kinds[kind]) for name, kind in values.items()]
    return pa.schema(columns)


def _images(part: Part, schema: Any, length: int | None) -> Any:
    columns: dict[str, Any] = {}
    for name in schema.names:
        if name != "feature":
            told = [row[name] if row[name] != "" else None for row in part.rows]
            columns[name] = pa.array(told, schema.field(name).type)
    if length is not None:
        good = [row["reason"] == "" for row in part.rows]
        vectors = np.zeros((len(part.rows), length), np.float32)
        vectors[good] = part.features.reshape(-1, length)
        mask = pa.array([not one for one in good])
        columns["feature"] = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.reshape(-1)), length, mask=mask
        )
    return pa.table(columns, schema=schema)
