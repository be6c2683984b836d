"""One file, examined from its bytes to its gradient; runs in a process of its own."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from convlens.cards import Card
from convlens.coverage.batches import check_batch
from convlens.coverage.feeding import Fed, NoInputError, find_feeds, wanted
from convlens.coverage.gradient import check_gradient
from convlens.coverage.measure import forget_peak, memory_now, memory_peak
from convlens.coverage.row import Row, Settings
from convlens.errors import ConvLensError
from convlens.graph import bind
from convlens.model import Model, load
from convlens.trust.certificate import certify


def examine(path: Path, settings: Settings) -> Row:
    """Everything that can be found out about the model at ``path``; never raises for what is in it."""
    start = time.monotonic()
    row = Row(path)
    try:
        row.weights = weights_of(path)
        beside = [path, *(path.parent / name for name in row.weights)]
        row.size = sum(file.stat().st_size for file in beside if file.is_file())
        card = _card(path, settings)
        fed = _by_onnxruntime(path, card, settings, row)
        if fed is not None:
            row.fed = fed.words()
            _by_convlens(path, card, settings, fed, row)
    except ConvLensError as error:
        row.why = row.why or one_line(error)
    except Exception as error:  # a file that breaks the program is told like any other
        row.why = row.why or f"{type(error).__name__}: {one_line(error)}"
    row.seconds = time.monotonic() - start
    row.memory = memory_peak()
    return row


def weights_of(path: Path) -> tuple[str, ...]:
    """The files beside ``path`` that hold its weights; empty where it cannot be read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError):
        return ()
    stored = (t for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    names = {entry.value for tensor in stored for entry in tensor.external_data if entry.key == "location"}
    return tuple(sorted(names))


def one_line(error: BaseException) -> str:
    """An error's message as one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def _card(path: Path, settings: Settings) -> Card:
    card = Card.load(Path(settings.card)) if settings.card else Card.beside(path) or Card()
    return card.override(settings.options)


def _by_onnxruntime(path: Path, card: Card, settings: Settings, row: Row) -> Fed | None:
    """Inputs that onnxruntime runs the file on as it lies there; None, said in ``row``, where it does not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if settings.threads is not None:
        options.intra_op_num_threads = settings.threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = {name: bind.read(feed) for name, feed in {**card.feeds, **settings.feeds}.items()}
        fed = find_feeds(session, wanted(session), card.input.size, settings.seed, given)
    except Exception as error:  # onnxruntime raises its own kinds, all unrelated
        verb = "was not run" if isinstance(error, NoInputError) else "refuses it"
        row.runtime = f"onnxruntime {verb}: {one_line(error)}"
        return None
    if not fed.arrays:
        row.runtime = "it takes no input; nothing can be explained"
        return None
    return fed


def _by_convlens(path: Path, card: Card, settings: Settings, fed: Fed, row: Row) -> None:
    others = _others(path, card, settings, fed)
    with _measured(row):
        model = load(path, card, settings.device, settings.threads, others)
        left = _control(model)
        if left and model.card.input.size is None and None in model.source.size:
            # control flow may hang on a size, which is then that of the run
            size = _size(model, fed)
            sized = load(path, card.override({"size": size}), settings.device, settings.threads, others)
            if _control(sized) < left:
                model = sized
                row.fed += f"; --size {'x'.join(map(str, size))} given, which decides a branch"
        graph = model.instrument()
    row.opened = True
    source = model.source
    if None in source.size and model.card.input.size is None:  # what was tried is what is meant
        model.card = model.card.override({"size": _size(model, fed)})
    feeds = {
        value.name: array[None] if array.ndim + 1 == value.rank else array
        for value in model.graph.inputs
        for array in (fed.arrays[value.name],)
    }
    fed = replace(fed, arrays={**fed.arrays, **feeds})
    label = f"random input (seed {settings.seed})"
    runner = model.runner.whole()
    certificate = certify(graph, runner, {label: feeds}, exact=lambda: model.instrument("float64"))
    row.certified = certificate.passed
    row.worst = certificate.worst.relative
    row.values = len({check.value for check in certificate.checks})
    if not certificate.passed:
        row.why = certificate.words()
    row.batch, row.batch_why = check_batch(path, model, fed, certificate, settings)
    if row.batch == "wrong" and not row.why:
        row.why = row.batch_why
    row.differentiable, row.gradient = check_gradient(model, feeds, settings.seed)


def _control(model: Model) -> int:
    """How many nodes decide what is run."""
    return sum(node.full_op in ("If", "Loop", "Scan") for node in model.graph.nodes)


def _size(model: Model, fed: Fed) -> tuple[int, ...]:
    """The lengths of the spatial axes of what was fed."""
    source, shape = model.source, fed.arrays[model.source.name].shape
    shape = ((1,) * (len(source.shape or ()) - len(shape))) + shape
    return tuple(shape[axis] for axis in source.spatial)


def _others(path: Path, card: Card, settings: Settings, fed: Fed) -> dict[str, Any]:
    """What every input but the one that is explained is bound to."""
    if len(fed.arrays) == 1:
        return {}
    free = load(path, card.model_copy(update={"feeds": {}}), settings.device, settings.threads)
    names = {value.name for value in free.graph.inputs} - {free.source.name}
    return {name: fed.arrays[name] for name in fed.arrays if name in names}


@contextmanager
def _measured(row: Row) -> Iterator[None]:
    gc.collect()
    before, known = memory_now(), forget_peak()
    start = time.monotonic()
    yield
    row.open_seconds = time.monotonic() - start
    peak = memory_peak()
    if known and before is not None and peak is not None:
        row.open_memory = max(peak - before, 0)
