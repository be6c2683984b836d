"""``guided-grad-cam``: guided backpropagation, kept where Grad-CAM lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from convlens.attribution.layerwise.layered import LayeredParameters, layer_for, made_at, told
from convlens.registry import Finding, Job, Method, Paper, register
from convlens.results import Result


@register
class GuidedGradCam(Method[LayeredParameters]):
    """The fine lines of guided backpropagation times the coarse map that follows the target.

    ``signal`` (main) is the signal of guided backpropagation times the Grad-CAM map, signed, in the shape of
    the input (of the embedding for tokens). ``map`` is Grad-CAM laid over the input, N x the input's
    spatial axes, ``coarse`` before that, ``signed`` before the ReLU, both N x the layer's
    spatial axes. ``score`` is the target's score.
    """

    name = "guided-grad-cam"
    summary = "guided backpropagation where Grad-CAM lies"
    paper = Paper("Selvaraju et al. 2017", "section 3.2", "https://arxiv.org/abs/1610.02391")
    kind = "map"
    Parameters = LayeredParameters
    gradients = True
    lowers = True
    target = True
    attributes = True

    def run(self, job: Job[LayeredParameters]) -> Result:
        """Two forwards, one backward as far as the layer and one to the input."""
        import numpy as np

        from convlens.attribution.layerwise import cams
        from convlens.attribution.maps import Signal, input_map
        from convlens.instrument.gradients import input_gradient

        assert job.target is not None
        layer = layer_for(job.model, job.target, job.parameters.layer)
        first = replace(job, advance=lambda share: job.advance(share / 2))
        signed, _, _ = cams.by_gradient(first, layer, cams.grad_cam)
        coarse = signed if job.parameters.signed else np.maximum(signed, 0)
        full = cams.over_input(job, layer, coarse)
        array = job.images.array
        guided, score = input_gradient(
            job.model, array, job.target, "guided", job.batch_size, lambda share: job.advance(0.5 + share / 2)
        )
        signal = Signal(
            "signal",
            guided * cams.beside(full, guided, array, job.model.source),
            score,
            "signal at the input x Grad-CAM",
            f"guided Grad-CAM at {layer.alias}",
            contribution=False,
            reduction="max",
            arrays={"map": full, "coarse": coarse, "signed": signed},
            units=dict.fromkeys(("map", "coarse", "signed"), "score x activation"),
            rows=[
                {"layer": layer.alias, "largest": float(one.max()), "smallest": float(one.min())}
                for one in signed
            ],
            hints={"layer": layer.alias},
            how=made_at(job.model, layer, coarse.shape[1:]),
        )
        return input_map(job, self.name, signal)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that are empty, and layers that are early."""
        return told(result)
