"""torchvision: every family of classifiers, segmenters, detectors, video nets; random weights."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from convlens_adapters.corpus.items import Item, spread
from convlens_adapters.corpus.torch_export import DYNAMO, LEGACY, export, randomise, torchvision

CLASSIFIERS = {
    "alexnet": 224,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "vgg11": 224,
    "vgg11_bn": 224,
    "maxvit_t": 224,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vit_b_32": 224,
}
SEGMENTERS = (
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)
DETECTORS = (
    "ssdlite320_mobilenet_v3_large",
    "ssd300_vgg16",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
)
VIDEO = {"r3d_18": 64, "mc3_18": 64, "r2plus1d_18": 64, "s3d": 224, "swin3d_t": 64, "mvit_v1_b": 224}
QUANTIZABLE = ("resnet18", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2_x0_5", "googlenet")


def prepare() -> None:
    """Import what every file needs once, before processes are started for them."""
    torchvision()


def items() -> Iterator[Item]:
    """Each net by both exporters, opsets in turn, every second one with an open batch."""
    nets = [
        *(("", name) for name in CLASSIFIERS),
        *(("segmentation", name) for name in SEGMENTERS),
        *(("video", name) for name in VIDEO),
        *(("quantization", name) for name in QUANTIZABLE),
        *(("detection", name) for name in DETECTORS),
    ]
    for index, (kind, name) in enumerate(nets):
        for exporter, opsets in (("legacy", LEGACY), ("dynamo", DYNAMO)):
            opset = spread(opsets, index)
            if exporter == "legacy" and kind == "detection":
                opset = max(opset, 11)
            is_open = index % 2 == 1 and kind != "detection"
            label = "-".join(filter(None, (kind, name, exporter, str(opset), "open" if is_open else "")))
            yield Item(label, partial(_build, kind, name, exporter, opset, is_open))


def _build(kind: str, name: str, exporter: str, opset: int, is_open: bool, path: Path) -> None:
    torch: Any = importlib.import_module("torch")
    package = torchvision()
    torch.manual_seed(0)
    models = package.models
    home = getattr(models, kind) if kind else models
    options: dict[str, Any] = {"weights": None}
    if kind in ("segmentation", "detection"):
        options["weights_backbone"] = None
    if kind == "quantization":
        options["quantize"] = False
    if name in ("googlenet", "inception_v3") and not kind:
        options |= {"init_weights": True, "aux_logits": False}
    elif kind == "quantization" and name == "googlenet":
        options |= {"init_weights": False, "aux_logits": False}
    if name.startswith(("vgg", "alexnet")):
        options["num_classes"] = 10
    module = getattr(home, name)(**options)
    if name.startswith(("vgg", "alexnet")):  # a narrow head: the weights of the full one are half a gigabyte
        for place, layer in enumerate(module.classifier):
            if isinstance(layer, torch.nn.Linear) and layer.in_features > 4096:
                module.classifier[place] = torch.nn.Linear(layer.in_features, 64)
            elif isinstance(layer, torch.nn.Linear):
                wide = 64 if layer.in_features == 4096 else layer.in_features
                module.classifier[place] = torch.nn.Linear(wide, min(layer.out_features, 64))
    module = randomise(module)
    if kind == "video":
        x = torch.rand(1, 3, 16 if name.startswith(("s3d", "mvit")) else 4, VIDEO[name], VIDEO[name])
    elif kind == "detection":
        x = torch.rand(1, 3, 320, 320) if "ssd" in name or "320" in name else torch.rand(1, 3, 256, 256)
        if not name.startswith("ssd"):
            module.transform.min_size, module.transform.max_size = (224,), 320
        x = list(x)
    else:
        side = CLASSIFIERS.get(name, 64) if kind != "segmentation" else 64
        x = torch.rand(2 if is_open else 1, 3, side, side)
    export(module, (x,), path, exporter, opset, (0,) if is_open else ())
