"""Recordings of one model over several data sets as one recording.

What it holds is what recording the data sets one after the other gives: counts, histograms, extremes and
places to the last digit, means and spreads but for the rounding of their merging.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from convlens.errors import OutputError, UsageError
from convlens.recording import swap, tables
from convlens.recording.byclass import Group, Groups, Moments
from convlens.recording.joined import columns_joined, fingerprint_joined, text_joined
from convlens.recording.part import VALUE
from convlens.recording.plan import LIES, Plan, differing, job_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.source import columns_of
from convlens.recording.store import MANIFEST, Shards, put, put_by
from convlens.results import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.run import Run
    from convlens.recording.source import Source
    from convlens.recording.tallies import Strongest

_FEATURE = "feature"


def merge(
    recordings: Sequence[Recording], folder: Path, *, repeats: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """One recording of several; returns its manifest.

    Args:
        recordings: of one model, with the same card, layers and number of places; their images are numbered
            on in this order.
        folder: where the new recording goes.
        repeats: take a data set that comes twice twice.
        overwrite: write into a folder that is not empty.

    Raises:
        UsageError: they are of different models, cards or plans, or a data set comes twice.
        OutputError: the folder holds something else, or the disk is full.
    """
    if len(recordings) < 2:
        raise UsageError("one recording given; expected two or more to merge")
    if any(one.folder.resolve() == folder.resolve() for one in recordings):
        raise OutputError(
            f"{folder}: is one of the recordings that are merged; choose a new folder, or append to it with "
            "`convlens record MODEL IMAGES -o REC --append`"
        )
    _alike(recordings)
    _once(recordings, repeats)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; expected a folder for the recording")
    if folder.is_dir() and swap.holds(folder) and not overwrite:
        raise OutputError(f"{folder}: is not empty and was left as it is; choose another, or --overwrite")
    swap.dropped(folder)
    manifest = _write(recordings, folder)
    Shards(folder, {}).end()  # of an unfinished recording that was written over
    return manifest


def append(
    model: Model,
    source: Source,
    folder: Path,
    *,
    run: Run | None = None,
    resume: bool = False,
    overwrite: bool = False,
    repeats: bool = False,
    pieces: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> dict[str, Any]:
    """Record a further data set into a finished recording; returns the manifest.

    The data set is recorded on its own first, in a folder within the recording, shard by shard as always;
    then the recording becomes the new one at one stroke. Stopped at any moment, it is the old one or the
    new one.

    Args:
        model: the model that was recorded.
        source: the data set.
        folder: of the recording.
        run: who does the shards; this process without it.
        resume: go on with an unfinished appending of the same data set.
        overwrite: start an unfinished appending afresh.
        repeats: append a data set that the recording holds already.
        pieces: ``shard`` and ``batch_size``, where they are to be others than those of the recording.
        progress: called with the share that is done.

    Raises:
        UsageError: the recording is of another model, or holds this data set already.
        OutputError: another data set is half appended, or the disk is full.
        ImageError: not one item can be read; nothing was written.
    """
    held = Recording.open(folder).of(model)
    if not repeats and source.fingerprint() in {part["fingerprint"] for part in _parts(held)}:
        if resume:
            return dict(held.manifest)
        raise UsageError(
            f"{folder}: holds {source.text} already; append other images, or say --allow-repeats"
        )
    columns_joined([held.manifest["source"].get("columns", {}), columns_of(source)])
    plan = replace(_plan(held), **dict(pieces or {}))
    below = folder / swap.APPENDED
    recorded = read_json(below / MANIFEST)
    if overwrite or recorded is None or differing(recorded, job_of(model, plan, source)):
        record(model, source, below, plan, run=run, resume=resume, overwrite=overwrite, progress=progress)
    elif not resume:
        raise OutputError(
            f"{folder}: {source.text} is recorded and not yet merged; --resume ends it, --overwrite starts "
            "afresh"
        )
    return _write([held, Recording.open(below)], folder)


def _plan(recording: Recording) -> Plan:
    """What was recorded, in which pieces."""
    told = recording.manifest["plan"]
    return Plan(recording.layers, recording.feature, told["k"], told["shard"], told["batch_size"])


def _alike(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that do not add up."""
    first, *others = recordings
    for one in others:
        for what in ("model", "card", "feeds", "layers", "feature", "k"):
            if _told(first, what) != _told(one, what):
                raise UsageError(
                    f"{first.folder} and {one.folder} differ in {_WORDS[what]}, so they do not add up; "
                    "record the data sets with the same model, card and options"
                )


_WORDS = {
    "model": "the model's hash",
    "card": "the card",
    "feeds": "what inputs were bound to",
    "layers": "the layers that were followed",
    "feature": "the layer of the feature vectors",
    "k": "the number of places (-k)",
}


def _told(recording: Recording, what: str) -> Any:
    """What has to be the same, as the manifest has it."""
    manifest = recording.manifest
    if what == "model":
        return manifest["model"]["sha256"]
    if what == "card":  # names of classes change no number
        card = manifest["card"]
        return card["input"], {key: value for key, value in card["output"].items() if key != "labels"}
    return manifest["feeds"] if what == "feeds" else manifest["plan"][what]


def _once(recordings: Sequence[Recording], repeats: bool) -> None:
    """Refuse a data set that comes twice, unless that was said."""
    known: dict[str, int] = {}
    for number, one in enumerate(recordings):
        for part in _parts(one):
            before = known.setdefault(part["fingerprint"], number)
            if not repeats and before != number:
                raise UsageError(
                    f"{recordings[before].folder} and {one.folder} both hold the data set {part['text']}, "
                    "whose images would count twice; --allow-repeats if they are to"
                )


def _parts(recording: Recording) -> list[dict[str, Any]]:
    """The data sets of a recording, each with what was found on it."""
    manifest = recording.manifest
    told = manifest["source"]
    if "parts" in told:
        return list(told["parts"])
    own = {name: manifest["plan"][name] for name in ("shard", "batch_size")}
    found = {name: manifest[name] for name in ("images", "unread", "versions")}
    return [{**told, **found, **own}]


def _lies(recording: Recording) -> list[list[str]]:
    """Where each of its data sets lies."""
    if "parts" not in recording.manifest["source"]:
        return [list(recording.given or recording.manifest[LIES]["images"])]
    parts: list[list[str]] = recording.manifest[LIES]["parts"]
    return [[text] for text in recording.given] if recording.given else parts


def _write(recordings: Sequence[Recording], folder: Path) -> dict[str, Any]:
    """The tables and the manifest of all together, in place of what the folder holds."""
    first = recordings[0]
    manifest = json.dumps(_manifest(recordings), indent=1, ensure_ascii=False)
    counts = [one.manifest["source"]["count"] for one in recordings]
    starts = [0, *accumulate(counts)][: len(counts)]
    tallies, strongest, groups = first.tallies, first.strongest, Groups.nothing()
    for number, (one, start) in enumerate(zip(recordings, starts, strict=True)):
        groups = groups.merged(_groups(one))
        if number:
            tallies = [a.merged(b) for a, b in zip(tallies, one.tallies, strict=True)]
            later = [_shifted(found, start) for found in one.strongest]
            strongest = [a.merged(b) for a, b in zip(strongest, later, strict=True)]
    wanted = np.unique(np.concatenate([found.image.reshape(-1) for found in strongest]))
    new = swap.making(folder)
    names = _images(new / tables.IMAGES, recordings, starts, wanted)
    tables.write_channels(new / tables.CHANNELS, first.layers, tallies)
    tables.write_strongest(new / tables.STRONGEST, first.layers, strongest, names)
    tables.write_classes(new / tables.CLASSES, first.layers, groups)
    put(new / MANIFEST, manifest.encode())
    swap.commit(folder)
    found: dict[str, Any] = json.loads(manifest)
    return found


def _manifest(recordings: Sequence[Recording]) -> dict[str, Any]:
    first = recordings[0].manifest
    parts = [part for one in recordings for part in _parts(one)]
    each = [lies for one in recordings for lies in _lies(one)]
    columns = columns_joined([part.get("columns", {}) for part in parts])
    source = {
        "text": text_joined([part["text"] for part in parts]),
        "count": sum(part["count"] for part in parts),
        "fingerprint": fingerprint_joined([part["fingerprint"] for part in parts]),
        **({"columns": columns} if columns else {}),
        "parts": parts,
    }
    flat = [text for one in each for text in one]
    return {
        **first,
        "source": source,
        LIES: {"model": first[LIES]["model"], "images": flat, "parts": each},
        "images": sum(part["images"] for part in parts),
        "unread": sum(part["unread"] for part in parts),
    }


def _shifted(found: Strongest, start: int) -> Strongest:
    """The same places in images that are numbered from ``start`` on."""
    return replace(found, image=np.where(found.image < 0, found.image, found.image + start))


def _groups(recording: Recording) -> Groups:
    """The table of classes as it was before it was cut by layers."""
    table = pq.read_table(recording.folder / tables.CLASSES)
    cuts = [table.filter(pc.equal(table["layer"], layer.alias)) for layer in recording.layers]
    columns = [
        [np.stack(cut[name].to_numpy()) if len(cut) else np.zeros((0, 0)) for cut in cuts]
        for name in ("mean", "spread")
    ]
    mean, spread = (np.concatenate(own, axis=1) for own in columns)
    rows = cuts[0].select(["predicted", "label", "images"]).to_pylist()
    return Groups(
        {
            Group(row["predicted"], row["label"]): Moments(row["images"], mean[i], spread[i])
            for i, row in enumerate(rows)
        }
    )


def _images(
    path: Path, recordings: Sequence[Recording], starts: Sequence[int], wanted: NDArray[np.int64]
) -> dict[int, str]:
    """The tables of images one after the other, row group by row group; returns the names that are wanted."""
    schemas = [pq.read_schema(one.folder / tables.IMAGES) for one in recordings]
    known = {field.name: field.type for schema in reversed(schemas) for field in schema}
    plain = [name for name in schemas[0].names if not name.startswith(VALUE) and name != _FEATURE]
    values = dict.fromkeys(name for schema in schemas for name in schema.names if name.startswith(VALUE))
    order = [*plain, *values, *([_FEATURE] if _FEATURE in known else [])]
    if _FEATURE in known:  # Parquet calls what a list holds otherwise
        known[_FEATURE] = pa.list_(pa.float32(), known[_FEATURE].list_size)
    schema = pa.schema([(name, known[name]) for name in order])
    names: dict[int, str] = {}

    def fill(temporary: Path) -> None:
        with tables.images_writer(temporary, schema) as writer:
            for recording, start in zip(recordings, starts, strict=True):
                with pq.ParquetFile(recording.folder / tables.IMAGES) as file:
                    for group in range(file.metadata.num_row_groups):
                        writer.write_table(
                            _numbered(file.read_row_group(group), start, wanted, names, schema)
                        )

    put_by(path, fill)
    return names


def _numbered(table: Any, start: int, wanted: NDArray[np.int64], names: dict[int, str], schema: Any) -> Any:
    """Rows with their numbers in the whole, and the values that other rows have as missing ones."""
    number = np.asarray(table["number"]) + start
    for row in np.flatnonzero(np.isin(number, wanted)).tolist():
        names[int(number[row])] = table["name"][row].as_py()
    columns = [
        pa.array(number)
        if field.name == "number"
        else table[field.name].combine_chunks()
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
