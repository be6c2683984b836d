"""Runs one part of the benchmarks; ``--write`` puts its table into docs/benchmarks.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benches import (
    dream,
    faithfulness,
    gpu,
    gradients,
    load,
    masks,
    occlusion,
    record,
    rise,
    start,
    synthesis,
)
from benches.page import write

PARTS = {
    "dream": dream,
    "faithfulness": faithfulness,
    "gpu": gpu,
    "gradients": gradients,
    "load": load,
    "masks": masks,
    "occlusion": occlusion,
    "record": record,
    "rise": rise,
    "start": start,
    "synthesis": synthesis,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, module in PARTS.items():
        part = parts.add_parser(name, help=module.TITLE, description=module.__doc__)
        part.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
        module.arguments(part)
    options = parser.parse_args()
    module = PARTS[options.part]
    text = module.run(options)
    print(text)
    if options.write:
        write(Path("docs/benchmarks.md"), module.TITLE, text)


if __name__ == "__main__":
    main()
