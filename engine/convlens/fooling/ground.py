"""The numbers in which inputs are changed, and which of them a file can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.fooling.norms import L2, Linf
from convlens.synthesis.canvas import Canvas, canvas_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.preprocess import Preprocess
    from convlens.registry import Images

LEVELS = 255.0


@dataclass(frozen=True)
class Ground:
    """Inputs as they are changed, N x channels x spatial axes.

    Photos are counted in levels, 0 to 255, red, green, blue (or grey), and what is found holds whole
    ones. Anything else is counted in its own numbers, which have no bounds.

    Attributes:
        canvas: from pictures to what the model takes.
        prepare: the card made complete, for photos.
    """

    canvas: Canvas
    prepare: Preprocess | None

    @property
    def whole(self) -> bool:
        """Whether only whole levels are held."""
        return self.prepare is not None

    def feed(self, x: Tensor) -> Tensor:
        """As the model takes it, differentiable."""
        return self.canvas.feed(x / LEVELS if self.whole else x)

    def array(self, x: Tensor) -> NDArray[Any]:
        """As onnxruntime is given it: of photos exactly what the card makes of the picture's file."""
        if self.prepare is not None:
            return self.prepare.array(self.views(x))
        return self.feed(x).detach().cpu().numpy()

    def views(self, x: Tensor) -> NDArray[np.uint8]:
        """Photos, N x height x width x channels, 8 bits."""
        return np.ascontiguousarray(x.detach().round().to(torch.uint8).movedim(1, -1).cpu().numpy())

    def boxed(self, clean: Tensor, delta: Tensor) -> Tensor:
        """The change as far as black and white allow it."""
        return (clean + delta).clamp(0, LEVELS) - clean if self.whole else delta

    def landed(self, clean: Tensor, delta: Tensor, norm: Linf | L2, radius: Tensor | None) -> Tensor:
        """The change that a file can hold, near ``delta``, inside the ball where there is a radius."""
        if not self.whole:
            return delta if radius is None else norm.projected(delta, radius)
        return self.boxed(clean, norm.whole(self.boxed(clean, delta), radius))

    def span(self, clean: Tensor) -> Tensor:
        """The range of numbers that each row has to it: all levels, or from its smallest to its largest."""
        if self.whole:
            return clean.new_full((len(clean),), LEVELS)
        flat = clean.flatten(1)
        wide = flat.amax(dim=1) - flat.amin(dim=1)
        return torch.where(wide > 0, wide, torch.ones_like(wide))


def ground_for(model: Model, images: Images) -> tuple[Ground, Tensor, bool]:
    """How the inputs of a model are changed, the inputs so written, and whether they are so exactly.

    Arrays that are given for photos, and are none to the last bit, are brought to the nearest levels.

    Raises:
        UnsupportedError: the input holds no real numbers.
        CardError: photos go in and the card does not say how.
    """
    source, array = model.source, images.array
    size = tuple(array.shape[axis] for axis in source.axes)
    canvas = canvas_for(model, size, "float64" if array.dtype == np.float64 else "float32")
    if not canvas.photo:
        return Ground(canvas, None), canvas.picture(array), True
    ground = Ground(canvas, model.preprocess)
    dtype = getattr(torch, canvas.dtype)
    if images.views is not None:
        return ground, torch.from_numpy(images.views.copy()).movedim(-1, 1).to(dtype).contiguous(), True
    single = array.astype(np.float32) if array.dtype.kind == "f" else array
    levels = (replace(canvas, dtype="float64").picture(single) * LEVELS).round()
    given = np.asarray(ground.array(levels), np.float64)
    exact = bool(np.abs(given - single).max(initial=0.0) <= 1e-3 * max(np.abs(given).max(initial=0.0), 1e-30))
    return ground, levels.to(dtype), exact
