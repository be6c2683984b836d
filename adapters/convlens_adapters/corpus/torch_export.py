"""PyTorch modules as ONNX files, by both of torch's exporters."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEGACY = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
"""Opsets that the exporter by tracing writes."""

DYNAMO = (18, 19, 20, 21, 22, 23)
"""Opsets that the exporter by torch.export writes."""


def randomise(module: Any, seed: int = 0) -> Any:
    """Give BatchNorm statistics and scales that a trained network could have, so that folding shows.

    Fresh ones are 0 and 1, which hide a swapped mean and variance. Matrices that start at 0 (the heads of
    some networks) get numbers too: behind one, every input gives the same.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Any, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for part in module.modules():
            if getattr(part, "running_mean", None) is not None:
                uniform(part.running_mean, -0.3, 0.3)
                uniform(part.running_var, 0.5, 1.5)
                if getattr(part, "weight", None) is not None:
                    uniform(part.weight, 0.6, 1.4)
                    uniform(part.bias, -0.2, 0.2)
        for weight in module.parameters():
            if weight.dim() > 1 and not bool(weight.any()):
                uniform(weight, -0.05, 0.05)
    return module.eval()


def export(
    module: Any,
    inputs: Sequence[Any],
    path: Path,
    exporter: str,
    opset: int,
    dynamic: Sequence[int] = (),
    names: Sequence[str] = (),
) -> None:
    """Write ``module`` to ``path``.

    Args:
        module: in evaluation mode.
        inputs: example tensors.
        path: the file.
        exporter: ``legacy`` (tracing) or ``dynamo`` (torch.export).
        opset: version of the operators.
        dynamic: axes of every input that the file leaves open.
        names: of the inputs.
    """
    import torch

    named = list(names) or [f"input{i}" if i else "input" for i in range(len(inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "legacy":
            axes = {name: {axis: f"axis{axis}" for axis in dynamic} for name in named} if dynamic else None
            torch.onnx.export(
                module,
                tuple(inputs),
                str(path),
                input_names=named,
                opset_version=opset,
                dynamic_axes=axes,
                dynamo=False,
            )
            return
        shapes: Any = None
        if dynamic:
            dims = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
            shapes = tuple(dict(dims) for _ in inputs)
        program = torch.onnx.export(
            module,
            tuple(inputs),
            input_names=named,
            opset_version=opset,
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def torchvision() -> Any:
    """The torchvision package, with its detection operators in Python where its own do not load.

    torchvision's binary fits one build of torch only; its models need just ``nms`` from it, and both
    exporters write that as ONNX's NonMaxSuppression, whoever computes it while tracing.
    """
    torch: Any = importlib.import_module("torch")
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        pass
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
            "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
        )
    except RuntimeError:
        pass  # defined by an earlier try
    library.impl("nms", _nms, "CPU")
    library.impl("roi_align", _roi_align, "CPU")
    found = importlib.import_module("torchvision")
    extension: Any = importlib.import_module("torchvision.extension")
    extension._has_ops = _has_ops
    _KEPT.append(library)
    return found


_KEPT: list[Any] = []


def _has_ops() -> bool:
    return True


def _nms(dets: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy suppression, the plain way."""
    import torch

    order = scores.argsort(descending=True)
    kept = []
    area = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        corner = torch.maximum(dets[first, :2], dets[rest, :2])
        other = torch.minimum(dets[first, 2:], dets[rest, 2:])
        both = (other - corner).clamp(min=0).prod(dim=1)
        order = rest[both / (area[first] + area[rest] - both) <= iou_threshold]
    return torch.stack(kept) if kept else scores.new_zeros(0, dtype=torch.long)


def _roi_align(
    features: Any, rois: Any, scale: float, height: int, width: int, ratio: int, aligned: bool
) -> Any:
    """Zeros of the right shape: while exporting only the shape matters."""
    del scale, ratio, aligned
    return features.new_zeros(len(rois), features.shape[1], height, width)
