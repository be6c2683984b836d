"""One technique a file. A file here is a command, a report section and a line in the documentation.

Modules of this package must not import torch or onnxruntime at the top: a list of all methods with their
parameters imports them all. ``convlens --help`` imports none of them, it reads each ``summary = "..."``.

``convlens.methods`` is this package, and ``convlens.methods()`` the registry: Python binds a package
to its parent under its own name as soon as it is imported, so the package itself is what is called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convlens.registry import Method


class _Methods(ModuleType):
    """This package, callable."""

    def __call__(self) -> dict[str, Method[Any]]:
        """Every registered method by name."""
        from convlens import listing

        return listing.everything()


sys.modules[__name__].__class__ = _Methods
