"""The same on a GPU, by the clock: dense occlusion beside onnxruntime's forwards, gradients beside torch.

Seconds are absolute; every turn ends when its results are on the host. ``--device cpu`` goes the same way
on a machine without a GPU, to see that it works.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benches import peers
from benches.page import conditions, table
from benches.turns import Ask, FailedError, Turn, Way, middle, most, rates, rounds

TITLE = "On a GPU"
_BATCHES = (8, 32, 128)
_PATCH, _STRIDE = 16, 8
_OWN = "ConvLens"
_ASKED = "0.9"


def arguments(parser: argparse.ArgumentParser) -> None:
    peers.arguments(parser, ["resnet50", "mobilenet_v2"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu is a dry run (cuda)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(_BATCHES), help="tried (8 32 128)")
    parser.add_argument("--stride", type=int, default=_STRIDE, help="of the hidden patch (8)")


def run(options: argparse.Namespace) -> str:
    if options.device == "cuda":
        _need_onnxruntime()
    rows: list[dict[str, str]] = []
    with peers.peers_of(options) as found, tempfile.TemporaryDirectory() as folder:
        card = _card(found.python) if options.device == "cuda" else "dry run on the CPU"
        for name in options.models:
            print(name, file=sys.stderr)
            rows += _Model(found, name, options, Path(folder)).rows()
        versions = peers.versions(found.python, "torch", "torchvision", "captum")
    words = (
        f"{card}. torchvision's models with random weights; seconds by the clock, ratios as the median of "
        f"{options.rounds} rounds in which all take turns, lowest - highest in brackets; batches of "
        f"{', '.join(map(str, options.batch_sizes))} are tried by all. Peers: {versions}."
    )
    notes = (
        f"*to the peer*: the rate to the peer's; at least {_ASKED} is asked. *waits*: how often the host "
        "waits for the device in one more batch of gradients; what goes in and what comes out counts, and "
        "nothing else should. *MB*: peak on the host, above what was held before the model was loaded / in "
        "all."
    )
    return "\n\n".join([conditions(), words, table(rows), notes])


def _need_onnxruntime() -> None:
    """End in one line where ConvLens finds no GPU."""
    from convlens.errors import ConvLensError
    from convlens.runtime.providers import resolve

    try:
        resolve("cuda")
    except ConvLensError as error:
        raise SystemExit(f"scripts/bench gpu: {error}") from None


def _card(python: str) -> str:
    """The GPU's name; ends in one line where the peers' torch finds none."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    if not found:
        raise SystemExit("scripts/bench gpu: the peers' torch finds no CUDA device; use --device cpu")
    return found


class _Model:
    """The rows of one model."""

    def __init__(self, own: peers.Peers, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.name, self.options, self.folder = name, options, folder
        image = folder / f"{name}-image.npy"
        np.save(image, peers.picture(name))
        settings = {"image": str(image), "model": own.file(name), "folder": str(own.models), "name": name}
        self.settings = {**settings, "device": options.device}
        self.peers = own

    def rows(self) -> list[dict[str, str]]:
        """Occlusion, gradients, integrated gradients."""
        sizes, own, way = self.options.batch_sizes, self.peers.own, self.peers.way
        stride, most_images = self.options.stride, max(self.options.batch_sizes)
        hidden = {"patch": _PATCH, "stride": [stride] * 2, "target": 0, "exact": "dense"}
        gradients = own("gradients_child.py", "convlens", **self.settings)
        saliency: Ask = {"job": "saliency", "count": most_images, "repeat": 2}
        waits = {"job": "trips", "count": min(sizes), "repeat": 1}
        return [
            self._row(
                "occlusion, dense",
                own("occlusion_child.py", "convlens", **self.settings),
                [{**hidden, "batch": batch} for batch in sizes],
                "onnxruntime, forwards alone",
                own("occlusion_child.py", "forward", **self.settings),
                [{"count": 4 * batch, "batch": batch} for batch in sizes],
            ),
            self._row(
                "saliency",
                gradients,
                [{**saliency, "batch": batch} for batch in sizes],
                "native torch",
                way("gradients_child.py", "torch", **self.settings),
                [{**saliency, "count": batch, "last": last} for batch in sizes for last in (False, True)],
                waits,
            ),
            self._row(
                "integrated gradients",
                gradients,
                [{"job": "integrated", "count": 128, "repeat": 1, "batch": batch} for batch in sizes],
                "Captum",
                way("gradients_child.py", "captum", **self.settings),
                [
                    {"job": "integrated", "count": 128, "repeat": 1, "batch": batch, "last": last}
                    for batch in sizes
                    for last in (False, True)
                ],
            ),
        ]

    def _row(
        self,
        label: str,
        own: Way,
        own_asks: Sequence[Ask],
        peer: str,
        other: Way,
        asks: Sequence[Ask],
        waits: Ask | None = None,
    ) -> dict[str, str]:
        """Both at their fastest of what is asked."""
        ways, best, failed, waited = {_OWN: own, peer: other}, {}, {}, "-"
        for name, tried in ((_OWN, own_asks), (peer, asks)):
            try:
                best[name], more = _fastest(ways[name], tried, waits if name == _OWN else None)
                waited = more if name == _OWN else waited
            except FailedError as error:
                failed[name] = str(error)
                del ways[name]
        turns, later = rounds(ways, best, self.options.rounds, self.folder, warm=best)
        failed |= later
        mine, theirs = turns.get(_OWN), turns.get(peer)
        return {
            "": f"{self.name}: {label}",
            "ConvLens, a second": _rate(mine) if mine else failed[_OWN],
            "batch": str(best[_OWN]["batch"]) if mine else "-",
            "peer": peer,
            "peer, a second": _rate(theirs) if theirs else failed[peer],
            "peer's batch": str(best[peer].get("batch", best[peer].get("count"))) if theirs else "-",
            "to the peer": str(rates(mine, theirs, "wall")) if mine and theirs else "-",
            "waits": waited,
            "MB, ConvLens": most(mine) if mine else "-",
            "MB, peer": most(theirs) if theirs else "-",
        }


def _fastest(way: Way, asked: Sequence[Ask], waits: Ask | None) -> tuple[Ask, str]:
    """The turn that does most in a second by the clock, and how often the host waits in a batch."""
    competitor = way.start()
    try:
        competitor.take(asked[0])
        found = [competitor.take(ask) for ask in asked]
        waited = "-"
        if waits is not None:
            with tempfile.TemporaryDirectory() as folder:
                array = competitor.take(waits, Path(folder) / "waits.npy").array
                waited = f"{np.load(str(array))[0]:.0f}"
    finally:
        competitor.end()
    speeds = [turn.says["count"] / turn.wall for turn in found]
    return asked[int(np.argmax(speeds))], waited


def _rate(turns: Sequence[Turn]) -> str:
    """How many in a second by the clock, and how long one turn takes."""
    seconds = middle(turns, "wall")
    return f"{turns[0].says['count'] / seconds:.1f} ({seconds:.2f} s)"
