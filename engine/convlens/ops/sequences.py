"""Lists of tensors, and values that may be absent. Such a value is a Python list, or None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convlens.ops.given import together
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _index(place: Tensor | None, default: int) -> int:
    return default if place is None else int(place.item())


@operator("SequenceConstruct", kind="sequence")
def sequence_construct(_node: TorchNode) -> Forward:
    """The inputs as a list."""

    def forward(*xs: Tensor) -> Any:
        return list(xs)

    return forward


@operator("SequenceEmpty", kind="sequence")
def sequence_empty(_node: TorchNode) -> Forward:
    """An empty list."""

    def forward() -> Any:
        return []

    return forward


@operator("SequenceAt", kind="sequence")
def sequence_at(_node: TorchNode) -> Forward:
    """One tensor of a list; positions may be counted from the end."""
    return lambda xs, place: xs[_index(place, 0)]


@operator("SequenceInsert", kind="sequence")
def sequence_insert(_node: TorchNode) -> Forward:
    """The list with one more tensor, before a position or at the end."""

    def forward(xs: list[Tensor], x: Tensor, place: Tensor | None = None) -> Any:
        at = _index(place, len(xs))
        at = at + len(xs) if at < 0 else at
        return [*xs[:at], x, *xs[at:]]

    return forward


@operator("SequenceErase", kind="sequence")
def sequence_erase(_node: TorchNode) -> Forward:
    """The list without one of its tensors, the last where no position is given."""

    def forward(xs: list[Tensor], place: Tensor | None = None) -> Any:
        at = _index(place, -1) % len(xs)
        return [*xs[:at], *xs[at + 1 :]]

    return forward


@operator("SequenceLength", kind="sequence")
def sequence_length(_node: TorchNode) -> Forward:
    """How many tensors a list holds."""
    import torch

    return lambda xs: torch.tensor(len(xs), dtype=torch.int64)


@operator("SplitToSequence", kind="sequence")
def split_to_sequence(node: TorchNode) -> Forward:
    """A tensor cut along an axis into a list; into slices of one where no size is given."""
    import torch

    axis, keep = int(node.attr("axis", 0)), bool(node.attr("keepdims", 1))

    def forward(x: Tensor, sizes: Tensor | None = None) -> Any:
        if sizes is None:
            slices = x.unbind(axis)
            return [one.unsqueeze(axis) for one in slices] if keep else list(slices)
        if sizes.dim() == 0:
            each = int(sizes.item())
            return [x.narrow(axis, at, min(each, x.shape[axis] - at)) for at in range(0, x.shape[axis], each)]
        return list(torch.split_with_sizes(x, sizes.tolist(), dim=axis))

    return forward


@operator("ConcatFromSequence", kind="concat")
def concat_from_sequence(node: TorchNode) -> Forward:
    """The tensors of a list end to end along an axis, or stacked on a new one."""
    import torch

    axis, new = int(node.attr("axis")), bool(node.attr("new_axis", 0))

    def forward(xs: list[Tensor]) -> Tensor:
        return (torch.stack if new else torch.cat)(together(*xs), dim=axis)

    return forward


@operator("Optional", "OptionalGetElement", kind="sequence")
def optional(node: TorchNode) -> Forward:
    """The value itself: being optional changes nothing at run time."""

    def forward(*xs: Any) -> Any:
        if node.op == "OptionalGetElement" and (not xs or xs[0] is None):
            raise node.refuse("the element of an empty optional")
        return xs[0] if xs else None

    return forward


@operator("OptionalHasElement", kind="sequence")
def optional_has_element(_node: TorchNode) -> Forward:
    """Whether there is a value."""
    import torch

    return lambda *xs: torch.tensor(bool(xs) and xs[0] is not None)
