"""A picture from nothing, as a Result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.fooling.drawn import NOT_KEPT, percent
from convlens.fooling.files import framed
from convlens.fooling.measured import Arrays
from convlens.pictures.picture import slug
from convlens.results import Result
from convlens.shown import shown

if TYPE_CHECKING:
    from convlens.fooling.unbounded import Made
    from convlens.registry import Job, Method


def alone(method: Method[Any], job: Job[Any], made: Made, reached: bool | None) -> Result:
    """One picture from nothing.

    Args:
        method: the method that was run.
        job: what it was given.
        made: what was found.
        reached: whether the model is as sure as was asked; None for what is no class.
    """
    target, whole = job.target, made.ground.whole
    assert target is not None
    x, said = made.start + made.found.delta, []
    unit = "level" if whole else "as the model takes it"
    arrays: Arrays = {"picture": (made.ground.views(x) if whole else x.numpy(), unit)}
    hints: dict[str, Any] = {"photo": whole, "broken": int(made.found.broken[0]), **shown(job)}
    if whole:
        kept, file = framed(job.model.preprocess, arrays["picture"][0]), "picture"
        if kept is None:
            said.append(NOT_KEPT)
        elif kept[0].shape != arrays["picture"][0].shape:
            file = "picture_file"
            arrays[file] = kept[0], unit
        hints["photos"] = [{"name": slug(target.text), "array": file, "index": 0}]
    arrays["score"] = np.array([made.gain]), "what is driven up"
    row: dict[str, Any] = {"target": target.text}
    label = target.text
    if job.model.classes is not None and made.after is not None:
        index = int(made.after[0].argmax())
        row |= {"seen": job.model.classes.label(index), "probability": float(made.after[0, index])}
        label = f"{row['seen']}, {percent(row['probability'])}"
    if reached is not None:
        row["reached"] = reached
    row |= {"start": made.gain[0], "end": made.gain[1], "steps": int(made.found.steps[0])}
    hints["panels"] = [
        {
            "name": target.text,
            "caption": f"from nothing towards {target.text}: {label}",
            "alt": f"A picture that was changed until the model saw as much as it could of {target.text} in "
            f"it; it sees {label}.",
            "tiles": [{"array": "picture", "index": 0, "label": label}],
        }
    ]
    return Result(
        method=method.name,
        kind=method.kind,
        main="picture",
        arrays={name: array for name, (array, _) in arrays.items()},
        units={name: unit for name, (_, unit) in arrays.items()},
        rows=(row,),
        hints=hints,
        how={"warnings": said},
    )
