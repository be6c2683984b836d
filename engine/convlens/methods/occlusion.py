"""``occlusion``: how the target changes when a patch of the input is hidden, place by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from convlens.hiding import Fill, Lengths, default_fill, filling, plain_sizes, sizes_text, steps
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import UNITS, given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.targets import Target

_LISTED = 3  # places listed in each direction


class OcclusionParameters(Parameters):
    """What ``occlusion`` can be told."""

    patch: Lengths = Field(
        None,
        description="side of the hidden patch, or one an axis like 4,8; a seventh of the shorter side by "
        "default, one token, point or feature at a time",
        json_schema_extra={"unit": "pixels (samples, tokens, ...)"},
    )
    stride: Lengths = Field(
        None,
        description="step from one position to the next, or one an axis; half the patch by default",
        json_schema_extra={"unit": "pixels (samples, tokens, ...)"},
    )
    fill: Fill = Field(
        None,
        description="what the patch is filled with: grey, a number (of a photo a pixel value, of tokens an "
        "id), mean (over space) or blur; by default grey for photos, mean for other images and volumes, "
        "0 for signals, boards and vectors, the card's pad for tokens",
    )


@register
class Occlusion(Method[OcclusionParameters]):
    """Hide each patch in turn and read the target again, on onnxruntime.

    ``map`` (main) is the target with the patch at each position: for a class its probability, else
    its score; N x rows x columns. ``drop`` is what the target lost, averaged over the patches that
    cover a pixel: positive where hiding lowers the target, negative where hiding raises it.
    ``baseline`` is the target of the whole image. ``rows_at`` and ``columns_at`` are the first pixels
    of the positions. The last position of each axis is moved in so that the border is covered too.
    Inputs that are no photos have the axes that they have: samples, frames, tokens, features.
    """

    name = "occlusion"
    summary = "how the target changes when a patch is hidden"
    paper = Paper("Zeiler & Fergus 2014", "section 4.2, figure 7", "https://arxiv.org/abs/1311.2901")
    kind = "map"
    Parameters = OcclusionParameters
    target = True
    attributes = True

    def run(self, job: Job[OcclusionParameters]) -> Result:
        """Every position of every image, in batches of masked copies made while the model runs."""
        import numpy as np

        from convlens.runtime.patches import masked, positions, spread
        from convlens.targets import check_rows

        assert job.target is not None
        images, source = job.images, job.model.source
        axes = source.axes
        extent = [images.array.shape[axis] for axis in axes]
        patch, stride = steps(job.parameters.patch, job.parameters.stride, source, extent)
        starts = positions(extent, patch, stride)
        places = list(product(*starts))
        filler = job.parameters.fill or default_fill(job.model)
        fill = filling(job.model, images, filler, patch)
        base, grids, drops = np.zeros(len(images)), [], []
        for index in range(len(images)):
            read, names = _reader(job.model, job.target.of(index))
            whole = {job.model.source.name: images.array[index : index + 1]}
            values = job.model.runner.run(whole, names)
            for name, value in values.items():
                check_rows(name, value.shape, 1)
            base[index] = read(values)[0]
            found: list[NDArray[Any]] = []
            batches = masked(job.model.source.name, images.array[index], fill[index], axes, places, patch)
            for values in job.model.runner.stream(batches(job.batch_size), names):
                found.append(read(values))
                done = index + sum(map(len, found)) / len(places)
                job.advance(done / len(images))
            hidden = np.concatenate(found)
            grids.append(hidden.reshape([len(s) for s in starts]))
            drops.append(spread(base[index] - hidden, places, extent, patch))
        grid, drop = np.stack(grids), np.stack(drops)
        at = {f"{name}_at": np.array(s) for name, s in zip(source.axis_names, starts, strict=True)}
        unit = UNITS.get(source.kind, "pixels")
        side, step = sizes_text(patch), sizes_text(stride)
        what = "probability" if job.target.kind in ("class", "predicted") else "score"
        rows = tuple(
            row
            for i, name in enumerate(images.names)
            for row in _extremes(name, float(base[i]), grid[i], starts, patch)
        )
        return Result(
            method=self.name,
            kind=self.kind,
            main="map",
            arrays={
                "map": grid,
                "drop": drop,
                "baseline": base,
                **at,
                **given_arrays(job),
            },
            units={
                "map": what,
                "drop": f"{what} lost",
                "baseline": what,
                **dict.fromkeys(at, unit),
                **given_units(job),
            },
            images=images.names,
            views=images.views,
            rows=rows,
            shared=tuple(at),
            how={
                "patch": plain_sizes(patch),
                "stride": plain_sizes(stride),
                "positions": len(places),
                "fill": filler,
            },
            hints={
                "draw": [
                    {
                        "array": "drop",
                        "style": "overlay" if images.views is not None else "map",
                        "label": f"{what} lost when hidden (blue: gained)",
                    }
                ],
                "heat": {"array": "drop", "reduction": None},
                "layout": "NCHW",
                **shown(job),
                "each": [
                    {
                        "title": f"occlusion of {job.target.words(i)} (patch {side}, stride {step})",
                        "short": f"{job.target.words(i)}; patch {side}, stride {step} {unit}",
                        "marks": _marks(rows, name),
                        **words_of(job, i),
                    }
                    for i, name in enumerate(images.names)
                ],
            },
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """Once, for the predicted class."""
        if model.classes is None:
            return ()
        moved = {
            "photo": "A grey square is moved over the photo.",
            "signal": "A stretch of silence is moved along the signal.",
            "tokens": "One token after the other is replaced by the one that stands for nothing.",
            "board": "One point after the other is made empty.",
            "vector": "One feature after the other is set to zero.",
        }.get(model.source.kind, "A patch of the mean is moved over the input.")
        text = (
            f"{moved} Red: hiding this costs the class probability, so the "
            "model uses it. Blue: hiding this raises the probability, so the model is distracted by it. "
            "The boxes mark the largest fall and the largest rise."
        )
        return (Step("What happens when a part is hidden", 40, "occlusion", {}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Where the target hangs on, and where it is disturbed."""
        found = []
        extent = result.arrays["drop"].shape[1:]
        axes = [key.removesuffix("_at") for key in result.shared]
        for index, name in enumerate(result.images):
            base = float(result.arrays["baseline"][index])
            rows = [row for row in result.rows if row["image"] == name]
            falls = [row for row in rows if row["effect"] == "falls"]
            rises = [row for row in rows if row["effect"] == "rises"]
            if falls and base > 0 and -falls[0]["change"] > 0.2 * base:
                text = f"{name}: the decision hangs most on {_box_text(falls[0], extent, axes)}."
                evidence = f"hiding it takes the target from {base:.2f} to {falls[0]['value']:.2f}"
                found.append(Finding("note", text, evidence, index))
            elif base > 0:
                text = f"{name}: no single patch matters much; the evidence is spread or redundant."
                largest = -falls[0]["change"] if falls else 0.0
                found.append(Finding("note", text, f"largest fall {largest:.2f} of {base:.2f}", index))
            if rises and rises[0]["change"] > 0.1:
                text = f"{name}: something at {_box_text(rises[0], extent, axes)} speaks against the class."
                evidence = f"hiding it raises the target from {base:.2f} to {rises[0]['value']:.2f}"
                found.append(Finding("attention", text, evidence, index))
        return found


def _reader(
    model: Model, target: Target
) -> tuple[Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]], list[str]]:
    """How the target is read from the values of a batch, and which values that takes."""
    import numpy as np

    classes = model.classes
    if target.kind in ("class", "predicted") and classes is not None:
        name = classes.name
        return lambda values: np.asarray(classes.probabilities(values[name])[:, target.index]), [name]
    names = list(target.needs(model.graph.outputs))

    def read(values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(target.score(values), dtype=np.float64)

    return read, names


def _extremes(
    name: str, base: float, grid: NDArray[Any], starts: Sequence[Sequence[int]], patch: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The places where hiding lowers and raises the target most, none overlapping another."""
    import numpy as np

    change = grid - base
    for effect, order in (
        ("falls", np.argsort(change, axis=None)),
        ("rises", np.argsort(-change, axis=None)),
    ):
        chosen: list[tuple[int, ...]] = []
        for flat in order:
            at = tuple(int(i) for i in np.unravel_index(int(flat), grid.shape))
            value = float(change[at])
            if len(chosen) == _LISTED or not (value < 0 if effect == "falls" else value > 0):
                break
            place = tuple(starts[axis][i] for axis, i in enumerate(at))
            if all(_apart(place, other, patch) for other in chosen):
                chosen.append(place)
                yield {
                    "image": name,
                    "effect": effect,
                    "from": list(place),
                    "to": [start + side for start, side in zip(place, patch, strict=True)],
                    "value": float(grid[at]),
                    "change": value,
                }


def _apart(one: Sequence[int], other: Sequence[int], patch: Sequence[int]) -> bool:
    """Whether patches at two places do not overlap."""
    return any(abs(a - b) >= side for a, b, side in zip(one, other, patch, strict=True))


def _marks(rows: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """The strongest place in each direction, as boxes for the picture."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["image"] == name:
            first.setdefault(row["effect"], row)
    return [{"from": row["from"], "to": row["to"], "effect": effect} for effect, row in first.items()]


def _box_text(row: Mapping[str, Any], extent: Sequence[int], axes: Sequence[str]) -> str:
    spans = list(zip(axes, row["from"], row["to"], strict=True))
    exact = ", ".join(
        f"{axis.removesuffix('s')} {a}" if b == a + 1 else f"{axis} {a} to {b - 1}" for axis, a, b in spans
    )
    if list(axes) != ["rows", "columns"]:
        return exact
    thirds = [min(2, int(1.5 * (a + b) / size)) for (_, a, b), size in zip(spans, extent, strict=True)]
    where = f"{('upper', 'middle', 'lower')[thirds[0]]} {('left', 'centre', 'right')[thirds[1]]}"
    return f"the {where} ({exact})"
