"""Inputs that are no photos, from disk: numpy arrays, recordings, token ids."""

from __future__ import annotations

import re
import wave
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import CardError, ImageError
from convlens.graph.layers import shape_text
from convlens.graph.source import KINDS, Source
from convlens.images import SUFFIXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = frozenset({".npy", ".npz"})
SOUNDS = frozenset({".wav"})
TEXTS = frozenset({".txt"})
RAW = ARRAYS | SOUNDS | TEXTS
"""What is read here and not as a picture."""

_SAMPLES: dict[int, np.dtype[Any]] = {
    2: np.dtype("<i2"),
    4: np.dtype("<i4"),
}  # by the bytes that a WAV file gives a sample


def taken(source: Source) -> tuple[frozenset[str], ...]:
    """What may lie in a folder for this input: the files looked for first, then the others."""
    first = {"photo": SUFFIXES, "signal": SOUNDS, "tokens": TEXTS}.get(source.kind)
    return (first, ARRAYS) if first is not None else (ARRAYS,)


def read_arrays(path: Path, source: Source, rate: float | None, pad: int) -> list[tuple[str, NDArray[Any]]]:
    """What a file holds, each with a name and without the batch axis, as the model takes it.

    Raises:
        ImageError: it cannot be read, or does not fit the model; the message names the file.
        CardError: a recording is given and nothing says at which rate the model takes it.
    """
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return [
            (name, one)
            for name, array in _numpy(path)
            for name, one in _each(name, _typed(array, source, path), source, path)
        ]
    if suffix in SOUNDS:
        return [(path.name, _sound(path, source, rate))]
    return [(path.name, _tokens(path, source, pad))]


def _numpy(path: Path) -> list[tuple[str, NDArray[Any]]]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return [(path.name, loaded)]
            found = [(f"{path.stem}-{key}{path.suffix}", loaded[key]) for key in loaded.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ImageError(f"{path}: not a numpy array that can be read ({_short(error)})") from error
    if not found:
        raise ImageError(f"{path}: holds no array")
    return [(path.name, found[0][1])] if len(found) == 1 else found


def _typed(array: NDArray[Any], source: Source, path: Path) -> NDArray[Any]:
    """In the type that the model takes, as far as that loses nothing."""
    real = source.dtype is None or "float" in source.dtype
    if array.dtype.kind not in ("f", "i", "u", "b"):
        raise ImageError(f"{path}: holds {array.dtype}; expected numbers")
    if not finite(array):
        raise ImageError(f"{path}: holds NaN or infinity; expected finite numbers")
    if real:
        return array if array.dtype.kind == "f" else array.astype(np.float32)
    assert source.dtype is not None
    wanted = np.dtype(source.dtype)
    whole = array.astype(wanted)
    if not np.array_equal(whole.astype(np.float64), array.astype(np.float64)):
        raise ImageError(f"{path}: holds numbers that do not fit {wanted}, which input {source.name!r} takes")
    return whole


def finite(array: NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _each(name: str, array: NDArray[Any], source: Source, path: Path) -> list[tuple[str, NDArray[Any]]]:
    """One input, or several along the first axis."""
    shape = source.shape or ()
    if array.ndim == len(shape) - 1 and _fits(array.shape, shape[1:]):
        return [(name, array)]
    if array.ndim == len(shape) and len(array) and _fits(array.shape[1:], shape[1:]):
        stem, end = Path(name).stem, Path(name).suffix
        return [(name if len(array) == 1 else f"{stem}-{i}{end}", one) for i, one in enumerate(array)]
    without, whole = (shape_text(part) for part in (shape[1:], shape))
    raise ImageError(
        f"{path}: the array is {shape_text(array.shape)}; input {source.name!r} takes {without}, or {whole} "
        "for several"
    )


def _fits(found: Sequence[int], wanted: Sequence[Any]) -> bool:
    return all(not isinstance(dim, int) or dim == own for own, dim in zip(found, wanted, strict=True))


def _sound(path: Path, source: Source, rate: float | None) -> NDArray[Any]:
    """A recording, -1 to 1, its channels averaged where the model takes one."""
    if source.kind != "signal":
        raise ImageError(f"{path}: a recording, and input {source.name!r} takes {KINDS[source.kind]}")
    try:
        with wave.open(str(path), "rb") as file:
            width, count, own = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        why = _short(error) or "the file ends too early"
        raise ImageError(f"{path}: not a WAV file with whole-number samples ({why})") from error
    if rate is None:
        raise CardError(
            "at which rate the model takes sound is not known; add rate = 16000 (its own number) under "
            f"[input] in card.toml, or give --rate; {path.name} has {own}"
        )
    if own != rate:
        raise ImageError(
            f"{path}: {own} samples per second; the model takes {rate:g}; resample the file first"
        )
    if width == 3:
        low = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int32)
        wide = (low[:, 0] << 8) | (low[:, 1] << 16) | (low[:, 2] << 24)
        numbers = wide / float(1 << 31)
    elif width == 1:
        numbers = (np.frombuffer(raw, np.uint8).astype(np.float64) - 128.0) / 128.0
    else:
        numbers = np.frombuffer(raw, _SAMPLES[width]).astype(np.float64) / float(1 << (8 * width - 1))
    sound = numbers.reshape(-1, count)
    if not len(sound):
        raise ImageError(f"{path}: holds no samples")
    channels = source.channels if source.channel >= 0 else 1
    if channels in (1, None):
        sound = sound.mean(axis=1, keepdims=True)
    elif channels != count:
        raise ImageError(f"{path}: {count} channels; input {source.name!r} takes {channels}")
    (length,) = source.size
    if length is not None:
        sound = _fitted(sound, length, np.zeros((1, sound.shape[1])))
    return _arranged(sound, source)


def _arranged(sound: NDArray[Any], source: Source) -> NDArray[Any]:
    """Samples x channels with its axes as the model takes them, without the batch axis."""
    rank = len(source.shape or ())
    along, (place,) = source.channel, source.spatial
    dims = [1] * rank
    dims[place] = len(sound)
    if along >= 0:
        dims[along] = sound.shape[1]
    full = (sound.T if 0 <= along < place else sound).reshape(dims)
    return np.ascontiguousarray(full[0].astype(np.float32))


def _fitted(rows: NDArray[Any], length: int, filler: NDArray[Any]) -> NDArray[Any]:
    """The start of what is too long; what is too short is filled at its end."""
    if len(rows) >= length:
        return rows[:length]
    return np.concatenate([rows, filler.repeat(length - len(rows), axis=0)])


def _tokens(path: Path, source: Source, pad: int) -> NDArray[Any]:
    """Whole numbers between spaces."""
    if source.kind != "tokens":
        raise ImageError(f"{path}: a text, and input {source.name!r} takes {KINDS[source.kind]}")
    try:
        words = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path}: cannot be read ({_short(error)})") from error
    odd = [word for word in words if not re.fullmatch(r"-?\d{1,18}", word)]
    if odd or not words:
        found = repr(odd[0][:20]) if odd else "nothing"
        raise ImageError(f"{path}: found {found}; expected token ids, whole numbers between spaces")
    ids = np.array([int(word) for word in words], np.int64)
    (length,) = source.size
    if length is not None:
        ids = _fitted(ids, length, np.array([pad], np.int64))
    return _typed(ids, source, path)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
