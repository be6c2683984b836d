"""``filters``: the weights of a convolution as pictures, and the table that tells a healthy layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import TYPE_CHECKING, Any

from convlens.errors import LayerError, nearest
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Node
    from convlens.graph.layers import Layer
    from convlens.model import Model

_DEAD = 0.01
_PER = {"signal": "sample", "tokens": "token", "board": "point", "spectrogram": "cell", "volume": "voxel"}
_LOUD = 4.0
_ROUNDING = 1e-9  # one tap alone has the noise's share exactly


class FiltersParameters(Parameters):
    """What ``filters`` can be told."""

    layer: str | None = Field(None, description="a convolution by name or alias; the first one by default")
    show: int = Field(24, ge=1, le=512, description="filters, and inputs of each, drawn of a deeper layer")


@register
class Filters(Method[FiltersParameters]):
    """The kernels of a convolution and three numbers a filter, by which AlexNet was once repaired.

    ``weights`` (main) are the layer's, filters x inputs x height x width.
    ``rms`` is the root mean square of a filter's weights. A filter is dead where that is under a
    hundredth of the layer's median, and loud where it is over four times it. ``high`` is the share
    of its energy at frequencies above 1 / (2 s) cycles per pixel, with s the layer's stride but 2 at
    least: with a stride of 2 that is what folds back into low frequencies, aliasing. A filter of
    white noise has ``1 - 1 / s^2`` of its energy there (s to the number of axes of the kernel).
    """

    name = "filters"
    summary = "a convolution's kernels as pictures; dead, loud and aliasing filters"
    paper = Paper("Zeiler & Fergus 2014", "section 4.1, figure 6", "https://arxiv.org/abs/1311.2901")
    kind = "kernels"
    Parameters = FiltersParameters
    images = False

    def run(self, job: Job[FiltersParameters]) -> Result:
        """Read the weights; nothing is computed by the model."""
        import numpy as np

        model = job.model
        layer = _layer(model, job.parameters.layer)
        node = model.graph.producers[layer.name]
        weights = _filters(node, model.graph.constants[node.input(1)].astype(np.float64))
        stride = max(2, *(node.attr("strides") or [1]))
        flat = weights.reshape(len(weights), -1)
        rms = np.sqrt((flat**2).mean(axis=1))
        high = high_share(weights, 1 / (2 * stride))
        median = float(np.median(rms)) or 1.0
        colour = weights.shape[1] == 3 and model.source.image and _reads_input(model, node.input(0))
        rows = tuple(
            {
                "filter": number,
                "rms": float(rms[number]),
                "dead": bool(rms[number] < _DEAD * median),
                "loud": bool(rms[number] > _LOUD * median),
                "high": float(high[number]),
            }
            for number in range(len(weights))
        )
        job.advance(1.0)
        return Result(
            method=self.name,
            kind=self.kind,
            main="weights",
            arrays={"weights": weights.astype(np.float32), "rms": rms, "high": high},
            units={
                "weights": "weight",
                "rms": "weight",
                "high": f"share of energy above 1/{2 * stride} cycles per "
                + _PER.get(job.model.source.kind, "pixel"),
            },
            rows=rows,
            hints={
                "layer": layer.alias,
                "colour": colour,
                "channels": model.colours,
                "shown": job.parameters.show,
                "inputs": job.parameters.show,
                "cutoff": 1 / (2 * stride),
                "per": _PER.get(job.model.source.kind, "pixel"),
                "noise": 1 - 1 / stride ** (weights.ndim - 2),
            },
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """The first convolution."""
        if not _convolutions(model):
            return ()
        text = (
            "The first layer's filters. Healthy ones are smooth edges, stripes and colour blobs; grey ones "
            "are dead, and fine checkerboards alias."
        )
        return (Step("The first filters", 10, "first layer", {}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Dead, loud and aliasing filters, or that there are none."""
        layer, count = result.hints["layer"], len(result.rows)
        dead = [row["filter"] for row in result.rows if row["dead"]]
        loud = [row["filter"] for row in result.rows if row["loud"]]
        noise = result.hints["noise"]
        rough = [row["filter"] for row in result.rows if row["high"] > noise + _ROUNDING and not row["dead"]]
        found = []
        if dead:
            share = len(dead) / count
            text = f"{len(dead)} of {count} filters of {layer} are dead ({share:.0%}), paid for and not used."
            found.append(Finding("attention", text, f"{_list(dead)}: under 1% of the median RMS"))
        else:
            found.append(
                Finding("good", f"No filter of {layer} is dead.", f"{count} filters compared by RMS")
            )
        if loud:
            verb = "filter dominates" if len(loud) == 1 else "filters dominate"
            text = f"{len(loud)} {verb} the other filters of {layer}."
            found.append(
                Finding(
                    "attention",
                    text,
                    f"{_list(loud)}: over 4 times the median RMS; folded batch norm can do that",
                )
            )
        per = result.hints.get("per", "pixel")
        if len(rough) > 0.2 * count and per != _PER["tokens"]:  # neighbouring tokens need not be alike
            text = (
                f"{len(rough)} of {count} filters of {layer} are mostly high frequencies, a sign of aliasing."
            )
            cutoff = f"{result.hints['cutoff']:.3g} cycles per {per}"
            evidence = f"over {noise:.0%} of their energy is above {cutoff}"
            found.append(Finding("attention", text, evidence))
        return found


def high_share(weights: NDArray[Any], cutoff: float) -> NDArray[Any]:
    """Share of each filter's energy outside the square of frequencies up to ``cutoff`` cycles per pixel.

    Exact for kernels of any size: the energy inside is the quadratic form of the ideal low-pass
    filter's autocorrelation, a sinc, axis by axis (Parseval). Zero filters have 0.
    """
    import numpy as np

    low = weights
    for axis in range(2, weights.ndim):
        k = weights.shape[axis]
        apart = np.subtract.outer(np.arange(k), np.arange(k)).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            band = np.where(apart == 0, 2 * cutoff, np.sin(2 * pi * cutoff * apart) / (pi * apart))
        low = np.moveaxis(np.tensordot(low, band, axes=(axis, 0)), -1, axis)
    axes = tuple(range(1, weights.ndim))
    total = (weights**2).sum(axis=axes)
    inside = (weights * low).sum(axis=axes)
    share = np.divide(total - inside, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(np.clip(share, 0.0, 1.0))


def _filters(node: Node, weights: NDArray[Any]) -> NDArray[Any]:
    """The weight as filters x inputs x kernel; a transposed convolution stores it inputs first."""
    if node.op != "ConvTranspose":
        return weights
    import numpy as np

    parts = np.split(weights, int(node.attr("group", 1)))
    return np.concatenate([part.swapaxes(0, 1) for part in parts])


def _convolutions(model: Model) -> list[Layer]:
    """Layers with constant kernels."""
    found = []
    for layer in model.layers.of_kind("conv"):
        weight = model.graph.constant(model.graph.producers[layer.name].input(1))
        if weight is not None and weight.ndim >= 3:
            found.append(layer)
    return found


def _layer(model: Model, name: str | None) -> Layer:
    known = _convolutions(model)
    if not known:
        raise LayerError(
            "the model has no convolution with constant weights, so there are no filters to draw"
        )
    if name is None:
        return known[0]
    layer = model.layers.find(name)
    if layer not in known:
        aliases = [other.alias for other in known]
        hint = nearest(layer.alias, aliases) or f"; the first is {aliases[0]!r}"
        raise LayerError(
            f"layer {layer.alias!r} is {layer.op} and has no filters; expected a convolution{hint}"
        )
    return layer


def _reads_input(model: Model, value: str) -> bool:
    """Whether a value is the model's input, at most with its axes in another order."""
    node = model.graph.producers.get(value)
    return value == model.source.name or (
        node is not None and node.op == "Transpose" and node.inputs[0] == model.source.name
    )


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    shown = f"filter{'' if len(numbers) == 1 else 's'} {shown}"
    return shown + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
