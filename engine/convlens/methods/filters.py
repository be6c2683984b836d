"""``filters``: the weights of a convolution as pictures, and the table that tells a healthy layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import TYPE_CHECKING, Any

from convlens.errors import CardError, ImageError, LayerError, nearest
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Node
    from convlens.model import Model

_DEAD = 0.01
_PER = {"signal": "sample", "tokens": "token", "board": "point", "spectrogram": "cell", "volume": "voxel"}
_LOUD = 4.0
_PAPERS = 0.1  # the radius of the paper, for pixels of -128 to 128
_LARGE, _FAR = (
    9,
    4,
)  # kernel and stride from which on a first layer is as coarse as the one that they repaired
_SEEN = 5  # numbers along a kernel that tell three bands of frequencies apart
_THIRDS = (1 / 6, 1 / 3)
_PASSED_ON = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Transpose"})
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
    ``low`` and ``middle`` are the shares below 1/6 and from there to 1/3 cycles per pixel; a first layer
    that has both ends and little between was a reason for the paper to make it smaller.

    Weights that the file holds as codes are read as the numbers that they stand for. The findings give
    the paper's advice where its reason was measured: kernels of 7 instead of 11 and a stride of 2
    instead of 4 against aliasing and dead filters, and a fixed radius of 0.1 for the RMS against filters
    that dominate; the radius is for pixels of -128 to 128, and is scaled to what goes in here.
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

        from convlens.graph.kernels import kernels

        model = job.model
        alias, node = _chosen(model, job.parameters.layer)
        weights = kernels(node, model.graph)
        assert weights is not None
        stride = max(2, *(node.attr("strides") or [1]))
        flat = weights.reshape(len(weights), -1)
        rms = np.sqrt((flat**2).mean(axis=1))
        high = high_share(weights, 1 / (2 * stride))
        median = float(np.median(rms)) or 1.0
        first = _reads_input(model, node.input(0))
        colour = weights.shape[1] == 3 and model.source.image and first
        low, upper = 1 - high_share(weights, _THIRDS[0]), high_share(weights, _THIRDS[1])
        reach = _reach(model) if first else None
        rows = tuple(
            {
                "filter": number,
                "rms": float(rms[number]),
                "dead": bool(rms[number] < _DEAD * median),
                "loud": bool(rms[number] > _LOUD * median),
                "high": float(high[number]),
                "low": float(low[number]),
                "middle": float(1 - low[number] - upper[number]),
            }
            for number in range(len(weights))
        )
        per = _PER.get(model.source.kind, "pixel")
        job.advance(1.0)
        return Result(
            method=self.name,
            kind=self.kind,
            main="weights",
            arrays={
                "weights": weights.astype(np.float32),
                "rms": rms,
                "high": high,
                "low": low,
                "middle": 1 - low - upper,
            },
            units={
                "low": f"share of energy below 1/6 cycles per {per}",
                "middle": f"share of energy from 1/6 to 1/3 cycles per {per}",
                "weights": "weight",
                "rms": "weight",
                "high": f"share of energy above 1/{2 * stride} cycles per {per}",
            },
            rows=rows,
            hints={
                "layer": alias,
                "colour": colour,
                "channels": model.colours,
                "shown": job.parameters.show,
                "inputs": job.parameters.show,
                "cutoff": 1 / (2 * stride),
                "per": per,
                "first": first,
                "kernel": list(weights.shape[2:]),
                "stride": max(node.attr("strides") or [1]),
                "reach": reach,
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
            found.append(
                Finding("attention", text + _coarse(result), f"{_list(dead)}: under 1% of the median RMS")
            )
        else:
            found.append(
                Finding("good", f"No filter of {layer} is dead.", f"{count} filters compared by RMS")
            )
        if loud:
            verb = "filter dominates" if len(loud) == 1 else "filters dominate"
            text = f"{len(loud)} {verb} the other filters of {layer}."
            evidence = f"{_list(loud)}: over 4 times the median RMS; folded batch norm can do that"
            found.append(Finding("attention", text + _radius(result), evidence))
        per = result.hints.get("per", "pixel")
        if len(rough) > 0.2 * count and per != _PER["tokens"]:  # neighbouring tokens need not be alike
            text = (
                f"{len(rough)} of {count} filters of {layer} are mostly high frequencies, a sign of aliasing."
            )
            cutoff = f"{result.hints['cutoff']:.3g} cycles per {per}"
            evidence = f"over {noise:.0%} of their energy is above {cutoff}"
            found.append(Finding("attention", text + _coarse(result), evidence))
        found += _gap(result)
        return found


def _coarse(result: Result) -> str:
    """The paper's remedy against aliasing and dead filters, for a first layer as coarse as theirs."""
    kernel, stride = max(result.hints["kernel"]), result.hints["stride"]
    if not result.hints["first"] or (kernel < _LARGE and stride < _FAR):
        return ""
    return (
        " Zeiler and Fergus had this with kernels of 11 and a stride of 4, and less of it with 7 and 2; "
        f"here they are {kernel} and {stride}."
    )


def _radius(result: Result) -> str:
    """The paper's remedy against filters that dominate, unless none leaves the radius that it is about."""
    advice = " Zeiler and Fergus bring a filter back whenever its RMS leaves a fixed radius while training"
    reach = result.hints["reach"]
    if reach is None:
        return f"{advice}."
    radius = _PAPERS * 128 / reach
    over = sum(row["rms"] > radius for row in result.rows)
    if not over:
        return ""
    return (
        f"{advice}, 0.1 for pixels up to 128; for the numbers up to {reach:.3g} that go in here it is "
        f"{radius:.2g}, which {over} exceed{'s' if over == 1 else ''}."
    )


def _gap(result: Result) -> list[Finding]:
    """A first layer of very smooth and very rough filters, with few between."""
    if not result.hints["first"] or min(result.hints["kernel"], default=0) < _SEEN:
        return []
    tops = [
        max(
            ("low", row["low"]),
            ("middle", row["middle"]),
            ("high", 1 - row["low"] - row["middle"]),
            key=lambda band: band[1],
        )
        for row in result.rows
        if not row["dead"]
    ]
    counts = {band: sum(top[0] == band for top in tops) for band in ("low", "middle", "high")}
    ends = min(counts["low"], counts["high"])
    if not tops or counts["middle"] >= 0.1 * len(tops) or ends < 0.25 * len(tops):
        return []
    text = (
        f"The filters of {result.hints['layer']} are either smooth or rough, with little between."
        f"{_coarse(result)}"
    )
    per = result.hints["per"]
    evidence = (
        f"mostly below 1/6 cycles per {per}: {counts['low']}, up to 1/3: {counts['middle']}, above: "
        f"{counts['high']}, of {len(tops)} that are not dead"
    )
    return [Finding("attention", text, evidence)]


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


def _convolutions(model: Model) -> dict[str, Node]:
    """Every node with constant kernels by its layer's alias; by its value's name where that holds codes."""
    from convlens import ops
    from convlens.graph.kernels import kernels

    found = {}
    for node in model.graph.nodes:
        entry = ops.find(node)
        if entry is None or entry.kind != "conv" or kernels(node, model.graph) is None:
            continue
        layer = model.layers.get(node.outputs[0])
        found[layer.alias if layer is not None else node.outputs[0]] = node
    return found


def _chosen(model: Model, name: str | None) -> tuple[str, Node]:
    known = _convolutions(model)
    if not known:
        raise LayerError(
            "the model has no convolution with constant weights, so there are no filters to draw"
        )
    if name is None:
        return next(iter(known.items()))
    layer = model.layers.get(name)
    alias = layer.alias if layer is not None else name
    if alias not in known:
        found = model.layers.find(name)
        hint = nearest(alias, list(known)) or f"; the first is {next(iter(known))!r}"
        raise LayerError(f"layer {alias!r} is {found.op} and has no filters; expected a convolution{hint}")
    return alias, known[alias]


def _reads_input(model: Model, value: str) -> bool:
    """Whether a value is the model's input, at most in other axes, codes or another type."""
    while (node := model.graph.producers.get(value)) is not None and node.op in _PASSED_ON:
        value = node.input(0)
    return value == model.source.name


def _reach(model: Model) -> float | None:
    """The largest magnitude that a photo's numbers have when they go in, None where that is not known."""
    try:
        how = model.preprocess
    except (CardError, ImageError):
        return None
    count = max(len(how.mean), len(how.std))
    pairs = [(how.mean[i % len(how.mean)], how.std[i % len(how.std)]) for i in range(count)]
    return max(abs(end - mean) / std for end in (how.low, how.high) for mean, std in pairs)


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    shown = f"filter{'' if len(numbers) == 1 else 's'} {shown}"
    return shown + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
