"""From a photo to the array that a model takes, exactly as its card says, and back to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convlens.cards import Card
from convlens.errors import CardError, ImageError
from convlens.graph.layers import shape_text
from convlens.graph.source import KINDS, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class Preprocess:
    """A card made complete for one model: nothing is left to choose."""

    layout: str
    channels: str
    size: tuple[int, int]
    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    crop: float
    interpolation: str
    dtype: str
    told: str = ""

    def view(self, image: Image.Image) -> NDArray[np.uint8]:
        """What the model gets to see of ``image``: height x width x 3 (or 1), RGB, 8 bits."""
        import numpy as np
        from PIL import Image

        height, width = self.size
        image = image.convert("L" if self.channels == "GRAY" else "RGB")
        how = getattr(Image.Resampling, self.interpolation.upper())
        fit, (left, top) = self._fitted(image.size)
        image = image.resize(fit, how)
        if self.resize == "pad":
            canvas = Image.new(image.mode, (width, height))
            canvas.paste(image, (left, top))
            image = canvas
        elif self.resize == "crop":
            image = image.crop((-left, -top, width - left, height - top))
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def _fitted(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """To which width and height a photo of ``size`` is brought, and where its corner lies in the view."""
        height, width = self.size
        across, down = width / size[0], height / size[1]
        if self.resize == "stretch":
            return (width, height), (0, 0)
        if self.resize == "pad":
            scale = min(across, down)
            fit = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
            return fit, ((width - fit[0]) // 2, (height - fit[1]) // 2)
        scale = max(across, down) / self.crop
        fit = max(width, round(size[0] * scale)), max(height, round(size[1] * scale))
        return fit, (-round((fit[0] - width) / 2), -round((fit[1] - height) / 2))

    def placed(self, box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
        """A box of a photo in the view: left, top, right, bottom in pixels of the view.

        Args:
            box: left, top, right, bottom in pixels of the photo.
            size: width and height of the photo.
        """
        fit, (left, top) = self._fitted(size)
        across, down = fit[0] / size[0], fit[1] / size[1]
        return (
            box[0] * across + left,
            box[1] * down + top,
            box[2] * across + left,
            box[3] * down + top,
        )

    def array(self, views: NDArray[Any]) -> NDArray[Any]:
        """Views (N x height x width x channels, 0 to 255) as the model takes them."""
        import numpy as np

        ordered = views[..., ::-1] if self.channels == "BGR" else views
        x = self.low + np.asarray(ordered, dtype=np.float64) * ((self.high - self.low) / 255.0)
        x = (x - np.asarray(self.mean)) / np.asarray(self.std)
        if self.layout == "NCHW":
            x = np.moveaxis(x, -1, 1)
        elif self.layout == "NHW":
            x = x[..., 0]
        if self.dtype == "uint8":
            return np.ascontiguousarray(np.clip(np.rint(x), 0, 255).astype(np.uint8))
        return np.ascontiguousarray(x.astype(np.float16 if self.dtype == "float16" else np.float32))

    def words(self) -> str:
        """The whole path in one sentence for the report."""
        height, width = self.size
        fit = {
            "crop": f"the shorter side is brought to {min(height, width) / self.crop:.0f} pixels and "
            f"the centre {width} x {height} is taken",
            "stretch": f"the photo is stretched to {width} x {height}",
            "pad": f"the photo is fitted into {width} x {height} with black borders",
        }[self.resize]
        colours = {"RGB": "red, green, blue", "BGR": "blue, green, red", "GRAY": "grey"}[self.channels]
        return (
            f"{fit[0].upper()}{fit[1:]} ({self.interpolation}); colours go in as {colours}; pixels "
            f"0 to 255 become {self.low:g} to {self.high:g}, less {_numbers(self.mean)}, divided by "
            f"{_numbers(self.std)}; axes in the order {self.layout}"
            f"{f' ({self.told})' if self.told else ''}."
        )


def complete(card: Card, source: Source) -> Preprocess:
    """The card, made complete by what the model's input says of itself.

    Raises:
        CardError: normalisation or size is missing, or contradicts the model; the message says
            which line to add.
        ImageError: the model takes no photo.
    """
    given = card.input
    if not source.image:
        files = {"signal": ".wav or .npy", "tokens": ".txt or .npy"}.get(source.kind, ".npy or .npz")
        raise ImageError(
            f"input {source.name!r} ({shape_text(source.shape)}) takes no photo but {KINDS[source.kind]}; "
            f"give {files} files (in Python, arrays)"
        )
    ready = source.dtype == "uint8"
    if not ready and given.range is None and (given.mean is None or given.std is None):
        missing = [name for name in ("mean", "std") if getattr(given, name) is None]
        raise CardError(
            f"how pixels go in is not known: no card says {' and '.join(missing)}; add to card.toml "
            "beside the model, under [input]: mean = [0.485, 0.456, 0.406] and std = [0.229, 0.224, "
            "0.225] (the numbers it was trained with), or give --mean and --std, or --range 0,1 where "
            "there are none"
        )
    count = source.channels or (1 if given.channels == "GRAY" or source.channel < 0 else 3)
    channels = given.channels or {1: "GRAY", 3: "RGB"}.get(count)
    expected = 1 if channels == "GRAY" else 3
    if channels is None or count != expected:
        if channels is None:
            raise CardError(
                f"input {source.name!r} has {count} channels; photos have 1 or 3 - from Python, arrays can "
                "be passed as they are"
            )
        raise CardError(
            f"channels = {channels!r} does not fit input {source.name!r}, which has {count}; expected "
            "GRAY for 1, RGB or BGR for 3"
        )
    low, high = given.range or ((0.0, 255.0) if ready else (0.0, 1.0))
    mean, std = given.mean or (0.0,), given.std or (1.0,)
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, count):
            raise CardError(f"{name} has {len(numbers)} numbers; expected 1 or {count}")
    if not low < high:
        raise CardError(f"range is {low:g} to {high:g}; expected the smaller number first")
    outside = [m for m in mean if not low - 1e-6 <= m <= high + 1e-6]
    if outside:
        raise CardError(
            f"mean {outside[0]:g} lies outside the range {low:g} to {high:g}; for pixels from 0 to 255 "
            "add range = [0, 255] (or --range 0,255)"
        )
    if any(s <= 0 for s in std):
        raise CardError(f"std is {_numbers(std)}; expected positive numbers")
    if source.dtype == "uint8":
        ends = {((low - m) / s, (high - m) / s) for m in mean for s in std}
        if any(abs(a) > 0.5 or abs(b - 255) > 0.5 for a, b in ends):
            raise CardError(
                f"input {source.name!r} takes bytes, so pixels go in as 0 to 255; "
                "expected range = [0, 255] and neither mean nor std"
            )
    own = source.size
    if given.size is not None and len(given.size) != 2:
        raise CardError(f"size has {len(given.size)} numbers; a photo takes height and width")
    size = tuple(o if o is not None else (given.size or (None, None))[i] for i, o in enumerate(own))
    if given.size is not None and size != given.size:
        raise CardError(
            f"size {' x '.join(map(str, given.size))} does not fit the model, whose input is fixed at "
            f"{' x '.join(map(str, size))}"
        )
    if size[0] is None or size[1] is None:
        raise CardError(
            "the model takes any picture size; say which, e.g. size = [224, 224] under [input] or --size 224"
        )
    return Preprocess(
        layout=source.layout,
        channels=channels,
        size=(size[0], size[1]),
        low=low,
        high=high,
        mean=mean,
        std=std,
        resize=given.resize,
        crop=given.crop,
        interpolation=given.interpolation,
        dtype=source.dtype or "float32",
        told=source.why,
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
