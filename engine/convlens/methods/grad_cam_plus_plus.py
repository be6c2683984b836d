"""``grad-cam-plus-plus``: Grad-CAM whose weights count every place at which a channel helps."""

from __future__ import annotations

from collections.abc import Sequence

from convlens.attribution.layerwise.layered import LayeredParameters, layer_for, told
from convlens.registry import Finding, Job, Method, Paper, register
from convlens.results import Result

_CLEAR = 1.0  # the formula's denominator is 2 and more where activations are not negative


@register
class GradCamPlusPlus(Method[LayeredParameters]):
    """Like ``grad-cam``, with weights under which several and small objects are not drowned.

    The paper takes the exponential of the score as the class score; then the second and third
    derivatives are powers of the first, g, in a network that is linear in pieces, the exponential
    itself cancels but for one factor an image, which is left out, and the weight of a channel A is the
    sum over its places of max(g, 0) / (2 + g sum(A)): ``weights``, N x channels. ``signed``, ``coarse``,
    ``map`` (main) and ``score`` are those of ``grad-cam``. ``denominator`` is the smallest of the
    denominators that count, one an image: 2 or more where no activation is negative, as in the paper;
    below that the weights mean little.
    """

    name = "grad-cam-plus-plus"
    summary = "which cells of a late layer speak for the target, also where there are several objects"
    paper = Paper(
        "Chattopadhay et al. 2018", "section 3.1, equations 10 and 19", "https://arxiv.org/abs/1710.11063"
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
        signed, score, more = cams.by_gradient(job, layer, cams.grad_cam_plus_plus)
        denominator = more["denominator"]
        return cams.cam_map(
            job,
            self.name,
            layer,
            signed,
            {"score": score, **more},
            {
                "score": "score of the target",
                "weights": "score per activation",
                "denominator": "2 + gradient x sum of activations",
            },
            title="Grad-CAM++",
            unit="score x activation",
            rows=[{"denominator": float(each)} for each in denominator],
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that are empty, and those whose weights the formula does not carry."""
        found = told(result)
        for index, row in enumerate(result.rows):
            if row["denominator"] < _CLEAR:
                text = (
                    f"{row['image']}: {row['layer']} holds negative numbers, for which Grad-CAM++ has no "
                    "sound weights; a rectified layer, or layer-cam, is safer here."
                )
                evidence = f"a denominator of {row['denominator']:.2g}; never below 2 in the paper"
                found.append(Finding("attention", text, evidence, index))
        return found
