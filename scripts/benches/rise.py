"""Peak memory and time of RISE by the number of masks, on the bundled classifier and one photo.

Every figure comes from a process of its own. Memory is the peak above what the process held after the
model was loaded and had run once; it is bounded by the batch, not by the number of masks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benches.page import conditions, table

TITLE = "RISE"
_CHILD = Path(__file__).with_name("rise_child.py")
_MB = 1 << 20
_ALLOWED = 300


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="efficientnet-lite0", help="a file or a bundled model")
    parser.add_argument("--photo", type=Path, default=Path("models/photos/coffee.png"))
    parser.add_argument(
        "--masks", type=int, nargs="+", default=[500, 8000], help="numbers of masks (500 8000)"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="masks in one forward (8)")


def run(options: argparse.Namespace) -> str:
    rows = [_measure(options, masks) for masks in options.masks]
    more = (rows[-1]["peak"] - rows[0]["peak"]) / _MB
    words = (
        f"{options.model}, one photo, {options.batch_size} masks in a forward. {rows[-1]['masks']} masks "
        f"take {abs(more):.0f} MB {'more' if more >= 0 else 'less'} than {rows[0]['masks']}; up to "
        f"{_ALLOWED} MB more are allowed."
    )
    return "\n\n".join([conditions(), words, table([_row(row) for row in rows])])


def _measure(options: argparse.Namespace, masks: int) -> dict[str, Any]:
    print(f"{masks} masks", file=sys.stderr)
    command = [sys.executable, str(_CHILD), options.model, str(options.photo), str(masks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [*command, str(options.batch_size)], capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return {"masks": masks, **found}


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "masks": str(row["masks"]),
        "peak MB above the start": f"{row['peak'] / _MB:.0f}",
        "resident MB in all": f"{row['resident'] / _MB:.0f}",
        "seconds": f"{row['wall']:.0f}",
        "ms a mask": f"{1000 * row['wall'] / row['masks']:.1f}",
        "error, share of the range": f"{row['error']:.3f}",
        "halves correlate": f"{row['agreement']:.3f}",
    }
