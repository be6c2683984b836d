"""``torchvision:NAME``: a model of torchvision, with the transforms and categories of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convlens.errors import UsageError
from convlens_adapters.exporters.exporting import (
    Ask,
    finish,
    library,
    load_weights,
    randomise,
    share,
    to_onnx,
    unknown,
    unreachable,
)

INSTALL = "'convlens[zoo]'"


def export(name: str, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write the model with its card and labels; return the ONNX file.

    Raises:
        UsageError: torchvision is not installed, has no such model, or it takes no single photo.
        RecipeError: weights cannot be fetched, or the export fails.
    """
    ask = Ask(name, folder, **settings)
    torchvision = library("torchvision", INSTALL)
    models = torchvision.models
    if ask.name not in models.list_models():
        raise unknown("torchvision", ask.name, models.list_models())
    weights = models.get_model_weights(ask.name).DEFAULT
    transforms = weights.transforms()
    given, size = input_of(transforms, ask.name, ask.size)
    task = "classification" if hasattr(transforms, "crop_size") else "segmentation"
    if ask.random or ask.weights is not None:
        extra = {"weights_backbone": None} if task == "segmentation" else {}
        module = models.get_model(ask.name, weights=None, **extra)
        if getattr(module, "transform_input", None) is False:
            module.transform_input = True  # as it is with the trained weights, whose transforms the card says
        if ask.weights is not None:
            load_weights(module, ask.weights)
        else:
            randomise(module, ask.seed)
    else:
        try:
            module = models.get_model(ask.name, weights=weights)
        except (OSError, RuntimeError) as error:
            raise unreachable(ask.name, error) from error
    module.eval()
    about = {"task": task, "source": f"torchvision {torchvision.__version__}, weights {weights}"}
    if ask.random or ask.weights is not None:
        about["source"] = f"torchvision {torchvision.__version__}"
    labels = weights.meta.get("categories")
    model = to_onnx(module if task == "classification" else _first_output(module), size)
    if task == "segmentation":
        return finish(ask, model, about, given, None)
    return finish(ask, model, about, given, labels, "logits")


def input_of(
    transforms: Any, name: str, size: tuple[int, int] | None
) -> tuple[dict[str, Any], tuple[int, int]]:
    """The card's input, and height and width, from the transforms that belong to weights.

    Args:
        transforms: a preset: ``resize_size``, ``crop_size`` (classification only), ``mean``, ``std``,
            ``interpolation``.
        name: of the model, for errors.
        size: another height and width than the preset's.

    Raises:
        UsageError: a preset for something else than single photos.
    """
    resize, crop = getattr(transforms, "resize_size", None), getattr(transforms, "crop_size", None)
    if resize is None or getattr(transforms, "mean", None) is None or len(resize) > 1 or len(crop or [0]) > 1:
        raise UsageError(
            f"torchvision's {name} does not take single photos; expected a classifier or a segmenter"
        )
    own = (crop or resize)[0]
    height, width = size or (own, own)
    interpolation = str(getattr(transforms.interpolation, "value", transforms.interpolation))
    given: dict[str, Any] = {
        "layout": "NCHW",
        "channels": "RGB",
        "size": [height, width],
        "range": [0, 1],
        "mean": [float(number) for number in transforms.mean],
        "std": [float(number) for number in transforms.std],
        "resize": "crop",
        "interpolation": interpolation,
    }
    if crop is not None and crop[0] < resize[0]:
        given["crop"] = share(crop[0], resize[0])
    return given, (height, width)


def _first_output(module: Any) -> Any:
    import torch

    class Segmenter(torch.nn.Module):
        """The scores alone, without those of the auxiliary head."""

        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.network(x)["out"]
            return scores

    return Segmenter().eval()
