"""The opset under which onnxruntime is quickest with some nodes."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto, OperatorSetIdProto, defs, helper

_QUICK = 18
"""The last opset whose AveragePool onnxruntime computes with its vectorised kernel. From 19 on, which knows
dilations, it goes number by number where values do not lie in its blocked layout, as a cut does not."""

_WIDENED = frozenset(
    {
        "AveragePool", "Constant", "Conv", "ConvTranspose", "Elu", "Flatten", "GlobalAveragePool",
        "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "MaxPool", "Mish", "ReduceMax", "ReduceMin",
        "Reshape", "Selu", "Shape", "Softplus", "Softsign", "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that later opsets only opened to further types of numbers, or gave attributes of their own."""


def quickest(nodes: Sequence[NodeProto], given: Sequence[OperatorSetIdProto]) -> list[OperatorSetIdProto]:
    """Opsets for ``nodes`` that mean the same to them as ``given``.

    ONNX has one version of an operator under an opset; where all of the nodes have one of the same meaning
    under 18, they go by that if an average pooling is among them, and lose the dilations of 1 that only later
    ones can name.
    """
    own = next((each.version for each in given if each.domain in ("", "ai.onnx")), 0)
    if own <= _QUICK or all(node.op_type != "AveragePool" for node in nodes):
        return [*given]
    if not all(node.domain in ("", "ai.onnx") and _same(node, own) for node in nodes):
        return [*given]
    for node in nodes:
        if node.op_type == "AveragePool":
            kept = [attribute for attribute in node.attribute if attribute.name != "dilations"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return [helper.make_opsetid("", _QUICK)]


def _same(node: NodeProto, opset: int) -> bool:
    """Whether the node means the same under :data:`_QUICK` as under ``opset``."""
    if not defs.has(node.op_type, ""):
        return False
    if defs.get_schema(node.op_type, opset, "").since_version <= _QUICK:
        return True
    if node.op_type not in _WIDENED:
        return False
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "AveragePool":
        dilated = any(step != 1 for step in settings.pop("dilations", ()))
        if dilated or settings.get("ceil_mode", 0):
            return False
    known = defs.get_schema(node.op_type, _QUICK, "").attributes
    return settings.keys() <= known.keys()
