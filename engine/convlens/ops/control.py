"""Control flow that is still there after the passes: what runs is decided by values of the input."""

from __future__ import annotations

from convlens.ops.table import Forward, TorchNode, operator


@operator("If", kind="control")
def branch(node: TorchNode) -> Forward:
    """Refused: one graph cannot stand for both branches. Conditions known beforehand are resolved."""
    raise node.refuse(
        "dynamic control flow (the branch depends on the input, or on a size or another input that --size "
        "and --feed could settle)"
    )


@operator("Loop", "Scan", "SequenceMap", kind="control")
def loop(node: TorchNode) -> Forward:
    """Refused: how often the body runs is not known beforehand."""
    raise node.refuse("dynamic control flow (a loop)")
