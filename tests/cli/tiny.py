"""A small classifier with its card and labels on disk, and photos for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LABELS = ("red fox", "blue whale", "green frog", "grey wolf", "white dove")
SIDE = 32
MEAN = (0.4, 0.45, 0.5)
STD = (0.2, 0.25, 0.3)


def network(
    *, channels: int = 3, side: int = SIDE, nhwc: bool = False, features: bool = False, end: str = ""
) -> onnx.ModelProto:
    """conv, ReLU, max pool, conv, ReLU, global mean, dense: five classes, random weights, the same each time.

    Args:
        channels: of the input.
        side: height and width of the input.
        nhwc: the input has its channels last.
        features: stop at the second ReLU; there are no classes then.
        end: an operator after the dense layer.
    """
    rng = np.random.default_rng(7)
    stored = {
        "stem.weight": rng.normal(0, 0.5, (8, channels, 3, 3)),
        "stem.bias": rng.normal(0, 0.1, 8),
        "body.weight": rng.normal(0, 0.25, (12, 8, 3, 3)),
        "body.bias": rng.normal(0, 0.1, 12),
        "head.weight": rng.normal(0, 1.0, (len(LABELS), 12)),
        "head.bias": rng.normal(0, 0.1, len(LABELS)),
    }
    pads = [1, 1, 1, 1]
    nodes = [helper.make_node("Transpose", ["photo"], ["turned"], perm=[0, 3, 1, 2])] if nhwc else []
    first = "turned" if nhwc else "photo"
    nodes += [
        helper.make_node("Conv", [first, "stem.weight", "stem.bias"], ["stem"], pads=pads),
        helper.make_node("Relu", ["stem"], ["edges"]),
        helper.make_node("MaxPool", ["edges"], ["smaller"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["smaller", "body.weight", "body.bias"], ["body"], pads=pads),
        helper.make_node("Relu", ["body"], ["parts"]),
    ]
    output = "parts"
    if not features:
        nodes += [
            helper.make_node("GlobalAveragePool", ["parts"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["scores"], transB=1),
        ]
        output = "scores"
    if end:
        nodes.append(helper.make_node(end, [output], ["last"]))
        output = "last"
    return model_of(nodes, _dims(channels, side, nhwc), output, stored)


def model_of(
    nodes: list[onnx.NodeProto],
    dims: list[Any],
    output: str,
    stored: dict[str, NDArray[Any]],
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model with one input, ``photo``, and one output."""
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("photo", kind, dims)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in stored.items()
            if name in read
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def _dims(channels: int, side: int, nhwc: bool) -> list[Any]:
    return ["N", side, side, channels] if nhwc else ["N", channels, side, side]


def card_text(channels: int = 3, nhwc: bool = False, labels: bool = True, task: str = "") -> str:
    """The card as it lies beside the model."""
    about = '[model]\nname = "Tiny"\nlicence = "CC0-1.0"\n' + (f'task = "{task}"\n' if task else "")
    layout = "NHWC" if nhwc else "NCHW"
    mean, std = list(MEAN[:channels]), list(STD[:channels])
    given = f'\n[input]\nlayout = "{layout}"\nrange = [0, 1]\nmean = {mean}\nstd = {std}\n'
    return about + given + ('\n[output]\nlabels = "labels.json"\n' if labels else "")


def tiny(folder: Path, card: str | None = "", **options: Any) -> Path:
    """The model with its card and labels in ``folder``; no card where ``card`` is None."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.onnx"
    onnx.save(network(**options), path)
    features = options.get("features", False)
    if card == "":
        card = card_text(
            options.get("channels", 3),
            options.get("nhwc", False),
            labels=not features,
            task="features" if features else "",
        )
    if card is not None:
        (folder / "card.toml").write_text(card, encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")
    return path


def pixels(seed: int, height: int = 40, width: int = 48) -> NDArray[np.uint8]:
    """A photo of nothing: a coloured ramp with a bright spot, another one for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    base = rng.uniform(20, 235, 3) + np.stack([rows, columns, rows - columns], axis=2) * rng.uniform(-2, 2, 3)
    base[rows + columns > height] += rng.uniform(-120, 120, 3)
    top, left = int(rng.integers(5, height - 15)), int(rng.integers(5, width - 15))
    base[top : top + 10, left : left + 10] = rng.uniform(0, 255, 3)
    return np.clip(base, 0, 255).astype(np.uint8)


def photos(folder: Path, count: int = 3) -> list[Path]:
    """Photos as PNG files: ``photo0.png`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(count):
        path = folder / f"photo{seed}.png"
        Image.fromarray(pixels(seed)).save(path)
        paths.append(path)
    return paths


def no_picture(path: Path) -> Path:
    """A file that says it is a picture and is none."""
    path.write_bytes(b"this is no picture")
    return path
