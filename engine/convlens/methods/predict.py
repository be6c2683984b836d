"""``predict``: the most probable classes of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result

if TYPE_CHECKING:
    from convlens.model import Model


class PredictParameters(Parameters):
    """What ``predict`` can be told."""

    top: int = Field(5, ge=1, le=1000, description="how many classes to list")


@register
class Predict(Method[PredictParameters]):
    """The ``top`` most probable classes, N x top: ``index``, ``probability`` (main) and ``score``."""

    name = "predict"
    summary = "the most probable classes of each image"
    paper = Paper("Krizhevsky, Sutskever & Hinton 2012", "figure 4", "https://doi.org/10.1145/3065386")
    kind = "ranking"
    Parameters = PredictParameters
    classes = True
    saves = False

    def run(self, job: Job[PredictParameters]) -> Result:
        """Run every image once and sort."""
        import numpy as np

        classes = job.model.classes
        assert classes is not None
        out = job.model.runner.run({job.model.source.name: job.images.array}, [classes.name], job.batch_size)[
            classes.name
        ]
        scores = out.reshape(len(out), -1)
        probabilities = classes.probabilities(out)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : job.parameters.top]
        best = np.take_along_axis(probabilities, order, axis=1)
        rows = tuple(
            {
                "image": name,
                "rank": rank + 1,
                "class": int(order[i, rank]),
                "label": classes.label(int(order[i, rank])),
                "probability": float(best[i, rank]),
                "score": float(scores[i, order[i, rank]]),
            }
            for i, name in enumerate(job.images.names)
            for rank in range(order.shape[1])
        )
        job.advance(1.0)
        return Result(
            method=self.name,
            kind=self.kind,
            main="probability",
            arrays={
                "probability": best,
                "index": order,
                "score": np.take_along_axis(scores, order, axis=1),
            },
            units={
                "probability": "probability",
                "index": "class index",
                "score": f"model's {classes.scores}",
            },
            images=job.images.names,
            views=job.images.views,
            rows=rows,
            hints={"value": "probability", "label": "label"},
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """One step, where there are classes."""
        if model.classes is None:
            return ()
        what = "photo" if model.source.image else "input"
        text = f"The most probable classes of each {what}, as the model itself ranks them."
        return (Step("What it says", 20, "predictions", {}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Sure, or torn between two classes."""
        found = []
        for index, name in enumerate(result.images):
            rows = [row for row in result.rows if row["image"] == name]
            first, rest = rows[0], rows[1:]
            share = first["probability"]
            if share is None or share != share:
                text = f"{name}: the model's scores are not numbers."
                found.append(Finding("attention", text, "the class output holds NaN or infinity", index))
                continue
            evidence = f"{first['label']} {share:.0%}" + "".join(
                f", {row['label']} {row['probability']:.0%}" for row in rest[:2]
            )
            if share >= 0.5:
                text = f"{name}: the model says {first['label']} and is fairly sure of it."
                found.append(Finding("note", text, evidence, index))
            else:
                text = f"{name}: the model leans to {first['label']}, but gives it less than half."
                found.append(Finding("attention", text, evidence, index))
        return found
