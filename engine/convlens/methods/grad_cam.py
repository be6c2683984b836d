"""``grad-cam``: a layer's channels weighed by the target's mean gradient, as a map over the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convlens.attribution.layerwise.layered import LayeredParameters, layer_for, told
from convlens.errors import LayerError, TargetError
from convlens.registry import Finding, Job, Method, Paper, Step, register
from convlens.results import Result

if TYPE_CHECKING:
    from convlens.model import Model


@register
class GradCam(Method[LayeredParameters]):
    """Which cells of a late layer speak for the target: coarse, but it follows the target.

    Each channel is weighed by the mean gradient of the target over the channel's places
    (``weights``, N x channels), and the weighed channels are added up: ``signed``, N x the layer's
    spatial axes. ``coarse`` is what of it is above zero (all of it with ``signed``), and ``map`` (main)
    is ``coarse`` laid over the input, N x the input's spatial axes. ``score`` is the target's score. The
    map is no share of the score and is comparable only within one image and target.
    """

    name = "grad-cam"
    summary = "which cells of a late layer speak for the target"
    paper = Paper("Selvaraju et al. 2017", "section 3, equations 1 and 2", "https://arxiv.org/abs/1610.02391")
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
        signed, score, more = cams.by_gradient(job, layer, cams.grad_cam)
        return cams.cam_map(
            job,
            self.name,
            layer,
            signed,
            {"score": score, **more},
            {"score": "score of the target", "weights": "score per activation"},
            title="Grad-CAM",
            unit="score x activation",
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """Once, for the predicted class."""
        if model.classes is None:
            return ()
        try:
            layer_for(model, model.target(None), None)
        except (LayerError, TargetError):
            return ()
        what = "photo" if model.source.image else "input"
        text = (
            f"Which cells of the last layer with places speak for the class. Coarse, since the layer has few "
            f"cells and each of them sees more of the {what} than it covers, but it tells classes apart."
        )
        section = "Which pixels it depends on" if what == "photo" else "Which parts it depends on"
        return (Step(section, 30, "Grad-CAM", {}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that are empty, and layers that are early."""
        return told(result)
