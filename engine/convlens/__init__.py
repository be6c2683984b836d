"""ConvLens: what a CNN that was exported to ONNX looks at, what its layers see, and whether to trust it.

>>> import convlens
>>> model = convlens.load("efficientnet-lite0")     # a path, or the name of a bundled model
>>> model.run("predict", ["cat.jpg"])               # -> Result

The names below load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convlens.cards import Card as Card
    from convlens.errors import ConvLensError as ConvLensError
    from convlens.graph.layers import Layer as Layer
    from convlens.instrument.session import Session as Session
    from convlens.model import Model as Model
    from convlens.model import load as load
    from convlens.recording.reading import Recording as Recording
    from convlens.registry import Method as Method
    from convlens.registry import methods as methods
    from convlens.registry import register as register
    from convlens.results import Result as Result
    from convlens.targets import Target as Target
    from convlens.trust.certificate import Certificate as Certificate

__version__ = "0.1.0"

_HOMES = {
    "Card": "convlens.cards",
    "Certificate": "convlens.trust.certificate",
    "ConvLensError": "convlens.errors",
    "Layer": "convlens.graph.layers",
    "Method": "convlens.registry",
    "Model": "convlens.model",
    "Recording": "convlens.recording.reading",
    "Result": "convlens.results",
    "Session": "convlens.instrument.session",
    "Target": "convlens.targets",
    "load": "convlens.model",
    "register": "convlens.registry",
}

__all__ = sorted([*_HOMES, "methods"])


def __getattr__(name: str) -> Any:
    if name == "methods":
        return import_module("convlens.methods")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'convlens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
