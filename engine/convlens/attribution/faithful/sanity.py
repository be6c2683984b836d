"""The sanity checks of Adebayo et al. 2018: what becomes of a map when weights become random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.faithful.judged import refusal
from convlens.attribution.faithful.randomising import apart, cascade, depths, weighted_layers
from convlens.attribution.faithful.similarity import spearman, ssim
from convlens.errors import ConvLensError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.altered import Altered
    from convlens.attribution.faithful.judged import Judged
    from convlens.attribution.faithful.randomising import Weighted


@dataclass(frozen=True)
class Sanity:
    """Maps of a network that is random in parts, held against its own.

    Attributes:
        layers: the layer down to which it is random, or that is random alone, stage by stage.
        depths: its place counted from the last layer, from 1.
        count: how many layers have weights.
        rank: Spearman's correlation of the magnitudes, images x stages; 0 where there is no map.
        structure: structural similarity of the magnitudes, likewise.
        usable: whether there is a map: finite, and not the same number everywhere.
        maps: the maps, images x stages x space, float32; 0 where there is none.
        refused: why there is none, by stage, where the method refused.
    """

    layers: tuple[str, ...]
    depths: tuple[int, ...]
    count: int
    rank: NDArray[np.float64]
    structure: NDArray[np.float64]
    usable: NDArray[np.bool_]
    maps: NDArray[np.float32]
    refused: tuple[str, ...]

    @property
    def middle(self) -> int:
        """The stage at which about half of the layers are random."""
        return middle_of(self.depths, self.count)


def middle_of(depths: Sequence[int], count: int) -> int:
    """The stage among ``depths`` at which about half of ``count`` layers are random."""
    return int(np.argmin(np.abs(np.array(depths) - count / 2)))


def cascading(
    judged: Judged,
    maps: NDArray[Any],
    stages: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> Sanity:
    """The network random from the last layer down, in up to ``stages`` stages, all layers at the last."""
    job = judged.job
    assert job.target is not None
    models = ((layer, altered) for layer, _, altered in cascade(job.model, job.target, stages, job.seed))
    return _held_against(judged, maps, stages, models, advance)


def independent(
    judged: Judged,
    maps: NDArray[Any],
    stages: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> Sanity:
    """One layer random at a time, in up to ``stages`` layers from the last to the first."""
    job = judged.job
    assert job.target is not None
    models = apart(job.model, job.target, stages, job.seed)
    return _held_against(judged, maps, stages, models, advance)


def likeness(maps: NDArray[Any], others: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rank correlation, structural similarity and whether there is a map, image by image, of magnitudes."""
    usable = np.array([_usable(other) for other in others], bool)
    pairs = [(np.abs(one), np.abs(other)) for one, other in zip(maps, others, strict=True)]
    rank = [spearman(*pair) if ok else 0.0 for pair, ok in zip(pairs, usable, strict=True)]
    structure = [ssim(*pair) if ok else 0.0 for pair, ok in zip(pairs, usable, strict=True)]
    return np.array(rank), np.array(structure), usable


def _held_against(
    judged: Judged,
    maps: NDArray[Any],
    stages: int,
    models: Iterator[tuple[Weighted, Altered]],
    advance: Callable[[float], None],
) -> Sanity:
    count = len(weighted_layers(judged.job.model, judged.job.target))
    deep = depths(count, stages)
    clean = np.where(np.isfinite(maps), maps, 0.0)
    names, found, measured, refused = [], [], [], []
    for number, (layer, altered) in enumerate(models):

        def step(share: float, number: int = number) -> None:
            advance((number + share) / len(deep))

        why = ""
        try:
            other = judged.heat(model=altered, advance=step)
        except ConvLensError as error:
            why, other = refusal(error), np.full(maps.shape, np.nan)
        advance((number + 1) / len(deep))
        measured.append(likeness(clean, other))
        names.append(layer.alias)
        found.append(np.where(np.isfinite(other), other, 0.0).astype(np.float32))
        refused.append(why)
    rank, structure, usable = (np.stack(part, axis=1) for part in zip(*measured, strict=True))
    return Sanity(
        tuple(names), tuple(deep), count, rank, structure, usable, np.stack(found, axis=1), tuple(refused)
    )


def _usable(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all()) and float(np.ptp(values)) > 0
