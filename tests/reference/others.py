"""Small models whose inputs are no photos, or whose outputs are no class scores: one table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node
FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


@dataclass(frozen=True)
class Other:
    """One model, how it must be understood, and a target that fits it.

    Attributes:
        make: gives the model.
        shape: of one input, without the batch axis, open axes filled.
        kind: what the input holds.
        layout: order of the axes.
        target: what can be explained; None where it has classes.
        refused: for each method that cannot run, words of its refusal.
        settings: of the card.
        integers: where it takes them, the smallest random one and one after the largest.
    """

    make: Callable[[], onnx.ModelProto]
    shape: tuple[int, ...]
    kind: str
    layout: str
    target: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    integers: tuple[int, int] | None = None

    def arrays(self, count: int = 3, seed: int = 0) -> NDArray[Any]:
        """Random inputs, as the model takes them."""
        rng = np.random.default_rng(100 + seed)
        if self.kind == "board":
            size = self.shape[-2:] if self.layout == "NCHW" else self.shape[:2]
            points = rng.integers(0, 3, (count, *size))
            planes = np.stack([points == 1, points == 2, np.ones_like(points)], axis=1).astype(np.float32)
            return planes if self.layout == "NCHW" else np.moveaxis(planes, 1, -1)
        if self.integers is not None:
            kind = np.uint8 if self.integers == (0, 256) else np.int64
            return rng.integers(*self.integers, (count, *self.shape)).astype(kind)
        return rng.standard_normal((count, *self.shape)).astype(np.float32)


class Maker:
    """Nodes and weights as they are added."""

    def __init__(self, seed: int = 5) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, NDArray[Any]] = {}

    def weight(self, name: str, *shape: int) -> str:
        inputs = int(np.prod(shape[1:])) or 1
        self.stored[name] = self.rng.normal(0, 1.4 * inputs**-0.5, shape).astype(np.float32)
        return name

    def constant(self, name: str, *numbers: int) -> str:
        self.stored[name] = np.array(numbers, np.int64)
        return name

    def add(self, op: str, inputs: str, output: str, **attributes: Any) -> str:
        self.nodes.append(node(op, inputs.split(), output.split(), **attributes))
        return output

    def conv(self, x: str, name: str, outputs: int, inputs: int, *kernel: int, **attributes: Any) -> str:
        """A convolution that keeps the size, and a rectifier."""
        self.weight(f"{name}_w", outputs, inputs, *kernel)
        pads = [k // 2 for k in kernel] * 2
        self.add("Conv", f"{x} {name}_w", name, pads=pads, **attributes)
        return self.add("Relu", name, f"{name}_relu")

    def scores(self, x: str, inputs: int, classes: int, name: str = "scores") -> str:
        """Global mean, then a dense layer."""
        self.add("GlobalAveragePool", x, f"{name}_mean")
        self.add("Flatten", f"{name}_mean", f"{name}_flat")
        self.weight(f"{name}_w", classes, inputs)
        return self.add("Gemm", f"{name}_flat {name}_w", name, transB=1)

    def model(
        self, dims: Sequence[Any], outputs: str, name: str = "x", dtype: int = FLOAT
    ) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(end, FLOAT, None) for end in outputs.split()]
        arrays = [numpy_helper.from_array(array, key) for key, array in self.stored.items()]
        start = helper.make_tensor_value_info(name, dtype, list(dims))
        graph = helper.make_graph(self.nodes, "net", [start], ends, arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


def waveform() -> onnx.ModelProto:
    m = Maker()
    m.conv("x", "wave1", 6, 1, 9, strides=[2])
    m.conv("wave1_relu", "wave2", 8, 6, 5)
    return m.model(["N", 1, 200], m.scores("wave2_relu", 8, 4))


def bare_waveform() -> onnx.ModelProto:
    m = Maker()
    m.constant("one", 1)
    m.add("Unsqueeze", "x one", "lifted")
    m.conv("lifted", "wave1", 6, 1, 9, strides=[4])
    return m.model(["N", "samples"], m.scores("wave1_relu", 6, 4))


def many_channels() -> onnx.ModelProto:
    m = Maker()
    m.conv("x", "lead1", 6, 12, 7)
    return m.model(["N", 12, 150], m.scores("lead1_relu", 6, 3))


def electrodes() -> onnx.ModelProto:
    """Time along one axis of a picture that is one pixel high, channels last."""
    m = Maker()
    m.add("Transpose", "x", "turned", perm=[0, 3, 1, 2])
    m.conv("turned", "lead1", 6, 2, 1, 7)
    return m.model(["N", 1, 120, 2], m.scores("lead1_relu", 6, 3))


def channels_last_signal() -> onnx.ModelProto:
    m = Maker()
    m.add("Transpose", "x", "turned", perm=[0, 2, 1])
    m.conv("turned", "lead1", 6, 3, 7)
    return m.model(["N", 90, 3], m.scores("lead1_relu", 6, 3))


def spectrogram() -> onnx.ModelProto:
    m = Maker()
    m.conv("mel", "spec1", 6, 1, 1, 5)
    m.conv("spec1_relu", "spec2", 6, 6, 3, 3, strides=[2, 2])
    return m.model(["N", 1, 24, 60], m.scores("spec2_relu", 6, 4), name="mel")


def tokens() -> onnx.ModelProto:
    m = Maker()
    m.stored["table"] = m.rng.normal(0, 1, (30, 8)).astype(np.float32)
    m.add("Gather", "table x", "embedded")
    m.add("Transpose", "embedded", "turned", perm=[0, 2, 1])
    m.conv("turned", "text1", 10, 8, 3)
    m.add("GlobalMaxPool", "text1_relu", "most")
    m.add("Flatten", "most", "flat")
    m.weight("scores_w", 3, 10)
    m.add("Gemm", "flat scores_w", "scores", transB=1)
    return m.model(["N", 12], "scores", dtype=INT64)


def one_hot_tokens() -> onnx.ModelProto:
    m = Maker()
    m.constant("depth", 20)
    m.stored["depth"] = np.array(20, np.int64)
    m.stored["off_on"] = np.array([0, 1], np.float32)
    m.stored["table"] = m.rng.normal(0, 1, (20, 6)).astype(np.float32)
    m.add("OneHot", "x depth off_on", "hot")
    m.add("MatMul", "hot table", "embedded")
    m.add("Transpose", "embedded", "turned", perm=[0, 2, 1])
    m.conv("turned", "text1", 8, 6, 3)
    return m.model(["N", 9], m.scores("text1_relu", 8, 3), dtype=INT64)


def video(layout: str = "NCTHW") -> onnx.ModelProto:
    m = Maker()
    dims, order = {
        "NCTHW": (["N", 3, 6, 10, 12], None),
        "NTCHW": (["N", 6, 3, 10, 12], [0, 2, 1, 3, 4]),
        "NTHWC": (["N", 6, 10, 12, 3], [0, 4, 1, 2, 3]),
    }[layout]
    start = "x"
    if order is not None:
        start = m.add("Transpose", "x", "turned", perm=order)
    m.conv(start, "clip1", 5, 3, 3, 3, 3, strides=[1, 2, 2])
    return m.model(dims, m.scores("clip1_relu", 5, 3))


def volume() -> onnx.ModelProto:
    m = Maker()
    m.conv("x", "scan1", 4, 1, 3, 3, 3)
    return m.model(["N", 1, 8, 9, 10], m.scores("scan1_relu", 4, 2))


def board(nhwc: bool = False) -> onnx.ModelProto:
    """A policy over 81 points and pass, and a value between -1 and 1."""
    m = Maker()
    start = m.add("Transpose", "x", "turned", perm=[0, 3, 1, 2]) if nhwc else "x"
    m.conv(start, "tower1", 8, 3, 3, 3)
    m.conv("tower1_relu", "tower2", 8, 8, 3, 3)
    m.conv("tower2_relu", "head", 2, 8, 1, 1)
    m.add("Flatten", "head_relu", "points")
    m.weight("policy_w", 362, 2 * 361)
    m.add("Gemm", "points policy_w", "policy", transB=1)
    m.weight("value_w", 1, 2 * 361)
    m.add("Gemm", "points value_w", "before_value", transB=1)
    m.add("Tanh", "before_value", "value")
    return m.model(["N", 19, 19, 3] if nhwc else ["N", 3, 19, 19], "policy value")


def value_only() -> onnx.ModelProto:
    m = Maker()
    m.conv("x", "tower1", 6, 3, 3, 3)
    m.conv("tower1_relu", "policy_head", 1, 6, 1, 1)
    m.add("ReduceMean", "policy_head_relu", "value", axes=[1, 2, 3], keepdims=0)
    return m.model(["N", 3, 19, 19], "policy_head_relu value")


def vector() -> onnx.ModelProto:
    m = Maker()
    m.weight("w1", 12, 10)
    m.add("Gemm", "x w1", "hidden", transB=1)
    m.add("Relu", "hidden", "active")
    m.weight("w2", 3, 12)
    m.add("Gemm", "active w2", "scores", transB=1)
    return m.model(["N", 10], "scores")


def planes() -> onnx.ModelProto:
    """Seven bands, not square."""
    m = Maker()
    m.conv("x", "band1", 6, 7, 3, 3, strides=[2, 2])
    return m.model(["N", 7, 18, 26], m.scores("band1_relu", 6, 4))


def channels_last_photo() -> onnx.ModelProto:
    m = Maker()
    m.add("Transpose", "x", "turned", perm=[0, 3, 1, 2])
    m.conv("turned", "conv1", 6, 3, 3, 3)
    return m.model(["N", "H", "W", 3], m.scores("conv1_relu", 6, 4))


def bytes_photo() -> onnx.ModelProto:
    m = Maker()
    m.add("Cast", "x", "real", to=FLOAT)
    m.add("Transpose", "real", "turned", perm=[0, 3, 1, 2])
    m.conv("turned", "conv1", 6, 3, 3, 3)
    return m.model(["N", 14, 16, 3], m.scores("conv1_relu", 6, 4), dtype=UINT8)


def segmenter() -> onnx.ModelProto:
    m = Maker()
    m.conv("x", "conv1", 6, 3, 3, 3)
    m.weight("seg_w", 4, 6, 1, 1)
    m.add("Conv", "conv1_relu seg_w", "masks")
    return m.model(["N", 3, 16, 20], "masks")


def detector() -> onnx.ModelProto:
    """Boxes and scores of 20 cells, N x 20 x 7."""
    m = Maker()
    m.conv("x", "conv1", 6, 3, 3, 3, strides=[4, 4])
    m.weight("det_w", 7, 6, 1, 1)
    m.add("Conv", "conv1_relu det_w", "grid")
    m.constant("to", 0, 7, -1)
    m.add("Reshape", "grid to", "rows")
    m.add("Transpose", "rows", "boxes", perm=[0, 2, 1])
    return m.model(["N", 3, 16, 20], "boxes")


def reader() -> onnx.ModelProto:
    """A sequence of classes along the width, time x batch x classes."""
    m = Maker()
    m.conv("x", "conv1", 6, 1, 3, 3)
    m.add("ReduceMean", "conv1_relu", "columns", axes=[2], keepdims=0)
    m.add("Transpose", "columns", "letters", perm=[2, 0, 1])
    return m.model(["N", 1, 12, 30], "letters")


UNIT = {"mean": [0.5], "std": [0.25]}
NO_CLASSES = {"predict": "predict ranks classes, but the model has no class scores"}
NO_TOKENS = {
    "visualise": "holds integers",
    "dream": "holds integers",
    "invert": "holds integers",
    "fool": "holds integers",
    "fool-from-noise": "holds integers",
    "style": "holds integers",
    "texture": "holds integers",
    "invariance": "a sequence of tokens has no numbers between two tokens",
    "score-cam": "the numbers of tokens cannot be dimmed",
}
CAMS = ("grad-cam", "grad-cam-plus-plus", "layer-cam", "score-cam", "eigen-cam", "guided-grad-cam")
ALL_BYTES = {"range": [0, 255]}

OTHERS: dict[str, Other] = {
    "waveform": Other(waveform, (1, 200), "signal", "NCT"),
    "waveform without channels": Other(bare_waveform, (160,), "signal", "NT", settings={"size": [160]}),
    "twelve leads": Other(many_channels, (12, 150), "signal", "NCT"),
    "electrodes": Other(electrodes, (1, 120, 2), "signal", "N1TC"),
    "signal, channels last": Other(channels_last_signal, (90, 3), "signal", "NTC"),
    "spectrogram": Other(spectrogram, (1, 24, 60), "spectrogram", "NCHW"),
    "tokens": Other(tokens, (12,), "tokens", "NT", integers=(1, 30), refused=NO_TOKENS),
    "one-hot tokens": Other(one_hot_tokens, (9,), "tokens", "NT", integers=(1, 20), refused=NO_TOKENS),
    "video": Other(video, (3, 6, 10, 12), "video", "NCTHW"),
    "video, time first": Other(lambda: video("NTCHW"), (6, 3, 10, 12), "video", "NTCHW"),
    "video, channels last": Other(lambda: video("NTHWC"), (6, 10, 12, 3), "video", "NTHWC"),
    "volume": Other(volume, (1, 8, 9, 10), "volume", "NCTHW"),
    "board": Other(board, (3, 19, 19), "board", "NCHW"),
    "board, channels last": Other(lambda: board(nhwc=True), (19, 19, 3), "board", "NHWC"),
    "board without classes": Other(
        value_only, (3, 19, 19), "board", "NCHW", target="policy_head_relu[0,0,3,3]", refused=NO_CLASSES
    ),
    "vector": Other(
        vector,
        (10,),
        "vector",
        "NC",
        refused={
            "filters": "the model has no convolution with constant weights",
            "channels": "the model has no layer whose units have a place in the image",
            "spikes": "the model has no layer whose units have a place in the image",
            "deconvnet": "the model has no layer whose units have a place in the image",
            **dict.fromkeys(
                (*CAMS, "style", "texture"), "the model has no layer whose units have a place in the input"
            ),
            "invariance": "a vector of features has no places",
            "dream": "which has no places",
        },
    ),
    "planes": Other(planes, (7, 18, 26), "image", "NCHW"),
    "photo, channels last": Other(
        channels_last_photo, (14, 16, 3), "photo", "NHWC", settings={**UNIT, "size": [14, 16]}
    ),
    "bytes": Other(bytes_photo, (14, 16, 3), "photo", "NHWC", settings=ALL_BYTES, integers=(0, 256)),
    "segmenter": Other(
        segmenter,
        (3, 16, 20),
        "photo",
        "NCHW",
        target="1@peak",
        refused={
            **NO_CLASSES,
            **dict.fromkeys(("visualise", "fool-from-noise", "dream"), "is found on an image"),
        },
        settings=UNIT,
    ),
    "detector": Other(
        detector, (3, 16, 20), "photo", "NCHW", target="boxes[0,:,4].max", refused=NO_CLASSES, settings=UNIT
    ),
    "reader": Other(
        reader,
        (1, 12, 30),
        "photo",
        "NCHW",
        target="conv1:2",
        refused={**NO_CLASSES, **dict.fromkeys(CAMS, "no layer between the input and channel 2 of conv1")},
        settings={"channels": "GRAY", **UNIT},
    ),
}
PHOTOS_ONLY = {
    "spikes": "a background is needed, and none comes along",
    "faststyle": "a style is learnt with a network that takes photos",
    "style": "takes no photo but",
}
OTHERS |= {
    name: replace(other, refused={**PHOTOS_ONLY, **other.refused})
    for name, other in OTHERS.items()
    if other.kind != "photo"
}
OF_ONE_CLASS = (
    "waveform", "twelve leads", "signal, channels last", "spectrogram", "tokens", "video",
    "video, time first", "video, channels last", "volume", "board without classes", "planes",
    "photo, channels last", "bytes", "segmenter", "detector", "reader",
)  # fmt: skip
"""Models that take all of a few random inputs for the same class, or that have none."""
OTHERS |= {
    name: replace(OTHERS[name], refused={"classes": "expected images of two classes", **OTHERS[name].refused})
    for name in OF_ONE_CLASS
}
"""Every model by what it is. A method that is not named in ``refused`` runs on it."""
