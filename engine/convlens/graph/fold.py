"""Constants: nodes that depend on nothing but constants are computed once, when the graph is built.

Only the view that PyTorch and the layer table are built from is folded. onnxruntime runs the nodes
as they are, so the certificate also holds the folding against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from convlens.graph.evaluate import alone
from convlens.graph.graph import Node

_LIMIT = 1 << 27  # elements that a folded value may have before it is left in the graph
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"}


def fold(
    nodes: Sequence[Node], stored: Mapping[str, NDArray[Any]]
) -> tuple[list[Node], dict[str, NDArray[Any]]]:
    """The nodes that remain, and every constant by value name."""
    constants = dict(stored)
    left = []
    for node in nodes:
        results = _evaluate(node, constants)
        if results is None:
            left.append(node)
        else:
            constants.update(zip([name for name in node.outputs if name], results, strict=False))
    return left, constants


def _evaluate(node: Node, constants: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]] | None:
    names = [name for name in node.inputs if name]
    if node.domain or node.op in _RANDOM or any(name not in constants for name in names):
        return None
    if any(not _plain(value) for value in node.attributes.values()):
        return None
    if node.op == "Identity":
        return [constants[names[0]]]
    if node.op == "Cast":
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attr("to"))
        return [constants[names[0]].astype(dtype)]
    proto = onnx.helper.make_node(
        node.op, list(node.inputs), list(node.outputs), **{k: _raw(v) for k, v in node.attributes.items()}
    )
    feeds = {name: constants[name] for name in names}
    model = alone(proto, node.version, feeds)
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
    except Exception:
        return None  # the executors compute it, and the certificate compares them
    arrays = [np.asarray(result) for result in results]
    return arrays if sum(array.size for array in arrays) <= _LIMIT else None


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return isinstance(value, (int, float, str, bytes, np.ndarray))


def _raw(value: Any) -> Any:
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
