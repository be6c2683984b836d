"""Lengths for axes that a file leaves open: which are tried, in which order, and which one is taken.

A file that takes any size on paper takes few in fact: what was flattened, added or split inside has a size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens import cache
from convlens.errors import UnsupportedError
from convlens.runtime.refusal import REFUSES

if TYPE_CHECKING:
    from convlens.graph.graph import Graph
    from convlens.graph.source import Source
    from convlens.runtime.runner import Runner

Sizes = tuple[tuple[int, ...], ...]

_SIDES = (224, 64, 32, 128, 299, 256, 96, 160, 320, 512, 640, 416, 112, 48, 16, 8)
_PICTURES: Sizes = (
    *((side, side) for side in _SIDES),
    (48, 320),  # lines of text, as recognisers take them
    (32, 320),
    (32, 128),
    (32, 100),
)
_CLIPS: Sizes = (
    *((8, side, side) for side in (64, 112, 96)),
    *((16, side, side) for side in (112, 224)),
    (32, 224, 224),
)
_BODIES: Sizes = tuple((side,) * 3 for side in (32, 64, 16, 96, 128, 8))
_SOUNDS: Sizes = tuple((n,) for n in (16000, 512, 1600, 8000, 24000, 48000, 256, 128, 64))
_ROWS: Sizes = tuple((n,) for n in (128, 64, 32, 256, 512, 16, 8, 100, 300, 1024, 3000, 4, 2048, 16000, 1))
_TOKENS: Sizes = tuple((n,) for n in (16, 8, 32, 64, 128, 256, 512, 4, 1))

BATCHES = (2, 1)
"""Images of a random input where the file leaves their number open."""


def sizes(axes: int, kind: str | None = None, channels: int | None = None, whole: bool = False) -> Sizes:
    """Lengths of the axes that run, the most likely first.

    Args:
        axes: how many there are.
        kind: what the input holds, one of :data:`convlens.graph.source.KINDS`; None where not known.
        channels: how many, None where not known or open; a sound has one or two.
        whole: whether it takes integers.
    """
    if axes >= 3:
        return (*_BODIES, *_CLIPS) if kind == "volume" or channels == 1 else (*_CLIPS, *_BODIES)
    if axes == 2:
        return _PICTURES
    if whole or kind == "tokens":
        return _TOKENS
    others = _SOUNDS if channels in (1, 2) else _ROWS
    return (*others, *(size for size in (*_ROWS, *_SOUNDS) if size not in others))


def first_size(source: Source) -> tuple[int, ...]:
    """The size that is tried first; the file's own where it leaves nothing open."""
    return next(_candidates(source, None)) or ()


def find_size(
    runner: Runner, source: Source, given: tuple[int, ...] | None, key: str, seed: int = 0
) -> tuple[tuple[int, ...] | None, int]:
    """The size of the source that onnxruntime takes, and the batch; kept in the cache under ``key``.

    Args:
        runner: onnxruntime on the model.
        source: the input that is explained.
        given: its size where a person or a card says so; nothing else is tried then.
        key: what stands for the model, its card and the code.
        seed: of what is fed.

    Returns:
        The size (None where the file leaves none open), and how many images go in at once.

    Raises:
        UnsupportedError: none of those that are tried is taken.
    """
    batch = source.shape[0] if source.shape else None
    is_open = any(not isinstance(dim, int) for value in runner.graph.inputs for dim in value.shape or ())
    if not is_open:
        return given, batch if isinstance(batch, int) else BATCHES[0]
    kept = cache.get("sizes", key)
    if isinstance(kept, dict) and {"size", "batch"} <= kept.keys():
        return (None if kept["size"] is None else tuple(kept["size"])), int(kept["batch"])
    size, count = _tried(runner, source, given, seed)
    cache.put("sizes", key, {"size": size, "batch": count})
    return size, count


def _tried(
    runner: Runner, source: Source, given: tuple[int, ...] | None, seed: int
) -> tuple[tuple[int, ...] | None, int]:
    from convlens.trust.certificate import random_input

    graph, batch = runner.graph, source.shape[0] if source.shape else None
    names = [name for name in graph.outputs if name in graph.producers and _held(graph, name)]
    first, empty = "", None
    count = 0
    for size in _candidates(source, given):
        for many in (batch,) if isinstance(batch, int) else BATCHES:
            feeds = random_input(graph, source, size, seed, many)
            count += 1
            try:
                found: dict[str, Any] = next(iter(runner.whole().stream([feeds], names))) if names else {}
            except UnsupportedError as error:
                if str(error).startswith(REFUSES):
                    raise
                first = first or str(error)
                continue
            arrays = [found[name] for name in names if isinstance(found[name], np.ndarray)]
            if arrays and not any(array.size for array in arrays):  # too small to leave anything, most likely
                empty = empty or (size, many)
                continue
            return size, many
    if empty is not None:
        return empty
    more = "" if count == 1 else f" (and refuses {count - 1} more that were tried)"
    settled = given is not None or None not in source.size
    hint = "" if settled else f"; the file leaves the input's size open{more}, give --size"
    raise UnsupportedError(f"{first}{hint}")


def _held(graph: Graph, name: str) -> bool:
    """Whether onnxruntime hands a value out; where it does not, nothing can be tried."""
    dtype = graph.value(name).dtype or ""
    return dtype != "bfloat16" and "int4" not in dtype and "int2" not in dtype


def _candidates(source: Source, given: tuple[int, ...] | None) -> Iterator[tuple[int, ...] | None]:
    if given is not None or None not in source.size:
        yield given
        return
    channels = source.channels if source.channel >= 0 else 1
    whole = source.dtype is not None and "float" not in source.dtype and source.kind == "tokens"
    seen = set()
    for size in sizes(len(source.spatial), source.kind, channels, whole):
        own = tuple(fixed or length for fixed, length in zip(source.size, size, strict=True))
        if own not in seen:
            seen.add(own)
            yield own
