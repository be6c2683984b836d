"""Inputs that a file takes, found by trying: sizes for its open dimensions, plausible numbers in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.trust.openaxes import Sizes, sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000
_RATES = ("sr", "rate")
_WIDE, _NARROW = 64, 2  # integers are drawn below these: token numbers, then flags


class NoInputError(Exception):
    """Nothing that was tried is taken; the text is onnxruntime's reason for the first try."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input as onnxruntime describes it; an open dimension is its symbol or None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    @property
    def is_open(self) -> bool:
        """Whether any dimension is open."""
        return any(not isinstance(dim, int) for dim in self.shape)


@dataclass(frozen=True, slots=True)
class Sides:
    """Lengths of open axes: of the spatial ones, the last of them last, and the number of channels."""

    lengths: tuple[int, ...] = (1,)
    channels: int = 3


@dataclass(frozen=True)
class Fed:
    """Arrays that the file runs on, and how they were chosen."""

    arrays: dict[str, NDArray[Any]]
    tried: str

    def words(self) -> str:
        """Every input with its shape; one number is said."""
        parts = []
        for name, array in self.arrays.items():
            value = f"={array.reshape(-1)[0]}" if array.size == 1 else f" {_shape(array.shape)} {array.dtype}"
            parts.append(f"{name}{value}")
        return ", ".join(parts) + (f" ({self.tried})" if self.tried else "")


def wanted(session: Any) -> list[Wanted]:
    """The inputs of an onnxruntime session.

    Raises:
        NoInputError: one is no tensor of numbers.
    """
    found = []
    for value in session.get_inputs():
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        dtype = _dtype(kind) if value.type.startswith("tensor(") else None
        if dtype is None:
            raise NoInputError(f"input {value.name!r} is {value.type}; only tensors of numbers are fed")
        found.append(Wanted(value.name, dtype, tuple(value.shape)))
    return found


def find_feeds(
    session: Any,
    inputs: list[Wanted],
    size: tuple[int, ...] | None,
    seed: int,
    given: Mapping[str, NDArray[Any]],
) -> Fed:
    """Arrays on which ``session`` runs.

    Args:
        session: onnxruntime's, of the file as it is.
        inputs: what it takes.
        size: of the spatial axes where a card says so, tried first.
        seed: of the numbers.
        given: inputs that a card or the user gives; a number fills the shape that the file declares.

    Raises:
        NoInputError: none of the sizes is taken.
    """
    first, empty = "", None
    for batch, sides, said in _tries(inputs, size):
        for limit in (_WIDE, _NARROW):
            arrays = random_arrays(inputs, batch, sides, seed, limit)
            for name in arrays.keys() & given.keys():
                array = np.asarray(given[name], arrays[name].dtype)
                arrays[name] = array if array.ndim else np.full(arrays[name].shape, array)
            try:
                outputs = session.run(None, arrays)
            except Exception as error:  # onnxruntime raises its own kinds, all unrelated
                first = first or " ".join(str(error).split())[:300]
                if not any(value.dtype.kind in "iu" for value in inputs):
                    break
                continue
            if all(np.size(output) == 0 for output in outputs):  # too small to leave anything, most likely
                empty = empty or Fed(arrays, said)
                break
            return Fed(arrays, said)
    if empty is not None:
        return empty
    raise NoInputError(first or "it takes no input")


def random_arrays(
    inputs: list[Wanted], batch: int, sides: Sides, seed: int, limit: int
) -> dict[str, NDArray[Any]]:
    """Seeded arrays: normal numbers for real inputs, integers below ``limit``.

    Args:
        inputs: what to fill.
        batch: for an open first axis.
        sides: lengths of the other open axes.
        seed: of the numbers.
        limit: of the integers; bytes go up to 255.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    counted = {value.shape[0] for value in inputs if value.shape and isinstance(value.shape[0], str)}
    if _alone(inputs):
        counted = set()
    for value in inputs:
        last = len(value.shape) - (isinstance(value.shape[-1], int) if value.shape else 0)
        dims = []
        for axis, dim in enumerate(value.shape):
            place = axis - (last - len(sides.lengths))  # spatial axes end at the last open one
            if isinstance(dim, int):
                dims.append(dim)
            elif (axis == 0 and not _alone(inputs)) or dim in counted or _state(value, inputs):
                dims.append(batch)
            elif axis == 1 and _open_channel(value):
                dims.append(sides.channels)
            else:
                dims.append(sides.lengths[max(0, min(place, len(sides.lengths) - 1))])
        arrays[value.name] = _numbers(value, dims, rng, limit, sides.lengths[-1])
    return arrays


def _numbers(
    value: Wanted, dims: list[int], rng: np.random.Generator, limit: int, running: int
) -> NDArray[Any]:
    name = value.name.lower()
    if value.dtype.kind == "b":
        truths = np.asarray(rng.random(dims) < 0.5)
        truths[..., :1] = True  # a mask that lets nothing through leaves no numbers
        return truths
    if value.dtype.kind in "iu":
        if not dims and (name in _RATES or name.endswith(_RATES)):
            return np.asarray(RATE, value.dtype)
        if "len" in name and np.prod(dims, dtype=int) <= 4:
            return np.full(dims, running, value.dtype)
        most = 256 if value.dtype.itemsize == 1 and value.dtype.kind == "u" else min(limit, 128)
        return rng.integers(0, most, dims).astype(value.dtype)
    return np.asarray(rng.standard_normal(dims)).astype(value.dtype)


def _tries(inputs: list[Wanted], size: tuple[int, ...] | None) -> Iterator[tuple[int, Sides, str]]:
    """Batch, sizes of open axes, and how that is said."""
    alone = _alone(inputs)
    free = any(value.shape and not isinstance(value.shape[0], int) for value in inputs) and not alone
    inner = alone or any(not isinstance(dim, int) for value in inputs for dim in value.shape[1:])
    rank = max((len(value.shape) for value in inputs if value.is_open), default=0)
    batches = ((2, 1, 3, 4) if len(inputs) == 1 else (1, 2)) if free else (1,)
    if not inner:
        for batch in batches:
            yield batch, Sides(), f"batch {batch} tried" if free else ""
        return
    lengths = _lengths([value for value in inputs if value.is_open], rank)
    channels = (3, 1) if any(_open_channel(value) for value in inputs) else (3,)
    for tried in dict.fromkeys([*([size] if size else []), *lengths]):
        said = "size as the card says" if tried == size else f"size {_shape(tried)} tried"
        for batch in batches[:2]:
            for count in channels:
                yield batch, Sides(tried, count), said


def _alone(inputs: list[Wanted]) -> bool:
    """Whether one row of numbers goes in, without an axis that counts images, as many as one likes."""
    return len(inputs) == 1 and len(inputs[0].shape) == 1 and inputs[0].is_open


def _lengths(inputs: list[Wanted], rank: int) -> Sizes:
    """Lengths of the open axes in the order in which they are tried."""
    most = max(inputs, key=lambda value: len(value.shape))
    count = most.shape[1] if rank >= 3 else 1
    channels = count if isinstance(count, int) else None
    whole = all(value.dtype.kind in "iu" for value in inputs)
    return sizes(max(1, rank - 2), channels=channels, whole=whole)


def _state(value: Wanted, inputs: list[Wanted]) -> bool:
    """Whether this is the state of a recurrent net, whose batch is the axis in the middle."""
    kinds = [isinstance(dim, int) for dim in value.shape]
    if len(inputs) == 1 or kinds != [True, False, True]:
        return False
    # a length that it shares with another input's inner axis counts no images
    inner = {
        dim for other in inputs if other is not value and len(other.shape) != 3 for dim in other.shape[1:]
    }
    return not isinstance(value.shape[1], str) or value.shape[1] not in inner


def _open_channel(value: Wanted) -> bool:
    ends_open = len(value.shape) in (4, 5) and not isinstance(value.shape[-1], int)
    return ends_open and not isinstance(value.shape[1], int)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _dtype(kind: str) -> np.dtype[Any] | None:
    names = {"float": "float32", "double": "float64"}
    if kind == "bfloat16":
        return None  # numpy has no such type; onnxruntime takes none from Python
    try:
        return np.dtype(names.get(kind, kind))
    except TypeError:
        return None
