"""Which methods' maps are true: deletion, insertion and random weights on the bundled classifier and photos.

The same as ``convlens attribute efficientnet-lite0 models/photos --faithfulness``, as a page.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benches.page import conditions, table

TITLE = "Which maps are true"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="efficientnet-lite0", help="a file or a bundled model")
    parser.add_argument(
        "--photos", type=Path, nargs="+", default=sorted(Path("models/photos").glob("*.[jp]*g"))
    )
    parser.add_argument("--quick", action="store_true", help="each method's quick, coarse settings")
    parser.add_argument("--methods", default="all", help="all, or names with commas between")
    parser.add_argument("--batch-size", type=int, default=16, help="images in one forward (16)")
    parser.add_argument("--sheet", type=Path, help="where the sheet of maps goes, as WebP")


def run(options: argparse.Namespace) -> str:
    import convlens
    from convlens.sidebyside import side_by_side

    model = convlens.load(options.model)
    found = side_by_side(
        model,
        options.photos,
        methods=options.methods,
        quick=options.quick,
        faithfulness=True,
        batch_size=options.batch_size,
    )
    text = page(found.record(), model.name, options.quick)
    if options.sheet is not None:
        found.pictures[0].image.save(options.sheet, "WEBP", quality=85, method=6)
        text += f"\n![Every method on the photos, a column each]({os.path.relpath(options.sheet, 'docs')})\n"
    return text


def page(record: dict[str, Any], name: str, quick: bool) -> str:
    """The section, from what ``convlens attribute --faithfulness --json`` says."""
    first = next(iter(record["verdicts"].values()))
    side, fill = first["order"]["part"][0], first["order"]["fill"]
    settings = (
        "quick, coarse settings" if quick else "default settings (with random weights at their quick ones)"
    )
    rows = [{key: _cell(value) for key, value in row.items()} for row in record["rows"]]
    return (
        f"{conditions()}\n\n{name}, predicted classes, each method at its {settings}; {first['rests_on']}. "
        f"*Deletion* is the area under the class's probability while parts of {side} pixels are hidden by "
        f"{fill}, the strongest first: lower is truer. *Insertion* shows them on the hidden photo: higher is "
        "truer. A method beats random where its deletion area lies more than two standard deviations of "
        "random orders below their mean. *Random weights* is the rank correlation of the map with that of "
        "the same network whose last half of the layers is random: a map that stays tells of the photo and "
        f"not of what those layers learnt.\n\n{table(rows)}\n"
    )


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
