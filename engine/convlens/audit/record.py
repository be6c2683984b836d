"""What an audit found, as plain data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convlens import cache
from convlens.audit.verdicts import doubts
from convlens.graph import bind
from convlens.graph.layers import total_macs
from convlens.graph.unsound import unsound_weights
from convlens.inputs import NOUNS
from convlens.ops.quantcodes import straight_through
from convlens.registry import Finding
from convlens.targets import suggestions

if TYPE_CHECKING:
    from convlens.audit.entry import Entry
    from convlens.classes import Classes
    from convlens.model import Model
    from convlens.registry import Images

_COMMON = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "Dropout", "Flatten",
        "Gemm", "GlobalAveragePool", "Identity", "LRN", "MatMul", "MaxPool", "Mul", "ReduceMean", "Relu",
        "Reshape", "Sigmoid", "Softmax", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""What most classifiers are made of; anything else is worth a line in the report."""


def record_of(
    model: Model,
    words: str,
    entries: Sequence[Entry],
    skipped: Sequence[Mapping[str, str]],
    images: Images,
) -> dict[str, Any]:
    """Everything that the report says, and what ``audit.json`` holds."""
    layers = model.layers
    unusual = sorted({layer.op for layer in layers} - _COMMON)
    certificate = model.certificate()
    classes: Classes | None = model.classes
    return {
        "model": {
            "name": model.name,
            "file": model.path.name,
            "sha256": model.sha256,
            "producer": model.graph.producer,
            "opsets": dict(model.graph.opsets),
            "layers": len(layers),
            "parameters": sum(layer.parameters for layer in layers),
            "macs": total_macs(layers),
            "input": {
                "name": model.source.name,
                "shape": list(model.source.shape or ()),
                "layout": model.source.layout,
                "kind": model.source.kind,
                "noun": NOUNS[model.source.kind],
            },
            "outputs": {name: list(model.graph.value(name).shape or ()) for name in model.graph.outputs},
            "classes": classes.count if classes is not None else None,
            "licence": model.card.model.licence,
            "unusual": unusual,
            "changes": list(model.graph.changes),
            "gradients": straight_through(model.graph),
            "feeds": bind.record(model.graph.bound),
        },
        "certificate": {**certificate.summary(), "words": certificate.words()},
        "card": {"words": words, **model.card.model_dump(exclude={"output"})},
        "images": list(images.names),
        "skipped": list(skipped),
        "findings": _of_weights(model)
        + _left_out(model, entries)
        + [
            {**asdict(finding), "method": entry.method.name, "step": entry.key}
            for entry in entries
            for finding in (*entry.findings, *doubts(entry))
        ],
        "results": [
            {
                "step": entry.key,
                "title": entry.step.title,
                **entry.result.record(),
                **({} if entry.verdict is None else {"verdict": entry.verdict}),
            }
            for entry in entries
        ],
        "layers": [layer.record() for layer in layers],
        "versions": cache.versions(),
        "seed": entries[0].result.how["seed"] if entries else 0,
    }


def _of_weights(model: Model) -> list[dict[str, Any]]:
    """What is wrong with the weights themselves, as findings on the model's section of the page."""
    found = unsound_weights(model.graph)
    if not found:
        return []
    text = f"{len(found)} {'weight holds' if len(found) == 1 else 'weights hold'} NaN or infinity"
    evidence = "; ".join(each.words() for each in found[:3])
    return [{**asdict(Finding("attention", text, evidence)), "method": None, "step": "model"}]


def _left_out(model: Model, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What is missing for want of a target, and what one could be, as a finding on the model."""
    if model.classes is not None or any(entry.method.attributes for entry in entries):
        return []
    text = "The model has no class scores, so this report does not say where in the input they come from."
    target = shlex.quote(suggestions(model.layers, model.graph.outputs, 1)[0])
    evidence = f"as a command every map explains any other target, e.g. --target {target}"
    return [{**asdict(Finding("note", text, evidence)), "method": None, "step": "model"}]
