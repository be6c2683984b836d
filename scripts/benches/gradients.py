"""Gradient methods beside native torch, Captum, pytorch-grad-cam and Quantus, turn by turn.

The peers run torchvision's own model with its weights frozen, in the memory layout that is faster in a trial,
Captum's integrated gradients at its fastest ``internal_batch_size`` as well. What comes out is compared:
gradients number by number, maps of Grad-CAM by correlation, as they are enlarged differently.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benches import peers
from benches.page import conditions, table
from benches.turns import FailedError, Turn, Way, middle, most, rates, rounds

TITLE = "Gradients"
_SCRIPT = "gradients_child.py"
_OWN = "ConvLens"
_NAMES = {"torch": "native torch", "captum": "Captum", "gradcam": "pytorch-grad-cam", "quantus": "Quantus"}
_SAME, _ALIKE = 5e-2, 0.95


@dataclass(frozen=True)
class Job:
    """What is computed, by whom beside ConvLens, how much of it a turn holds, and on which models."""

    label: str
    key: str
    count: int
    repeat: int
    ways: tuple[str, ...]
    batches: tuple[int | None, ...] = (None,)
    once: bool = True


JOBS = (
    Job("saliency, 1 image", "saliency", 1, 8, ("torch",), once=False),
    Job("saliency, 8 images", "saliency", 8, 1, ("torch",), once=False),
    Job("100 classes of an image", "classes", 100, 1, ("torch",), once=False),
    Job("guided backpropagation", "guided", 1, 8, ("captum", "gradcam")),
    Job("Grad-CAM", "grad-cam", 1, 8, ("captum", "gradcam")),
    Job("integrated gradients", "integrated", 32, 1, ("captum",), (4, 8, 32)),
    Job("pixel flipping, 2 images", "flipping", 2, 1, ("quantus",)),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    peers.arguments(parser, ["resnet18", "mobilenet_v2"])
    parser.add_argument(
        "--jobs", nargs="+", default=[job.key for job in JOBS], help="some of what is measured (all)"
    )


def run(options: argparse.Namespace) -> str:
    rows: list[dict[str, str]] = []
    with peers.peers_of(options) as found, tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            own: dict[str, float] = {}
            layouts: dict[str, bool] = {}
            for job in JOBS:
                if job.key in options.jobs and (name == options.models[0] or not job.once):
                    print(f"{name}: {job.label}", file=sys.stderr)
                    rows += _Row(found, name, job, options.rounds, Path(folder)).rows(own, layouts)
        versions = peers.versions(found.python, "torch", "torchvision", "captum", "grad-cam", "quantus")
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    words = (
        f"torchvision's models with random weights, {threads}; milliseconds of the processor for each image, "
        "class, gradient or forward, ratios as the median of "
        f"{options.rounds} rounds in which all take turns, lowest - highest in brackets. Peers: {versions}."
    )
    notes = (
        "*over the peer*: how many times as fast ConvLens is; of saliency 1 is asked. 100 classes are to "
        "cost at most 55 times one image. Pixel flipping is by forward, as ConvLens follows three curves of "
        "four orders where Quantus follows one. *MB*: peak above what was held before the model was loaded / "
        "in all. *apart*: the norm of the difference to that of ConvLens's result, which float32 alone "
        "brings to some thousandths, as rectifiers close to zero may take either side; of Grad-CAM the "
        "correlation, as maps are enlarged differently."
    )
    return "\n\n".join([conditions(), words, table(rows), notes])


class _Row:
    """One job on one model."""

    def __init__(self, own: peers.Peers, name: str, job: Job, count: int, folder: Path) -> None:
        self.name, self.job, self.count, self.folder = name, job, count, folder
        image = folder / f"{name}-image.npy"
        np.save(image, peers.picture(name))
        settings = {"image": str(image), "model": own.file(name), "folder": str(own.models), "name": name}
        self.ways = {_OWN: own.own(_SCRIPT, "convlens", **settings)}
        self.ways |= {way: own.way(_SCRIPT, way, **settings) for way in job.ways}

    def rows(self, own: dict[str, float], layouts: dict[str, bool]) -> list[dict[str, str]]:
        """A row for each peer.

        ``own`` holds the milliseconds of ConvLens's jobs so far, ``layouts`` whether a peer is faster with
        its channels last.
        """
        ask = {"job": self.job.key, "count": self.job.count, "repeat": self.job.repeat}
        warm = {_OWN: {"job": "saliency", "count": min(8, self.job.count), "repeat": 1}}
        asks, failed, said = {_OWN: ask}, {}, {}
        for name in self.job.ways:
            try:
                best = self._best(self.ways[name], ask, layouts.get(name))
            except FailedError as error:
                failed[name] = str(error)
                del self.ways[name]
                continue
            layouts.setdefault(name, best["last"])
            asks[name], warm[name] = {**ask, **best}, {**self._few(ask), **best, "repeat": 1}
            said[name] = _words(best)
        turns, more = rounds(self.ways, asks, self.count, self.folder, warm=warm)
        failed |= more
        label = f"{self.name}: {self.job.label}"
        if _OWN in turns:
            own[self.job.label] = _each(turns[_OWN])
        if self.job.key == "classes" and _OWN in turns and JOBS[0].label in own:
            times = own[self.job.label] * self.job.count / own[JOBS[0].label]
            label += f" ({times:.0f} times one image)"
        return [
            {
                "": label,
                "peer": f"{_NAMES[name]}{said.get(name, '')}",
                "ConvLens, ms": f"{_each(turns[_OWN]):.1f}" if _OWN in turns else failed[_OWN],
                "peer, ms": f"{_each(turns[name]):.1f}" if name in turns else failed[name],
                "over the peer": (
                    str(rates(turns[_OWN], turns[name])) if name in turns and _OWN in turns else "-"
                ),
                "MB, ConvLens": most(turns[_OWN]) if _OWN in turns else "-",
                "MB, peer": most(turns[name]) if name in turns else "-",
                "apart": self._alike(turns, name),
            }
            for name in self.job.ways
        ]

    def _few(self, ask: Mapping[str, Any]) -> dict[str, Any]:
        """A short turn for a trial."""
        count = self.job.count if self.job.key == "integrated" else min(4, self.job.count)
        return {**ask, "repeat": min(3, self.job.repeat), "count": count}

    def _best(self, way: Way, ask: Mapping[str, Any], layout: bool | None) -> dict[str, Any]:
        """The peer's fastest layout, unless it is known, and its fastest batch where it has one."""
        if layout is not None and len(self.job.batches) == 1:
            return {"last": layout}
        few, tried = self._few(ask), []
        competitor = way.start()
        try:
            for last in (False, True) if layout is None else (layout,):
                for batch in self.job.batches:
                    found = {"last": last} | ({"batch": batch} if batch else {})
                    competitor.take({**few, **found, "repeat": 1})  # kernels are chosen and memory is taken
                    tried.append((min(competitor.take({**few, **found}).cpu for _ in range(2)), found))
        finally:
            competitor.end()
        return min(tried, key=lambda each: each[0])[1]

    def _alike(self, turns: Mapping[str, Sequence[Turn]], name: str) -> str:
        if name not in turns or _OWN not in turns:
            return "-"
        paths = [turns[each][0].array for each in (_OWN, name)]
        if None in paths:
            return "-"
        own, other = (np.load(str(path)).astype(np.float64) for path in paths)
        if own.shape != other.shape:
            return f"UNEQUAL: shapes {own.shape} and {other.shape}"
        if self.job.key == "grad-cam":
            found = float(np.corrcoef(own.ravel(), other.ravel())[0, 1])
            return f"{'' if found >= _ALIKE else 'UNEQUAL: '}{found:.3f}"
        found = float(np.linalg.norm(own - other) / np.linalg.norm(own))
        return f"{'' if found <= _SAME else 'UNEQUAL: '}{found:.0e}"


def _words(best: Mapping[str, Any]) -> str:
    words = [f"batch {best['batch']}"] if "batch" in best else []
    words += ["channels last"] if best["last"] else []
    return f" ({', '.join(words)})" if words else ""


def _each(turns: Sequence[Turn]) -> float:
    """Milliseconds of the processor for one."""
    return 1000 * middle(turns) / float(turns[0].says["count"])
