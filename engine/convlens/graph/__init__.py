"""One ONNX file as a graph that the rest can stand on: read, normalised, named, measured. No torch.

onnx-ir imports sympy at its top, and calculates with it only where lengths that a file leaves open are
added or multiplied, which nothing here does. It takes longer to import than all else that is needed to read
a file; so onnx-ir is given stand-ins that import it at their first use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a module that is imported as soon as something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def _later(*names: str) -> Iterator[None]:
    """Inside, imports of these modules get stand-ins; those that are imported already stay as they are."""
    planted = {name: _Later(name) for name in names if name not in sys.modules}
    sys.modules.update(planted)
    try:
        yield
    finally:
        for name, module in planted.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


with _later("sympy", "onnx_ir._symbolic_shapes"):
    import_module("onnx_ir")
