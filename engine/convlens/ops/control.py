"""Control flow that is still there after the passes: what runs is decided while the model runs."""

from __future__ import annotations

from convlens.ops.table import Forward, TorchNode, operator


@operator("If", kind="control")
def branch(node: TorchNode) -> Forward:
    """One of two branches, chosen in every forward; called with the condition, then what they capture.

    The condition holds for all images of a batch at once, and no gradient goes into it: where it changes
    over, the outcome jumps.
    """
    return node.branching()


@operator("Loop", "Scan", "SequenceMap", kind="control")
def loop(node: TorchNode) -> Forward:
    """Refused: how often the body runs is not known beforehand."""
    raise node.refuse("dynamic control flow (a loop)")
