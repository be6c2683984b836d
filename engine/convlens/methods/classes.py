"""``classes``: which channels tell which class apart, over a recorded data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convlens.errors import UsageError
from convlens.registry import Close, Field, Finding, Job, Method, Paper, Parameters, Step, Told, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.plan import Followed
    from convlens.recording.reading import Recording

_FINDINGS = 3


class ClassesParameters(Parameters):
    """What ``classes`` can be told."""

    layers: tuple[str, ...] = Field((), description="recorded layers; all of them by default")
    top: int = Field(3, ge=1, le=50, description="channels that are listed for each class")
    level: float = Field(
        0.05, gt=0, le=0.5, description="chance that any channel of a layer is called selective by accident"
    )
    shown: int = Field(24, ge=2, le=60, description="classes in the picture, those told apart best")


@register
class Classes(Method[ClassesParameters]):
    """How well each channel tells each class from all others, by the largest value that it has on an image.

    Channels stand layer after layer: ``layer`` is the place of each one's layer in the recording, ``channel``
    its number there. ``separation`` (main, classes x channels) is d': how far the mean of the class lies
    above that of all other images, in standard deviations within the two. ``noise`` (classes x channels) is
    what chance alone would reach, by any channel and class of the layer with a chance of ``level`` at most,
    whatever the values are distributed like: what lies below it says nothing. ``tells`` is 1 where
    ``separation`` lies above ``noise``. ``index`` (channels) is the class selectivity of Morcos et al.: from
    0, all classes alike, to 1, one class alone; -1 where it has no meaning: a mean below zero, or none above.
    ``best`` is the class of the highest mean. ``mean`` (classes x channels) is an image's largest value on
    the average, ``images`` how many images each class has.

    Classes are the labels of the data set; where it has none, those that the model predicts.
    """

    name = "classes"
    summary = "which channels tell which class apart, over a data set"
    paper = Paper(
        "Morcos et al. 2018; Bardenet & Maillard 2015",
        "class selectivity; Bernstein's inequality",
        "https://arxiv.org/abs/1803.06959",
    )
    kind = "matrix"
    Parameters = ClassesParameters
    images = False
    recording = "must"
    asks = "layers"

    def run(self, job: Job[ClassesParameters]) -> Result:
        """From the means and variances of the classes alone; the model is not run."""
        import numpy as np

        from convlens.recording.channels.selectivity import selectivity_of

        recording, given = job.recorded, job.parameters
        numbers: list[int] = [recording.layer(name) for name in given.layers]
        numbers = list(dict.fromkeys(numbers or range(len(recording.layers))))
        layers = [recording.layers[number] for number in numbers]
        labels, counts, predicted = _classes(job)
        columns: dict[str, list[NDArray[Any]]] = {}
        for place, number in enumerate(numbers):
            told = recording.by_class(number)
            found = selectivity_of(told, recording.tallies[number].most, given.level)
            finite = np.isfinite(found.noise)
            part = {
                "separation": found.separation,
                "noise": np.where(finite, found.noise, 0.0),
                "tells": (finite & (found.separation > found.noise)).astype(np.int8),
                "index": np.where(np.isfinite(found.index), found.index, -1.0),
                "best": found.best,
                "mean": np.where(np.isfinite(told.mean), told.mean, 0.0),
                "layer": np.full(layers[place].channels, number),
                "channel": np.arange(layers[place].channels),
            }
            for name, array in part.items():
                columns.setdefault(name, []).append(array)
            job.advance((place + 1) / len(numbers))
        arrays = {name: np.concatenate(parts, axis=-1) for name, parts in columns.items()}
        arrays["images"] = np.asarray(counts)
        names = _names(layers)
        order = _order(arrays)
        return Result(
            method=self.name,
            kind=self.kind,
            main="separation",
            arrays=arrays,
            units={
                "separation": "standard deviations",
                "noise": "standard deviations",
                "tells": "whether it lies above the noise",
                "index": "0 all classes alike to 1 one class alone",
                "best": "index of the class",
                "mean": "activation",
                "images": "images",
                "layer": "index",
                "channel": "index",
            },
            rows=tuple(
                {
                    "class": label,
                    "images": counts[row],
                    "channel": names[k],
                    "separation": float(arrays["separation"][row, k]),
                    "noise": float(arrays["noise"][row, k]) or None,
                    "tells": bool(arrays["tells"][row, k]),
                    "index": float(arrays["index"][k]) if arrays["index"][k] >= 0 else None,
                }
                for row, label in enumerate(labels)
                for k in order[row, : given.top].tolist()
            ),
            hints={
                "predicted": predicted,
                "labels": labels,
                "layers": _by_layer(layers, arrays),
                **_matrix(labels, names, order, arrays, given.shown),
            },
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """How many channels tell classes apart, which best, and how that goes from layer to layer."""
        told: NDArray[Any] = (result.arrays["tells"] > 0).max(axis=0)
        layers = result.hints["layers"]
        count, classes = len(told), len(result.hints["labels"])
        counts, labels = result.arrays["images"], result.hints["labels"]
        fewest, most = int(counts.min()), int(counts.max())
        each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        whose = "classes that the model predicts" if result.hints["predicted"] else "classes of the data set"
        rests = f"{classes} {whose}, {each} image{'' if most == 1 else 's'} each"
        level = result.how["parameters"]["level"]
        found = []
        if not told.any():
            text = "No channel tells a class apart for sure."
            more = "; more images may show some" if most < _MANY else ""
            return [Finding("note", text, f"none of {count:,} lies above what chance reaches; {rests}{more}")]
        text = f"{int(told.sum()):,} of {count:,} channels tell a class apart."
        found.append(Finding("note", text, f"{rests}; by chance in one layer of {1 / level:.3g}"))
        known: dict[str, Mapping[str, Any]] = {}
        for row in sorted(result.rows, key=lambda row: -row["separation"]):
            if row["tells"]:
                known.setdefault(row["class"], row)
        best = list(known.values())
        for row in best[:_FINDINGS]:
            text = f"{row['channel']} tells {row['class']} apart best of all classes."
            if len(best) > 1:
                text = f"{row['channel']} tells {row['class']} apart."
            index = "" if row["index"] is None else f", selectivity {row['index']:.2f}"
            evidence = f"d' {row['separation']:.2f}, by chance up to {row['noise']:.2f}{index}"
            evidence += f"; {row['images']:,} images"
            found.append(Finding("note", text, evidence))
        measured = [row for row in layers if row["index"] is not None]
        if len(measured) > 1:
            first, last = measured[0], measured[-1]
            way = "rises" if last["index"] > first["index"] else "falls"
            text = f"Class selectivity {way} from {first['layer']} to {last['layer']}."
            listed = measured[:: -(-len(measured) // _LISTED)]
            listed += [last] * (listed[-1] is not last)
            means = ", ".join(f"{row['layer']} {row['index']:.2f}" for row in listed)
            found.append(Finding("note", text, f"mean index of the channels that fire: {means}"))
        untold = [label for label, own in zip(labels, result.arrays["tells"], strict=True) if not own.any()]
        if untold:
            text = f"{len(untold)} of {classes} classes are told apart by no channel of their own."
            names = ", ".join(untold[:_LISTED]) + (" ..." if len(untold) > _LISTED else "")
            found.append(Finding("note", text, names))
        return found

    def look(self, model: Model, recording: Recording, close: Close) -> Sequence[Step]:
        """The classes that channels of the layer tell apart, where there are images enough of several."""
        del model
        told = recording.by_class(recording.layer(close.layer))
        if (told.images >= _ENOUGH).sum() < _SEVERAL:
            return ()
        text = (
            "A channel tells a class apart where its d' (how far its largest values on images of the class "
            "lie above those on all others, in standard deviations) is more than chance reaches."
        )
        return (Step("", 20, "classes", {"layers": (close.layer,), "top": 1}, text),)

    def tell(self, result: Result) -> Mapping[int, Told]:
        """The classes that each channel tells apart, those that it tells best first."""
        labels, predicted = result.hints["labels"], result.hints["predicted"]
        found = {}
        for column, channel in enumerate(result.arrays["channel"].tolist()):
            separation, index = result.arrays["separation"][:, column], float(result.arrays["index"][column])
            rows = result.arrays["tells"][:, column].nonzero()[0].tolist()
            rows.sort(key=lambda row: -separation[row])
            listed = [f"{labels[row]} (d' {separation[row]:.1f})" for row in rows[:_FINDINGS]]
            more = f" and {len(rows) - _FINDINGS} more" if len(rows) > _FINDINGS else ""
            facts = {"tells apart": (", ".join(listed) + more) or "no class for sure"}
            if predicted:
                facts = {"tells apart what is predicted as": facts["tells apart"]}
            if index >= 0:
                facts["class selectivity"] = f"{index:.2f}"
            found[channel] = Told(facts)
        return found


_LISTED = 8
_SEVERAL = 2  # classes
_ENOUGH = 5  # images of a class, without which no difference can be told from chance
_MANY = 1000  # images of a class from which on more would not change much


def _classes(job: Job[ClassesParameters]) -> tuple[list[str], list[int], bool]:
    """Their names, how many images each has, and whether the model predicts them.

    Raises:
        UsageError: there are fewer than two.
    """
    recording, model = job.recorded, job.model
    told = recording.by_class(0)
    if len(told.labels) < 2:
        why = "the data set has no labels and the model no class scores"
        if len(told.labels) == 1:
            why = f"all images are {'predicted to be ' if told.predicted else ''}of class {told.labels[0]!r}"
        raise UsageError(f"{recording.folder}: {why}; expected images of two classes or more")
    labels = list(told.labels)
    if told.predicted and model.classes is not None:
        labels = [model.classes.label(int(label)) if label.isdecimal() else label for label in labels]
    return labels, told.images.tolist(), told.predicted


def _names(layers: Sequence[Followed]) -> list[str]:
    return [f"{layer.alias}:{channel}" for layer in layers for channel in range(layer.channels)]


def _order(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Channels of each class, those beyond chance first, then the largest d'."""
    import numpy as np

    return np.lexsort((-arrays["separation"], -arrays["tells"]), axis=1)


def _by_layer(layers: Sequence[Followed], arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Mean selectivity of each layer's channels that fire, and how many of them tell a class apart."""
    rows, start = [], 0
    for layer in layers:
        part = slice(start, start + layer.channels)
        start += layer.channels
        index = arrays["index"][part]
        known = index[index >= 0]
        rows.append(
            {
                "layer": layer.alias,
                "channels": layer.channels,
                "tell": int(arrays["tells"][:, part].any(axis=0).sum()),
                "index": float(known.mean()) if len(known) else None,
            }
        )
    return rows


def _matrix(
    labels: Sequence[str],
    names: Sequence[str],
    order: NDArray[Any],
    arrays: Mapping[str, NDArray[Any]],
    shown: int,
) -> dict[str, Any]:
    """Each class beside the channel that tells it apart best."""
    import numpy as np

    best = order[:, 0]
    separation = arrays["separation"][np.arange(len(labels)), best]
    rows = np.sort(np.lexsort((-separation, -arrays["tells"][np.arange(len(labels)), best]))[:shown])
    columns = list(dict.fromkeys(best[rows].tolist()))
    left = len(labels) - len(rows)
    title = "classes, and the channel that tells each apart best"
    return {
        "title": title + (f" ({left} more classes are not shown)" if left else ""),
        "matrix": {
            "array": "separation",
            "label": "d': standard deviations above all other images",
            "rows": [{"label": labels[row], "index": int(row)} for row in rows],
            "columns": [{"label": names[column], "index": int(column)} for column in columns],
            "marks": "tells",
            "marks_label": "above what chance reaches",
        },
    }
