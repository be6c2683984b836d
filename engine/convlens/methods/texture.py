"""``texture``: a new picture made of the same stuff as a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from convlens.registry import Field, Finding, Job, Method, Paper, register
from convlens.results import Result
from convlens.synthesis.styles.options import SearchParameters


class TextureParameters(SearchParameters):
    """What ``texture`` can be told."""

    side: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="length of each side of the picture; those of the sample by default",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    sample_side: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="longest side to which the sample is brought; 256 for larger photos by default",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    seamless: bool = Field(
        False, description="whether the picture continues on its other side, so that it can be tiled"
    )
    layer: tuple[str, ...] = Field(
        (),
        description="where Gram matrices are taken; the first rectified layer of each resolution by default",
    )
    layer_weight: tuple[float, ...] = Field(
        (), description="how much each layer counts; all alike by default"
    )


@register
class Texture(Method[TextureParameters]):
    """A new picture with the Gram matrices of a sample, sought from noise: its texture, nothing of its order.

    ``texture`` (main) and ``sample`` are N x channels x the spatial axes of what goes in: of photos red,
    green, blue from 0 to 1 (``sample`` in 8 bits, height x width x colours), else the numbers that the model
    takes. Samples of different sizes come out as ``texture 1``, ``sample 1``, ``texture 2`` and so on.
    ``style_start`` and ``style_loss`` are how far the Gram matrices of the noise and of the picture are from
    the sample's, squared and relative to the square of these, N x 1 x layers; ``history`` is their weighted
    sum at each step, N x steps.
    """

    name = "texture"
    summary = "a new picture made of the same stuff as a sample"
    paper = Paper("Gatys, Ecker & Bethge 2015", "section 3", "https://arxiv.org/abs/1505.07376")
    kind = "panels"
    Parameters = TextureParameters
    gradients = True
    searches = True
    preview: ClassVar[dict[str, Any]] = {"steps": 2, "scales": 1}

    def run(self, job: Job[TextureParameters]) -> Result:
        """One search an image."""
        from convlens.synthesis.canvas import canvas_for
        from convlens.synthesis.styles import styling
        from convlens.synthesis.styles.stylised import one_by_one, result
        from convlens.synthesis.styles.texturing import Texturing

        told = job.parameters
        canvas = canvas_for(job.model)
        layers = styling.style_layers(job.model, told.layer)
        shares = styling.shares("layer weights", told.layer_weight, len(layers), "layers")
        search = Texturing(job, canvas, layers, shares)
        made = one_by_one(len(job.images), search.made, search.said)
        aliases = [layer.alias for layer in layers]
        return result(
            self,
            job,
            canvas,
            made,
            made_name="texture",
            given_name="sample",
            samples=[""],
            pictured={},
            layers=aliases,
            caption=lambda name: f"a texture like {name}" + (", seamless" if told.seamless else ""),
            how={"layers": aliases, "weights": [1.0]},
            said=search.said,
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """How near the textures came."""
        from convlens.synthesis.styles.stylised import matched

        return matched(result, "the sample's")
