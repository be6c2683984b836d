"""Segmenters and detectors with hand-made weights: a class is a colour, so that every answer is known.

Pictures are 3 x 16 x 20, black but for squares of one colour: class 1 is red, class 2 green, class 0 neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from reference.others import Maker

LABELS = ["nothing", "tomato", "leaf"]
HEIGHT, WIDTH, STEP = 16, 20, 4
RED = [(2, 6, 3, 8), (10, 14, 12, 19)]
"""Red squares of the first picture: first row, row after the last, first column, column after the last."""
GREEN = [(9, 14, 2, 7)]
DIMS = ["N", 3, HEIGHT, WIDTH]


def picture(red: list[tuple[int, ...]] = RED, green: list[tuple[int, ...]] = GREEN) -> NDArray[np.float32]:
    """One picture, 1 x 3 x 16 x 20."""
    found = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    for colour, squares in enumerate((red, green)):
        for top, bottom, left, right in squares:
            found[0, colour, top:bottom, left:right] = 1
    return found


def moved() -> NDArray[np.float32]:
    """Another picture: the colours change places."""
    return picture(GREEN, RED)


def _colours(m: Maker, x: str, name: str, gain: float = 1.0, nothing: bool = True) -> str:
    """Scores of nothing (always half the gain), red and green at every pixel."""
    weights = gain * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)[0 if nothing else 1 :]
    bias = gain * np.array([0.5, 0, 0], np.float32)[0 if nothing else 1 :]
    m.stored[f"{name}_w"], m.stored[f"{name}_b"] = weights[:, :, None, None], bias
    return m.add("Conv", f"{x} {name}_w {name}_b", name)


def segmenter(end: str = "plain", dims: list[Any] = DIMS) -> onnx.ModelProto:
    """One score a class and pixel; ``end`` is what stands behind the scores, or before them."""
    m = Maker()
    if end == "halved":
        m.add("AveragePool", "x", "small", kernel_shape=[2, 2], strides=[2, 2])
        return m.model(dims, _colours(m, "small", "scores"))
    if end == "cut":  # windows of 5 pixels, none of which leaves the picture
        m.add("AveragePool", "x", "small", kernel_shape=[5, 5])
        return m.model(dims, _colours(m, "small", "scores"))
    if end == "one":
        m.stored["w"], m.stored["b"] = np.array([8, 0, 0], np.float32)[None, :, None, None], np.float32([-4])
        m.add("Conv", "x w b", "scores")
        return m.model(dims, m.add("Sigmoid", "scores", "mask"))
    _colours(m, "x", "scores", 4.0 if end in ("softmax", "last") else 1.0)
    if end == "softmax":
        return m.model(dims, m.add("Softmax", "scores", "mask", axis=1))
    if end == "last":
        m.add("Transpose", "scores", "turned", perm=[0, 2, 3, 1])
        return m.model(dims, m.add("Softmax", "turned", "mask", axis=-1))
    if end == "index":
        m.add("ArgMax", "scores", "mask", axis=1, keepdims=0)
        proto = m.model(dims, "mask")
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        return proto
    return m.model(dims, "scores")


CELLS = [(row, column) for row in range(HEIGHT // STEP) for column in range(WIDTH // STEP)]
SIDE = 6.0


def corners() -> NDArray[np.float32]:
    """Left, upper, right and lower end of the box of each cell, 20 x 4: 6 pixels about its middle."""
    middles = np.array([((c + 0.5) * STEP, (r + 0.5) * STEP) for r, c in CELLS], np.float32)
    return np.concatenate([middles - SIDE / 2, middles + SIDE / 2], axis=1)


def centred() -> NDArray[np.float32]:
    """The same boxes as middle column, middle row, width, height."""
    found = corners()
    return np.concatenate([(found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]], axis=1)


def logits(image: NDArray[Any], gain: float = 8.0) -> NDArray[np.float64]:
    """What a detector gives before its sigmoid for each cell and colour, 20 x 2, by plain loops."""
    return np.array(
        [
            [gain * (image[c, r * 4 : r * 4 + 4, k * 4 : k * 4 + 4].mean(dtype=float) - 0.5) for c in (0, 1)]
            for r, k in CELLS
        ]
    )


def sigmoid(value: NDArray[Any]) -> NDArray[Any]:
    """For the expected scores."""
    return np.asarray(1 / (1 + np.exp(-value)))


def _cells(m: Maker, nothing: bool = False) -> str:
    """Scores of red and green (nothing before them, where asked) of each cell, N x classes x 20."""
    m.add("AveragePool", "x", "means", kernel_shape=[STEP, STEP], strides=[STEP, STEP])
    m.stored["w"] = 8 * np.eye(3, dtype=np.float32)[[2, 0, 1] if nothing else [0, 1]][:, :, None, None]
    m.stored["b"] = np.array([0, -4, -4] if nothing else [-4, -4], np.float32)
    m.add("Conv", "means w b", "grid")
    m.constant("flat", 0, 3 if nothing else 2, -1)
    return m.add("Reshape", "grid flat", "logits")


def _boxes(m: Maker, boxes: NDArray[np.float32], x: str, axis: int = 1) -> str:
    """Constant boxes for every image, N x 4 x 20, or N x 20 x 4 along ``axis`` 2; ``x`` tells N."""
    m.stored["zero"], m.stored["cells"] = np.float32([0]), boxes.T[None].copy()
    m.add("Mul", f"{x} zero", "nothing")
    m.constant("over", 1)
    m.add("ReduceSum", "nothing over", "none", keepdims=1)
    m.add("Add", "none cells", "lying")
    return m.add("Transpose", "lying", "boxes", perm=[0, 2, 1]) if axis == 2 else "lying"


def yolo(form: str = "numbers first", boxes: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """All in one output: N x (4 + 2) x 20; or N x 20 x (4 + 1 + 2) with an objectness of 0.5 everywhere."""
    m = Maker()
    x = _cells(m)
    lying = _boxes(m, centred() if boxes is None else boxes, x)
    m.add("Sigmoid", "logits", "shares")
    if form == "numbers first":
        return m.model(DIMS, m.add("Concat", f"{lying} shares", "found", axis=1))
    m.stored["half"] = np.float32([0.5])
    m.add("Add", "none half", "any")
    m.add("Concat", f"{lying} any shares", "rows", axis=1)
    return m.model(DIMS, m.add("Transpose", "rows", "found", perm=[0, 2, 1]))


def apart(boxes: NDArray[np.float32] | None = None, nothing: bool = True) -> onnx.ModelProto:
    """Boxes N x 20 x 4 and, after a softmax, class scores N x 20 x 3, nothing first."""
    m = Maker()
    x = _cells(m, nothing)
    _boxes(m, corners() if boxes is None else boxes, x, 2)
    m.add("Transpose", "logits", "turned", perm=[0, 2, 1])
    m.add("Softmax" if nothing else "Sigmoid", "turned", "scores", **({"axis": -1} if nothing else {}))
    return m.model(DIMS, "boxes scores")


def listed() -> onnx.ModelProto:
    """N x 20 x 6: corners, best score and its class."""
    m = Maker()
    _boxes(m, corners(), _cells(m))
    m.add("Sigmoid", "logits", "shares")
    m.add("ReduceMax", "shares", "best", axes=[1])
    m.add("ArgMax", "shares", "which", axis=1, keepdims=1)
    m.add("Cast", "which", "class", to=TensorProto.FLOAT)
    m.add("Concat", "lying best class", "rows", axis=1)
    return m.model(DIMS, m.add("Transpose", "rows", "found", perm=[0, 2, 1]))


def tensorflow() -> onnx.ModelProto:
    """Three outputs by their usual names: rows first in shares of the picture, classes from 1, as reals."""
    m = Maker()
    rows_first = corners()[:, [1, 0, 3, 2]] / np.float32([HEIGHT, WIDTH, HEIGHT, WIDTH])
    _boxes(m, rows_first, _cells(m))
    m.add("Transpose", "lying", "detection_boxes", perm=[0, 2, 1])
    m.add("Sigmoid", "logits", "shares")
    m.add("ReduceMax", "shares", "detection_scores", axes=[1], keepdims=0)
    m.add("ArgMax", "shares", "which", axis=1, keepdims=0)
    m.add("Cast", "which", "class", to=TensorProto.FLOAT)
    m.stored["one"] = np.float32([1])
    m.add("Add", "class one", "detection_classes")
    return m.model(DIMS, "detection_boxes detection_scores detection_classes")


def suppressed() -> onnx.ModelProto:
    """What a suppression keeps of one picture: boxes M x 4, scores M, classes M (0 red, 1 green)."""
    m = Maker()
    _boxes(m, corners(), _cells(m), 2)
    m.add("Sigmoid", "logits", "shares")
    m.constant("most", 10)
    m.stored["overlap"], m.stored["least"] = np.float32([0.1]), np.float32([0.3])
    m.add("NonMaxSuppression", "boxes shares most overlap least", "kept")
    m.constant("last", 2)
    m.constant("middle", 1)
    m.constant("first", 0)
    for name in ("last", "middle"):
        m.add("Gather", f"kept {name}", f"{name}_of", axis=1)
    m.add("Squeeze", "last_of middle", "numbers")
    m.add("Squeeze", "middle_of middle", "labels")
    m.add("Squeeze", "boxes first", "all")
    m.add("Gather", "all numbers", "found", axis=0)
    m.add("GatherND", "shares kept", "scores")
    proto = m.model([1, 3, HEIGHT, WIDTH], "found scores labels")
    proto.graph.output[2].type.tensor_type.elem_type = TensorProto.INT64
    return proto


def stretches() -> onnx.ModelProto:
    """A signal of two leads; for every second sample one score for silence (always 0.5) and one a lead."""
    m = Maker()
    m.stored["w"] = np.float32([[0, 0], [1, 0], [0, 1]])[:, :, None]
    m.stored["b"] = np.float32([0.5, 0, 0])
    m.add("AveragePool", "x", "small", kernel_shape=[2], strides=[2])
    return m.model(["N", 2, 40], m.add("Conv", "small w b", "scores"))


def two_heads() -> onnx.ModelProto:
    """Class scores of two outputs: ``kind`` (of 3, after a softmax) and ``colour`` (of 2)."""
    m = Maker()
    m.add("GlobalAveragePool", "x", "mean")
    m.add("Flatten", "mean", "flat")
    m.stored["kind_w"] = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float32)
    m.stored["colour_w"] = np.array([[5, 0, 0], [0, 7, 0]], np.float32)
    m.add("Gemm", "flat kind_w", "kind_scores", transB=1)
    m.add("Softmax", "kind_scores", "kind", axis=1)
    m.add("Gemm", "flat colour_w", "colour", transB=1)
    return m.model(DIMS, "kind colour")


def windows() -> onnx.ModelProto:
    """Four numbers and two scores for each window of 6 x 6 pixels, every 2 pixels."""
    m = Maker()
    weights = np.zeros((2, 3, 6, 6), np.float32)
    weights[1, 0] = 8 / 36
    m.stored["w"], m.stored["b"] = weights, np.float32([0, -4])
    m.add("Conv", "x w b", "scores", strides=[2, 2])
    m.stored["box_w"] = np.zeros((4, 3, 6, 6), np.float32)
    m.add("Conv", "x box_w", "box", strides=[2, 2])
    m.add("Softmax", "scores", "prob", axis=1)
    return m.model(DIMS, "box prob")
