"""The audit step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import registry
from convlens.audit.entry import Entry, Outcome
from convlens.audit.folder import claim, finish, job_key, part
from convlens.audit.folder import unfinished as in_progress
from convlens.audit.record import record_of
from convlens.audit.verdicts import with_verdicts
from convlens.errors import UncertifiedError
from convlens.files import RAW
from convlens.inputs import none_readable
from convlens.registry import Images, Method, Step
from convlens.results import merge

if TYPE_CHECKING:
    from convlens.model import Model

_GROUP = 4  # photos in one part


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
    key = job_key(model, paths, steps, seed, allow_uncertified)
    goes_on = in_progress(output, key, overwrite)
    images, unread = model.readable(paths)
    if images is None:
        raise none_readable(unread)
    certificate = model.certificate()
    if not certificate.passed and not allow_uncertified:
        raise UncertifiedError(f"{certificate.words()} --allow-uncertified audits it all the same")
    if not goes_on:
        claim(output, key)
    judged = [(method, step) for method, step in steps if method.attributes]
    total = sum(1 if not method.images else len(images) for method, _ in steps) + len(judged)
    done = 0
    entries: list[Entry] = []
    for number, (method, step) in enumerate(steps):
        stem = f"{number:02d}-{method.name}"
        parts = []
        for place, group in _groups(images if method.images else None, method.together):
            weight = len(group) if group is not None else 1

            def advance(share: float, start: int = done, weight: int = weight) -> None:
                progress((start + share * weight) / total)

            parts.append(
                part(
                    output / "results",
                    f"{stem}-{place}",
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
    entries = with_verdicts(
        model,
        entries,
        images,
        output / "results",
        batch_size=batch_size,
        seed=seed,
        advance=lambda share: progress((done + share * len(judged)) / total),
    )
    skipped = [{"image": path.name, "reason": reason} for path, reason in unread]
    record = record_of(model, words, entries, skipped, images)
    finish(output, record, entries, images)
    return Outcome(output / "index.html", record)


def _steps(model: Model) -> list[tuple[Method[Any], Step]]:
    found = [(method, step) for method in registry.methods().values() for step in method.plan(model)]
    return sorted(found, key=lambda pair: (pair[1].order, pair[1].section))


def _groups(images: Images | None, together: bool) -> Iterator[tuple[int, Images | None]]:
    """A few photos at a time; all of them for what is about the set."""
    if images is None or together:
        yield 0, images
        return
    for place, start in enumerate(range(0, len(images), _GROUP)):
        yield place, images.rows(start, start + _GROUP)
