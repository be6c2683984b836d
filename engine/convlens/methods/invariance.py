"""``invariance``: how features and the decision change while the input is shifted, scaled and turned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.attribution.moving.settings import MovedParameters
from convlens.registry import Field, Finding, Job, Method, Paper, Step, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.moving.ways import Change
    from convlens.graph.layers import Layer
    from convlens.model import Model


class InvarianceParameters(MovedParameters):
    """What ``invariance`` can be told."""

    layers: str | None = Field(
        None, description="layers whose features are compared, with commas between their names"
    )
    depths: int = Field(
        4, ge=1, le=64, description="without names: how many layers, evenly from the first to the top"
    )


@register
class Invariance(Method[InvarianceParameters]):
    """Shift, scale and turn each input, and compare its features and its target with the original's.

    For each of the transforms T, ``translation``, ``scale`` and ``rotation``: ``T`` are the amounts (pixels,
    times, degrees); ``T_distance`` is the Euclidean distance between the features of the moved input and
    of the original, N x layers x amounts; ``T_relative`` the same as a share of the length of the
    original's features (0 for features that are all zero); ``T_target`` the target, for a class its
    probability, N x amounts (main: the first transform's). ``norm`` is the length of the original's
    features, N x layers, and ``baseline`` the target of the original.

    Photos are moved as the model sees them, at its size; translations are by whole pixels, scales and
    angles about the middle are read linearly, with every pixel counted when the picture shrinks. The
    paper does not say what comes in at the border; here that is ``fill``. Signals are shifted and stretched
    in time; videos and volumes move in the plane of rows and columns; boards move by whole points with
    nothing coming in, and by quarter turns.
    """

    name = "invariance"
    summary = "how features and decision change as the input is shifted, scaled and turned"
    paper = Paper("Zeiler & Fergus 2014", "section 4, figure 5", "https://arxiv.org/abs/1311.2901")
    kind = "curves"
    Parameters = InvarianceParameters
    target = True
    preview: ClassVar[Mapping[str, Any]] = {"steps": 4, "depths": 2}

    def run(self, job: Job[InvarianceParameters]) -> Result:
        """Every position of every image, made and run a batch at a time."""
        import numpy as np

        from convlens.attribution.layerwise.depths import chosen_layers
        from convlens.attribution.moving.ways import batches, border, changes
        from convlens.attribution.reading import reading, whole

        assert job.target is not None
        model, images, given = job.model, job.images, job.parameters
        moves = changes(model, images, given)
        layers = chosen_layers(model, given.layers, given.depths)
        fill = border(model, images, given.fill)
        names = [layer.name for layer in layers]
        total = sum(len(change.amounts) for change in moves) * len(images)
        count, done = len(images), 0
        norm, base = np.zeros((count, len(layers))), np.zeros(count)
        scores = {c.name: np.zeros((count, len(c.amounts))) for c in moves}
        far = {c.name: np.zeros((count, len(layers), len(c.amounts))) for c in moves}
        unit = "score"
        for index in range(count):
            own = reading(model, job.target.of(index))
            unit = own.unit
            values = whole(model, images.array[index : index + 1], [*own.names, *names], own.alone)
            base[index] = own.read(values)[0]
            original = [values[name][0].astype(np.float64).reshape(-1) for name in names]
            norm[index] = [np.sqrt((each * each).sum()) for each in original]
            for change in moves:
                scores[change.name][index] = base[index]
                moved = [at for at, amount in enumerate(change.amounts) if amount != change.none]
                made = batches(images.array[index], fill[index], change, moved, job.batch_size)
                feeds = ({model.source.name: batch} for batch in made)
                at = 0
                for found in model.runner.stream(feeds, list(dict.fromkeys([*own.names, *names]))):
                    read = own.read(found)
                    places = moved[at : at + len(read)]
                    scores[change.name][index, places] = read
                    for k, (name, before) in enumerate(zip(names, original, strict=True)):
                        for place, value in zip(places, found[name], strict=True):
                            gap = value.reshape(-1).astype(np.float64) - before
                            far[change.name][index, k, place] = np.sqrt((gap * gap).sum())
                    at += len(read)
                    job.advance((done + at) / total)
                done += len(change.amounts)
                job.advance(done / total)
        return self._result(job, moves, layers, unit, {"norm": norm, "baseline": base}, scores, far)

    def _result(
        self,
        job: Job[InvarianceParameters],
        moves: Sequence[Change],
        layers: Sequence[Layer],
        unit: str,
        more: dict[str, NDArray[Any]],
        scores: dict[str, NDArray[Any]],
        far: dict[str, NDArray[Any]],
    ) -> Result:
        import numpy as np

        from convlens.attribution.moving.steadiness import panels, row
        from convlens.hiding import default_fill

        assert job.target is not None
        length = more["norm"][:, :, None]
        arrays, units = dict(more), {"norm": "length of the features", "baseline": unit}
        for change in moves:
            name = change.name
            share = np.divide(far[name], length, out=np.zeros_like(far[name]), where=length > 0)
            arrays |= {
                name: change.amounts,
                f"{name}_distance": far[name],
                f"{name}_relative": share,
                f"{name}_target": scores[name],
            }
            units |= {
                name: change.unit,
                f"{name}_distance": "Euclidean distance of the features",
                f"{name}_relative": "share of the length of the features",
                f"{name}_target": unit,
            }
        rows = tuple(
            row(name, change, float(more["baseline"][i]), scores[change.name][i], far[change.name][i], layers)
            for i, name in enumerate(job.images.names)
            for change in moves
        )
        fill = job.parameters.fill or default_fill(job.model)
        return Result(
            method=self.name,
            kind=self.kind,
            main=f"{moves[0].name}_target",
            arrays=arrays,
            units=units,
            images=job.images.names,
            views=job.images.views,
            rows=rows,
            shared=tuple(change.name for change in moves),
            how={"layers": [layer.name for layer in layers], "fill": fill},
            hints={
                "title": f"invariance of {job.target.text}",
                "over": "images",
                "columns": min(3, len(layers) + 1),
                "layers": [layer.alias for layer in layers],
                "placed": layers[-1].field is not None and None not in layers[-1].field.size,
                "transforms": [change.name for change in moves],
                "units": [change.unit for change in moves],
                "curves": panels(moves, [layer.alias for layer in layers], unit),
            },
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """Once, coarsely, for the predicted class of photos."""
        if model.classes is None or model.source.kind != "photo":
            return ()
        text = (
            "Each photo is shifted, enlarged and turned; a thin line a photo, the mean in bold. The first "
            "layer changes at once with every small movement. The higher a layer, the more slowly its "
            "features should change, and the probability of the class should stay where it is for as long as "
            "the object can be seen; few networks bear being turned, unless the object looks the same then."
        )
        return (Step("What moving the photo does", 45, "invariance", {"steps": 6, "depths": 2}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """What small movements do to the first layer and the top, and how far the decision holds."""
        from convlens.attribution.moving.steadiness import findings

        return list(findings(result))
