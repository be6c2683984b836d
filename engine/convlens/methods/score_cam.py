"""``score-cam``: a layer's channels weighed by what the target makes of the input dimmed to each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.attribution.layerwise.layered import LayeredParameters, layer_for, told
from convlens.errors import UnsupportedError
from convlens.registry import Field, Finding, Job, Method, Paper, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer


_CLASS = ("class", "predicted")


class ScoreCamParameters(LayeredParameters):
    """What ``score-cam`` can be told."""

    top: int | None = Field(
        None, ge=1, description="how many channels, those of the widest range; all by default"
    )
    weights: Literal["increase", "softmax"] = Field(
        "increase",
        description="what a channel weighs: how far it raises the target over an empty input (a class by its "
        "probability), or the softmax of that over the channels (a class by its score)",
    )


@register
class ScoreCam(Method[ScoreCamParameters]):
    """Like ``grad-cam`` without gradients: each channel of the layer, laid over the input, dims the input.

    A channel, laid over the input and brought to the range from 0 to 1, multiplies the input (in the
    model's own numbers, so that zero is what hides). ``weights`` (N x channels) is what the target then
    is, less what it is of an empty input: by default a class's probability, as definitions 3 and 4 and
    section 3.4 have it; with ``softmax`` the softmax over the channels of the score, as algorithm 1 has
    it. ``signed`` is the sum of weight times channel, N x the layer's spatial axes, ``coarse`` what of it
    is above zero (all of it with ``signed``), ``map`` (main) is ``coarse`` laid over the input, N x the
    input's spatial axes. ``baseline`` is the target of the empty input. Channels without any range weigh
    nothing.
    """

    name = "score-cam"
    summary = "which cells of a late layer speak for the target, without gradients"
    paper = Paper("Wang et al. 2020", "section 3, definitions 3 and 4", "https://arxiv.org/abs/1910.01279")
    kind = "map"
    Parameters = ScoreCamParameters
    target = True
    attributes = True
    preview: ClassVar[dict[str, Any]] = {"top": 32}

    def run(self, job: Job[ScoreCamParameters]) -> Result:
        """One forward a channel, in batches of dimmed inputs made while the model runs."""
        import numpy as np

        from convlens.attribution.layerwise import cams
        from convlens.attribution.reading import reading, scores, whole

        assert job.target is not None
        model, array = job.model, job.images.array
        if model.source.kind == "tokens":
            raise UnsupportedError(
                "score-cam dims its input, and the numbers of tokens cannot be dimmed; grad-cam and "
                "layer-cam explain this model at the same layer"
            )
        layer = layer_for(model, job.target, job.parameters.layer)
        softmax = job.parameters.weights == "softmax"
        maps, weights, bases = [], [], []
        unit = reading(model, job.target, raw=softmax).unit
        for index in range(len(array)):
            own = reading(model, job.target.of(index), raw=softmax)
            image = array[index : index + 1]
            one = model.runner.run({model.source.name: image}, [layer.name])[layer.name]
            values = cams.by_channel(one, layer)[0]
            chosen = _chosen(values, job.parameters.top)
            empty = float(own.read(whole(model, np.zeros_like(image), own.names, own.alone))[0])
            found: list[NDArray[Any]] = []
            for part in scores(model, own, _dimmed(job, layer, image, values, chosen), job.batch_size):
                found.append(part - empty)
                job.advance(min(1.0, (index + sum(map(len, found)) / len(chosen)) / len(array)))
            weight = np.zeros(len(values))
            if len(chosen):
                weight[chosen] = _softmax(np.concatenate(found)) if softmax else np.concatenate(found)
            weights.append(weight)
            maps.append(cams.weighed(values[None].astype(np.float64), weight[None])[0])
            bases.append(empty)
        job.advance(1.0)
        return cams.cam_map(
            job,
            self.name,
            layer,
            np.stack(maps),
            {"weights": np.stack(weights), "baseline": np.array(bases)},
            {"weights": "share" if softmax else f"{unit} gained", "baseline": unit},
            title="Score-CAM",
            unit="activation" if softmax else f"{unit} x activation",
            rows=[{"channels": int((weight != 0).sum())} for weight in weights],
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Maps that are empty, and layers that are early."""
        return told(result)


def _chosen(values: NDArray[Any], count: int | None) -> NDArray[Any]:
    """The channels that have any range, of ``count`` of them those of the widest, in their order."""
    import numpy as np

    flat = values.reshape(len(values), -1)
    width = flat.max(axis=1) - flat.min(axis=1)
    order = np.argsort(-width, kind="stable")[: count or len(width)]
    return np.sort(order[width[order] > 0])


def _dimmed(
    job: Job[ScoreCamParameters],
    layer: Layer,
    image: NDArray[Any],
    values: NDArray[Any],
    chosen: NDArray[Any],
) -> Callable[[int], Iterator[dict[str, NDArray[Any]]]]:
    """Feeds for the runner: the image times each chosen channel laid over it, from 0 to 1."""
    import numpy as np

    from convlens.attribution.layerwise import cams
    from convlens.runtime.patches import as_input

    source = job.model.source

    def batches(size: int) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(chosen), size):
            full = cams.over_input(job, layer, values[chosen[start : start + size]].astype(np.float64))
            space = tuple(range(1, full.ndim))
            low, high = full.min(axis=space, keepdims=True), full.max(axis=space, keepdims=True)
            share = np.divide(full - low, high - low, out=np.zeros_like(full), where=high > low)
            copies = np.broadcast_to(image, (len(share), *image.shape[1:]))
            yield {source.name: as_input(image * cams.beside(share, copies, copies, source), image.dtype)}

    return batches


def _softmax(scores: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    found = np.exp(scores - scores.max())
    return np.asarray(found / found.sum())
