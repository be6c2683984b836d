"""What came of an attack, as a Result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.fooling.files import framed
from convlens.fooling.measured import Arrays, measures, numbers, pictures, rows_of
from convlens.fooling.transfer import told
from convlens.pictures.picture import stems
from convlens.results import Result
from convlens.shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.fooling.search import Outcome
    from convlens.fooling.settings import Settings
    from convlens.fooling.sight import Sight
    from convlens.fooling.transfer import Others
    from convlens.model import Model
    from convlens.registry import Job, Method

NOT_KEPT = (
    "the card resamples every picture on its way to this size, so that the files saved are not read back as "
    "they are"
)


def result_of(
    method: Method[Any],
    job: Job[Any],
    settings: Settings,
    sight: Sight,
    outcome: Outcome,
    survives: NDArray[np.bool_] | None,
    others: Sequence[Model],
    left: Sequence[int],
    said: list[str],
) -> Result:
    """The arrays, the table and the pictures.

    Args:
        method: the method that was run.
        job: what it was given.
        settings: how the attack was led.
        sight: the model and the aim.
        outcome: what was found.
        survives: which images hold out against which epsilon, N x epsilons.
        others: models that are shown the pictures' files, too.
        left: images that were not come to.
        said: what a person should know.
    """
    names, ground = job.images.names, sight.ground
    arrays = pictures(outcome, sight) if ground.whole else numbers(outcome)
    hints: dict[str, Any] = {"photo": ground.whole, **shown(job)}
    files = ("fooled", "clean")
    if ground.whole:
        file = framed(job.model.preprocess, arrays["fooled"][0])
        if file is None:
            said.append(NOT_KEPT)
        elif file[0].shape != arrays["fooled"][0].shape:
            clean = framed(job.model.preprocess, arrays["clean"][0])
            assert clean is not None
            files = ("fooled_file", "clean_file")
            arrays |= {"fooled_file": (file[0], "level"), "clean_file": (clean[0], "level")}
        hints["photos"] = _saved(names, files)
    arrays |= measures(sight, outcome)
    found: list[Others] = []
    if others:
        found = told(others, arrays[files[1]][0], arrays[files[0]][0], job.batch_size)
        shares = np.stack([(other.before != other.after).astype(np.int64) for other in found], axis=1)
        arrays["transfer"] = shares, "1 where another model sees something else, too"
    shared: tuple[str, ...] = ()
    if survives is not None:
        kept = np.concatenate([np.ones((len(names), 1), bool), survives], axis=1)
        arrays["survives"] = kept.astype(np.float64), "1 where the class is kept"
        arrays["epsilon"] = np.array([0.0, *sorted(set(job.parameters.epsilons))]), "largest change"
        shared = ("epsilon",)
        hints["parts"] = [{"kind": "panels"}, _curve(settings, ground.whole)]
    rows = rows_of(names, sight, outcome, found)
    for index in left:
        rows[index]["fooled"] = None
    hints |= {
        "panels": [
            _sheet(i, stem, row, arrays, sight)
            for i, (stem, row) in enumerate(zip(stems(names), rows, strict=True))
        ],
        "silent": outcome.silent.tolist(),
        "broken": outcome.broken.tolist(),
    }
    return Result(
        method=method.name,
        kind=method.kind,
        main="fooled",
        arrays={name: array for name, (array, _) in arrays.items()},
        units={name: unit for name, (_, unit) in arrays.items()},
        images=names,
        views=job.images.views,
        rows=tuple(rows),
        hints=hints,
        how={"warnings": said},
        shared=shared,
    )


def _sheet(i: int, stem: str, row: dict[str, Any], arrays: Arrays, sight: Sight) -> dict[str, Any]:
    """Before, the change, after, and what the model sees in them."""
    image, unit = row["image"], "of its own numbers"
    if sight.ground.whole:
        unit = "level" if row["linf"] == 1 else "levels"
    first, last = "before", "after"
    told = "before and after it was changed"
    if "before" in row:
        first = f"{row['before']}, {percent(row['probability before'])}"
        last = f"{row['after']}, {percent(row['probability after'])}"
        told = f"{row['before']} ({percent(row['probability before'])}) before and {row['after']} "
        told += f"({percent(row['probability after'])}) after it was changed"
    elif "score before" in row:
        first, last = f"score {row['score before']:.4g}", f"score {row['score after']:.4g}"
        told = f"{first} before and {last} after it was changed"
    factor = int(arrays["magnified"][0][i]) if "magnified" in arrays else 1
    size = f"by {row['linf']:.3g} {unit} at most"
    change = f"the change, {factor} times" if factor > 1 else f"the change, {row['linf']:.3g} at most"
    return {
        "name": stem,
        "caption": f"{image}: {told}, {size}",
        "alt": f"{image}, the change and what came of it: {told}, {size}; {change} is shown between them.",
        "index": i,
        "columns": 3 if sight.ground.whole else 1,
        "side": 224,
        "tiles": [
            {"array": "clean", "index": i, "label": first},
            {"array": "difference", "index": i, "label": change},
            {"array": "fooled", "index": i, "label": last},
        ],
    }


def _curve(settings: Settings, whole: bool) -> dict[str, Any]:
    """How many images hold out."""
    norm = "largest change of a number" if settings.measure == "linf" else "Euclidean length of the change"
    panel = {
        "x": "epsilon",
        "x_label": f"{norm}{', in pixel levels' if whole else ''}",
        "y_label": "share of images that keep their class",
        "y_range": (0.0, 1.02),
        "lines": [{"array": "survives", "label": settings.attack}],
        "mean_only": True,
    }
    title = f"how many images hold out against {settings.attack}"
    return {
        "kind": "curves",
        "main": "survives",
        "hints": {"curves": [panel], "over": "images", "title": title},
    }


def _saved(names: Sequence[str], arrays: tuple[str, str]) -> list[dict[str, Any]]:
    """The files of each picture: fooled and clean, under names that are not taken twice."""
    return [
        {"name": f"{stem}-{what}", "array": array, "index": i}
        for i, stem in enumerate(stems(names))
        for what, array in zip(("fooled", "clean"), arrays, strict=True)
    ]


def percent(share: float) -> str:
    """A probability for people; what is nearly sure is not called 100%."""
    return "over 99.9%" if share > 0.999 else f"{share:.1%}" if share > 0.99 else f"{share:.0%}"
