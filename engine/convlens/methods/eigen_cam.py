"""``eigen-cam``: what most of a late layer has in common, without any gradient or target."""

from __future__ import annotations

from collections.abc import Sequence

from convlens.attribution.layerwise.layered import LayeredParameters, layer_for, told
from convlens.registry import Finding, Job, Method, Paper, register
from convlens.results import Result

_WEAK = 0.3  # share of a layer's energy below which one component says little of it


@register
class EigenCam(Method[LayeredParameters]):
    """The layer's first principal component: the places that excite most of its channels together.

    The target chooses the layer and is what the map is judged by, but the map itself is the same for every
    target. ``signed`` is each place's activations projected on the first right singular vector of the
    layer (places x channels, nothing subtracted), N x the layer's spatial axes; the vector's sign
    is free and taken so that the sum is positive. ``coarse`` is what of it is above zero (all of it with
    ``signed``), ``map`` (main) is ``coarse`` laid over the input, N x the input's spatial axes.
    ``share`` is how much of the layer's sum of squares the component holds, one an image.
    """

    name = "eigen-cam"
    summary = "where a late layer is most active as a whole, whatever the target"
    paper = Paper("Muhammad & Yeasin 2020", "section III", "https://arxiv.org/abs/2008.00299")
    kind = "map"
    Parameters = LayeredParameters
    target = True
    attributes = True

    def run(self, job: Job[LayeredParameters]) -> Result:
        """One forward on onnxruntime, one singular value decomposition an image."""
        import numpy as np

        from convlens.attribution.layerwise import cams

        assert job.target is not None
        model, array = job.model, job.images.array
        layer = layer_for(model, job.target, job.parameters.layer)
        maps, shares = [], []
        for start in range(0, len(array), job.batch_size):
            part = array[start : start + job.batch_size]
            value = model.runner.run({model.source.name: part}, [layer.name], job.batch_size)[layer.name]
            found, share = cams.eigen_cam(cams.by_channel(value, layer))
            maps.append(found)
            shares.append(share)
            job.advance(min(1.0, (start + len(part)) / len(array)))
        every = np.concatenate(shares)
        return cams.cam_map(
            job,
            self.name,
            layer,
            np.concatenate(maps),
            {"share": every},
            {"share": "share of the layer's sum of squares"},
            title="Eigen-CAM",
            unit="activation",
            rows=[{"share": float(share)} for share in every],
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that are empty, and layers that one component does not sum up."""
        found = told(result)
        for index, row in enumerate(result.rows):
            if row["share"] < _WEAK:
                text = (
                    f"{row['image']}: one component does not sum up {row['layer']}; its map is a part of it."
                )
                evidence = f"it holds {row['share']:.0%} of the layer's sum of squares"
                found.append(Finding("note", text, evidence, index))
        return found
