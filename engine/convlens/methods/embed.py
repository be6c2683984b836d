"""``embed``: a data set as a map on which images lie near each other that the model takes alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.recording.maps.embedding import Embedding


class EmbedParameters(Parameters):
    """What ``embed`` can be told."""

    way: Literal["tsne", "pca", "umap"] = Field(
        "tsne", description="how vectors become points: tsne, pca, or umap, which needs an extra package"
    )
    perplexity: float = Field(
        30.0, ge=1, le=1000, description="of t-SNE: about how many neighbours each point keeps an eye on"
    )
    neighbours: int = Field(
        15, ge=2, le=1000, description="of UMAP: neighbours of each point in the graph that is laid out"
    )
    limit: int = Field(
        5000, ge=3, le=100_000, description="at most so many images, drawn evenly from the whole data set"
    )
    colour: str | None = Field(
        None,
        description="what colours stand for: label, prediction, right, probability, channel:12 (of the "
        "feature vector) or the name of a value that the data set has; labels by default, else predictions",
    )
    pixels: Literal["auto", "yes", "no"] = Field(
        "auto", description="make a map of the plain pixels too, to compare; by itself up to 5,000 images"
    )
    thumbnail: int = Field(
        48,
        ge=0,
        le=256,
        description="longer side of the small pictures of the images, 0 for none",
        json_schema_extra={"unit": "pixels"},
    )


@register
class Embed(Method[EmbedParameters]):
    """A map of a data set: images lie near each other that the model's last features hardly tell apart.

    ``place`` (main, N x 2) is where each image lies, ``number`` (N) which one of the data set it is.
    ``cell`` (N x 2: row, column) puts each into a cell of its own on a grid, as near to its place as all
    together can be; -1 for images that are too many for the grid. ``colour`` (N) is what the colours stand
    for, and ``thumbnails`` (N x height x width x 3, 8 bits) are small pictures of the images where
    something can be seen in those. ``pixel_place`` (N x 2) is the same map of the plain pixels, averaged
    over squares where an image has more than 12,288 numbers.

    ``purity`` says for the features, their map, the pixels and theirs, in the order of the hint ``spaces``,
    how many of an image's 10 nearest others are of its class: labels, else predictions. ``kept`` says of
    each map how many of the 10 nearest by features, or by pixels, still are. Neighbours on a map made by
    t-SNE or UMAP mean something; distances between groups, and sizes of groups, mean little. The file
    ``embed.html`` is the map as a page to move in.
    """

    name = "embed"
    summary = "a map of a data set on which images lie together that the model takes alike"
    paper = Paper(
        "van der Maaten & Hinton 2008; McInnes, Healy & Melville 2018",
        "section 4",
        "https://www.jmlr.org/papers/v9/vandermaaten08a.html",
    )
    kind = "scatter"
    Parameters = EmbedParameters
    images = False
    recording = "must"
    preview: ClassVar[dict[str, Any]] = {"way": "pca", "limit": 500}

    def run(self, job: Job[EmbedParameters]) -> Result:
        """Vectors from the recording, pixels and small pictures from the data set, then the maps."""
        from convlens.recording.maps.embedding import embedded

        return self._result(job, embedded(job))

    def _result(self, job: Job[EmbedParameters], made: Embedding) -> Result:
        from convlens.recording.maps.interactive import NAME, interactive

        arrays: dict[str, NDArray[Any]] = {
            "place": made.place,
            "number": made.number,
            "cell": made.cell,
            **({"pixel_place": made.pixel_place} if made.pixel_place is not None else {}),
            **({"thumbnails": made.thumbnails} if made.thumbnails is not None else {}),
            **({"colour": made.colour.number} if made.colour is not None else {}),
        }
        if made.purity:
            arrays["purity"] = made.numbers("purity")
        arrays["kept"] = made.numbers("kept")
        where = "position on the map"
        share = f"share of the {made.k} nearest other images"
        units = {
            "place": where,
            "pixel_place": where,
            "number": "number of the image in the data set",
            "cell": "row and column",
            "thumbnails": "pixel values from 0 to 255",
            "purity": f"{share} that are of the same class",
            "kept": f"{share} that are near on the map too",
        }
        if made.colour is not None:
            units["colour"] = made.colour.unit
        job.advance(1.0)
        return Result(
            method=self.name,
            kind=self.kind,
            main="place",
            arrays=arrays,
            units={name: units[name] for name in arrays},
            rows=made.rows(),
            how={"warnings": made.warnings, **made.settings},
            hints={
                "title": made.title,
                "noun": made.noun,
                "spaces": list(made.dimensions),
                "neighbours": made.k,
                "grid": list(made.grid),
                "points": made.known.points(),
                "by": made.by,
                "colour": made.colour.hint() if made.colour is not None else None,
            },
            attached={NAME: interactive(made)},
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Whether the features hold classes together, and better than pixels do."""
        rows = {row["space"]: row for row in result.rows if "purity" in row}
        own = rows.get("features")
        if own is None:
            return ()
        by = result.hints["by"]
        share, plain = own["purity"], rows.get("pixels", {}).get("purity")
        k = result.hints["neighbours"]
        text = f"Of the {k} images with the most similar features, {share:.1%} have an image's own {by}"
        evidence = f"{own['by chance']:.1%} would by chance, {rows[_MAP]['purity']:.1%} on the map"
        if plain is None:
            return (Finding("note", f"{text}.", evidence),)
        evidence += f"; on a map of the pixels {rows[_PIXEL_MAP]['purity']:.1%}" if _PIXEL_MAP in rows else ""
        better = share >= plain
        text += (
            f"; of the {k} with the most similar pixels, {plain:.1%}{'' if better else ', which is more'}."
        )
        return (Finding("good" if better else "attention", text, evidence),)


_MAP, _PIXEL_MAP = "map of features", "map of pixels"
