"""What ``visualise`` can be told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, JsonValue

from convlens.channels import ALL, counted_channels
from convlens.registry import Field, Parameters


def _channels(value: Any) -> str | None:
    """``all``, or each channel once by its number with commas between."""
    if value is None:
        return None
    found = counted_channels(value)
    return ALL if found is None else ",".join(map(str, dict.fromkeys(found)))


Channels = Annotated[str | None, BeforeValidator(_channels)]
_SAMPLES: dict[str, JsonValue] = {"unit": "pixels (samples, ...)"}
_PIXELS: dict[str, JsonValue] = {"unit": "pixels"}


class VisualiseParameters(Parameters):
    """What ``visualise`` can be told; what is left out is the preset's."""

    preset: Literal[
        "lucid2017",
        "simonyan2014",
        "yosinski2015",
        "graetz2019",
        "nguyen2016",
        "lee2020-digits",
    ] = Field("lucid2017", description="the paper whose way is gone")
    channel: Channels = Field(
        None,
        description="of a target that is a layer: these channels, a picture each (0,4,8-11 or all)",
    )
    direction: str | None = Field(
        None,
        description="of a target that is a layer: a direction in its channels, from a .npy file with one "
        "number a channel, or from a photo as its mean activation",
    )
    variants: int = Field(1, ge=1, le=64, description="pictures of the same target, each from its own noise")
    diversity: float = Field(
        0.0,
        ge=0,
        description="weight of what keeps variants apart (Olah et al. 2017); needs them in one batch",
    )
    side: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side of the picture; the model's own by default",
        json_schema_extra=_SAMPLES,
    )
    steps: int | None = Field(None, ge=1, le=100000, description="steps of the optimiser, over all octaves")
    learning_rate: float | None = Field(None, gt=0, description="step size of the optimiser")
    start: str | None = Field(
        None, description="noise, grey, mean, black, white, or the path of a photo to start from"
    )
    parametrisation: Literal["fourier", "laplacian", "pixels", "cppn"] | None = Field(
        None, description="what is optimised in the picture's place"
    )
    enlarge: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="with cppn, the side of a second drawing of the same picture",
        json_schema_extra=_PIXELS,
    )
    generator: str | None = Field(
        None, description="ONNX file of a network from a vector to a picture: only what it can make is made"
    )
    generator_range: Literal["0,1", "-1,1", "0,255"] | None = Field(
        None, description="black and white in the generator's pictures, where the file does not tell"
    )
    latent_decay: float | None = Field(
        None, ge=0, lt=1, description="share of the generator's vector lost at each step"
    )
    latent_bound: float | None = Field(
        None, ge=0, description="largest magnitude of the vector's numbers, 0 for none"
    )
    latent_noise: float | None = Field(
        None, ge=0, description="standard deviation of the noise on the vector at each step"
    )
    optimiser: Literal["adam", "sgd", "lbfgs"] | None = Field(None, description="how steps are taken")
    momentum: float | None = Field(None, ge=0, lt=1, description="of sgd")
    jitter: int | None = Field(
        None, ge=0, description="largest shift at each step", json_schema_extra=_SAMPLES
    )
    scale: float | None = Field(None, ge=0, lt=1, description="largest change of size at each step, a share")
    rotate: float | None = Field(
        None, ge=0, le=180, description="largest turn at each step", json_schema_extra={"unit": "degrees"}
    )
    cut: float | None = Field(
        None, ge=0, lt=1, description="largest share of each side cut away at each step"
    )
    ground: Literal["black", "grey", "white"] | None = Field(
        None, description="what lies where nothing is: penalties pull towards it"
    )
    l2: float | None = Field(None, ge=0, description="weight of the mean square")
    l1: float | None = Field(None, ge=0, description="weight of the mean magnitude")
    tv: float | None = Field(None, ge=0, description="weight of the total variation")
    p6: float | None = Field(None, ge=0, description="weight of the mean sixth power")
    decay: float | None = Field(None, ge=0, lt=1, description="share of the contrast lost at each step")
    blur: float | None = Field(
        None, ge=0, description="standard deviation of a blur", json_schema_extra=_PIXELS
    )
    blur_every: int | None = Field(None, ge=1, description="steps between two blurs")
    small: float | None = Field(
        None, ge=0, lt=1, description="share of the weakest pixels emptied at each step"
    )
    idle: float | None = Field(
        None, ge=0, lt=1, description="share of the pixels that contribute least emptied at each step"
    )
    faint: float | None = Field(
        None, ge=0, lt=1, description="share of the pixels of weakest gradient left alone at each step"
    )
    centre: float | None = Field(
        None, ge=0, le=1, description="how much the search begins in the middle of the picture"
    )
    octaves: int | None = Field(None, ge=1, le=30, description="sizes of the picture, from small to full")
    octave_factor: float | None = Field(None, gt=1, le=4, description="from one size to the next")
    octave_blur: float | None = Field(
        None, ge=0, description="blur between two sizes", json_schema_extra=_PIXELS
    )


APART = (
    "preset",
    "channel",
    "direction",
    "variants",
    "diversity",
    "side",
    "enlarge",
    "generator",
    "generator_range",
)
"""Parameters that are no setting of a preset."""
