"""The main job: every method that has something to say about a model, on some photos, in one report.

Which methods run, in which order and with which settings is theirs to say (``Method.plan``); nothing
here knows one by name. Work is done in parts, a step of a method on a few photos each. A finished part
is on disk before the next one starts, so an audit that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import cache, registry
from convlens.classes import Classes
from convlens.errors import ConvLensError, OutputError, UncertifiedError
from convlens.files import RAW
from convlens.graph import bind
from convlens.graph.layers import total_macs
from convlens.graph.unsound import unsound_weights
from convlens.inputs import NOUNS, none_readable
from convlens.ops.quantcodes import straight_through
from convlens.registry import Finding, Images, Method, Step
from convlens.results import Result, merge, plain, write
from convlens.targets import suggestions

if TYPE_CHECKING:
    from convlens.model import Model

_GROUP = 4  # photos in one part
_STATE = "unfinished.json"
_COMMON = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "Dropout", "Flatten",
        "Gemm", "GlobalAveragePool", "Identity", "LRN", "MatMul", "MaxPool", "Mul", "ReduceMean", "Relu",
        "Reshape", "Sigmoid", "Softmax", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""What most classifiers are made of; anything else is worth a line in the report."""


@dataclass(frozen=True)
class Entry:
    """One step of the audit, done."""

    key: str
    method: Method[Any]
    step: Step
    result: Result
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Outcome:
    """What an audit leaves: the report, and what is in it as plain data."""

    report: Path
    record: Mapping[str, Any]

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """Every finding with its evidence."""
        found: Sequence[Mapping[str, Any]] = self.record["findings"]
        return found

    @property
    def skipped(self) -> Sequence[Mapping[str, Any]]:
        """Images that could not be decoded, with the reason."""
        found: Sequence[Mapping[str, Any]] = self.record["skipped"]
        return found


def audit(
    model: Model,
    paths: Sequence[Path],
    output: Path,
    *,
    batch_size: int = 8,
    seed: int = 0,
    allow_uncertified: bool = False,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda _share: None,
) -> Outcome:
    """Audit ``model`` on the photos at ``paths`` and write the report into ``output``.

    Args:
        model: what is audited; its card has to say how photos go in.
        paths: photos; those that cannot be decoded are named in the report.
        output: folder; new, empty, or with the unfinished audit of the very same job.
        batch_size: images in one forward.
        seed: for everything random.
        allow_uncertified: go on although the certificate fails; the report says so.
        overwrite: start afresh in a folder that holds something.
        progress: called with the share that is done.

    Raises:
        CardError: the card does not say how photos go in.
        OutputError: the folder holds something else.
        ImageError: none of the inputs can be read, or the model takes none of their kind.
        UncertifiedError: the certificate failed.
    """
    words = model.input_words(any(path.suffix.lower() not in RAW for path in paths))
    steps = _steps(model)
    key = _key(model, paths, steps, seed, allow_uncertified)
    unfinished = _unfinished(output, key, overwrite)
    images, unread = model.readable(paths)
    if images is None:
        raise none_readable(unread)
    certificate = model.certificate()
    if not certificate.passed and not allow_uncertified:
        raise UncertifiedError(f"{certificate.words()} --allow-uncertified audits it all the same")
    if not unfinished:
        _claim(output, key)
    total = sum(1 if not method.images else len(images) for method, _ in steps)
    done = 0
    entries = []
    for number, (method, step) in enumerate(steps):
        stem = f"{number:02d}-{method.name}"
        parts = []
        for part, group in _groups(images if method.images else None):
            weight = len(group) if group is not None else 1

            def advance(share: float, start: int = done, weight: int = weight) -> None:
                progress((start + share * weight) / total)

            parts.append(
                _part(
                    output / "results",
                    f"{stem}-{part}",
                    lambda method=method, step=step, group=group, advance=advance: model.run(  # type: ignore[misc]
                        method.name,
                        group,
                        batch_size=batch_size,
                        seed=seed,
                        allow_uncertified=allow_uncertified,
                        progress=advance,
                        **step.parameters,
                    ),
                )
            )
            done += weight
            progress(done / total)
        result = merge(parts)
        entries.append(Entry(stem, method, step, result, tuple(method.findings(result))))
    skipped = [{"image": path.name, "reason": reason} for path, reason in unread]
    record = _record(model, words, entries, skipped, images)
    _finish(output, record, entries, images)
    return Outcome(output / "index.html", record)


def _steps(model: Model) -> list[tuple[Method[Any], Step]]:
    found = [(method, step) for method in registry.methods().values() for step in method.plan(model)]
    return sorted(found, key=lambda pair: (pair[1].order, pair[1].section))


def _groups(images: Images | None) -> Iterator[tuple[int, Images | None]]:
    if images is None:
        yield 0, None
        return
    for part, start in enumerate(range(0, len(images), _GROUP)):
        views = images.views[start : start + _GROUP] if images.views is not None else None
        stop = start + _GROUP
        yield part, Images(images.array[start:stop], images.names[start:stop], views)


def _part(folder: Path, stem: str, make: Callable[[], Result]) -> Result:
    """A finished part from disk, else made and put there."""
    try:
        return Result.load(folder, stem)
    except ConvLensError:
        result = make()
        result.save(folder, stem, pictures=False)
        return Result.load(folder, stem)


def _key(
    model: Model,
    paths: Sequence[Path],
    steps: Sequence[tuple[Method[Any], Step]],
    seed: int,
    allow_uncertified: bool,
) -> str:
    """What makes two audits the same job: model, card, photos, steps, code and versions."""
    photos = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    planned = [(method.name, asdict(step)) for method, step in steps]
    card = [model.card.model_dump(), bind.record(model.graph.bound)]
    return cache.key_of(
        model.sha256, card, photos, planned, seed, allow_uncertified, cache.versions(), cache.sources()
    )


def _unfinished(output: Path, key: str, overwrite: bool) -> bool:
    """Whether the folder holds this very job half done and it is to go on. Changes nothing.

    Raises:
        OutputError: it holds something else.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; expected a folder for the report")
    held = {path.name for path in output.iterdir()} if output.is_dir() else set()
    state = output / _STATE
    if held and not overwrite:
        try:
            same = json.loads(state.read_text(encoding="utf-8"))["key"] == key
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if same:
            return True
        what = "holds the unfinished audit of another job" if _STATE in held else "is not empty"
        raise OutputError(f"{output}: {what} and was left as it is; choose another folder, or --overwrite")
    return False


def _claim(output: Path, key: str) -> None:
    """Make the folder this job's own: what another audit left there goes, everything else stays."""
    output.mkdir(parents=True, exist_ok=True)
    (output / _STATE).unlink(missing_ok=True)
    parts = [path for name in ("results", "pictures") for path in (output / name).glob("[0-9][0-9]-*")]
    for path in (*parts, output / "index.html", output / "audit.json"):
        if path.is_file():
            path.unlink()
    write(output / _STATE, lambda file: file.write(json.dumps({"key": key}).encode()))


def _record(
    model: Model,
    words: str,
    entries: Sequence[Entry],
    skipped: Sequence[Mapping[str, str]],
    images: Images,
) -> dict[str, Any]:
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
            for finding in entry.findings
        ],
        "results": [
            {"step": entry.key, "title": entry.step.title, **entry.result.record()} for entry in entries
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
    """Which methods are missing for want of a target, and what one could be, as a finding on the model."""
    done = {entry.method.name for entry in entries}
    missing = [m.name for m in registry.methods().values() if m.target and m.name not in done]
    if model.classes is not None or not missing:
        return []
    text = f"The model has no class scores, so {' and '.join(missing)} are not in this report."
    target = shlex.quote(suggestions(model.layers, model.graph.outputs, 1)[0])
    evidence = f"as a command they explain any other target, e.g. --target {target}"
    return [{**asdict(Finding("note", text, evidence)), "method": None, "step": "model"}]


def _finish(output: Path, record: Mapping[str, Any], entries: Sequence[Entry], images: Images) -> None:
    """Pictures, page and JSON; the mark of an unfinished audit goes last."""
    from convlens.report.page import page

    folder = output / "pictures"
    folder.mkdir(exist_ok=True)
    for entry in entries:
        entry.result.save_pictures(folder, entry.key)
    html = page(record, entries, images)
    write(output / "index.html", lambda file: file.write(html.encode()))
    text = json.dumps(plain(record), indent=1, ensure_ascii=False)
    write(output / "audit.json", lambda file: file.write(text.encode()))
    (output / _STATE).unlink(missing_ok=True)
