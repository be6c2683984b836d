"""What a part of an input is hidden by, and how large the parts are: by what the input is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator

from convlens.errors import CardError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.source import Source
    from convlens.model import Model
    from convlens.registry import Images

_GREY = 127.5
_WHOLE = frozenset({"board", "tokens", "vector"})  # hidden one by one
_FILLS = {"photo": "grey", "image": "mean", "spectrogram": "mean", "video": "mean", "volume": "mean"}
_POSITIONS = 7  # patches that fit side by side along an axis by default


def _lengths(value: Any) -> Any:
    """A length, or one an axis; text as the command line gives it."""
    parts = value.replace("x", ",").split(",") if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int) and not isinstance(parts, bool) else parts
    if parts is None:
        return None
    if not isinstance(parts, (list, tuple)):
        raise ValueError("expected a whole number, or one an axis like 4,8")
    try:
        numbers = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError("expected a whole number, or one an axis like 4,8") from None
    if not numbers or any(number < 1 for number in numbers):
        raise ValueError("expected 1 or more")
    return numbers[0] if len(numbers) == 1 else numbers


def _fill(value: Any) -> Any:
    if value == "inpaint":
        raise ValueError(
            "it fills one patch from what is around it, and here much is hidden at once; expected grey, "
            "mean, blur or a number"
        )
    if value is None or value in ("grey", "mean", "blur"):
        return value
    try:
        float(value)
    except (TypeError, ValueError):
        raise ValueError("expected grey, mean, blur or a number") from None
    return str(value)


def _patch_fill(value: Any) -> Any:
    if value == "inpaint":
        return value
    try:
        return _fill(value)
    except ValueError:
        raise ValueError("expected grey, mean, blur, inpaint or a number") from None


Lengths: TypeAlias = Annotated[int | tuple[int, ...] | None, BeforeValidator(_lengths)]
"""A length, or one an axis."""

Fill: TypeAlias = Annotated[str | None, BeforeValidator(_fill)]
"""``grey``, ``mean``, ``blur`` or a number."""

PatchFill: TypeAlias = Annotated[str | None, BeforeValidator(_patch_fill)]
"""The same, or ``inpaint``, where one patch is hidden at a time."""

Exact: TypeAlias = Literal["auto", "incremental", "dense"]
"""How inputs are computed of which a part is changed."""

EXACT = (
    "how each position is computed, exactly in any case: only what the patch can reach (incremental), the "
    "whole input (dense), or whichever is faster"
)
"""What the parameter ``exact`` means."""


def steps(
    patch_given: Any, stride_given: Any, source: Source, extent: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Patch and stride, one number an axis.

    Raises:
        ParameterError: as many numbers as there are not axes, or a patch larger than the input.
    """
    from convlens.runtime.patches import each

    count, names = len(extent), ", ".join(source.axis_names)
    for name, value in (("patch", patch_given), ("stride", stride_given)):
        if isinstance(value, tuple) and len(value) != count:
            raise ParameterError(f"{name} has {len(value)} numbers; expected 1 or {count} ({names})")
    alike = source.kind in ("photo", "image")
    if patch_given is not None:
        patch = each(patch_given, count)
    elif source.kind in _WHOLE:
        patch = (1,) * count
    else:
        share = 4 if count == 3 else 2 * _POSITIONS if count == 1 else _POSITIONS
        patch = tuple(max(1, (min(extent) if alike else size) // share) for size in extent)
    if any(side > size for side, size in zip(patch, extent, strict=True)):
        most = f"{min(extent)}, the input's shorter side" if alike else f"{sizes_text(extent)} ({names})"
        raise ParameterError(f"patch is {sizes_text(patch)}; expected at most {most}")
    if stride_given is not None:
        return patch, each(stride_given, count)
    return patch, patch if count == 3 else tuple(max(1, side // 2) for side in patch)


def default_fill(model: Model) -> str:
    """What an input is hidden by where nobody says it."""
    if model.source.kind == "tokens":
        return str(model.card.input.pad or 0)
    return _FILLS.get(model.source.kind, "0")


def sizes_text(numbers: Sequence[int]) -> str:
    """One number where all axes agree."""
    return str(numbers[0]) if len(set(numbers)) == 1 else " x ".join(map(str, numbers))


def plain_sizes(numbers: Sequence[int]) -> Any:
    """One number where all axes agree, else a list."""
    return numbers[0] if len(set(numbers)) == 1 else list(numbers)


def filling(model: Model, images: Images, fill: str, patch: Sequence[int]) -> NDArray[Any]:
    """What patches are filled with, in the shape of the batch and in the model's own numbers.

    Raises:
        CardError: a pixel value is asked for and no card says what pixels become.
        ParameterError: a fill that such an input cannot have.
    """
    import numpy as np

    from convlens.runtime.patches import as_input, blur

    array, source = images.array, model.source
    axes = source.axes
    if source.kind == "photo" and fill not in ("mean", "blur"):
        try:
            prepare = model.preprocess
        except CardError as error:
            if images.views is not None:
                raise
            raise CardError(
                f"no card says what {'grey' if fill == 'grey' else 'a pixel'} is in the model's own numbers, "
                "and arrays were given; where they are no photos, say what they hold (--kind spectrogram, "
                "--kind image), else give --mean and --std or --range; --fill mean needs none of these"
            ) from error
        channels = 1 if prepare.channels == "GRAY" else 3
        value = _GREY if fill == "grey" else float(fill)
        pixel = prepare.array(np.full((1, 1, 1, channels), value))
        return np.broadcast_to(pixel.astype(array.dtype), array.shape)
    if fill == "grey" or (fill in ("mean", "blur") and source.kind in ("tokens", "vector")):
        raise ParameterError(f"fill is {fill!r}, which a {source.kind} input has not; expected a number")
    if fill not in ("mean", "blur"):
        value = float(fill)
        if array.dtype.kind in "iu" and (
            not value.is_integer() or not np.iinfo(array.dtype).min <= value <= np.iinfo(array.dtype).max
        ):
            raise ParameterError(f"fill is {fill}; input {source.name!r} takes {array.dtype.name} numbers")
        return np.broadcast_to(np.asarray(value).astype(array.dtype), array.shape)
    if fill == "mean":
        mean = array.mean(axis=axes, keepdims=True, dtype=np.float64)
        return np.broadcast_to(as_input(mean, array.dtype), array.shape)
    blurred = array
    for axis, side in zip(axes, patch, strict=True):
        blurred = blur(blurred, [axis], side / 2)
    return as_input(blurred, array.dtype)
