"""``style``: a photo painted the way another picture is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from convlens.catalogue import photos as bundled_photos
from convlens.registry import Field, Finding, Job, Method, Paper, register
from convlens.results import Result
from convlens.synthesis.styles.options import SearchParameters


class StyleParameters(SearchParameters):
    """What ``style`` can be told."""

    style: tuple[str, ...] = Field(
        (), description="a picture whose style is taken (or an array, where no photos go in)"
    )
    style_weight: tuple[float, ...] = Field(
        (), description="how much each style counts, in their order; all alike by default"
    )
    mask: tuple[str, ...] = Field(
        (), description="a picture over the photo, white where a style goes, one a style in their order"
    )
    content_weight: float = Field(
        0.03, ge=0, le=1000, description="how much the photo counts beside the styles; less is more style"
    )
    colour: Literal["style", "matched", "luminance"] = Field(
        "style",
        description="whose colours: the style's, the photo's by a style moved to its mean and covariance, or "
        "the photo's pixel by pixel",
    )
    side: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="longest side of the picture; that of the photo up to 512 by default",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    style_side: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="longest side to which a style is brought, larger for coarser strokes; that of the "
        "picture by default, its own where it is smaller",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    start: Literal["content", "noise"] = Field("content", description="the picture to start from")
    tv: float = Field(0.0, ge=0, description="weight of the total variation, against speckles")
    style_layer: tuple[str, ...] = Field(
        (),
        description="where Gram matrices are taken; the first rectified layer of each resolution by default",
    )
    layer_weight: tuple[float, ...] = Field(
        (), description="how much each style layer counts; all alike by default"
    )
    content_layer: tuple[str, ...] = Field(
        (),
        description="where the photo is held; the second rectified layer of the last resolution up to 1 in 8 "
        "by default",
    )


@register
class Style(Method[StyleParameters]):
    """A photo with the Gram matrices of another picture: its content painted in the other's style.

    ``styled`` (main) and ``photo``, which it was made of, are N x channels x the spatial axes of what goes
    in: of photos red, green, blue from 0 to 1 (``photo`` in 8 bits, height x width x colours), else the
    numbers that the model takes. Photos of different sizes come out as ``styled 1``, ``photo 1``, ``styled
    2`` and so on. ``style``, or ``style 1``, ``style 2`` ..., are the styles as large as they were looked at.

    ``style_start`` and ``style_loss`` are how far the Gram matrices of the picture at the start and at the
    end are from the styles', squared and relative to the square of these, N x styles x layers;
    ``content_start`` and ``content_loss`` the same of the values of layers, N x layers; ``history`` is the
    weighted sum of all at each step, N x steps. With ``luminance`` all of them are of pictures in grey.
    """

    name = "style"
    summary = "a photo painted the way another picture is"
    paper = Paper(
        "Gatys, Ecker & Bethge 2016; Gatys et al. 2016 and 2017 (colour; masks)",
        "section 2",
        "https://doi.org/10.1109/CVPR.2016.265",
    )
    kind = "panels"
    Parameters = StyleParameters
    gradients = True
    searches = True
    preview: ClassVar[dict[str, Any]] = {
        "style": tuple(str(path) for path in bundled_photos()[:1]),
        "steps": 2,
        "scales": 1,
        "style_side": 24,
    }

    def run(self, job: Job[StyleParameters]) -> Result:
        """One search an image."""
        from convlens.synthesis.canvas import canvas_for
        from convlens.synthesis.styles.restyling import restyling, words
        from convlens.synthesis.styles.stylised import one_by_one, result

        told = job.parameters
        canvas = canvas_for(job.model)
        search = restyling(job, canvas)
        made = one_by_one(len(job.images), search.made, search.said)
        text = words(told.style, search.weights)
        layers = [layer.alias for layer in search.layers]
        content = [layer.alias for layer in search.content]
        return result(
            self,
            job,
            canvas,
            made,
            made_name="styled",
            given_name="photo",
            samples=[words([path], ()) for path in told.style],
            pictured=search.shown(),
            layers=layers,
            content=content,
            caption=lambda name: f"{name} in the style of {text}",
            how={"layers": {"style": layers, "content": content}, "weights": list(search.weights)},
            said=search.said,
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """How near the styles came."""
        from convlens.synthesis.styles.stylised import matched

        return matched(result, "the style's")
