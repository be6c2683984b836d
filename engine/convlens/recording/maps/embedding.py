"""The steps of a map of a data set: which images, their vectors and pixels, the maps, how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ConvLensError, UsageError
from convlens.inputs import NOUNS
from convlens.recording import again
from convlens.recording.maps import projections
from convlens.recording.maps.mapped import Colour, Known, colour_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.registry import Job

NEIGHBOURS = 10
"""Of each image, by which spaces are judged."""

BY_ITSELF = 5000
"""Images up to which pixels are mapped too where nobody says."""

ON_GRID = 2500
"""Images on a grid: to find the best one takes memory that grows with their square."""

_ONE_HOT = 200_000_000  # numbers of all token sequences together
_NAMES = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}


@dataclass
class Embedding:
    """A map and all that belongs to it; arrays as :class:`convlens.methods.embed.Embed` says.

    Attributes:
        number: of each image.
        vectors: feature vectors, N x D.
        place: N x 2.
        cell: N x 2.
        grid: rows and columns.
        known: what is known of each image.
        by: what classes are: ``label``, ``prediction`` or nothing.
        colour: what the colours stand for.
        pixel_place: N x 2.
        thumbnails: N x height x width x 3.
        dimensions: of each space.
        purity: of each space, empty where there are no classes.
        kept: of each map.
        chance: purity of neighbours drawn blindly.
        most: the largest purity that there can be, less than 1 where classes have few images.
        title: for people.
        noun: what one input is called.
        settings: how it was made.
        warnings: what a person should know.
    """

    number: NDArray[np.int64]
    vectors: NDArray[np.float32]
    known: Known
    title: str
    noun: str
    colour: Colour | None
    by: str = ""
    place: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    cell: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    grid: tuple[int, int] = (0, 0)
    pixel_place: NDArray[np.float64] | None = None
    thumbnails: NDArray[np.uint8] | None = None
    dimensions: dict[str, int] = field(default_factory=dict)
    purity: dict[str, float] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    chance: float = 0.0
    most: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def k(self) -> int:
        """Neighbours of each image by which spaces are judged."""
        return min(NEIGHBOURS, len(self.number) - 1)

    def numbers(self, which: str) -> NDArray[np.float64]:
        """``purity`` of each space, ``kept`` of each map."""
        return np.array(list(getattr(self, which).values()), np.float64)

    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """A row a space."""
        return tuple(
            {
                "space": space,
                "images": len(self.number),
                "dimensions": self.dimensions[space],
                **(
                    {"purity": self.purity[space], "by chance": self.chance, "at most": self.most}
                    if self.purity
                    else {}
                ),
                "neighbours kept": self.kept.get(space),
            }
            for space in self.dimensions
        )


def embedded(job: Job[Any]) -> Embedding:
    """The map that ``embed`` was asked for.

    Raises:
        UsageError: there are too few images or no vectors, or a package or the data set is missing.
    """
    told, model, recording = job.parameters, job.model, job.recorded
    made = _chosen(job)
    made.by, groups = made.known.groups()
    classes, _ = projections.codes(groups)
    made.chance = projections.chance(classes[classes >= 0])
    if not made.chance > 0:
        classes = np.full_like(classes, -1)  # no two images of one class: nothing to hold together
    made.most = projections.possible(classes[classes >= 0], made.k)
    job.advance(0.05)
    pixels = _read(job, made)
    job.advance(0.3)
    layer = recording.feature.alias if recording.feature is not None else ""
    made.place, how = _map(job, made.vectors)
    made.settings |= {"layer": layer, **how}
    _judge(made, classes, "features", made.vectors, made.place)
    job.advance(0.6)
    wanted = told.pixels == "yes" or (told.pixels == "auto" and len(made.number) <= BY_ITSELF)
    if pixels is not None and wanted:
        made.pixel_place, _ = _map(job, pixels)
        _judge(made, classes, "pixels", pixels, made.pixel_place)
    job.advance(0.9)
    chosen = projections.even(len(made.number), ON_GRID, job.seed)
    made.cell = np.full((len(made.number), 2), -1, np.int64)
    made.cell[chosen], made.grid = projections.cells(made.place[chosen])
    noun = f"{len(made.number):,} {NOUNS[model.source.kind]}s"
    made.title = f"{_NAMES[told.way]} of {noun} by the features of {layer}"
    return made


def _chosen(job: Job[Any]) -> Embedding:
    """Which images, and their vectors, without holding those of the others."""
    told, recording = job.parameters, job.recorded
    readable = np.flatnonzero([not reason for reason in recording.images["reason"]])
    if len(readable) < projections.FEWEST:
        raise UsageError(
            f"{recording.folder}: {len(readable)} images; a map needs {projections.FEWEST} or more"
        )
    wanted = readable[projections.even(len(readable), told.limit, job.seed)]
    numbers, vectors, lost = [], [], 0
    for number, vector in recording.vectors():
        own = np.isin(number, wanted)
        sound = np.isfinite(vector).all(axis=1)
        lost += int((own & ~sound).sum())
        numbers.append(number[own & sound])
        vectors.append(vector[own & sound])
    number, vector = np.concatenate(numbers), np.concatenate(vectors)
    if len(number) < projections.FEWEST:
        raise UsageError(
            f"{recording.folder}: {lost} of {lost + len(number)} feature vectors hold NaN or infinity; a map "
            f"needs {projections.FEWEST} without"
        )
    known = Known.of(recording, job.model, number.tolist())
    layer = recording.feature.alias if recording.feature is not None else ""
    colour = colour_of(told.colour, known, vector, layer)
    made = Embedding(number, vector, known, "", NOUNS[job.model.source.kind], colour)
    if lost:
        made.warnings.append(f"{lost} images are left out: their features hold NaN or infinity")
    if len(readable) > told.limit:
        made.settings["drawn"] = f"{told.limit} of {len(readable)} images"
    return made


def _read(job: Job[Any], made: Embedding) -> NDArray[np.float32] | None:
    """The pixels of the images as vectors; small pictures go into ``made``."""
    told, model = job.parameters, job.model
    mapped = told.pixels == "yes" or (told.pixels == "auto" and len(made.number) <= BY_ITSELF)
    pictured = told.thumbnail > 0 and model.source.kind in again.SMALL
    if not (mapped or pictured):
        return None
    vectors, pictures, tokens, side, views = [], [], [], 1, False
    try:
        for own, images in again.groups(job.recorded, model, made.number.tolist()):
            if pictured:
                pictures.append(again.thumbnails(model, images, told.thumbnail))
            if mapped and model.source.kind == "tokens":
                tokens.append(images.array)
            elif mapped:
                found, side = again.fewer(images, model.source.spatial)
                vectors.append(found)
                views = images.views is not None
            job.advance(0.05 + 0.25 * float(np.searchsorted(made.number, own[-1]) + 1) / len(made.number))
    except ConvLensError as error:
        if told.pixels == "yes":
            raise
        made.warnings.append(f"no pixels and no small pictures: {error}")
        return None
    if pictured and len({picture.shape[1:] for picture in pictures if picture is not None}) == 1:
        made.thumbnails = np.concatenate([picture for picture in pictures if picture is not None])
    if not mapped:
        return None
    if len({array.shape[1:] for array in (*vectors, *tokens)}) > 1:
        made.warnings.append("no map of the pixels: the inputs differ in size")
        return None
    if tokens:
        coded = again.one_hot(np.concatenate(tokens), _ONE_HOT)
        if coded is None:
            made.warnings.append("no map of the tokens: too many different ones; a lower limit helps")
        return coded
    made.settings["pixels"] = again.unit(views) + (f", means of squares of {side}" if side > 1 else "")
    return np.concatenate(vectors)


def _map(job: Job[Any], vectors: NDArray[Any]) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Where vectors lie on a plane, and how that was found."""
    told, seed = job.parameters, job.seed % 2**32
    if told.way == "pca":
        return projections.principal(vectors, 2, seed), {}
    if told.way == "umap":
        found, neighbours = projections.umap(vectors, told.neighbours, seed)
        return found, {"neighbours": neighbours}
    found, perplexity = projections.tsne(vectors, told.perplexity, seed)
    return found, {"perplexity": perplexity}


def _judge(
    made: Embedding, classes: NDArray[Any], space: str, vectors: NDArray[Any], place: NDArray[Any]
) -> None:
    """Purity of a space and of its map, and how many neighbours the map keeps."""
    before, after = projections.nearest(vectors, made.k), projections.nearest(place, made.k)
    for name, given, neighbours in ((space, vectors, before), (f"map of {space}", place, after)):
        made.dimensions[name] = given.shape[1]
        if neighbours is after:
            made.kept[name] = projections.kept(before, after)
        told = classes >= 0
        if not told.any():
            continue
        if told.all():
            made.purity[name] = float(projections.purity(neighbours, classes).mean())
        elif told.sum() > 1:
            own = projections.nearest(given[told], min(made.k, int(told.sum()) - 1))
            made.purity[name] = float(projections.purity(own, classes[told]).mean())
