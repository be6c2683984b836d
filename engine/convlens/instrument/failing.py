"""What a person is told where PyTorch fails at a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convlens.errors import ConvLensError, UnsupportedError

if TYPE_CHECKING:
    from convlens.graph.graph import Node


@contextmanager
def named(node: Node) -> Iterator[None]:
    """Errors of torch inside the block as one that names ``node``.

    Raises:
        UnsupportedError: in place of what torch raised.
    """
    try:
        yield
    except ConvLensError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        where = node.name or node.outputs[0]
        raise UnsupportedError(f"{node.full_op} node {where!r} failed in PyTorch: {error}") from error
