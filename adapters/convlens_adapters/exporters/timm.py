"""``timm:NAME``: a model of timm, with its ``pretrained_cfg``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convlens.errors import UsageError
from convlens_adapters.exporters.exporting import (
    Ask,
    finish,
    library,
    load_weights,
    randomise,
    to_onnx,
    unknown,
    unreachable,
)

INSTALL = "'convlens[zoo]'"
_CROPS = {"center": "crop", "squash": "stretch", "border": "pad"}
_FILTERS = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos"}


def export(name: str, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write the model with its card and labels; return the ONNX file.

    Raises:
        UsageError: timm is not installed or has no such model.
        RecipeError: weights cannot be fetched, or the export fails.
    """
    ask = Ask(name, folder, **settings)
    timm = library("timm", INSTALL)
    plain = ask.name.partition(".")[0]
    if not timm.is_model(ask.name):
        raise unknown("timm", ask.name, timm.list_models())
    trained = not ask.random and ask.weights is None
    try:
        module = timm.create_model(ask.name, pretrained=trained, exportable=True)
    except Exception as error:  # the hub raises kinds of its own, none of which is there without it
        if not trained:
            raise UsageError(f"timm cannot make {plain}: {' '.join(str(error).split())[:200]}") from error
        raise unreachable(ask.name, error) from error
    if ask.weights is not None:
        load_weights(module, ask.weights)
    elif ask.random:
        randomise(module, ask.seed)
    module.eval()
    config = timm.data.resolve_model_data_config(module)
    given, size = input_of(config, ask.size)
    licence = (module.pretrained_cfg or {}).get("license")
    tag = (module.pretrained_cfg or {}).get("tag")
    about = {
        "task": "classification" if module.num_classes else "features",
        "licence": licence if trained else None,
        "source": f"timm {timm.__version__}" + (f", weights {tag}" if trained and tag else ""),
    }
    labels = labels_of(timm, module)
    scores = "logits" if module.num_classes else None
    return finish(ask, to_onnx(module, size, config["input_size"][0]), about, given, labels, scores)


def input_of(
    config: Mapping[str, Any], size: tuple[int, int] | None
) -> tuple[dict[str, Any], tuple[int, int]]:
    """The card's input, and height and width, from a data configuration of timm.

    Args:
        config: ``input_size`` (C, H, W), ``mean``, ``std``, ``interpolation``, ``crop_pct``, ``crop_mode``.
        size: another height and width than the configuration's.
    """
    channels, *own = config["input_size"]
    height, width = size or (own[0], own[1])
    given: dict[str, Any] = {
        "layout": "NCHW",
        "channels": {1: "GRAY", 3: "RGB"}.get(channels),
        "size": [height, width],
        "range": [0, 1],
        "mean": [float(number) for number in config["mean"]],
        "std": [float(number) for number in config["std"]],
        "resize": _CROPS.get(config.get("crop_mode") or "center", "crop"),
        "interpolation": _FILTERS.get(config.get("interpolation", "bilinear"), "bilinear"),
    }
    share = float(config.get("crop_pct") or 1.0)
    if given["resize"] == "crop" and share < 1:
        given["crop"] = share
    return given, (height, width)


def labels_of(timm: Any, module: Any) -> Sequence[Sequence[str]] | None:
    """The names of ImageNet's classes, where timm knows that the model has one of its sets of classes."""
    try:
        subset = timm.data.infer_imagenet_subset(module)
        if not subset:
            return None
        info = timm.data.ImageNetInfo(subset)
        names = [info.index_to_description(index).split(", ") for index in range(info.num_classes())]
    except (AttributeError, KeyError, IndexError, OSError):
        return None
    return names if len(names) == module.num_classes else None
