"""What moving the inputs shows: the paper's figure, a table, and findings in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.pictures.colour import number
from convlens.registry import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.moving.ways import Change
    from convlens.graph.layers import Layer
    from convlens.results import Result


def row(
    name: str, change: Change, base: float, scores: NDArray[Any], far: NDArray[Any], layers: Sequence[Layer]
) -> dict[str, Any]:
    """One line of the table: the target at its lowest, and the layers at their furthest."""
    low = int(scores.argmin())
    return {
        "image": name,
        "transform": change.name,
        "unmoved": base,
        "lowest": float(scores[low]),
        "at": float(change.amounts[low]),
        "unit": change.unit,
        **{f"distance at {layer.alias}": float(own.max()) for layer, own in zip(layers, far, strict=True)},
    }


def panels(changes: Sequence[Change], layers: Sequence[str], unit: str) -> list[dict[str, Any]]:
    """The paper's figure, a row a transform, and the mean relative distances of all layers."""
    panels: list[dict[str, Any]] = []
    for change in changes:
        shared: dict[str, Any] = {"x": change.name, "x_label": change.label, "figure": "", **_ticks(change)}
        for row in dict.fromkeys((0, len(layers) - 1)):
            line = {"array": f"{change.name}_distance", "row": row, "label": f"distance at {layers[row]}"}
            panels.append(
                {**shared, "lines": [line], "y_label": "distance", "title": f"distance at {layers[row]}"}
            )
        line = {"array": f"{change.name}_target", "label": unit}
        whole = {"y_range": [0, 1]} if unit == "probability" else {}
        panels.append({**shared, "lines": [line], "y_label": unit, "title": f"{unit} of the target", **whole})
    if len(layers) > 2:
        panels += [
            {
                "figure": "all layers, mean",
                "x": change.name,
                "x_label": change.label,
                **_ticks(change),
                "y_label": "relative distance",
                "title": change.name,
                "ordered": True,
                "mean_only": True,
                "lines": [
                    {"array": f"{change.name}_relative", "row": row, "label": layer}
                    for row, layer in enumerate(layers)
                ],
            }
            for change in changes
        ]
    return panels


def _ticks(change: Change) -> dict[str, Any]:
    """Quarter turns where there are some."""
    if change.name != "rotation" or change.amounts.max() < 180:
        return {}
    return {"x_ticks": [90 * quarter for quarter in range(int(change.amounts.max() // 90) + 1)]}


def findings(result: Result) -> Iterator[Finding]:
    """What small movements do to the first layer and the top, and how far the decision holds."""
    yield from _of_layers(result)
    yield from _of_decision(result)


def _of_layers(result: Result) -> Iterator[Finding]:
    """What the smallest movement does at the first layer and at the top."""
    layers = result.hints["layers"]
    first = result.hints["transforms"][0]
    amounts = result.arrays[first]
    relative = result.arrays[f"{first}_relative"].mean(axis=0)
    none = 1.0 if first == "scale" else 0.0
    size = np.where(amounts == none, np.inf, np.abs(amounts - none))
    if len(layers) < 2 or not np.isfinite(size).any():
        return
    small = np.flatnonzero(size == size.min())
    low, top = (float(relative[row, small].mean()) for row in (0, -1))
    how = f"A {first} of {_amount(amounts[small[-1]], result, first)}"
    many = f"mean over {len(result.images)}; distance to the original's features as a share of their length"
    if top < low:
        text = (
            f"{how} changes {layers[0]} by {low:.0%} and {layers[-1]} by {top:.0%}: depth makes it steadier."
        )
        yield Finding("good", text, many)
    elif result.hints["placed"]:
        text = f"{how} changes {layers[-1]} by {top:.0%} and {layers[0]} by {low:.0%}; both keep places."
        yield Finding("note", text, many)
    else:
        text = f"{how} changes {layers[-1]} by {top:.0%}, no less than {layers[0]} ({low:.0%})."
        yield Finding("attention", text, many)


def _of_decision(result: Result) -> Iterator[Finding]:
    """Where a class loses half of its probability."""
    if result.units["baseline"] != "probability":
        return
    base = result.arrays["baseline"]
    for name in result.hints["transforms"]:
        amounts, scores = result.arrays[name], result.arrays[f"{name}_target"]
        if name == "translation":
            near = np.abs(amounts) <= np.abs(amounts).max() / 2
            worst = scores[:, near].min(axis=1)
            bad = np.flatnonzero(worst < base / 2)
            far = _amount(np.abs(amounts[near]).max(), result, name)
            for index in bad:
                text = f"{result.images[index]}: a shift of {far} or less costs half of the probability."
                evidence = f"from {base[index]:.2f} down to {worst[index]:.2f}"
                yield Finding("attention", text, evidence, int(index))
            if not bad.size:
                text = f"No shift of up to {far} costs half of the probability."
                yield Finding("good", text, f"{len(base)} compared, each for its own target")
            continue
        none = 1.0 if name == "scale" else 0.0
        away = np.abs(amounts - none)
        away = np.minimum(away, 360 - away) if name == "rotation" else away
        mean = scores.mean(axis=0)
        lost = np.flatnonzero(mean < base.mean() / 2)
        verb = "Scaled" if name == "scale" else "Turned"
        if lost.size:
            at = lost[away[lost].argmin()]
            amount = _amount(away[at] if name == "rotation" else amounts[at], result, name)
            text = f"{verb} by {amount}, less than half of the mean probability is left."
            yield Finding("note", text, f"{mean[at]:.2f} instead of {base.mean():.2f}")
        else:
            text = f"{verb} in any way that was tried, more than half of the mean probability is left."
            yield Finding("good", text, f"at least {mean.min():.2f} of {base.mean():.2f}")


def _amount(value: float, result: Result, name: str) -> str:
    """An amount with its unit."""
    unit = result.hints["units"][result.hints["transforms"].index(name)]
    return f"{number(float(value))} {unit.removesuffix('s') if value == 1 and name != 'scale' else unit}"
