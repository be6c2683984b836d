"""A network that makes a picture of a photo, as a function from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ImageError, UnsupportedError
from convlens.graph import bind
from convlens.graph.layers import shape_text
from convlens.graph.source import KINDS
from convlens.preprocess import complete
from convlens.synthesis.fitting import full
from convlens.synthesis.painters.crops import coloured, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from convlens.model import Model

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # of which the sides are made where the network needs it
_OUTSIDE = 0.25  # share of the numbers beyond the range from which it is doubted
_NARROW = 0.02  # share of the range that a picture must span, else it is doubted


class Network:
    """A model as a function from photo to picture."""

    def __init__(self, model: Model, side: int | None, output_range: tuple[float, float] | None) -> None:
        bind.need_one([value.name for value in model.graph.inputs], model.source.name)
        if not model.source.image:
            raise UnsupportedError(
                f"input {model.source.name!r} ({shape_text(model.source.shape)}) takes "
                f"{KINDS[model.source.kind]}; expected a network that makes a picture of a photo"
            )
        self.model = model
        self.side = side
        self.said: list[str] = []
        self._fixed = any(length is not None for length in model.source.size)
        self._prepare = self._prepared((64, 64))
        own = (self._prepare.low, self._prepare.high)
        self._range = output_range
        self._given = own
        self._name: str | None = None
        self._multiple = _MULTIPLES[0]
        self._judged = False
        self._refuse_known()

    def picture(self, photo: Image.Image) -> Image.Image:
        """What the network makes of a photo.

        Raises:
            ImageError: it gives numbers that are not finite, or the photo does not fit in memory.
            UnsupportedError: it does not run, or gives no picture.
        """
        image = coloured(photo, 1 if self._prepare.channels == "GRAY" else 3)
        image = resized(image, self.side) if self.side is not None else image
        size = image.size
        if self._fixed:
            image = self._fitted(image)
        view = np.asarray(image, np.uint8)
        made, dtype = self._made(view if view.ndim == 3 else view[:, :, None])
        picture = self._pixels(made, dtype)
        if self._fixed:
            scale = made.shape[0] / image.height
            picture = _resampled(picture, (round(size[0] * scale), round(size[1] * scale)))
        return picture

    def _prepared(self, size: tuple[int, int]) -> Any:
        own = self.model.source.size
        exact = tuple(o or s for o, s in zip(own, size, strict=True))
        return complete(self.model.card.override({"size": exact}), self.model.source)

    def _refuse_known(self) -> None:
        """Refuse early a model whose file says that none of its outputs is a picture."""
        shapes = {name: self.model.graph.value(name).shape for name in self.model.graph.outputs}
        if all(shape is not None and not _may_be_picture(shape) for shape in shapes.values()):
            raise UnsupportedError(_no_picture({n: shape_text(s) for n, s in shapes.items()}))

    def _fitted(self, image: Image.Image) -> Image.Image:
        """The photo in the size that the network takes."""
        height, width = (o or s for o, s in zip(self.model.source.size, image.size[::-1], strict=True))
        text = (
            f"the network takes {width} x {height} pixels only; photos of other sizes are resampled to it, "
            "and the pictures back"
        )
        if image.size != (width, height) and text not in self.said:
            self.said.append(text)
        return _resampled(image, (width, height))

    def _made(self, view: NDArray[np.uint8]) -> tuple[NDArray[Any], str]:
        """What the network gives for a photo, height x width x colours, and the type of its numbers.

        The photo's edges are mirrored until its sides are multiples of what the network needs, which is
        found by trying; what was added is cut off again.
        """
        height, width = view.shape[:2]
        tried: list[tuple[int, int]] = []
        failed = ""
        for multiple in (1,) if self._fixed else _MULTIPLES[_MULTIPLES.index(self._multiple) :]:
            size = -(-height // multiple) * multiple, -(-width // multiple) * multiple
            if size in tried:
                continue
            tried.append(size)
            try:
                output = self._output(_grown(view, size))
            except _RefusedError as error:
                failed = failed or str(error)
                continue
            scale = _scale(output.shape[:2], size)
            if scale is None and not self._fixed:
                told = f"{output.shape[1]} x {output.shape[0]} for {size[1]} x {size[0]}"
                failed = failed or (
                    f"the network gives a picture of {told} pixels; expected the photo's size, or a whole "
                    "multiple or part of it"
                )
                continue
            self._multiple = multiple
            if scale is not None:
                output = output[: ceil(height * scale), : ceil(width * scale)]
            return output, output.dtype.name
        raise UnsupportedError(failed)

    def _output(self, view: NDArray[np.uint8]) -> NDArray[Any]:
        """The network's picture, height x width x colours in RGB order."""
        prepare = self._prepared(view.shape[:2])
        names = [self._name] if self._name else list(self.model.graph.outputs)
        try:
            found = self.model.runner.run({self.model.source.name: prepare.array(view[None])}, names)
        except UnsupportedError as error:
            if full(error):
                size = f"{view.shape[1]} x {view.shape[0]}"
                raise ImageError(
                    f"its {size} pixels do not fit in memory; choose a smaller --side"
                ) from error
            raise _RefusedError(str(error)) from error
        for name in names:
            array = np.asarray(found[name])
            axis = _colour_axis(array.shape, prepare.layout)
            if axis is not None:
                self._name = name
                picture = np.moveaxis(array[0], axis - 1, -1)
                return np.asarray(picture[..., ::-1] if prepare.channels == "BGR" else picture)
        raise UnsupportedError(_no_picture({name: shape_text(found[name].shape) for name in names}))

    def _pixels(self, made: NDArray[Any], dtype: str) -> Image.Image:
        """Numbers as 8-bit colours.

        Raises:
            ImageError: some are not finite.
        """
        from PIL import Image

        if not np.isfinite(made).all():
            raise ImageError("the network gives numbers that are not finite for it")
        low, high = self._range or ((0, 255) if dtype == "uint8" else self._given)
        if not self._judged:
            self._judged = True
            self._judge(made, low, high)
        shares = (made.astype(np.float32) - low) / (high - low)
        pixels = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))

    def _judge(self, made: NDArray[Any], low: float, high: float) -> None:
        """Say so where the range of pixels is not likely that of the network's numbers."""
        least, most = float(made.min()), float(made.max())
        slack = (high - low) * 0.01
        outside = float(np.mean((made < low - slack) | (made > high + slack)))
        if outside > _OUTSIDE or most - least < _NARROW * (high - low):
            self.said.append(
                f"the first picture's numbers run from {least:.4g} to {most:.4g}, and {low:g} is taken as "
                f"black and {high:g} as white; say --output-range where that is wrong"
            )


class _RefusedError(Exception):
    """onnxruntime did not run the network at a size."""


def _may_be_picture(shape: Sequence[Any]) -> bool:
    return len(shape) == 4 and any(
        not isinstance(shape[axis], int) or shape[axis] in (1, 3) for axis in (1, 3)
    )


def _colour_axis(shape: tuple[int, ...], layout: str) -> int | None:
    """The axis of an output that counts colours, None where it is no picture."""
    if len(shape) != 4 or shape[0] != 1:
        return None
    axes = (3, 1) if layout == "NHWC" else (1, 3)
    return next((axis for axis in axes if shape[axis] in (1, 3)), None)


def _no_picture(shapes: dict[str, str]) -> str:
    told = ", ".join(f"{name!r} ({shape})" for name, shape in shapes.items())
    return (
        f"the network gives no picture: {told}; expected an output of 1 x 3 x height x width, or 1 x height "
        "x width x 3"
    )


def _scale(found: Sequence[int], given: Sequence[int]) -> float | None:
    """How many times larger a picture is along both axes: a whole number or one over a whole number."""
    for one, other, turned in ((found, given, False), (given, found, True)):
        times = one[0] // other[0]
        if times >= 1 and tuple(length * times for length in other) == tuple(one):
            return 1 / times if turned else float(times)
    return None


def _grown(view: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A photo with its lower and right edges mirrored outwards up to a size."""
    missing = [(0, wanted - own) for wanted, own in zip(size, view.shape[:2], strict=True)]
    return view if not any(after for _, after in missing) else np.pad(view, [*missing, (0, 0)], "symmetric")


def _resampled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
