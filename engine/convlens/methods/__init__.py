"""One technique a file. A file here is a command, a report section and a line in the documentation.

Modules of this package must not import torch or onnxruntime at the top: listing the methods is
part of ``convlens --help``.

``convlens.methods`` is this package, and ``convlens.methods()`` the registry: Python binds a package
to its parent under its own name as soon as it is imported, so the package itself is what is called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from convlens import registry


class _Methods(ModuleType):
    """This package, callable."""

    def __call__(self) -> dict[str, registry.Method[Any]]:
        """Every registered method by name."""
        return registry.methods()


sys.modules[__name__].__class__ = _Methods
