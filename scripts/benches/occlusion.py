"""Occlusion beside plain onnxruntime and Captum: the same patches on the same weights, turn by turn.

Models of torchvision with random weights; a patch of 16 pixels moves by 8. ConvLens is called as a user calls
it (auto), and forced dense. onnxruntime is a plain loop over copies with the patch painted in, at the batch
that is fastest in a trial; Captum its Occlusion on torchvision's own model, weights frozen, in inference
mode, in the memory layout and at the ``perturbations_per_eval`` that are fastest in a trial.

What is computed whole costs the same at every position, so the dense ones do a fixed grid of the positions
and are scaled by the number of forwards; ConvLens in auto always does all of them. ``--grid 0`` lets all do
all. The probabilities are held against each other at every position that both have computed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from benches import peers
from benches.page import conditions, table
from benches.turns import FailedError, Turn, Way, middle, most, ratio, rounds
from numpy.typing import NDArray

TITLE = "Occlusion"
_SCRIPT = "occlusion_child.py"
_PATCH, _STRIDE = 16, 8
_BATCHES = (1, 4, 8, 16)
_SAME = 1e-3
ASKED = {
    "vgg16": ("5.5", "10"),
    "googlenet": ("2.4", "-"),
    "squeezenet1_1": ("2.1", "-"),
    "resnet18": ("2.0", "4"),
    "resnet50": ("2.0", "5"),
    "mobilenet_v2": ("1.6", "5"),
    "inception_v3": ("1.6", "3.5"),
    "efficientnet_b0": ("0.97", "2.5"),
}
_OWN, _DENSE, _PLAIN, _CAPTUM = "ConvLens", "ConvLens dense", "onnxruntime", "Captum"


def arguments(parser: argparse.ArgumentParser) -> None:
    peers.arguments(parser, list(ASKED))
    parser.add_argument(
        "--grid",
        type=int,
        default=7,
        help="the dense ones do so many positions an axis and are scaled; 0 is all of them (7)",
    )


def run(options: argparse.Namespace) -> str:
    rows = []
    with peers.peers_of(options) as found, tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            print(name, file=sys.stderr)
            rows.append(_Model(found, name, options, Path(folder)).row())
        versions = peers.versions(found.python, "captum", "torch", "torchvision", "onnxruntime")
    return "\n\n".join([conditions(), _words(options, versions), table(rows), _notes()])


@dataclass(frozen=True)
class Grid:
    """Positions of a patch: the ones of a whole run, and the ones that dense competitors do."""

    side: int
    number: int

    @property
    def starts(self) -> list[int]:
        """Along an axis; the last is moved in to the border."""
        return [*range(0, self.side - _PATCH, _STRIDE), self.side - _PATCH]

    @property
    def step(self) -> int:
        """From one position of the dense ones to the next: the smallest that leaves ``number`` of them."""
        step = _STRIDE
        while self.number and len([*range(0, self.side - _PATCH, step)]) + 1 > self.number:
            step += _STRIDE
        return step

    @property
    def some(self) -> list[int]:
        """Those of the dense ones, along an axis."""
        return [*range(0, self.side - _PATCH, self.step), self.side - _PATCH]

    @property
    def scale(self) -> float:
        """How many times as many forwards all positions take, the whole image counted in."""
        return (1 + len(self.starts) ** 2) / (1 + len(self.some) ** 2)


class _Model:
    """One row."""

    def __init__(self, own: peers.Peers, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.name, self.count, self.folder = name, options.rounds, folder
        self.grid = Grid(peers.SIDES.get(name, 224), options.grid)
        self.all = [[*place] for place in product(self.grid.some, self.grid.some)]
        self.met = [place for place in self.all if all(start % _STRIDE == 0 for start in place)]
        image = folder / f"{name}-image.npy"
        np.save(image, peers.picture(name))
        settings = {"image": str(image), "model": own.file(name), "folder": str(own.models), "name": name}
        self.ways: dict[str, Way] = {
            _OWN: own.own(_SCRIPT, "convlens", **settings),
            _DENSE: own.own(_SCRIPT, "convlens", **settings),
            _PLAIN: own.own(_SCRIPT, "onnxruntime", **settings),
            _CAPTUM: own.way(_SCRIPT, "captum", **settings, channels_last=False),
        }
        self.said: dict[str, str] = {}

    def row(self) -> dict[str, str]:
        """The model's row of the table."""
        try:
            plain, target = self._plain()
        except FailedError as error:
            return dict.fromkeys(_columns(), "-") | {"": self.name, "computed": str(error)}
        asks: dict[str, Mapping[str, Any]] = {
            _OWN: {"patch": _PATCH, "stride": [_STRIDE] * 2, "target": target, "exact": "auto"},
            _DENSE: {"patch": _PATCH, "stride": [self.grid.step] * 2, "target": target, "exact": "dense"},
            _PLAIN: {**plain, "places": self.all, "target": target},
        }
        try:
            asks[_CAPTUM] = self._captum(target)
        except FailedError as error:
            self.said[_CAPTUM] = str(error)
            del self.ways[_CAPTUM]
        warm = {name: {**asks[name], "stride": [self.grid.side] * 2} for name in (_OWN, _DENSE)}
        warm |= {name: {**ask, "places": self.met[:8]} for name, ask in asks.items() if name not in warm}
        turns, failed = rounds(self.ways, asks, self.count, self.folder, warm=warm)
        return self._told(turns, {**self.said, **failed})

    def _plain(self) -> tuple[dict[str, Any], int]:
        """onnxruntime's best batch, and the class."""
        ask = {"patch": _PATCH, "target": None}
        best, _, says = _fastest(self.ways[_PLAIN], _asked(ask, self.all))
        self.said[_PLAIN] = f"batch {best}"
        return {"patch": _PATCH, "batch": best}, int(says["target"])

    def _captum(self, target: int) -> dict[str, Any]:
        """Captum's best layout and ``perturbations_per_eval``."""
        ask = {"patch": _PATCH, "stride": _STRIDE, "target": target}
        kept = []
        for last in (False, True):
            way = self.ways[_CAPTUM]
            way = replace(way, settings={**way.settings, "channels_last": last})
            kept.append((_fastest(way, _asked(ask, self.met)), way, ", channels last" if last else ""))
        (best, _, _), self.ways[_CAPTUM], layout = min(kept, key=lambda each: each[0][1])
        self.said[_CAPTUM] = f"{best}{layout}"
        return {**ask, "batch": best, "places": self.met if self.grid.number else None}

    def _told(self, turns: Mapping[str, Sequence[Turn]], failed: Mapping[str, str]) -> dict[str, str]:
        own, every = turns.get(_OWN), len(self.grid.starts) ** 2
        met = len(self.met) if self.grid.number else every
        scales = {_DENSE: self.grid.scale, _PLAIN: self.grid.scale, _CAPTUM: (1 + every) / (1 + met)}
        row = {
            "": self.name,
            "ConvLens, s": f"{middle(own):.1f}" if own else "-",
            "computed": _short(own[0].says["way"]) if own else failed[_OWN],
        }
        for name, asked in zip((_PLAIN, _CAPTUM), ASKED.get(self.name, ("-", "-")), strict=True):
            found = turns.get(name)
            row[f"{name}, s"] = (
                f"{scales[name] * middle(found):.1f} ({self.said[name]})" if found else failed[name]
            )
            row[f"over {name}"] = str(ratio(found, own, scales[name])) if found and own else "-"
            row[f"asked over {name}"] = asked
        plain, dense = turns.get(_PLAIN), turns.get(_DENSE)
        row["dense over onnxruntime"] = (
            str(ratio(plain, dense, scales[_PLAIN] / scales[_DENSE])) if plain and dense else "-"
        )
        for name in (_OWN, _DENSE, _PLAIN, _CAPTUM):
            row[f"MB, {name}"] = most(turns[name]) if name in turns else "-"
        return row | self._apart(turns)

    def _apart(self, turns: Mapping[str, Sequence[Turn]]) -> dict[str, str]:
        """The largest difference to plain onnxruntime, of its largest probability; of Captum by its map."""
        said = {f"apart, {name}": "-" for name in (_OWN, _DENSE, _CAPTUM)}
        if _PLAIN not in turns:
            return said
        plain = _array(turns[_PLAIN][0])
        for name in {_OWN, _DENSE, _CAPTUM} & turns.keys():
            says, found = turns[name][0].says, _array(turns[name][0])
            if name == _CAPTUM:
                index = [self.all.index(place) for place in self.met]
                drops = turns[_PLAIN][0].says["whole"] - plain[index]
                kept = slice(0, self.grid.starts[-2] + 1)  # what a last position that is cut does not reach
                own, other = found[kept, kept], lost(drops, self.met, self.grid.side)[kept, kept]
            else:
                at = [(says["rows"].index(top), says["columns"].index(left)) for top, left in self.all]
                own, other = np.array([found[place] for place in at]), plain
            apart = float(np.abs(own - other).max() / plain.max())
            said[f"apart, {name}"] = f"{'' if apart <= _SAME else 'UNEQUAL: '}{apart:.0e}"
        return said


def lost(drops: NDArray[Any], places: Sequence[Sequence[int]], side: int) -> NDArray[Any]:
    """What hiding costs, averaged over the patches that cover each pixel; 0 where none does."""
    total, count = np.zeros((side, side)), np.zeros((side, side))
    for drop, (top, left) in zip(drops, places, strict=True):
        window = slice(top, top + _PATCH), slice(left, left + _PATCH)
        total[window] += drop
        count[window] += 1
    return total / np.maximum(count, 1)


def _asked(ask: Mapping[str, Any], places: Sequence[Any]) -> list[dict[str, Any]]:
    """Turns of a trial; the first one warms up."""
    return [{**ask, "batch": batch, "places": places[: max(8, batch)]} for batch in (_BATCHES[1], *_BATCHES)]


def _fastest(way: Way, asked: Sequence[Mapping[str, Any]]) -> tuple[int, float, Mapping[str, Any]]:
    """Batch of the turn that is the fastest a position, its seconds for one, and what the first one said."""
    competitor = way.start()
    try:
        found = [competitor.take(ask) for ask in asked]
    finally:
        competitor.end()
    seconds = [turn.cpu / len(ask["places"]) for turn, ask in zip(found, asked, strict=True)]
    best = min(range(1, len(found)), key=seconds.__getitem__)
    return asked[best]["batch"], seconds[best], found[0].says


def _columns() -> list[str]:
    each = [f"{_PLAIN}, s", f"over {_PLAIN}", f"asked over {_PLAIN}"]
    each += [column.replace(_PLAIN, _CAPTUM) for column in each]
    memory = [f"MB, {name}" for name in (_OWN, _DENSE, _PLAIN, _CAPTUM)]
    apart = [f"apart, {name}" for name in (_OWN, _DENSE, _CAPTUM)]
    return ["", "ConvLens, s", "computed", *each, "dense over onnxruntime", *memory, *apart]


def _short(way: str) -> str:
    return way.removeprefix("incremental: ").split(";")[0]


def _array(turn: Turn) -> NDArray[Any]:
    assert turn.array is not None
    found: NDArray[Any] = np.load(turn.array)
    return found


def _words(options: argparse.Namespace, versions: str) -> str:
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    grid = (
        f"those that compute whole images do {options.grid} x {options.grid} of the positions and are scaled "
        "by the number of forwards, as each costs them the same; ConvLens does all"
        if options.grid
        else "all of them do all positions"
    )
    return (
        f"A patch of {_PATCH} pixels moved by {_STRIDE} over one image of 224 (inception_v3: 299) pixels, "
        f"torchvision's models with random weights, {threads}; processor seconds, ratios as the median of "
        f"{options.rounds} rounds in which all take turns, lowest - highest in brackets. {grid[0].upper()}"
        f"{grid[1:]}. Peers: {versions}."
    )


def _notes() -> str:
    return (
        "*over onnxruntime*: seconds of the best dense loop on plain onnxruntime (its batch in brackets) to "
        "those of ConvLens; *over Captum* the same for Captum's Occlusion (`perturbations_per_eval` and "
        "layout in brackets). *dense over onnxruntime*: ConvLens told to compute whole images. *MB*: peak "
        "above what was held before the model was loaded / in all. *apart*: the largest difference of any of "
        f"the probabilities to those of plain onnxruntime, of the largest; at most {_SAME:g} is allowed."
    )
