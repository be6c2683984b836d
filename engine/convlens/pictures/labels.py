"""Maps of class labels: areas in colours that people with any colour vision can tell apart, and their key.

The hint ``areas`` of an image lists the labels that have a colour, the one of the whole input first; what
is not listed is drawn as others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.colour import LABELS, Scale, paint
from convlens.pictures.layout import photo
from convlens.pictures.picture import Key, Picture, enlarge, slug
from convlens.pictures.scenes import WIDE, scene

if TYPE_CHECKING:
    from convlens.results import Result

_SIDE = 224
_OTHERS = len(LABELS) - 1
_TINT = 0.6
SCALE = Scale(0.0, float(_OTHERS), "class", "labels")


def label_picture(result: Result, index: int, name: str, entry: Mapping[str, Any]) -> Picture:
    """One map of labels over what went in; the label of the whole input leaves it without colour."""
    own, array = result.hints["each"][index], result.arrays[entry["array"]][index]
    areas = own["areas"]
    order = np.full(array.shape, _OTHERS, np.int64)
    for place, area in enumerate(areas):
        order[array == area["class"]] = place
    starts = [result.arrays[at] for at in entry["at"]]
    extent = _extent(result)
    near = [_nearest(s, side, size) for s, side, size in zip(starts, entry["patch"], extent, strict=True)]
    values = order[np.ix_(*near)].astype(np.float64)
    title = own.get("titles", {}).get(entry["array"], own["title"])
    wide = False
    if "input" in result.hints:
        info = result.hints["input"]
        words = {**own, "marks": ()}
        image = scene(info, values, result.arrays["input"][index], SCALE, words)
        wide = info["kind"] in WIDE
    elif result.views is not None:
        grey = np.asarray(photo(result.views[index]).convert("L"), dtype=np.float64)
        base = np.repeat((110 + 0.5 * grey)[..., None], 3, axis=2)
        tint = np.where(values > 0, _TINT, 0.0)[..., None]
        mixed = base * (1 - tint) + paint(values, SCALE) * tint
        image = enlarge(Image.fromarray(np.rint(mixed).astype(np.uint8)), _SIDE)
    else:
        image = enlarge(Image.fromarray(paint(values, SCALE)), _SIDE)
    keys = _keys(areas)
    alt = f"{title} for {name}: {'; '.join(text for _, text in keys)}."
    stem = slug(f"{name.rsplit('.', 1)[0]}-labels")
    return Picture(stem, image, f"{title}, {name}", alt, None, index, title, wide, key=keys)


def _nearest(starts: NDArray[Any], side: int, size: int) -> NDArray[np.int64]:
    """Which position's patch has its centre nearest to each pixel along one axis."""
    centres = starts + (side - 1) / 2
    return np.asarray(np.abs(np.arange(size)[:, None] - centres).argmin(axis=1))


def _extent(result: Result) -> Sequence[int]:
    """Lengths of the axes of one input, as the array that ranks its places has them."""
    return result.arrays[result.hints["heat"]["array"]].shape[1:]


def _keys(areas: Sequence[Mapping[str, Any]]) -> tuple[Key, ...]:
    """What each colour means, with its share of the positions."""
    own = areas[0]
    keys = [(LABELS[0], f"{own['name']}, as for the whole: {own['share']:.0%}")]
    keys += [
        (colour, f"{area['name']}: {area['share']:.0%}")
        for colour, area in zip(LABELS[1:-1], areas[1:], strict=False)
    ]
    rest = 1 - sum(area["share"] for area in areas)
    if rest > 1e-9:
        keys.append((LABELS[-1], f"other classes: {rest:.0%}"))
    return tuple(keys)
