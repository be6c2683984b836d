"""torchvision's models with the weights that were exported; runs in the peers' environment."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

_OPTIONS: dict[str, dict[str, Any]] = {
    "vgg16": {"init_weights": False},
    "googlenet": {"init_weights": False, "aux_logits": False, "transform_input": False},
    "inception_v3": {"init_weights": False, "aux_logits": False, "transform_input": False},
}
_KEPT: list[Any] = []


def torchvision() -> Any:
    """The package. Its binary fits one build of torch only; classifiers need nothing from it but names."""
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        pass
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
    return importlib.import_module("torchvision")


def bare(name: str, fresh: bool = False) -> Any:
    """The model without weights, or with random ones."""
    options = dict(_OPTIONS.get(name, {}))
    if fresh and "init_weights" in options:
        options["init_weights"] = True
    return torchvision().models.get_model(name, weights=None, **options)


def native(folder: str, name: str, device: str = "cpu") -> Any:
    """The model as it was exported: in evaluation, its weights frozen."""
    import torch

    net = bare(name)
    net.load_state_dict(torch.load(Path(folder) / f"{name}.pt", weights_only=True))
    return net.eval().requires_grad_(False).to(device)
