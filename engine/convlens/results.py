"""Results: arrays with units, and how they were made.

numpy is imported where it is used: every method imports this module, and listing them is part of
``convlens --help``.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.errors import ConvLensError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.pictures.picture import Picture

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Result:
    """What a method found, for one batch of images or for the model itself.

    Attributes:
        method: name of the method.
        kind: what it looks like, which decides how it is drawn: ``ranking``, ``map``, ``sprites``,
            ``kernels``, ``crops``, ``curves``, ``panels``.
        main: name of the main array.
        arrays: every array by name; the first axis is the image where ``per_image`` is true.
        units: what the numbers of each array are.
        images: names of the images, in order; empty for a Result about the model alone.
        views: what the model saw, N x height x width x channels, 8 bits; None for bare arrays.
        rows: the findings as a table for people and for ``--json``.
        how: how it was made: model hash, versions, seed, parameters, target, device, certificate.
        hints: what drawing needs to know beside the arrays; ``each`` is a list with one entry an image,
            ``photos`` one of plain picture files: ``name``, ``array`` and, for one of several, ``index`` (a
            number, or one an axis).
        shared: names of arrays that are the same for every image and have no image axis.
        attached: further files by name, which :meth:`save` writes beside the others and :meth:`load` leaves.
    """

    method: str
    kind: str
    main: str
    arrays: Mapping[str, NDArray[Any]]
    units: Mapping[str, str]
    images: tuple[str, ...] = ()
    views: NDArray[np.uint8] | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    how: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    attached: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def array(self) -> NDArray[Any]:
        """The main array."""
        return self.arrays[self.main]

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """The Result drawn, in the order in which it should be looked at."""
        from convlens.pictures import draw

        return tuple(draw(self))

    def record(self) -> dict[str, Any]:
        """Everything but the arrays as plain data."""
        return {
            "method": self.method,
            "kind": self.kind,
            "main": self.main,
            "arrays": {
                name: {
                    "shape": list(array.shape),
                    "dtype": array.dtype.name,
                    "unit": self.units.get(name, ""),
                }
                for name, array in self.arrays.items()
            },
            "images": list(self.images),
            "rows": [plain(row) for row in self.rows],
            "how": plain(self.how),
            "hints": plain(self.hints),
            "shared": list(self.shared),
        }

    def save(self, folder: str | Path, stem: str | None = None, pictures: bool = True) -> list[Path]:
        """Write ``STEM.npz``, ``STEM.json`` and one PNG a picture into ``folder``; returns the paths.

        Files appear whole or not at all. The JSON comes last, so where it is, the rest is too.
        """
        import numpy as np

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.method
        record = folder / f"{stem}.json"
        record.unlink(missing_ok=True)
        written = []
        arrays: dict[str, Any] = dict(self.arrays)
        if self.views is not None:
            arrays["_views"] = self.views
        path = folder / f"{stem}.npz"
        write(path, lambda handle: np.savez_compressed(handle, allow_pickle=False, **arrays))
        written.append(path)
        if pictures:
            written += self.save_pictures(folder, stem)
            written += self.save_photos(folder)
        for name, content in self.attached.items():
            write(folder / name, partial(_put, content))
            written.append(folder / name)
        text = json.dumps(self.record(), indent=1, ensure_ascii=False)
        write(record, lambda handle: handle.write(text.encode()))
        return [*written, record]

    def save_pictures(self, folder: Path, stem: str) -> list[Path]:
        """Write one ``STEM-NAME.png`` a picture, with caption and legend, into ``folder``."""
        written = []
        for picture in self.pictures:
            path = folder / f"{stem}-{picture.name}.png"
            write(path, partial(picture.composed().save, format="PNG"))
            written.append(path)
        return written

    def save_photos(self, folder: Path) -> list[Path]:
        """Write what the hint ``photos`` names as ``NAME.png``, pixel by pixel and with nothing around it.

        An array is colours x height x width from 0 to 1, or height x width x colours in 8 bits.
        """
        from convlens.pictures.layout import as_photo, photo, placed

        written = []
        for entry in self.hints.get("photos", ()):
            array = self.arrays[entry["array"]]
            array = array[placed(entry["index"])] if entry.get("index") is not None else array
            image = photo(array) if array.dtype == "uint8" else as_photo(array)
            path = folder / f"{entry['name']}.png"
            write(path, partial(image.save, format="PNG"))
            written.append(path)
        return written

    @classmethod
    def load(cls, folder: str | Path, stem: str) -> Result:
        """Read back what :meth:`save` wrote.

        Raises:
            ConvLensError: a file is missing or damaged.
        """
        import numpy as np

        folder = Path(folder)
        try:
            record = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
            raw = BytesIO((folder / f"{stem}.npz").read_bytes())
            with np.load(raw, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return cls(
                method=record["method"],
                kind=record["kind"],
                main=record["main"],
                views=arrays.pop("_views", None),
                arrays=arrays,
                units={name: entry["unit"] for name, entry in record["arrays"].items()},
                images=tuple(record["images"]),
                rows=tuple(record["rows"]),
                how=record["how"],
                hints=record["hints"],
                shared=tuple(record["shared"]),
            )
        except _DAMAGED as error:
            raise ConvLensError(f"{folder / stem}: no complete Result to load ({error})") from error


def merge(parts: Sequence[Result]) -> Result:
    """Results of one method on several groups of images, as if they had been one batch."""
    import numpy as np

    first = parts[0]
    if len(parts) == 1 or not first.images:
        return first
    arrays = {
        name: array if name in first.shared else np.concatenate([part.arrays[name] for part in parts])
        for name, array in first.arrays.items()
    }
    views = None
    if first.views is not None:
        views = np.concatenate([part.views for part in parts if part.views is not None])
    hints = dict(first.hints)
    if "each" in hints:
        hints["each"] = [entry for part in parts for entry in part.hints["each"]]
    how = dict(first.how)
    if isinstance(how.get("target"), Mapping):
        lists = {
            key: [item for part in parts for item in part.how["target"][key]]
            for key, value in how["target"].items()
            if isinstance(value, list)
        }
        how["target"] = {**how["target"], **lists}
    if "warnings" in how:
        how["warnings"] = list(dict.fromkeys(text for part in parts for text in part.how["warnings"]))
    return replace(
        first,
        arrays=arrays,
        views=views,
        images=tuple(name for part in parts for name in part.images),
        rows=tuple(row for part in parts for row in part.rows),
        hints=hints,
        how=how,
    )


def as_read(value: Any) -> Any:
    """Data as JSON gives it back, to be held against what a file says."""
    return json.loads(json.dumps(plain(value)))


def read_json(path: Path) -> Any:
    """What a JSON file holds, None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(path: Path, fill: Callable[[Any], Any]) -> None:
    """Write a file through a temporary one beside it, so that it is there whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _put(content: bytes, handle: Any) -> None:
    handle.write(content)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy numbers become Python's, tuples become lists."""
    import numpy as np

    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
