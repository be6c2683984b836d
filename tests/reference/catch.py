"""Catch, the smallest of screen games: a ball falls on a paddle; its exact values and a net that plays it.

The screen is 10 x 10. The ball falls by one row a step and lands in the last, where the paddle is, one field
wide; it moves left, stays or moves right. The reward is 1 for a caught ball and -1 for a lost one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE = 10
DISCOUNT = 0.9
ACTIONS = ("left", "stay", "right")


def states() -> NDArray[np.int64]:
    """Every state before the ball lands, N x 3: row and column of the ball, column of the paddle."""
    every = np.indices((SIZE - 1, SIZE, SIZE)).reshape(3, -1).T
    return np.asarray(every, np.int64)


def screens(found: NDArray[np.int64]) -> NDArray[np.float32]:
    """N x 1 x 10 x 10, one where ball and paddle are."""
    made = np.zeros((len(found), 1, SIZE, SIZE), np.float32)
    at = np.arange(len(found))
    made[at, 0, found[:, 0], found[:, 1]] = 1
    made[at, 0, SIZE - 1, found[:, 2]] = 1
    return made


def values(found: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each state is worth when played best: the discounted reward, caught where it can be reached."""
    left = SIZE - 1 - found[:, 0]
    reached = np.abs(found[:, 1] - found[:, 2]) <= left
    return np.asarray(np.where(reached, 1.0, -1.0) * DISCOUNT ** (left - 1))


def actions(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Towards the ball: 0 left, 1 stay, 2 right."""
    return np.asarray(1 + np.sign(found[:, 1] - found[:, 2]))


def player(size: int = SIZE) -> onnx.ModelProto:
    """A net that moves towards the ball: two rectifiers see how far it is to the left and to the right."""
    columns = np.tile(np.arange(size, dtype=np.float32), (size, 1))
    columns[-1] *= -1  # the paddle's column is taken from the ball's
    to_the_right = columns.reshape(1, -1)
    arrays: dict[str, NDArray[Any]] = {
        "seen": np.concatenate([-to_the_right, to_the_right]).T,
        "moved": np.array([[1, 0, 0], [0, 0, 1]], np.float32),
        "stayed": np.array([0, 0.5, 0], np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["screen"], ["flat"]),
        helper.make_node("Gemm", ["flat", "seen"], ["distance"]),
        helper.make_node("Relu", ["distance"], ["away"]),
        helper.make_node("Gemm", ["away", "moved", "stayed"], ["q"]),
    ]
    graph = helper.make_graph(
        nodes,
        "catch",
        [helper.make_tensor_value_info("screen", TensorProto.FLOAT, ["N", 1, size, size])],
        [helper.make_tensor_value_info("q", TensorProto.FLOAT, ["N", len(ACTIONS)])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def saved(folder: Path, **more: NDArray[Any]) -> tuple[Path, Path]:
    """The player as ``catch.onnx`` and all states as ``states.npz`` with what they are worth."""
    found = states()
    onnx.save(player(), folder / "catch.onnx")
    np.savez(
        folder / "states.npz",
        observations=screens(found),
        value=values(found),
        row=found[:, 0],
        outcome=np.where(values(found) > 0, "caught", "lost"),
        **more,
    )
    return folder / "catch.onnx", folder / "states.npz"
