"""``lrp``: layer-wise relevance propagation, the score handed down layer by layer to the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOST = 0.5  # share of the score from which on a reader must know that it does not add up


class LrpParameters(Parameters):
    """What ``lrp`` can be told."""

    composite: Literal[
        "epsilon-plus",
        "epsilon-plus-flat",
        "epsilon-gamma-box",
        "epsilon-alpha2-beta1",
        "epsilon-alpha2-beta1-flat",
        "epsilon",
        "gamma",
        "alpha-beta",
    ] = Field(
        "epsilon-plus",
        description="which rule for which layer: the first word is for dense layers, the second for "
        "convolutions, the last for the first layer; one word alone is for all",
    )
    input_rule: Literal["composite", "none", "box", "flat", "w-square"] = Field(
        "composite",
        description="rule of the first layer: what the composite says, none of its own, box (z-B: pixels "
        "have bounds), flat or w-square",
    )
    epsilon: float = Field(
        1e-6, ge=0, description="of the epsilon rule", json_schema_extra={"unit": "value of the layer"}
    )
    gamma: float = Field(0.25, ge=0, description="of the gamma rule: how much positive weights are favoured")
    alpha: float = Field(2.0, ge=1, description="of the composite alpha-beta; its beta is alpha - 1")
    without_bias: bool = Field(
        False,
        description="leave biases out of the plus and alpha-beta rules, where they take a share as "
        "published; more of the score arrives at the input then",
    )


@register
class Lrp(Method[LrpParameters]):
    """How much of the score each input number accounts for: ``relevance`` (main), in the shape of the input.

    The score itself is handed down from layer to layer; each layer shares what it got among its inputs by
    a rule (see :mod:`convlens.instrument.relevance.rules`; for everything else in a graph,
    :mod:`convlens.instrument.relevance.nodes`). ``score`` is the target's score and ``total`` the sum of the
    relevance, both one number an image; ``conservation`` is the one divided by the other: 1 where all of
    the score has arrived, less (or more) by the share that went to biases and stabilisers, and 0 where
    there was no score to share. Of tokens, at their embedding: ``product`` is each token's relevance,
    N x T.
    """

    name = "lrp"
    summary = "which pixels account for the score, handed down layer by layer (LRP)"
    paper = Paper(
        "Bach et al. 2015; Montavon et al. 2019; Kohlbrenner et al. 2020",
        "sections 2.3; 10.2; II",
        "https://doi.org/10.1371/journal.pone.0130140",
    )
    kind = "map"
    Parameters = LrpParameters
    gradients = True
    target = True
    attributes = True

    def run(self, job: Job[LrpParameters]) -> Result:
        """One forward an image, and one to four times its cost back."""
        import numpy as np

        from convlens.attribution.maps import Signal, input_map
        from convlens.instrument.relevance.passage import relevance
        from convlens.instrument.relevance.rules import COMPOSITES, Settings

        assert job.target is not None
        given = job.parameters
        composite = COMPOSITES[given.composite].at_input(given.input_rule)
        box, words = _box(job) if composite.first == "box" else (None, "")
        found = relevance(
            job.model,
            job.images.array,
            job.target,
            composite,
            Settings(given.epsilon, given.gamma, given.alpha, not given.without_bias),
            job.batch_size,
            box,
            job.advance,
        )
        total = found.array.reshape(len(found.array), -1).sum(axis=1)
        some = found.started != 0
        kept = np.where(some, total / np.where(some, found.started, 1), 0).astype(found.array.dtype)
        signal = Signal(
            name="relevance",
            array=found.array,
            scores=found.scores,
            unit="score",
            title=f"relevance ({given.composite})",
            contribution=True,
            reduction="signed",
            colour=False,
            arrays={"total": total, "conservation": kept},
            units={"total": "score", "conservation": "share of the score"},
            rows=[
                {"relevance": float(total[i]), "lost to biases and stabilisers": float(1 - kept[i])}
                for i in range(len(total))
            ],
            how={"box": words} if words else {},
        )
        return input_map(job, self.name, signal)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Images of which much of the score has not arrived."""
        found = []
        for index, row in enumerate(result.rows):
            kept = 1 - row["lost to biases and stabilisers"]
            if abs(1 - kept) > _LOST:
                text = (
                    f"{row['image']}: the relevance at the input adds up to {row['relevance']:.3g} for a "
                    f"score of {row['score']:.3g}; biases have the rest, so the map tells where the evidence "
                    "lies, not how much of the score it makes up."
                )
                found.append(Finding("note", text, f"conservation {kept:.2f}", index))
        return found


def _box(job: Job[Any]) -> tuple[tuple[NDArray[Any], NDArray[Any]] | None, str]:
    """The least and the largest number that each place of the input can hold, and what that is told from.

    The card's, for photos; where it is silent, the least and the largest of each image, channel by channel.
    Numbers outside of the card's bounds move them. Tokens have bounds at their embedding only: None.
    """
    import numpy as np

    from convlens.errors import CardError

    source, array = job.model.source, job.images.array
    if source.kind == "tokens":
        return None, "each input's own smallest and largest number at the embedding"
    axes = tuple(axis for axis in range(1, array.ndim) if axis != source.channel)
    low, high = array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True)
    if source.kind == "vector":
        low, high = low.min(axis=1, keepdims=True), high.max(axis=1, keepdims=True)
    own = "each input's own smallest and largest number"
    if source.image:
        try:
            bounds = job.model.preprocess
        except CardError:
            return (low, high), f"{own} in each channel, as no card says how photos go in"
        ends = [
            (np.asarray(end) - np.asarray(bounds.mean)) / np.asarray(bounds.std)
            for end in (bounds.low, bounds.high)
        ]
        shape = [1] * array.ndim
        if source.channel >= 0:
            shape[source.channel] = -1
        first, last = (np.broadcast_to(end, max(len(end), 1)).reshape(shape) for end in ends)
        kind = array.dtype if array.dtype.kind == "f" else np.float32
        return (
            np.minimum(low, first).astype(kind),
            np.maximum(high, last).astype(kind),
        ), "as the card has it"
    return (low, high), own if axes == tuple(range(1, array.ndim)) else f"{own} in each channel"
