"""RISE beside onnxruntime's own forward rate and DIANNA: the same number of masks on the same file.

The rate to reach is that of plain forwards of random arrays that lie ready, at the batch that is fastest in a
trial. DIANNA is given ``p_keep``, without which it runs 900 forwards more to find one; once with the file and
its own batch of 100, once at its best: a function around a session that is made once, at its fastest batch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benches import peers
from benches.page import conditions, table
from benches.turns import FailedError, Turn, Way, middle, most, rates, rounds

TITLE = "Random masks"
_BATCHES = (1, 4, 8, 16, 32)
_FORWARDS = 128
_CELLS, _KEEP = 8, 0.5
_ASKED = "0.93"
_OWN, _FORWARD, _GIVEN, _BEST = "ConvLens", "forwards alone", "DIANNA", "DIANNA at its best"


def arguments(parser: argparse.ArgumentParser) -> None:
    peers.arguments(parser, ["resnet18"])
    parser.add_argument("--masks", type=int, default=1000, help="of each run (1000)")
    parser.add_argument(
        "--dianna-rounds", type=int, default=1, help="the first rounds, in which DIANNA takes part (1)"
    )


def run(options: argparse.Namespace) -> str:
    rows: list[dict[str, str]] = []
    with peers.peers_of(options) as found, tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            print(name, file=sys.stderr)
            rows += _rows(found, name, options, Path(folder))
        versions = peers.versions(found.python, "dianna", "onnxruntime")
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    words = (
        f"{options.masks} masks of {_CELLS} x {_CELLS} cells, half of them kept, on one image, torchvision's "
        f"models with random weights, {threads}; images for each second of the processor, medians of "
        f"{options.rounds} rounds in which all take turns ({options.dianna_rounds} of DIANNA's), lowest - "
        f"highest in brackets. Peers: {versions}."
    )
    notes = (
        "*to forwards*: the rate to that of plain forwards of ready arrays at their best batch; at least "
        f"{_ASKED} is asked of ConvLens. *MB*: peak above what was held before the model was loaded / in "
        "all. *as ConvLens*: correlation with its map; the masks are others, so it is below 1."
    )
    return "\n\n".join([conditions(), words, table(rows), notes])


def _rows(own: peers.Peers, name: str, options: argparse.Namespace, folder: Path) -> list[dict[str, str]]:
    image = folder / f"{name}-image.npy"
    np.save(image, peers.picture(name))
    settings = {"image": str(image), "model": own.file(name)}
    ways = {
        _OWN: own.own("masks_child.py", "convlens", **settings),
        _FORWARD: own.own("occlusion_child.py", "forward", **settings),
        _GIVEN: own.way("masks_child.py", "dianna", **settings),
        _BEST: own.way("masks_child.py", "dianna", **settings),
    }
    job = {"masks": options.masks, "cells": _CELLS, "keep": _KEEP, "target": 0}
    asks: dict[str, Mapping[str, Any]] = {_OWN: job, _GIVEN: {**job, "batch": None}}
    said: dict[str, str] = {_OWN: "4, its default", _GIVEN: "100, its default"}
    failed: dict[str, str] = {}
    tried = {
        _FORWARD: [{"count": 32, "batch": batch} for batch in (_BATCHES[1], *_BATCHES)],
        _BEST: [{**job, "masks": 32, "batch": batch} for batch in (_BATCHES[1], *_BATCHES)],
    }
    for each, trial in tried.items():
        try:
            batch = _fastest(ways[each], trial)
        except FailedError as error:
            failed[each] = str(error)
            del ways[each]
            continue
        said[each] = str(batch)
        asks[each] = {"count": _FORWARDS, "batch": batch} if each == _FORWARD else {**job, "batch": batch}
    warm = {each: trial[0] for each, trial in tried.items() if each in ways}
    warm |= {each: {**asks[each], "masks": 8} for each in (_OWN, _GIVEN)}
    few = dict.fromkeys((_GIVEN, _BEST), options.dianna_rounds)
    turns, more = rounds(ways, asks, options.rounds, folder, few, warm)
    return [_row(name, each, turns, said, {**failed, **more}) for each in (_OWN, _FORWARD, _GIVEN, _BEST)]


def _row(
    model: str,
    name: str,
    turns: Mapping[str, Sequence[Turn]],
    said: Mapping[str, str],
    failed: Mapping[str, str],
) -> dict[str, str]:
    own, forward = turns.get(name), turns.get(_FORWARD)
    if own is None:
        blank = dict.fromkeys(("images a second", "to forwards", "batch", "MB", "as ConvLens"), "-")
        return {"": f"{model}: {name}", **blank, "batch": failed[name]}
    alike = "-"
    if name in (_GIVEN, _BEST) and _OWN in turns:
        maps = [np.load(str(found[0].array)).ravel() for found in (turns[_OWN], own)]
        alike = f"{np.corrcoef(maps)[0, 1]:.2f}"
    return {
        "": f"{model}: {name}",
        "images a second": f"{own[0].says['count'] / middle(own):.1f}",
        "to forwards": str(rates(own, forward)) if forward and name != _FORWARD else "-",
        "batch": said[name],
        "MB": most(own),
        "as ConvLens": alike,
    }


def _fastest(way: Way, asked: Sequence[Mapping[str, Any]]) -> int:
    """The batch of the fastest turn; the first one warms up."""
    competitor = way.start()
    try:
        found = [competitor.take(ask) for ask in (*asked, *asked)]
    finally:
        competitor.end()
    each = [turn.cpu / turn.says["count"] for turn in found]
    seconds = [min(pair) for pair in zip(each[: len(asked)], each[len(asked) :], strict=True)]
    best: int = asked[min(range(1, len(asked)), key=seconds.__getitem__)]["batch"]
    return best
