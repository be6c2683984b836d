"""One file of the corpus: patches over its input, computed in windows and whole, and how far these differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from convlens import load
from convlens.cards import Card
from convlens.coverage.feeding import Fed, NoInputError, find_feeds, wanted
from convlens.errors import ConvLensError, UnsupportedError
from convlens.runtime.incremental.changes import Changes
from convlens.runtime.incremental.costs import estimates
from convlens.runtime.incremental.hidden import Told, probe
from convlens.runtime.incremental.probing import Probing
from convlens.runtime.patches import as_input
from convlens_adapters.corpus.probes import CLOSE, Probed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

_MOST = 12
"""Patches."""

_SHARE = 14
"""A patch takes this part of each axis."""

_BATCH = 4

_FEW = 3
"""Images on which onnxruntime's own fusions are held against none."""


def probe_file(path: Path, row: Probed) -> None:
    """Fill in ``row`` what is found of the model at ``path``; never raises for what is in it."""
    try:
        _look(path, row)
    except NoInputError as error:
        row.way, row.why = "skipped", f"onnxruntime does not run the file ({_line(error)})"
    except ConvLensError as error:
        row.way, row.why = "skipped", _line(error)
    except Exception as error:  # a file that breaks the program is told like any other
        row.way, row.why = "lost", f"{type(error).__name__}: {_line(error)}"


def _look(path: Path, row: Probed) -> None:
    model, image = _opened(path)
    source = model.source
    axes = source.axes
    if image.ndim != len(source.shape or ()) - 1:
        row.way, row.why = "skipped", "the input has no axis for images"
        return
    changes = patches(image, [axis - 1 for axis in axes])
    feeds = {source.name: changes.whole(image, axes, np.arange(len(changes)))}
    if model.runner.fixed_batch is not None:
        row.why = "the model takes one image at a time"
        return
    names, _ = model.runner.whole().readable(feeds, _outputs(model))
    told = Told()

    def probed(exact: Any) -> dict[str, NDArray[Any]]:
        found: dict[str, list[Any]] = {name: [None] * len(changes) for name in names}
        every = probe(model.runner, source.name, axes, image, changes, names, _BATCH, exact, told)
        for rows, values in every:
            for name in names:
                for number, value in zip(rows.tolist(), values[name], strict=True):
                    found[name][number] = value
        return {name: np.stack(each) for name, each in found.items()}

    try:
        found = probed("incremental")
    except UnsupportedError:
        row.why = told.why
        if told.error is not None:  # given up: the two differ by more than a run lets pass
            row.way, row.error, row.coarse = "given up", told.error, _coarse(model)
            few = {name: array[:_FEW] for name, array in feeds.items()}
            plain, fused = (
                model.runner.whole().run(few, names, _FEW, exact=exact) for exact in (True, False)
            )
            row.noise = max(apart(plain[name], fused[name]) for name in names)
        return
    row.way, row.cut, row.gain = "incremental", told.cut, round(told.gain, 3)
    probing = Probing(
        model.runner,
        source.name,
        axes,
        image[None],
        changes.starts,
        changes.sides,
        changes.content,
        names,
    )
    last = len(probing.parts.parts)
    expected = estimates(probing)
    row.gain = round(float(expected[0] / expected[1:].min()), 3)
    row.stops = ", ".join(f"{op} {n}x" for op, n in Counter(_stops(probing)).most_common(6))
    every = np.arange(len(changes))
    deep = probing.tail(last, 1)(probing.windows(every, last))
    dense = probed("dense")
    row.error = max(max(apart(one[name], dense[name]) for name in names) for one in (found, deep))
    other = [model.runner.stream([{n: a[i : i + 1] for n, a in feeds.items()}], names) for i in every]
    single = [next(iter(each)) for each in other]
    joined = {name: np.concatenate([each[name] for each in single]) for name in names}
    row.noise = max(apart(joined[name], dense[name]) for name in names)
    row.coarse = _coarse(model)
    if row.error > CLOSE:
        with suppress(ConvLensError, MemoryError):
            exact = _exact(model, feeds, names)
            plain = model.runner.whole().run(feeds, names, _BATCH, exact=True)
            ways = (found, deep, dense, joined, plain)
            worst = [max(apart(one[n], exact[n]) for n in names) for one in ways]
            row.truth = max(worst[:2]), max(worst[2:])


def _opened(path: Path) -> tuple[Model, NDArray[Any]]:
    """The model as the coverage table opens it, and an image that it takes, without its batch axis."""
    card = Card.beside(path) or Card()
    fed = _fed(path, card)
    others: dict[str, Any] = {}
    if len(fed.arrays) > 1:
        free = load(path, card.model_copy(update={"feeds": {}}), "cpu", 1)
        left = {value.name for value in free.graph.inputs} - {free.source.name}
        others = {name: fed.arrays[name] for name in fed.arrays if name in left}
    model = load(path, card, "cpu", 1, others)
    if None in model.source.size and model.card.input.size is None:
        shape = fed.arrays[model.source.name].shape
        shape = (1,) * (len(model.source.shape or ()) - len(shape)) + shape
        size = tuple(shape[axis] for axis in model.source.spatial)
        model.card = model.card.override({"size": size})
        if any(node.op in ("If", "Loop", "Scan") for node in model.graph.nodes):
            model = load(path, card.override({"size": size}), "cpu", 1, others)
    given = fed.arrays[model.source.name]
    if given.ndim + 1 == len(model.source.shape or ()):
        given = given[None]
    return model, given[0]


def _fed(path: Path, card: Card) -> Fed:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, all unrelated
        raise NoInputError(str(error)) from error
    fed = find_feeds(session, wanted(session), card.input.size, 0, dict(card.feeds))
    if not fed.arrays:
        raise NoInputError("it takes no input")
    return fed


def _coarse(model: Model) -> bool:
    graph = model.graph
    halves = (value.dtype for value in graph.values.values())
    return "float16" in halves or any("Quant" in node.op or "QLinear" in node.op for node in graph.nodes)


def _outputs(model: Model) -> list[str]:
    """What hangs on the input."""
    names = list(dict.fromkeys(name for name in model.graph.outputs if name in model.graph.producers))
    if not names:
        raise UnsupportedError("no output is computed")
    return names


def patches(image: NDArray[Any], axes: Sequence[int]) -> Changes:
    """Noise over patches in the corners, at the borders, in the middle and anywhere, up to :data:`_MOST`."""
    rng = np.random.default_rng(0)
    extent = [image.shape[axis] for axis in axes]
    sides = tuple(max(1, round(length / _SHARE)) for length in extent)
    ends = [(0, length - side, (length - side) // 2) for length, side in zip(extent, sides, strict=True)]
    corners = list(product(*[pair[:2] for pair in ends]))
    middles = [tuple(pair[2] for pair in ends)]
    middles += [
        tuple(pair[end] if a == axis else pair[2] for a, pair in enumerate(ends))
        for axis in range(len(axes))
        for end in (0, 1)
    ]
    anywhere = [
        tuple(int(rng.integers(0, length - side + 1)) for length, side in zip(extent, sides, strict=True))
        for _ in range(_MOST)
    ]
    places = list(dict.fromkeys([*middles, *corners, *anywhere]))[:_MOST]
    shape = list(image.shape)
    for axis, side in zip(axes, sides, strict=True):
        shape[axis] = side
    if image.dtype.kind == "f":
        noise = rng.normal(0, 1, (len(places), *shape))
    else:
        noise = rng.choice(image.reshape(-1), (len(places), *shape))
    content = as_input(noise, image.dtype)
    return Changes(np.array(places, np.int64), sides, lambda rows: content[rows])


def apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference of one probe's value, of the largest magnitude that it has in any probe."""
    if one.shape != other.shape:
        return float("inf")
    one, other = one.astype(np.float64), other.astype(np.float64)
    clear = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~clear], other[~clear], equal_nan=True):
        return float("inf")
    scale = float(np.abs(other[clear]).max(initial=0.0)) or 1.0
    return float(np.abs(one - other)[clear].max(initial=0.0)) / scale


def _exact(model: Model, feeds: dict[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    graph = model.instrument("float64")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for name, array in feeds.items():
        for i in range(len(array)):
            wide = array[i : i + 1].astype(np.float64) if array.dtype.kind == "f" else array[i : i + 1]
            values = graph.values({name: graph.working(wide, name)}, list(names))
            for key in names:
                found[key].append(values[key].detach().double().numpy())
    return {name: np.concatenate(each) for name, each in found.items()}


def _stops(probing: Probing) -> list[str]:
    """The operators that read what was computed in windows, and are not."""
    home, reached = probing.parts.home, probing.parts.reached
    return [
        node.full_op
        for node in probing.nodes
        if any(name in home for name in node.reads)
        and not any(name in home for name in node.outputs)
        and any(name in reached for name in node.outputs)
    ]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
