"""``convlens record`` beside plain onnxruntime, with decoding, and with a large data set that is killed.

Ratios are of processor time where machines are shared: plain onnxruntime and the recorder take turns on the
same decoded images, round by round. Without --models they are ResNet-18 and MobileNetV2, made here with
random weights (record_models.py), and the two models that come along.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benches import record_killed
from benches.page import conditions, table

TITLE = "Recording"
_BUNDLED = ("efficientnet-lite0", "vgg16-conv4_1")
_ALLOWED = 1.15
_AT_LEAST = {"resnet18": 0.75, "mobilenet_v2": 0.5}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", help="files or models of the catalogue, instead of those four")
    parser.add_argument("--images", type=int, default=256, help="in one round, a shard (256)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (5)")
    parser.add_argument("--batch-size", type=int, default=8, help="images in one forward (8)")
    parser.add_argument("--skip-overlap", action="store_true", help="leave decoding out")
    record_killed.arguments(parser)


def run(options: argparse.Namespace) -> str:
    text, large = [conditions()], record_killed.text(options) if options.data else []
    with tempfile.TemporaryDirectory() as folder:
        models = _models(options.models, Path(folder))
        rows = [_throughput(name, model, options) for name, model in models.items()]
        text += [_said(options), table(rows)]
        if not options.skip_overlap:
            photos = _photos(Path(folder) / "photos", options.images)
            text += [
                _said_overlap(),
                table([_overlap(name, models[name], photos, options) for name in models]),
            ]
    return "\n\n".join([*text, *large])


def _models(given: Sequence[str] | None, folder: Path) -> dict[str, Any]:
    from benches.record_models import BUILDERS, made

    import convlens

    if given:
        return {Path(name).stem: convlens.load(name, device="cpu", threads=1) for name in given}
    own = {name: {"path": str(made(name, folder)), "mean": [0.5], "std": [0.25]} for name in BUILDERS}
    known = {**own, **{name: {"path": name} for name in _BUNDLED}}
    return {name: convlens.load(device="cpu", threads=1, **told) for name, told in known.items()}


class _Items:
    """A data set of the same few inputs over and over."""

    given: tuple[str, ...] = ()
    text = "inputs"

    def __init__(self, reads: Sequence[Callable[[], Any]], count: int) -> None:
        self._reads, self._count = reads, count

    def __len__(self) -> int:
        return self._count

    def fingerprint(self) -> str:
        return ""

    def items(self, first: int, stop: int) -> list[Any]:
        from convlens.recording.source import Item

        chosen = range(first, min(stop, self._count))
        return [Item(str(i), None, self._reads[i % len(self._reads)]) for i in chosen]


def _throughput(name: str, model: Any, options: argparse.Namespace) -> dict[str, str]:
    """Processor time of plain onnxruntime and of the recorder, in turns, one thread each."""
    print(f"{name}: in turns", file=sys.stderr)
    import numpy as np

    from convlens.recording.plan import plan_of
    from convlens.recording.recorder import Recorder

    plan = plan_of(model, batch_size=options.batch_size, shard=options.images)
    arrays = _arrays(model, min(64, options.images))
    source = _Items([lambda array=array: array for array in arrays], options.images)
    outputs = [model.classes.name] if model.classes is not None else list(model.graph.outputs)
    recorder, size = Recorder(model, plan, workers=1), options.batch_size

    def plain() -> None:
        for first in range(0, options.images, size):
            chosen = np.take(arrays, range(first, first + size), axis=0, mode="wrap")
            model.runner.run({model.source.name: chosen}, outputs, size)

    ways = {"plain": plain, "record": lambda: [*recorder.parts(source, [(0, options.images)])]}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds + 1):  # the first makes sessions and takes memory
        for way, do in ways.items():
            start = time.process_time()
            do()
            found[way] += [time.process_time() - start] * (number > 0)
    ratios = sorted(a / b for a, b in zip(found["plain"], found["record"], strict=True))
    each = {way: 1000 * statistics.median(times) / options.images for way, times in found.items()}
    wanted = _AT_LEAST.get(name)
    return {
        "model": name,
        "layers": str(len(plan.layers)),
        "channels": str(sum(layer.channels for layer in plan.layers)),
        "plain, ms an image": f"{each['plain']:.1f}",
        "record": f"{each['record']:.1f}",
        "plain / record": f"{statistics.median(ratios):.2f}",
        "lowest - highest": f"{ratios[0]:.2f} - {ratios[-1]:.2f}",
        "asked for": f"{wanted:.2f}" if wanted else "-",
    }


def _arrays(model: Any, count: int) -> Any:
    import numpy as np

    shape = [dim if isinstance(dim, int) else 224 for dim in (model.source.shape or ())[1:]]
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def _photos(folder: Path, count: int) -> list[Path]:
    """JPEG files of 500 x 375 pixels, the middle size of ImageNet: pieces of the photos that come along."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    given = [Image.open(path).convert("RGB") for path in sorted(Path("models/photos").glob("*.[jp][pn]g"))]
    rng, found = np.random.default_rng(0), []
    for number in range(min(count, 64)):
        whole = given[number % len(given)]
        side = int(rng.integers(200, min(whole.size)))
        x, y = (int(rng.integers(0, length - side + 1)) for length in whole.size)
        piece = whole.resize((500, 375), box=(x, y, x + side, y + side))
        found.append(folder / f"{number}.jpg")
        piece.save(found[-1], quality=92)
    return found


def _overlap(name: str, model: Any, photos: Sequence[Path], options: argparse.Namespace) -> dict[str, str]:
    """Decoding and model alone on a core each, and both on two, by wall time."""
    print(f"{name}: with decoding", file=sys.stderr)
    import numpy as np

    from convlens.images import read_image
    from convlens.recording.plan import plan_of
    from convlens.recording.recorder import Recorder

    plan = plan_of(model, batch_size=options.batch_size, shard=options.images)
    views = [model.preprocess.view(read_image(path)) for path in photos]
    arrays = list(model.preprocess.array(np.stack(views)))
    decoded = _Items([lambda array=array: array for array in arrays], options.images)
    files = _Items([lambda path=path: read_image(path) for path in photos], options.images)
    shards = [(0, options.images)]

    def decode() -> None:
        for item in files.items(0, options.images):
            model.preprocess.array(model.preprocess.view(item.read())[None])

    ways = {
        "decoding": decode,
        "model": lambda: [*Recorder(model, plan, 1).parts(decoded, shards)],
        "both": lambda: [*Recorder(model, plan, 2).parts(files, shards)],
    }
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(options.rounds + 1):
        for way, do in ways.items():
            wall, used = time.perf_counter(), time.process_time()
            do()
            told = (time.perf_counter() - wall, time.process_time() - used)
            found[way] += [told] * (number > 0)
    wall = {way: min(each for each, _ in told) for way, told in found.items()}
    fastest, used = min(found["both"])
    per = 1000 / options.images
    ratio = wall["both"] / max(wall["decoding"], wall["model"])
    return {
        "model": name,
        **{f"{way}, ms an image": f"{wall[way] * per:.1f}" for way in ways},
        "to the larger": f"{ratio:.2f}",
        "cores busy": f"{used / fastest:.2f} of 2",
    }


def _said(options: argparse.Namespace) -> str:
    return (
        f"Every rectifier's channels, {options.batch_size} images in a forward, {options.images} decoded "
        f"images a round, one thread; processor time, median of {options.rounds} rounds in which both take "
        "turns."
    )


def _said_overlap() -> str:
    return (
        "With decoding: JPEG files of 500 x 375 pixels. Decoding alone and the recorder on decoded images "
        "alone have one core each, both together two; wall time, the fastest round, as the machine is shared "
        f"(load {os.getloadavg()[0]:.1f} now). Up to {_ALLOWED} times the larger is allowed."
    )
