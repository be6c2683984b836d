"""How far a map moves when a little noise is added to the input (max-sensitivity, Yeh et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.faithful.judged import Judged


def sensitivity(
    judged: Judged,
    maps: NDArray[Any],
    noise: float,
    samples: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> NDArray[np.float64]:
    """The largest relative change of each image's map over ``samples`` noisy copies, N.

    The change is the distance of the maps over the length of the first; 0 where that is empty.

    Args:
        judged: the method, on real-valued inputs.
        maps: its maps without noise.
        noise: largest size of the uniform noise, as a share of each image's standard deviation.
        samples: noisy copies.
        advance: called with the share that is done.
    """
    images = judged.job.images
    array = images.array
    spread = array.astype(np.float64).std(axis=tuple(range(1, array.ndim)), keepdims=True)
    worst = np.zeros(len(array))
    for number in range(samples):
        rng = np.random.default_rng([judged.job.seed, 13, number])
        drawn = rng.uniform(-noise, noise, array.shape[1:])  # the same for each image
        noisy = replace(images, array=(array + spread * drawn).astype(array.dtype))

        def step(share: float, number: int = number) -> None:
            advance((number + share) / samples)

        moved = judged.heat(images=noisy, advance=step)
        away = np.sqrt(((moved - maps) ** 2).reshape(len(array), -1).sum(axis=1))
        length = np.sqrt((maps**2).reshape(len(array), -1).sum(axis=1))
        change = np.divide(away, length, out=np.zeros_like(away), where=length > 0)
        worst = np.maximum(worst, np.where(np.isfinite(change), change, worst))
    return worst
