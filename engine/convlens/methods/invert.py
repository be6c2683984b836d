"""``invert``: pictures that a layer cannot tell from a photo, so that what it has kept is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.errors import LayerError, ParameterError
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result
from convlens.shown import shown
from convlens.synthesis.visual.options import Channels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.synthesis.inverse.inversion import Code

_FAITHFUL = 0.1
"""Relative error of a code below which its picture counts as one that the layer cannot tell apart."""

_SMOOTH = frozenset({"photo", "image", "signal", "spectrogram", "video", "volume"})
"""Inputs whose neighbouring numbers go together, so that low frequencies come first."""

_RATES = {"lbfgs": 1.0, "adam": 0.1, "sgd": 0.01}
_PHOTO_TV = 0.1


class InvertParameters(Parameters):
    """What ``invert`` can be told."""

    layer: tuple[str, ...] = Field(
        (),
        description="a layer by name or alias, one picture each; by default the end of every stage of the "
        "model, and the last layer",
    )
    channel: Channels = Field(
        None, description="of one layer: match these channels only (0,4,8-11), and leave the others free"
    )
    steps: int = Field(128, ge=1, le=100000, description="steps of the optimiser for each layer")
    parametrisation: Literal["fourier", "laplacian", "pixels"] | None = Field(
        None,
        description="what is optimised in the picture's place; by default fourier, and pixels where "
        "neighbours have nothing in common (boards, vectors)",
    )
    optimiser: Literal["lbfgs", "adam", "sgd"] = Field("lbfgs", description="how steps are taken")
    learning_rate: float | None = Field(
        None, gt=0, description="step size; by default 1 for lbfgs, 0.1 for adam, 0.01 for sgd"
    )
    start: Literal["noise", "grey", "mean"] = Field("noise", description="the picture to start from")
    tv: float | None = Field(
        None, ge=0, description="weight of the total variation; by default 0.1 for photos, else 0"
    )
    beta: int = Field(2, ge=1, le=2, description="exponent of the slopes in the total variation")
    p6: float = Field(0.0, ge=0, description="weight of the mean sixth power, which bounds the range")
    jitter: int = Field(
        0,
        ge=0,
        description="largest shift at each step",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )


@register
class Invert(Method[InvertParameters]):
    """From what a layer holds of an image back to a picture, sought from next to nothing.

    ``picture`` (main) is N x layers x channels x the picture's spatial axes: of photos red, green, blue from
    0 to 1, else the numbers that the model takes. ``image`` is what went in, in the same form without the
    axis of layers. ``error`` is the relative error of each code, N x layers: the length of the difference
    between the layer's values of the picture and of the image, over the length of those of the image (not
    squared), both by onnxruntime; ``start`` and ``grey`` are the same for the picture that the search began
    with and for a grey one. ``history`` is that error at each step, N x layers x steps, as the search saw it:
    units of a ReLU that are closed and should be open count with their value before it, so that they pull.
    """

    name = "invert"
    summary = "pictures that each layer takes for the given one: what it has kept"
    paper = Paper("Mahendran & Vedaldi 2015", "sections 2 to 5", "https://arxiv.org/abs/1412.0035")
    kind = "panels"
    Parameters = InvertParameters
    gradients = True
    searches = True
    preview: ClassVar[dict[str, Any]] = {"steps": 3}

    def run(self, job: Job[InvertParameters]) -> Result:
        """One search a layer and a group of images."""
        import numpy as np

        from convlens.pictures.picture import stems
        from convlens.synthesis.canvas import canvas_for
        from convlens.synthesis.inverse.inversion import Inversion
        from convlens.synthesis.recipes import recipe_of

        model, array = job.model, job.images.array
        size = tuple(array.shape[axis] for axis in model.source.axes)
        half = any(model.graph.value(layer.name).dtype == "float16" for layer in model.layers)
        exact = (
            half or array.dtype == np.float64
        )  # slopes of a relative error are too small for half precision
        canvas = canvas_for(model, size, "float64" if exact else "float32")
        settings = _settings(job)
        codes = _codes(job)
        search = Inversion(job, canvas, codes, recipe_of(settings), settings["start"], settings["steps"])
        parts = search.parts()
        whole = [part for part in parts if not part.interrupted] or parts[:1]
        if whole[0].interrupted:
            codes = codes[: len(whole[0].outcomes)]
        pictures = np.concatenate([part.pictures for part in whole])
        made = len(pictures)
        errors = {key: np.concatenate([p.errors[key] for p in whole]) for key in ("error", "start", "grey")}
        names = job.images.names[:made]
        labels = [code.text for code in codes]
        arrays: dict[str, NDArray[Any]] = {
            "picture": pictures,
            "image": canvas.picture(array[:made]).cpu().numpy(),
            **errors,
            "history": np.concatenate([part.history(settings["steps"]) for part in whole]),
        }
        own = "0 black to 1 white" if canvas.photo else "as the model takes it"
        share = "share of the length of the image's code"
        silent = np.concatenate([part.silent for part in whole])
        files = stems(names)
        return Result(
            method=self.name,
            kind=self.kind,
            main="picture",
            arrays=arrays,
            units={name: own if name in ("picture", "image") else share for name in arrays},
            images=names,
            views=None if job.images.views is None else job.images.views[:made],
            rows=tuple(
                {
                    "image": name,
                    "layer": label,
                    "error": float(errors["error"][i, k]),
                    "start": float(errors["start"][i, k]),
                    "grey": float(errors["grey"][i, k]),
                    "silent": bool(silent[i, k]),
                }
                for i, name in enumerate(names)
                for k, label in enumerate(labels)
            ),
            hints={
                "photo": canvas.photo,
                "panels": [
                    _sheet(i, files[i], name, labels, errors["error"][i], model.source.kind)
                    for i, name in enumerate(names)
                ],
                "photos": _files(files, labels) if canvas.photo else [],
                **shown(job),
            },
            how={"settings": settings, "warnings": search.said},
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Up to which layer a picture was found that the layer takes for the image."""
        found = []
        for index, name in enumerate(result.images):
            rows = [row for row in result.rows if row["image"] == name]
            near = [row for row in rows if row["error"] < _FAITHFUL]
            if near:
                last = near[-1]
                text = (
                    f"{name}: up to {last['layer']}, a picture sought from nothing has nearly the same code."
                )
                evidence = f"it is {last['error']:.1%} away, that of a grey picture {last['grey']:.1%}"
                found.append(Finding("note", text, evidence, index))
            for row in rows:
                if row["silent"]:
                    text = f"{name}: no signal from {row['layer']} reaches the picture."
                    found.append(Finding("attention", text, "its gradient is zero everywhere", index))
        return found


def _settings(job: Job[InvertParameters]) -> dict[str, Any]:
    """Every setting with its number, as pieces of a recipe."""
    told = job.parameters
    kind = job.model.source.kind
    tv = told.tv if told.tv is not None else (_PHOTO_TV if job.model.source.image else 0.0)
    return {
        "parametrisation": told.parametrisation or ("fourier" if kind in _SMOOTH else "pixels"),
        "optimiser": told.optimiser,
        "learning_rate": told.learning_rate or _RATES[told.optimiser],
        "start": told.start,
        "steps": told.steps,
        "jitter": told.jitter,
        "scale": 0.0,
        "rotate": 0.0,
        "p6": told.p6,
        "tv" if told.beta == 1 else "tv2": tv,
    }


def _codes(job: Job[InvertParameters]) -> list[Code]:
    """What is matched: the layers asked for, or the ends of the stages.

    Raises:
        LayerError: there is no such layer or channel, or no layer at all.
        ParameterError: channels of several layers were asked for.
    """
    from convlens.synthesis.inverse.depths import depths
    from convlens.synthesis.inverse.inversion import Code
    from convlens.synthesis.objectives import channels_of

    told, model = job.parameters, job.model
    layers = list(dict.fromkeys(model.layers.find(name) for name in told.layer))
    if not layers:
        layers = depths(model, job.images.array.shape[1:])
    if not layers:
        raise LayerError("no layer of the model holds all that its outputs depend on; name one with --layer")
    if told.channel is None or told.channel == "all":
        return [Code.of(model, layer) for layer in layers]
    if len(layers) > 1 or not told.layer:
        raise ParameterError("channels are of one layer; name it with --layer")
    numbers = tuple(int(part) for part in told.channel.split(","))
    channels_of(layers[0], numbers)  # checks them
    return [Code.of(model, layers[0], numbers)]


def _sheet(
    index: int, stem: str, name: str, labels: Sequence[str], errors: NDArray[np.float64], kind: str
) -> dict[str, Any]:
    """The image and the pictures of all layers side by side; above each other where they are wide."""
    from convlens.pictures.scenes import WIDE

    tiles = [{"array": "image", "index": index, "label": "given"}]
    tiles += [
        {"array": "picture", "index": [index, k], "label": f"{label}  {error:.1%}"}
        for k, (label, error) in enumerate(zip(labels, errors.tolist(), strict=True))
    ]
    depth = f"at {labels[0]}" if len(labels) == 1 else f"at {labels[0]} to {labels[-1]}"
    return {
        "name": stem,
        "index": index,
        "caption": f"{name}, and what its code {depth} gives back; below, the relative error of each code",
        "alt": f"{name} beside what its code {depth} gives back; relative errors of the codes are "
        + ", ".join(f"{error:.1%}" for error in errors.tolist())
        + ".",
        "tiles": tiles,
        "columns": 1 if kind in WIDE else len(tiles) if len(tiles) <= 7 else -(-len(tiles) // 2),
    }


def _files(own: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Each picture as a file of its own."""
    from convlens.pictures.picture import slug

    return [
        {"name": f"{stem}-{slug(label)}", "array": "picture", "index": [i, k]}
        for i, stem in enumerate(own)
        for k, label in enumerate(labels)
    ]
