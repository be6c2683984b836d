"""``faststyle``: a network of its own that paints any photo in one style, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.catalogue import photos as bundled_photos
from convlens.errors import ParameterError
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.painters.crops import Crops
    from convlens.synthesis.painters.training import Learnt

_SHOWN = 3  # photos painted for the report
_LEAST_FALL = 0.9  # of the style's part: what counts as learnt
_TAIL = 10  # steps whose mean is the loss at the end


class FaststyleParameters(Parameters):
    """What ``faststyle`` can be told."""

    style: str | None = Field(None, description="the picture whose style is learnt, a file")
    photos: tuple[str, ...] = Field(
        (), description="photos to learn from, a file or a folder; those that come along by default"
    )
    steps: int = Field(2000, ge=1, le=1000000, description="updates of the weights")
    side: int | None = Field(
        None,
        ge=16,
        le=2048,
        description="of the crops that are learnt from; the model's own where it is fixed, else 256",
        json_schema_extra={"unit": "pixels"},
    )
    style_side: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="shorter side to which the style is brought, which sets how coarse strokes become; that "
        "of the crops by default",
        json_schema_extra={"unit": "pixels"},
    )
    batch: int = Field(4, ge=1, le=64, description="crops over which the loss of a step is averaged")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="step size of Adam")
    width: int = Field(
        32, ge=1, le=256, description="channels of the painter at full size; twice and four times further in"
    )
    blocks: int = Field(5, ge=0, le=32, description="residual blocks of the painter")
    content: float = Field(1.0, ge=0, description="weight of the content, relative squared error of features")
    strength: float = Field(
        1.5, ge=0, description="weight of the style, relative squared error of Gram matrices"
    )
    tv: float = Field(0.1, ge=0, description="weight of the mean total variation")
    content_layer: str | None = Field(
        None,
        description="layer whose features are kept; by default the last rectified one at the second scale",
    )
    style_layer: tuple[str, ...] = Field(
        (), description="layer whose Gram matrix is sought; by default the last rectified ones at four scales"
    )


@register
class Faststyle(Method[FaststyleParameters]):
    """Train a feed-forward network that paints any photo in one style, with MODEL as the loss network.

    ``picture`` (main) is N x colours x height x width from 0 to 1: the middle of the first photos as the
    finished ONNX file paints them by onnxruntime, at twice the side of the crops; ``photo`` the same as they
    were. ``style`` is the picture that was learnt from, colours x height x width. ``loss``, ``content``,
    ``style_loss`` and ``tv`` are the loss and its parts before weighting, one number a step. The network
    itself comes as ``STYLE.onnx`` with a card: input and output are N x colours x height x width from 0 to 1
    of any size. ``convlens stylise`` runs it over photos and frames.
    """

    name = "faststyle"
    summary = "train a network that paints any photo in one style at once"
    paper = Paper(
        "Johnson, Alahi and Fei-Fei 2016; Ulyanov, Vedaldi and Lempitsky 2016",
        "section 3; section 2",
        "https://arxiv.org/abs/1603.08155",
    )
    kind = "panels"
    Parameters = FaststyleParameters
    images = False
    gradients = True
    searches = True
    preview: ClassVar[Mapping[str, Any]] = {
        "style": str(next(iter(bundled_photos()), "")),
        "photos": tuple(map(str, bundled_photos())),
        "steps": 2,
        "batch": 2,
        "width": 2,
        "blocks": 1,
    }

    def run(self, job: Job[FaststyleParameters]) -> Result:
        """One course of training, then the finished file on a few photos."""
        from convlens.pictures.picture import stems
        from convlens.synthesis.painters.exported import network_files, painted
        from convlens.synthesis.painters.painter import Form, Painter
        from convlens.synthesis.painters.perceptual import Loss, Weights, check_photos, layers_for
        from convlens.synthesis.painters.training import Course, train

        given, model = job.parameters, job.model
        check_photos(model)
        content, styled = layers_for(model, given.content_layer, given.style_layer)
        said: list[str] = []
        canvas, side = _canvas(job, said)
        style, key = _style(given, canvas, side)
        crops = _crops(given, side, canvas.channels, job.seed, said)
        photos, names = crops.middles(_SHOWN, 2 * side)
        form = Form(canvas.channels, given.width, given.blocks)
        painter = Painter(form, job.seed)
        weights = Weights(given.content, given.strength, given.tv)
        loss = Loss(model, canvas, style, content, styled, weights)
        course = Course(crops, given.steps, given.batch, given.learning_rate, f"{key} {crops.key()}")
        samples, _ = crops.middles(_SHOWN, side)  # half as wide, since they are painted many times
        learnt = train(painter, loss, course, job.watch, samples, job.advance)
        said += _told(crops, learnt)
        (stem,), own = stems([given.style or "style"]), stems(names)
        files = network_files(model, painter, stem, side)
        pictures = painted(files[f"{stem}.onnx"], painter, photos, model.threads)
        rows = _rows(learnt.history)
        layers = {"content": content.alias, "style": [layer.alias for layer in styled]}
        return Result(
            method=self.name,
            kind=self.kind,
            main="picture",
            arrays={
                "picture": pictures,
                "photo": photos,
                "style": style,
                **{("style_loss" if name == "style" else name): a for name, a in learnt.history.items()},
            },
            units={
                **dict.fromkeys(("picture", "photo", "style"), "0 black to 1 white"),
                "loss": "weighted sum of its parts",
                "content": "squared error over the square of the photo's features",
                "style_loss": "squared error over the square of the style's Gram matrices",
                "tv": "mean step from pixel to pixel",
            },
            rows=rows,
            hints={
                "photo": True,
                "panels": [_sheet(index, own[index], name) for index, name in enumerate(names)],
                "photos": [
                    {"name": f"{one}-painted", "array": "picture", "index": index}
                    for index, one in enumerate(own)
                ],
                "parts": [{"kind": "panels"}, {"kind": "curves", "hints": {"title": "the loss"}}],
                "curves": _curves(),
            },
            how={"layers": layers, "network": f"{stem}.onnx", "warnings": said},
            attached=files,
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Whether the style was learnt at all."""
        (row,) = [row for row in result.rows if row["part"] == "style"]
        if row["end"] <= _LEAST_FALL * row["start"]:
            return []
        return [
            Finding(
                "attention",
                "The style was hardly learnt; give more --steps or a larger --strength.",
                f"its part of the loss went from {row['start']:.3g} to {row['end']:.3g}",
            )
        ]


def _canvas(job: Job[FaststyleParameters], said: list[str]) -> tuple[Canvas, int]:
    """What a picture is for the loss network, and the side of the crops."""
    from convlens.synthesis.canvas import canvas_for

    own = job.model.source.size
    fixed = max((length for length in own if length is not None), default=None)
    side = job.parameters.side or fixed or 256
    canvas = canvas_for(job.model, (side, side))
    if any(length not in (None, side) for length in own):
        taken = " x ".join(str(length or side) for length in own)
        said.append(f"the loss network takes {taken} pixels only; crops of {side} are resampled on the way")
    return canvas, side


def _style(given: FaststyleParameters, canvas: Canvas, side: int) -> tuple[NDArray[Any], str]:
    """The style as the loss network sees it, colours x height x width, and what tells it from others."""
    import hashlib

    from convlens.images import read_image
    from convlens.synthesis.painters.crops import as_array, coloured, resized, squared

    if given.style is None:
        raise ParameterError("faststyle needs a picture whose style it learns: --style PICTURE")
    image = coloured(read_image(given.style), canvas.channels)
    shorter = given.style_side or side
    fixed = any(length is not None for length in canvas.fixed)
    style = as_array(squared(image, shorter) if fixed else resized(image, shorter))
    return style, hashlib.sha256(style.tobytes()).hexdigest()


def _crops(given: FaststyleParameters, side: int, channels: int, seed: int, said: list[str]) -> Crops:
    """The photos to learn from."""
    from convlens.images import expand
    from convlens.synthesis.painters.crops import Crops

    if not given.photos:
        paths = bundled_photos()
        said.append(
            f"learnt from the {len(paths)} photos that come along; give a folder of many with --photos for a "
            "network that does well on any"
        )
        return Crops(paths, side, channels, seed)
    return Crops(expand(given.photos), side, channels, seed)


def _told(crops: Crops, learnt: Learnt) -> list[str]:
    """What a person should know of the training."""
    said = []
    if learnt.stopped is not None:
        said.append(
            f"step {learnt.stopped} gave a number that is not finite; the network is the last that gave "
            "finite ones; try a smaller --learning-rate"
        )
    if crops.unread:
        first = next(iter(crops.unread.values()))
        said.append(f"{len(crops.unread)} of the photos could not be read; the first: {first}")
    if crops.enlarged:
        said.append(
            f"{len(crops.enlarged)} of the photos are smaller than the crops of {crops.side} pixels and were "
            "enlarged; choose a smaller --side or larger photos"
        )
    return said


def _rows(history: Mapping[str, NDArray[Any]]) -> tuple[Mapping[str, Any], ...]:
    """The loss and its parts at the first step, and their mean over the last ones."""
    return tuple(
        {"part": name, "start": float(told[0]), "end": float(told[-_TAIL:].mean())}
        for name, told in history.items()
        if len(told)
    )


def _sheet(index: int, stem: str, name: str) -> dict[str, Any]:
    """A photo, the style, and the photo painted."""
    return {
        "name": stem,
        "caption": f"{name}, painted by the network",
        "alt": f"The middle of {name}, the picture whose style was learnt, and the photo painted in it.",
        "columns": 3,
        "tiles": [
            {"array": "photo", "index": index, "label": name},
            {"array": "style", "label": "style"},
            {"array": "picture", "index": index, "label": "painted"},
        ],
    }


def _curves() -> list[dict[str, Any]]:
    """The loss and its parts over the steps."""
    titles = {"loss": "weighted sum", "content": "content", "style_loss": "style", "tv": "total variation"}
    return [
        {
            "title": title,
            "x_label": "step",
            "y_label": "loss",
            "lines": [{"array": name, "label": title, "weight": "bold"}],
        }
        for name, title in titles.items()
    ]
