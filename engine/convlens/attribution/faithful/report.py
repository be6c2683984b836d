"""The Result of a judgement: units, what was done, how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.faithful.sanity import middle_of
from convlens.attribution.faithful.verdict import order_outcome, random_outcome
from convlens.attribution.reading import reading
from convlens.inputs import NOUNS
from convlens.shown import shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.faithful.judged import Judged
    from convlens.attribution.faithful.sanity import Sanity
    from convlens.registry import Job
    from convlens.results import Result

_CURVES = {
    "deletion": ("parts are hidden, the strongest first", "share of parts hidden", "lower is truer"),
    "insertion": ("parts are shown, the strongest first", "share of parts shown", "higher is truer"),
    "flipping": ("parts become random numbers", "share of parts replaced", "lower is truer"),
}


def units_of(job: Job[Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """The unit of each array."""
    assert job.target is not None
    unit = reading(job.model, job.target).unit
    known = {
        "share": "share of parts",
        "depth": "layers from the last",
        "heat": "as the method gives it",
        "cascade_heat": "as the method gives it",
        "sensitivity": "share of the map's length",
        "pointing": "0 or 1",
        "pointing_share": "share of the positive map",
    }
    for name in ("cascade", "apart"):
        known |= {
            name: "rank correlation",
            f"{name}_ssim": "structural similarity",
            f"{name}_usable": "0 or 1",
        }
    return {name: known.get(name, unit) for name in arrays}


def how_of(
    judged: Judged, arrays: Mapping[str, NDArray[Any]], sanity: Mapping[str, Sanity], fill: str
) -> dict[str, Any]:
    """What was judged, and on what."""
    how: dict[str, Any] = {
        "of": {"method": judged.method.name, "parameters": judged.settings.model_dump()},
        "fill": fill,
        "steps": len(arrays["share"]) - 1,
    }
    if sanity:
        found = sanity["cascade"]
        refused = {name: list(each.refused) for name, each in sanity.items() if any(each.refused)}
        how |= {"layers": list(found.layers), "weighted_layers": found.count}
        how |= {"refused": refused} if refused else {}
    return how


def verdict_of(result: Result) -> dict[str, Any]:
    """The verdict over all images of a judgement: outcomes, areas, and what they rest on."""
    areas = result.arrays["deletion_area"]
    count, noun = len(areas), result.hints["noun"]
    verdict: dict[str, Any] = {
        "deletion": order_outcome(areas[:, 0], areas[:, 2:]),
        "area": float(areas[:, 0].mean()),
        "area_centre": float(areas[:, 1].mean()),
        "area_random": float(areas[:, 2:].mean()),
        "rests_on": f"on {count} {noun}{'s' * (count != 1)}, {result.how['steps']} steps, "
        f"{areas.shape[1] - 2} random orders",
    }
    if "cascade" in result.arrays:
        depth, layers = result.arrays["depth"], result.how["weighted_layers"]
        middle = middle_of(depth.tolist(), layers)
        there = result.arrays["cascade_usable"][:, middle].astype(bool)
        rank = result.arrays["cascade"][:, middle]
        verdict |= {
            "randomised": random_outcome(rank, there),
            "alike": float(np.abs(rank[there]).mean()) if there.any() else 0.0,
            "depth": int(depth[middle]),
            "layers": layers,
        }
    return verdict


def hints_of(
    job: Job[Any],
    judged: Judged,
    sanity: Mapping[str, Sanity],
) -> dict[str, Any]:
    """Curves as panels, and the maps of random networks as a strip."""
    assert job.target is not None
    target = job.target
    unit = reading(job.model, target).unit
    panels: list[dict[str, Any]] = []
    for name, (title, across, better) in _CURVES.items():
        panels.append(
            {
                "title": f"{name}: {title} ({better})",
                "x": "share",
                "x_label": across,
                "y_label": f"{unit} of the target",
                "lines": [
                    {"array": name, "label": "this map", "weight": "bold"},
                    {"array": f"{name}_random", "label": "random orders, mean", "weight": "thin"},
                    {"array": f"{name}_centre", "label": "from the centre", "weight": "thin"},
                ],
            }
        )
    hints: dict[str, Any] = {
        "curves": panels,
        "columns": 2,
        "noun": NOUNS[job.model.source.kind],
        "layout": job.model.source.layout,
        "channels": job.model.colours,
        **shown(job),
        "each": [
            {
                "title": f"is {judged.words} true, of {target.words(i)}",
                "short": target.words(i),
                **words_of(job, i),
            }
            for i in range(len(job.images))
        ],
    }
    if sanity:
        panels.append(
            {
                "title": "random weights: how much of the map stays (1: all of it)",
                "x": "depth",
                "x_label": f"layers from the last, of {sanity['cascade'].count}",
                "y_label": "rank correlation",
                "lines": [
                    {"array": "cascade", "label": "random down to it", "weight": "bold"},
                    {"array": "apart", "label": "it alone random", "weight": "thin"},
                ],
            }
        )
        found = sanity["cascade"]
        hints["strip"] = {
            "first": "heat",
            "array": "cascade_heat",
            "usable": "cascade_usable",
            "labels": [
                "trained",
                *(f"random down to {name}" for name in found.layers),
            ],
            "title": f"{judged.words} as layers become random, each in its own scale",
        }
    return hints
