"""``layer-cam``: a layer's activations times the positive part of the target's gradient, place by place."""

from __future__ import annotations

from collections.abc import Sequence

from convlens.attribution.layerwise.layered import LayeredParameters, layer_for, told
from convlens.registry import Finding, Job, Method, Paper, register
from convlens.results import Result


@register
class LayerCam(Method[LayeredParameters]):
    """Like ``grad-cam``, with a weight for every single place, so that early, fine layers can be read too.

    ``signed`` is the sum over channels of activation times max(gradient, 0), N x the layer's spatial
    axes; negative only where the layer itself is. ``coarse`` is what of it is above zero (all of it with
    ``signed``), ``map`` (main) is ``coarse`` laid over the input, N x the input's spatial axes, ``score``
    the target's score.
    """

    name = "layer-cam"
    summary = "which places of any layer, also an early one, speak for the target"
    paper = Paper(
        "Jiang et al. 2021", "section III, equations 5 to 7", "https://doi.org/10.1109/TIP.2021.3089943"
    )
    kind = "map"
    Parameters = LayeredParameters
    gradients = True
    lowers = True
    target = True
    attributes = True

    def run(self, job: Job[LayeredParameters]) -> Result:
        """One forward, and one backward as far as the layer."""
        from convlens.attribution.layerwise import cams

        assert job.target is not None
        layer = layer_for(job.model, job.target, job.parameters.layer)
        signed, score, _ = cams.by_gradient(job, layer, cams.layer_cam)
        return cams.cam_map(
            job,
            self.name,
            layer,
            signed,
            {"score": score},
            {"score": "score of the target"},
            title="Layer-CAM",
            unit="score x activation",
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that are empty, and layers that are early."""
        return told(result)
