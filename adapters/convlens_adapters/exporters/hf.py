"""``hf:FOLDER-OR-NAME``: an image classifier of transformers, with its preprocessor's settings."""

from __future__ import annotations

import json
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
    unreachable,
)

INSTALL = "'convlens[zoo]' transformers"
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def export(name: str, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write the model with its card and labels; return the ONNX file.

    Raises:
        UsageError: transformers is not installed, or the folder does not say how photos go in.
        RecipeError: configuration or weights cannot be fetched, or the export fails.
    """
    ask = Ask(name, folder, **settings)
    transformers = library("transformers", INSTALL)
    local = Path(ask.name).is_dir()
    try:
        config = transformers.AutoConfig.from_pretrained(ask.name)
        said, _ = transformers.ImageProcessingMixin.get_image_processor_dict(ask.name)
    except (OSError, ValueError) as error:
        if local:
            raise UsageError(f"{ask.name}: {' '.join(str(error).split())[:200]}") from error
        raise unreachable(ask.name, error) from error
    kind = transformers.AutoModelForImageClassification
    if ask.random or ask.weights is not None:
        try:
            module = kind.from_config(config)
        except ValueError as error:
            why = str(error).splitlines()[0][:160]
            raise UsageError(f"{ask.name}: not an image classifier ({why})") from error
        if ask.weights is not None:
            load_weights(module, ask.weights)
        else:
            randomise(module, ask.seed)
    else:
        try:
            module = kind.from_pretrained(ask.name)
        except (OSError, ValueError) as error:
            raise unreachable(ask.name, error) from error
    given, size = input_of(said, ask.size)
    count = getattr(config, "num_channels", 3)
    model = to_onnx(_logits(module.eval()), size, count)
    about = {"task": "classification", "source": f"Hugging Face transformers {transformers.__version__}"}
    return finish(ask, model, about, given, labels_of(config.id2label), "logits")


def input_of(
    settings: Mapping[str, Any], size: tuple[int, int] | None
) -> tuple[dict[str, Any], tuple[int, int]]:
    """The card's input, and height and width, from a ``preprocessor_config.json``.

    Args:
        settings: what is in the file.
        size: another height and width than the file's.

    Raises:
        UsageError: it says no size.
    """
    fitted = _sides(settings.get("size"))
    cropped = _sides(settings.get("crop_size")) if settings.get("do_center_crop") else None
    own = cropped or fitted
    if size is None and own is None:
        said = json.dumps(settings.get("size"))
        raise UsageError(f"preprocessor_config.json says no size ({said}); give --size")
    height, width = size or own or (0, 0)
    given: dict[str, Any] = {
        "layout": "NCHW",
        "channels": "BGR" if settings.get("do_flip_channel_order") else "RGB",
        "size": [height, width],
    }
    scale = float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0
    top, low = 255.0 * scale, -1.0 if settings.get("rescale_offset") else 0.0
    given["range"] = [low, round(top + low, 6)]
    if settings.get("do_normalize", False):
        if given["channels"] == "BGR":
            raise UsageError(
                "preprocessor_config.json turns colours and normalises, in an order that it hides"
            )
        given["mean"] = [float(number) for number in settings["image_mean"]]
        twice = 2 if settings.get("include_top") else 1  # EfficientNet's processor divides by std once more
        given["std"] = [float(number) ** twice for number in settings["image_std"]]
    shortest = isinstance(settings.get("size"), int) or "shortest_edge" in (settings.get("size") or {})
    given["resize"] = "crop" if cropped is not None or shortest else "stretch"
    if settings.get("crop_pct") and own is not None and own[0] < 384:
        given.update(resize="crop", crop=float(settings["crop_pct"]))
    elif cropped is not None and fitted is not None and cropped[0] < fitted[0]:
        given["crop"] = share(cropped[0], fitted[0])
    given["interpolation"] = _FILTERS.get(settings.get("resample", 2), "bilinear")
    return given, (height, width)


def labels_of(names: Mapping[Any, str] | None) -> list[str] | None:
    """``id2label`` as a list, None where it only counts (``LABEL_0`` and so on)."""
    if not names:
        return None
    by_index = {int(key): name for key, name in names.items()}
    if sorted(by_index) != list(range(len(by_index))):
        return None
    listed = [by_index[index] for index in range(len(by_index))]
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(listed)) else listed


def _sides(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping):
        if "shortest_edge" in value:
            return int(value["shortest_edge"]), int(value["shortest_edge"])
        if "height" in value:
            return int(value["height"]), int(value["width"])
    return None


def _logits(module: Any) -> Any:
    import torch

    class Classifier(torch.nn.Module):
        """The scores alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.network(pixel_values=x).logits
            return scores

    return Classifier().eval()
