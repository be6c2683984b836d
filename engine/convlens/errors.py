"""What can go wrong, as one tree.

::

    ConvLensError                     exit code 4
     ├── UsageError                   2   the request cannot be met as it was put
     │    ├── TargetError                 a class, label or selector that does not exist
     │    ├── LayerError                  a layer or channel that does not exist
     │    ├── ParameterError              a parameter out of range, unknown or of the wrong type
     │    ├── CardError                   how images go in is not known well enough
     │    └── OutputError                 the output folder cannot be used
     ├── ModelError                   3   the model cannot be read or is refused
     │    ├── ModelFileError              not an ONNX file, truncated, data missing
     │    ├── UnsupportedError            an operator or an input that no executor covers
     │    └── UncertifiedError            PyTorch and onnxruntime disagree on this model
     └── ImageError                   4   an image cannot be decoded

Every message says what was found, what was expected and what to do, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

FINE, FINDING, USAGE, MODEL, FAILED = 0, 1, 2, 3, 4
STOPPED = 130  # by Ctrl-C, as shells have it


class ConvLensError(Exception):
    """Base of every error that ConvLens raises on purpose; ``exit_code`` is what a command ends with."""

    exit_code = FAILED


class UsageError(ConvLensError):
    """The request cannot be met as it was put."""

    exit_code = USAGE


class TargetError(UsageError):
    """A class, label or selector that the model does not have."""


class LayerError(UsageError):
    """A layer, channel or position that the model does not have."""


class ParameterError(UsageError):
    """A parameter that is unknown, of the wrong type or out of range."""


class CardError(UsageError):
    """The card is malformed, or says too little for what was asked."""


class OutputError(UsageError):
    """The output folder cannot be used without losing something."""


class ModelError(ConvLensError):
    """The model cannot be read, or is refused."""

    exit_code = MODEL


class ModelFileError(ModelError):
    """The file is not ONNX, is truncated, or lacks its external data."""


class UnsupportedError(ModelError):
    """The model holds something that no executor covers: an operator, a type, an input."""


class UncertifiedError(ModelError):
    """PyTorch and onnxruntime disagree on this model beyond the tolerance."""


class ImageError(ConvLensError):
    """An image cannot be decoded."""


def nearest(word: str, known: Iterable[str], n: int = 3) -> str:
    """The ``n`` names closest to ``word`` as a sentence part, or an empty string when none is close."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    hits = [lowered[hit] for hit in get_close_matches(word.lower(), lowered, n=n, cutoff=0.5)]
    hits += [name for name in names if word.lower() in name.lower() and name not in hits]
    return f"; nearest: {', '.join(repr(hit) for hit in hits[:n])}" if hits else ""
