"""What a person is told where PyTorch fails at a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convlens.errors import UnsupportedError

if TYPE_CHECKING:
    from convlens.graph.graph import Node


TORCH = (RuntimeError, ValueError, TypeError, IndexError)
"""What torch raises where an operator cannot be computed; no error of ours is one of them."""


@contextmanager
def named(node: Node) -> Iterator[None]:
    """Errors of torch inside the block as one that names ``node``.

    Raises:
        UnsupportedError: in place of what torch raised.
    """
    try:
        yield
    except TORCH as error:
        raise failed(node, error) from error


def failed(node: Node, error: Exception) -> UnsupportedError:
    """``error`` as one that names ``node``."""
    where = node.name or node.outputs[0]
    return UnsupportedError(f"{node.full_op} node {where!r} failed in PyTorch: {error}")
